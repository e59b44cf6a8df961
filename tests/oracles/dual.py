"""Forward-mode automatic differentiation: a value and its derivatives along P directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Dual:
    """A float64 array `value` of shape S and its `tangent` of shape [P, *S] (None: constant)."""

    __array_ufunc__ = None  # lets `ndarray + Dual` reach `Dual.__radd__`

    def __init__(self, value: Any, tangent: np.ndarray | None = None) -> None:
        """Store the value (any array-like) and the tangent, whose leading axis is the direction."""
        self.value = np.asarray(value, np.float64)
        if tangent is not None and tangent.shape[1:] != self.value.shape:
            raise ValueError(f"tangent {tangent.shape} does not fit value {self.value.shape}")
        self.tangent = tangent

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value, without the tangent axis."""
        return self.value.shape

    def __repr__(self) -> str:
        """Value and number of directions."""
        directions = 0 if self.tangent is None else len(self.tangent)
        return f"Dual({self.value!r}, directions={directions})"

    def __add__(self, other: Any) -> Dual:
        """Sum."""
        other = dual(other)
        return chain(self.value + other.value, (1.0, self), (1.0, other))

    def __neg__(self) -> Dual:
        """Negative."""
        return chain(-self.value, (-1.0, self))

    def __sub__(self, other: Any) -> Dual:
        """Difference."""
        return self + (-dual(other))

    def __rsub__(self, other: Any) -> Dual:
        """Difference, constant first."""
        return (-self) + other

    def __mul__(self, other: Any) -> Dual:
        """Elementwise product."""
        other = dual(other)
        return chain(self.value * other.value, (other.value, self), (self.value, other))

    __radd__ = __add__
    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Dual:
        """Elementwise quotient."""
        other = dual(other)
        quotient = self.value / other.value
        return chain(quotient, (1.0 / other.value, self), (-quotient / other.value, other))

    def __rtruediv__(self, other: Any) -> Dual:
        """Elementwise quotient, constant first."""
        return dual(other) / self

    def __pow__(self, exponent: float) -> Dual:
        """Power with a constant exponent."""
        return chain(self.value**exponent, (exponent * self.value ** (exponent - 1), self))

    def __matmul__(self, other: Any) -> Dual:
        """See `matmul`."""
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Dual:
        """See `matmul`, constant first."""
        return matmul(other, self)

    def __getitem__(self, index: Any) -> Dual:
        """Index the value; every direction follows."""
        index = index if isinstance(index, tuple) else (index,)
        tangent = self.tangent
        if tangent is not None:
            tangent = np.stack([direction[index] for direction in tangent])
        return Dual(self.value[index], tangent)

    def sum(self, axis: int | None = None) -> Dual:
        """Sum over one axis of the value, or over all of them."""
        axes = tuple(range(self.value.ndim)) if axis is None else (axis % self.value.ndim,)
        tangent = self.tangent
        if tangent is not None:
            tangent = tangent.sum(axis=tuple(a + 1 for a in axes))
        return Dual(self.value.sum(axis=axes), tangent)

    def mean(self, axis: int | None = None) -> Dual:
        """Mean over one axis of the value, or over all of them."""
        count = self.value.size if axis is None else self.value.shape[axis]
        return self.sum(axis) / count


def dual(x: Any) -> Dual:
    """Return `x` if it is a Dual, else a constant Dual of it."""
    return x if isinstance(x, Dual) else Dual(x)


def chain(value: Any, *terms: tuple[Any, Dual]) -> Dual:
    """Elementwise chain rule: a Dual of `value` with tangent sum of partial * tangent of x.

    Args:
        value: result of the elementwise function, shape S.
        *terms: pairs (partial, x): partial broadcasts to S, x is an argument that broadcasts to S.
    """
    value = np.asarray(value, np.float64)
    tangent = None
    for partial, x in terms:
        if x.tangent is None:
            continue
        ones = (1,) * (value.ndim - x.value.ndim)
        term = partial * x.tangent.reshape(len(x.tangent), *ones, *x.value.shape)
        term = np.broadcast_to(term, (len(x.tangent), *value.shape))
        tangent = term if tangent is None else tangent + term
    return Dual(value, tangent)


