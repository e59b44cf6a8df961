"""The penalty on membrane potentials, under back-propagation and where it has no meaning."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.graph import GraphError, Voltage
from orbit_snn.learning import BPTT
from orbit_snn.neurons import LeakyIntegrator
from tests.conformance import zoo

LOW, HIGH = -0.2, 0.4


def with_voltage(p):
    net = graph.NetworkNode("net", graph.InputNode("inputs", mask="mask"), p.network)
    loss = graph.Mean.of_node(net.a)
    for cell in net.cells:
        loss += Voltage(cell, LOW, HIGH)
    return graph.assemble_for_training(loss, {"loss": loss})[0]


def potentials(state):
    return state.v if hasattr(state, "v") else tf.concat([part.v for part in state], axis=-1)


@pytest.mark.parametrize("row", ["lif", "alif-refractory", "mixed-trained"])
def test_gradients_of_back_propagation(row):
    """Those of autodiff; the value is that of NumPy."""
    p = zoo.problem(row, "deep")
    modules = with_voltage(p)
    done = BPTT().update(modules, p.batch, modules.model.initial_state(p.size))
    mask = tf.transpose(p.batch["mask"])
    share = (mask / tf.reduce_sum(mask, axis=0) / p.size)[..., tf.newaxis]
    with tf.GradientTape() as tape:
        run = p.network.unroll(p.xs)
        y = mask[..., tf.newaxis] * run.readouts["a"].outputs
        loss = tf.reduce_sum(y) / tf.reduce_sum(mask) / y.shape[-1]
        for cell in run.cells:
            v = potentials(cell.history)[1:]
            outside = tf.nn.relu(v - HIGH) ** 2 + tf.nn.relu(LOW - v) ** 2
            loss += 0.5 * tf.reduce_sum(share * outside)
    np.testing.assert_allclose(done.loss, loss, rtol=1e-12)
    zero = tf.UnconnectedGradients.ZERO
    want = tape.gradient(loss, p.network.parameters, unconnected_gradients=zero)
    for got, expected in zip(done.gradients, want, strict=True):
        atol = 1e-9 * max(float(tf.reduce_max(tf.abs(expected))), 1e-12)
        np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


def test_potentials_that_are_not_kept():
    p = zoo.problem("lif", "deep", checkpoint_every=3)
    modules = with_voltage(p)
    with pytest.raises(GraphError, match="set the network's checkpoint_every to None"):
        modules.model(p.batch)


def test_what_has_no_potential():
    p = zoo.problem("lif", "deep")
    net = graph.NetworkNode("net", graph.InputNode("inputs"), p.network)
    with pytest.raises(GraphError, match=r"`net.a` is not the output of a cell"):
        Voltage(net.a, LOW, HIGH)
    with pytest.raises(GraphError, match="low is 1.0 and high 0.0"):
        Voltage(net.cell0, 1.0, 0.0)
    assert LeakyIntegrator(2).initial_state(1).v.shape == [1, 2]
