"""Strategy `grad`: any gradient, preconditioned by the inverse autocorrelation of what it met.

The gradient of a layer `Z = X W` is `X^T dE/dZ`; with P of the rows X, absorbed as a whole block,

    W <- W - rate kappa P X^T dE/dZ

is least squares exactly where the layer is a linear readout, E half its squared error and the rate
1. For every other layer it is a natural gradient whose output factor is the identity (KFAC;
Zhang et al. 2021 with one mean row instead of all).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.graph import GraphError, TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.graph.module import GraphState
from orbit_snn.learning.base import Spec
from orbit_snn.learning.eprop_factored import Factored
from orbit_snn.learning.feedback import FeedbackMatrices
from orbit_snn.learning.passes import Passed, Reverse, back_propagate, by_time
from orbit_snn.learning.places import places
from orbit_snn.learning.rls import kernel as rls_kernel
from orbit_snn.learning.rls.errors import errors_of, taught_places
from orbit_snn.learning.rls.kernel import Kernel
from orbit_snn.learning.rls.layers import Layer
from orbit_snn.learning.rls.options import Options, Shapes, Shared, Solved, flat
from orbit_snn.learning.rls.problem import by_parameter
from orbit_snn.types import Batch


class Preconditioner:
    """One P for each cell and readout, of what arrives at its synapses; see `layers.Layer`.

    Args:
      options: of the rule.
      modules: what is trained.
      spec: of every feature of one example.

    Attributes:
      shapes: of P, by layer.
      weights: variables that are assigned, of which there are none.
      feedback: of e-prop.

    Raises:
      GraphError: for a model without trained weights.
    """

    def __init__(self, options: Options, modules: TrainingModules, spec: Spec):
        every = [Layer(place) for node in modules.model.networks for place in places(node)]
        self._layers = {layer.place.name: layer for layer in every if layer.rows}
        if not self._layers:
            raise GraphError("no network has trained weights; make some of them trainable.")
        self.shapes: Shapes = {
            name: [(layer.covariance_shape, layer.dtype)] for name, layer in self._layers.items()
        }
        self.weights: tuple[tf.Variable, ...] = ()
        self.trained: tuple[tf.Variable, ...] = modules.model.parameters
        networks = modules.model.networks
        eprop = options.gradient == "eprop"
        self.feedback = (
            FeedbackMatrices(options.feedback, networks, False, options.seed) if eprop else None
        )
        self._options = options
        self._modules = modules
        try:
            self._taught = taught_places(modules, spec, "grad")
        except GraphError:  # a loss that is no squared error
            self._taught = ()

    def remember(self, batch_size: int) -> dict[str, tf.Tensor]:
        """Nothing."""
        return {}

    def corrected(
        self, state: GraphState, filters: Mapping[str, tf.Tensor], weights: Sequence[tf.Tensor]
    ) -> GraphState:
        """As it is."""
        return state

    def share(
        self, batch: Batch, done: Passed, slopes: Sums, filters: Mapping[str, tf.Tensor]
    ) -> Shared:
        """Rows and gradients of one replica."""
        modules = self._modules
        gradients = back_propagate(modules, batch, done, slopes, self._reverse())
        by_variable = {v.ref(): g for v, g in zip(modules.model.parameters, gradients, strict=True)}
        rows: dict[str, Any] = {}
        for name, layer in self._layers.items():
            own = layer.by_synapse([by_variable[v.ref()] for v in layer.parameters])
            arriving = layer.arriving(layer.place.trajectory(done.trajectories))
            rows[name] = {"seen": flat(arriving), "gradient": own[tf.newaxis]}
        if self._taught:
            found = errors_of(self._taught, modules, batch, done.trajectories, done.before, slopes)
            largest = [tf.reduce_max(each.weight) for each in found.values()]
            rows["curvature"] = tf.reduce_max(largest)[tf.newaxis]
        return Shared(rows, {}, gradients)

    def solve(
        self,
        kernel: Kernel,
        matrices: Mapping[str, Sequence[tf.Tensor]],
        blocks: tf.Tensor,
        rows: Mapping[str, Any],
        gradients: Sequence[tf.Tensor],
    ) -> Solved:
        """Preconditioned gradients, a share of them for each replica."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        given = dict(zip([v.ref() for v in self.trained], gradients, strict=True))
        after, positive, least, traces = {}, [], [], []
        for name, layer in self._layers.items():
            count = rows[name]["seen"].shape[0]
            seen = layer.regressors(rows[name]["seen"])
            own, share = _for_rows(kernel, count)
            done = rls_kernel.absorb(own, matrices[name], [seen], blocks)
            gradient = tf.reduce_sum(rows[name]["gradient"], axis=0)
            gradient = self._scale(rows, count, seen.dtype) * layer.columns(gradient)
            step = share * rls_kernel.precondition(own, done.matrices[0], gradient)
            step = self._trusted(seen, step) / replicas
            changes = by_parameter(layer, layer.matrix_of(step))
            given |= {variable.ref(): part for variable, part in changes}
            after[name] = done.matrices
            positive.append(done.positive)
            least.append(done.least)
            traces.append(rls_kernel.trace(kernel, done.matrices[0]))
        steps = tuple(given.values())
        ratio = tf.ones_like(least[0])
        return Solved(
            (),
            after,
            steps,
            tf.reduce_all(positive),
            tf.reduce_min(least),
            tf.add_n(traces),
            ratio,
        )

    def _reverse(self) -> Reverse:
        return by_time() if self.feedback is None else Factored(self.feedback, spatial=True)

    def _scale(self, rows: Mapping[str, Any], count: int, dtype: tf.DType) -> tf.Tensor:
        """What makes of the loss half a squared error, or a sum over rows where it is none."""
        if not self._taught:
            return tf.cast(count, dtype)
        curvature = tf.reduce_max(rows["curvature"])
        return tf.cast(tf.math.divide_no_nan(tf.ones_like(curvature), curvature), dtype)

    def _trusted(self, seen: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """A step that changes the currents by no more than `trust`, in the root mean square."""
        if not self._options.trust:
            return step
        change = tf.sqrt(tf.reduce_mean(tf.matmul(seen, step) ** 2))
        limit = tf.cast(self._options.trust, step.dtype)
        return step * tf.math.divide_no_nan(limit, tf.maximum(change, limit))


def _for_rows(kernel: Kernel, count: int) -> tuple[Kernel, float]:
    """The constants for a block of so many rows, and what its summed gradient is multiplied by."""
    if not kernel.averaging:
        return kernel, kernel.row_weight
    share = kernel.row_weight / count
    own = dataclasses.replace(kernel, row_weight=(1.0 - kernel.forgetting) * share)
    return own, share
