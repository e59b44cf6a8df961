"""What each of several workers runs; a process alone is its own chief."""

import os
import types
from collections.abc import Sequence

import tensorflow as tf

from orbit_snn import experiments
from orbit_snn.runtime import RuntimeConfig, build_strategy
from orbit_snn.training import workers
from orbit_snn.training.stopping import StopAfter
from tests.system import jobs_replicas


def curves(cases: Sequence[str], runtime: dict, data_dir: str, directory: str) -> dict:
    """What `jobs_replicas` gives of each case; an evaluation, and what workers decide."""
    for rule in experiments.RULES:  # before there is a strategy, as on the command line
        experiments.load("digits", params_override=f"learning.type={rule}")
    strategy = build_strategy(RuntimeConfig(**runtime))
    jobs_replicas.build_strategy = lambda config: strategy
    found = jobs_replicas.curves(cases, runtime, data_dir, os.path.join(directory, "curves"))
    run = jobs_replicas.a_regression(strategy, os.path.join(directory, "evaluation"))
    found["evaluation"] = jobs_replicas.scalars(run, jobs_replicas.SIZES[0])
    found["decisions"] = decisions(strategy)
    return found


def decisions(strategy: tf.distribute.Strategy) -> dict:
    """What this worker knows after it has decided some things together with the others."""
    chief = workers.is_chief(strategy)
    own = 0 if chief else 1

    def fail() -> None:
        raise ValueError(f"of worker {own}")

    try:
        workers.decided(strategy, fail)
    except (ValueError, workers.WorkerError) as error:
        failed = f"{type(error).__name__}: {error}"
    ticks = iter([0.0, 20.0 * own])  # only another worker's clock has come so far
    with strategy.scope():
        limit = StopAfter(10.0, clock=lambda: next(ticks))
    limit.bind(types.SimpleNamespace(strategy=strategy))
    limit.observe({})
    return {
        "chief": chief,
        "stopped": limit.stopped,
        "workers": workers.worker_count(strategy),
        "agreed": [workers.agreed(strategy, own == 1), workers.agreed(strategy, False)],
        "same": workers.same_everywhere(strategy, [own, "é"]),
        "decided": workers.decided(strategy, lambda: own),
        "failed": failed,
    }
