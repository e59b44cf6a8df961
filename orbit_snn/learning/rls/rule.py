"""Recursive least squares: RLS, FORCE and Kalman filters as one kernel under five strategies."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.graph import GraphError, TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.learning.base import Forward, Learned, LearningRule, Spec, check_steps, windows_of
from orbit_snn.learning.base import Window as StepWindow
from orbit_snn.learning.feedback import Feedback
from orbit_snn.learning.passes import Passed, run_forward
from orbit_snn.learning.rls import kernel as rls_kernel
from orbit_snn.learning.rls.assigning import Assigning
from orbit_snn.learning.rls.gradient import Preconditioner
from orbit_snn.learning.rls.kernel import Kernel
from orbit_snn.learning.rls.options import OF_CURRENTS, Options, Solved, Solver
from orbit_snn.types import Batch

STRATEGIES = ("inputs", "outputs", "grad", "jacobian", "scaled_jacobian")
REPORTED = ("rls/least_quadratic", "rls/trace", "rls/relative_change", "rls/error_ratio")


class RLSState(NamedTuple):
    """What goes from one window to the next.

    Attributes:
      model: state of the model.
      filters: what readouts remember of their inputs, by problem.
    """

    model: Any
    filters: dict[str, tf.Tensor]


class RLS(LearningRule):
    """Weights that minimise a squared error over all steps so far, found again after every window.

    Every strategy is the update of `rls.kernel` with rows of its own. Rows are steps of all
    sequences of a batch; none is averaged away.

    * `inputs`: weights onto what has targets, a readout mostly. A readout that is a linear filter
      gets the exact solution of the ridge problem; any other population (spiking ones through their
      surrogate gradient) a problem for each neuron, with eligibility traces as regressors.
    * `outputs`: recurrent weights onto a population that has targets itself, with its rates as
      regressors (CURBD, Perich et al. 2020). Or onto one whose readouts have them: these train as
      with `inputs`, and their errors reach the population through `feedback` (FORCE inside of a
      network, Sussillo & Abbott 2009, where it is `random` with the initializer `ones`).
      Neurons onto which a connection is `Sparse` have a P each, over the inputs that they have.
    * `jacobian`: all weights of a network at once, by the derivatives of its outputs through the
      steps of a window: the extended Kalman filter.
    * `scaled_jacobian`: the same with one P for each connection or each neuron, which share the
      errors (decoupled Kalman filter, Puskorius & Feldkamp 1994).
    * `grad`: gradients of any loss, preconditioned by what arrives at each cell's synapses; the
      optimizer applies them. A squared error is scaled to half the sum of squares, any other loss
      to a sum over steps, so that SGD with rate 1 solves a linear readout.

    Args:
      strategy: one of those.
      kernel: constants and numerics.
      window: steps after which weights are updated; None for whole sequences.
      rows: which steps of a window are looked at: `all`, or the `last` alone, as published FORCE
        does, which learns at every k-th step; not of `grad`.
      corrected: feed back what readouts would have given with their new weights, as full-FORCE does
        (DePasquale et al. 2018), and not what they gave, as FORCE does; of readouts that are linear
        filters.
      alignment: of `outputs`: `previous` holds an error against the rates of the step before it,
        which made it, `published` against those of its own step. `current` turns targets of the
        population, inside of its neurons' range, into the currents that would make them, with the
        targets of the step before as regressors: least squares exactly, which does not look at what
        the network does on its own. `own_current` makes the same currents from the network's own
        rates, so that it stays with the targets where nobody corrects it. A step counts where the
        loss looks at it and the one before.
      groups: of `scaled_jacobian`: `node` or `variable`.
      gradient: of `grad`: `bptt`, through the steps of a window, or `eprop`.
      trust: of `grad`: by how much a step, before the learning rate, may change a cell's currents
        in the root mean square; 0 for no limit.
      feedback: of `outputs` and of `eprop`, from readouts to the population.
      seed: of feedback that has none.

    Raises:
      ValueError: for an unknown strategy, alignment or group, options that do not go together, or
        a window below 1.
    """

    shares_rows = True

    def __init__(
        self,
        strategy: str = "inputs",
        kernel: Kernel = Kernel(),
        window: int | None = 1,
        rows: str = "all",
        corrected: bool = False,
        alignment: str = "previous",
        groups: str = "node",
        gradient: str = "bptt",
        trust: float = 0.0,
        feedback: Feedback = Feedback(),
        seed: int = 0,
    ):
        super().__init__(name="rls")
        for name, value, known in (
            ("strategy", strategy, STRATEGIES),
            ("rows", rows, ("all", "last")),
            ("alignment", alignment, ("previous", "published", *OF_CURRENTS)),
            ("groups", groups, ("node", "variable")),
            ("gradient", gradient, ("bptt", "eprop")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}.")
        if window is not None:
            check_steps("window", window)
        if kernel.averaging and strategy != "grad":
            raise ValueError(
                f"averaging is for strategy=grad, which preconditions; {strategy} solves."
            )
        if rows == "last" and strategy == "grad":
            raise ValueError("rows=last is for strategies that solve; grad takes every step.")
        if corrected and strategy in ("grad", "jacobian", "scaled_jacobian"):
            raise ValueError(f"corrected is for strategies of readouts; {strategy} has none.")
        if rows == "last" and strategy == "outputs" and alignment in OF_CURRENTS:
            raise ValueError(
                f"alignment={alignment} needs two steps one after the other, and rows=last looks "
                "at one of each window; use rows=all."
            )
        if trust < 0.0:
            raise ValueError(f"trust is {trust}; expected 0 or more.")
        self.strategy = strategy
        self.kernel = kernel
        self.window = window
        self.options = Options(
            strategy, alignment, groups, gradient, trust, rows, corrected, feedback, seed
        )
        self.reported = REPORTED
        self._solver: Solver | None = None

    def prepare(self, modules: TrainingModules, spec: Spec, steps: int) -> None:
        """See `LearningRule.prepare`.

        Raises:
          GraphError: for a loss or model that the strategy cannot solve for.
          ValueError: for more weights than fit into one P.
        """
        _check_kept(modules)
        with self.name_scope:
            solver = self._solver = _solver(self.options, modules, spec)
            self.feedback = solver.feedback
            self.matrices = {name: self._matrices(name, of) for name, of in solver.shapes.items()}
            self.blocks = tf.Variable(0, trainable=False, dtype=tf.int64, name="blocks")
            self.failed_at = tf.Variable(-1, trainable=False, dtype=tf.int64, name="failed_at")

    def _matrices(
        self, name: str, shapes: Sequence[tuple[tuple[int, ...], tf.DType]]
    ) -> list[tf.Variable]:
        return [
            tf.Variable(
                rls_kernel.initial(self.kernel, shape, dtype),
                trainable=False,
                name=f"{name}_{index}".replace(".", "_"),
            )
            for index, (shape, dtype) in enumerate(shapes)
        ]

    def trained(self, modules: TrainingModules) -> tuple[tf.Variable, ...]:
        """Those of strategy `grad`; all others assign weights."""
        return self._prepared.trained

    def assigned(self, modules: TrainingModules) -> tuple[tf.Variable, ...]:
        """Weights, every P, and two counters."""
        every = [matrix for own in self.matrices.values() for matrix in own]
        return (*self._prepared.weights, *every, self.blocks, self.failed_at)

    @property
    def _prepared(self) -> Solver:
        if self._solver is None:
            raise RuntimeError("call prepare(modules, spec, steps) before the first step.")
        return self._solver

    def windows(self, steps: int) -> tuple[StepWindow, ...]:
        """Every `window` steps."""
        return windows_of(steps, self.window or steps)

    def initial_state(self, modules: TrainingModules, batch_size: int) -> RLSState:
        """That of the model, and readouts that remember nothing."""
        filters = self._prepared.remember(batch_size)
        return RLSState(modules.model.initial_state(batch_size), filters)

    def forward(self, modules: TrainingModules, batch: Batch, state: RLSState) -> Forward:
        """See `LearningRule.forward`."""
        passed = run_forward(modules, batch, state.model)
        return Forward(passed.sums, (passed, state.filters))

    def share(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> Forward:
        """See `LearningRule.share`: the rows of every problem."""
        done, filters = passed.kept
        shared = self._prepared.share(batch, done, slopes, filters)
        return Forward(passed.sums, (done, shared.filters, shared.gradients), shared.rows)

    def backward(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> Learned:
        """See `LearningRule.backward`."""
        done: Passed
        done, filters, gradients = passed.kept
        before = [tf.convert_to_tensor(v) for v in self.assigned(modules)[:-2]]
        solved = self._prepared.solve(
            self.kernel, self.matrices, self.blocks, passed.rows, gradients
        )
        after = [*solved.weights, *[x for own in solved.matrices.values() for x in own]]
        fine = solved.positive & _finite(solved.weights) & (self.failed_at < 0)
        kept = [tf.where(fine, new, old) for new, old in zip(after, before, strict=True)]
        state = done.state
        if self.options.corrected:
            state = self._prepared.corrected(state, filters, kept[: len(solved.weights)])
        failed = tf.where(fine | (self.failed_at >= 0), self.failed_at, self.blocks)
        return Learned(
            tuple(tf.where(fine, x, tf.zeros_like(x)) for x in solved.gradients),
            RLSState(state, filters),
            done.sums,
            done.reports,
            (*kept, self.blocks + 1, failed),
            _measured(solved, before[: len(solved.weights)]),
        )

    def problem(self) -> str:
        """What went wrong, and where; nothing where all is well."""
        step = int(self.failed_at.numpy())
        if step < 0:
            return ""
        how = "a covariance P lost positivity, or an error was not finite"
        cure = "numerics=potter, or regularising_rows=1 with forgetting below 1"
        if self.kernel.numerics == "potter":
            cure = "regularising_rows=1, a larger alpha, or targets without NaN"
        alignment = self.options.alignment
        if self.strategy == "outputs" and alignment in OF_CURRENTS:
            inside = f"targets inside of what the neurons can put out (alignment={alignment})"
            cure = f"{inside}, or {cure}"
        return (
            f"{how} in update {step} of the run; the weights of before are kept. Use {cure} "
            "(learning.rls.kernel)."
        )


def _check_kept(modules: TrainingModules) -> None:
    """Raises GraphError for networks that do not keep every state."""
    for node in modules.model.networks:
        if node.module.checkpoint_every is not None:
            raise GraphError(
                f"`{node.name}` keeps every {node.module.checkpoint_every}-th state only "
                "(checkpoint_every), and least squares looks at all of a window; set it to null."
            )


def _solver(options: Options, modules: TrainingModules, spec: Spec) -> Solver:
    if options.strategy == "grad":
        return Preconditioner(options, modules, spec)
    return Assigning(options, modules, spec)


def _finite(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    found = [tf.math.is_finite(tf.reduce_sum(x)) for x in tensors]
    return tf.reduce_all(found) if found else tf.constant(True)


def _measured(solved: Solved, before: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Sum and count of each of `REPORTED`."""
    moves = [new - old for new, old in zip(solved.weights, before, strict=True)]
    relative = tf.zeros_like(solved.least)
    if moves:
        norms = tf.linalg.global_norm(moves), tf.linalg.global_norm(solved.weights)
        relative = tf.math.divide_no_nan(*norms)
    values = (solved.least, solved.trace, relative, solved.ratio)
    return {
        name: tf.stack([value, tf.ones_like(value)])
        for name, value in zip(REPORTED, values, strict=True)
    }
