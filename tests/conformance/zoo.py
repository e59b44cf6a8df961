"""Tables of neurons and networks, and what every conformance test does with them.

A new neuron model is a new row of `NEURONS`. A row becomes a neuron of the library and, from the
same settings, a record of the NumPy oracle; a `Problem` is a tiny network of such neurons with
weights, data and a loss, in both.
"""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn import graph, neurons
from orbit_snn.cells import Cell
from orbit_snn.connections import Connection, Dense, Lateral, OneToOne, Sparse
from orbit_snn.graph import TrainingModules
from orbit_snn.graph.module import GraphState
from orbit_snn.learning import BPTT, TBPTT
from orbit_snn.learning.base import Update
from orbit_snn.networks import Network
from orbit_snn.neurons import Mixed, Neuron, Reset
from orbit_snn.surrogate import SHAPES, Surrogate
from orbit_snn.types import Batch, NetworkState, Trajectory
from tests.oracles import losses as oracle_losses
from tests.oracles import networks as oracle
from tests.oracles import neurons as oracle_neurons
from tests.oracles.dual import Dual

ORACLE_NAMES = {
    "tau_mem_ms": "tau",
    "tau_adaptation_ms": "tau_adaptation",
    "threshold": "threshold",
    "beta": "beta",
    "dt_ms": "dt",
    "input_gain": "zeta",
}
ORACLE_KINDS = {
    "LIF": "lif",
    "ALIF": "alif",
    "LeakyIntegrator": "leaky_integrator",
    "LeakyTanh": "leaky_tanh",
}
STATE_NAMES = {"v": "v", "a": "a", "refractory": "q"}


class Spread(NamedTuple):
    """A setting that differs between neurons: evenly spaced from `low` to `high`."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Row:
    """A neuron model and its settings, or the `parts` of a mixed population, of equal size.

    `drive` is a factor on the weights onto it, so that it spikes.
    """

    name: str
    model: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    parts: tuple["Row", ...] = ()
    drive: float = 1.0

    def sizes(self, units: int) -> list[int]:
        """Neurons of every part."""
        share = units // len(self.parts)
        return [units - share * (len(self.parts) - 1), *[share] * (len(self.parts) - 1)]

    def library(self, units: int, dtype: tf.DType) -> Neuron:
        """The population under test."""
        if self.parts:
            sizes = self.sizes(units)
            return Mixed([p.library(n, dtype) for p, n in zip(self.parts, sizes, strict=True)])
        settings = {key: resolve(value, units) for key, value in self.settings.items()}
        return getattr(neurons, self.model)(units, dtype=dtype, **settings)

    def oracle(self, units: int) -> oracle_neurons.Neuron:
        """The record of the oracle."""
        if self.parts:
            sizes = self.sizes(units)
            return oracle_neurons.mixed(
                *[(n, p.oracle(n)) for p, n in zip(self.parts, sizes, strict=True)]
            )
        given = dict(self.settings)
        reset, surrogate = given.pop("reset", Reset()), given.pop("surrogate", Surrogate())
        dt = given.get("dt_ms", 1.0)
        record = {ORACLE_NAMES[k]: resolve(v, units) for k, v in given.items() if k in ORACLE_NAMES}
        return oracle_neurons.Neuron(
            ORACLE_KINDS[self.model],
            refractory_steps=int(np.ceil(given.get("refractory_ms", 0.0) / dt)),
            reset=reset.kind,
            reset_timing=reset.timing,
            reset_gradient=reset.gradient,
            surrogate=surrogate.name,
            dampening=surrogate.dampening,
            slope=surrogate.slope,
            **record,
        )

    def trained(self, neuron: Any) -> dict[str, tf.Variable]:
        """Logarithms of the trained parameters by their names in the oracle."""
        if self.parts:
            parts = enumerate(zip(self.parts, neuron.populations, strict=True))
            return {
                f"part{i}.{key}": log
                for i, (part, own) in parts
                for key, log in part.trained(own).items()
            }
        modules = [m for m in neuron.submodules if isinstance(m, neurons.Parameter)]
        return {ORACLE_NAMES[m.name]: m.log for m in modules if m.log is not None}


def resolve(value: Any, units: int) -> Any:
    """The setting of a population of `units` neurons."""
    return np.linspace(*value, units) if isinstance(value, Spread) else value


def lif(name: str, drive: float = 1.0, **settings: Any) -> Row:
    """A LIF with a memory of some steps."""
    return Row(name, "LIF", {"tau_mem_ms": 4.0, "threshold": 0.6} | settings, drive=drive)


def alif(name: str, drive: float = 1.0, **settings: Any) -> Row:
    """An ALIF with a memory of some steps."""
    base = {"tau_mem_ms": 4.0, "threshold": 0.6, "tau_adaptation_ms": 7.0, "beta": 0.3}
    return Row(name, "ALIF", base | settings, drive=drive)


def leaky(name: str, model: str, **settings: Any) -> Row:
    """A unit without spikes."""
    return Row(name, model, {"tau_mem_ms": 5.0, "input_gain": "one"} | settings)


TRAINED = {
    "train_tau": True,
    "train_threshold": True,
    "tau_mem_ms": Spread(3.0, 9.0),
    "threshold": Spread(0.4, 0.8),
    "surrogate": Surrogate("fast_sigmoid", dampening=0.5),
}
THROUGH_RESET = Reset(gradient=True)


def reset_rows() -> Iterator[Row]:
    """Every reset of every spiking model, all parameters trained, half with a refractory period."""
    flags = itertools.product(range(2), range(3), range(2), range(2))
    for model, kind, timing, gradient in flags:
        if kind == 2 and timing:
            continue
        reset = Reset(("subtract", "zero", "none")[kind], ("next", "same")[timing], bool(gradient))
        waits = (model + kind + timing + gradient) % 2
        name = "-".join((reset.kind, reset.timing, "through" if gradient else "detached"))
        make = (lif, alif)[model]
        yield make(
            f"{make.__name__}-{name}{'-refractory' if waits else ''}",
            reset=reset,
            refractory_ms=2.0 * waits,
            **TRAINED,
        )


def surrogate_rows() -> Iterator[Row]:
    """Every surrogate; the oracle's triangle has slope 1."""
    for index, name in enumerate(SHAPES):
        slope = 1.0 if name == "triangular" else 1.7
        make = (lif, alif)[index % 2]
        surrogate = Surrogate(name, dampening=0.45, slope=slope)
        yield make(f"{make.__name__}-{name}", surrogate=surrogate, reset=THROUGH_RESET)


