"""Synapses with a delay each, and the line of past inputs that they pick from.

taps = SequenceNode("taps", InputNode("inputs"), DelayLine(700, most_steps=20))
cell = Cell(neuron, Delayed(700, 100, most_steps=20))
net = NetworkNode("network", taps, Network([cell]))
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.connections.affine import Affine
from orbit_snn.connections.dense import initial_weights
from orbit_snn.seeds import derive


class DelayLine(tf.Module):
    """Inputs of a step and of the D steps before it, for `SequenceNode`.

    Args:
      inputs: F.
      most_steps: D.
      dtype: of the inputs.
      name: of the module.

    Raises:
      ValueError: for sizes out of range.
    """

    def __init__(
        self,
        inputs: int,
        most_steps: int,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(name=name or "delay_line")
        _check_sizes(inputs, most_steps)
        self.inputs = inputs
        self.most_steps = most_steps
        self.dtype = tf.as_dtype(dtype)

    def initial_state(self, batch_size: int) -> tf.Tensor:
        """The D inputs before the first step, `[B, D, F]`: none."""
        return tf.zeros([batch_size, self.most_steps, self.inputs], self.dtype)

    def __call__(self, x: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Inputs `[B, T, F]` as `[B, T, (D + 1) F]`, newest first, and the last D of them.

        Raises:
          ValueError: for inputs of another size.
        """
        if x.shape[-1] != self.inputs:
            raise ValueError(f"got {x.shape[-1]} inputs; the delay line is for {self.inputs}.")
        steps = x.shape[1]
        known = tf.concat([state, tf.cast(x, self.dtype)], axis=1)
        ago = range(self.most_steps + 1)
        starts = [self.most_steps - delay for delay in ago]
        taps = tf.concat([known[:, start : start + steps] for start in starts], axis=-1)
        return taps, known[:, steps:]


class Delayed(Affine):
    """`I_j(t) = sum_i W_ij x_i(t - delay_ij) + b_j`, of the taps that a `DelayLine` makes of x.

    A delay between two steps takes a share of either, linear in the distance, so that delays can be
    learned; one that is a whole number of steps up to rounding is exactly that.

    Args:
      sources: F.
      units: N.
      most_steps: D, the longest delay in steps.
      delay_ms: of each synapse, `[F, N]`, or of all; default uniform between 0 and D steps.
      dt_ms: length of a step.
      bias: add a trained bias, at first 0.
      initializer: see `connections.dense.initial_weights`, of a kernel `[F, N]`.
      gain: factor on the initial weights.
      seed: of the initial weights and delays.
      trainable: whether learning rules may change it; delays are for local rules alone.
      dtype: of weights and delays.
      name: of the module.

    Raises:
      ValueError: for sizes below 1, or delays out of range.
    """

    shares_weights = True  # between a source's taps

    def __init__(
        self,
        sources: int,
        units: int,
        most_steps: int,
        delay_ms: Any = None,
        dt_ms: float = 1.0,
        bias: bool = False,
        initializer: Any = "normal_fan_in",
        gain: float = 1.0,
        seed: int = 0,
        trainable: bool = True,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        _check_sizes(sources, most_steps)
        super().__init__(sources * (most_steps + 1), units, True, name)
        if not dt_ms > 0.0:
            raise ValueError(f"dt_ms is {dt_ms}; a step must be longer than 0 ms.")
        self.sources = sources
        self.most_steps = most_steps
        self.dt_ms = float(dt_ms)
        shape = (sources, units)
        if delay_ms is None:
            draw = np.random.default_rng(derive(seed, "delays"))
            delay_ms = draw.uniform(0.0, most_steps * dt_ms, shape)
        delays = np.broadcast_to(np.asarray(delay_ms, np.float64), shape)
        if not ((delays >= 0.0) & (delays <= most_steps * dt_ms * (1.0 + 1e-9))).all():
            raise ValueError(
                f"delays are from {delays.min()} to {delays.max()} ms; expected 0 to "
                f"{most_steps * dt_ms}, which is {most_steps} steps of {dt_ms} ms."
            )
        self._make(initial_weights(initializer, shape, gain, seed, dtype), bias, trainable)
        with self.name_scope:
            self.delay_ms = tf.Variable(delays, trainable=False, dtype=dtype, name="delay_ms")

    @property
    def beside(self) -> Mapping[str, str]:
        """The delays have a value for each weight."""
        return {"delay_ms": "kernel"} if self.kernel.trainable else {}

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Delays stay between 0 and D steps."""
        longest = self.most_steps * self.dt_ms
        return {name: (0.0, longest) for name in self.beside}

    def _shares(self) -> tf.Tensor:
        """How much of each tap a synapse hears, `[D + 1, F, N]`."""
        steps = tf.clip_by_value(self.delay_ms / self.dt_ms, 0.0, float(self.most_steps))
        whole = tf.round(steps)
        steps = tf.where(tf.abs(steps - whole) < 1e-3, whole, steps)
        taps = tf.range(self.most_steps + 1, dtype=steps.dtype)[:, tf.newaxis, tf.newaxis]
        return tf.nn.relu(1.0 - tf.abs(steps - taps))

    def _matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        return tf.reshape(self._shares() * kernel, [self.inputs, self.units])

    def _of_matrix(self, matrix: tf.Tensor) -> tf.Tensor:
        taps = tf.reshape(matrix, [self.most_steps + 1, self.sources, self.units])
        return tf.reduce_sum(self._shares() * taps, axis=0)


def _check_sizes(inputs: int, most_steps: int) -> None:
    if inputs < 1 or most_steps < 0:
        raise ValueError(
            f"got {inputs} inputs and delays of up to {most_steps} steps; expected 1 or more, and "
            "0 or more."
        )
