"""Networks whose readouts feed back: steps against plain loops, gradients against autodiff."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.learning import BPTT, TBPTT, Eprop
from orbit_snn.learning.base import Update
from orbit_snn.networks import Network
from orbit_snn.types import NetworkState
from tests.conformance import zoo

INPUTS, STEPS, SIZE, UNITS = 3, 7, 3, (4, 3)
ROWS = ("lif", "alif-refractory", "leaky-tanh-gain", *zoo.HARD)
COMPILED = "mixed-trained"  # by XLA; the others are graphs


def make(row: str) -> Network:
    """Two cells and two readouts, both of which feed the first cell."""
    known, draw = zoo.BY_NAME[row], np.random.default_rng(5)
    cells, below = [], INPUTS
    for index, units in enumerate(UNITS):
        cells.append(zoo.make_cell(known, below, zoo.Hidden(units, bias=index == 0), tf.float64))
        below = units
    readouts = {
        name: zoo.make_cell(zoo.READOUTS[name], below, zoo.Hidden(2, recurrent=False), tf.float64)
        for name in ("a", "b")
    }
    named = [("h0", cells[0], known), ("h1", cells[1], known)]
    named += [(name, cell, zoo.READOUTS[name]) for name, cell in readouts.items()]
    for name, cell, its in named:
        for key, variable in zoo.name_variables(name, cell, its).items():
            if not zoo.is_log(key):
                zoo.draw(draw, key, variable, its.drive)
    feedback = {
        name: Dense(2, UNITS[0], seed=seed, trainable=False, dtype=tf.float64)
        for seed, name in enumerate(readouts)
    }
    return Network(cells, readouts, feedback=feedback)


XS = tf.constant(np.random.default_rng(1).normal(size=(STEPS, SIZE, INPUTS)) + 0.5)
TARGETS = np.random.default_rng(2).normal(size=(SIZE, STEPS, 2))
BATCH = {"x": tf.transpose(XS, [1, 0, 2]), "y": tf.constant(TARGETS)}


def plain(network: Network, cut_every: int = STEPS, constant: bool = False) -> list[tf.Tensor]:
    """Outputs of cells and readouts at every step, `[T, B, N]`, one step after the other.

    With `constant`, what cells and readouts send to the next step is a constant, as for e-prop.
    """
    hold = tf.stop_gradient if constant else tf.identity
    state: NetworkState = network.initial_state(SIZE)
    cells, readouts = list(state.cells), dict(state.readouts)
    outputs: list[list[tf.Tensor]] = [[] for _ in (*network.cells, *network.readouts)]
    for t in range(STEPS):
        if t and t % cut_every == 0:
            cells = tf.nest.map_structure(tf.stop_gradient, cells)
            readouts = tf.nest.map_structure(tf.stop_gradient, readouts)
        fed = sum(
            connection(hold(network.readouts[name].neuron.output(readouts[name])))
            for name, connection in network.feedback.items()
        )
        signal = XS[t]
        for index, cell in enumerate(network.cells):
            current = cell.feedforward(signal)
            current += cell.recurrent(hold(cell.neuron.output(cells[index])))
            cells[index] = cell.neuron.step(cells[index], current + (fed if index == 0 else 0.0))
            signal = cell.neuron.output(cells[index])
            outputs[index].append(signal)
        for index, (name, cell) in enumerate(network.readouts.items()):
            readouts[name] = cell.neuron.step(readouts[name], cell.feedforward(signal))
            outputs[len(cells) + index].append(cell.neuron.output(readouts[name]))
    return [tf.stack(each) for each in outputs]


def error(outputs: list[tf.Tensor]) -> tf.Tensor:
    """Half of the squared errors of both readouts, and a little of all spikes."""
    y = tf.constant(TARGETS.transpose(1, 0, 2))
    squares = [tf.reduce_mean((x - y) ** 2) for x in outputs[-2:]]
    return tf.add_n(squares) + 0.1 * tf.reduce_mean(outputs[0] ** 2)


def assembled(network: Network) -> graph.TrainingModules:
    """The same loss as a graph."""
    net = graph.NetworkNode("net", graph.InputNode("x"), network)
    net.a.db_name = net.b.db_name = "y"
    loss = graph.MSE.of_node(net.a) + graph.MSE.of_node(net.b)
    loss = loss + 0.1 * graph.Mean(net.cell0.pred**2)
    return graph.assemble_for_training(loss, {"loss": loss})[0]


def updated(network: Network, rule: BPTT | TBPTT | Eprop, xla: bool) -> Update:
    """What a rule makes of the whole sequence."""
    modules = assembled(network)
    rule.prepare(modules, {n: tf.TensorSpec(x.shape[1:], x.dtype) for n, x in BATCH.items()}, STEPS)
    state = rule.initial_state(modules, SIZE)
    step: Callable = lambda: rule.update(modules, BATCH, state)  # noqa: E731
    return tf.function(step, jit_compile=xla, autograph=False)()


@pytest.mark.parametrize("row", (*ROWS, "mixed", "lif-train-threshold"))
def test_a_step_is_that_of_the_equations(row: str) -> None:
    network = make(row)
    done = network.unroll(XS)
    found = [*done.cells, *done.readouts.values()]
    for each, want in zip(found, plain(network), strict=True):
        np.testing.assert_allclose(each.outputs, want, atol=1e-12)
    half = network.unroll(XS[:3])
    rest = network.unroll(XS[3:], half.final)
    np.testing.assert_allclose(rest.readouts["a"].outputs, found[2].outputs[3:], atol=1e-12)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("cut_every", [STEPS, 2, 3])
def test_gradients_are_those_of_autodiff(row: str, cut_every: int) -> None:
    network = make(row)
    with tf.GradientTape() as tape:
        loss = error(plain(network, cut_every))
    wanted = tape.gradient(loss, network.parameters)
    rule = BPTT() if cut_every == STEPS else TBPTT(cut_every)
    done = updated(network, rule, row == COMPILED)
    np.testing.assert_allclose(done.loss, loss, rtol=1e-12)
    for got, want in zip(done.gradients, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * np.abs(want).max())


@pytest.mark.parametrize("row", ROWS)
def test_eprop_takes_feedback_for_a_constant(row: str) -> None:
    network = make(row)
    with tf.GradientTape() as tape:
        loss = error(plain(network, constant=True))
    wanted = tape.gradient(loss, network.parameters)
    for got, want in zip(updated(network, Eprop(), row == COMPILED).gradients, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * np.abs(want).max())


@pytest.mark.parametrize(
    "feedback,message",
    [
        ({"c": Dense(2, 4, trainable=False)}, "from the readout 'c'; the network has a"),
        ({"a": Dense(2, 3, trainable=False)}, "is 2 onto 3; expected 2 outputs onto"),
        ({"a": Dense(2, 4)}, "make it with trainable=False"),
    ],
)
def test_feedback_that_does_not_fit_is_refused(feedback: dict[str, Dense], message: str) -> None:
    hidden = Cell(zoo.BY_NAME["lif"].library(4, tf.float32), Dense(3, 4))
    readout = Cell(zoo.READOUTS["a"].library(2, tf.float32), Dense(4, 2))
    with pytest.raises(ValueError, match=message):
        Network([hidden], {"a": readout}, feedback=feedback)
