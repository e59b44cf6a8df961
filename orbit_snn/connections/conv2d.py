"""Convolution of images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.connections.affine import presynaptic, trained, variables
from orbit_snn.connections.base import Connection
from orbit_snn.connections.dense import initial_weights

PADDINGS = ("valid", "same")


class Conv2D(Connection):
    """`I[i, j, f] = sum over a, b, c of x[i s + a - p, j s + b - p, c] W[a, b, c, f] + b[f]`.

    Inputs are images `[rows, columns, channels]` and currents `[rows', columns', filters]`, each in
    one dimension, the last index fastest: `[..., F]` and `[..., N]`. All places of a filter share
    its weights, so least squares refuses to train it; what other rules have for every synapse is a
    matrix `[F, N]`, of which a weight gets the sum over its places.

    Args:
      shape: of the images: rows, columns, channels.
      filters: how many.
      kernel_size: rows and columns of the kernel, or one number for both.
      strides: steps from one place to the next, by row and column, or one number for both.
      padding: `valid` has places where the kernel is inside of the image; `same` has
        `ceil(rows / stride)` by `ceil(columns / stride)` of them, with zeros around the image.
      bias: add a trained bias for each filter, at first 0.
      initializer: see `connections.dense.initial_weights`, of a kernel
        `[rows, columns, channels, filters]`.
      gain: factor on the initial weights.
      seed: of the initial weights.
      trainable: whether learning rules may change it.
      dtype: of the weights.
      name: of the module.

    Attributes:
      in_shape: rows, columns, channels.
      out_shape: rows', columns', filters.
      strides: by row and column.
      padding: as given.

    Raises:
      ValueError: for sizes that are no whole numbers of 1 or more, an unknown padding, or a kernel
        that is larger than the image where padding is `valid`.
    """

    shares_weights = True
    kernel: tf.Variable
    bias: tf.Variable | None

    def __init__(
        self,
        shape: Sequence[int],
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        bias: bool = False,
        initializer: Any = "normal_fan_in",
        gain: float = 1.0,
        seed: int = 0,
        trainable: bool = True,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if padding not in PADDINGS:
            raise ValueError(f"padding is {padding!r}; expected one of {', '.join(PADDINGS)}.")
        self.in_shape = _sizes("shape", shape, "three numbers: rows, columns, channels", 3)
        (filters,) = _sizes("filters", filters, "a number", 1)
        size = _sizes("kernel_size", kernel_size, "rows and columns, or a number for both", 2)
        steps = _sizes("strides", strides, "rows and columns, or a number for both", 2)
        rows, columns, channels = self.in_shape
        if padding == "valid" and (size[0] > rows or size[1] > columns):
            raise ValueError(
                f"the kernel is {size[0]} x {size[1]} and the image {rows} x {columns}; make it at "
                "most as large, or use padding='same'."
            )
        axes = [_met(*axis, padding) for axis in zip(self.in_shape, size, steps, strict=False)]
        self.out_shape = (axes[0].shape[1], axes[1].shape[1], filters)
        self.inputs, self.units = math.prod(self.in_shape), math.prod(self.out_shape)
        self._pixels, self._inside = _pixels(axes[0], axes[1], columns)
        self.strides = steps
        self.padding = padding
        values = initial_weights(initializer, (*size, channels, filters), gain, seed, dtype)
        with self.name_scope:
            self.kernel, self.bias = variables(values, filters if bias else 0, trainable)

    def weights(self) -> tuple[tf.Tensor, ...]:
        """The kernel `[kh, kw, c, f]` and the bias `[f]`."""
        kernel = tf.convert_to_tensor(self.kernel)
        return (kernel,) if self.bias is None else (kernel, tf.convert_to_tensor(self.bias))

    def transposed(self) -> tuple[tf.Tensor, ...]:
        """The kernel, `[kh, kw, c, f]`."""
        return (tf.convert_to_tensor(self.kernel),)

    def __call__(self, x: tf.Tensor, weights: tuple[tf.Tensor, ...] | None = None) -> tf.Tensor:
        """The convolution and the bias, `[..., N]`."""
        kernel, *bias = self.weights() if weights is None else weights
        current = tf.nn.conv2d(
            _images(x, self.in_shape), kernel, self.strides, self.padding.upper()
        )
        current = current + bias[0] if bias else current
        return tf.reshape(current, [*x.shape[:-1], self.units])

    def transpose(
        self, dcurrent: tf.Tensor, transposed: tuple[tf.Tensor, ...] | None = None
    ) -> tf.Tensor:
        """The transposed convolution, `[..., F]`."""
        (kernel,) = self.transposed() if transposed is None else transposed
        places = _images(dcurrent, self.out_shape)
        images = tf.nn.conv2d_transpose(
            places, kernel, [places.shape[0], *self.in_shape], self.strides, self.padding.upper()
        )
        return tf.reshape(images, [*dcurrent.shape[:-1], self.inputs])

    def weight_gradient(self, x: tf.Tensor, dcurrent: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Sums over all places too: for the kernel, `[kh, kw, c, f]`, and for the bias, `[f]`."""
        if not self.kernel.trainable:
            return ()
        places = _images(dcurrent, self.out_shape)
        kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=_images(x, self.in_shape),
            filter_sizes=self.kernel.shape,
            out_backprop=places,
            strides=[1, *self.strides, 1],
            padding=self.padding.upper(),
        )
        return (kernel,) if self.bias is None else (kernel, tf.reduce_sum(places, axis=[0, 1, 2]))

    def presynaptic(self, x: tf.Tensor) -> tf.Tensor:
        """The inputs and, for a bias, 1."""
        return presynaptic(x, self.kernel, self.bias)

    def synapses(self, products: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Sums over all places of each weight; over all places of the bias's row."""
        if not self.kernel.trainable:
            return ()
        _, _, places, filters = self._matrix_shape
        found = tf.reshape(products[: self.inputs], self._matrix_shape)
        found = tf.gather_nd(tf.transpose(found, [0, 2, 1, 3]), self._pixels)
        inside = tf.constant(self._inside, products.dtype)
        kernel = tf.reshape(tf.reduce_sum(inside * found, axis=1), self.kernel.shape)
        if self.bias is None:
            return (kernel,)
        bias = tf.reshape(products[self.inputs], [places, filters])
        return kernel, tf.reduce_sum(bias, axis=0)

    def by_synapse(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """A matrix with each weight at all of its places and, below it, the biases at theirs."""
        if not self.kernel.trainable:
            return tf.zeros([0, self.units], self.kernel.dtype)
        kernel, *bias = values
        pixels, channels, places, filters = self._matrix_shape
        shared = tf.reshape(kernel, [-1, 1, channels, filters])
        inside = tf.constant(self._inside, kernel.dtype)
        found = tf.scatter_nd(self._pixels, inside * shared, [pixels, places, channels, filters])
        matrix = tf.reshape(tf.transpose(found, [0, 2, 1, 3]), [self.inputs, self.units])
        return tf.concat([matrix, *[tf.tile(each, [places])[tf.newaxis] for each in bias]], axis=0)

    @property
    def _matrix_shape(self) -> tuple[int, int, int, int]:
        """Of a matrix `[F, N]`: pixels, channels, places, filters."""
        rows, columns, channels = self.in_shape
        return rows * columns, channels, self.out_shape[0] * self.out_shape[1], self.out_shape[2]

    @property
    def parameters(self) -> tuple[tf.Variable, ...]:
        """The kernel and the bias."""
        return trained(self.kernel, self.bias)


def _images(x: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """`[..., F]` to `[images, rows, columns, channels]`."""
    return tf.reshape(x, [-1, *shape])


def _sizes(what: str, given: int | Sequence[int], expected: str, count: int) -> tuple[int, ...]:
    """So many whole numbers of 1 or more; one that was given alone stands for up to two."""
    found = np.asarray(given)
    if found.ndim == 0 and count < 3:
        found = np.repeat(found, count)
    if found.shape != (count,) or found.dtype.kind not in "iu" or found.min() < 1:
        raise ValueError(f"{what} is {given!r}; expected {expected}, 1 or more.")
    return tuple(int(number) for number in found)


def _met(size: int, kernel: int, stride: int, padding: str) -> np.ndarray:
    """Where along an axis each weight meets the image at each place, `[kernel, places]`.

    -1 where that is outside of the image, as TensorFlow has it: where the zeros around it cannot be
    as many before as after, there is one more after.
    """
    places = -(-size // stride) if padding == "same" else (size - kernel) // stride + 1
    around = max((places - 1) * stride + kernel - size, 0) if padding == "same" else 0
    met = np.arange(places) * stride + np.arange(kernel)[:, np.newaxis] - around // 2
    return np.where((met >= 0) & (met < size), met, -1)


def _pixels(rows: np.ndarray, columns: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pixel each weight of a channel and filter meets at each place, and whether any.

    Args:
      rows: of `_met`.
      columns: of `_met`.
      width: of the image.

    Returns:
      Pixel (0 for none) and place, `[weights, places, 2]`; 1 inside of the image and 0 outside,
      `[weights, places, 1, 1]`.
    """
    row, column = rows[:, np.newaxis, :, np.newaxis], columns[np.newaxis, :, np.newaxis]
    inside = (row >= 0) & (column >= 0)
    weights, places = len(rows) * len(columns), rows.shape[1] * columns.shape[1]
    pixel = np.where(inside, row * width + column, 0).reshape(weights, places)
    place = np.broadcast_to(np.arange(places), pixel.shape)
    return np.stack([pixel, place], axis=-1), inside.reshape(weights, places, 1, 1).astype(float)
