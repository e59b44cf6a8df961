"""Cells, networks and the time loop: sizes, states, errors."""

import re

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import unroll
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.networks import Network
from orbit_snn.neurons import ALIF, LIF, LeakyIntegrator
from orbit_snn.types import OutputGradients
from tests.conformance import zoo

STRUCTURES = ("flat", "recurrent-bias", "deep", "sparse")


def cell(inputs=3, units=4, recurrent=True):
    onto_itself = Dense(units, units, autapses=False) if recurrent else None
    return Cell(LIF(units), Dense(inputs, units), onto_itself)


def readout(inputs=4, units=2):
    return Cell(LeakyIntegrator(units), Dense(inputs, units, bias=True))


def stepped(network, xs):
    """States of the cells and readouts after every step, by `Cell.step`."""
    state = network.initial_state(xs.shape[1])
    cells, readouts, history = list(state.cells), dict(state.readouts), []
    for x in xs:
        for index, own in enumerate(network.cells):
            cells[index] = own.step(cells[index], x)
            x = own.neuron.output(cells[index])
        readouts = {n: own.step(readouts[n], x) for n, own in network.readouts.items()}
        history.append([list(cells), readouts])
    return tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *history)


@pytest.mark.parametrize("architecture", STRUCTURES)
@pytest.mark.parametrize("row", ["lif", "alif-refractory", "leaky-tanh", "mixed-trained"])
def test_unroll_is_a_loop_over_step(row, architecture):
    p = zoo.problem(row, architecture)
    cells, readouts = stepped(p.network, p.xs)
    done = p.network.unroll(p.xs)
    pairs = [*zip(done.cells, cells, strict=True)]
    pairs += [(done.readouts[name], readouts[name]) for name in readouts]
    for trajectory, want in pairs:
        after = tf.nest.map_structure(lambda leaf: leaf[1:], trajectory.history)
        last = tf.nest.map_structure(lambda leaf: leaf[-1], want)
        for got, wanted in ((after, want), (trajectory.final, last)):
            for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(wanted), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("every", [None, 2, 4, 9])
