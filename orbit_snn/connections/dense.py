"""All-to-all connection."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from orbit_snn.connections.base import Connection, product, rows


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
      ValueError: for an unknown name, or a function that gives another shape.
    """
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


class Dense(Connection):
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
        super().__init__(name=name)
        if inputs < 1 or units < 1:
            raise ValueError(
                f"Dense got {inputs} inputs and {units} units; both must be 1 or more."
            )
        if not autapses and inputs != units:
            raise ValueError(
                f"autapses=False is for a population onto itself; got {inputs} inputs onto "
                f"{units} units."
            )
        self.inputs = int(inputs)
        self.units = int(units)
        self._mask = None if autapses else 1.0 - np.eye(units, dtype=tf.as_dtype(dtype).name)
        values = initial_weights(initializer, (inputs, units), gain, seed, dtype)
        with self.name_scope:
            self.kernel = tf.Variable(self._masked(values), trainable=trainable, name="kernel")
            self.bias = (
                tf.Variable(tf.zeros([units], dtype), trainable, name="bias") if bias else None
            )

    def _masked(self, values: tf.Tensor) -> tf.Tensor:
        return values if self._mask is None else values * self._mask

    def weights(self) -> tuple[tf.Tensor, ...]:
        """The kernel `[F, N]`, without autapses where they are forbidden, and the bias `[N]`."""
        kernel = self._masked(tf.convert_to_tensor(self.kernel))
        return (kernel,) if self.bias is None else (kernel, tf.convert_to_tensor(self.bias))

    def transposed(self) -> tuple[tf.Tensor, ...]:
        """The kernel's transpose, `[N, F]`: in a compiled loop it is made once, not every step."""
        return (tf.transpose(self.weights()[0]),)

    def __call__(self, x: tf.Tensor, weights: tuple[tf.Tensor, ...] | None = None) -> tf.Tensor:
        """`x W + b`, `[..., N]`."""
        kernel, *bias = self.weights() if weights is None else weights
        current = product(x, kernel)
        return current + bias[0] if bias else current

    def transpose(
        self, dcurrent: tf.Tensor, transposed: tuple[tf.Tensor, ...] | None = None
    ) -> tf.Tensor:
        """`dcurrent W^T`, `[..., F]`."""
        return product(dcurrent, (self.transposed() if transposed is None else transposed)[0])

    def weight_gradient(self, x: tf.Tensor, dcurrent: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """One product for the kernel, `[F, N]`, and one sum for the bias, `[N]`."""
        if not self.kernel.trainable:
            return ()
        x, dcurrent = rows(x), rows(dcurrent)
        kernel = self._masked(tf.matmul(x, dcurrent, transpose_a=True))
        return (kernel,) if self.bias is None else (kernel, tf.reduce_sum(dcurrent, axis=0))

    def presynaptic(self, x: tf.Tensor) -> tf.Tensor:
        """The inputs and, for a bias, 1."""
        if not self.kernel.trainable:
            return x[..., :0]
        return x if self.bias is None else tf.concat([x, tf.ones_like(x[..., :1])], axis=-1)

    def synapses(self, products: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """All rows but the bias's, without autapses where they are forbidden; the bias's."""
        if not self.kernel.trainable:
            return ()
        kernel = self._masked(products[: self.inputs])
        return (kernel,) if self.bias is None else (kernel, products[self.inputs])

    def by_synapse(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """The kernel's rows and, below them, the bias."""
        if not self.kernel.trainable:
            return tf.zeros([0, self.units], self.kernel.dtype)
        kernel, *bias = values
        return tf.concat([self._masked(kernel), *[each[tf.newaxis] for each in bias]], axis=0)

    @property
    def parameters(self) -> tuple[tf.Variable, ...]:
        """The kernel and the bias."""
        if not self.kernel.trainable:
            return ()
        return (self.kernel,) if self.bias is None else (self.kernel, self.bias)
