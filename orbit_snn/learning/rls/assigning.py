"""The strategies that solve for weights and assign them."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from orbit_snn.graph import TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.graph.module import GraphState
from orbit_snn.learning.base import Spec
from orbit_snn.learning.passes import Passed
from orbit_snn.learning.rls import kernel as rls_kernel
from orbit_snn.learning.rls.errors import Errors, errors_of, taught_places
from orbit_snn.learning.rls.kernel import Kernel
from orbit_snn.learning.rls.options import Options, Shapes, Shared, Solved
from orbit_snn.learning.rls.problem import Rows, Window, relative
from orbit_snn.learning.rls.problems import problems_for
from orbit_snn.types import Batch


class Assigning:
    """Solves the problems of a strategy; a `options.Solver`.

    Args:
      options: of the rule.
      modules: what is trained.
      spec: of every feature of one example.

    Raises:
      GraphError: for a loss or model that the strategy cannot solve for.
      ValueError: for more weights than fit into one P.
    """

    def __init__(self, options: Options, modules: TrainingModules, spec: Spec):
        self._modules = modules
        self._last_alone = options.rows == "last"
        self._taught = taught_places(modules, spec, options.strategy)
        self._problems, self.feedback = problems_for(options, modules, self._taught)
        self.shapes: Shapes = {
            each.name: [(shape, each.variables[0].dtype) for shape in each.shapes]
            for each in self._problems
        }
        self.weights = tuple(v for each in self._problems for v in each.variables)
        self.trained: tuple[tf.Variable, ...] = ()

    def remember(self, batch_size: int) -> dict[str, tf.Tensor]:
        """See `Solver.remember`."""
        memories = {each.name: each.remember(batch_size) for each in self._problems}
        return {name: x for name, x in memories.items() if x is not None}

    def corrected(
        self, state: GraphState, filters: Mapping[str, tf.Tensor], weights: Sequence[tf.Tensor]
    ) -> GraphState:
        """See `Solver.corrected`."""
        left = list(weights)
        for problem in self._problems:
            own, left = left[: len(problem.variables)], left[len(problem.variables) :]
            state = problem.corrected(state, filters.get(problem.name), own)
        return state

    def share(
        self, batch: Batch, done: Passed, slopes: Sums, filters: Mapping[str, tf.Tensor]
    ) -> Shared:
        """See `Solver.share`."""
        trajectories = done.trajectories
        errors = errors_of(self._taught, self._modules, batch, trajectories, done.before, slopes)
        if self._last_alone:
            errors = {place: Errors(*(x[-1:] for x in each)) for place, each in errors.items()}
        window = Window(trajectories, errors, filters)
        found = {problem.name: problem.rows(window) for problem in self._problems}
        after = {name: kept for name, (_, kept) in found.items() if kept is not None}
        return Shared({name: rows for name, (rows, _) in found.items()}, after, ())

    def solve(
        self,
        kernel: Kernel,
        matrices: Mapping[str, Sequence[tf.Tensor]],
        blocks: tf.Tensor,
        rows: Mapping[str, Rows],
        gradients: Sequence[tf.Tensor],
    ) -> Solved:
        """See `Solver.solve`."""
        weights: list[tf.Tensor] = []
        after, positive, least, traces, ratios = {}, [], [], [], []
        for problem in self._problems:
            seen, error = problem.regressors(_weighted(rows[problem.name]))
            done = rls_kernel.absorb(kernel, matrices[problem.name], seen, blocks, problem.joint)
            changes = problem.changes([tf.matmul(gain, error) for gain in done.gains])
            weights += [variable - change for variable, change in changes]
            left = tf.matmul(done.remaining[-1], error)
            looked_at = tf.reduce_any(rows[problem.name].weight > 0.0)
            pairs = zip(done.matrices, matrices[problem.name], strict=True)
            after[problem.name] = [tf.where(looked_at, new, old) for new, old in pairs]
            positive.append(done.positive)
            least.append(done.least)
            traces += [rls_kernel.trace(kernel, matrix) for matrix in done.matrices]
            ratios.append(tf.math.divide_no_nan(tf.norm(left), tf.norm(error)))
        return Solved(
            tuple(weights),
            after,
            (),
            tf.reduce_all(positive),
            tf.reduce_min(least),
            tf.add_n(traces),
            tf.add_n(ratios) / len(ratios),
        )


def _weighted(rows: Rows) -> Rows:
    """Rows and errors times the root of their weight, of which the largest is 1."""
    scale = tf.sqrt(relative(rows.weight))

    def times(x: tf.Tensor) -> tf.Tensor:
        return x * tf.reshape(scale, [-1] + [1] * (x.shape.rank - 1))

    return Rows(tuple(times(x) for x in rows.seen), times(rows.error), scale)