@pytest.mark.parametrize("architecture", STRUCTURES)
def test_trajectory(architecture, every):
    """Shapes, what each layer receives, and the states kept."""
    p = zoo.problem("alif-refractory", architecture, checkpoint_every=every)
    done = p.network.unroll(p.xs)
    below = p.xs
    for own, trajectory in zip(p.network.cells, done.cells, strict=True):
        np.testing.assert_array_equal(trajectory.inputs, below)
        assert trajectory.outputs.shape == [p.steps, p.size, own.neuron.units]
        if trajectory.history is not None:
            before = trajectory.previous_outputs
            np.testing.assert_array_equal(before[1:], trajectory.outputs[:-1])
            assert not np.any(before[0])
        for leaf in tf.nest.flatten(trajectory.checkpoints or ()):
            assert leaf.shape == [-(-p.steps // every), p.size, own.neuron.units]
        for leaf in tf.nest.flatten(trajectory.history or ()):
            assert leaf.shape == [p.steps + 1, p.size, own.neuron.units]
        below = trajectory.outputs
    for trajectory in done.readouts.values():
        np.testing.assert_array_equal(trajectory.inputs, below)
    tf.nest.assert_same_structure(done.final, p.network.initial_state(p.size))


def test_network_remembers_nothing():
    p = zoo.problem("alif", "deep")
    before = [variable.numpy() for variable in p.network.variables]
    first, second = p.network.unroll(p.xs), p.network.unroll(p.xs)
    tf.nest.map_structure(np.testing.assert_array_equal, first, second)
    for variable, value in zip(p.network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_initial_state():
    network = Network(
        [Cell(ALIF(4, refractory_ms=3.0), Dense(3, 4)), cell(4, 5)],
        {"a": readout(5, 2), "b": readout(5, 1)},
    )
    state = network.initial_state(6)
    assert [type(own).__name__ for own in state.cells] == ["ALIFState", "LIFState"]
    assert {name: own.v.shape.as_list() for name, own in state.readouts.items()} == {
        "a": [6, 2],
        "b": [6, 1],
    }
    assert not any(np.any(leaf) for leaf in tf.nest.flatten(state))
    assert all(leaf.shape == [6, 4] for leaf in tf.nest.flatten(state.cells[0]))


@pytest.mark.parametrize("architecture", STRUCTURES)
def test_parameters(architecture):
    """Every trained variable once, with a gradient of its shape in the same order."""
    p = zoo.problem("mixed-trained", architecture)
    refs = [variable.ref() for variable in p.network.parameters]
    assert len(set(refs)) == len(refs)
    assert set(refs) == {variable.ref() for variable in p.network.trainable_variables}
    found = zoo.reverse_scan(p).gradients
    assert [g.shape for g in found] == [v.shape for v in p.network.parameters]
    own = p.network.cells[0]
    first = [own.feedforward.kernel.ref()]
    assert refs[: len(first)] == first
    assert refs[-1] in {v.ref() for c in p.network.readouts.values() for v in c.parameters}


def test_one_readout_is_called_output():
    assert list(Network([cell()], readout()).readouts) == ["output"]


def test_a_signal_to_the_hidden_layer_alone():
    """No gradient to a readout that nothing depends on; the lower layer still learns."""
    p = zoo.problem("lif", "deep")
    done = p.network.unroll(p.xs)
    nothing = {name: tf.zeros_like(own.outputs) for name, own in done.readouts.items()}
    signal = [tf.ones_like(done.cells[0].outputs), None]
    direct = OutputGradients(signal, [None, None], nothing)
    gradients, inputs = p.network.reverse(done, direct)
    assert inputs is None
    found = zoo.by_name(p, gradients)
    silent = {name for name, gradient in found.items() if not np.any(gradient)}
    assert "h0.input" not in silent
    assert silent == {name for name in found if not name.startswith("h0")}


REFUSED = [
    (
        lambda: Cell(LIF(4), Dense(3, 5)),
        "the feedforward connection gives 5 currents, the population has 4 neurons",
    ),
    (
        lambda: Cell(LIF(4), Dense(3, 4), Dense(4, 5)),
        "the recurrent connection is 4 onto 5, the population has 4 neurons",
    ),
    (
        lambda: Cell(LIF(4), Dense(3, 4), Dense(3, 4)),
        "the recurrent connection is 3 onto 4, the population has 4 neurons",
    ),
    (lambda: Network([], readout()), "a network got no cells; give at least one"),
    (
        lambda: Network([cell(3, 4), cell(5, 4)], readout()),
        "a cell of 4 neurons feeds one that takes 5 inputs; make them equal",
    ),
    (
        lambda: Network([cell()], {"a": readout(), "b": readout(inputs=7)}),
        "a cell of 4 neurons feeds one that takes 7 inputs; make them equal",
    ),
    (
        lambda: Network([cell()], readout(), checkpoint_every=0),
        "checkpoint_every is 0; expected 1 or more, or None",
    ),
    (
        lambda: Network([cell()], readout()).unroll(tf.zeros([5, 2, 4])),
        "inputs have shape (5, 2, 4); expected [T, B, 3], time first, with 3 values a step",
    ),
    (
        lambda: unroll.forward(cell(), tf.zeros([5, 3])),
        "inputs have shape (5, 3); expected [T, B, 3]",
    ),
    (
        lambda: unroll.forward(cell(), tf.zeros([0, 2, 3])),
        "the sequence has no steps; give inputs [T, B, F] with T of at least 1",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refuses(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_refuses_unknown_sizes():
    network = Network([cell()], readout())
    unknown = tf.TensorSpec([None, 2, 3])
    with pytest.raises(ValueError, match="every size must be known beforehand"):
        tf.function(network.unroll, autograph=False).get_concrete_function(unknown)


def test_reverse_needs_the_same_checkpoints():
    own = cell()
    done = unroll.forward(own, tf.zeros([5, 2, 3]), checkpoint_every=2)
    with pytest.raises(ValueError, match="kept checkpoints; reverse needs its checkpoint_every"):
        unroll.reverse(own, done, tf.zeros_like(done.outputs))


def test_state_of_another_network_is_refused():
    network = Network([cell()], {"a": readout(), "b": readout()})
    other = Network([cell()], {"a": readout()})
    with pytest.raises((ValueError, KeyError)):
        network.unroll(tf.zeros([5, 2, 3]), other.initial_state(2))


def test_unknown_arguments_raise():
    with pytest.raises(TypeError, match="reads"):
        Network([cell()], readout(), reads=2)
