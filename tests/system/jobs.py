"""What a test runs in a process of its own, because TensorFlow's devices are fixed once."""

import os
from collections.abc import Callable
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
from tests.system.regression import FEATURES, numpy_metrics, own_targets, regression, squared_error


def prepare_digits(data_dir: str) -> bool:
    from orbit_snn.tasks import digits_dataset

    digits_dataset.builder(data_dir)
    return True


RULES = {
    "bptt": {"learning.type": "bptt"},
    "tbptt": {
        "learning.type": "tbptt",
        "learning.tbptt.truncation": 12,
        "learning.tbptt.update_every": "window",
    },
    "eprop": {"learning.type": "eprop", "learning.eprop.feedback.kind": "adaptive"},
    "eprop in chunks": {
        "learning.type": "eprop",
        "learning.eprop.mode": "chunked",
        "learning.eprop.chunk": 9,
        "learning.eprop.feedback.kind": "random",
        "task.decision": "per_step",
        "task.regularizer.rate_reduction": "sample",
    },
}


def learning_curve(
    overrides: dict, rule: str, steps: int, batch_sizes: list[int], directory: str
) -> dict:
    """Loss of every loop, metrics of evaluations and whether replicas agree."""
    overrides = {**overrides, **RULES[rule]}
    text = ",".join(f"{key}={value}" for key, value in overrides.items())
    config = experiments.load("digits", params_override=text)
    run = experiments.build_run(config, directory)
    losses = [run.trainer.train(tf.constant(1))["loss"] for _ in range(steps)]
    return {
        "replicas": run.trainer.strategy.num_replicas_in_sync,
        "losses": losses,
        "differing": differing(run),
        "weights": float(
            sum(np.sum(np.abs(p.numpy())) for p in run.task.training_modules.model.parameters)
        ),
        "evaluations": {size: _tried(_evaluate, run, config, size) for size in batch_sizes},
    }


def metrics_of_a_regression(replicas: int, batch_sizes: list[int], directory: str) -> dict:
    """Metrics of every kind of an untrained network, by batch size and by NumPy; a few losses."""
    strategy = build_strategy(
        RuntimeConfig(distribution_strategy="mirrored", logical_cpus=replicas)
    )
    with strategy.scope():
        modules, db_info = regression()
    database = Database({"train": from_arrays(FEATURES), "test": from_arrays(FEATURES)})
    optimizer = tf_keras.optimizers.legacy.SGD(1e-2)
    options = TrainingOptions(batch_size=4, train_steps=10, steps_per_loop=1, pictures=0)
    run = Run(modules, db_info, database, BPTT(), optimizer, directory, options, strategy=strategy)
    predictions = modules.model({name: tf.constant(v) for name, v in FEATURES.items()})
    numpy = numpy_metrics(predictions["net.out"].numpy(), predictions["net.cell0"].numpy())
    numpy["l2"] = sum(
        0.5 * float(np.sum(np.square(p.numpy())))
        for p in modules.model.parameters
        if p.shape.rank > 1
    )
    evaluations = {size: _scalars(run, size, strategy) for size in batch_sizes}
    losses = [run.trainer.train(tf.constant(1))["loss"] for _ in range(8)]
    return {
        "numpy": numpy,
        "evaluations": evaluations,
        "losses": losses,
        "differing": differing(run),
    }


