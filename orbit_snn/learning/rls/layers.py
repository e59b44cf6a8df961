"""What least squares sees of a cell: one matrix of synapses, and a part of the trajectory."""

from collections.abc import Iterator, Sequence

import tensorflow as tf

from orbit_snn.connections import Connection
from orbit_snn.connections.affine import entries, scattered
from orbit_snn.graph import GraphError
from orbit_snn.learning.places import Place
from orbit_snn.types import CellTrajectory
from orbit_snn.unroll import traces


class Layer:
    """Trained connections onto one cell, as one matrix of synapses, `[M, N]`.

    What arrives is what `Connection.presynaptic` gives, `[..., P]`: inputs, 1 for a bias, the
    cell's own outputs one step before. Where all neurons have synapses on all of it, M is P and
    row m of the matrix belongs to what arrives there. Where they have not (`own_rows` of a
    connection), each neuron has M synapses on rows of its own, and a P of least squares is one for
    each neuron, `[N, M, M]`, not one for all.

    Args:
      place: of the cell.
      recurrent_only: leave the feedforward connection out.

    Raises:
      GraphError: for trained weights that neurons share.

    Attributes:
      rows: P, 0 where nothing is trained.
      synapses: M, of each neuron.
      units: N.
    """

    def __init__(self, place: Place, recurrent_only: bool = False):
        self.place = place
        cell = self._cell = place.cell
        _check_own_weights(place, cell.connections[1 if recurrent_only else 0 :])
        self._widths = traces.widths(cell)
        self._skipped = self._widths[0] if recurrent_only else 0
        self.rows = sum(self._widths) - self._skipped
        self.units = cell.neuron.units
        self.dtype = cell.neuron.dtype
        feedforward = () if recurrent_only else cell.feedforward.parameters
        recurrent = () if cell.recurrent is None else cell.recurrent.parameters
        self.parameters: tuple[tf.Variable, ...] = (*feedforward, *recurrent)
        self.synapses = sum(self.sizes)
        self._shared = all(own is None for _, _, own in self._trained_connections())

    def arriving(self, trajectory: CellTrajectory) -> tf.Tensor:
        """What arrives at every step, `[T, B, P]`."""
        seen = traces.presynaptic(self._cell, trajectory.inputs, trajectory.previous_outputs)
        return seen[..., self._skipped :]

    def products(self, arriving: tf.Tensor, dcurrents: tf.Tensor) -> tf.Tensor:
        """Gradients by synapses, `[S, B, M, N]`, of those to currents, `[T, S, B, N]`."""
        if self._shared:
            found = tf.einsum("tbp,tsbn->sbpn", arriving, dcurrents)
        else:
            own = tf.gather(arriving, self._own_rows(), axis=-1)
            found = tf.einsum("tbmn,tsbn->sbmn", own, dcurrents)
        return found * self.mask()

    def regressors(self, arriving: tf.Tensor) -> tf.Tensor:
        """Rows `[R, P]` as a P takes them: as they are, or `[N, R, M]` with those of a neuron."""
        if self._shared:
            return arriving
        own = tf.transpose(self._own_rows())
        by_neuron = tf.gather(tf.transpose(arriving), own)  # [N, M, R]
        return tf.linalg.matrix_transpose(by_neuron)

    def columns(self, values: tf.Tensor) -> tf.Tensor:
        """What belongs to neurons, `[..., N]`, as the problems of a P: `[N, ..., 1]` of their own.

        The inverse of `matrix_of`.
        """
        return values if self._shared else tf.transpose(values)[:, :, tf.newaxis]

    def matrix_of(self, columns: tf.Tensor) -> tf.Tensor:
        """A matrix of synapses `[M, N]`, of `[M, N]` or `[N, M, 1]`."""
        return columns if self._shared else tf.transpose(columns[:, :, 0])

    @property
    def covariance_shape(self) -> tuple[int, ...]:
        """Of P: `[P, P]`, or `[N, M, M]`."""
        if self._shared:
            return (self.rows, self.rows)
        return (self.units, self.synapses, self.synapses)

    def weights(self, values: Sequence[tf.Tensor] | None = None) -> tf.Tensor:
        """Weights, as they are or given, by what arrives, `[P, N]`; 0 where there is no synapse."""
        if values is None:
            values = [tf.convert_to_tensor(p) for p in self.parameters]
        return self._by_row(values)

    def mask(self) -> tf.Tensor:
        """1 where there is a synapse, `[M, N]`."""
        return self.by_synapse(self.by_parameter(tf.ones([self.synapses, self.units], self.dtype)))

    def by_synapse(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """One tensor for each of `parameters`, weights or gradients, as a matrix `[M, N]`."""
        matrix = self._by_row(values)
        return matrix if self._shared else tf.gather_nd(matrix, entries(self._own_rows()))

    def by_parameter(self, matrix: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """A matrix `[M, N]` as one tensor for each of `parameters`."""
        if not self._shared:
            matrix = scattered(matrix, self._own_rows(), self.rows)
        skipped = tf.zeros([self._skipped, self.units], self.dtype)
        every = traces.synaptic_gradients(self._cell, tf.concat([skipped, matrix], axis=0))
        return every[len(every) - len(self.parameters) :]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Synapses of a neuron by each connection that is trained."""
        found = [
            width if own is None else own.shape[0] for _, width, own in self._trained_connections()
        ]
        return tuple(found)

    def by_connection(self, matrix: tf.Tensor) -> list[tf.Tensor]:
        """A matrix `[..., M, N]` by connection."""
        return tf.split(matrix, self.sizes, axis=-2)

    def _by_row(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """One tensor for each of `parameters` as a matrix `[P, N]`."""
        cell = self._cell
        count = len(cell.feedforward.parameters) if not self._skipped else 0
        found = [] if self._skipped else [cell.feedforward.by_synapse(values[:count])]
        if cell.recurrent is not None:
            found.append(cell.recurrent.by_synapse(values[count:]))
        return tf.concat(found, axis=0)

    def _trained_connections(self) -> Iterator[tuple[int, int, tf.Tensor | None]]:
        """First row, number of rows and `own_rows` of each connection that has any."""
        first = -self._skipped
        for connection, width in zip(self._cell.connections, self._widths, strict=True):
            if first >= 0 and width:
                yield first, width, connection.own_rows()
            first += width

    def _own_rows(self) -> tf.Tensor:
        """Which of the P each neuron has synapses on, `[M, N]`."""
        found = []
        for first, width, own in self._trained_connections():
            if own is None:
                every = tf.range(width, dtype=tf.int64)[:, tf.newaxis]
                own = tf.broadcast_to(every, [width, self.units])
            found.append(first + own)
        return tf.concat(found, axis=0)


def _check_own_weights(place: Place, connections: Sequence[Connection]) -> None:
    """Raises GraphError for trained weights that neurons share."""
    for connection in connections:
        if connection.shares_weights and connection.parameters:
            raise GraphError(
                f"the neurons of `{place.name}` share the weights of a "
                f"{type(connection).__name__}, and least squares solves for each neuron's own; "
                "make it with trainable=False, or train with BPTT, TBPTT or Eprop."
            )
