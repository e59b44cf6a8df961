"""Networks of one-to-one, lateral and convolutional connections under every rule."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Conv2D, Dense, Lateral, OneToOne, Sparse
from orbit_snn.graph import GraphError
from orbit_snn.learning import BPTT, RLS, TBPTT, Eprop, Feedback, Kernel
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator

T, B, OUTPUTS = 8, 3, 2
PLACES = {
    "conv2d": lambda: (
        Conv2D((4, 5, 1), 2, (3, 2), (1, 2), "same", bias=True, dtype=tf.float64),
        None,
    ),
    "one to one": lambda: (OneToOne(6, bias=True, dtype=tf.float64), None),
    "lateral": lambda: (
        Dense(5, 4, dtype=tf.float64),
        Lateral(4, bias=True, dtype=tf.float64),
    ),
    "one to one, lateral": lambda: (
        OneToOne(5, dtype=tf.float64),
        Lateral(5, dtype=tf.float64),
    ),
    "conv2d, again": lambda: (
        Conv2D((3, 4, 2), 2, 3, padding="same", dtype=tf.float64),
        Conv2D((3, 4, 2), 2, (3, 1), padding="same", bias=True, dtype=tf.float64),
    ),
}
places = pytest.mark.parametrize("place", PLACES)
FORWARD = [name for name in PLACES if PLACES[name]()[1] is None]


class Model:
    """A cell of one of `PLACES` and a readout, with drawn weights, data and a squared error."""

    def __init__(self, place, onto=None, make=lambda connection: connection):
        draw = np.random.default_rng(5)
        feedforward, recurrent = (None if each is None else make(each) for each in PLACES[place]())
        units = feedforward.units
        self.cell = Cell(
            LIF(units, tau_mem_ms=8.0, threshold=0.6, dtype=tf.float64), feedforward, recurrent
        )
        onto = onto or Dense(units, OUTPUTS, bias=True, dtype=tf.float64)
        readout = Cell(LeakyIntegrator(OUTPUTS, tau_mem_ms=5.0, dtype=tf.float64), onto)
        self.network = Network([self.cell], readout)
        for cell in (self.cell, readout):
            for connection in cell.connections:
                for variable in (connection.kernel, connection.bias):
                    if variable is not None:
                        variable.assign(0.5 * draw.normal(size=variable.shape) + 0.15)
        self.batch = {
            "x": tf.constant(draw.normal(size=(B, T, feedforward.inputs)) + 0.3),
            "y": tf.constant(draw.normal(size=(B, T, OUTPUTS))),
        }
        net = graph.NetworkNode("net", graph.InputNode("x"), self.network)
        net.output.db_name = "y"
        error = graph.MSE.of_node(net.output)
        self.modules = graph.assemble_for_training(error, {"loss": error})[0]

    def prepared(self, rule):
        spec = {name: tf.TensorSpec(x.shape[1:], x.dtype) for name, x in self.batch.items()}
        rule.prepare(self.modules, spec, T)
        return rule

    def update(self, rule):
        self.prepared(rule)
        return rule.update(self.modules, self.batch, rule.initial_state(self.modules, B))

    def autodiff(self):
        """TensorFlow's gradients through `Network.unroll`."""
        xs, ys = (tf.transpose(self.batch[name], [1, 0, 2]) for name in ("x", "y"))
        with tf.GradientTape() as tape:
            done = self.network.unroll(xs)
            loss = tf.reduce_mean(tf.square(done.readouts["output"].outputs - ys))
        spikes = done.cells[0].outputs.numpy()
        assert set(np.unique(spikes)) == {0.0, 1.0} and 0.05 < spikes.mean() < 0.9
        return tape.gradient(loss, self.network.parameters)