def least_squares(replicas: int, steps: int, directory: str) -> dict:
    """Weights, P and losses of every strategy that solves for weights, on padded sequences."""
    strategy = build_strategy(
        RuntimeConfig(distribution_strategy="mirrored", logical_cpus=replicas)
    )
    database = Database({"train": from_arrays(FEATURES)})
    options = TrainingOptions(batch_size=4, train_steps=10, steps_per_loop=1, pictures=0)
    found = {}
    strategies = ("inputs", "outputs", "grad", "scaled_jacobian")
    cases = {name: ({"strategy": name}, squared_error) for name in strategies}
    cases["sparse"] = ({"strategy": "outputs"}, lambda: squared_error(fan_in=2))
    cases["current"] = ({"strategy": "outputs", "alignment": "current"}, own_targets)
    for name, (given, assembled) in cases.items():
        rule = RLS(kernel=Kernel(0.99), window=3, trust=0.1, **given)
        with strategy.scope():
            modules, db_info = assembled()
        path = os.path.join(directory, name)
        sgd = tf_keras.optimizers.legacy.SGD(0.1) if name == "grad" else None
        run = Run(modules, db_info, database, rule, sgd, path, options, strategy=strategy)
        losses = [run.trainer.train(tf.constant(1))["loss"] for _ in range(steps)]
        parameters = modules.model.parameters
        found[name] = {
            "losses": losses,
            "values": [v.numpy().tolist() for v in (*rule.assigned(modules), *parameters)],
            "differing": differing(run),
        }
    return found


PLASTICITY = {
    "sum": ("apply_every=sequence", "batch_reduction=sum", "rule.type=triplet_stdp"),
    "waiting": ("apply_every=sequence", "step_reduction=mean", "sequences=2"),
    "windows": ("apply_every=8", "rule.type=kernel_stdp"),
}


def local_plasticity(replicas: int, steps: int, data_dir: str, directory: str) -> dict:
    """Variables after some batches of the task `diehl_cook`, by kind of update."""
    from orbit_snn.tasks import diehl_cook

    small = (
        f"task.data_dir={data_dir},task.duration_ms=40,task.brightest_hz=400,runtime.dtype=float64,"
        "task.model={units: 9, inhibition: 1.0, resistance_mohm: 900.0},trainer.batch_size=4,"
        "trainer.steps_per_loop=1,trainer.pictures=0,"
        f"runtime.distribution_strategy=mirrored,runtime.logical_cpus={replicas}"
    )
    found = {}
    for name, options in PLASTICITY.items():
        given = ",".join(f"learning.plasticity.{option}" for option in options)
        config = experiments.load(
            diehl_cook.DiehlCookConfig.name, params_override=f"{small},{given}"
        )
        run = experiments.build_run(config, os.path.join(directory, name))
        rule, modules = run.trainer.rule, run.task.training_modules
        before = modules.model.parameters[0].numpy()
        for _ in range(steps):
            run.trainer.train(tf.constant(1))
        found[name] = {
            "values": [v.numpy().tolist() for v in rule.assigned(modules)],
            "change": float(np.abs(modules.model.parameters[0].numpy() - before).max()),
            "differing": differing(run),
        }
    return found


def _scalars(run: Run, size: int, strategy: tf.distribute.Strategy) -> dict:
    with strategy.scope():
        evaluator = Evaluator(*run.task, "test", size, strategy=strategy)
    found = evaluator.evaluate(tf.constant(evaluator.batches))
    return {name: float(value) for name, value in found.items() if np.ndim(value) == 0}


def differing(run: Run) -> list[str]:
    """Names of variables that are not bit for bit the same on all replicas."""
    optimizer = run.trainer.optimizer
    own = () if optimizer is None else optimizer.variables
    own = own() if callable(own) else own
    variables = [*run.task.training_modules.model.variables, *run.trainer.rule.variables, *own]
    copies = {v.name: [np.asarray(c) for c in getattr(v, "values", [v])] for v in variables}
    return [n for n, (first, *rest) in copies.items() if any((c != first).any() for c in rest)]


def _tried(function: Callable[..., dict], *arguments: Any) -> dict:
    """What the function gives, or the end of its error: one case must not hide the others."""
    try:
        return function(*arguments)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"}


def _evaluate(run: Run, config: experiments.ExperimentConfig, batch_size: int) -> dict:
    strategy, xla = run.trainer.strategy, config.runtime.enable_xla
    with strategy.scope():
        evaluator = Evaluator(*run.task, "test", batch_size, config.seed, xla, strategy)
    found = evaluator.evaluate(tf.constant(evaluator.batches))
    return {name: np.asarray(value).tolist() for name, value in found.items()}
