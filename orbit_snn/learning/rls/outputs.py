"""Strategy `outputs`: recurrent weights, with the population's rates as regressors."""

from collections.abc import Sequence

import tensorflow as tf

from orbit_snn.learning.feedback import FeedbackMatrices
from orbit_snn.learning.rls.errors import Errors
from orbit_snn.learning.rls.layers import Layer, Place
from orbit_snn.learning.rls.options import flat
from orbit_snn.learning.rls.problem import Changes, Problem, Rows, Window, by_parameter, relative


class Rates(Problem):
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
        super().__init__(layer.place.name, [(layer.rows, layer.rows)])
        self._layer = layer
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
        return Rows((flat(seen),), flat(errors.error), flat(errors.weight)), None

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

    def regressors(self, rows: Rows) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """As they are."""
        return rows.seen, rows.error

    def changes(self, steps: Sequence[tf.Tensor]) -> Changes:
        """By parameter."""
        return by_parameter(self._layer, steps[0])

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """Of the recurrent connection."""
        return self._layer.parameters
