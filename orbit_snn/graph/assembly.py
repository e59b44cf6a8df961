"""Assembly: from losses to a model, a loss, an evaluator, and what to read from the data set.

    training_modules, db_info = assemble_for_training(loss, {"loss": loss, "accuracy": accuracy})

A loss knows which nodes it judges and which features it judges them by; the model is the part of
the graph that those nodes need. The contract is that of hippynn's module of this name; orders are
those in which nodes are first needed, so they never change.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from orbit_snn.graph.algebra import LossNode
from orbit_snn.graph.editing import ancestors
from orbit_snn.graph.errors import GraphAssertionError, GraphError
from orbit_snn.graph.evaluation import GraphEvaluator
from orbit_snn.graph.loss_module import LossModule, needed_by
from orbit_snn.graph.module import GraphModule
from orbit_snn.graph.nodes import InputNode, Node

DatabaseInfo = dict[str, list[str]]
"""Names of the features that a model takes, `inputs`, and that a loss takes, `targets`."""


class TrainingModules(NamedTuple):
    """What is trained.

    Attributes:
      model: from features to outputs.
      loss: from outputs and features to the number that is minimised.
      evaluator: the validation losses, exact over a data set.
    """

    model: GraphModule
    loss: LossModule
    evaluator: GraphEvaluator

    @property
    def temporal(self) -> frozenset[str]:
        """Features of a batch that have a time axis, `[B, T, ...]`."""
        return frozenset((*self.model.temporal, *self.loss.temporal, *self.evaluator.loss.temporal))


def assemble_for_training(
    train_loss: LossNode,
    validation_losses: Mapping[str, LossNode] | Sequence[LossNode],
    validation_names: Sequence[str] | None = None,
    plot_maker: Any = None,
) -> tuple[TrainingModules, DatabaseInfo]:
    """Makes everything that training needs of a loss.

    Args:
      train_loss: what is minimised.
      validation_losses: what is reported: by name, or a list, then called by the nodes' own names.
      validation_names: names for a list.
      plot_maker: draws predictions at evaluations, see `training.plot_maker`.

    Returns:
      The modules, and the names of the features that the database must give.

    Raises:
      GraphError: for no losses, names that do not fit the losses, a loss that reaches no input, a
        node without a feature to be compared with, nodes of the same name.
      GraphAssertionError: for names beside a mapping, or a node of the model in place of a loss.
    """
    names, losses = _named(validation_losses, validation_names)
    determine_out_in_targ(train_loss)
    required = (train_loss, *losses, *(() if plot_maker is None else plot_maker.required_nodes))
    inputs, outputs, targets = determine_out_in_targ(*required)
    db_info = generate_database_info(inputs, targets)
    logging.info(
        "assembled: inputs %s, outputs %s, targets %s",
        *([node.name for node in nodes] for nodes in (inputs, outputs, targets)),
    )
    model = GraphModule(inputs, outputs)
    loss, validation = build_loss_modules(train_loss, losses, outputs, targets)
    evaluator = GraphEvaluator(model, validation, names, plot_maker, db_info)
    return TrainingModules(model, loss, evaluator), db_info


def determine_out_in_targ(
    *nodes_required_for_loss: LossNode,
) -> tuple[list[Node], list[Node], list[Node]]:
    """Which inputs, outputs and targets some losses need.

    Returns:
      Input nodes of the model; its nodes that are judged; nodes whose feature they are judged by.

    Raises:
      GraphAssertionError: for a node of the model in place of one of a loss.
      GraphError: for a loss that reaches no input of a model.
    """
    for node in nodes_required_for_loss:
        if isinstance(node, Node):
            raise GraphAssertionError(
                f"the loss got the model's node `{node.name}`; use {node.name}.pred or .true in it."
            )
        if not isinstance(node, LossNode):
            raise GraphError(f"{node!r} is no loss; expected one such as MSE.of_node(y).")
    found = needed_by(nodes_required_for_loss)
    inputs: list[Node] = [n for n in ancestors(found.outputs) if isinstance(n, InputNode)]
    if not inputs:
        names = ", ".join(node.name for node in nodes_required_for_loss)
        raise GraphError(
            f"the loss {names} reaches no input of a model; make it of predictions, such as y.pred."
        )
    return inputs, list(found.outputs), list(found.targets)


def build_loss_modules(
    training_loss: LossNode,
    validation_losses: Sequence[LossNode],
    network_outputs: Sequence[Node],
    database_inputs: Sequence[Node],
) -> tuple[LossModule, LossModule]:
    """The loss that is trained on, and the validation losses, which are copies.

    Later changes of loss nodes do not reach the validation losses.

    Args:
      training_loss: what is minimised.
      validation_losses: what is reported.
      network_outputs: nodes of the model whose values there will be.
      database_inputs: nodes whose features there will be.

    Raises:
      GraphError: for no validation losses, or one that needs other outputs or features.
    """
    if not validation_losses:
        raise GraphError(
            "the number of nodes_to_compute was zero: give at least one validation loss, for "
            "instance {'loss': loss}."
        )
    modules = LossModule([training_loss]), LossModule(copied(validation_losses))
    for module in modules:
        for needed, given, what in (
            (module.predictions, network_outputs, "output"),
            (module.targets, database_inputs, "feature"),
        ):
            missing = [node for node in needed if node not in given]
            if missing:
                raise GraphError(
                    f"the losses need the unspecified {what} `{missing[0].name}`; add it."
                )
    return modules


def copied(losses: Sequence[LossNode]) -> list[LossNode]:
    """Loss nodes of the same structure, of the same nodes of the model."""
    copies: dict[int, LossNode] = {}
    for node in ancestors(losses):
        twin = copy.copy(node)
        twin.parents = tuple(copies[id(parent)] for parent in node.parents)
        copies[id(node)] = twin
    return [copies[id(loss)] for loss in losses]


def generate_database_info(
    inputs: Sequence[Node], targets: Sequence[Node], allow_unfound: bool = False
) -> DatabaseInfo:
    """Names of the features that nodes stand for, without marks that the model makes itself.

    Args:
      inputs: input nodes of a model.
      targets: nodes whose truth a loss looks at.
      allow_unfound: leave out nodes without a name instead of raising.

    Raises:
      GraphError: naming the nodes that have none.
    """
    inputs = [n for n in inputs if not (isinstance(n, InputNode) and n.derived)]
    nameless = [node.name for node in (*inputs, *targets) if node.db_name is None]
    if nameless and not allow_unfound:
        raise GraphError(
            f"no feature of the data set is known for {', '.join(nameless)}; set their db_name."
        )
    names = (dict.fromkeys(n.db_name for n in nodes if n.db_name) for nodes in (inputs, targets))
    return {key: list(found) for key, found in zip(("inputs", "targets"), names, strict=True)}


def _named(
    losses: Mapping[str, LossNode] | Sequence[LossNode], names: Sequence[str] | None
) -> tuple[list[str], list[LossNode]]:
    """Names and validation losses in the order given."""
    if isinstance(losses, Mapping):
        if names is not None:
            raise GraphAssertionError(
                "validation_names were given beside a mapping of names to losses; give one of both."
            )
        names, losses = list(losses), list(losses.values())
    if not losses:
        raise GraphError(
            "the number of nodes_to_compute was zero: give at least one validation loss, for "
            "instance {'loss': loss}."
        )
    names = [loss.name for loss in losses] if names is None else list(names)
    if len(names) != len(losses):
        raise GraphError(
            f"there are {len(losses)} validation losses and {len(names)} validation_names; give "
            "one name for each."
        )
    for name in names:
        if not isinstance(name, str):
            raise GraphError(f"a validation loss is named {name!r}; names are strings.")
        if names.count(name) > 1:
            raise GraphError(
                f"two validation losses are called {name!r}; give each a name of its own."
            )
    return names, list(losses)
