"""Strategy `inputs`: the weights onto what has targets."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn import unroll
from orbit_snn.graph.module import GraphState
from orbit_snn.learning.rls.jacobian import synapse_rows
from orbit_snn.learning.rls.layers import Layer
from orbit_snn.learning.rls.options import flat
from orbit_snn.learning.rls.problem import Changes, Linear, Problem, Rows, Window, by_parameter
from orbit_snn.memory import memory
from orbit_snn.neurons import Neuron, parts
from orbit_snn.types import NetworkState


class LinearFilter(NamedTuple):
    """A population that is `y(t) = decay y(t-1) + drive I(t)`, with one decay for all of it.

    Attributes:
      leaf: of its state that is filtered.
      gain: from that to the output.
      decay: a step.
      drive: from a current to the output.
    """

    leaf: int
    gain: float
    decay: float
    drive: float

    def start(self, state: Any) -> tf.Tensor:
        """Its output in a state, `[B, N]`."""
        return self.gain * tf.nest.flatten(state)[self.leaf]

    def holding(self, output: tf.Tensor, state: Any) -> Any:
        """A state with that output, `[B, N]`."""
        leaves = tf.nest.flatten(state)
        leaves[self.leaf] = output / self.gain
        return tf.nest.pack_sequence_as(state, leaves)

    def __call__(self, x: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        """What it makes of inputs `[T, B, ...]`."""
        return unroll.filtered(self.drive * x, self.decay, start)


def linear_filter(neuron: Neuron) -> LinearFilter | None:
    """The filter that a population is, if it is one."""
    populations = [own for (own,) in parts(neuron)]
    known = memory(populations[0])
    if len(populations) > 1 or known.gain is None or known.carried != known.read:
        return None
    (leaf,) = known.read
    if leaf not in known.shared:
        return None
    decay, drive = known.shared[leaf]
    return LinearFilter(leaf, known.gain, decay, known.gain * drive)


class FilteredInputs(Linear):
    """Weights of a readout that is a linear filter.

    Its outputs are `x W` with `x` the filtered inputs, so this is least squares exactly, whatever
    the windows are: the error is that of `x W` with the weights as they are now.

    Args:
      layer: of the readout.
      response: the filter.
    """

    def __init__(self, layer: Layer, response: LinearFilter):
        super().__init__(layer)
        self._response = response

    def remember(self, batch_size: int) -> tf.Tensor:
        """Filtered inputs, `[B, P]`."""
        return tf.zeros([batch_size, self._layer.rows], self._layer.dtype)

    def rows(self, window: Window) -> tuple[Rows, tf.Tensor | None]:
        """See `Problem.rows`."""
        layer, errors = self._layer, window.errors[self._layer.place]
        trajectory = layer.place.trajectory(window.trajectories)
        whole = self._response(layer.arriving(trajectory), window.filters[self.name])
        given = self._response(trajectory.currents, self._response.start(trajectory.initial))
        seen = flat(whole[-errors.steps :])
        now = tf.matmul(seen, layer.weights())
        error = flat(errors.error) + now - flat(given[-errors.steps :])
        return Rows((seen,), error, flat(errors.weight)), whole[-1]

    def corrected(
        self, state: GraphState, kept: tf.Tensor | None, weights: Sequence[tf.Tensor]
    ) -> GraphState:
        """See `Problem.corrected`."""
        node, key = self._layer.place
        own: NetworkState = state[node.name]
        output = tf.matmul(kept, self._layer.weights(weights))
        held = self._response.holding(output, own.readouts[str(key)])
        return {**state, node.name: own._replace(readouts={**own.readouts, str(key): held})}


class OwnInputs(Problem):
    """Weights onto any population whose outputs have targets: a problem for each of its neurons.

    The regressors of a neuron are its synapses' eligibility traces; its error is its own, so its
    problem is its own, with a P `[M, M]` each.

    Args:
      layer: of the population.
    """

    def __init__(self, layer: Layer):
        super().__init__(layer.place.name, [(layer.units, layer.synapses, layer.synapses)])
        self._layer = layer

    def rows(self, window: Window) -> tuple[Rows, tf.Tensor | None]:
        """See `Problem.rows`."""
        errors = window.errors[self._layer.place]
        trajectory = self._layer.place.trajectory(window.trajectories)
        seen = synapse_rows(self._layer, trajectory, errors.steps)
        return Rows((seen,), flat(errors.error), flat(errors.weight)), None

    def regressors(self, rows: Rows) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """`[N, R, M]` and `[N, R, 1]`."""
        seen = tf.transpose(rows.seen[0], [2, 0, 1])
        return (seen,), tf.transpose(rows.error)[:, :, tf.newaxis]

    def changes(self, steps: Sequence[tf.Tensor]) -> Changes:
        """By parameter."""
        return by_parameter(self._layer, tf.transpose(steps[0][..., 0]))

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """Of the population's connections."""
        return self._layer.parameters