def variables(values: dict[str, Any]) -> dict[str, Dual]:
    """Make independent variables: every entry of every array gets its own tangent direction.

    Args:
        values: arrays by name, any shapes, P entries in all.

    Returns:
        Duals by name; the directions are ordered as the names and, within a name, in C order.
    """
    arrays = {name: np.asarray(value, np.float64) for name, value in values.items()}
    identity = np.eye(sum(array.size for array in arrays.values()))
    result, start = {}, 0
    for name, array in arrays.items():
        columns = identity[:, start : start + array.size]
        result[name] = Dual(array, columns.reshape(-1, *array.shape))
        start += array.size
    return result


def gradients(scalar: Dual, of: dict[str, Dual]) -> dict[str, np.ndarray]:
    """Split the tangent of a scalar into one gradient per variable.

    Args:
        scalar: a Dual of shape ().
        of: what `variables` returned.

    Returns:
        Arrays by name, each of the shape of its variable.
    """
    if scalar.shape != ():
        raise ValueError(f"a scalar is needed, not shape {scalar.shape}")
    total = sum(x.value.size for x in of.values())
    flat = np.zeros(total) if scalar.tangent is None else scalar.tangent
    result, start = {}, 0
    for name, x in of.items():
        result[name] = flat[start : start + x.value.size].reshape(x.shape)
        start += x.value.size
    return result


def stop_gradient(x: Any) -> Dual:
    """Keep the value, drop the tangent."""
    return Dual(dual(x).value)


def exp(x: Any) -> Dual:
    """Elementwise exponential."""
    x = dual(x)
    value = np.exp(x.value)
    return chain(value, (value, x))


def log(x: Any) -> Dual:
    """Elementwise natural logarithm."""
    x = dual(x)
    return chain(np.log(x.value), (1.0 / x.value, x))


def tanh(x: Any) -> Dual:
    """Elementwise hyperbolic tangent."""
    x = dual(x)
    value = np.tanh(x.value)
    return chain(value, (1.0 - value**2, x))


def where(condition: np.ndarray, x: Any, y: Any) -> Dual:
    """Choose elementwise: x where the (constant) condition holds, else y. All broadcast."""
    condition = np.asarray(condition, bool)
    x, y = dual(x), dual(y)
    value = np.where(condition, x.value, y.value)
    return chain(value, (condition.astype(float), x), ((~condition).astype(float), y))


def matmul(x: Any, y: Any) -> Dual:
    """Matrix product [A, M] x [M, C] -> [A, C]; both arguments have two axes."""
    x, y = dual(x), dual(y)
    if x.value.ndim != 2 or y.value.ndim != 2:
        raise ValueError(f"matmul of shapes {x.shape} and {y.shape}")
    tangent = None if x.tangent is None else x.tangent @ y.value
    if y.tangent is not None:
        term = x.value @ y.tangent
        tangent = term if tangent is None else tangent + term
    return Dual(x.value @ y.value, tangent)


def _tangents(xs: Sequence[Dual]) -> list[np.ndarray] | None:
    """Tangents of all, zeros where one is constant, None where all are."""
    directions = next((len(x.tangent) for x in xs if x.tangent is not None), None)
    if directions is None:
        return None
    return [np.zeros((directions, *x.shape)) if x.tangent is None else x.tangent for x in xs]


def stack(xs: Sequence[Any]) -> Dual:
    """Stack T arrays of shape S along a new first axis -> [T, *S]."""
    xs = [dual(x) for x in xs]
    tangents = _tangents(xs)
    value = np.stack([x.value for x in xs])
    return Dual(value, None if tangents is None else np.stack(tangents, axis=1))


def concatenate(xs: Sequence[Any]) -> Dual:
    """Join arrays along their last axis."""
    xs = [dual(x) for x in xs]
    tangents = _tangents(xs)
    value = np.concatenate([x.value for x in xs], axis=-1)
    return Dual(value, None if tangents is None else np.concatenate(tangents, axis=-1))


def log_softmax(x: Any) -> Dual:
    """Logarithm of the softmax over the last axis, [..., K] -> [..., K]."""
    x = dual(x)
    shifted = x - x.value.max(axis=-1, keepdims=True)
    normaliser = log(exp(shifted).sum(axis=-1))
    return shifted - normaliser[..., None]
