"""All-to-all connection within a population, but for autapses."""

from typing import Any

import tensorflow as tf

from orbit_snn.connections.affine import Affine, off_diagonal
from orbit_snn.connections.dense import initial_weights


class Lateral(Affine):
    """`I_j = sum over i != j of x_i W_ij + b_j`, with `W` of shape `[N, N]`.

    The diagonal of the kernel is 0, and no learning rule changes that.

    Args:
      units: N.
      bias: add a trained bias, at first 0.
      initializer: see `connections.dense.initial_weights`, of a kernel `[N, N]`.
      gain: factor on the initial weights.
      seed: of the initial weights.
      trainable: whether learning rules may change it.
      dtype: of the weights.
      name: of the module.

    Raises:
      ValueError: for fewer than 1 unit.
    """

    def __init__(
        self,
        units: int,
        bias: bool = False,
        initializer: Any = "normal_fan_in",
        gain: float = 1.0,
        seed: int = 0,
        trainable: bool = True,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(units, units, False, name)
        self._mask = off_diagonal(units, dtype)
        values = initial_weights(initializer, (units, units), gain, seed, dtype)
        self._make(values * self._mask, bias, trainable)

    def _matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        return kernel * self._mask

    def _of_matrix(self, matrix: tf.Tensor) -> tf.Tensor:
        return matrix * self._mask
