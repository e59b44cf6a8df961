"""Nodes of sequences: networks, modules with a state, and decisions about a whole sequence."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from orbit_snn import losses
from orbit_snn.graph.errors import GraphError
from orbit_snn.graph.nodes import (
    InputNode,
    Node,
    OutputNode,
    as_attributes,
    listed,
    no_attribute,
)
from orbit_snn.graph.types import IdxType
from orbit_snn.networks import Network
from orbit_snn.neurons import Neuron, parts
from orbit_snn.types import NetworkState, State, Trajectory


class NetworkNode(Node):
    """A network over a sequence: every readout is a node, `net.output`, and so is every cell.

    A readout's node is what it gives at every step, `[B, T, K]`; `net.cell0`, `net.cell1`, ... are
    the outputs of the cells' neurons, `[B, T, N]`, such as spikes, and `net.cell0_v`, ... their
    membrane potentials, of neurons that have one. Learning rules train the network through its
    trajectory, see `learning.passes`.

    Where the feature that its inputs are made of ends before the sequence (`given` and
    `foresight_time_steps` of `InputNode`), the network goes on with its own output as input, that
    of its readout `closed_loop`.

    Args:
      name: of the node.
      inputs: node of `[B, T, F]`, or of integers or booleans, which are cast.
      network: the network.
      db_name: the feature with the truth about a network's only readout.

    Raises:
      GraphError: for a readout with the name of an attribute, `db_name` with several readouts, or
        inputs that end before the sequence and a loop that cannot be closed.
    """

    def __init__(self, name: str, inputs: Node, network: Network, db_name: str | None = None):
        if not isinstance(network, Network):
            raise GraphError(f"node `{name}` got {network!r}; expected a Network.")
        given = _given(inputs, name)
        if given is not None:
            _check_closed_loop(name, network)
        parents = (inputs,) if given is None else (inputs, given)
        super().__init__(name, parents, IdxType.SEQ_STEP)
        if db_name is not None and len(network.readouts) > 1:
            raise GraphError(
                f"node `{name}` has the readouts {', '.join(network.readouts)}; set db_name on "
                f"each of them, as in {name}.{next(iter(network.readouts))}.db_name = 'target'."
            )
        _index_sequence(inputs)
        self.module: Network = network
        self.readouts = {
            key: OutputNode(self, key, _readout(key), db_name=db_name) for key in network.readouts
        }
        self.cells = tuple(
            OutputNode(self, f"cell{number}", _cell(number), neuron=cell.neuron)
            for number, cell in enumerate(network.cells)
        )
        self.potentials = {
            f"cell{number}": OutputNode(
                self, f"cell{number}_v", _potential(number, cell.neuron), neuron=cell.neuron
            )
            for number, cell in enumerate(network.cells)
            if _potentials(cell.neuron, cell.initial_state(1)) is not None
        }
        inner = (*self.cells, *self.potentials.values())
        self.outputs = {**self.readouts, **{node.key: node for node in inner}}
        as_attributes(self, self.outputs)

    @property
    def dtype(self) -> tf.DType:
        """In which the network computes."""
        return self.module.cells[0].neuron.dtype

    def initial_state(self, batch_size: int) -> NetworkState:
        """State before the first step."""
        return self.module.initial_state(batch_size)

    def time_major(
        self, x: tf.Tensor, given: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The inputs as the network takes them, `[T, B, F]`, and `given`, `[T, B]`.

        Args:
          x: inputs, `[B, T, F]`.
          given: bool `[B, T]`, true at the steps that have an input; at the others it is cleared,
            so that no gradient reaches it either.

        Raises:
          GraphError: for values of another shape or type.
        """
        wanted = self.module.cells[0].feedforward.inputs
        if x.shape.rank != 3 or x.shape[2] != wanted:
            raise GraphError(
                f"the network `{self.name}` takes {wanted} inputs a step, [B, T, {wanted}]; "
                f"`{self.parents[0].name}` gives {_shape(x)}."
            )
        xs = tf.transpose(tf.cast(x, self.dtype), [1, 0, 2])
        if given is None:
            return xs, None
        if given.shape != x.shape[:2] or not given.dtype.is_bool:
            raise GraphError(
                f"`{self.parents[1].name}` marks the steps of `{self.name}` that have an input and "
                f"is {given.dtype.name} {given.shape}; expected bool {x.shape[:2]}."
            )
        given = tf.transpose(given)
        return tf.where(given[..., tf.newaxis], xs, tf.zeros_like(xs)), given

    def __getattr__(self, name: str) -> Any:
        raise no_attribute(self, name)


class SequenceNode(Node):
    """A module that works along the steps of a sequence and has a state, such as a delay.

    Args:
      name: of the node.
      parents: nodes, or one, that it takes.
      module: with `initial_state(batch_size)`, called as `module(*values, state)`; gives what it
        makes of the steps and the state after the last one.
      db_name: as for `Node`.
    """

    def __init__(
        self,
        name: str,
        parents: Node | Sequence[Node],
        module: Any,
        db_name: str | None = None,
    ):
        super().__init__(name, listed(parents), IdxType.SEQ_STEP, db_name)
        if not (callable(module) and hasattr(module, "initial_state")):
            raise GraphError(
                f"node `{name}` wraps {module!r}; expected a module with initial_state(batch_size) "
                "that can be called."
            )
        _index_sequence(self.parents[0])
        self.module = module

    def initial_state(self, batch_size: int) -> Any:
        """State before the first step."""
        return self.module.initial_state(batch_size)  # type: ignore[union-attr]

    def advance(self, state: Any, *values: Any) -> tuple[Any, Any]:
        """The value, and the state after the last step."""
        return self.module(*values, state)  # type: ignore[misc]


