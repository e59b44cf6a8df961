"""A connection whose weights and delays depend on how far apart neurons are."""

import math
from collections.abc import Iterator

import tensorflow as tf

from orbit_snn.neurons import Parameter

PROFILES = ("exponential", "gaussian")
DELAYS = ("none", "nearest", "linear")


class DistanceConnection(tf.Module):
    """`I[b, t, i] = sum over pairs (i, j) of w(d) x[b, t - s(d), j]`, d the distance of the pair.

    The weight is `w(d) = amplitude exp(-d / length)`, "exponential", or
    `amplitude exp(-d^2 / (2 length^2))`, "gaussian". The delay is `s(d) = d / (velocity dt_ms)`
    steps: "none" of it; the "nearest" whole number, half to even; or "linear", which interpolates
    between the two inputs around it, so that velocity and distances have a gradient through it.

    Pairs are scattered into a kernel `[N, N]` for each delay, then there is one product a kernel.

    Args:
      units: number of neurons, N.
      amplitude: weight at distance 0, of any sign.
      length: of the profile, in the unit of the distances.
      velocity: of signals, in that unit per ms; only for delays.
      profile: see above.
      delays: see above.
      dt_ms: length of a step in ms.
      max_delay_steps: the longest delay, L; should the velocity become so low in training that a
        delay is longer, it is shortened to this. Default the longest that `dist_hard_max` makes.
      dist_hard_max: no distance is longer; checked against `max_delay_steps`.
      train_amplitude: whether learning rules may change it.
      train_length: whether they may change it; it stays positive.
      train_velocity: whether they may change it, which only "linear" delays let them.
      dtype: of parameters and currents.
      name: of the module.

    Raises:
      ValueError: for a choice that does not exist, a quantity that is not positive, no velocity for
        delays, or delays longer than `max_delay_steps`.
    """

    def __init__(
        self,
        units: int,
        amplitude: float = 1.0,
        length: float = 1.0,
        velocity: float | None = None,
        profile: str = "exponential",
        delays: str = "none",
        dt_ms: float = 1.0,
        max_delay_steps: int | None = None,
        dist_hard_max: float | None = None,
        train_amplitude: bool = True,
        train_length: bool = True,
        train_velocity: bool = True,
        dtype: tf.DType = tf.float32,
        name: str | None = None,
    ):
        super().__init__(name=name)
        for what, given, known in (("profile", profile, PROFILES), ("delays", delays, DELAYS)):
            if given not in known:
                raise ValueError(f"{what} is {given!r}; expected one of {', '.join(known)}.")
        if units < 1:
            raise ValueError(f"units is {units}; a connection needs at least 1 neuron.")
        if not math.isfinite(amplitude):
            raise ValueError(f"amplitude is {amplitude}; it must be finite.")
        self.units = int(units)
        self.profile = profile
        self.delays = delays
        self.dt_ms = float(dt_ms)
        self.dtype = tf.as_dtype(dtype)
        self.max_delay_steps = 0
        self.velocity: Parameter | None = None
        with self.name_scope:
            self.amplitude = tf.Variable(amplitude, train_amplitude, dtype=dtype, name="amplitude")
            self.length = Parameter(length, 1, dtype, "length", train_length)
            if delays != "none":
                trained = train_velocity and delays == "linear"
                self.max_delay_steps = self._longest(velocity, max_delay_steps, dist_hard_max)
                self.velocity = Parameter(velocity, 1, dtype, "velocity", trained)

    def _longest(
        self, velocity: float | None, steps: int | None, dist_hard_max: float | None
    ) -> int:
        """The longest delay, once it is found to be long enough."""
        if velocity is None or not velocity > 0 or not self.dt_ms > 0:
            raise ValueError(
                f"delays={self.delays!r} got velocity {velocity} and dt_ms {self.dt_ms}; both must "
                "be positive."
            )
        if dist_hard_max is None:
            if steps is None or steps < 0:
                raise ValueError(
                    f"delays={self.delays!r} got max_delay_steps {steps} and no dist_hard_max; "
                    "give one of them."
                )
            return int(steps)
        longest = dist_hard_max / (velocity * self.dt_ms)
        needed = round(longest) if self.delays == "nearest" else math.ceil(longest - 1e-9)
        if steps is not None and steps < needed:
            raise ValueError(
                f"max_delay_steps is {steps}, but dist_hard_max {dist_hard_max} at velocity "
                f"{velocity} takes {needed} steps of {self.dt_ms} ms; give that many or more."
            )
        return needed if steps is None else int(steps)

    def initial_state(self, batch_size: int) -> tf.Tensor:
        """The inputs of the last L steps before the first one: zeros `[B, L, N]`."""
        return tf.zeros([batch_size, self.max_delay_steps, self.units], self.dtype)

    def __call__(
        self,
        x: tf.Tensor,
        pair_dist: tf.Tensor,
        pair_first: tf.Tensor,
        pair_second: tf.Tensor,
        pair_mask: tf.Tensor,
        state: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Currents over some steps.

        Args:
          x: what the neurons send, `[B, T, N]`, numbers or booleans.
          pair_dist: distances, `[B, P]`.
          pair_first: neurons that receive, integers `[B, P]`.
          pair_second: neurons that send, integers `[B, P]`.
          pair_mask: which of the P are pairs, bool `[B, P]`.
          state: inputs of the L steps before, `[B, L, N]`.

        Returns:
          Currents `[B, T, N]`, and the inputs of the last L steps.

        Raises:
          ValueError: for another number of neurons.
        """
        if x.shape.rank != 3 or x.shape[-1] != self.units:
            raise ValueError(
                f"a connection of {self.units} neurons got inputs {x.shape}; expected "
                f"[B, T, {self.units}]."
            )
        steps = x.shape[1]
        known = tf.concat([state, tf.cast(x, self.dtype)], axis=1)  # [B, L + T, N]
        kernels = self.kernels(pair_dist, pair_first, pair_second, pair_mask)
        delayed = (
            known[:, self.max_delay_steps - delay :][:, :steps]
            for delay in range(self.max_delay_steps + 1)
        )
        currents = [tf.matmul(*pair) for pair in zip(delayed, tf.unstack(kernels), strict=True)]
        return tf.add_n(currents), known[:, steps:]

    def kernels(
        self, pair_dist: tf.Tensor, first: tf.Tensor, second: tf.Tensor, mask: tf.Tensor
    ) -> tf.Tensor:
        """Weights `[L + 1, B, N, N]` by delay, example, neuron that sends, neuron that receives."""
        size, pairs = pair_dist.shape
        shape = [self.max_delay_steps + 1, size, self.units, self.units]
        index = tf.int32 if math.prod(shape) < 2**31 else tf.int64
        distance = tf.where(mask, tf.cast(pair_dist, self.dtype), 0)
        weight = tf.where(mask, self.weight(distance), 0)
        ends = tf.cast(second, index) * self.units + tf.cast(first, index)
        example = tf.range(size, dtype=index)[:, tf.newaxis] * self.units**2
        step = size * self.units**2
        taps = list(self._taps(distance, weight))
        places = [tf.cast(delay, index) * step + example + ends for delay, _ in taps]
        flat = tf.math.unsorted_segment_sum(
            tf.stack([share for _, share in taps]), tf.stack(places), math.prod(shape)
        )
        return tf.reshape(flat, shape)

    def weight(self, distance: tf.Tensor) -> tf.Tensor:
        """w(d), of the shape of the distances."""
        ratio = distance / self.length()
        exponent = ratio if self.profile == "exponential" else 0.5 * tf.square(ratio)
        return self.amplitude * tf.exp(-exponent)

    def _taps(
        self, distance: tf.Tensor, weight: tf.Tensor
    ) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Delays, int32 `[B, P]`, and the share of the weight that each has."""
        if self.velocity is None:
            yield tf.zeros(distance.shape, tf.int32), weight
            return
        last = self.max_delay_steps
        steps = tf.minimum(distance / (self.velocity() * self.dt_ms), float(last))
        if self.delays == "nearest":
            yield tf.cast(tf.round(steps), tf.int32), weight
            return
        whole = tf.stop_gradient(tf.floor(steps))
        before = tf.cast(whole, tf.int32)
        yield before, weight * (1.0 - (steps - whole))
        yield tf.minimum(before + 1, last), weight * (steps - whole)
