"""All-to-all connection."""

from typing import Any

import tensorflow as tf
import tf_keras

from orbit_snn.connections.affine import Affine, off_diagonal


def initial_weights(
    initializer: Any, shape: tuple[int, ...], gain: float, seed: int, dtype: tf.DType
) -> tf.Tensor:
    """Weights drawn by name, from `seed` alone.

    Args:
      initializer: `normal_fan_in` (N(0, 1) / sqrt(fan in), the choice of Bellec et al. 2020),
        `standard_normal` (N(0, 1)), any
        name that tf_keras knows (`glorot_uniform`, `he_normal`, `orthogonal`, `zeros`, ...), or a
        function `(shape, dtype) -> tensor`.
      shape: of the weights, inputs first.
      gain: the weights are multiplied by it.
      seed: of the draw.
      dtype: of the weights.

    Raises:
      ValueError: for an unknown name, a function that gives another shape, or a gain out of the
        range of the dtype.
    """
    if not abs(gain) <= float(dtype.max):
        raise ValueError(f"gain is {gain}; expected a number in the range of {dtype.name}.")
    if callable(initializer):
        values = tf.cast(initializer(shape, dtype), dtype)
        if values.shape != tuple(shape):
            raise ValueError(
                f"the initializer gave weights of shape {tuple(values.shape)}; expected "
                f"{tuple(shape)}, inputs by units."
            )
        return gain * values
    if initializer == "normal_fan_in":
        draw = tf_keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal", seed=seed)
        return gain * draw(shape, dtype)
    if initializer == "standard_normal":
        return gain * tf_keras.initializers.RandomNormal(stddev=1.0, seed=seed)(shape, dtype)
    try:
        config = {"seed": seed} if initializer not in ("zeros", "ones", "identity") else {}
        draw = tf_keras.initializers.get({"class_name": initializer, "config": config})
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"initializer is {initializer!r}; expected normal_fan_in, standard_normal or a name "
            "of tf_keras.initializers, such as glorot_uniform, he_normal, orthogonal or zeros."
        ) from error
    return gain * draw(shape, dtype)


class Dense(Affine):
    """`I = x W + b`, with `W` of shape `[F, N]`.

    Args:
      inputs: F.
      units: N.
      bias: add a trained bias, at first 0.
      autapses: allow a neuron's connection to itself; recurrent connections say False.
      initializer: see `initial_weights`.
      gain: factor on the initial weights.
      seed: of the initial weights.
      trainable: whether learning rules may change it.
      dtype: of the weights.
      name: of the module.

    Raises:
      ValueError: for sizes below 1, or `autapses=False` where inputs and units differ.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        bias: bool = False,
        autapses: bool = True,
        initializer: Any = "normal_fan_in",
        gain: float = 1.0,
        seed: int = 0,
        trainable: bool = True,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(inputs, units, autapses, name)
        self._mask = None if autapses else off_diagonal(units, dtype)
        values = initial_weights(initializer, (inputs, units), gain, seed, dtype)
        self._make(self._masked(values), bias, trainable)

    def _masked(self, values: tf.Tensor) -> tf.Tensor:
        return values if self._mask is None else values * self._mask

    def _matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        """The kernel, without autapses where they are forbidden."""
        return self._masked(kernel)

    def _of_matrix(self, matrix: tf.Tensor) -> tf.Tensor:
        """The matrix, without autapses where they are forbidden."""
        return self._masked(matrix)