class During(Node):
    """Passes steps on, of which every loss and decision further on counts only some.

    With `cue = During("cue", net.output, "go")`, the cross-entropy of `cue` is the mean over the
    steps where the feature `go` is true, and a `Decision` of `cue` the mean of their scores.

    Args:
      name: of the node.
      node: of `[B, T, K]`, of sequences without padding.
      window: the boolean feature `[T]`, its name or its node, that is true where steps count.
      db_name: as for `Node`.

    Raises:
      GraphError: for a node of padded sequences; put padding into the window.
    """

    def __init__(
        self, name: str, node: Node, window: "InputNode | str", db_name: str | None = None
    ):
        if isinstance(node, Node) and node.mask is not None:
            raise GraphError(
                f"node `{name}` got `{node.name}`, whose steps the mask `{node.mask.name}` marks "
                "already; leave padded steps out of the window, and the mask out of the input."
            )
        if isinstance(window, str):
            window = InputNode(window)
        window.index_by_steps()
        super().__init__(name, (node,), IdxType.SEQ_STEP, db_name, window)

    def compute(self, *values: Any) -> Any:
        """The value, as it is."""
        return values[0]


class Decision(Node):
    """What a classification is read from: mean, maximum or last real step of a readout, `[B, K]`.

    Args:
      name: of the node.
      readout: node of `[B, T, K]`.
      mode: `mean`, `max`, `last`, or `per_step`, which leaves the readout as it is.
      db_name: the feature with the labels.

    Raises:
      ValueError: for an unknown mode.
    """

    def __init__(self, name: str, readout: Node, mode: str = "mean", db_name: str | None = None):
        mask = readout.mask
        index = IdxType.SEQ_STEP if mode == "per_step" else IdxType.SEQUENCES
        parents = (readout,) if mask is None else (readout, mask)
        super().__init__(name, parents, index, db_name, mask)
        self.mode = losses.check_mode(mode)

    def compute(self, *values: Any) -> Any:
        """See `losses.decision`."""
        logits, *mask = values
        return losses.decision(logits, self.mode, *mask)


def _readout(key: str) -> Callable[[Trajectory], tf.Tensor]:
    return lambda trajectory: tf.transpose(trajectory.readouts[key].outputs, [1, 0, 2])


def _cell(number: int) -> Callable[[Trajectory], tf.Tensor]:
    return lambda trajectory: tf.transpose(trajectory.cells[number].outputs, [1, 0, 2])


def outputs_of(cell: OutputNode, trajectory: Trajectory) -> tf.Tensor:
    """Outputs `[T, B, N]` of a cell, time-major, given its node among `NetworkNode.cells`."""
    return trajectory.cells[int(cell.key.removeprefix("cell"))].outputs


def _potential(number: int, neuron: Neuron) -> Callable[[Trajectory], tf.Tensor]:
    def select(trajectory: Trajectory) -> tf.Tensor:
        history = trajectory.cells[number].history
        if history is None:
            raise GraphError(
                f"the membrane potentials of cell{number} are not kept; set the network's "
                "checkpoint_every to None."
            )
        return tf.transpose(_potentials(neuron, history)[1:], [1, 0, 2])

    return select


def _potentials(neuron: Neuron, state: State) -> Any:
    """The membrane potentials of a state, `[..., N]`, population by population, or None."""
    found = [getattr(own, "v", None) for _, own in parts(neuron, state)]
    return None if any(v is None for v in found) else tf.concat(found, axis=-1)


def _index_sequence(node: Node) -> None:
    """Tells the inputs that a network's input comes from, step by step, that they are sequences."""
    if node.index is None:
        for parent in node.parents:
            _index_sequence(parent)
        if isinstance(node, InputNode):
            node.index_by_steps()


def _given(inputs: Node, name: str) -> InputNode | None:
    """What marks the steps that have an input, of the features that inputs are made of."""
    found = {id(mark): mark for mark in _marks(inputs)}
    if len(found) > 1:
        names = " and ".join(f"`{mark.name}`" for mark in found.values())
        raise GraphError(
            f"the inputs of `{name}` are made of features that end at steps of their own, marked "
            f"by {names}; mark them by the same node."
        )
    return next(iter(found.values()), None)


def _marks(node: Node) -> Iterator[InputNode]:
    if isinstance(node, InputNode) and node.given is not None:
        yield node.given
    if not isinstance(node, NetworkNode):
        for parent in node.parents:
            yield from _marks(parent)


def _check_closed_loop(name: str, network: Network) -> None:
    try:
        network.closing_readout()
    except ValueError as error:
        raise GraphError(f"node `{name}` goes on after its inputs, and {error}") from error


def _shape(x: Any) -> str:
    return f"shape {x.shape}" if hasattr(x, "shape") else f"a {type(x).__name__}"
