"""Moves what a module owns to another device or precision."""

from typing import Any

import tensorflow as tf


def migrate(
    module: tf.Module, device: str | None = None, dtype: tf.DType | str | None = None
) -> None:
    """Makes every variable that a module owns anew, on a device or in another floating type.

    What it refers to and does not own stays as it is: a trainer of local rules owns its units'
    states, a network its cells, a unit (`IndependentCellTrainer.get_unit`) both. Integer variables
    keep their type. Make trainers, evaluators and traced functions anew afterwards: those of before
    hold the old variables.

    Args:
      module: to be moved.
      device: such as `/GPU:0`; None to stay.
      dtype: such as `tf.float64`; None to keep.

    Raises:
      RuntimeError: in a `tf.function`, or in the scope of a strategy of several replicas, which has
        placed the variables already.
      ValueError: for a type that is not floating.
    """
    if not tf.executing_eagerly():
        raise RuntimeError("migrate makes variables; call it outside of tf.function.")
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise RuntimeError(
            "the strategy of this scope has placed its variables on its devices already; migrate "
            "before its scope, or make the module in it."
        )
    kind = None if dtype is None else tf.as_dtype(dtype)
    if kind is not None and not kind.is_floating:
        raise ValueError(f"dtype is {kind.name}; expected a floating type, such as float64.")
    moved: dict[int, tf.Variable] = {}

    def anew(variable: tf.Variable) -> tf.Variable:
        if id(variable) not in moved:
            moved[id(variable)] = _copy(variable, device, kind)
        return moved[id(variable)]

    for own in (module, *module.submodules):
        ignored = type(own)._TF_MODULE_IGNORED_PROPERTIES
        for name, value in list(vars(own).items()):
            if name not in ignored and _holds_variables(value):
                setattr(own, name, _replaced(value, anew))
        if kind is not None and isinstance(vars(own).get("dtype"), tf.DType):
            own.dtype = kind


def _copy(variable: tf.Variable, device: str | None, dtype: tf.DType | None) -> tf.Variable:
    kind = dtype if dtype is not None and variable.dtype.is_floating else variable.dtype
    with tf.device(device or variable.device):
        return tf.Variable(
            tf.cast(variable.read_value(), kind),
            trainable=variable.trainable,
            name=variable.name.split(":")[0],
            synchronization=variable.synchronization,
            aggregation=variable.aggregation,
        )


def _holds_variables(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_variables, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_variables, value))
    return isinstance(value, tf.Variable)


def _replaced(value: Any, anew: Any) -> Any:
    if isinstance(value, tf.Variable):
        return anew(value)
    if isinstance(value, dict):
        return {key: _replaced(x, anew) for key, x in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_replaced(x, anew) for x in value))
    if isinstance(value, (list, tuple)):
        kind = tuple if isinstance(value, tuple) else list
        return kind(_replaced(x, anew) for x in value)
    return value
