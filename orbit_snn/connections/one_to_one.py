"""Connection in which every unit receives from one input of its own."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.connections.affine import presynaptic, trained, variables
from orbit_snn.connections.base import Connection
from orbit_snn.connections.dense import initial_weights


class OneToOne(Connection):
    """`I_j = x_j w_j + b_j`, with `w` of shape `[N]`.

    The map and its gradients are elementwise. Where a learning rule has something for every synapse
    of a unit, it is a matrix `[N, N]` that is 0 off the diagonal, or the one row of `own_rows`.
    Penalties on weights (`L1`, `L2`) leave all vectors out, and so this kernel.

    Args:
      units: N, and how many inputs there are.
      bias: add a trained bias, at first 0.
      initializer: see `connections.dense.initial_weights`, of weights `[1, N]`; by default inputs
        pass as they are.
      gain: factor on the initial weights.
      seed: of the initial weights.
      trainable: whether learning rules may change it.
      dtype: of the weights.
      name: of the module.

    Raises:
      ValueError: for fewer than 1 unit.
    """

    kernel: tf.Variable
    bias: tf.Variable | None

    def __init__(
        self,
        units: int,
        bias: bool = False,
        initializer: Any = "ones",
        gain: float = 1.0,
        seed: int = 0,
        trainable: bool = True,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if units < 1:
            raise ValueError(f"OneToOne got {units} units; give it 1 or more.")
        self.inputs = self.units = int(units)
        values = initial_weights(initializer, (1, units), gain, seed, dtype)[0]
        with self.name_scope:
            self.kernel, self.bias = variables(values, units if bias else 0, trainable)

    def weights(self) -> tuple[tf.Tensor, ...]:
        """The kernel `[N]` and the bias `[N]`."""
        kernel = tf.convert_to_tensor(self.kernel)
        return (kernel,) if self.bias is None else (kernel, tf.convert_to_tensor(self.bias))

    def transposed(self) -> tuple[tf.Tensor, ...]:
        """The kernel, `[N]`."""
        return (tf.convert_to_tensor(self.kernel),)

    def __call__(self, x: tf.Tensor, weights: tuple[tf.Tensor, ...] | None = None) -> tf.Tensor:
        """`x w + b`, `[..., N]`.

        Raises:
          ValueError: for another number of inputs.
        """
        if x.shape[-1] != self.units:
            raise ValueError(
                f"OneToOne got inputs of shape {x.shape}; expected [..., {self.units}], one for "
                "each unit."
            )
        kernel, *bias = self.weights() if weights is None else weights
        return x * kernel + bias[0] if bias else x * kernel

    def transpose(
        self, dcurrent: tf.Tensor, transposed: tuple[tf.Tensor, ...] | None = None
    ) -> tf.Tensor:
        """`dcurrent w`, `[..., N]`."""
        return dcurrent * (self.transposed() if transposed is None else transposed)[0]

    def weight_gradient(self, x: tf.Tensor, dcurrent: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """One sum for the kernel, `[N]`, and one for the bias, `[N]`."""
        if not self.kernel.trainable:
            return ()
        every = list(range(x.shape.rank - 1))
        kernel = tf.reduce_sum(x * dcurrent, axis=every)
        return (kernel,) if self.bias is None else (kernel, tf.reduce_sum(dcurrent, axis=every))

    def presynaptic(self, x: tf.Tensor) -> tf.Tensor:
        """The inputs and, for a bias, 1."""
        return presynaptic(x, self.kernel, self.bias)

    def synapses(self, products: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The diagonal of all rows but the bias's; the bias's."""
        if not self.kernel.trainable:
            return ()
        kernel = tf.linalg.diag_part(products[: self.units])
        return (kernel,) if self.bias is None else (kernel, products[self.units])

    def by_synapse(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """A diagonal matrix and, below it, the bias."""
        if not self.kernel.trainable:
            return tf.zeros([0, self.units], self.kernel.dtype)
        kernel, *bias = values
        rows = [tf.linalg.diag(kernel), *[each[tf.newaxis] for each in bias]]
        return tf.concat(rows, axis=0)

    def own_rows(self) -> tf.Tensor | None:
        """The unit's own input and, below it, the bias's row."""
        if not self.kernel.trainable:
            return None
        own = tf.range(self.units, dtype=tf.int64)[tf.newaxis]
        if self.bias is None:
            return own
        return tf.concat([own, tf.fill([1, self.units], tf.cast(self.units, tf.int64))], axis=0)

    @property
    def parameters(self) -> tuple[tf.Variable, ...]:
        """The kernel and the bias."""
        return trained(self.kernel, self.bias)