NEURONS: tuple[Row, ...] = (
    lif("lif"),
    alif("alif"),
    lif("lif-refractory", refractory_ms=3.0),
    alif("alif-refractory", refractory_ms=2.5, dt_ms=0.5, drive=0.8),
    lif("lif-per-neuron", tau_mem_ms=Spread(2.0, 8.0), threshold=Spread(0.3, 0.9)),
    alif(
        "alif-per-neuron",
        tau_mem_ms=Spread(2.0, 8.0),
        tau_adaptation_ms=Spread(4.0, 40.0),
        beta=Spread(0.0, 0.5),
        threshold=Spread(0.3, 0.9),
    ),
    lif("lif-train-tau", train_tau=True),
    lif("lif-train-threshold", train_threshold=True),
    alif("alif-train-tau", train_tau=True, tau_adaptation_ms=Spread(4.0, 20.0)),
    alif("alif-train-threshold", train_threshold=True, threshold=Spread(0.4, 0.8)),
    lif("lif-gain", input_gain="one_minus_decay", train_tau=True, drive=4.0),
    alif("alif-gain", input_gain="one_minus_decay", tau_mem_ms=Spread(2.0, 8.0), drive=4.0),
    leaky("leaky-integrator", "LeakyIntegrator", train_tau=True),
    leaky("leaky-tanh", "LeakyTanh", train_tau=True, tau_mem_ms=Spread(2.0, 8.0)),
    leaky("leaky-tanh-gain", "LeakyTanh", input_gain="one_minus_decay"),
    Row("mixed", parts=(lif("lif"), alif("alif"))),
    Row(
        "mixed-trained",
        parts=(
            lif("lif", reset=Reset("zero", "same", True), **TRAINED),
            alif("alif", reset=THROUGH_RESET, refractory_ms=2.0, **TRAINED),
        ),
    ),
    Row("mixed-rate", parts=(leaky("a", "LeakyTanh"), leaky("b", "LeakyIntegrator"))),
    *reset_rows(),
    *surrogate_rows(),
)
BY_NAME = {row.name: row for row in NEURONS}
EVERY_NEURON = tuple(BY_NAME)
HARD = ("mixed-trained", "alif-subtract-same-through-refractory", "lif-zero-same-detached")


