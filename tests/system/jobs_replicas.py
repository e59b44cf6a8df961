"""The same training under any strategy: what the number of replicas and workers must not change."""

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from orbit_snn import experiments
from orbit_snn.data import from_arrays
from orbit_snn.database import Database
from orbit_snn.learning import BPTT, RLS, Kernel
from orbit_snn.runtime import RuntimeConfig, build_strategy
from orbit_snn.training import Evaluator, Run, TrainingOptions
from tests.system.harness import FEW
from tests.system.regression import FEATURES, numpy_metrics, own_targets, regression, squared_error

STEPS = 5
SIZES = (1, 4, 10)
SMALL = {
    "trainer.batch_size": 4,
    "trainer.train_steps": 2 * STEPS,
    "trainer.steps_per_loop": 1,
    "trainer.clip_norm": 1.0,
    "trainer.pictures": 0,
    "runtime.dtype": "float64",
    "runtime.enable_xla": "false",
}
DIGITS = {
    "task.model.units": "[16]",
    "task.model.neuron.type": "lif",
    "task.steps_per_row": 1,
    "task.train_split": FEW,
    "task.test_split": "test[:37]",
    "task.regularizer.l2": 1e-4,
    "task.regularizer.rate_strength": 1e-3,
    "task.regularizer.rate_reduction": "batch",
}
ONLINE = {
    "task.decision": "per_step",
    "task.regularizer.rate_reduction": "sample",
    "learning.type": "eprop",
    "learning.eprop.feedback.kind": "random",
}
IMAGES = {
    "task.train_split": FEW,
    "task.duration_ms": 16,
    "task.brightest_hz": 800,
    "task.model": "{units: 9, inhibition: 1.0, resistance_mohm: 900.0}",
    "learning.plasticity.apply_every": "sequence",
}
EXPERIMENTS = {
    "bptt": ("digits", DIGITS | {"learning.type": "bptt", "runtime.enable_xla": "true"}),
    "tbptt": (
        "digits",
        DIGITS
        | {
            "learning.type": "tbptt",
            "learning.tbptt.truncation": 4,
            "learning.tbptt.update_every": "window",
        },
    ),
    "eprop factored": (
        "digits",
        DIGITS | {"learning.type": "eprop", "learning.eprop.feedback.kind": "adaptive"},
    ),
    "eprop chunked": (
        "digits",
        DIGITS | ONLINE | {"learning.eprop.mode": "chunked", "learning.eprop.chunk": 4},
    ),
    "eprop stepwise": (
        "digits",
        DIGITS | ONLINE | {"learning.eprop.mode": "stepwise"},
    ),
    "stdp sum": (
        "diehl_cook",
        IMAGES
        | {
            "learning.plasticity.batch_reduction": "sum",
            "learning.plasticity.rule.type": "triplet_stdp",
        },
    ),
    "stdp waiting": (
        "diehl_cook",
        IMAGES | {"learning.plasticity.step_reduction": "mean", "learning.plasticity.sequences": 2},
    ),
    "stdp windows": (
        "diehl_cook",
        IMAGES
        | {"learning.plasticity.apply_every": 8, "learning.plasticity.rule.type": "kernel_stdp"},
    ),
    "stdp every step": (
        "diehl_cook",
        IMAGES
        | {"task.duration_ms": 3, "task.brightest_hz": 2000, "learning.plasticity.apply_every": 1},
    ),
    "rewarded": (
        "reward_timing",
        {
            "task.units": 3,
            "task.steps": 40,
            "task.window_start": 20,
            "task.window_steps": 8,
            "task.refractory_ms": 5.0,
            "task.delay_steps": 3,
            "task.weight": 0.15,
            "learning.type": "plasticity",
            "learning.plasticity.rule.type": "mstdpet",
            "learning.plasticity.reward": "reward",
        },
    ),
}
LEAST_SQUARES: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "rls inputs": ({"strategy": "inputs", "window": 3}, squared_error),
    "rls outputs": ({"strategy": "outputs"}, squared_error),
    "rls grad": ({"strategy": "grad", "window": 3, "trust": 0.1}, squared_error),
    "rls jacobian": ({"strategy": "jacobian"}, squared_error),
    "rls scaled_jacobian": ({"strategy": "scaled_jacobian"}, squared_error),
    "rls sparse": ({"strategy": "outputs"}, lambda: squared_error(fan_in=2)),
    "rls current": ({"strategy": "outputs", "alignment": "current"}, own_targets),
}
CASES = (*EXPERIMENTS, *LEAST_SQUARES)


