"""Bounds of parameters: what is left of an update where a parameter is close to a limit.

    upper:  U+ -> f(Pmax - P) U+         lower:  U- -> g(P - Pmin) U-
    full:   f(Pmax - P) U+ - g(P - Pmin) U-

`U+` and `U-` are the positive and negative parts of an update, both 0 or more, and f and g are
those of a family (Gerstner & Kistler 2002, section 11.2; Guetig et al. 2003 for powers):

    power             d^mu                  scaled_power            (d / span)^mu
    multiplicative    d                     scaled_multiplicative   d / span
    sharp             1 where d >= 0, else 0

with d the distance to the limit and span that from one limit to the other. Powers are 0 or more;
beyond a limit any power counts as 0, so that none is NaN; a multiplicative bound pulls the
parameter back. In a full bound a limit of None leaves that side unbounded; a scaled one needs
both. All functions are elementwise, of tensors of one shape.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

Limit: TypeAlias = Any
"""A number, or a tensor that broadcasts to the parameter."""


def upper_power(
    param: tf.Tensor, positive: tf.Tensor, maximum: Limit, power: float = 1.0
) -> tf.Tensor:
    """`(Pmax - P)^power U+`."""
    return _powered(maximum - param, power, positive)


def lower_power(
    param: tf.Tensor, negative: tf.Tensor, minimum: Limit, power: float = 1.0
) -> tf.Tensor:
    """`(P - Pmin)^power U-`."""
    return _powered(param - minimum, power, negative)


def upper_scaled_power(
    param: tf.Tensor, positive: tf.Tensor, maximum: Limit, power: float = 1.0, span: float = 1.0
) -> tf.Tensor:
    """`((Pmax - P) / span)^power U+`."""
    return _powered((maximum - param) / span, power, positive)


def lower_scaled_power(
    param: tf.Tensor, negative: tf.Tensor, minimum: Limit, power: float = 1.0, span: float = 1.0
) -> tf.Tensor:
    """`((P - Pmin) / span)^power U-`."""
    return _powered((param - minimum) / span, power, negative)


def upper_multiplicative(param: tf.Tensor, positive: tf.Tensor, maximum: Limit) -> tf.Tensor:
    """`(Pmax - P) U+`."""
    return (maximum - param) * positive


def lower_multiplicative(param: tf.Tensor, negative: tf.Tensor, minimum: Limit) -> tf.Tensor:
    """`(P - Pmin) U-`."""
    return (param - minimum) * negative


def upper_scaled_multiplicative(
    param: tf.Tensor, positive: tf.Tensor, maximum: Limit, span: float = 1.0
) -> tf.Tensor:
    """`(Pmax - P) / span U+`."""
    return (maximum - param) / span * positive


def lower_scaled_multiplicative(
    param: tf.Tensor, negative: tf.Tensor, minimum: Limit, span: float = 1.0
) -> tf.Tensor:
    """`(P - Pmin) / span U-`."""
    return (param - minimum) / span * negative


def upper_sharp(param: tf.Tensor, positive: tf.Tensor, maximum: Limit) -> tf.Tensor:
    """`U+` where `P <= Pmax`, 0 elsewhere."""
    return tf.where(param <= maximum, positive, tf.zeros_like(positive))


def lower_sharp(param: tf.Tensor, negative: tf.Tensor, minimum: Limit) -> tf.Tensor:
    """`U-` where `P >= Pmin`, 0 elsewhere."""
    return tf.where(param >= minimum, negative, tf.zeros_like(negative))


def full_power(
    param: tf.Tensor,
    positive: tf.Tensor,
    negative: tf.Tensor,
    maximum: Limit | None,
    minimum: Limit | None,
    upper_power: float = 1.0,
    lower_power: float = 1.0,
) -> tf.Tensor:
    """Both sides of `upper_power` and `lower_power`, with a power each."""
    upper = lambda p, u, limit: _powered(limit - p, upper_power, u)  # noqa: E731
    lower = lambda p, u, limit: _powered(p - limit, lower_power, u)  # noqa: E731
    return _difference(param, positive, negative, maximum, minimum, upper, lower)


def full_scaled_power(
    param: tf.Tensor,
    positive: tf.Tensor,
    negative: tf.Tensor,
    maximum: Limit,
    minimum: Limit,
    upper_power: float = 1.0,
    lower_power: float = 1.0,
) -> tf.Tensor:
    """Both sides of the scaled powers; the span is that of the limits."""
    span = _span(maximum, minimum)
    upper = functools.partial(upper_scaled_power, power=upper_power, span=span)
    lower = functools.partial(lower_scaled_power, power=lower_power, span=span)
    return _difference(param, positive, negative, maximum, minimum, upper, lower)


def full_multiplicative(
    param: tf.Tensor,
    positive: tf.Tensor,
    negative: tf.Tensor,
    maximum: Limit | None,
    minimum: Limit | None,
) -> tf.Tensor:
    """Both sides of the multiplicative bounds."""
    sides = upper_multiplicative, lower_multiplicative
    return _difference(param, positive, negative, maximum, minimum, *sides)


def full_scaled_multiplicative(
    param: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, maximum: Limit, minimum: Limit
) -> tf.Tensor:
    """Both sides of the scaled multiplicative bounds; the span is that of the limits."""
    span = _span(maximum, minimum)
    upper = functools.partial(upper_scaled_multiplicative, span=span)
    lower = functools.partial(lower_scaled_multiplicative, span=span)
    return _difference(param, positive, negative, maximum, minimum, upper, lower)


def full_sharp(
    param: tf.Tensor,
    positive: tf.Tensor,
    negative: tf.Tensor,
    maximum: Limit | None,
    minimum: Limit | None,
) -> tf.Tensor:
    """Both sides of the sharp bounds."""
    return _difference(param, positive, negative, maximum, minimum, upper_sharp, lower_sharp)


def _powered(distance: tf.Tensor, power: float, update: tf.Tensor) -> tf.Tensor:
    if isinstance(power, (int, float)) and power < 0:
        raise ValueError(f"the power of a bound is {power}; expected 0 or more.")
    inside = distance >= 0.0
    factor = tf.where(inside, distance, tf.ones_like(distance)) ** power
    return tf.where(inside, factor * update, tf.zeros_like(update))


def _span(maximum: Limit | None, minimum: Limit | None) -> Limit:
    if maximum is None or minimum is None:
        raise ValueError(
            f"a scaled bound got the maximum {maximum} and the minimum {minimum}; it is scaled by "
            "their distance, so give both."
        )
    return maximum - minimum


def _difference(
    param: tf.Tensor,
    positive: tf.Tensor,
    negative: tf.Tensor,
    maximum: Limit | None,
    minimum: Limit | None,
    upper: Callable[..., Any],
    lower: Callable[..., Any],
) -> tf.Tensor:
    gain = positive if maximum is None else upper(param, positive, maximum)
    loss = negative if minimum is None else lower(param, negative, minimum)
    return gain - loss
