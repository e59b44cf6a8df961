"""Strategy `outputs`: recurrent weights, with the population's rates as regressors."""

from collections.abc import Sequence

import tensorflow as tf

from orbit_snn.learning.feedback import FeedbackMatrices
from orbit_snn.learning.places import Place
from orbit_snn.learning.rls.errors import Errors
from orbit_snn.learning.rls.inversion import Inversion
from orbit_snn.learning.rls.layers import Layer
from orbit_snn.learning.rls.options import flat
from orbit_snn.learning.rls.problem import Linear, Rows, Window, relative


class Rates(Linear):
    """Weights of a recurrent connection, with the population's rates as regressors.

    Args:
      layer: the recurrent connection.
      published: whether an error is held against the rates that it is the error of, as in CURBD
        (Perich et al. 2020), or those of one step before, which made it.
      feedback: errors of readouts reach the population through it; None where the population has
        targets itself.
      readouts: of the network, which are taught.
    """

    def __init__(
        self,
        layer: Layer,
        published: bool,
        feedback: FeedbackMatrices | None = None,
        readouts: Sequence[Place] = (),
    ):
        super().__init__(layer)
        self._published = published
        self._feedback = feedback
        self._readouts = tuple(readouts)

    def rows(self, window: Window) -> tuple[Rows, tf.Tensor | None]:
        """See `Problem.rows`."""
        place = self._layer.place
        trajectory = place.trajectory(window.trajectories)
        if self._published:
            trajectory = trajectory._replace(previous_outputs=trajectory.outputs)
        seen = self._layer.arriving(trajectory)
        if self._feedback is None:
            errors = window.errors[place]
        else:
            errors = self._taught(self._feedback, place, window)
        seen = flat(seen[-errors.steps :])
        return Rows((seen,), flat(errors.error), flat(errors.weight)), None

    def _taught(self, feedback: FeedbackMatrices, place: Place, window: Window) -> Errors:
        """Errors of readouts, as they reach the population."""
        found = [(each, window.errors[each]) for each in self._readouts]
        error = tf.add_n(
            [
                feedback.signal(place.node, str(each.key), int(place.key), errors.error)
                for each, errors in found
            ]
        )
        return Errors(error, tf.add_n([relative(errors.weight) for _, errors in found]))


class Currents(Linear):
    """Weights of a recurrent connection, by the currents that would make the targets.

    With targets for the outputs z*, the neuron turned around gives potentials h* and the currents
    c* from each to the next; of these, other connections give u. Then

        z*(t-1) W = c*(t) - u(t)

    is linear in the weights, and this is least squares exactly. With the network's own outputs z in
    place of z*(t-1), weights are found that make these currents from what the network does: the
    targets are followed by a network on its own, whose deviations the neurons' leak lets go of. A
    row counts where the loss looks at its step and at the one before; before the first step is the
    initial state of the neurons.

    Args:
      layer: the recurrent connection.
      inverse: of its neurons.
      own: whether regressors are the network's own outputs, and not the targets.
    """

    def __init__(self, layer: Layer, inverse: Inversion, own: bool):
        super().__init__(layer)
        self._inverse = inverse
        self._own = own

    def remember(self, batch_size: int) -> tf.Tensor:
        """Potentials of the last step, and 1 if the loss looked at it: `[B, N + 1]`."""
        start = self._inverse.initial(batch_size)
        return tf.concat([start, tf.ones_like(start[:, :1])], axis=-1)

    def rows(self, window: Window) -> tuple[Rows, tf.Tensor | None]:
        """See `Problem.rows`."""
        layer, errors = self._layer, window.errors[self._layer.place]
        trajectory = layer.place.trajectory(window.trajectories)
        there = errors.weight[..., tf.newaxis] > 0.0
        found = self._inverse.potentials(trajectory.outputs - errors.error)
        found = tf.where(there, found, tf.zeros_like(found))
        known = tf.concat([found, tf.cast(there, found.dtype)], axis=-1)
        known = tf.concat([window.filters[self.name][tf.newaxis], known], axis=0)
        history, looked_at = known[..., :-1], known[..., -1] > 0.0
        seen = flat(layer.arriving(trajectory))
        error = flat(trajectory.currents - self._inverse.currents(history[:-1], history[1:]))
        if not self._own:
            rates = self._inverse.outputs(history[:-1])
            taught = flat(layer.arriving(trajectory._replace(previous_outputs=rates)))
            error += tf.matmul(taught - seen, layer.weights())
            seen = taught
        weight = tf.where(looked_at[:-1], errors.weight, tf.zeros_like(errors.weight))
        error = tf.where(flat(weight)[:, tf.newaxis] > 0.0, error, tf.zeros_like(error))
        return Rows((seen,), error, flat(weight)), known[-1]
