"""Looking around in a graph, and changing it."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from orbit_snn.graph.algebra import LossNode
from orbit_snn.graph.errors import GraphError, NodeAmbiguity, NodeNotFound
from orbit_snn.graph.nodes import InputNode, Node

AnyNode = TypeVar("AnyNode", Node, LossNode)


def ancestors(nodes: Sequence[AnyNode]) -> tuple[AnyNode, ...]:
    """The nodes and all that they need, each once and after its parents, in a fixed order."""
    found: dict[int, AnyNode] = {}

    def visit(node: AnyNode) -> None:
        if id(node) not in found:
            for parent in node.parents:
                visit(parent)
            found[id(node)] = node

    for node in nodes:
        visit(node)
    return tuple(found.values())


def check_unique_names(nodes: Iterable[Node]) -> None:
    """Raises GraphError where two nodes have the same name."""
    seen: dict[str, Node] = {}
    for node in nodes:
        other = seen.setdefault(node.name, node)
        if other is not node and type(node) is type(other) is InputNode:
            raise GraphError(
                f"there are two input nodes `{node.name}`; make one and use it in both places."
            )
        if other is not node:
            raise GraphError(
                f"two nodes are called `{node.name}`, {_kind(other)} and {_kind(node)}; rename one."
            )


def the_only(nodes: Sequence[Node], wanted: Callable[[Node], bool], what: str) -> Node:
    """The one node that is wanted.

    Args:
      nodes: where to look.
      wanted: tells it.
      what: it is, for messages.

    Raises:
      NodeNotFound: where there is none.
      NodeAmbiguity: where there are several.
    """
    found = [node for node in nodes if wanted(node)]
    if not found:
        known = ", ".join(node.name for node in nodes)
        raise NodeNotFound(f"the graph has no {what}; its nodes are {known}.")
    if len(found) > 1:
        names = ", ".join(node.name for node in found)
        raise NodeAmbiguity(f"the graph has several nodes that are a {what}: {names}.")
    return found[0]


def replace(nodes: Sequence[Node], old: Node, new: Node) -> None:
    """Makes all of `nodes` that take `old` as a parent take `new` in its place."""
    for node in nodes:
        if node is not new:
            node.parents = tuple(new if parent is old else parent for parent in node.parents)


def _kind(node: Node) -> str:
    below = ", ".join(parent.name for parent in node.parents)
    return f"a {type(node).__name__} of {below}" if below else f"a {type(node).__name__}"
