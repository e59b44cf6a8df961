"""Rates to spikes, each a function of its seed alone, for the `encode` of `data.from_arrays`.

    def encode(example, seed):
        rates_hz = 100.0 * example["image"]
        return {"inputs": tf.cast(poisson(rates_hz, steps, dt_ms, seed), tf.float32), ...}

Spikes are bool `[T, ...]`, the same with and without XLA for the same rates, with no loop over
steps. Rates that are numbers or arrays are checked. Those in tensors cannot be: there, a rate
below 0 and NaN count as 0, one that is too high as the highest that is possible.
"""

import math
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from orbit_snn.draws import chance, uniform

Rates: TypeAlias = Any
"""Rates in Hz: a number, an array or a tensor of a static shape."""

# Times are counted in so many parts of a step, as integers: the sum of floats is another with XLA.
_TICKS = 2**16


def poisson(rates_hz: Rates, steps: int, dt_ms: float, seed: tf.Tensor) -> tf.Tensor:
    """In every step a spike with probability rate x dt, independent of all others.

    Args:
      rates_hz: `[...]`.
      steps: T.
      dt_ms: length of a step.
      seed: int32 `[2]`.

    Returns:
      Spikes, bool `[T, ...]`.

    Raises:
      ValueError: for a rate below 0 or above one spike a step, no steps, a step of no length.
    """
    _check_number(steps)
    _check_step(dt_ms)
    return _bernoulli(_rates(rates_hz, 1, dt_ms), [steps], dt_ms, seed)


def inhomogeneous(rates_hz: Rates, dt_ms: float, seed: tf.Tensor) -> tf.Tensor:
    """`poisson`, with rates of their own in every step.

    Args:
      rates_hz: `[T, ...]`.
      dt_ms: length of a step.
      seed: int32 `[2]`.

    Returns:
      Spikes, bool `[T, ...]`.

    Raises:
      ValueError: for a rate below 0 or above one spike a step, no steps, a step of no length.
    """
    _check_step(dt_ms)
    rates = _rates(rates_hz, 1, dt_ms)
    if not rates.shape.rank:
        raise ValueError("rates_hz is one number; expected rates [T, ...]: or use `poisson`.")
    _check_number(rates.shape[0])
    return _bernoulli(rates, [], dt_ms, seed)


