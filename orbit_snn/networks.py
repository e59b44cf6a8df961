"""A network: cells in series and one or more readouts."""

import itertools
import types
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from orbit_snn import unroll
from orbit_snn.cells import Cell
from orbit_snn.connections import Connection
from orbit_snn.types import CellTrajectory, NetworkState, OutputGradients, Trajectory
from orbit_snn.unroll import Parts, Reverse


class Network(tf.Module):
    """Cells in series; every readout is a cell that receives the output of the last one.

    Args:
      cells: from the input on; each takes the output of the one before, in the same step.
      readouts: by name, or one cell, which is then called `output`; none for a network that others
        read.
      checkpoint_every: keep every C-th state of a sequence only (see `unroll.forward`).
      feedback: by name of a readout, a connection of fixed weights through which what it gave one
        step before is part of the first cell's current, as in FORCE (Sussillo & Abbott 2009).
      closed_loop: name of the readout whose output of the step before is the input of a step that
        is given none, see `unroll`; default the only readout.
      name: of the module.

    Raises:
      ValueError: for no cells, sizes that do not fit, feedback that is trained or checkpointed, or
        a loop that cannot be closed.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        readouts: Mapping[str, Cell] | Cell = types.MappingProxyType({}),
        checkpoint_every: int | None = None,
        feedback: Mapping[str, Connection] = types.MappingProxyType({}),
        closed_loop: str | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        readouts = {"output": readouts} if isinstance(readouts, Cell) else dict(readouts)
        if not cells:
            raise ValueError("a network got no cells; give at least one.")
        unroll.check_interval(checkpoint_every)
        every = [*cells, *readouts.values()]
        if len({id(cell) for cell in every}) < len(every):
            raise ValueError("a network got the same cell twice; make one cell for each place.")
        for below, above in itertools.pairwise(cells):
            _check_fit(below, above)
        for readout in readouts.values():
            _check_fit(cells[-1], readout)
        self.cells = tuple(cells)
        self.readouts = readouts
        self.checkpoint_every = checkpoint_every
        self.feedback = dict(feedback)
        self.closed_loop = closed_loop
        _check_feedback(self)
        if closed_loop is not None:
            self.closing_readout()

    def initial_state(self, batch_size: int) -> NetworkState:
        """State before the first step of every cell and readout."""
        return NetworkState(
            tuple(cell.initial_state(batch_size) for cell in self.cells),
            {name: cell.initial_state(batch_size) for name, cell in self.readouts.items()},
        )

    def closing_readout(self) -> str:
        """The readout that closes the loop.

        Raises:
          ValueError: for none of that name, several and none named, one that has not as many
            outputs as the network has inputs, or `checkpoint_every`.
        """
        known, name = ", ".join(self.readouts) or "none", self.closed_loop
        if name is None and len(self.readouts) != 1:
            how = "name it, as in Network(..., closed_loop='next')" if self.readouts else "add one"
            raise ValueError(
                f"a closed loop feeds one readout back, and the network has {known}; {how}."
            )
        name = next(iter(self.readouts)) if name is None else name
        if name not in self.readouts:
            raise ValueError(f"closed_loop is the readout {name!r}; the network has {known}.")
        outputs, inputs = self.readouts[name].neuron.units, self.cells[0].feedforward.inputs
        if outputs != inputs:
            raise ValueError(
                f"the readout {name!r} gives {outputs} outputs and the network takes {inputs} "
                "inputs; in closed loop one is the other, so make them equal."
            )
        if self.checkpoint_every is not None:
            raise ValueError(
                "a network in closed loop keeps all states; set checkpoint_every to None."
            )
        return name

    def unroll(
        self,
        xs: tf.Tensor,
        state: NetworkState | None = None,
        given: tf.Tensor | None = None,
    ) -> Trajectory:
        """Runs the network over a sequence.

        Args:
          xs: inputs, time-major, `[T, B, F]`.
          state: before the first step; default `initial_state`. The state after the last step is
            `trajectory.final`; the network itself remembers nothing.
          given: bool `[T, B]`, true where `xs` has an input; at the other steps what the readout
            `closed_loop` gave one step before takes its place. None for inputs at every step.

        Raises:
          ValueError: for inputs of another shape, or a loop that cannot be closed.
        """
        state = self.initial_state(xs.shape[1]) if state is None else state
        if self.feedback or given is not None:
            states = [*state.cells, *[state.readouts[name] for name in self.readouts]]
            done = unroll.forward_together(self._parts(given), xs, states, given)
            count = len(self.cells)
            readouts = dict(zip(self.readouts, done[count:], strict=True))
            return Trajectory(tuple(done[:count]), readouts, given)
        cells: list[CellTrajectory] = []
        for cell, own in zip(self.cells, state.cells, strict=True):
            cells.append(unroll.forward(cell, xs, own, self.checkpoint_every))
            xs = cells[-1].outputs
        readouts = {
            name: unroll.forward(cell, xs, state.readouts[name], self.checkpoint_every)
            for name, cell in self.readouts.items()
        }
        return Trajectory(tuple(cells), readouts)

    def reverse(
        self,
        trajectory: Trajectory,
        direct: OutputGradients,
        cut_every: int | None = None,
        inputs_needed: bool = False,
    ) -> tuple[tuple[tf.Tensor, ...], tf.Tensor | None]:
        """Gradients of a scalar to `parameters`, given its direct gradients to all outputs.

        Args:
          trajectory: what `unroll` returned.
          direct: gradients to the outputs.
          cut_every: see `unroll.reverse`.
          inputs_needed: compute the gradient to the inputs too.

        Returns:
          The gradients, and that to the inputs, `[T, B, F]`, or None.
        """
        if self.steps_together(trajectory):
            backs = self.reverse_all(trajectory, direct, cut_every)
            found = tuple(gradient for back in backs for gradient in back.gradients)
            return found, backs[0].inputs if inputs_needed else None
        every: dict[str, Any] = {
            "checkpoint_every": self.checkpoint_every,
            "cut_every": cut_every,
        }
        gradients: list[tuple[tf.Tensor, ...]] = []
        above: tf.Tensor | None = None
        for name, cell in self.readouts.items():
            back = unroll.reverse(cell, trajectory.readouts[name], direct.readouts[name], **every)
            gradients.append(back.gradients)
            above = add(above, back.inputs)
        hidden: list[tuple[tf.Tensor, ...]] = []
        for index in reversed(range(len(self.cells))):
            own = trajectory.cells[index]
            signal = add(above, direct.cells[index])
            back = unroll.reverse(
                self.cells[index],
                own,
                tf.zeros_like(own.outputs) if signal is None else signal,
                inputs_needed=inputs_needed or index > 0,
                dhistory=direct.histories[index],
                **every,
            )
            hidden.insert(0, back.gradients)
            above = back.inputs
        return tuple(g for group in (*hidden, *gradients) for g in group), above

    def reverse_all(
        self, trajectory: Trajectory, direct: OutputGradients, cut_every: int | None = None
    ) -> list[Reverse]:
        """Results for each cell, then each readout, where all step together; as `reverse`."""
        cells, readouts = trajectory.cells, trajectory.readouts
        signals = [
            tf.zeros_like(own.outputs) if signal is None else signal
            for own, signal in zip(cells, direct.cells, strict=True)
        ]
        return unroll.reverse_together(
            self._parts(trajectory.given),
            [*cells, *[readouts[name] for name in self.readouts]],
            [*signals, *[direct.readouts[name] for name in self.readouts]],
            [*direct.histories, *[None] * len(readouts)],
            cut_every,
            trajectory.given,
        )

    def steps_together(self, trajectory: Trajectory) -> bool:
        """Whether readouts fed the first cell, so that every cell is on the way to every output."""
        return bool(self.feedback) or trajectory.given is not None

    def _parts(self, given: tf.Tensor | None) -> Parts:
        closing = "" if given is None else self.closing_readout()
        return Parts(self.cells, self.readouts, self.feedback, closing)

    @property
    def parameters(self) -> tuple[tf.Variable, ...]:
        """Trainable variables: the cells' from the input on, then the readouts'."""
        modules = (*self.cells, *self.readouts.values())
        return tuple(parameter for module in modules for parameter in module.parameters)


def add(a: tf.Tensor | None, b: tf.Tensor | None) -> tf.Tensor | None:
    """The sum of what there is."""
    if a is None or b is None:
        return a if b is None else b
    return a + b


def _check_fit(below: Cell, above: Cell) -> None:
    if below.neuron.units != above.feedforward.inputs:
        raise ValueError(
            f"a cell of {below.neuron.units} neurons feeds one that takes "
            f"{above.feedforward.inputs} inputs; make them equal."
        )


def _check_feedback(network: Network) -> None:
    first = network.cells[0].neuron.units
    for name, connection in network.feedback.items():
        if name not in network.readouts:
            raise ValueError(
                f"feedback is from the readout {name!r}; the network has "
                f"{', '.join(network.readouts) or 'none'}."
            )
        sizes = (network.readouts[name].neuron.units, first)
        if (connection.inputs, connection.units) != sizes:
            raise ValueError(
                f"the feedback from {name!r} is {connection.inputs} onto {connection.units}; "
                f"expected {sizes[0]} outputs onto the first cell's {sizes[1]} neurons."
            )
        if connection.parameters:
            raise ValueError(
                f"the feedback from {name!r} is trained, and no rule trains feedback; make it with "
                "trainable=False."
            )
    if network.feedback and network.checkpoint_every is not None:
        raise ValueError("a network with feedback keeps all states; set checkpoint_every to None.")
