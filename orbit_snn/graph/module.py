"""A model: nodes in the order in which they are computed."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import tensorflow as tf

from orbit_snn.graph.editing import ancestors, check_unique_names
from orbit_snn.graph.errors import GraphError
from orbit_snn.graph.foresight import lengthened
from orbit_snn.graph.measures import parameters_of
from orbit_snn.graph.nodes import InputNode, Node
from orbit_snn.graph.sequences import NetworkNode, SequenceNode
from orbit_snn.graph.types import IdxType
from orbit_snn.types import Batch, Trajectory

GraphState = dict[str, Any]
"""State of a model's networks and other stateful nodes by name; it goes in and comes out."""

Unroll = Callable[[NetworkNode, tf.Tensor, Any, tf.Tensor | None], Trajectory]


class GraphRun(NamedTuple):
    """One pass through a model.

    Attributes:
      values: of every node by name; that of a network is its trajectory.
      state: after the last step, to be handed to the next call.
    """

    values: dict[str, Any]
    state: GraphState

    def trajectories(self) -> dict[str, Trajectory]:
        """The networks' trajectories by name of node."""
        return {n: v for n, v in self.values.items() if isinstance(v, Trajectory)}


class GraphModule(tf.Module):
    """The part of a graph that some nodes need, as it was when this was made.

    Later changes of the graph do not reach it. Modules are below `modules/<name of the node>` in a
    checkpoint.

        outputs = model({"inputs": x})     # {"network.output": [B, T, K], ...}

    Args:
      required_inputs: the input nodes that a caller gives.
      nodes_to_compute: whose values are returned.
      name: of the module.

    Raises:
      GraphError: for an input that is needed and not among `required_inputs`, or for two nodes of
        the same name.
    """

    def __init__(
        self,
        required_inputs: Sequence[Node],
        nodes_to_compute: Sequence[Node],
        name: str | None = None,
    ):
        super().__init__(name=name or "model")
        order = ancestors(nodes_to_compute)
        check_unique_names(order)
        marks = [node for node in order if isinstance(node, InputNode) and node.derived]
        self.inputs = (*required_inputs, *[node for node in marks if node not in required_inputs])
        self.nodes_to_compute = tuple(nodes_to_compute)
        for node in order:
            if isinstance(node, InputNode) and node not in self.inputs:
                raise GraphError(
                    f"{nodes_to_compute[0].name} needs the unspecified input `{node.name}`; add "
                    "it to the required inputs."
                )
        self._plan = tuple((node, node.parents) for node in order)
        self.modules = {node.name: node.module for node in order if node.module is not None}

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, each after its parents."""
        return tuple(node for node, _ in self._plan)

    @property
    def networks(self) -> tuple[NetworkNode, ...]:
        """The networks, each after those that feed it."""
        return tuple(node for node in self.nodes if isinstance(node, NetworkNode))

    @property
    def temporal(self) -> tuple[str, ...]:
        """The features that have a time axis, `[B, T, ...]`."""
        names = (n.db_name for n in self.inputs if n.index is IdxType.SEQ_STEP)
        return tuple(name for name in names if name is not None)

    @property
    def parameters(self) -> tuple[tf.Variable, ...]:
        """Trained variables, each once, in the order of the nodes."""
        found = {p.ref(): p for node in self.nodes for p in parameters_of(node)}
        return tuple(found.values())

    @tf.autograph.experimental.do_not_convert
    def completed(self, features: Mapping[Any, tf.Tensor], batched: bool = True) -> Batch:
        """Features with the steps that `foresight_time_steps` adds and the marks of the others.

        What is complete already, such as some steps of complete features, stays as it is.

        Args:
          features: by their names (or by the nodes themselves).
          batched: whether they are `[B, T, ...]`, or `[T, ...]` of one example.
        """
        done = dict(features)
        for node in (node for node in self.inputs if isinstance(node, InputNode)):
            mark, key = node.given, _key(node, features)
            if mark is None or not mark.derived or key is None or _key(mark, features) is not None:
                continue
            x = tf.convert_to_tensor(features[key])
            done[key], done[mark.name] = lengthened(x, node.more, int(batched))
        return done

    def initial_state(self, batch_size: int) -> GraphState:
        """State of every stateful node before the first step."""
        stateful = (n for n in self.nodes if isinstance(n, (NetworkNode, SequenceNode)))
        return {node.name: node.initial_state(batch_size) for node in stateful}

    def __call__(
        self, inputs: Mapping[str | Node, tf.Tensor], state: GraphState | None = None
    ) -> dict[str, tf.Tensor]:
        """Values of `nodes_to_compute` by name; see `run`."""
        values = self.run(inputs, state).values
        return {node.name: values[node.name] for node in self.nodes_to_compute}

    def run(
        self,
        inputs: Mapping[Any, tf.Tensor],
        state: GraphState | None = None,
        unroll: Unroll | None = None,
    ) -> GraphRun:
        """Computes every node.

        Args:
          inputs: features by their names (or by the nodes themselves), batch-major, completed or
            not.
          state: before the first step, default `initial_state`.
          unroll: how a network's node is run over its inputs, `[T, B, F]`, from a state, and where
            it is given them, `[T, B]` or None; default `Network.unroll`.

        Raises:
          GraphError: for a missing input, or a node that cannot work with what it gets.
        """
        inputs = self.completed(inputs)
        given = {node.name: _feature(node, inputs) for node in self.inputs}
        size = next(iter(given.values())).shape[0]
        state = self.initial_state(size) if state is None else state
        unroll = unroll or _unroll
        values: dict[str, Any] = {}
        after: GraphState = {}
        for node, parents in self._plan:
            arguments = [values[parent.name] for parent in parents]
            if isinstance(node, InputNode):
                values[node.name] = node.read(given[node.name])
            elif isinstance(node, NetworkNode):
                xs, marks = node.time_major(*arguments)
                done = unroll(node, xs, state[node.name], marks)
                values[node.name], after[node.name] = done, done.final
            elif isinstance(node, SequenceNode):
                result = node.advance(state[node.name], *arguments)
                values[node.name], after[node.name] = result
            else:
                values[node.name] = _computed(node, arguments)
        return GraphRun(values, after)

    def node_from_name(self, name: str) -> Node:
        """The node of that name, or that reads or is compared with the feature of that name.

        Raises:
          GraphError: naming the nodes that there are.
        """
        for key in ("name", "db_name"):
            for node in self.nodes:
                if getattr(node, key) == name:
                    return node
        known = ", ".join(node.name for node in self.nodes)
        raise GraphError(f"the model has no node `{name}`; it has {known}.")

    def structure(self) -> str:
        """A line for each node: its name, what it is, its parents, how it is indexed."""
        rows = [
            (
                node.name,
                type(node).__name__,
                ", ".join(parent.name for parent in parents) or f"feature `{_source(node)}`",
                "" if node.index is None else node.index.value,
            )
            for node, parents in self._plan
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join(lines)

    def print_structure(self, file: TextIO | None = None) -> None:
        """Prints `structure()`."""
        print(self.structure(), file=file or sys.stdout)


def _unroll(node: NetworkNode, xs: tf.Tensor, state: Any, given: Any) -> Trajectory:
    return node.module.unroll(xs, state, given)


def _source(node: Node) -> str:
    return node.db_name or node.name


def _key(node: Node, inputs: Mapping[Any, tf.Tensor]) -> Any:
    """By what the feature of a node is given: its own name, that of the node, the node, or None."""
    keys = (node.db_name, node.name, node)
    return next((key for key in keys if key is not None and key in inputs), None)


def _feature(node: Node, inputs: Mapping[Any, tf.Tensor]) -> tf.Tensor:
    key = _key(node, inputs)
    if key is not None:
        return tf.convert_to_tensor(inputs[key])
    given = ", ".join(str(getattr(key, "name", key)) for key in inputs)
    raise GraphError(f"the model's input `{_source(node)}` is missing; got {given or 'nothing'}.")


def _computed(node: Node, arguments: Sequence[Any]) -> Any:
    try:
        return node.compute(*arguments)
    except GraphError:
        raise
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        shapes = ", ".join(str(getattr(a, "shape", type(a).__name__)) for a in arguments)
        reason = str(error).strip().splitlines()[0]
        raise GraphError(f"node `{node.name}` cannot work with {shapes}: {reason}") from error
