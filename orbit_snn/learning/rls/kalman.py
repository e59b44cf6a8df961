"""Strategies `jacobian` and `scaled_jacobian`: extended Kalman filters."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.learning.places import Place
from orbit_snn.learning.rls.jacobian import output_rows
from orbit_snn.learning.rls.layers import Layer
from orbit_snn.learning.rls.problem import Changes, Problem, Rows, Window, by_parameter, relative


class Outputs(Problem):
    """All weights of a network, by the derivatives of its outputs: an extended Kalman filter.

    Args:
      node: the network.
      layers: trained ones.
      taught: whose outputs have targets.
      groups: `all` has one P for all weights; `variable` one for each connection and `node` one for
        the synapses of each neuron, which together explain the errors (Puskorius & Feldkamp 1994).
    """

    joint = True

    def __init__(
        self, node: NetworkNode, layers: Mapping[Place, Layer], taught: Sequence[Place], groups: str
    ):
        self._layers = dict(layers)
        self._taught = tuple(taught)
        self._groups = groups
        super().__init__(node.name, self._shapes())

    @property
    def size(self) -> int:
        """L: how many weights there are."""
        return sum(layer.synapses * layer.units for layer in self._layers.values())

    def _shapes(self) -> list[tuple[int, ...]]:
        if self._groups == "all":
            return [(self.size, self.size)]
        shapes: list[tuple[int, ...]] = []
        for layer in self._layers.values():
            if self._groups == "node":
                shapes.append((layer.units, layer.synapses, layer.synapses))
            else:
                shapes += [(size * layer.units,) * 2 for size in layer.sizes]
        return shapes

    def rows(self, window: Window) -> tuple[Rows, tf.Tensor | None]:
        """See `Problem.rows`."""
        seen: dict[Place, list[tf.Tensor]] = {place: [] for place in self._layers}
        error, weight = [], []
        for place in self._taught:
            errors = window.errors[place]
            trajectory = window.trajectories[place.node.name]
            found = output_rows(place, self._layers, trajectory, errors.steps)
            flat = tf.reshape(tf.transpose(errors.error, [0, 2, 1]), [-1, 1])
            for each, layer in self._layers.items():
                zeros = tf.zeros([flat.shape[0], layer.synapses, layer.units], layer.dtype)
                seen[each].append(found.get(each, zeros))
            error.append(flat)
            counted = relative(errors.weight)[:, tf.newaxis]
            steps, size, outputs = errors.error.shape
            weight.append(tf.reshape(tf.broadcast_to(counted, [steps, outputs, size]), [-1]))
        joined = tuple(tf.concat(parts, axis=0) for parts in seen.values())
        return Rows(joined, tf.concat(error, axis=0), tf.concat(weight, axis=0)), None

    def regressors(self, rows: Rows) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """By group."""
        count = rows.error.shape[0]
        pairs = zip(self._layers.values(), rows.seen, strict=True)
        if self._groups == "node":
            return tuple(tf.transpose(seen, [2, 0, 1]) for _, seen in pairs), rows.error
        parts = [part for layer, seen in pairs for part in layer.by_connection(seen)]
        flat = [tf.reshape(part, [count, -1]) for part in parts]
        if self._groups == "all":
            flat = [tf.concat(flat, axis=1)]
        return tuple(flat), rows.error

    def changes(self, steps: Sequence[tf.Tensor]) -> Changes:
        """By parameter."""
        found: Changes = []
        if self._groups == "node":
            for layer, step in zip(self._layers.values(), steps, strict=True):
                found += by_parameter(layer, tf.transpose(step[..., 0]))
            return found
        flat = tf.concat([step[:, 0] for step in steps], axis=0)
        for layer in self._layers.values():
            own, flat = tf.split(flat, [layer.synapses * layer.units, -1])
            found += by_parameter(layer, tf.reshape(own, [layer.synapses, layer.units]))
        return found

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """Of all connections."""
        return tuple(p for layer in self._layers.values() for p in layer.parameters)
