"""e-prop over one chunk of a sequence: what the traces of each network are, and how they move."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.graph import GraphError
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.learning.feedback import FeedbackMatrices
from orbit_snn.memory import linear_response
from orbit_snn.networks import add
from orbit_snn.types import OutputGradients, Trajectory
from orbit_snn.unroll import eligibility, traces
from orbit_snn.unroll.traces import CellMemory, ChunkResult, Filters, Signals, Traces


class NetworkTraces(NamedTuple):
    """Traces of every cell and readout of a network."""

    cells: tuple[Traces, ...]
    readouts: dict[str, Traces]


RuleTraces = dict[str, NetworkTraces]
"""Traces by name of the network's node."""


class _Filter(NamedTuple):
    """A decay that readouts have in common, or the decay of one output."""

    readouts: tuple[str, ...]
    output: int | None  # None for all outputs


class _Response(NamedTuple):
    """How a readout passes on what it got before a chunk."""

    decays: tf.Tensor  # [K]
    gradient: tf.Tensor  # of the chunk's errors to currents of before, [B, K]


class _NetworkPlan(NamedTuple):
    cells: tuple[CellMemory, ...]
    readouts: dict[str, CellMemory]
    filters: tuple[_Filter, ...]
    averaged: tuple[bool, ...]  # cells whose mean outputs are wanted


class Plan:
    """Which traces the networks of a model need.

    Args:
      networks: of the model.
      averaged: names of the cells' nodes whose mean outputs the loss needs.

    Raises:
      GraphError: for a readout that is no linear filter of what it reads.
    """

    def __init__(self, networks: Sequence[NetworkNode], averaged: Collection[str]):
        self._networks = {
            node.name: _NetworkPlan(
                tuple(traces.cell_memory(cell) for cell in node.module.cells),
                (readouts := _readout_memories(node)),
                _filters(readouts, node),
                tuple(cell.name in averaged for cell in node.cells),
            )
            for node in networks
        }

    def __getitem__(self, name: str) -> _NetworkPlan:
        return self._networks[name]

    def no_traces(self, networks: Sequence[NetworkNode], batch_size: int) -> RuleTraces:
        """Traces before the first step."""

        def of(node: NetworkNode) -> NetworkTraces:
            plan, network = self[node.name], node.module
            cells = zip(network.cells, plan.cells, plan.averaged, strict=True)
            return NetworkTraces(
                tuple(
                    traces.no_traces(cell, known, batch_size, len(plan.filters), mean)
                    for cell, known, mean in cells
                ),
                {
                    name: traces.no_traces(cell, plan.readouts[name], batch_size, 0, False)
                    for name, cell in network.readouts.items()
                },
            )

        return {node.name: of(node) for node in networks}


