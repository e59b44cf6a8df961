"""Which least-squares problems a strategy makes of a model."""

from collections.abc import Sequence

from orbit_snn.graph import GraphError, TrainingModules
from orbit_snn.learning.feedback import FeedbackMatrices
from orbit_snn.learning.places import Place, places
from orbit_snn.learning.rls.inputs import FilteredInputs, OwnInputs, linear_filter
from orbit_snn.learning.rls.inversion import inversion
from orbit_snn.learning.rls.kalman import Outputs
from orbit_snn.learning.rls.layers import Layer
from orbit_snn.learning.rls.options import OF_CURRENTS, Options
from orbit_snn.learning.rls.outputs import Currents, Rates
from orbit_snn.learning.rls.problem import Problem, gigabytes

_MOST_WEIGHTS = 20_000


def problems_for(
    options: Options, modules: TrainingModules, taught: Sequence[Place]
) -> tuple[list[Problem], FeedbackMatrices | None]:
    """The problems of a model, and the feedback that they use.

    Raises:
      GraphError: where there is nothing that the strategy could train.
      ValueError: for more weights than fit into one P.
    """
    feedback = None
    if options.strategy == "inputs":
        problems: list[Problem] = [_inputs(place) for place in taught]
    elif options.strategy == "outputs":
        problems, feedback = _outputs(options, modules, taught)
    else:
        problems = [_derivatives(options, taught)]
    return problems, feedback


def _inputs(place: Place) -> Problem:
    layer = _trained(place)
    response = None if place.cell.recurrent is not None else linear_filter(place.cell.neuron)
    return OwnInputs(layer) if response is None else FilteredInputs(layer, response)


def _outputs(
    options: Options, modules: TrainingModules, taught: Sequence[Place]
) -> tuple[list[Problem], FeedbackMatrices | None]:
    recurrent = [place for place in taught if place.cell.recurrent is not None]
    if recurrent:
        return [_own_targets(options, each) for each in recurrent], None
    if options.alignment in OF_CURRENTS:
        names = " and ".join(f"`{place.name}`" for place in taught)
        raise GraphError(
            f"alignment={options.alignment} fits a recurrent population to targets of its own, and "
            f"the loss looks at {names}; use alignment=previous, or give the population targets."
        )
    problems: list[Problem] = []
    networks = tuple(node for node in modules.model.networks if any(p.node is node for p in taught))
    feedback = FeedbackMatrices(options.feedback, networks, False, options.seed)
    for node in networks:
        place = places(node)[len(node.cells) - 1]
        if place.cell.recurrent is None:
            raise GraphError(
                f"strategy=outputs trains recurrent weights, and `{place.name}`, which the "
                "readouts of the loss read, has none; give the cell a recurrent connection, or use "
                "strategy=inputs."
            )
        readouts = [each for each in taught if each.node is node]
        problems += [_inputs(each) for each in readouts]
        problems.append(
            Rates(_trained(place, True), options.alignment == "published", feedback, readouts)
        )
    return problems, feedback


def _own_targets(options: Options, place: Place) -> Problem:
    """The problem of a recurrent population that has targets itself."""
    layer = _trained(place, True)
    if options.alignment not in OF_CURRENTS:
        return Rates(layer, options.alignment == "published")
    inverse = inversion(place.cell.neuron)
    if inverse is None:
        raise GraphError(
            f"alignment={options.alignment} turns the neurons of `{place.name}` around, and their "
            "output is no strictly increasing function of one state that the current enters "
            "affinely, as that of spiking neurons is not; use alignment=previous."
        )
    return Currents(layer, inverse, options.alignment == "own_current")


def _derivatives(options: Options, taught: Sequence[Place]) -> Problem:
    nodes = {id(place.node): place.node for place in taught}
    if len(nodes) > 1:
        names = " and ".join(f"`{node.name}`" for node in nodes.values())
        raise GraphError(
            f"strategy={options.strategy} explains the outputs of one network, and the loss looks "
            f"at {names}; use strategy=inputs, or one network with several readouts."
        )
    (node,) = nodes.values()
    every = [Layer(place) for place in places(node)]
    layers = {layer.place: layer for layer in every if layer.rows}
    if not layers:
        raise GraphError(f"`{node.name}` has no trained weights; make some of them trainable.")
    for place in layers:
        if place.cell.neuron.parameters:
            name = place.cell.neuron.parameters[0].name
            raise GraphError(
                f"strategy={options.strategy} trains weights, and `{place.name}` has a trained "
                f"constant, {name}; fix it, or use strategy=grad."
            )
    groups = "all" if options.strategy == "jacobian" else options.groups
    problem = Outputs(node, layers, taught, groups)
    if groups == "all" and problem.size > _MOST_WEIGHTS:
        dtype = next(iter(layers.values())).dtype
        raise ValueError(
            f"strategy=jacobian has one P for all {problem.size} weights of `{node.name}`, "
            f"{gigabytes(problem, dtype):.1f} GB; at most {_MOST_WEIGHTS} are allowed. Use "
            "strategy=scaled_jacobian with groups=node."
        )
    return problem


def _trained(place: Place, recurrent_only: bool = False) -> Layer:
    layer = Layer(place, recurrent_only)
    if not layer.rows:
        raise GraphError(
            f"the weights onto `{place.name}` are not trained, and least squares would change "
            "them; make its connections trainable."
        )
    return layer
