"""Connection in which every unit receives from some of the inputs only, all from as many."""

from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.connections.affine import Affine, entries, scattered
from orbit_snn.connections.dense import initial_weights
from orbit_snn.seeds import derive


class Sparse(Affine):
    """`I_j = sum over i in S(j) of x_i W_ij + b_j`, with S(j) the `fan_in` inputs of unit j.

    The weights are `kernel`, `[fan_in, N]`, and `sources`, `[fan_in, N]`, says which input each is
    from. `sources` is a variable that is not trained, not a constant: a checkpoint holds it, so
    that weights never meet the sources of another seed, and replicas copy it as they copy weights.
    Before a loop over time the kernel is scattered into a matrix `[F, N]` once, for a dense product
    is faster there than gathering; learning rules that have something for every synapse of a unit
    ask for `own_rows`.

    Args:
      inputs: F.
      units: N.
      fan_in: inputs of every unit, drawn from `seed` without replacement.
      sources: instead of that, which they are: integers `[fan_in, N]`, no input twice in a column.
      bias: add a trained bias, at first 0.
      autapses: allow a neuron's connection to itself; recurrent connections say False.
      initializer: see `connections.dense.initial_weights`, of a kernel `[fan_in, N]`.
      gain: factor on the initial weights.
      seed: of the sources and the initial weights.
      trainable: whether learning rules may change it.
      dtype: of the weights.
      name: of the module.

    Raises:
      ValueError: for sizes below 1, more sources than there are, sources that do not fit, or
        `autapses=False` where inputs and units differ.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        fan_in: int | None = None,
        sources: Any = None,
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
        if (fan_in is None) == (sources is None):
            raise ValueError("Sparse takes either fan_in or sources; give one of them.")
        if fan_in is not None:
            found = _drawn(inputs, units, fan_in, autapses, derive(seed, "sources"))
        else:
            found = _checked(np.asarray(sources), inputs, units, autapses)
        self._make(initial_weights(initializer, found.shape, gain, seed, dtype), bias, trainable)
        with self.name_scope:
            self.sources = tf.Variable(found, trainable=False, dtype=tf.int64, name="sources")

    def _matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        return scattered(kernel, tf.convert_to_tensor(self.sources), self.inputs)

    def _of_matrix(self, matrix: tf.Tensor) -> tf.Tensor:
        return tf.gather_nd(matrix, entries(tf.convert_to_tensor(self.sources)))

    def own_rows(self) -> tf.Tensor | None:
        """The sources and, below them, the bias's row."""
        if not self.kernel.trainable:
            return None
        sources = tf.convert_to_tensor(self.sources)
        if self.bias is None:
            return sources
        return tf.concat([sources, tf.fill([1, self.units], tf.cast(self.inputs, tf.int64))], 0)


def _drawn(inputs: int, units: int, fan_in: int, autapses: bool, seed: int) -> np.ndarray:
    """Sources in rising order, `[fan_in, N]`."""
    most = inputs if autapses else inputs - 1
    if not 1 <= fan_in <= most:
        raise ValueError(
            f"fan_in is {fan_in}; expected 1 or more, and at most the {most} inputs that a unit "
            "can receive from."
        )
    order = np.random.default_rng(seed).random((inputs, units))
    if not autapses:
        np.fill_diagonal(order, np.inf)
    return np.sort(np.argpartition(order, fan_in - 1, axis=0)[:fan_in], axis=0)


def _checked(sources: np.ndarray, inputs: int, units: int, autapses: bool) -> np.ndarray:
    """The sources that were given."""
    if sources.ndim != 2 or sources.shape[1] != units or not len(sources):
        raise ValueError(
            f"sources have shape {sources.shape}; expected [fan_in, {units}], the inputs of a unit "
            "in each column."
        )
    if not np.issubdtype(sources.dtype, np.integer):
        raise ValueError(f"sources are of {sources.dtype}; expected integers.")
    if sources.min() < 0 or sources.max() >= inputs:
        raise ValueError(
            f"sources are from {sources.min()} to {sources.max()}; expected numbers of the "
            f"{inputs} inputs, from 0."
        )
    ordered = np.sort(sources, axis=0)
    twice = np.flatnonzero((ordered[1:] == ordered[:-1]).any(axis=0))
    if twice.size:
        raise ValueError(f"unit {twice[0]} has an input twice among its sources; name each once.")
    if not autapses and (sources == np.arange(units)).any():
        raise ValueError("sources hold autapses, and autapses=False; leave them out.")
    return sources
