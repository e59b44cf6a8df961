"""Local plasticity as a learning rule of the trainer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn.accumulators import REDUCTIONS
from orbit_snn.graph import GraphError, TrainingModules
from orbit_snn.graph.editing import ancestors
from orbit_snn.graph.loss_module import Sums, needed_by
from orbit_snn.graph.module import GraphState
from orbit_snn.learning.base import (
    Forward,
    Learned,
    LearningRule,
    Spec,
    Window,
    check_steps,
    windows_of,
)
from orbit_snn.learning.plasticity.classifier import Taught
from orbit_snn.learning.plasticity.homeostasis import LinearHomeostasis
from orbit_snn.learning.plasticity.kernels import KernelSTDP
from orbit_snn.learning.plasticity.learners import Learners
from orbit_snn.learning.plasticity.limits import Limits
from orbit_snn.learning.plasticity.modulated import MSTDP, MSTDPET
from orbit_snn.learning.plasticity.stdp import STDP, TripletSTDP
from orbit_snn.learning.plasticity.synaptic import SynapticRule
from orbit_snn.learning.plasticity.trainers import IndependentCellTrainer
from orbit_snn.types import Batch


class PlasticityState(NamedTuple):
    """What is carried over windows.

    Attributes:
      model: of the networks.
      folds: of every monitor that some unit has.
      remembered: by the rule of every unit.
    """

    model: GraphState
    folds: tuple[Any, ...]
    remembered: tuple[Any, ...]


class Plasticity(LearningRule):
    """Rules that see a synapse's two sides only, and perhaps a reward.

    Every trained connection onto spiking neurons learns, each by every rule; make those that
    shall not with `trainable=False`. Inputs count as spikes where they are above 0. Nothing is
    differentiated: the loss is reported and does not teach. What outlives a sequence in a
    population (`Neuron.lasting`) becomes its mean over the batch. Modules of the model that learn
    without a gradient (`Taught`), such as `MaxRateClassifier`, learn from their inputs and
    labels.

    Args:
      rule: a rule, or several, whose updates add up.
      apply_every: `step`, `sequence`, or every so many steps. In between, updates accumulate and
        weights stand still.
      sequences: with `apply_every=sequence`, apply after so many batches.
      batch_reduction: `mean`, `sum`, or a function `(tensor, axis) -> tensor` of the samples'
        updates, for one replica only.
      step_reduction: what accumulated updates of steps come to: `sum`, `mean`, `max` or `min`.
      reward: node of the model that gives it, `[B, T]` or `[B]`, of the steps of one update.
      limits: of what the rules change, for connections that have no updater of their own.

    Raises:
      ValueError: for an option that is not one, or for options that do not go together.
    """

    shares_rows = True

    def __init__(
        self,
        rule: STDP | TripletSTDP | MSTDP | MSTDPET | KernelSTDP | LinearHomeostasis = STDP(),
        apply_every: str | int = "sequence",
        sequences: int = 1,
        batch_reduction: str = "mean",
        step_reduction: str = "sum",
        reward: str | None = None,
        limits: Limits = Limits(),
    ):
        super().__init__(name="plasticity")
        rules = tuple(rule) if isinstance(rule, Sequence) else (rule,)
        if not rules or not all(isinstance(each, SynapticRule) for each in rules):
            raise ValueError(f"rule is {rule!r}; expected one such as STDP(), or several.")
        if apply_every not in ("step", "sequence"):
            if isinstance(apply_every, str):
                raise ValueError(
                    f"apply_every is {apply_every!r}; expected step, sequence or a number of steps."
                )
            check_steps("apply_every", apply_every)
        if isinstance(sequences, bool) or not isinstance(sequences, int) or sequences < 1:
            raise ValueError(f"sequences is {sequences!r}; expected a whole number, 1 or more.")
        if sequences > 1 and apply_every != "sequence":
            raise ValueError(
                f"sequences is {sequences} and apply_every {apply_every!r}; several sequences are "
                "accumulated with apply_every=sequence."
            )
        if not callable(batch_reduction) and batch_reduction not in ("mean", "sum"):
            raise ValueError(
                f"batch_reduction is {batch_reduction!r}; expected mean, sum or a function of "
                "(tensor, axis)."
            )
        if step_reduction not in REDUCTIONS:
            raise ValueError(
                f"step_reduction is {step_reduction!r}; expected one of {', '.join(REDUCTIONS)}."
            )
        if not isinstance(limits, Limits):
            raise ValueError(f"limits is {limits!r}; expected Limits, as in Limits(hard=True).")
        self.rules = rules
        self.apply_every = apply_every
        self.sequences = sequences
        self.batch_reduction = batch_reduction
        self.step_reduction = step_reduction
        self.reward = reward
        self.limits = limits
        self._learners: Learners | None = None
        self._taught: list[Any] = []
        self._steps = 1

    def prepare(self, modules: TrainingModules, spec: Spec, steps: int) -> None:
        """See `LearningRule.prepare`.

        Raises:
          GraphError: for networks that keep only some states, a reward that is missing, nothing to
            train.
          ValueError: for options that several replicas cannot have.
        """
        self._check(modules)
        with self.name_scope:
            self.trainers = [IndependentCellTrainer(rule) for rule in self.rules]
            self.pending = tf.Variable(0, trainable=False, dtype=tf.int64, name="pending")
        self._learners = Learners(modules, self.trainers, self.limits, self.step_reduction)
        self._taught = [n for n in modules.model.nodes if isinstance(n.module, Taught)]
        for node in self._taught:
            if node.db_name is None:
                raise GraphError(
                    f"`{node.name}` learns from labels; set its db_name to the feature that has "
                    "them."
                )
        self._steps = steps
        if len(self.windows(steps)) > 1:
            self.unreported = _judged_by(modules, self._taught)

    def _check(self, modules: TrainingModules) -> None:
        for node in modules.model.networks:
            if node.module.checkpoint_every is not None:
                raise GraphError(
                    f"`{node.name}` keeps every {node.module.checkpoint_every}-th state only "
                    "(checkpoint_every), and local plasticity looks at all; set it to null."
                )
        for rule in self.rules:
            if rule.rewarded and self.reward is None:
                raise GraphError(
                    f"{type(rule).__name__} learns from a reward; name the node that gives it, "
                    "such as reward='reward'."
                )
        names = [name for n in modules.model.nodes for name in (n.name, n.db_name)]
        if self.reward is not None and self.reward not in names:
            raise GraphError(
                f"the model has no node `{self.reward}` to take the reward from; nodes are in it "
                "where a loss takes them: report it, as in "
                f"{{'reward': Mean.of_node({self.reward})}}."
            )
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1 and self.apply_every == "step":
            raise ValueError(
                f"apply_every=step changes weights in every step, which {replicas} replicas would "
                "have to exchange; use apply_every=sequence, or one replica."
            )
        if replicas > 1 and not self._linear:
            raise ValueError(
                f"batch_reduction={self.batch_reduction!r} with step_reduction="
                f"{self.step_reduction!r} needs all samples of a step at once, which {replicas} "
                "replicas do not have; use mean or sum for both, or one replica."
            )

    @property
    def _linear(self) -> bool:
        """Whether samples and steps may be summed before anything else is done."""
        return self.batch_reduction in ("mean", "sum") and self.step_reduction in ("mean", "sum")

    @property
    def learners(self) -> Learners:
        """What learns, once it is known.

        Raises:
          RuntimeError: before `prepare`.
        """
        if self._learners is None:
            raise RuntimeError("call prepare(modules, spec, steps) before the first step.")
        return self._learners

    def trained(self, modules: TrainingModules) -> tuple[tf.Variable, ...]:
        """None: nothing is differentiated."""
        return ()

    def assigned(self, modules: TrainingModules) -> tuple[tf.Variable, ...]:
        """Weights, what outlives a sequence, and updates that wait to be applied."""
        learners = self.learners
        lasting = [variable for _, variable, _ in learners.lasting]
        waiting = [] if self.sequences == 1 else [*learners.waiting, self.pending]
        memory = [variable for node in self._taught for variable in node.module.memory]
        return (*learners.parameters, *lasting, *memory, *waiting)

    def windows(self, steps: int) -> tuple[Window, ...]:
        """One, or one after each of which weights change."""
        size = {"step": 1, "sequence": steps}.get(str(self.apply_every), self.apply_every)
        return windows_of(steps, int(size))

    def initial_state(self, modules: TrainingModules, batch_size: int) -> PlasticityState:
        """The model's; monitors that have seen nothing."""
        folds, remembered = self.learners.start(batch_size)
        return PlasticityState(modules.model.initial_state(batch_size), folds, remembered)

    def forward(self, modules: TrainingModules, batch: Batch, state: PlasticityState) -> Forward:
        """See `LearningRule.forward`."""
        run = modules.model.run(batch, state.model)
        reports = modules.evaluator.sums(run, batch, skip=("loss",))
        sums = modules.loss.sums(run.values, batch)
        reward = None if self.reward is None else run.values[self._reward_node(modules)]
        taught = tuple(
            node.module.statistics(
                *(run.values[parent.name] for parent in node.parents), batch[node.db_name]
            )
            for node in self._taught
        )
        kept = run.trajectories(), reward, taught, state._replace(model=run.state), reports
        return Forward(sums, kept)

    def _reward_node(self, modules: TrainingModules) -> str:
        return modules.model.node_from_name(str(self.reward)).name

    def share(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> Forward:
        """See `LearningRule.share`: parts of every update, and states that outlive the sequence."""
        trajectories, reward, taught, state, reports = passed.kept
        reduction = None if self._linear else self._of_samples
        local = self.learners.local(
            trajectories, batch, reward, state.folds, state.remembered, reduction
        )
        state = state._replace(folds=local.folds, remembered=local.remembered)
        parts = local.parts
        if self._linear and self.batch_reduction == "mean":
            size = next(iter(trajectories.values())).cells[0].outputs.shape[1]
            parts = tf.nest.map_structure(lambda x: x / size, parts)
        every = (parts, local.lasting, taught, local.count)
        rows = tf.nest.map_structure(lambda x: x[tf.newaxis], every)
        return Forward(passed.sums, (state, reports), rows)

    def _of_samples(self, x: tf.Tensor, axis: int) -> tf.Tensor:
        known = {"mean": tf.reduce_mean, "sum": tf.reduce_sum}
        return known.get(self.batch_reduction, self.batch_reduction)(x, axis=axis)

    def backward(
        self, modules: TrainingModules, batch: Batch, passed: Forward, slopes: Sums
    ) -> Learned:
        """See `LearningRule.backward`."""
        state, reports = passed.kept
        parts, lasting, taught, count = passed.rows
        over = tf.reduce_sum if self.batch_reduction == "sum" else tf.reduce_mean
        parts = tf.nest.map_structure(lambda x: over(x, axis=0), parts)
        found = self.learners.together(parts, count[0])
        after, waiting = self._applied(found)
        every = [tf.reduce_mean(x, axis=0) for x in lasting]
        for node, sums in zip(self._taught, taught, strict=True):
            part = tf.cast(count[0], sums[0].dtype) / self._steps
            every += node.module.learned([part * tf.reduce_sum(x, axis=0) for x in sums])
        return Learned(
            (),
            state,
            passed.sums,
            reports,
            (*after, *every, *waiting),
        )

    def _applied(self, found: list[Any]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Parameters after the window, and updates that wait."""
        learners = self.learners
        if self.sequences == 1:
            return learners.after(found), []
        found = learners.accumulated(found)
        pending = self.pending + 1
        now = pending >= self.sequences
        pairs = zip(learners.after(found), learners.parameters, strict=True)
        after = [tf.where(now, new, old) for new, old in pairs]
        rest = [x for (pos, neg), count in found for x in (pos, count, neg, count)]
        return after, [tf.where(now, tf.zeros_like(x), x) for x in (*rest, pending)]

    def report(self) -> dict[str, float]:
        """Mean and standard deviation of every parameter that learns."""
        found = {}
        for name, variable in self.learners.named_parameters:
            values = variable.numpy().astype(np.float64)
            found[f"{name}/mean"], found[f"{name}/std"] = values.mean(), values.std()
        return found


def _judged_by(modules: TrainingModules, taught: Sequence[Any]) -> tuple[str, ...]:
    """Reported losses of what some nodes say, which of a part of a sequence means nothing."""
    loss = modules.evaluator.loss
    keys = loss.needed_for(range(len(modules.evaluator.names)))
    outputs = {key: needed_by([loss.reductions[key]]).outputs for key in keys}
    return tuple(key for key in keys if {*taught} & {*ancestors(outputs[key])})
