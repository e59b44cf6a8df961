"""Accumulators: contributions to one parameter, their positive and negative parts kept apart."""

import dataclasses
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

REDUCTIONS = ("sum", "mean", "max", "min")
"""How contributions are brought together."""

Bound = Callable[..., tf.Tensor]
"""One of `orbit_snn.bounds`."""


@dataclasses.dataclass(frozen=True)
class _Half:
    """A half bound with its limit; not a tuple, whose variables a module would own."""

    bound: Bound
    limit: Any
    options: dict[str, Any]

    def __call__(self, param: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        return self.bound(param, part, self.limit, **self.options)


class Accumulator(tf.Module):
    """Contributions to one parameter since it was last cleared.

    Positive and negative parts are kept apart, each reduced as it comes in: memory does not grow.
    In replica context what comes in is the mean over replicas. In a Python loop or branch that
    AutoGraph converts, call `add`: it takes an assignment to an attribute for a loop variable.

    Args:
      shape: of the parameter.
      dtype: of the parameter.
      reduction: `sum`, `mean`, `max` or `min` over contributions. It may be set later: between
        `sum` and `mean` at any time, otherwise before a second contribution.
      name: of the module, that of the parameter.

    Raises:
      ValueError: for another reduction.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: tf.DType = tf.float32,
        reduction: str = "sum",
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.reduction = reduction
        self._upper: _Half | None = None
        self._lower: _Half | None = None
        self._full: Bound | None = None
        with self.name_scope:
            self._parts = {side: self._part(side, shape, dtype) for side in ("pos", "neg")}

    def _part(self, side: str, shape: Sequence[int], dtype: tf.DType) -> tuple[tf.Variable, ...]:
        kept = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        total = tf.Variable(tf.zeros(shape, dtype), name=side, **kept)
        return total, tf.Variable(0, dtype=tf.int64, name=f"{side}_count", **kept)

    def _check(self, reduction: str) -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"reduction is {reduction!r}; expected one of {', '.join(REDUCTIONS)}."
            )
        kept = vars(self).get("reduction", reduction)
        if kept == reduction or {kept, reduction} == {"sum", "mean"} or not tf.executing_eagerly():
            return
        if max(int(count) for _, count in self._parts.values()) > 1:
            raise ValueError(
                f"contributions to {self.name} are reduced by {kept} already, which {reduction} "
                "cannot go on from; clear() before."
            )

    def __setattr__(self, key: str, value: Any) -> None:
        if key in ("pos", "neg"):  # a tf.Module would read the property first
            if _is_loop_variable(sys._getframe(1)):
                raise ValueError(
                    f"AutoGraph takes {self.name}.{key} for a variable of the loop or branch that "
                    f"assigns to it; call accumulator({self.name!r}).add({key!r}, x) there."
                )
            self.add(key, value)
        else:
            if key == "reduction":
                self._check(value)
            super().__setattr__(key, value)

    @property
    def pos(self) -> tf.Tensor | None:
        """The positive part, reduced; None where nothing came in (in a graph, 0)."""
        return self._value("pos")

    @pos.setter
    def pos(self, value: tf.Tensor | None) -> None: ...

    @pos.deleter
    def pos(self) -> None:
        self._clear("pos")

    @property
    def neg(self) -> tf.Tensor | None:
        """The negative part, reduced, 0 or more; None where nothing came in (in a graph, 0)."""
        return self._value("neg")

    @neg.setter
    def neg(self, value: tf.Tensor | None) -> None: ...

    @neg.deleter
    def neg(self) -> None:
        self._clear("neg")

    @property
    def empty(self) -> tf.Tensor:
        """Whether nothing came in, bool `[]`."""
        return tf.add_n([count.read_value() for _, count in self._parts.values()]) == 0

    @property
    def variables_of_parts(self) -> tuple[tf.Variable, ...]:
        """Positive part and count of contributions, negative part and count."""
        return (*self._parts["pos"], *self._parts["neg"])

    def add(self, side: str, value: Any) -> None:
        """Takes a contribution to `pos` or `neg`; None is none.

        Raises:
          ValueError: for another shape or, outside of a graph, for a value below 0.
        """
        if value is None:
            return
        total, count = self._parts[side]
        value = tf.cast(tf.convert_to_tensor(value, dtype_hint=total.dtype), total.dtype)
        if not total.shape.is_compatible_with(value.shape):
            raise ValueError(
                f"a contribution to {self.name}.{side} has shape {value.shape}; expected that of "
                f"the parameter, {total.shape}."
            )
        if tf.executing_eagerly() and bool(tf.reduce_any(value < 0)):
            raise ValueError(
                f"a contribution to {self.name}.{side} is {float(tf.reduce_min(value))}; both "
                "parts are 0 or more, and the negative one is taken off: give its absolute value."
            )
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            value = context.all_reduce(tf.distribute.ReduceOp.MEAN, value)
        total.assign(self.joined(total.read_value(), value, count.read_value()))
        count.assign_add(1)

    def joined(self, total: tf.Tensor, value: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """What `count` contributions and one more come to, before the division of a mean."""
        if self.reduction in ("sum", "mean"):
            return total + value
        best = tf.maximum if self.reduction == "max" else tf.minimum
        return tf.where(count > 0, best(total, value), value)

    def reduced(self, total: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """The part that `count` contributions make, 0 for none."""
        if self.reduction != "mean":
            return total
        return total / tf.cast(tf.maximum(count, 1), total.dtype)

    def _value(self, side: str) -> tf.Tensor | None:
        total, count = self._parts[side]
        if tf.executing_eagerly() and int(count) == 0:
            return None
        return self.reduced(total.read_value(), count.read_value())

    def _clear(self, side: str) -> None:
        for variable in self._parts[side]:
            variable.assign(tf.zeros_like(variable))

    def clear(self) -> None:
        """Forgets all contributions."""
        self._clear("pos")
        self._clear("neg")

    def upperbound(self, bound: Bound | None, maximum: Any = None, **options: Any) -> None:
        """Bounds the positive part from above, or not; takes the place of a full bound.

        Raises:
          ValueError: for a bound without a maximum, or with one below the minimum.
        """
        upper = _half(bound, maximum, options, "maximum")
        if upper is not None and self._lower is not None:
            self._check_limits(maximum, self._lower.limit)
        self._upper, self._full = upper, None

    def lowerbound(self, bound: Bound | None, minimum: Any = None, **options: Any) -> None:
        """Bounds the negative part from below, or not; takes the place of a full bound.

        Raises:
          ValueError: for a bound without a minimum, or with one above the maximum.
        """
        lower = _half(bound, minimum, options, "minimum")
        if lower is not None and self._upper is not None:
            self._check_limits(self._upper.limit, minimum)
        self._lower, self._full = lower, None

    def fullbound(
        self, bound: Bound | None, maximum: Any = None, minimum: Any = None, **options: Any
    ) -> None:
        """Bounds both parts, or none; takes the place of half bounds.

        Raises:
          ValueError: for a maximum below the minimum.
        """
        if maximum is not None and minimum is not None:
            self._check_limits(maximum, minimum)
        self._upper = self._lower = None
        self._full = None
        if bound is not None:
            self._full = lambda p, pos, neg: bound(p, pos, neg, maximum, minimum, **options)

    def _check_limits(self, maximum: Any, minimum: Any) -> None:
        if bool(tf.reduce_any(maximum < minimum)):
            raise ValueError(
                f"the maximum of {self.name} is {maximum} and its minimum {minimum}; give a "
                "maximum that is not below the minimum."
            )

    def change(self, param: tf.Tensor, pos: tf.Tensor, neg: tf.Tensor) -> tf.Tensor:
        """What reduced parts add to a parameter, after the bounds; tensors of one shape."""
        if self._full is not None:
            return self._full(param, pos, neg)
        gain = pos if self._upper is None else self._upper(param, pos)
        return gain - (neg if self._lower is None else self._lower(param, neg))

    def update(self, param: tf.Tensor) -> tf.Tensor | None:
        """What the contributions add to a parameter; None where there are none (in a graph, 0)."""
        parts = self.parts(param)
        return None if parts is None else self.change(param, *parts)

    def parts(self, param: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor] | None:
        """Both parts, reduced, 0 of the shape of `param` for one that is empty; None for none."""
        pos, neg = self.pos, self.neg
        if pos is None and neg is None:
            return None
        zeros = tf.zeros_like(param)
        return zeros if pos is None else pos, zeros if neg is None else neg

    def __call__(self, param: Any) -> tf.Tensor:
        """A parameter with what the contributions add to it."""
        param = tf.convert_to_tensor(param)
        update = self.update(param)
        return param if update is None else param + update


def _is_loop_variable(caller: types.FrameType) -> bool:
    """Whether AutoGraph sets an attribute to what it read of it, which would be added again."""
    code = caller.f_code
    return code.co_name == "set_state" and "__autograph_generated_file" in code.co_filename


def _half(bound: Bound | None, limit: Any, options: dict[str, Any], name: str) -> _Half | None:
    if bound is None:
        return None
    if limit is None:
        raise ValueError(f"the bound has no {name}; give one, or None for no bound.")
    return _Half(bound, limit, options)
