"""e-prop: eligibility propagation (Bellec et al., Nat. Commun. 11:3625, 2020)."""

import tensorflow as tf

from orbit_snn.graph import GraphError, TrainingModules
from orbit_snn.graph.loss_module import Sums
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.learning.base import (
    UPDATES,
    Forward,
    Learned,
    LearningRule,
    Spec,
    Window,
    check_steps,
    windows_of,
)
from orbit_snn.learning.eprop_checks import check_adaptive, check_layers, check_readouts
from orbit_snn.learning.eprop_chunks import ChunkReverse, Plan
from orbit_snn.learning.eprop_factored import Factored
from orbit_snn.learning.eprop_online import EpropState, OnlinePass, gradients_of
from orbit_snn.learning.feedback import Feedback, FeedbackMatrices
from orbit_snn.learning.online import OnlineLoss
from orbit_snn.learning.passes import run_forward
from orbit_snn.types import Batch

MODES = ("factored", "chunked", "stepwise")
LAYER_GRADIENTS = ("spatial", "stop")


class Eprop(LearningRule):
    """Eligibility traces times learning signals: the gradient without paths between neurons.

    It is the gradient of the loss where the spikes that neurons send to each other are constants
    (eq. 1 and 4 of the paper): the recurrent current, and where the neuron's `reset.gradient` is
    False, which is the paper's choice, its reset. With `reset.gradient` it is SnAp-1. Scalings are
    those of the neurons: the paper's are `input_gain` `one` for hidden neurons and readouts, those
    of its published code (IGITUGraz) `one_minus_decay`.

    All modes give the same gradient. `factored` goes back once through a whole sequence, as cheap
    as a back-propagation without its recurrent product, and keeps the sequence. `chunked` goes
    forward in chunks and carries traces from one to the next: its memory does not grow with the
    sequence, and after every chunk the gradient so far is there. `stepwise` is chunks of one step,
    the online rule as it is written.

    Args:
      mode: `factored`, `chunked` or `stepwise`.
      chunk: steps of a chunk; the last one takes what is left. A sequence of one chunk is run as
        `factored`.
      feedback: the way of errors from readouts to neurons.
      layer_gradient: between cells in series. `spatial` lets errors pass down through the weights
        and the memory of the cells above, `stop` does not: readouts then teach every cell of their
        network directly, through random feedback.
      update_every: `sequence` updates once a batch. `window` updates after every chunk, which is
        then scored on its own, with the state and the traces carried on.
      seed: of random feedback that has none.

    Raises:
      ValueError: for an unknown mode or kind, a chunk below 1, or windows of `factored`.
    """

    def __init__(
        self,
        mode: str = "factored",
        chunk: int = 250,
        feedback: Feedback = Feedback(),
        layer_gradient: str = "spatial",
        update_every: str = "sequence",
        seed: int = 0,
    ):
        super().__init__(name="eprop")
        for name, value, known in (
            ("mode", mode, MODES),
            ("layer_gradient", layer_gradient, LAYER_GRADIENTS),
            ("update_every", update_every, UPDATES),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}.")
        if not isinstance(feedback, Feedback):
            raise ValueError(
                f"feedback is {feedback!r}; expected a Feedback, such as Feedback('random')."
            )
        check_steps("chunk", chunk)
        if mode == "factored" and update_every == "window":
            raise ValueError(
                "update_every is window, and mode=factored goes back once through a whole "
                "sequence; use mode=chunked or stepwise."
            )
        self.mode = mode
        self.chunk = 1 if mode == "stepwise" else int(chunk)
        self.layer_gradient = layer_gradient
        self.update_every = update_every
        self.kind = feedback
        self.seed = seed
        self.feedback: FeedbackMatrices | None = None
        self._plan: Plan | None = None
        self._pass: OnlinePass | None = None

    def prepare(self, modules: TrainingModules, spec: Spec, steps: int) -> None:
        """See `LearningRule.prepare`.

        Raises:
          GraphError: for a model or loss that cannot be trained in this mode.
          ValueError: for feedback of a wrong shape.
        """
        self._plan = self._pass = None
        self.unreported = ()
        online = self.mode != "factored" and self.chunk < steps
        if self.update_every == "window" and not online:
            raise GraphError(
                f"update_every is window, and a chunk of {self.chunk} holds the whole sequence of "
                f"{steps} steps; use a smaller chunk, or update_every=sequence."
            )
        check_readouts(modules)
        check_layers(modules, self.kind.kind, self.layer_gradient, online)
        networks = modules.model.networks
        everywhere = self.layer_gradient == "stop"
        with self.name_scope:
            self.feedback = FeedbackMatrices(self.kind, networks, everywhere, self.seed)
        if self.kind.kind == "adaptive":
            check_adaptive(modules)
        if not online:
            return
        if self.update_every == "window":
            self._plan = Plan(networks, ())
            return
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        loss = OnlineLoss(modules, spec, steps, self.chunk, replicas)
        self._plan = Plan(networks, loss.averaged)
        self.unreported = loss.reported.unknown
        self._pass = OnlinePass(loss, self._plan, self.feedback)

    def trained(self, modules: TrainingModules) -> tuple[tf.Variable, ...]:
        """The model's parameters, and matrices of adaptive feedback."""
        return (*modules.model.parameters, *_prepared(self.feedback).trained)

    def decays(self, modules: TrainingModules) -> tuple[tuple[tf.Variable, float], ...]:
        """Adaptive matrices and the weights of the readouts that they follow."""
        matrices = _prepared(self.feedback).trained
        if not matrices:
            return ()
        kernels = [_kernel(node, name) for node in modules.model.networks for name in node.readouts]
        return tuple((v, 1.0 - self.kind.decay) for v in (*matrices, *kernels))

    def windows(self, steps: int) -> tuple[Window, ...]:
        """The whole sequence, or every chunk."""
        if self.mode == "factored" or self.update_every == "sequence":
            return (Window(0, steps),)
        return windows_of(steps, self.chunk)

    def initial_state(self, modules: TrainingModules, batch_size: int) -> EpropState:
        """State of the model, and no traces."""
        plan = self._plan
        traces = {} if plan is None else plan.no_traces(modules.model.networks, batch_size)
        return EpropState(modules.model.initial_state(batch_size), traces)

    def forward(self, modules: TrainingModules, batch: Batch, state: EpropState) -> Forward:
        """See `LearningRule.forward`; online, only what means divide by is known beforehand."""
        _prepared(self.feedback)
        if self._pass is not None:
            sums, reports = self._pass.loss.counts(batch)
            return Forward(sums, (state, reports))
        passed = run_forward(modules, batch, state.model)
        return Forward(passed.sums, (passed, state.traces))

    def backward(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> Learned:
        """See `LearningRule.backward`."""
        if self._pass is not None:
            return self._pass(modules, batch, passed.sums, slopes, *passed.kept)
        done, traces = passed.kept
        feedback = _prepared(self.feedback)
        reverse: Factored | ChunkReverse
        if self._plan is None:
            reverse = Factored(feedback, self.layer_gradient == "spatial")
        else:
            reverse = ChunkReverse(self._plan, feedback, traces)
        gradients = gradients_of(modules, batch, done, slopes, reverse, feedback.trained)
        state = EpropState(done.state, reverse.after)
        return Learned(gradients, state, done.sums, done.reports)


def _prepared(feedback: FeedbackMatrices | None) -> FeedbackMatrices:
    if feedback is None:
        raise RuntimeError("call prepare(modules, spec, steps) before the first step.")
    return feedback


def _kernel(node: NetworkNode, readout: str) -> tf.Variable:
    """The weights of a readout, which adaptive feedback follows."""
    return node.module.readouts[readout].feedforward.parameters[0]