def poisson_intervals(
    rates_hz: Rates,
    steps: int,
    dt_ms: float,
    seed: tf.Tensor,
    refractory_ms: float = 0.0,
    compensate: bool = True,
) -> tf.Tensor:
    """A Poisson process with dead time: a refractory period after every spike, then chance alone.

    Intervals are independent and exponentially distributed beyond the refractory period,

        refractory + Exp(1) (1000 / rate - refractory)      compensated: the mean rate is `rate`
        refractory + Exp(1) 1000 / rate                     otherwise: it is lower

    in ms, and a spike counts in the step that its time falls into. The process is stationary (Cox
    1962, Renewal Theory): it has been going on for long when the first step begins, so the mean
    rate is the same in all steps. At most `ceil(T / refractory)` spikes fit into T steps, and so
    many intervals are drawn: none is ever missing. Without a refractory period this is `poisson`,
    compensated or not: at most one spike a step, at the very rate.

    Args:
      rates_hz: `[...]`; 0 gives no spikes.
      steps: T.
      dt_ms: length of a step.
      seed: int32 `[2]`.
      refractory_ms: shortest interval, rounded up to whole steps.
      compensate: whether the mean rate is the one asked for, in spite of the refractory period.

    Returns:
      Spikes, bool `[T, ...]`.

    Raises:
      ValueError: for a rate below 0 or, where compensated, above one spike a refractory period (or
        one a step), a refractory period below 0, no steps, a step of no length.
    """
    _check_number(steps)
    _check_step(dt_ms)
    if not 0 <= refractory_ms < math.inf:
        raise ValueError(f"refractory_ms is {refractory_ms}; expected 0 ms or more: 0 for none.")
    dead = math.ceil(refractory_ms / dt_ms - 1e-9)
    if dead == 0:
        return poisson(rates_hz, steps, dt_ms, seed)
    rates = tf.cast(_rates(rates_hz, dead if compensate else 0, dt_ms), tf.float64)
    wait = 1e3 / dt_ms / rates  # mean of what is beyond the refractory period, in steps
    if compensate:
        wait = tf.maximum(wait - dead, 0.0)

    # In the middle between neighbours: never 0, so that no rate of 0 makes 0 times infinity.
    draw = tf.cast(uniform([1 + -(-steps // dead), *rates.shape], seed), tf.float64) + 2.0**-25

    def ticks(time: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.round(tf.minimum(time, steps + 1.0) * _TICKS), tf.int64)

    # The first spike: the process began at a uniform point of an interval of mean length.
    shortest = dead * _TICKS
    first = ticks(draw[0] * (wait + dead))
    intervals = shortest + ticks(-tf.math.log(draw[1:]) * wait)
    intervals = tf.concat([tf.where(first < shortest, first, intervals[0])[None], intervals[1:]], 0)
    return _scattered(tf.cumsum(intervals, axis=0) // _TICKS, steps)


def _scattered(step: tf.Tensor, steps: int) -> tf.Tensor:
    """Spikes `[T, ...]` at steps int64 `[count, ...]`, of which those from T on are left out."""
    count, *shape = step.shape
    size = math.prod(shape)
    place = tf.minimum(tf.reshape(step, [count, size]), steps) * size
    place += tf.range(size, dtype=tf.int64)
    ones = tf.ones([count * size], tf.int32)
    spikes = tf.scatter_nd(tf.reshape(place, [-1, 1]), ones, [(steps + 1) * size])
    return tf.reshape(spikes, [steps + 1, *shape])[:steps] > 0


def _bernoulli(rates: tf.Tensor, steps: list[int], dt_ms: float, seed: tf.Tensor) -> tf.Tensor:
    """Spikes `[*steps, *rates.shape]`; a rate times dt of 1 and more is a spike in every step."""
    return chance([*steps, *rates.shape], rates * (dt_ms / 1e3), seed)


def _check_number(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"there are {steps} steps; expected 1 or more: ask for more.")


def _check_step(dt_ms: float) -> None:
    if not 0 < dt_ms < math.inf:
        raise ValueError(f"dt_ms is {dt_ms}; a step must be longer than 0 ms: give its length.")


def _rates(rates_hz: Rates, apart: int, dt_ms: float) -> tf.Tensor:
    """The rates as float32, those below 0 as 0.

    Args:
      rates_hz: what was given.
      apart: how many steps lie between spikes at the least; 0 for any rate.
      dt_ms: length of a step.
    """
    if not tf.is_tensor(rates_hz):
        rates_hz = np.asarray(rates_hz, np.float32)
        wrong = rates_hz[~(np.isfinite(rates_hz) & (rates_hz >= 0))]
        if wrong.size:
            raise ValueError(f"rates_hz has {wrong[0]}; expected 0 Hz or more: 0 for no spikes.")
        highest = 1e3 / (apart * dt_ms) if apart else math.inf
        if rates_hz.size and rates_hz.max() > highest * (1 + 1e-6):
            raise ValueError(
                f"rates_hz has {rates_hz.max():g}; with spikes {apart} steps of {dt_ms:g} ms apart "
                f"or more, at most {highest:g} Hz are possible: lower the rates, or that time."
            )
    rates = tf.cast(rates_hz, tf.float32)
    if not rates.shape.is_fully_defined():
        raise ValueError(f"rates_hz has the shape {rates.shape}; it must be static: set its shape.")
    return tf.where(rates > 0, rates, tf.zeros_like(rates))