def curves(cases: Sequence[str], runtime: dict, data_dir: str, directory: str) -> dict:
    """Losses, variables and whether replicas agree after some steps of each case.

    All in one process with one strategy: two mix up their collective operations.
    """
    strategy = build_strategy(RuntimeConfig(**runtime))
    experiments.build_strategy = lambda config: strategy
    found = {}
    for case in cases:
        path = os.path.join(directory, case)
        make = configured if case in EXPERIMENTS else least_squares
        run = make(case, strategy, data_dir, path)
        before = [p.numpy() for p in run.task.training_modules.model.parameters]
        losses = [run.trainer.train(tf.constant(1))["loss"] for _ in range(STEPS)]
        after = [p.numpy() for p in run.task.training_modules.model.parameters]
        pairs = zip(before, after, strict=True)
        found[case] = {
            "replicas": strategy.num_replicas_in_sync,
            "losses": losses,
            "values": [np.ravel(v.numpy()).tolist() for v in learned(run)],
            "change": max(float(np.abs(p - b).max()) for p, b in pairs),
            "differing": differing(run),
        }
    return found


def configured(case: str, strategy: tf.distribute.Strategy, data_dir: str, directory: str) -> Run:
    return experiments.build_run(loaded(case, data_dir), directory)


def loaded(case: str, data_dir: str) -> experiments.ExperimentConfig:
    experiment, settings = EXPERIMENTS[case]
    importlib.import_module(f"orbit_snn.tasks.{experiment}")
    settings = SMALL | settings
    if "task.train_split" in settings:
        settings = {"task.data_dir": data_dir, **settings}
    text = ",".join(f"{key}={value}" for key, value in settings.items())
    return experiments.load(experiment, params_override=text)


def least_squares(
    case: str, strategy: tf.distribute.Strategy, data_dir: str, directory: str
) -> Run:
    """A strategy that solves for weights, on padded sequences."""
    given, assembled = LEAST_SQUARES[case]
    rule = RLS(kernel=Kernel(0.99), **{"window": None, **given})
    with strategy.scope():
        modules, db_info = assembled()
    database = Database({"train": from_arrays(FEATURES)})
    options = TrainingOptions(batch_size=4, train_steps=10, steps_per_loop=1, pictures=0)
    sgd = tf_keras.optimizers.legacy.SGD(0.1) if given["strategy"] == "grad" else None
    return Run(
        modules, db_info, database, rule, sgd, directory, options, xla=False, strategy=strategy
    )


def metrics_of_a_regression(runtime: dict, directory: str) -> dict:
    """Metrics of every kind of an untrained network, by batch size and by NumPy; a few losses."""
    strategy = build_strategy(RuntimeConfig(**runtime))
    run = a_regression(strategy, directory)
    modules = run.task.training_modules
    predictions = modules.model({name: tf.constant(v) for name, v in FEATURES.items()})
    numpy = numpy_metrics(predictions["net.out"].numpy(), predictions["net.cell0"].numpy())
    numpy["l2"] = sum(
        0.5 * float(np.sum(np.square(p.numpy())))
        for p in modules.model.parameters
        if p.shape.rank > 1
    )
    return {
        "numpy": numpy,
        "evaluations": {size: scalars(run, size) for size in SIZES},
        "losses": [run.trainer.train(tf.constant(1))["loss"] for _ in range(STEPS)],
        "differing": differing(run),
    }


def a_regression(strategy: tf.distribute.Strategy, directory: str) -> Run:
    with strategy.scope():
        modules, db_info = regression()
    database = Database({"train": from_arrays(FEATURES), "test": from_arrays(FEATURES)})
    sgd = tf_keras.optimizers.legacy.SGD(1e-2)
    options = TrainingOptions(batch_size=4, train_steps=10, steps_per_loop=1, pictures=0)
    return Run(modules, db_info, database, BPTT(), sgd, directory, options, strategy=strategy)


def scalars(run: Run, size: int) -> dict:
    """The numbers of an evaluation, compiled for the last of `SIZES`."""
    strategy = run.trainer.strategy
    with strategy.scope():
        evaluator = Evaluator(*run.task, "test", size, xla=size == SIZES[-1], strategy=strategy)
    found = evaluator.evaluate(tf.constant(evaluator.batches))
    return {name: float(value) for name, value in found.items() if np.ndim(value) == 0}


def learned(run: Run) -> list[tf.Variable]:
    """What training changes: of the model, the rule and the optimizer."""
    optimizer = run.trainer.optimizer
    own = () if optimizer is None else optimizer.variables
    own = own() if callable(own) else own
    return [*run.task.training_modules.model.variables, *run.trainer.rule.variables, *own]


def differing(run: Run) -> list[str]:
    """Names of variables that are not bit for bit the same on all replicas."""
    copies = {v.name: [np.asarray(c) for c in getattr(v, "values", [v])] for v in learned(run)}
    return [n for n, (first, *rest) in copies.items() if any((c != first).any() for c in rest)]
