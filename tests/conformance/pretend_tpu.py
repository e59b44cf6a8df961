"""A TPU strategy without a TPU: steps are traced under it by TensorFlow's own code, and never run.

The devices that it names are not there, so their variables lie on the CPU (soft placement).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.distribute import distribute_lib, tpu_strategy

COLLECTIVES = ("CrossReplicaSum", "AllToAll", "CollectivePermute")


class _Device(NamedTuple):
    name: str


class _System:
    """Cluster resolver of one host, and what it knows of its TPU."""

    num_hosts = 1

    def __init__(self, cores: int):
        names = [f"/job:localhost/replica:0/task:0/device:TPU:{core}" for core in range(cores)]
        self.devices = [_Device(name) for name in names]
        self.num_cores = self.num_of_cores_per_host = cores

    def get_tpu_system_metadata(self) -> "_System":
        return self


def pretend_tpu(replicas: int) -> tf.distribute.TPUStrategy:
    """A strategy of so many replicas, in whose scope a trainer can be made."""
    strategy = tf.distribute.TPUStrategy.__new__(tf.distribute.TPUStrategy)
    extended = tpu_strategy.TPUExtended(strategy, _System(replicas))
    distribute_lib.Strategy.__init__(strategy, extended)
    strategy._enable_packed_variable_in_eager_mode = False
    return strategy


def traced(strategy: tf.distribute.Strategy, step: Callable[..., Any], batch: Any) -> Any:
    """The graph of a replica's step, with the same batch on every replica."""

    @tf.function(autograph=False)
    def whole(batch: Any) -> Any:
        return strategy.run(step, args=(batch,))

    return whole.get_concrete_function(batch).graph