class ChunkReverse:
    """Goes through a chunk of every network; a `learning.passes.Reverse`.

    Args:
      plan: which traces there are.
      feedback: from readouts to cells.
      before: traces before the chunk.
      weights: of each step of the chunk in mean outputs, `[C, B, 1]`, by name of the cell's node.
      advance: whether traces after the chunk are wanted.

    Attributes:
      after: traces after the chunk.
      adaptive: gradients to adaptive feedback, by reference of the variable.
    """

    def __init__(
        self,
        plan: Plan,
        feedback: FeedbackMatrices,
        before: RuleTraces,
        weights: Mapping[str, tf.Tensor] | None = None,
        advance: bool = True,
    ):
        self._plan = plan
        self._feedback = feedback
        self._before = before
        self._weights = weights or {}
        self._advance = advance
        self.after: RuleTraces = {}
        self.adaptive: dict[Any, tf.Tensor] = {}

    def __call__(
        self, node: NetworkNode, trajectory: Trajectory, direct: OutputGradients, below: bool
    ) -> tuple[Sequence[tf.Tensor], None]:
        """See `learning.passes.Reverse`."""
        before = self._before[node.name]
        readouts = {
            name: self._readout(node, name, trajectory, direct, before.readouts[name])
            for name in node.module.readouts
        }
        known = self._plan[node.name].readouts
        responses = {
            name: _response(node.module.readouts[name], known[name], done)
            for name, done in readouts.items()
        }
        cells = [
            self._cell(node, index, trajectory, direct, readouts, responses, before.cells[index])
            for index in range(len(node.module.cells))
        ]
        self.after[node.name] = NetworkTraces(
            tuple(done.traces for done in cells),
            {name: done.traces for name, done in readouts.items()},
        )
        every = [*cells, *readouts.values()]
        return tuple(gradient for done in every for gradient in done.gradients), None

    def _readout(
        self,
        node: NetworkNode,
        name: str,
        trajectory: Trajectory,
        direct: OutputGradients,
        before: Traces,
    ) -> ChunkResult:
        done = eligibility.chunk(
            node.module.readouts[name],
            self._plan[node.name].readouts[name],
            trajectory.readouts[name],
            Signals(direct.readouts[name]),
            Filters(),
            before,
            self._advance,
        )
        self.adaptive |= self._feedback.followed(node, name, done.gradients)
        return done

    def _cell(
        self,
        node: NetworkNode,
        index: int,
        trajectory: Trajectory,
        direct: OutputGradients,
        readouts: Mapping[str, ChunkResult],
        responses: Mapping[str, _Response],
        before: Traces,
    ) -> ChunkResult:
        plan, own = self._plan[node.name], trajectory.cells[index]
        signal = direct.cells[index]
        taught = self._feedback.teaches(node, index)
        if taught:
            for name, done in readouts.items():
                signal = add(signal, self._feedback.signal(node, name, index, done.currents))
        decays, filtered = [], []
        for each in plan.filters:
            decay, gradient = self._filter(node, index, each, responses)
            decays.append(decay)
            filtered.append(gradient if taught else tf.zeros_like(own.outputs[0]))
        return eligibility.chunk(
            node.module.cells[index],
            plan.cells[index],
            own,
            Signals(
                tf.zeros_like(own.outputs) if signal is None else signal,
                direct.histories[index],
                tuple(filtered),
            ),
            Filters(tuple(decays), self._weights.get(node.cells[index].name)),
            before,
            self._advance,
        )

    def _filter(
        self,
        node: NetworkNode,
        index: int,
        filter_: _Filter,
        responses: Mapping[str, _Response],
    ) -> tuple[Any, tf.Tensor]:
        """The decay, and the gradient `[B, N]` to a cell's outputs of before through it."""
        total = None
        for name in filter_.readouts:
            decays, gradient = responses[name]
            if filter_.output is None:
                decay: Any = next(iter(self._plan[node.name].readouts[name].decays))
            else:
                decay = decays[filter_.output]
                chosen = tf.one_hot(filter_.output, decays.shape[0], dtype=decays.dtype)
                gradient *= chosen
            total = add(total, self._feedback.signal(node, name, index, gradient))
        return decay, total


def _response(cell: Cell, known: CellMemory, done: ChunkResult) -> _Response:
    decays, gradients = [], []
    shares = zip(traces.populations(cell), known.parts, done.initial, strict=True)
    for neuron, own, initial in shares:
        (leaf,) = own.carried
        decay, drive = linear_response(neuron, leaf)
        decays.append(decay)
        gradients.append(drive * tf.nest.flatten(initial)[leaf])
    return _Response(tf.concat(decays, axis=0), tf.concat(gradients, axis=-1))


def _readout_memories(node: NetworkNode) -> dict[str, CellMemory]:
    found = {name: traces.cell_memory(cell) for name, cell in node.module.readouts.items()}
    for name, known in found.items():
        if any(len(own.carried) != 1 or own.linear != own.carried for own in known.parts):
            neuron = type(node.module.readouts[name].neuron).__name__
            raise GraphError(
                f"the readout `{node.name}.{name}` ({neuron}) is no linear filter of what it "
                "reads, which an online mode of e-prop needs; use learning.eprop.mode=factored, or "
                "a LeakyIntegrator."
            )
    return found


def _filters(readouts: Mapping[str, CellMemory], node: NetworkNode) -> tuple[_Filter, ...]:
    """One filter for each decay that outputs share, and one for each other output."""
    common: dict[float, list[str]] = {}
    single = []
    for name, known in readouts.items():
        if len(known.decays) == 1 and all(own.shared for own in known.parts):
            common.setdefault(known.decays[0], []).append(name)
        else:
            outputs = node.module.readouts[name].neuron.units
            single += [_Filter((name,), output) for output in range(outputs)]
    return (*[_Filter(tuple(names), None) for names in common.values()], *single)
