"""Small tasks in single precision, for tests of whole steps: one for each family of rules and more.

Their data is small and drawn; `TASKS` has what the learning rules need, `MODELS` what else a model
may be made of.
"""

import functools
from typing import Any

import numpy as np

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Conv2D, Delayed, DelayLine, Dense, DistanceConnection, Sparse
from orbit_snn.data import from_arrays
from orbit_snn.database import Database
from orbit_snn.graph import IdxType, InputNode, ModelNode, NetworkNode, SequenceNode
from orbit_snn.learning.plasticity import MaxRateClassifier
from orbit_snn.models import NEURONS
from orbit_snn.networks import Network
from orbit_snn.neurons import ALIF, LIF, LeakyIntegrator, LeakyTanh, Mixed
from orbit_snn.training import Confusion, PlotMaker, Raster, Task

EXAMPLES, STEPS, N, K, CLASSES = 10, 9, 4, 2, 3
F = K  # a network's outputs may be its next inputs
BATCH = 4
DRAW = np.random.default_rng(0)
FEATURES = {
    "x": DRAW.normal(size=(EXAMPLES, STEPS, F)).astype(np.float32) + 0.5,
    "y": DRAW.normal(size=(EXAMPLES, STEPS, K)).astype(np.float32),
    "own": DRAW.uniform(-0.5, 0.5, size=(EXAMPLES, STEPS, N)).astype(np.float32),
    "mask": np.arange(STEPS) < DRAW.integers(2, STEPS + 1, size=(EXAMPLES, 1)),
    "given": np.tile(np.arange(STEPS) < STEPS - 3, (EXAMPLES, 1)),
    "label": DRAW.integers(CLASSES, size=EXAMPLES),
    "reward": DRAW.normal(size=(EXAMPLES, STEPS)).astype(np.float32),
    "positions": DRAW.uniform(size=(EXAMPLES, F, 2)).astype(np.float32),
    "box": np.ones((EXAMPLES, 2), np.float32),
}


@functools.cache
def database() -> Database:
    """The data, under both names that a trainer and an evaluator ask for."""
    return Database(dict.fromkeys(("train", "test"), from_arrays(FEATURES)))


def assembled(loss: Any, plots: Any = None, **metrics: Any) -> Task:
    given = {"loss": loss, **metrics}
    return Task(*graph.assemble_for_training(loss, given, plot_maker=plots), database())


def onto(neuron: Any, feedforward: Any = None) -> Cell:
    """A recurrent population."""
    units = neuron.units
    feedforward = feedforward or Dense(F, units, bias=True, seed=1)
    return Cell(neuron, feedforward, Dense(units, units, autapses=False, seed=2))


def linear(outputs: int, units: int) -> Cell:
    return Cell(LeakyIntegrator(outputs), Dense(units, outputs, bias=True, seed=3))


def spiking() -> Any:
    return Mixed([LIF(N // 2), ALIF(N // 2)])


def regression(hidden: Cell | None = None, inputs: Any = None, **options: Any) -> Task:
    """A squared error on padded sequences."""
    hidden = hidden or onto(spiking())
    network = Network([hidden], linear(K, hidden.neuron.units), **options)
    net = NetworkNode("net", inputs or InputNode("x", mask="mask"), network, db_name="y")
    return assembled(graph.MSE.of_node(net.output), rsq=graph.Rsq.of_node(net.output))


def rates() -> Task:
    """The same for a population that takes any target."""
    return regression(onto(LeakyTanh(N)))


def own_targets(recurrent: Any = None) -> Task:
    """A population that has the targets itself."""
    cell = Cell(LeakyTanh(N), Dense(F, N, seed=1), recurrent or Dense(N, N, seed=2))
    net = NetworkNode("net", InputNode("x", mask="mask"), Network([cell]))
    net.cell0.db_name = "own"
    return assembled(graph.MSE.of_node(net.cell0))


def plastic() -> Task:
    """Spikes onto a population, rewarded and classified."""
    net = NetworkNode("net", InputNode("x"), Network([Cell(LIF(N), Dense(F, N, seed=1))]))
    reward = InputNode("reward", index=IdxType.SEQ_STEP)
    spikes = graph.Decision("rates", net.cell0, "mean")
    votes = MaxRateClassifier(N, CLASSES)
    digit = ModelNode("digit", spikes, votes, IdxType.SEQUENCES, db_name="label")
    loss, accuracy = graph.CrossEntropy.of_node(digit), graph.Accuracy.of_node(digit)
    return assembled(loss, accuracy=accuracy, reward=graph.MeanSq.of_node(reward))


def every_neuron() -> Task:
    """One population of each model that the configs know, each its own cell and step."""
    made = [model(1, dt_ms=1.0) for model in NEURONS.values()]
    cells = [onto(neuron, Dense(1 if i else F, 1, seed=i)) for i, neuron in enumerate(made)]
    net = NetworkNode("net", InputNode("x"), Network(cells, linear(K, 1)), db_name="y")
    return assembled(graph.MSE.of_node(net.output))


def classification() -> Task:
    """A decision, regularised, with every kind of metric, and pictures."""
    net = NetworkNode("net", InputNode("x", mask="mask"), Network([onto(spiking())], linear(3, N)))
    digit = graph.Decision("digit", net.output, "last", db_name="label")
    every = graph.DatasetLoss("every", lambda pred, true: np.mean(pred), digit.pred, digit.true)
    entropy = graph.CrossEntropy.of_node(digit)
    loss = entropy**0.5 + 0.1 * graph.FiringRate(net.cell0, 10.0, "batch") + 1e-4 * graph.L2(net)
    accuracy = graph.Accuracy.of_node(digit)
    plots = PlotMaker(Confusion(digit), Raster(net))
    return assembled(loss, plots, accuracy=accuracy, every=every)


def lateral() -> Task:
    """Currents by the distances of pairs that every step finds anew."""
    sheet = graph.PositionsNode("positions"), graph.BoxNode("box")
    pairs = graph.PairIndexer("pairs", sheet, dist_hard_max=0.3)
    connection = DistanceConnection(F, length=0.1, velocity=0.2, delays="linear", dist_hard_max=0.3)
    return regression(inputs=graph.DistanceNode("lateral", InputNode("x"), pairs, connection))


def delayed() -> Task:
    """Synapses with delays that are trained."""
    line = SequenceNode("taps", InputNode("x"), DelayLine(F, 3))
    return regression(onto(LIF(N), Delayed(F, N, 3)), line)


def images() -> Task:
    """A convolution of every step's inputs as an image."""
    conv = Conv2D((1, F, 1), filters=2, kernel_size=(1, 2))
    return regression(Cell(LIF(conv.units), conv))


TASKS = {
    "regression": regression,
    "rates": rates,
    "own targets": own_targets,
    "sparse own targets": lambda: own_targets(Sparse(N, N, 2, autapses=False, seed=2)),
    "plastic": plastic,
}
MODELS = {
    "every neuron": every_neuron,
    "classification": classification,
    "pairs": lateral,
    "delays": delayed,
    "images": images,
    "sparse": lambda: regression(Cell(LIF(N), Sparse(F, N, 2), Sparse(N, N, 2, autapses=False))),
    "checkpointed": lambda: regression(checkpoint_every=3),
    "closed loop": lambda: regression(inputs=InputNode("x", given="given")),
}
