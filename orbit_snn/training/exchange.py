"""What replicas hand to each other in a step, and variables that they set together."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.graph.loss_module import Sums


def gathered(context: tf.distribute.ReplicaContext, rows: Any) -> Any:
    """Tensors `[R, ...]` of all replicas, one after the other, of a static shape."""
    replicas = context.num_replicas_in_sync

    def number(local: tf.Tensor) -> tf.Tensor:
        return tf.cast(local, tf.int32) if local.dtype.is_bool else local

    def along_rows(local: tf.Tensor, every: tf.Tensor) -> tf.Tensor:
        every = tf.ensure_shape(every, [local.shape[0] * replicas, *local.shape[1:]])
        return tf.cast(every, local.dtype)

    numbers = tf.nest.map_structure(number, rows)  # which can be exchanged, unlike truth values
    return tf.nest.map_structure(along_rows, rows, context.all_gather(numbers, axis=0))


def assign(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    """Gives variables new values, which are the same on every replica; in replica context."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync > 1:
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
    parts = tf.split(context.all_reduce(tf.distribute.ReduceOp.SUM, flat), sizes)
    pairs = zip(sums.items(), parts, strict=True)
    return {key: tf.cast(total, value.dtype) for (key, value), total in pairs}
