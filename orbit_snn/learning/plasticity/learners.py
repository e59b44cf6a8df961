"""What learns in a model: units, parameters that they share, and monitors that they pool."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.connections import Connection
from orbit_snn.graph import GraphError, TrainingModules
from orbit_snn.graph.loss_module import feature_of
from orbit_snn.learning.places import Place, places
from orbit_snn.learning.plasticity import contributions
from orbit_snn.learning.plasticity.contributions import BatchReduction, Parts
from orbit_snn.learning.plasticity.limits import Limits
from orbit_snn.learning.plasticity.trainers import IndependentCellTrainer
from orbit_snn.learning.plasticity.units import Unit
from orbit_snn.monitors import Monitor, Record, record
from orbit_snn.types import Batch, Trajectory
from orbit_snn.unroll.folding import folded

_CONNECTIONS = ("feedforward", "recurrent")


class Learner(NamedTuple):
    """A unit and where its cell is."""

    unit: Unit
    place: Place


class _Look(NamedTuple):
    """A monitor of the cell of that name, and the precision that it is folded in."""

    cell: str
    monitor: Monitor
    dtype: tf.DType


class Local(NamedTuple):
    """What one replica makes of a window.

    Attributes:
      parts: of every learner, of its parameter's shape: sums over steps, sums over samples or what
        else they are reduced to.
      count: of steps, `[]`.
      lasting: what outlives a sequence, mean over samples.
      folds: of every monitor, after the window.
      remembered: by every learner's rule, after the window.
    """

    parts: tuple[Parts, ...]
    count: tf.Tensor
    lasting: tuple[tf.Tensor, ...]
    folds: tuple[Any, ...]
    remembered: tuple[Any, ...]


class Learners:
    """All units of some trainers on a model.

    Args:
      modules: the model.
      trainers: one a rule; they register every connection that their rule can change.
      limits: of what rules change, for connections that have no updater yet.
      reduction: of steps, for those too.

    Attributes:
      members: every unit and its place.
      parameters: that they change, each once.
      lasting: place, variable and function of a state, of what outlives a sequence.

    Raises:
      GraphError: where nothing can learn.
      ValueError: for an updater that reduces otherwise.
    """

    def __init__(
        self,
        modules: TrainingModules,
        trainers: Sequence[IndependentCellTrainer],
        limits: Limits,
        reduction: str,
    ):
        every = [place for node in modules.model.networks for place in places(node)]
        changed = {trainer.rule.param for trainer in trainers}
        if len(changed) > 1 and limits != Limits():
            raise ValueError(
                f"limits are of one parameter, and the rules change {' and '.join(sorted(changed))}"
                "; give the connections updaters of their own (connection.defaultupdater()), whose "
                "bounds you set."
            )
        self.members = tuple(
            Learner(trainer.register_cell(f"{place.name}.{name}", place.cell, name), place)
            for place in every
            if place.cell.neuron.spiking
            for name in _CONNECTIONS
            for trainer in trainers
            if _can_change(trainer, place, name, changed, limits, reduction)
        )
        if not self.members:
            wanted = ", ".join(sorted({trainer.rule.param for trainer in trainers}))
            raise GraphError(
                f"no connection onto spiking neurons has a trained {wanted}, so nothing can learn; "
                "make one with trainable=True (a bias with bias=True, delays in a Delayed one)."
            )
        units = [unit for unit, _ in self.members]
        found = {contributions.parameter(unit).ref(): unit for unit in units}
        self._by_parameter = tuple(found.values())
        self.parameters = tuple(map(contributions.parameter, self._by_parameter))
        self._places = {place.name: place for _, place in self.members}
        self.lasting = tuple(
            (place, variable, value)
            for place in self._places.values()
            for variable, value in place.cell.neuron.lasting
        )

    @property
    def _looks(self) -> dict[_Look, Place]:
        """What is looked at, each once, and where."""
        return {
            _Look(place.name, monitor, unit.state.dtype): place
            for unit, place in self.members
            for monitor in unit.monitors.values()
        }

    @property
    def named_parameters(self) -> list[tuple[str, tf.Variable]]:
        """Parameters by connection, such as `net.cell0.feedforward.kernel`."""
        units = zip(self._by_parameter, self.parameters, strict=True)
        return [(f"{unit.key}.{unit.rule.param}", variable) for unit, variable in units]

    @property
    def waiting(self) -> tuple[tf.Variable, ...]:
        """Of every parameter: accumulated positive part and count, negative part and count."""
        units = self._by_parameter
        return tuple(v for unit in units for v in unit.accumulator.variables_of_parts)

    def start(self, batch_size: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Folds and what rules remember before the first step."""
        folds = []
        for (_, monitor, dtype), place in self._looks.items():
            like = tf.zeros([batch_size, monitor.look.width(place.cell)], dtype)
            folds.append(monitor.reducer.start(like))
        return tuple(folds), tuple(contributions.start(u, batch_size) for u, _ in self.members)

    def local(
        self,
        trajectories: Mapping[str, Trajectory],
        batch: Batch,
        reward: tf.Tensor | None,
        folds: Sequence[Any],
        remembered: Sequence[Any],
        reduction: BatchReduction | None,
    ) -> Local:
        """What the samples of one replica add in a window.

        Args:
          trajectories: of the networks.
          batch: features of the window, for masks.
          reward: `[B, T]`, or `[B]` of all steps.
          folds: before the window.
          remembered: before the window.
          reduction: of samples in every step; None to sum steps and samples at once.
        """
        masks = {name: _mask(place, batch) for name, place in self._places.items()}
        records = {
            name: contributions.only_real(record(place.trajectory(trajectories)), masks[name])
            for name, place in self._places.items()
        }
        values, folds = self._observed(records, folds)
        parts, kept = [], []
        for (unit, place), before in zip(self.members, remembered, strict=True):
            dtype = unit.state.dtype
            own = {k: values[_Look(place.name, m, dtype)] for k, m in unit.monitors.items()}
            given = _over_steps(reward, records[place.name].outputs.shape[0])
            seen = contributions.seen_by(unit, records[place.name], own, given, masks[place.name])
            if reduction is None:
                part, after = contributions.summed(unit, seen, before)
            else:
                joined = unit.accumulator.joined
                part, after = contributions.stepwise(unit, seen, before, reduction, joined)
            parts.append(part)
            kept.append(after)
        lasting = (
            tf.reduce_mean(value(place.trajectory(trajectories).final), axis=0)
            for place, _, value in self.lasting
        )
        steps = next(iter(records.values())).outputs.shape[0]
        return Local(tuple(parts), tf.constant(steps, tf.int64), tuple(lasting), folds, tuple(kept))

    def _observed(
        self, records: Mapping[str, Record], folds: Sequence[Any]
    ) -> tuple[dict[_Look, tf.Tensor], tuple[Any, ...]]:
        """Values of all monitors, `[T + 1, ...]`, and their folds after the window."""
        looks = tuple(self._looks)
        observed = [
            [tf.cast(x, dtype) for x in monitor.look(records[name])]
            for name, monitor, dtype in looks
        ]
        values, after = folded([look.monitor.reducer for look in looks], observed, folds)
        return dict(zip(looks, values, strict=True)), tuple(after)

    def together(self, parts: Sequence[Parts], count: tf.Tensor) -> list[tuple[Parts, tf.Tensor]]:
        """Of every parameter, what all its learners add, and how many contributions that is."""
        found = []
        for first in self._by_parameter:
            joined = first.accumulator.joined
            pairs = zip(self.members, parts, strict=True)
            own = [part for (unit, _), part in pairs if _same(unit, first)]
            total = own[0]
            for more in own[1:]:
                sides = zip(total, more, strict=True)
                total = Parts(*(joined(a, tf.cast(b, a.dtype), count) for a, b in sides))
            found.append((total, count * len(own)))
        return found

    def after(self, found: Sequence[tuple[Parts, tf.Tensor]]) -> list[tf.Tensor]:
        """New values of the parameters."""
        values = []
        for unit, (parts, count) in zip(self._by_parameter, found, strict=True):
            variable = contributions.parameter(unit)
            accumulator = unit.accumulator
            reduced = [tf.cast(accumulator.reduced(x, count), variable.dtype) for x in parts]
            now = tf.convert_to_tensor(variable)
            values.append(unit.updater.updated(unit.rule.param, now, *reduced))
        return values

    def accumulated(
        self, found: Sequence[tuple[Parts, tf.Tensor]]
    ) -> list[tuple[Parts, tf.Tensor]]:
        """What was found, with what waits already."""
        every = []
        for unit, (parts, count) in zip(self._by_parameter, found, strict=True):
            accumulator = unit.accumulator
            pos, before, neg, _ = map(tf.convert_to_tensor, accumulator.variables_of_parts)
            sides = ((pos, parts.pos), (neg, parts.neg))
            joined = [accumulator.joined(old, tf.cast(x, old.dtype), before) for old, x in sides]
            every.append((Parts(*joined), before + count))
        return every


