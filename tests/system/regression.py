"""A regression on padded sequences, and its metrics in NumPy."""

import numpy as np
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense, Sparse
from orbit_snn.graph import IdxType, InputNode, NetworkNode
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from tests.oracles import dataset_metrics as oracle

SIZE, STEPS, F, N, K = 37, 6, 4, 5, 2
DRAW = np.random.default_rng(0)
FEATURES = {
    "inputs": DRAW.normal(size=(SIZE, STEPS, F)) + 0.5,
    "target": DRAW.normal(size=(SIZE, STEPS, K)) + 3.0,
    "mask": np.arange(STEPS) < DRAW.integers(1, STEPS + 1, size=(SIZE, 1)),
    "weight of it": DRAW.uniform(0.1, 2.0, size=SIZE),
}
MASK, TARGET = FEATURES["mask"], FEATURES["target"]
RATE = 0.2  # spikes per step


def network_node(dtype=tf.float32, fan_in=None):
    """A spiking network on padded sequences."""
    kind = {"dtype": dtype}
    if fan_in is None:
        recurrent = Dense(N, N, autapses=False, seed=2, **kind)
    else:
        recurrent = Sparse(N, N, fan_in, autapses=False, seed=2, **kind)
    hidden = Cell(LIF(N, **kind), Dense(F, N, seed=1, **kind), recurrent)
    network = Network([hidden], {"out": Cell(LeakyIntegrator(K, **kind), Dense(N, K, **kind))})
    return NetworkNode("net", InputNode("inputs", mask="mask"), network, db_name="target")


def squared_error(fan_in=None):
    """The assembled graph of a squared error alone, in double precision."""
    loss = graph.MSE.of_node(network_node(tf.float64, fan_in).out)
    return graph.assemble_for_training(loss, {"loss": loss})


def own_targets():
    """The same of a recurrent population that has the targets itself."""
    kind = {"dtype": tf.float64}
    cell = Cell(LeakyIntegrator(K, **kind), Dense(F, K, seed=1, **kind), Dense(K, K, **kind))
    net = NetworkNode("net", InputNode("inputs", mask="mask"), Network([cell]))
    net.cell0.db_name = "target"
    loss = graph.MSE.of_node(net.cell0)
    return graph.assemble_for_training(loss, {"loss": loss})


def regression():
    """The assembled graph; its loss mixes what is summed in single and in double precision."""
    net = network_node()
    out = net.out
    weight = InputNode("weight of it", index=IdxType.SEQUENCES)
    mse = graph.MSE.of_node(out)
    metrics = {
        "mse": mse,
        "rmse": mse**0.5,
        "rsq": graph.Rsq.of_node(out),
        "var": graph.Var.of_node(out),
        "std": graph.Std(out.true),
        "comb": 2 * mse + 0.5 * graph.MAE.of_node(out),
        "weighted": graph.WeightedMSE.of_node(out, weight),
        "squared": graph.SquaredError.of_node(out),
        "nmse": graph.NMSE.of_node(out),
        "rates": graph.FiringRate(net.cell0, 1000 * RATE, "batch"),
        "median": graph.DatasetLoss("median", median, out.pred, out.true),
        "l2": graph.L2(net),
    }
    error = metrics["rmse"] + 0.1 * graph.Std(out.pred - out.true)
    return graph.assemble_for_training(error + 0.1 * metrics["rates"], metrics)


def median(pred, true):
    return np.median(np.abs(np.asarray(pred) - np.asarray(true)))


def numpy_metrics(pred, spikes):
    """The same of the whole data set."""
    mse = oracle.mse(pred, TARGET, MASK)
    return {
        "mse": mse,
        "rmse": mse**0.5,
        "rsq": oracle.rsq(pred, TARGET, mask=MASK),
        "var": oracle.var(pred, mask=MASK),
        "std": oracle.std(TARGET, mask=MASK),
        "comb": 2 * mse + 0.5 * oracle.mae(pred, TARGET, MASK),
        "weighted": oracle.weighted_mse(pred, TARGET, FEATURES["weight of it"], MASK),
        "squared": oracle.squared_error(pred, TARGET, MASK),
        "nmse": oracle.nmse(pred, TARGET, MASK),
        "rates": oracle.firing_rate(spikes, RATE, "batch", MASK),
        "median": median(pred[MASK], TARGET[MASK]),
    }
