"""The kernel of recursive least squares: what a block of rows does to a covariance.

Rows `X` `[B, n]` with errors `E` `[B, m]` of a linear map `W` `[n, m]` are absorbed as

    G = P X^T        Q = (lambda / kappa) I + X G = C C^T        K = G Q^-1
    W <- W - K E     V = C^-1 G^T        P <- (P - V^T V) / lambda

after which `W` minimises

    1/2 sum lambda^age kappa |X W - Y|^2 + 1/2 lambda^n alpha |W - W_0|^2

and `P` is the inverse of that cost's curvature. Every strategy of `learning.rls` is this update
with rows of its own.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

NUMERICS = ("block", "potter", "information")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Constants of recursive least squares, and the form in which it is computed.

    Attributes:
      forgetting: lambda, in (0, 1]: what earlier rows count after every further block.
      row_weight: kappa, above 0: of every row, the inverse of its noise variance.
      alpha: above 0: penalty on the way from the first weights; P is I / alpha at first.
      process_noise: q, 0 or more: P grows by `q I` after every block, the random walk of a Kalman
        filter's weights.
      numerics: `block`, Cholesky factors of P's update; `potter`, a square root of P, which cannot
        lose positivity and has twice the precision (Potter; Andrews 1968 for blocks);
        `information`, the inverse of P, for blocks of more rows than P has.
      regularising_rows: with forgetting below 1, rows of the identity that every block absorbs
        too, in turn, so that directions without data keep the penalty alpha instead of losing it.
      cap_trace: P is scaled down to its first trace where it has more; this bounds P, but only
        potter keeps it positive in single precision.
      averaging: of strategy `grad`: P is the inverse of alpha and a running mean of the rows'
        autocorrelation, so that of a block of B rows each counts `(1 - forgetting) row_weight / B`,
        and it preconditions the mean gradient of a row.

    Raises:
      ValueError: for constants outside of their range.
    """

    forgetting: float = 1.0
    row_weight: float = 1.0
    alpha: float = 1.0
    process_noise: float = 0.0
    numerics: str = "block"
    regularising_rows: int = 0
    cap_trace: bool = False
    averaging: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.forgetting <= 1.0:
            raise ValueError(
                f"forgetting is {self.forgetting}; expected more than 0 and at most 1, where 1 "
                "never forgets."
            )
        for name in ("row_weight", "alpha"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0.")
        if not self.process_noise >= 0.0:
            raise ValueError(f"process_noise is {self.process_noise}; expected 0 or more.")
        if self.numerics not in NUMERICS:
            raise ValueError(
                f"numerics is {self.numerics!r}; expected one of {', '.join(NUMERICS)}."
            )
        if self.regularising_rows < 0:
            raise ValueError(f"regularising_rows is {self.regularising_rows}; expected 0 or more.")
        if self.regularising_rows and self.forgetting == 1.0:
            raise ValueError(
                "regularising_rows make up for forgetting, and forgetting is 1; leave one of them."
            )
        if self.averaging and self.forgetting == 1.0:
            raise ValueError("averaging is over a time that forgetting sets, and forgetting is 1.")
        if self.cap_trace and self.numerics == "information":
            raise ValueError(
                "cap_trace needs P, which numerics=information does not have; use block or potter, "
                "or regularising_rows."
            )


class Absorbed(NamedTuple):
    """A block after it was absorbed.

    Attributes:
      matrices: of every part, as they were, updated.
      gains: K of every part, `[..., n, B]`.
      remaining: of every part, what the block's errors shrink by: `E+ = remaining E`,
        `[..., B, B]`.
      least: the smallest `x P x^T` of its rows that are not 0, `[]`.
      positive: whether none is below 0, by more than rounds off in `lambda / kappa + x P x^T`;
        otherwise P is no covariance any more.
    """

    matrices: tuple[tf.Tensor, ...]
    gains: tuple[tf.Tensor, ...]
    remaining: tuple[tf.Tensor, ...]
    least: tf.Tensor
    positive: tf.Tensor


class _Projection(NamedTuple):
    """A block as P sees it."""

    gain: tf.Tensor  # P X^T, [..., n, B]
    quadratic: tf.Tensor  # X P X^T, [..., B, B]
    root: tf.Tensor | None  # S^T X^T of P = S S^T, [..., n, B]


def initial(kernel: Kernel, shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    """What stands for P before the first row: P, its root or its inverse, `[..., n, n]`."""
    *batch, _, size = shape
    scale = {"block": 1.0 / kernel.alpha, "potter": kernel.alpha**-0.5, "information": kernel.alpha}
    return scale[kernel.numerics] * tf.eye(size, batch_shape=batch, dtype=dtype)


def covariance(kernel: Kernel, matrix: tf.Tensor) -> tf.Tensor:
    """P, `[..., n, n]`."""
    if kernel.numerics == "block":
        return matrix
    if kernel.numerics == "potter":
        return tf.matmul(matrix, matrix, transpose_b=True)
    return _solve_spd(matrix, _identity_like(matrix))


def trace(kernel: Kernel, matrix: tf.Tensor) -> tf.Tensor:
    """Trace of P, `[]`; of a stack of them their sum."""
    if kernel.numerics == "potter":
        return tf.reduce_sum(matrix**2)
    return tf.reduce_sum(tf.linalg.trace(covariance(kernel, matrix)))


def precondition(kernel: Kernel, matrix: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """`P g` of a gradient `[..., n, m]`."""
    if kernel.numerics == "block":
        return tf.matmul(matrix, gradient)
    if kernel.numerics == "potter":
        return tf.matmul(matrix, tf.matmul(matrix, gradient, transpose_a=True))
    return _solve_spd(matrix, gradient)


def absorb(
    kernel: Kernel,
    matrices: Sequence[tf.Tensor],
    rows: Sequence[tf.Tensor],
    step: tf.Tensor,
    joint: bool = False,
) -> Absorbed:
    """Absorbs one block of rows.

    Args:
      kernel: the constants.
      matrices: `[..., n, n]` for each part of the weights.
      rows: `[..., B, n]` for each part; leading dimensions are parts too, of one size.
      step: how many blocks were absorbed before, `[]`.
      joint: whether all parts explain the same errors, as the groups of a decoupled Kalman filter
        do (Puskorius & Feldkamp 1994): they share Q, to which each adds its own. Otherwise each is
        a problem of its own.
    """
    forgetting = kernel.forgetting
    if kernel.regularising_rows:
        matrices = [_regularised(kernel, matrix, step) for matrix in matrices]
        forgetting = 1.0
    noise = forgetting / kernel.row_weight
    seen = [_project(kernel, *pair) for pair in zip(matrices, rows, strict=True)]
    quadratic = [_joined(each.quadratic) if joint else each.quadratic for each in seen]
    shared = tf.add_n(quadratic) if joint else None
    updated, gains, remaining = [], [], []
    for matrix, x, own, quad in zip(matrices, rows, seen, quadratic, strict=True):
        innovation = _innovation(quad if shared is None else shared, noise)
        rest = None if shared is None else innovation - own.quadratic
        factor = _cholesky(innovation)
        half = _solve_lower(factor, tf.linalg.matrix_transpose(own.gain))  # V, [..., B, n]
        gains.append(tf.linalg.matrix_transpose(_solve_lower(factor, half, adjoint=True)))
        new = _downdated(kernel, matrix, x, own, factor, half, noise, rest)
        updated.append(_relaxed(kernel, _forgotten(kernel, new, forgetting)))
        remaining.append(noise * _solve_spd_factor(factor, _identity_like(factor)))
    least = tf.reduce_min([_least(tf.linalg.diag_part(each.quadratic)) for each in seen])
    rounding = noise * least.dtype.as_numpy_dtype(np.finfo(least.dtype.as_numpy_dtype).eps)
    return Absorbed(tuple(updated), tuple(gains), tuple(remaining), least, least >= -rounding)


def _project(kernel: Kernel, matrix: tf.Tensor, rows: tf.Tensor) -> _Projection:
    if kernel.numerics == "potter":
        root = tf.matmul(matrix, rows, transpose_a=True, transpose_b=True)
        return _Projection(tf.matmul(matrix, root), tf.matmul(root, root, transpose_a=True), root)
    if kernel.numerics == "block":
        gain = tf.matmul(matrix, rows, transpose_b=True)
    else:
        gain = _solve_spd(matrix, tf.linalg.matrix_transpose(rows))
    return _Projection(gain, tf.matmul(rows, gain), None)


def _downdated(
    kernel: Kernel,
    matrix: tf.Tensor,
    rows: tf.Tensor,
    own: _Projection,
    factor: tf.Tensor,
    half: tf.Tensor,
    noise: float,
    rest: tf.Tensor | None,
) -> tf.Tensor:
    """What stands for `P - G Q^-1 G^T`; `rest` is `Q - X G` where that is not the noise alone."""
    if kernel.numerics == "block":
        return matrix - tf.matmul(half, half, transpose_a=True)
    if kernel.numerics == "potter":
        root = _cholesky(rest) if rest is not None else noise**0.5 * _identity_like(factor)
        inner = _solve_lower(factor + root, tf.linalg.matrix_transpose(own.root))
        return matrix - tf.matmul(half, inner, transpose_a=True)
    if rest is None:
        return matrix + tf.matmul(rows, rows, transpose_a=True) / noise
    weighted = _solve_lower(_cholesky(rest), rows)
    return matrix + tf.matmul(weighted, weighted, transpose_a=True)


def _forgotten(kernel: Kernel, matrix: tf.Tensor, forgetting: float) -> tf.Tensor:
    """What stands for `P / lambda`."""
    if forgetting == 1.0:
        return matrix
    power = {"block": -1.0, "potter": -0.5, "information": 1.0}[kernel.numerics]
    return forgetting**power * matrix


def _relaxed(kernel: Kernel, matrix: tf.Tensor) -> tf.Tensor:
    """After a block: P grows by the process noise, and is kept below its first trace."""
    if kernel.process_noise:
        noisy = covariance(kernel, matrix) + kernel.process_noise * _identity_like(matrix)
        if kernel.numerics == "block":
            matrix = noisy
        elif kernel.numerics == "potter":
            matrix = tf.linalg.cholesky(noisy)
        else:
            matrix = _solve_spd(noisy, _identity_like(matrix))
    if kernel.cap_trace:
        cap = matrix.shape[-1] / kernel.alpha
        if kernel.numerics == "block":
            scale = tf.minimum(cap / tf.linalg.trace(matrix), 1.0)
        else:
            scale = tf.minimum(cap / tf.reduce_sum(matrix**2, axis=[-2, -1]), 1.0) ** 0.5
        matrix *= scale[..., tf.newaxis, tf.newaxis]
    return matrix


def _regularised(kernel: Kernel, matrix: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """What stands for P after forgetting and some rows of the identity, which have no error.

    Of the penalty alpha, every block forgets `(1 - lambda) alpha I`; in a cycle through all rows
    that much is put back.
    """
    size, count = matrix.shape[-1], kernel.regularising_rows
    weight = (1.0 - kernel.forgetting) * kernel.alpha * size / count
    chosen = tf.math.floormod(tf.cast(step, tf.int32) * count + tf.range(count), size)
    rows = tf.one_hot(chosen, size, dtype=matrix.dtype)
    rows = tf.broadcast_to(rows, [*matrix.shape[:-2], count, size])
    noise = kernel.forgetting / weight
    seen = _project(kernel, matrix, rows)
    factor = _cholesky(_innovation(seen.quadratic, noise))
    half = _solve_lower(factor, tf.linalg.matrix_transpose(seen.gain))
    new = _downdated(kernel, matrix, rows, seen, factor, half, noise, None)
    return _forgotten(kernel, new, kernel.forgetting)


def _least(squares: tf.Tensor) -> tf.Tensor:
    """The smallest, without those that are 0 as of rows that do not count; 0 where all are."""
    largest = squares.dtype.max
    found = tf.reduce_min(tf.where(squares == 0.0, largest, squares))
    return tf.where(found == largest, tf.zeros_like(found), found)


def _joined(quadratic: tf.Tensor) -> tf.Tensor:
    """The sum over leading dimensions, `[B, B]`."""
    return tf.reduce_sum(quadratic, axis=list(range(quadratic.shape.rank - 2)))


def _innovation(quadratic: tf.Tensor, noise: float) -> tf.Tensor:
    return quadratic + noise * _identity_like(quadratic)


def _identity_like(matrix: tf.Tensor) -> tf.Tensor:
    return tf.eye(matrix.shape[-1], batch_shape=matrix.shape[:-2], dtype=matrix.dtype)


def _cholesky(matrix: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(matrix) if matrix.shape[-1] == 1 else tf.linalg.cholesky(matrix)


def _solve_lower(factor: tf.Tensor, x: tf.Tensor, adjoint: bool = False) -> tf.Tensor:
    """`C^-1 x`, or `C^-T x`."""
    if factor.shape[-1] == 1:
        return x / factor
    batch = x.shape[:-2]
    factor = tf.broadcast_to(factor, [*batch, *factor.shape[-2:]])
    return tf.linalg.triangular_solve(factor, x, adjoint=adjoint)


def _solve_spd_factor(factor: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    return _solve_lower(factor, _solve_lower(factor, x), adjoint=True)


def _solve_spd(matrix: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """`A^-1 x` of a positive definite matrix."""
    return _solve_spd_factor(_cholesky(matrix), x)
