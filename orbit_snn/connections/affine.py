"""What connections share whose weights are, in effect, one matrix and a bias."""

import abc
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from orbit_snn.connections.base import Connection


class Affine(Connection):
    """`I = x W + b`, with `W` `[F, N]` made of the variable `kernel`, of whatever shape.

    Args:
      inputs: F.
      units: N.
      autapses: allow a neuron's connection to itself.
      name: of the module.

    Raises:
      ValueError: for sizes below 1, or `autapses=False` where inputs and units differ.
    """

    kernel: tf.Variable
    bias: tf.Variable | None

    def __init__(self, inputs: int, units: int, autapses: bool, name: str | None):
        super().__init__(name=name)
        if inputs < 1 or units < 1:
            raise ValueError(
                f"{type(self).__name__} got {inputs} inputs and {units} units; both must be 1 or "
                "more."
            )
        if not autapses and inputs != units:
            raise ValueError(
                f"autapses=False is for a population onto itself; got {inputs} inputs onto "
                f"{units} units."
            )
        self.inputs = int(inputs)
        self.units = int(units)

    def _make(self, values: tf.Tensor, bias: bool, trainable: bool) -> None:
        """The kernel with these values, and a bias of 0 if there is one."""
        with self.name_scope:
            self.kernel, self.bias = variables(values, self.units if bias else 0, trainable)

    @abc.abstractmethod
    def _matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        """Of what has the kernel's shape, the matrix `[F, N]`; 0 where there is no synapse."""

    @abc.abstractmethod
    def _of_matrix(self, matrix: tf.Tensor) -> tf.Tensor:
        """Of a matrix `[F, N]`, what belongs to the kernel, in its shape."""

    def weights(self) -> tuple[tf.Tensor, ...]:
        """The matrix `[F, N]`, 0 where there is no synapse, and the bias `[N]`."""
        matrix = self._matrix(tf.convert_to_tensor(self.kernel))
        return (matrix,) if self.bias is None else (matrix, tf.convert_to_tensor(self.bias))

    def transposed(self) -> tuple[tf.Tensor, ...]:
        """The matrix's transpose, `[N, F]`: in a compiled loop it is made once, not every step."""
        return (tf.transpose(self.weights()[0]),)

    def __call__(self, x: tf.Tensor, weights: tuple[tf.Tensor, ...] | None = None) -> tf.Tensor:
        """`x W + b`, `[..., N]`."""
        matrix, *bias = self.weights() if weights is None else weights
        current = _product(x, matrix)
        return current + bias[0] if bias else current

    def transpose(
        self, dcurrent: tf.Tensor, transposed: tuple[tf.Tensor, ...] | None = None
    ) -> tf.Tensor:
        """`dcurrent W^T`, `[..., F]`."""
        return _product(dcurrent, (self.transposed() if transposed is None else transposed)[0])

    def weight_gradient(self, x: tf.Tensor, dcurrent: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """One product, of which the kernel takes its share, and one sum for the bias, `[N]`."""
        if not self.kernel.trainable:
            return ()
        x, dcurrent = _rows(x), _rows(dcurrent)
        kernel = self._of_matrix(_outer(x, dcurrent))
        return (kernel,) if self.bias is None else (kernel, tf.reduce_sum(dcurrent, axis=0))

    def presynaptic(self, x: tf.Tensor) -> tf.Tensor:
        """The inputs and, for a bias, 1."""
        return presynaptic(x, self.kernel, self.bias)

    def synapses(self, products: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """What belongs to the kernel of all rows but the bias's; the bias's."""
        if not self.kernel.trainable:
            return ()
        kernel = self._of_matrix(products[: self.inputs])
        return (kernel,) if self.bias is None else (kernel, products[self.inputs])

    def by_synapse(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """The matrix and, below it, the bias."""
        if not self.kernel.trainable:
            return tf.zeros([0, self.units], self.kernel.dtype)
        kernel, *bias = values
        return tf.concat([self._matrix(kernel), *[each[tf.newaxis] for each in bias]], axis=0)

    @property
    def parameters(self) -> tuple[tf.Variable, ...]:
        """The kernel and the bias."""
        return trained(self.kernel, self.bias)


def variables(
    values: tf.Tensor, biases: int, trainable: bool
) -> tuple[tf.Variable, tf.Variable | None]:
    """A kernel with these values; so many biases, at first 0, or None."""
    kernel = tf.Variable(values, trainable=trainable, name="kernel")
    if not biases:
        return kernel, None
    return kernel, tf.Variable(tf.zeros([biases], values.dtype), trainable=trainable, name="bias")


def trained(kernel: tf.Variable, bias: tf.Variable | None) -> tuple[tf.Variable, ...]:
    """Those of a connection's variables that learning rules may change."""
    if not kernel.trainable:
        return ()
    return (kernel,) if bias is None else (kernel, bias)


def presynaptic(x: tf.Tensor, kernel: tf.Variable, bias: tf.Variable | None) -> tf.Tensor:
    """Inputs `[..., F]` and, for a bias, 1; nothing where nothing is trained."""
    if not kernel.trainable:
        return x[..., :0]
    return x if bias is None else tf.concat([x, tf.ones_like(x[..., :1])], axis=-1)


def off_diagonal(units: int, dtype: tf.DType) -> np.ndarray:
    """0 where a neuron meets itself and 1 elsewhere, `[N, N]`."""
    return 1.0 - np.eye(units, dtype=tf.as_dtype(dtype).name)


def entries(rows: tf.Tensor) -> tf.Tensor:
    """Row and column in a matrix `[P, N]` of each of `rows` `[M, N]`, one column a neuron."""
    columns = tf.broadcast_to(tf.range(rows.shape[1], dtype=rows.dtype), rows.shape)
    return tf.stack([rows, columns], axis=-1)


def scattered(values: tf.Tensor, rows: tf.Tensor, count: int) -> tf.Tensor:
    """Values `[M, N]` in a matrix `[count, N]`, at `rows` `[M, N]`; 0 elsewhere."""
    shape = [count, rows.shape[1]]
    found = tf.scatter_nd(entries(rows), values, tf.constant(shape, rows.dtype))
    return tf.reshape(found, shape)


def _rows(x: tf.Tensor) -> tf.Tensor:
    """`[..., F]` to `[rows, F]`."""
    return tf.reshape(x, [-1, x.shape[-1]])


def _outer(x: tf.Tensor, dcurrent: tf.Tensor) -> tf.Tensor:
    """`x^T dcurrent`; of one row elementwise, which a compiler fuses with what is done to it."""
    if x.shape[0] == 1:
        return tf.transpose(x) * dcurrent
    return tf.matmul(x, dcurrent, transpose_a=True)


def _product(x: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """`x` times a matrix as one product, whatever the number of leading dimensions of `x`."""
    return tf.reshape(tf.matmul(_rows(x), matrix), [*x.shape[:-1], matrix.shape[-1]])