def _can_change(
    trainer: IndependentCellTrainer,
    place: Place,
    name: str,
    changed: Collection[str],
    limits: Limits,
    reduction: str,
) -> bool:
    """Whether a trainer's rule can change a connection, which then has an updater.

    One that is made gets limits on what the rules change.
    """
    connection: Connection | None = getattr(place.cell, name)
    param = trainer.rule.param
    if connection is None or param not in connection.plastic:
        return False
    updater = connection.updater
    if updater is None:
        updater = connection.defaultupdater(reduction)
        for each in (each for each in connection.plastic if each in changed):
            limits.put_on(updater, each)
    found = updater.accumulator(param).reduction
    if found != reduction:
        raise ValueError(
            f"the updater of {place.name}.{name} reduces by {found} and step_reduction is "
            f"{reduction}; make them equal."
        )
    return True


def _same(unit: Unit, other: Unit) -> bool:
    return contributions.parameter(unit) is contributions.parameter(other)


def _over_steps(reward: tf.Tensor | None, steps: int) -> tf.Tensor | None:
    """`[B, T]`, `[B, T, 1]` or `[B]` as `[T, B]`.

    Raises:
      GraphError: for another shape.
    """
    if reward is None:
        return None
    if reward.shape.rank > 1 and reward.shape.num_elements() != reward.shape[0] * steps:
        raise GraphError(
            f"the reward has shape {tuple(reward.shape)}; expected [B, T] with {steps} steps, or "
            "[B]; reduce the neurons, as in tf.reduce_mean(reward, axis=-1)."
        )
    if reward.shape.rank == 1:
        return tf.tile(reward[tf.newaxis], [steps, 1])
    return tf.transpose(tf.reshape(reward, [reward.shape[0], steps]))


def _mask(place: Place, batch: Batch) -> tf.Tensor | None:
    node = place.node.mask
    return None if node is None else tf.transpose(batch[feature_of(node)])
