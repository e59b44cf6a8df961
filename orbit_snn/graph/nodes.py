"""Nodes of a model: named steps from the features of a data set to its outputs.

    x = InputNode("inputs")                                # a feature, [B, T, F]
    net = NetworkNode("network", x, network)               # net.output, [B, T, K]
    choice = Decision("choice", net.output, "last", db_name="label")
    loss = CrossEntropy.of_node(choice)

A node knows its parents; nothing is computed before `assembly.assemble_for_training` has made a
model of it. Everything at this level is batch-major, `[B, T, ...]`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.graph.algebra import LossNode, Prediction, Target
from orbit_snn.graph.errors import GraphAssertionError, GraphError
from orbit_snn.graph.foresight import check_foresight
from orbit_snn.graph.types import IdxType
from orbit_snn.networks import Network
from orbit_snn.neurons import Neuron


class Node:
    """A step of a model.

    Args:
      name: of the step; unique in a model, and the path of its module in a checkpoint.
      parents: nodes whose values it takes, in order.
      index: how its value is indexed; default as its first parent's.
      db_name: the feature of the data set that holds the truth about it, for `true`.
      mask: the input node that marks the real steps; default as its first parent's.

    Attributes:
      module: the `tf.Module` that it runs, or None.
      pred: its value, as a node of a loss.
      true: the feature `db_name`, as a node of a loss.
      penalties: nodes of penalties on the module's weights, by kind; each is made once.

    Raises:
      GraphError: for a name that cannot be one, or a parent that is no node.
    """

    module: tf.Module | None = None

    def __init__(
        self,
        name: str,
        parents: "Sequence[Node]" = (),
        index: IdxType | None = None,
        db_name: str | None = None,
        mask: "InputNode | None" = None,
    ):
        if not isinstance(name, str) or not name:
            raise GraphError(f"a node is named {name!r}; give it a name such as 'network'.")
        for parent in parents:
            if not isinstance(parent, Node):
                hint = " (a node of the loss)" if isinstance(parent, LossNode) else ""
                raise GraphError(
                    f"node `{name}` got the parent {parent!r}{hint}; expected a node of the model, "
                    "such as InputNode('inputs')."
                )
        self.name = name
        self.parents = tuple(parents)
        self.db_name = db_name
        self.penalties: dict[str, Node] = {}
        self.pred = Prediction(self)
        self.true = Target(self)
        self._index = index
        self._mask = mask

    @property
    def index(self) -> IdxType | None:
        """How the value is indexed; None where nobody said."""
        return self._index or (self.parents[0].index if self.parents else None)

    @property
    def mask(self) -> "InputNode | None":
        """The input node that marks the real steps of the sequences that this comes from."""
        if self._mask is not None:
            return self._mask
        return next((node.mask for node in self.parents if node.mask is not None), None)

    def compute(self, *values: Any) -> Any:
        """The value, given those of the parents."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _no_formula(self, *_: Any) -> Any:
        raise GraphAssertionError(
            f"formulas are made of the losses' nodes; use {self.name}.pred or .true in them."
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _no_formula
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __neg__ = _no_formula


class InputNode(Node):
    """A feature of the data set; nested features as `a/b`.

    Args:
      db_name: of the feature.
      name: of the node, default `db_name`.
      index: how it is indexed; what a network receives is SEQ_STEP without saying so.
      mask: of a padded sequence, the boolean feature `[T]` (its name, or its node) that is true at
        the real steps; every loss and decision further on leaves the others out.
      dtype: cast to it, or None.
      foresight_time_steps: F. The feature has T steps, of which a network makes T + F - 1: it sees
        the T, and at F - 1 more its own output of the step before takes their place (see
        `Network.unroll`); a model adds those steps to the feature itself. Targets and masks have
        all T + F - 1.
      given: of a sequence that has all its steps already, the boolean feature `[T]` (its name, or
        its node) that is true where it has an input, in place of `foresight_time_steps`.

    Attributes:
      more: F - 1.
      given: the node that marks steps with an input, or None where all have one.
      derived: whether it is such a mark that the model makes, no feature of the data set.

    Raises:
      GraphError: without a name of either kind, for F below 1, or for F beside `given`.
    """

    def __init__(
        self,
        db_name: str | None = None,
        name: str | None = None,
        index: IdxType | None = None,
        mask: "InputNode | str | None" = None,
        dtype: tf.DType | None = None,
        foresight_time_steps: int = 1,
        given: "InputNode | str | None" = None,
    ):
        if not (name or db_name):
            raise GraphError(
                "an InputNode needs the name of a feature, db_name, or a name of its own."
            )
        if isinstance(mask, str):
            mask = InputNode(mask, index=IdxType.SEQ_STEP)
        super().__init__(name or str(db_name), (), index, db_name, mask)
        self.dtype = dtype
        self.derived = False
        self.more = check_foresight(self.name, foresight_time_steps, given is not None) - 1
        self.given = InputNode(given) if isinstance(given, str) else given
        if self.more:
            self.given = InputNode(f"{db_name or name}/given")
            self.given.derived = True
        if self.given is not None:
            self.index_by_steps()
            self.given.index_by_steps()

    def index_by_steps(self) -> None:
        """Makes it SEQ_STEP, unless it is indexed in some way already."""
        self._index = self._index or IdxType.SEQ_STEP

    def read(self, x: tf.Tensor) -> tf.Tensor:
        """The feature as the model takes it."""
        return x if self.dtype is None else tf.cast(x, self.dtype)


class ModelNode(Node):
    """Any `tf.Module`, or a plain function, of the values of its parents.

    Args:
      name: of the node.
      parents: nodes, or one, that it takes.
      module: a `tf.Module` that can be called, or a function; it takes a step of a sequence as it
        takes the others, unless `index` says that it makes or ends a sequence.
      index: as for `Node`.
      db_name: as for `Node`.
    """

    def __init__(
        self,
        name: str,
        parents: "Node | Sequence[Node]",
        module: Callable[..., tf.Tensor],
        index: IdxType | None = None,
        db_name: str | None = None,
    ):
        super().__init__(name, listed(parents), index, db_name)
        if isinstance(module, Network):
            raise GraphError(f"node `{name}` wraps a network; use NetworkNode, which trains it.")
        if not callable(module):
            raise GraphError(f"node `{name}` wraps {module!r}, which cannot be called.")
        self._function = module
        self.module = module if isinstance(module, tf.Module) else None

    def compute(self, *values: Any) -> Any:
        """What the module makes of the values."""
        return self._function(*values)


class OutputNode(Node):
    """One of the values of a node that has several: `parent.key`.

    Attributes:
      neuron: the population that it is the output of, or None.
    """

    def __init__(
        self,
        parent: Node,
        key: str,
        select: Callable[[Any], tf.Tensor],
        index: IdxType | None = None,
        db_name: str | None = None,
        neuron: Neuron | None = None,
    ):
        super().__init__(f"{parent.name}.{key}", (parent,), index, db_name)
        self.key = key
        self.neuron = neuron
        self._select = select

    def compute(self, *values: Any) -> Any:
        """That value."""
        return self._select(values[0])


class MultiNode(Node):
    """A step with several named values, each a node: `node.distance`, `node.offset`.

    Args:
      name: of the node.
      parents: nodes, or one, that it takes.
      module: a `tf.Module` that can be called, or a function; gives a mapping with these names.
      outputs: the names, with how each value is indexed (None: as the first parent).

    Raises:
      GraphError: for an output whose name an attribute has already.
    """

    def __init__(
        self,
        name: str,
        parents: "Node | Sequence[Node]",
        module: Callable[..., Mapping[str, tf.Tensor]],
        outputs: Mapping[str, IdxType | None] | Sequence[str],
    ):
        super().__init__(name, listed(parents))
        self._function = module
        self.module = module if isinstance(module, tf.Module) else None
        named = outputs if isinstance(outputs, Mapping) else dict.fromkeys(outputs)
        self.outputs = {
            key: OutputNode(self, key, lambda values, key=key: values[key], index)  # type: ignore
            for key, index in named.items()
        }
        as_attributes(self, self.outputs)

    def compute(self, *values: Any) -> Any:
        """A mapping of all values."""
        return self._function(*values)

    def __getattr__(self, name: str) -> Any:
        raise no_attribute(self, name)


def listed(parents: Node | Sequence[Node]) -> tuple[Node, ...]:
    """Parents as a tuple, be it one or several."""
    return tuple(parents) if isinstance(parents, (tuple, list)) else (parents,)  # type: ignore


def as_attributes(node: Node, outputs: Mapping[str, OutputNode]) -> None:
    """Makes outputs attributes of their node.

    Raises:
      GraphError: where an attribute has the name already.
    """
    for key, output in outputs.items():
        if not key.isidentifier() or key in vars(node) or hasattr(type(node), key):
            raise GraphError(
                f"node `{node.name}` cannot have an output called {key!r}: it is no free "
                "attribute name; rename it."
            )
        setattr(node, key, output)


def no_attribute(node: Node, name: str) -> AttributeError:
    """The error for an output that a node does not have, naming those that it has."""
    outputs = [key for key, value in vars(node).items() if isinstance(value, OutputNode)]
    return AttributeError(
        f"node `{vars(node).get('name')}` has no {name!r}; its outputs are {', '.join(outputs)}."
    )
