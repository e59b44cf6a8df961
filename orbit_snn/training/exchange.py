"""What replicas hand to each other in a step, and variables that they set together."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.graph.loss_module import Sums
from orbit_snn.training.compiling import on_tpu


def gathered(context: tf.distribute.ReplicaContext, rows: Any) -> Any:
    """Tensors `[R, ...]` of all replicas, one after the other, of a static shape."""
    replicas = context.num_replicas_in_sync

    def along_rows(local: tf.Tensor, every: tf.Tensor) -> tf.Tensor:
        every = tf.reshape(every, [local.shape[0] * replicas, *local.shape[1:]])
        return tf.cast(every, local.dtype)

    gather = _gathered_in_32_bits if on_tpu(context.strategy) else _gathered
    return tf.nest.map_structure(along_rows, rows, gather(context, rows))


def _gathered(context: tf.distribute.ReplicaContext, rows: Any) -> Any:
    def number(local: tf.Tensor) -> tf.Tensor:
        return tf.cast(local, tf.int32) if local.dtype.is_bool else local

    numbers = tf.nest.map_structure(number, rows)  # which can be exchanged, unlike truth values
    return context.all_gather(numbers, axis=0)


def _gathered_in_32_bits(context: tf.distribute.ReplicaContext, rows: Any) -> Any:
    """As `_gathered`, for TPUs, whose compiler is not known to exchange numbers of 64 bits.

    They have none: double precision is a pair of single ones, and so it travels here.
    """

    def gather(x: tf.Tensor) -> tf.Tensor:
        if x.dtype == tf.float64:
            high = tf.cast(x, tf.float32)
            low = tf.cast(x - tf.cast(high, x.dtype), tf.float32)
            both = context.all_gather(tf.stack([high, low], axis=1), axis=0)
            return tf.reduce_sum(tf.cast(both, x.dtype), axis=1)
        if x.dtype.is_floating:
            return context.all_gather(x, axis=0)
        return context.all_gather(tf.cast(x, tf.int32), axis=0)

    return tf.nest.map_structure(gather, rows)


def assign(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    """Gives variables new values, which are the same on every replica; in replica context."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync > 1 or on_tpu(context.strategy):
        context.merge_call(_assign, args=(variables, values))
        return
    for variable, value in zip(variables, values, strict=True):
        (own,) = getattr(variable, "values", (variable,))
        own.assign(value)


def _assign(strategy: Any, variables: Sequence[tf.Variable], values: Sequence[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        strategy.extended.update(variable, lambda own, new: own.assign(new), args=(value,))


def added(context: tf.distribute.ReplicaContext, sums: Sums) -> Sums:
    """Sums over all replicas, in one exchange of one vector in double precision."""
    sizes = [value.shape.num_elements() for value in sums.values()]
    flat = tf.concat([tf.cast(value, tf.float64) for value in sums.values()], axis=0)
    parts = tf.split(_total(context, flat), sizes)
    pairs = zip(sums.items(), parts, strict=True)
    return {key: tf.cast(total, value.dtype) for (key, value), total in pairs}


def _total(context: tf.distribute.ReplicaContext, x: tf.Tensor) -> tf.Tensor:
    if on_tpu(context.strategy):
        return tf.reduce_sum(_gathered_in_32_bits(context, x[tf.newaxis]), axis=0)
    return context.all_reduce(tf.distribute.ReduceOp.SUM, x)