class Hidden(NamedTuple):
    """A hidden layer of an architecture; with a `fan_in`, of sparse connections.

    `one_to_one` has each neuron receive from one input, and from the others by `Lateral`.
    """

    units: int
    recurrent: bool = True
    bias: bool = False
    autapses: bool = False
    fan_in: int | None = None
    one_to_one: bool = False


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Layers from the input on; whether there is a second readout, for classification.

    Readouts with a `fan_in` are sparse.
    """

    hidden: tuple[Hidden, ...]
    two_readouts: bool = True
    fan_in: int | None = None


ARCHITECTURES = {
    "flat": Architecture((Hidden(4, recurrent=False, bias=True),), two_readouts=False),
    "flat-two-readouts": Architecture((Hidden(5, recurrent=False),)),
    "recurrent": Architecture((Hidden(5),), two_readouts=False),
    "recurrent-bias": Architecture((Hidden(4, bias=True),)),
    "autapses": Architecture((Hidden(4, autapses=True),)),
    "deep-feedforward": Architecture((Hidden(4, False), Hidden(3, False, bias=True))),
    "deep": Architecture((Hidden(4, bias=True), Hidden(5))),
    "deep-half": Architecture((Hidden(4, recurrent=False), Hidden(5, autapses=True)), False),
    "sparse": Architecture((Hidden(5, bias=True, fan_in=2),), fan_in=3),
    "sparse-deep": Architecture((Hidden(4, bias=True, fan_in=3), Hidden(5, True, fan_in=2))),
    "one-to-one": Architecture((Hidden(3, bias=True, one_to_one=True),), two_readouts=False),
}
READOUTS = {
    "a": leaky("a", "LeakyIntegrator"),
    "b": leaky(
        "b",
        "LeakyIntegrator",
        input_gain="one_minus_decay",
        train_tau=True,
        tau_mem_ms=Spread(4.0, 9.0),
    ),
}
READOUT_UNITS = {"a": 2, "b": 3}
INPUTS = 3
RATE_STRENGTH, RATE_TARGET = 2.0, 0.15


@dataclasses.dataclass(frozen=True)
class Problem:
    """A network, its data and its loss, in the library and in the oracle.

    Attributes:
      network: of the library.
      reference: of the oracle.
      weights: of the oracle, by name.
      variables: of the library, by the same names.
      sources: of sparse ones among them, `[fan_in, N]`; the oracle has a matrix of all inputs.
      batch: features, batch-major.
      modules: the network and its loss as an assembled graph; the network's node is `net`.
      reference_loss: the same of the oracle.
    """

    network: Network
    reference: oracle.Network
    weights: dict[str, np.ndarray]
    variables: dict[str, tf.Variable]
    sources: dict[str, np.ndarray]
    batch: Batch
    modules: TrainingModules
    reference_loss: Callable[[oracle.Run], Dual]

    @property
    def size(self) -> int:
        """Examples in the batch."""
        return self.batch["inputs"].shape[0]

    @property
    def steps(self) -> int:
        """Steps of the sequence."""
        return self.batch["inputs"].shape[1]

    @property
    def xs(self) -> tf.Tensor:
        """Inputs, time-major."""
        return tf.transpose(self.batch["inputs"], [1, 0, 2])


def problem(
    row: str | Row,
    architecture: str = "deep",
    seed: int = 0,
    steps: int = 9,
    size: int = 3,
    mode: str = "mean",
    reduction: str = "sample",
    dtype: tf.DType = tf.float64,
    checkpoint_every: int | None = None,
) -> Problem:
    """A network of one row of `NEURONS` with random weights and data."""
    row = BY_NAME[row] if isinstance(row, str) else row
    shape = ARCHITECTURES[architecture]
    rng = np.random.default_rng(seed)
    cells, layers, variables, sources = [], [], {}, {}
    below = INPUTS
    for index, hidden in enumerate(shape.hidden):
        name = f"h{index}"
        cell = make_cell(row, below, hidden, dtype)
        cells.append(cell)
        no_autapse = not hidden.autapses
        layers.append(oracle.Layer(name, hidden.units, row.oracle(hidden.units), no_autapse))
        variables |= name_variables(name, cell, row)
        sources |= name_sources(name, cell)
        below = hidden.units
    readouts, readout_layers = {}, []
    for name in ("a", "b") if shape.two_readouts else ("a",):
        units, own = READOUT_UNITS[name], READOUTS[name]
        hidden = Hidden(units, recurrent=False, bias=name == "a", fan_in=shape.fan_in)
        cell = make_cell(own, below, hidden, dtype)
        readouts[name] = cell
        readout_layers.append(oracle.Layer(name, units, own.oracle(units)))
        variables |= name_variables(name, cell, own)
        sources |= name_sources(name, cell)
    weights = {name: draw(rng, name, variable, row.drive) for name, variable in variables.items()}
    weights |= {name: spread(weights[name], *found) for name, found in sources.items()}
    batch = random_batch(rng, size, steps, dtype)
    network = Network(cells, readouts, checkpoint_every)
    return Problem(
        network,
        oracle.Network(tuple(layers), tuple(readout_layers)),
        weights,
        variables,
        {name: own for name, (own, _) in sources.items()},
        batch,
        assemble(network, mode, reduction),
        reference_loss(batch, shape, mode, reduction),
    )


def make_cell(row: Row, inputs: int, hidden: Hidden, dtype: tf.DType) -> Cell:
    """A cell of the library; `draw` sets its weights."""
    units = hidden.units
    kind = Dense if hidden.fan_in is None else functools.partial(Sparse, fan_in=hidden.fan_in)
    feedforward: Connection
    recurrent: Connection | None = None
    if hidden.one_to_one:
        feedforward = OneToOne(units, bias=hidden.bias, dtype=dtype)
        recurrent = Lateral(units, dtype=dtype)
    else:
        feedforward = kind(inputs, units, bias=hidden.bias, dtype=dtype)
        if hidden.recurrent:
            recurrent = kind(units, units, autapses=hidden.autapses, dtype=dtype)
    return Cell(row.library(units, dtype), feedforward, recurrent)


def name_sources(layer: str, cell: Cell) -> dict[str, tuple[np.ndarray, int]]:
    """Sources and number of inputs of the sparse connections of a cell, one to one among them."""
    known = {"input": cell.feedforward, "recurrent": cell.recurrent}
    found = {}
    for name, connection in known.items():
        if hasattr(connection, "sources"):
            found[f"{layer}.{name}"] = (connection.sources.numpy(), connection.inputs)
        elif isinstance(connection, OneToOne):
            found[f"{layer}.{name}"] = (np.arange(connection.units)[None], connection.inputs)
    return found


def spread(kernel: np.ndarray, sources: np.ndarray, inputs: int) -> np.ndarray:
    """A kernel `[fan_in, N]` (or `[N]`) as `[F, N]`, 0 where there is no synapse."""
    matrix = np.zeros([inputs, sources.shape[1]])
    np.put_along_axis(matrix, sources, kernel.reshape(sources.shape), axis=0)
    return matrix


def name_variables(layer: str, cell: Cell, row: Row) -> dict[str, tf.Variable]:
    """Trained variables of a cell by their names in the oracle."""
    found = {"input": cell.feedforward.kernel, "bias": cell.feedforward.bias}
    found["recurrent"] = None if cell.recurrent is None else cell.recurrent.kernel
    found |= row.trained(cell.neuron)
    return {f"{layer}.{name}": var for name, var in found.items() if var is not None}


def is_log(name: str) -> bool:
    """Whether the library holds the logarithm of what the oracle has under that name."""
    return name.rpartition(".")[2] not in ("input", "recurrent", "bias")


def draw(rng: np.random.Generator, name: str, variable: tf.Variable, drive: float) -> np.ndarray:
    """Draws weights and assigns them, the diagonal of recurrent ones too."""
    if is_log(name):
        return np.exp(variable.numpy().astype(np.float64))
    scale, shift = {"input": (0.8, 0.4), "recurrent": (0.5, 0.0), "bias": (0.3, 0.2)}[
        name.rpartition(".")[2]
    ]
    values = scale * rng.normal(size=variable.shape) + shift
    if name.startswith("h"):
        values *= drive
    variable.assign(values)
    return values


def random_batch(rng: np.random.Generator, size: int, steps: int, dtype: tf.DType) -> Batch:
    """Inputs, targets, labels and the mask of sequences of different lengths, the first full."""
    lengths = steps - np.arange(size) % 3 * 2
    features = {
        "inputs": rng.normal(size=(size, steps, INPUTS)) + 0.5,
        "target": rng.normal(size=(size, steps, READOUT_UNITS["a"])),
        "mask": np.arange(steps) < lengths[:, np.newaxis],
    }
    batch = {name: tf.constant(value, dtype) for name, value in features.items()}
    return batch | {"label": tf.constant(rng.integers(READOUT_UNITS["b"], size=size))}


def assemble(network: Network, mode: str = "mean", reduction: str = "sample") -> TrainingModules:
    """Squared error of `a`, cross-entropy of `b`, and a rate penalty on every layer."""
    net = graph.NetworkNode("net", graph.InputNode("inputs", mask="mask"), network)
    net.a.db_name = "target"
    terms = [graph.SquaredError.of_node(net.a)]
    if "b" in network.readouts:
        decision = graph.Decision("decision", net.b, mode, db_name="label")
        terms.append(graph.CrossEntropy.of_node(decision))
    for cell in net.cells:
        terms.append(RATE_STRENGTH * graph.FiringRate(cell, 1000.0 * RATE_TARGET, reduction, 1.0))
    loss = functools.reduce(operator.add, terms)
    return graph.assemble_for_training(loss, {"loss": loss})[0]


def reference_loss(
    batch: Batch, shape: Architecture, mode: str, reduction: str
) -> Callable[[oracle.Run], Dual]:
    """The loss of `assemble` in the oracle."""
    mask = batch["mask"].numpy().T
    target = batch["target"].numpy().transpose(1, 0, 2)
    label = batch["label"].numpy()

    def loss(run: oracle.Run) -> Dual:
        total = oracle_losses.mean_squared_error(run.outputs["a"], target, mask)
        if shape.two_readouts:
            total += oracle_losses.cross_entropy(run.outputs["b"], label, mode, mask)
        for spikes in run.spikes.values():
            total += oracle_losses.firing_rate(spikes, RATE_TARGET, RATE_STRENGTH, mask, reduction)
        return total

    return loss


def initial_state(p: Problem, size: int | None = None) -> GraphState:
    """State of the model before the first step."""
    return p.modules.model.initial_state(size or p.size)


def reverse_scan(p: Problem, cut_every: int | None = None) -> Update:
    """Loss and gradients by the library's own reverse pass."""
    rule = BPTT() if cut_every is None else TBPTT(cut_every)
    return rule.update(p.modules, p.batch, initial_state(p))


