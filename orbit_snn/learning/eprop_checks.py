"""What e-prop cannot train, said before the first step."""

from orbit_snn.graph import GraphError, TrainingModules
from orbit_snn.graph.editing import ancestors
from orbit_snn.graph.loss_module import needed_by
from orbit_snn.graph.measures import parameters_of
from orbit_snn.graph.sequences import NetworkNode


def check_readouts(modules: TrainingModules) -> None:
    """Every readout has to be in the loss, for errors come from nowhere else.

    Raises:
      GraphError: naming the readout.
    """
    needed = ancestors(needed_by(modules.loss.nodes_to_compute).outputs)
    for node in modules.model.networks:
        for readout in node.readouts.values():
            if readout not in needed:
                raise GraphError(
                    f"the readout `{readout.name}` is connected to no loss, so it gives no "
                    "learning signal; add it to the training loss, or take it out of the network's "
                    f"readouts ({', '.join(node.readouts)})."
                )


def check_layers(modules: TrainingModules, kind: str, layer_gradient: str, online: bool) -> None:
    """Every layer has to get a learning signal, and online none through the memory of another one.

    Raises:
      GraphError: in one line, what to change.
    """
    for node in modules.model.networks:
        deep = len(node.module.cells) > 1
        if layer_gradient == "stop" and not node.readouts:
            raise GraphError(
                f"layer_gradient=stop leaves `{node.name}`, which has no readouts, without a "
                "learning signal; give it one, or use layer_gradient=spatial."
            )
        trained = [below for below in ancestors(node.parents) if parameters_of(below)]
        if layer_gradient == "stop" and deep and kind != "random":
            raise GraphError(
                f"layer_gradient=stop leaves {node.cells[0].name} without a learning signal, for "
                f"no readout reads it and feedback is {kind}; use feedback random, or "
                "layer_gradient=spatial."
            )
        if layer_gradient == "stop" and trained and not isinstance(trained[-1], NetworkNode):
            raise GraphError(
                f"layer_gradient=stop leaves `{trained[-1].name}`, which feeds `{node.name}`, "
                "without a learning signal; use layer_gradient=spatial."
            )
        if layer_gradient == "spatial" and online and (deep or trained):
            below = node.cells[0] if deep else trained[-1]
            raise GraphError(
                "layer_gradient=spatial takes errors through the memory of the cells above "
                f"`{below.name}`, which no trace carries from chunk to chunk; use "
                "mode=factored, or layer_gradient=stop with random feedback."
            )
        if online and node.module.checkpoint_every is not None:
            raise GraphError(
                f"`{node.name}` keeps every {node.module.checkpoint_every}-th state only "
                "(checkpoint_every), and a chunk keeps no more than itself already; set it to null."
            )


def check_adaptive(modules: TrainingModules) -> None:
    """Adaptive feedback follows the weights of readouts, so these have to be trained.

    Raises:
      GraphError: naming the readout.
    """
    for node in modules.model.networks:
        for name, readout in node.module.readouts.items():
            if not readout.feedforward.parameters:
                raise GraphError(
                    f"feedback is adaptive and the weights of `{node.name}.{name}` are not "
                    "trained, so there is nothing to adapt to; use random or symmetric."
                )
