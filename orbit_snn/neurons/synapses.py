"""Synapses: how a weighted sum of spikes becomes the current into a neuron.

Connections are linear and all synapses onto a population have the same time course, so that one
synapse a neuron, which takes the weighted sum x of all that arrives in a step, is all of them.
Charges are in pC and times in ms, so that currents are in nA.
"""

import abc
import dataclasses
import math

import tensorflow as tf

from orbit_snn.decay import decay

Currents = tuple[tf.Tensor, ...]
"""What a synapse remembers: parts of its current in nA, `[B, N]` each."""


class Synapse(abc.ABC):
    """Time course of a synaptic current; linear and elementwise, for any leading dimensions."""

    @abc.abstractmethod
    def initial_state(self, zeros: tf.Tensor) -> Currents:
        """State before anything arrives, for currents of the shape and dtype of `zeros`."""

    @abc.abstractmethod
    def step(self, state: Currents, x: tf.Tensor, dt_ms: float) -> tuple[tf.Tensor, Currents]:
        """The current of a step in which `x` arrives, and the state after it."""


@dataclasses.dataclass(frozen=True)
class Delta(Synapse):
    """All charge in the step of the spike: `I = charge / dt x`.

    Attributes:
      charge: Q in pC, of a spike through a weight of 1.

    Raises:
      ValueError: for a value out of range.
    """

    charge: float = 1.0

    def __post_init__(self) -> None:
        _check(self.charge)

    def initial_state(self, zeros: tf.Tensor) -> Currents:
        """None."""
        return ()

    def step(self, state: Currents, x: tf.Tensor, dt_ms: float) -> tuple[tf.Tensor, Currents]:
        """See `Synapse.step`."""
        return self.charge / dt_ms * x, ()


@dataclasses.dataclass(frozen=True)
class SingleExponential(Synapse):
    """A current that jumps and decays: `I <- exp(-dt / tau) I + charge / tau x`.

    Attributes:
      charge: Q in pC, of a spike through a weight of 1.
      tau_ms: time constant of decay.

    Raises:
      ValueError: for a value out of range.
    """

    charge: float = 1.0
    tau_ms: float = 5.0

    def __post_init__(self) -> None:
        _check(self.charge, tau_ms=self.tau_ms)

    def initial_state(self, zeros: tf.Tensor) -> Currents:
        """No current."""
        return (zeros,)

    def step(self, state: Currents, x: tf.Tensor, dt_ms: float) -> tuple[tf.Tensor, Currents]:
        """See `Synapse.step`."""
        current = decay(self.tau_ms, dt_ms) * state[0] + self.charge / self.tau_ms * x
        return current, (current,)


@dataclasses.dataclass(frozen=True)
class DoubleExponential(Synapse):
    """A current that rises and decays, as the difference of two that decay.

        I = I_decay - I_rise,  I_k <- exp(-dt / tau_k) I_k + charge / (tau_decay - tau_rise) x

    Attributes:
      charge: Q in pC, of a spike through a weight of 1.
      rise_ms: time constant of the rise, shorter than that of the decay.
      decay_ms: time constant of the decay.

    Raises:
      ValueError: for a value out of range.
    """

    charge: float = 1.0
    rise_ms: float = 1.0
    decay_ms: float = 5.0

    def __post_init__(self) -> None:
        _check(self.charge, rise_ms=self.rise_ms, decay_ms=self.decay_ms)
        if not self.decay_ms > self.rise_ms:
            raise ValueError(
                f"rise_ms is {self.rise_ms} and decay_ms {self.decay_ms}; the rise must be "
                "shorter: swap them, or use SingleExponential."
            )

    def initial_state(self, zeros: tf.Tensor) -> Currents:
        """No currents: that which decays, that which takes the rise away."""
        return (zeros, zeros)

    def step(self, state: Currents, x: tf.Tensor, dt_ms: float) -> tuple[tf.Tensor, Currents]:
        """See `Synapse.step`."""
        jump = self.charge / (self.decay_ms - self.rise_ms) * x
        slow = decay(self.decay_ms, dt_ms) * state[0] + jump
        fast = decay(self.rise_ms, dt_ms) * state[1] + jump
        return slow - fast, (slow, fast)


def _check(charge: float, **times_ms: float) -> None:
    if not math.isfinite(charge):
        raise ValueError(f"charge is {charge}; expected a finite number of pC.")
    for name, value in times_ms.items():
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name} is {value}; expected a finite time of more than 0 ms.")