def loss_of(p: Problem, trajectory: Trajectory, batch: Batch | None = None) -> tf.Tensor:
    """The loss of a trajectory of the network."""
    batch = p.batch if batch is None else batch
    run = p.modules.model.run(batch, unroll=lambda *_: trajectory)
    return p.modules.loss.values(p.modules.loss.sums(run.values, batch))[0]


def autodiff(p: Problem, cut_every: int | None = None) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Loss and gradients by TensorFlow, through `unroll`, window after window of `cut_every`."""
    with tf.GradientTape() as tape:
        loss = loss_of(p, unroll_in_windows(p, cut_every or p.steps))
    return loss, tape.gradient(loss, p.network.parameters)


def unroll_in_windows(p: Problem, every: int) -> Trajectory:
    """A trajectory whose state is stopped before every step that is a multiple of `every`."""
    state: NetworkState | None = None
    parts = []
    for start in range(0, p.steps, every):
        parts.append(p.network.unroll(p.xs[start : start + every], state))
        state = tf.nest.map_structure(tf.stop_gradient, parts[-1].final)
    return joined(parts)


def joined(parts: list[Trajectory]) -> Trajectory:
    """The last of some trajectories with the outputs of all of them."""

    def join(cells: Any) -> Any:
        return cells[-1]._replace(outputs=tf.concat([cell.outputs for cell in cells], axis=0))

    cells = zip(*[part.cells for part in parts], strict=True)
    readouts = {name: join([p.readouts[name] for p in parts]) for name in parts[-1].readouts}
    return Trajectory(tuple(join(group) for group in cells), readouts)


def by_name(p: Problem, gradients: Any) -> dict[str, np.ndarray]:
    """Gradients to `network.parameters` by the oracle's names of the variables."""
    found = dict(zip([v.ref() for v in p.network.parameters], gradients, strict=True))
    return {name: found[variable.ref()].numpy() for name, variable in p.variables.items()}


