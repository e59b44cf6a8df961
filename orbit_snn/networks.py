"""A network: cells in series and one or more readouts."""

import itertools
from collections.abc import Mapping, Sequence

import tensorflow as tf

from orbit_snn import unroll
from orbit_snn.cells import Cell
from orbit_snn.types import CellTrajectory, NetworkState, Outputs, Trajectory


class Network(tf.Module):
    """Cells in series; every readout is a cell that receives the output of the last one.

    Args:
      cells: from the input on; each takes the output of the one before, in the same step.
      readouts: by name, or one cell, which is then called `output`.
      checkpoint_every: keep every C-th state of a sequence only (see `unroll.forward`).
      name: of the module.

    Raises:
      ValueError: for no cells, no readouts, or sizes that do not fit.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        readouts: Mapping[str, Cell] | Cell,
        checkpoint_every: int | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        readouts = {"output": readouts} if isinstance(readouts, Cell) else dict(readouts)
        if not cells or not readouts:
            raise ValueError(
                f"a network got {len(cells)} cells and {len(readouts)} readouts; give at least "
                "one of each."
            )
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

    def initial_state(self, batch_size: int) -> NetworkState:
        """State before the first step of every cell and readout."""
        return NetworkState(
            tuple(cell.initial_state(batch_size) for cell in self.cells),
            {name: cell.initial_state(batch_size) for name, cell in self.readouts.items()},
        )

    def unroll(self, xs: tf.Tensor, state: NetworkState | None = None) -> Trajectory:
        """Runs the network over a sequence.

        Args:
          xs: inputs, time-major, `[T, B, F]`.
          state: before the first step; default `initial_state`. The state after the last step is
            `trajectory.final`; the network itself remembers nothing.
        """
        state = self.initial_state(xs.shape[1]) if state is None else state
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
        dcells: Sequence[tf.Tensor | None],
        dreadouts: Mapping[str, tf.Tensor],
        cut_every: int | None = None,
    ) -> tuple[tf.Tensor, ...]:
        """Gradients of a scalar to `parameters`, given its direct gradients to all outputs.

        Args:
          trajectory: what `unroll` returned.
          dcells: gradient to the outputs of every cell, `[T, B, N]`, or None where there is none
            but by way of what the cell feeds.
          dreadouts: gradient to the outputs of every readout, `[T, B, K]`.
          cut_every: see `unroll.reverse`.
        """
        gradients: list[tuple[tf.Tensor, ...]] = []
        above: tf.Tensor | None = None
        for name, cell in self.readouts.items():
            back = unroll.reverse(
                cell,
                trajectory.readouts[name],
                dreadouts[name],
                checkpoint_every=self.checkpoint_every,
                cut_every=cut_every,
            )
            gradients.append(back.gradients)
            above = _sum(above, back.inputs)
        hidden: list[tuple[tf.Tensor, ...]] = []
        for index in reversed(range(len(self.cells))):
            back = unroll.reverse(
                self.cells[index],
                trajectory.cells[index],
                _sum(above, dcells[index]),
                checkpoint_every=self.checkpoint_every,
                cut_every=cut_every,
                inputs_needed=index > 0,
            )
            hidden.insert(0, back.gradients)
            above = back.inputs
        return tuple(g for group in (*hidden, *gradients) for g in group)

    @property
    def parameters(self) -> tuple[tf.Variable, ...]:
        """Trainable variables: the cells' from the input on, then the readouts'."""
        modules = (*self.cells, *self.readouts.values())
        return tuple(parameter for module in modules for parameter in module.parameters)


def outputs(trajectory: Trajectory, mask: tf.Tensor | None = None) -> Outputs:
    """What a loss may look at, batch-major: readouts and mean rates.

    Args:
      trajectory: of a network.
      mask: 1 at the real steps of every example, `[B, T]`; rates count only those.
    """
    readouts = {
        name: tf.transpose(readout.outputs, [1, 0, 2])
        for name, readout in trajectory.readouts.items()
    }
    return Outputs(readouts, tuple(_rates(cell.outputs, mask) for cell in trajectory.cells))


def _rates(z: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Mean over the real steps, `[T, B, N]` to `[B, N]`."""
    if mask is None:
        return tf.reduce_mean(z, axis=0)
    real = tf.cast(tf.transpose(mask), z.dtype)[:, :, tf.newaxis]
    return tf.math.divide_no_nan(tf.reduce_sum(z * real, axis=0), tf.reduce_sum(real, axis=0))


def _sum(a: tf.Tensor | None, b: tf.Tensor | None) -> tf.Tensor | None:
    if a is None or b is None:
        return a if b is None else b
    return a + b


def _check_fit(below: Cell, above: Cell) -> None:
    if below.neuron.units != above.feedforward.inputs:
        raise ValueError(
            f"a cell of {below.neuron.units} neurons feeds one that takes "
            f"{above.feedforward.inputs} inputs; make them equal."
        )
