"""The contract of a neuron model, and the parameter that its files share."""

import abc
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn.types import State

Lasting = tuple[tuple[tf.Variable, Callable[[State], tf.Tensor]], ...]
"""Pairs of a variable `[N]` and a function from a state to its value in each example, `[B, N]`."""


class Neuron(tf.Module, metaclass=abc.ABCMeta):
    """Dynamics of a population of neurons, elementwise: no neuron reads another one.

    A model is three functions. Learning rules differentiate `step` and `output` where they need
    it; nothing else has to be written for a new model to train under every rule. In return they are
    pure and deterministic, for a reverse pass evaluates them again; they take any leading
    dimensions, `[..., N]`; and every leaf of the state has the population's dtype.

        state = neuron.initial_state(batch_size)
        for t in range(T):
            state = neuron.step(state, current[t])
            z[t] = neuron.output(state)

    What outlives a sequence, such as a threshold that adapts over a whole training, is a variable
    that does not depend on the example. `initial_state` starts from it, and `lasting` says what a
    sequence makes of it in each example; nothing changes it but a rule that wants to:

        for variable, value in neuron.lasting:
            variable.assign(tf.reduce_mean(value(state), axis=0))

    Attributes:
      units: number of neurons, N.
      dt_ms: length of a step in ms.
      dtype: of the state and the currents.
      spiking: whether `output` is 0 or 1, so that its mean is a firing rate.
    """

    spiking: bool = False

    def __init__(self, units: int, dt_ms: float, dtype: tf.DType, name: str | None):
        super().__init__(name=name)
        if units < 1:
            raise ValueError(f"units is {units}; a population needs at least 1 neuron.")
        if not dt_ms > 0:
            raise ValueError(f"dt_ms is {dt_ms}; a step must be longer than 0 ms.")
        self.units = int(units)
        self.dt_ms = float(dt_ms)
        self.dtype = tf.as_dtype(dtype)

    @abc.abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """State before the first step: a NamedTuple of `[B, N]`, of a population at rest."""

    @abc.abstractmethod
    def step(self, state: State, current: tf.Tensor) -> State:
        """State one step later, given the total input current `[B, N]` of that step."""

    @abc.abstractmethod
    def output(self, state: State) -> tf.Tensor:
        """What the population sends in the step that ended in `state`, `[..., N]`."""

    @property
    def parameters(self) -> tuple[tf.Variable, ...]:
        """Trainable variables of the model itself, such as time constants."""
        return tuple(self.trainable_variables)

    @property
    def lasting(self) -> Lasting:
        """What outlives a sequence: each variable, and its value after a state; here nothing."""
        return ()


def lasting_inside(neuron: Neuron, inner: Callable[[State], State]) -> Lasting:
    """`neuron.lasting` of a population around it, in whose state `inner` finds the neuron's own."""

    def outside(value: Callable[[State], tf.Tensor]) -> Callable[[State], tf.Tensor]:
        return lambda state: value(inner(state))

    return tuple((variable, outside(value)) for variable, value in neuron.lasting)


class Parameter(tf.Module):
    """One quantity of a population: the same for all neurons, one each, or trained.

    A trained quantity has one value a neuron, held as its logarithm: it stays positive whatever the
    optimizer does, and a step changes it by a factor. A fixed number costs nothing; fixed values
    that differ between neurons are a variable, so that a checkpoint holds them. It is positive, or
    may be 0 (`zero_allowed`), or of any sign (`any_sign`, never trained).
    """

    def __init__(
        self,
        value: Any,
        units: int,
        dtype: tf.DType,
        name: str,
        trainable: bool = False,
        zero_allowed: bool = False,
        any_sign: bool = False,
    ):
        super().__init__(name=name)
        array = np.asarray(value, dtype=np.float64)
        if array.ndim > 1 or array.size not in (1, units):
            raise ValueError(f"{name} has shape {array.shape}; give one number or {units} of them.")
        if any_sign and not np.isfinite(array).all():
            raise ValueError(f"{name} is {value}; it must be finite.")
        if not any_sign and not np.all(array >= 0 if zero_allowed else array > 0):
            raise ValueError(f"{name} is {value}; it must be positive.")
        if np.any(np.isfinite(array) & (np.abs(array) > dtype.max)):
            raise ValueError(f"{name} is {value}; {dtype.name} goes to {dtype.max:g} only.")
        self._number = float(array.reshape(())) if array.size == 1 and not trainable else None
        self.log: tf.Variable | None = None
        self.values: tf.Variable | None = None
        if trainable:
            logarithms = np.log(np.broadcast_to(array, [units]))
            self.log = tf.Variable(logarithms, dtype=dtype, name=f"log_{name}")
        elif self._number is None:
            self.values = tf.Variable(array, dtype=dtype, trainable=False, name=name)

    def __call__(self) -> Any:
        """The quantity: a float, or a tensor `[N]`."""
        if self.log is not None:
            return tf.exp(self.log)
        return self._number if self.values is None else tf.convert_to_tensor(self.values)


def zeros(state_type: Any, neuron: Neuron, batch_size: int, **absent: Any) -> Any:
    """A state of type `state_type` with every field zeros `[B, N]`, but those in `absent`."""
    shape = [batch_size, neuron.units]
    fields = {name: tf.zeros(shape, neuron.dtype) for name in state_type._fields}
    return state_type(**{**fields, **absent})