def reference(p: Problem, cut_every: int | None = None) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradients of the oracle, those to time constants as gradients to logarithms."""
    xs = p.xs.numpy()
    loss, found = oracle.loss_gradient(
        p.reference, p.weights, xs, p.reference_loss, cut_every, cut_spikes=False
    )
    for name, own in p.sources.items():
        taken = np.take_along_axis(found[name], own, axis=0)
        found[name] = taken.reshape(p.variables[name].shape)
    return loss, {n: g * p.weights[n] if is_log(n) else g for n, g in found.items()}


def assert_equal(
    got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray], tolerance: float = 1e-9
) -> None:
    """Same names, and values within `tolerance` of each array's largest entry."""
    assert got.keys() == want.keys()
    for name, value in want.items():
        atol = tolerance * np.abs(value).max()
        np.testing.assert_allclose(got[name], value, rtol=0, atol=atol, err_msg=name)


def named_states(state: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Variables of a population's state by their names in the oracle."""
    if hasattr(state, "_fields"):
        fields = zip(state._fields, state, strict=True)
        return {
            prefix + STATE_NAMES[name]: value.numpy()
            for name, value in fields
            if not isinstance(value, tuple)
        }
    parts = [named_states(part, f"part{i}.") for i, part in enumerate(state)]
    return {name: value for part in parts for name, value in part.items()}
