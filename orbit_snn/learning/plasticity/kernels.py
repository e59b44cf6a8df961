"""STDP with a kernel of any shape over the time between the last two spikes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.learning.plasticity.synaptic import (
    Rates,
    Seen,
    SynapsewiseRule,
    check_param,
    check_times,
)
from orbit_snn.monitors import Monitor, input_monitor, output_monitor
from orbit_snn.reducers import Event


@dataclasses.dataclass(frozen=True)
class ExponentialKernel:
    """`rate exp(-|delta| / tau)`.

    Attributes:
      rate: positive to potentiate, negative to depress.
      tau_ms: time constant.
    """

    rate: float = 1e-3
    tau_ms: float = 20.0

    def __post_init__(self) -> None:
        check_times(self, "tau_ms")

    def __call__(self, delta_ms: tf.Tensor) -> tf.Tensor:
        """The update of spikes that are `delta_ms` apart."""
        return self.rate * tf.exp(-tf.abs(delta_ms) / self.tau_ms)


@dataclasses.dataclass(frozen=True)
class KernelSTDP(SynapsewiseRule):
    """`dw = K(delta)`, with delta from the last pre- to the last postsynaptic spike, in ms.

    K is `kernel_post` where delta is 0 or more and `kernel_pre` where it is below 0. A presynaptic
    spike counts when it arrives, so on a `Delayed` connection delta is
    `t_post - t_pre - delay`, and `param="delay_ms"` learns the delays; see `delay_adjusted_stdp`
    and `delay_adjusted_stdpd`.

    Attributes:
      kernel_post: update where the presynaptic spike came first, or in the same step.
      kernel_pre: update where the postsynaptic spike came first.
      at_spikes: count a pair once, in the step of its later spike, as `STDP` does; without it the
        last pair counts in every step, until the next spike.
      param: what it changes: `kernel`, or `delay_ms`.
      modulated: multiply by the reward of the step.
      scale: gamma, of the reward.

    Raises:
      ValueError: for another parameter.
    """

    kernel_post: ExponentialKernel = ExponentialKernel(1e-3)
    kernel_pre: ExponentialKernel = ExponentialKernel(-1e-3)
    at_spikes: bool = True
    param: str = "kernel"
    modulated: bool = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_param(self.param, "kernel", "delay_ms")

    @property
    def rewarded(self) -> bool:  # type: ignore[override]
        """Whether it learns from a reward."""
        return self.modulated

    def monitors(self, dt_ms: float, connection: str) -> dict[str, Monitor]:
        """Steps since the last spike of either side: whole numbers, whose difference is exact."""
        event = Event(1.0)
        return {"age_pre": input_monitor(event, connection), "age_post": output_monitor(event)}

    def start(self, shape: Sequence[int], dtype: tf.DType) -> Any:
        """Nothing."""
        return ()

    def step(self, now: Seen, remembered: Any, rates: Rates) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """See the class."""
        age_pre, age_post = now.values["age_pre"], now.values["age_post"]
        delta = age_pre - age_post
        paired = tf.math.is_finite(age_pre) & tf.math.is_finite(age_post)
        delta = tf.where(paired, delta, tf.zeros_like(delta))
        forward, backward = paired & (delta >= 0.0), paired & (delta < 0.0)
        if self.at_spikes:
            forward, backward = forward & (age_post == 0.0), backward & (age_pre == 0.0)
        apart = now.dt_ms * delta
        change = _where(forward, self.kernel_post, apart) + _where(backward, self.kernel_pre, apart)
        if self.modulated:
            change *= self.scale * now.rewarded()
        return tf.nn.relu(change), tf.nn.relu(-change), ()


def delay_adjusted_stdp(
    lr_pos: float = 1e-3,
    lr_neg: float = -1e-3,
    tc_pos_ms: float = 20.0,
    tc_neg_ms: float = 20.0,
    modulated: bool = False,
) -> KernelSTDP:
    """STDP of weights behind delays: `lr_pos` where the spike arrives first, else `lr_neg`."""
    late, early = ExponentialKernel(lr_pos, tc_pos_ms), ExponentialKernel(lr_neg, tc_neg_ms)
    return KernelSTDP(late, early, modulated=modulated)


def delay_adjusted_stdpd(
    lr_neg: float = -1e-3,
    lr_pos: float = 1e-3,
    tc_neg_ms: float = 20.0,
    tc_pos_ms: float = 20.0,
    modulated: bool = False,
) -> KernelSTDP:
    """STDP of delays, in ms: `lr_neg` where the spike arrives first, else `lr_pos`."""
    late, early = ExponentialKernel(lr_neg, tc_neg_ms), ExponentialKernel(lr_pos, tc_pos_ms)
    return KernelSTDP(late, early, param="delay_ms", modulated=modulated)


def _where(there: tf.Tensor, kernel: Callable[[tf.Tensor], tf.Tensor], delta: Any) -> tf.Tensor:
    return tf.where(there, kernel(delta), tf.zeros_like(delta))
