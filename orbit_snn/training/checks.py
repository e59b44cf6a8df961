"""Looks at data and graph together before time is spent on training."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from orbit_snn.data import DataError, Examples, evaluation_dataset
from orbit_snn.data_checks import check_examples
from orbit_snn.graph import GraphModule, TrainingModules
from orbit_snn.graph.algebra import Prediction, Target
from orbit_snn.graph.loss_module import feature_of
from orbit_snn.graph.pairs import PairFinder, check_images
from orbit_snn.graph.reductions import Reduction
from orbit_snn.learning.chunk_data import masks_of
from orbit_snn.training.actions import Action
from orbit_snn.training.options import TrainingOptions
from orbit_snn.training.task import Shapes, Task, examples_of, trace

_BATCH = 64


def check(task: Task, limit: int = 32) -> Shapes:
    """Looks at some examples of every split before time is spent on training.

    Args:
      task: what is to be trained.
      limit: how many examples of each split.

    Raises:
      DataError: for a missing feature, sequences without steps, NaN, silent inputs, labels without
        an output of their own.
      GraphError: where shapes do not fit.
    """
    modules, sets = task.training_modules, _sets(task)
    first, *_ = sets
    trained = _shapes(modules, first.spec)
    for examples in sets:
        shapes = trained if examples.spec == first.spec else _shapes(modules, examples.spec)
        _check_values(modules, examples, _labels(modules, shapes), limit)
        _check_pairs(modules, examples, limit)
    return trained


def shapes_of(task: Task) -> Shapes:
    """What is known of a pass over training examples before any is looked at.

    Raises:
      DataError, GraphError: where the features do not fit each other or the model.
    """
    return _shapes(task.training_modules, _sets(task)[0].spec)


def _sets(task: Task) -> list[Examples]:
    """Examples of every split, those to train on first."""
    splits = task.database.splits
    if "train" not in splits:
        raise DataError(f"the database has the splits {', '.join(splits)}; add `train`.")
    return [examples_of(task, split) for split in sorted(splits, key="train".__ne__)]


def _shapes(modules: TrainingModules, spec: dict[str, tf.TensorSpec]) -> Shapes:
    _check_steps(modules, spec)
    _check_masks(modules, spec)
    return trace(modules, spec)


def _check_values(
    modules: TrainingModules,
    examples: Examples,
    labels: dict[str, int],
    limit: int,
) -> None:
    model = modules.model
    masks = [feature_of(node.mask) for node in model.networks if node.mask is not None]
    marks = [feature_of(mark) for node in model.networks for mark in node.parents[1:]]
    sequences = [name for name in model.temporal if name not in (*masks, *marks)]
    features = [feature_of(node) for node in model.inputs]
    inputs = sequences or [name for name in features if examples.spec[name].shape.rank]
    others = set(examples.spec) - {*inputs, *labels, *masks}
    check_examples(
        examples,
        inputs=inputs,
        labels=labels,
        mask=next(iter(masks), None),
        targets=sorted(others),
        limit=limit,
    )


def _check_pairs(modules: TrainingModules, examples: Examples, limit: int) -> None:
    """A compiled step cannot say that a torus needs more images than are searched."""
    for node in modules.model.nodes:
        if isinstance(node.module, PairFinder):
            model = GraphModule(modules.model.inputs, node.parents)
            size = limit if examples.size is None else examples.size
            for batch in evaluation_dataset(examples, min(_BATCH, size), 0, size):
                check_images(node.module, *(np.asarray(x) for x in model(batch).values()))


def _check_steps(modules: TrainingModules, spec: dict[str, tf.TensorSpec]) -> None:
    """Every feature with a time axis has the same number of steps."""
    features = modules.temporal
    temporal = [name for name in spec if name in features and spec[name].shape.rank]
    if not temporal:
        return
    first = temporal[0]
    steps = spec[first].shape[:1].as_list()
    for name in temporal:
        if spec[name].shape[:1].as_list() != steps:
            shapes = ", ".join(f"`{n}` {s.shape.as_list()}" for n, s in spec.items())
            raise DataError(
                f"an example has {shapes}; `{name}` needs one value for each of the "
                f"{steps[0] if steps else 'T'} steps of `{first}`."
            )


def _check_masks(modules: TrainingModules, spec: dict[str, tf.TensorSpec]) -> None:
    for name in masks_of(modules):
        if name in spec and not spec[name].dtype.is_bool:
            raise DataError(
                f"`{name}` marks steps and is {spec[name].dtype.name}; expected true and false, "
                f"such as {name} > 0."
            )


def _labels(modules: TrainingModules, shapes: Shapes) -> dict[str, int]:
    """Features that hold class labels, with the number of classes."""
    found = {}
    for loss in (modules.loss, modules.evaluator.loss):
        for node in loss.reductions.values():
            scores, *labels = node.parents
            if not (isinstance(node, Reduction) and node.classes):
                continue
            if isinstance(scores, Prediction) and isinstance(labels[0], Target):
                classes = shapes.predictions[scores.origin.name][-1]
                found[feature_of(labels[0].origin)] = int(classes)
    return found


def check_watching(task: Task, options: TrainingOptions, actions: Sequence[Action]) -> None:
    """Checks that there are validations for what looks at them, and the metric that it wants.

    Raises:
      ValueError: naming what is missing.
    """
    _check_best_metric(task.training_modules, options.best_metric)
    asking = [f"{actions[0].name} looks at validations"] if actions else []
    if options.best_metric:
        asking.append(f"best_metric is {options.best_metric!r}, of validations")
    if asking and "validation" not in task.database.splits:
        raise ValueError(f"{asking[0]}, and the database has no split `validation`; give it one.")


def _check_best_metric(modules: TrainingModules, metric: str) -> None:
    """Raises ValueError for a metric that no evaluation will give."""
    evaluator = modules.evaluator
    rates = [
        f"{k}/{name}" for name in evaluator.spiking for k in ("rate_hz", "silent", "saturated")
    ]
    known = (*evaluator.names, *rates)
    if metric and metric not in known:
        raise ValueError(f"best_metric is {metric!r}; expected one of {', '.join(known)}.")