def assert_gradients(got, want, tolerance=1e-9):
    for a, b in zip(got, want, strict=True):
        assert np.any(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@places
def test_reverse_pass_is_autodiff(place):
    model = Model(place)
    want = model.autodiff()
    assert_gradients(model.update(BPTT()).gradients, want)
    assert_gradients(model.update(TBPTT(T)).gradients, want)


@places
def test_compiled_reverse_pass(place):
    model = Model(place)
    rule = model.prepared(BPTT())
    state = rule.initial_state(model.modules, B)
    compiled = tf.function(
        lambda: rule.update(model.modules, model.batch, state).gradients, jit_compile=True
    )
    assert_gradients(compiled(), model.autodiff())


@pytest.mark.parametrize("place", FORWARD)
@pytest.mark.parametrize("arguments", [{}, {"mode": "chunked", "chunk": 3}])
def test_eprop_without_recurrence_is_autodiff(place, arguments):
    model = Model(place)
    assert_gradients(model.update(Eprop(**arguments)).gradients, model.autodiff())


@places
def test_chunks_of_eprop(place):
    """Traces that are carried from chunk to chunk give the gradient of the whole sequence."""
    model, random = Model(place), Feedback("random")
    want = model.update(Eprop(feedback=random)).gradients
    assert_gradients(model.update(Eprop("chunked", 3, random)).gradients, want)


def test_adaptive_feedback_follows_a_convolution():
    """The matrix gets at every place what the shared weight gets."""
    images = Conv2D((2, 3, 1), 1, 2, dtype=tf.float64)
    model = Model("one to one", onto=images)
    rule = Eprop(feedback=Feedback("adaptive"))
    gradients = model.update(rule).gradients
    found = dict(zip([v.ref() for v in rule.trained(model.modules)], gradients, strict=True))
    (matrix,) = rule.feedback.trained
    by_place = images.by_synapse([found[images.kernel.ref()]])
    np.testing.assert_array_equal(found[matrix.ref()], by_place)
    assert np.any(by_place)


KERNEL = Kernel(0.9, 1.7, 0.6)
SOLVING = {
    "grad": {},
    "grad, eprop": {"strategy": "grad", "gradient": "eprop"},
    "inputs": {},
    "jacobian": {},
    "scaled_jacobian": {},
    "outputs": {"feedback": Feedback("random")},
}


def known(connection):
    """A `Sparse` or `Dense` connection that is the same map, with weights in the same order."""
    settings = {"bias": connection.bias is not None, "dtype": tf.float64}
    if isinstance(connection, OneToOne):
        own = np.arange(connection.units)[None]
        return Sparse(connection.units, connection.units, sources=own, **settings)
    if isinstance(connection, Lateral):
        return Dense(connection.units, connection.units, autapses=False, **settings)
    return connection


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (place, name)
        for place in ("one to one", "lateral", "one to one, lateral")
        for name in SOLVING
        if name != "outputs" or place not in FORWARD
    ],
)
def test_least_squares(place, name):
    """The same weights and the same P as with the connections that are known."""
    found = []
    for make in (lambda connection: connection, known):
        model = Model(place, make=make)
        rule = RLS(kernel=KERNEL, **({"strategy": name, "window": None} | SOLVING[name]))
        done = model.update(rule)
        variables = [*rule.trained(model.modules), *rule.assigned(model.modules)]
        found.append((model, variables, [*done.gradients, *done.assigned]))
    (model, variables, got), (_, _, want) = found
    for variable, a, b in zip(variables, got, want, strict=True):
        assert a.shape == variable.shape
        np.testing.assert_allclose(np.ravel(a), np.ravel(b), rtol=1e-12, atol=1e-13)
    changed = [v for v, new in zip(variables, got, strict=True) if np.any(new != v)]
    assert len(changed) > 2
    if model.cell.recurrent is not None:
        pairs = [
            (v, new)
            for v, new in zip(variables, got, strict=True)
            if v is model.cell.recurrent.kernel
        ]
        assert len(pairs) == (name != "inputs")
        for variable, new in pairs:
            change = new if name.startswith("grad") else new - variable
            assert np.any(change) and not np.any(np.diagonal(change))


def test_least_squares_of_one_to_one_is_a_problem_for_each_neuron():
    """A gradient is divided by what the neuron's one input, and its bias, met."""
    model = Model("one to one", onto=Dense(6, OUTPUTS, trainable=False, dtype=tf.float64))
    rule = RLS("grad", KERNEL, window=None)
    got = np.stack(model.update(rule).gradients)
    (matrices,) = rule.matrices["net.cell0"]
    assert matrices.shape == (6, 2, 2)
    half = B * T * OUTPUTS / 2  # what makes half a sum of squares of the loss
    gradients = np.stack(model.autodiff()) * half
    x = model.batch["x"].numpy().reshape(B * T, -1)
    for n in range(6):
        own = np.stack([x[:, n], np.ones(B * T)], axis=1)
        curvature = KERNEL.forgetting * KERNEL.alpha * np.eye(2) + KERNEL.row_weight * own.T @ own
        want = KERNEL.row_weight * np.linalg.solve(curvature, gradients[:, n])
        np.testing.assert_allclose(got[:, n], want, rtol=1e-9)


@pytest.mark.parametrize("strategy", ["grad", "jacobian", "scaled_jacobian", "outputs"])
def test_least_squares_refuses_shared_weights(strategy):
    settings = {"feedback": Feedback("random")} if strategy == "outputs" else {}
    rule = RLS(strategy, KERNEL, window=None, **settings)
    with pytest.raises(GraphError) as caught:
        Model("conv2d, again").prepared(rule)
    assert str(caught.value) == (
        "the neurons of `net.cell0` share the weights of a Conv2D, and least squares solves for "
        "each neuron's own; make it with trainable=False, or train with BPTT, TBPTT or Eprop."
    )


def test_least_squares_takes_fixed_shared_weights():
    """What is not trained may be shared: the convolution is left as it is."""
    fixed = Conv2D((4, 5, 1), 2, (3, 2), (1, 2), "same", trainable=False, dtype=tf.float64)
    model = Model("conv2d", make=lambda _: fixed)
    for strategy in ("grad", "jacobian"):
        rule = RLS(strategy, KERNEL, window=None)
        done = model.update(rule)
        changed = [*rule.trained(model.modules), *rule.assigned(model.modules)]
        assert all(v is not fixed.kernel for v in changed) and np.any(model.autodiff()[0])
        assert np.any((*done.gradients, *done.assigned)[0])


def test_least_squares_of_a_readout_behind_a_convolution():
    """Strategy `inputs` trains the readout alone, so that what is below may share weights."""
    model = Model("conv2d")
    done = model.update(RLS("inputs", KERNEL, window=None))
    kernel = model.network.readouts["output"].feedforward.kernel
    assert np.any(done.assigned[0] != kernel) and done.assigned[0].shape == kernel.shape
