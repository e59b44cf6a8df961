"""What is trained on what: an assembled model, and a database that gives it examples."""

from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.data import Examples
from orbit_snn.database import Database
from orbit_snn.graph import TrainingModules
from orbit_snn.graph.assembly import DatabaseInfo
from orbit_snn.graph.nodes import Node
from orbit_snn.graph.types import IdxType
from orbit_snn.types import Batch


class Task(NamedTuple):
    """Data and graph of a task.

    Attributes:
      training_modules: what `assemble_for_training` made of the losses.
      db_info: names of the features that they take.
      database: with a split `train`, and where there are, `validation` and `test`.
    """

    training_modules: TrainingModules
    db_info: DatabaseInfo
    database: Database


def examples_of(task: Task, split: str) -> Examples:
    """A split with what its model and losses read, sequences completed to the model's length.

    Raises:
      DataError: for a split or feature that the database does not have.
    """
    modules, db_info, database = task
    examples = database.examples(split, [*db_info["inputs"], *db_info["targets"]])
    return examples.mapped(lambda example: modules.model.completed(example, batched=False))


class Shapes(NamedTuple):
    """What is known of a pass through a model before it is made.

    Attributes:
      losses: size of each sum of the training loss.
      reports: size of each sum that training reports: validation losses but `loss`, and rates.
      evaluation: size of each sum of an evaluation.
      predictions: shape of every judged output by name of node.
      steps: length T of the sequences; 1 where there are none.
    """

    losses: dict[str, int]
    reports: dict[str, int]
    evaluation: dict[str, int]
    predictions: dict[str, tf.TensorShape]
    steps: int


def trace(modules: TrainingModules, spec: dict[str, tf.TensorSpec], size: int = 2) -> Shapes:
    """Shapes of everything, found by tracing the model on examples of these shapes.

    Args:
      modules: what is traced.
      spec: of every feature of one example.
      size: examples in a batch.

    Raises:
      GraphError: where the features do not fit the model or its losses.
    """
    model, loss, evaluator = modules
    shapes: dict[str, tf.TensorShape] = {}

    @tf.function(autograph=False)
    def call(batch: Batch) -> tuple[Any, Any, Any]:
        run = model.run(batch)
        shapes.update({node.name: run.values[node.name].shape for node in model.nodes_to_compute})
        steps = {name: done.cells[0].outputs.shape for name, done in run.trajectories().items()}
        shapes.update(steps)
        if evaluator.plot_maker is not None:
            evaluator.plot_maker.collect(run.values, batch)  # which checks what it can draw
        reports = evaluator.sums(run, batch, skip=("loss",))
        return loss.sums(run.values, batch), reports, evaluator.sums(run, batch)

    batch = {n: tf.TensorSpec([size, *s.shape], s.dtype) for n, s in spec.items()}
    traced = call.get_concrete_function(batch)
    losses, reports, evaluation = (
        {key: value.shape.num_elements() for key, value in sums.items()}
        for sums in traced.structured_outputs
    )
    steps = next((shapes[node.name][0] for node in model.networks), 1)
    predictions = {node.name: shapes[node.name] for node in model.nodes_to_compute}
    return Shapes(losses, reports, evaluation, predictions, steps)


def time_axis_maker(modules: TrainingModules) -> Node | None:
    """A node that makes sequences of what has no steps, so that they cannot be cut to windows."""
    for node in modules.model.nodes:
        from_steps = any(parent.index is IdxType.SEQ_STEP for parent in node.parents)
        if node.index is IdxType.SEQ_STEP and node.parents and not from_steps:
            return node
    return None
