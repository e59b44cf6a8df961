"""Networks whose output takes the place of inputs: steps against loops, rules against autodiff."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.learning import BPTT, RLS, TBPTT, Eprop, Feedback, Kernel, LearningRule
from orbit_snn.learning.base import Update, window_of
from orbit_snn.learning.places import Place, places
from orbit_snn.learning.rls.jacobian import output_rows
from orbit_snn.learning.rls.layers import Layer
from orbit_snn.networks import Network
from orbit_snn.types import NetworkState
from tests.conformance import zoo

INPUTS, STEPS, FORESIGHT, SIZE, UNITS = 2, 5, 4, 3, (4, 3)
WHOLE = STEPS + FORESIGHT - 1
ROWS = ("lif", "alif-refractory", "leaky-tanh-gain", *zoo.HARD)
FEW = ("alif-refractory", "leaky-tanh-gain")
RNG = np.random.default_rng(1)
# Inputs of one example end early, those of one come late and end, those of one are all there.
UNEVEN = np.arange(WHOLE) < STEPS + np.zeros([SIZE, 1])
UNEVEN[0, 2:7], UNEVEN[1, :2], UNEVEN[2] = False, False, True
BATCH = {
    "x": tf.constant(RNG.normal(size=(SIZE, WHOLE, INPUTS)) + 0.5),
    "y": tf.constant(RNG.normal(size=(SIZE, WHOLE, INPUTS))),
    "given": tf.constant(UNEVEN),
}


def make(row: str, fed: bool = False, deep: bool = True, weak: bool = False) -> Network:
    """One or two cells and two readouts; `b` closes the loop and, if `fed`, `a` feeds back.

    With `weak`, readouts give little, so that what they feed back makes no neuron saturate.
    """
    known, draw = zoo.BY_NAME[row], np.random.default_rng(5)
    cells, below = [], INPUTS
    for units in UNITS if deep else UNITS[:1]:
        cells.append(zoo.make_cell(known, below, zoo.Hidden(units, bias=True), tf.float64))
        below = units
    readouts = {
        name: zoo.make_cell(zoo.READOUTS[name], below, zoo.Hidden(INPUTS, False, True), tf.float64)
        for name in ("a", "b")
    }
    named = [(f"h{index}", cell, known) for index, cell in enumerate(cells)]
    named += [(name, cell, zoo.READOUTS[name]) for name, cell in readouts.items()]
    for name, cell, its in named:
        for key, variable in zoo.name_variables(name, cell, its).items():
            if not zoo.is_log(key):
                zoo.draw(draw, key, variable, its.drive)
                if weak and name in readouts:
                    variable.assign(0.3 * variable)
    fixed = Dense(INPUTS, UNITS[0], seed=1, trainable=False, dtype=tf.float64)
    return Network(cells, readouts, feedback={"a": fixed} if fed else {}, closed_loop="b")


class Plain:
    """The network as a loop of one step after the other, in plain TensorFlow."""

    def __init__(self, network: Network, given: np.ndarray, constant: bool = False):
        self._network = network
        self._given = given
        self._hold = tf.stop_gradient if constant else tf.identity

    def __call__(
        self, xs: tf.Tensor, state: NetworkState, start: int = 0, cut_every: int = WHOLE
    ) -> tuple[list[tf.Tensor], NetworkState]:
        """Outputs of cells and readouts, `[T, B, N]`, of inputs that are the steps from `start`."""
        outputs: list[list[tf.Tensor]] = []
        for t, x in enumerate(tf.unstack(xs)):
            if t and t % cut_every == 0:
                state = tf.nest.map_structure(tf.stop_gradient, state)
            own, state = self._step(x, self._given[:, start + t], state)
            outputs.append(own)
        return [tf.stack(each) for each in zip(*outputs, strict=True)], state

    def _step(self, x, given, state):
        network, hold = self._network, self._hold
        own = {n: hold(c.neuron.output(state.readouts[n])) for n, c in network.readouts.items()}
        signal = tf.where(given[:, None], x, own["b"])
        extra = sum(connection(own[name]) for name, connection in network.feedback.items())
        cells, outputs = [], []
        for cell, before in zip(network.cells, state.cells, strict=True):
            current = cell.feedforward(signal) + extra
            extra = 0.0
            current += cell.recurrent(hold(cell.neuron.output(before)))
            cells.append(cell.neuron.step(before, current))
            signal = cell.neuron.output(cells[-1])
            outputs.append(signal)
        readouts = {}
        for name, cell in network.readouts.items():
            readouts[name] = cell.neuron.step(state.readouts[name], cell.feedforward(signal))
            outputs.append(cell.neuron.output(readouts[name]))
        return outputs, NetworkState(tuple(cells), readouts)


def major(name: str) -> tf.Tensor:
    """A feature, time-major."""
    return tf.transpose(BATCH[name], [1, 0, 2])


def error(outputs: list[tf.Tensor], start: int = 0) -> tf.Tensor:
    """Squared errors of both readouts, and a little of the first cell's spikes."""
    y = major("y")[start : start + outputs[0].shape[0]]
    squares = [tf.reduce_mean((x - y) ** 2) for x in outputs[-2:]]
    return tf.add_n(squares) + 0.1 * tf.reduce_mean(outputs[0] ** 2)


def assembled(network: Network, pure: bool = False, **marks) -> graph.TrainingModules:
    """The same loss as a graph; `pure` has the errors alone."""
    marks = marks or {"given": "given"}
    net = graph.NetworkNode("net", graph.InputNode("x", **marks), network)
    net.a.db_name = net.b.db_name = "y"
    loss = graph.MSE.of_node(net.a) + graph.MSE.of_node(net.b)
    if not pure:
        loss = loss + 0.1 * graph.Mean(net.cell0.pred**2)
    return graph.assemble_for_training(loss, {"loss": loss})[0]


def prepared(modules: graph.TrainingModules, rule: LearningRule) -> LearningRule:
    spec = {name: tf.TensorSpec(x.shape[1:], x.dtype) for name, x in BATCH.items()}
    rule.prepare(modules, spec, WHOLE)
    return rule


def updates(
    network: Network, rule: LearningRule, xla: bool | None = False, pure: bool = False
) -> list[Update]:
    """What a rule makes of every window of a sequence, if nothing is updated in between."""
    modules = assembled(network, pure)
    prepared(modules, rule)
    step: Callable = lambda batch, state: rule.update(modules, batch, state)  # noqa: E731
    if xla is not None:
        step = tf.function(step, jit_compile=xla, autograph=False)
    state, done = rule.initial_state(modules, SIZE), []
    for start, stop in rule.windows(WHOLE):
        batch = window_of(BATCH, modules.temporal, start, stop - start)
        done.append(step(batch, state))
        state = done[-1].state
    return done


def assert_close(got, wanted, tolerance: float = 1e-9) -> None:
    for found, want in zip(got, wanted, strict=True):
        scale = max(np.abs(want).max(), 1e-6)
        np.testing.assert_allclose(found, want, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize("row", (*ROWS, "mixed", "lif-train-threshold"))
def test_a_step_is_that_of_the_equations(row: str, fed: bool) -> None:
    network = make(row, fed)
    given = tf.transpose(BATCH["given"])
    done = network.unroll(major("x"), given=given)
    wanted, _ = Plain(network, UNEVEN)(major("x"), network.initial_state(SIZE))
    found = [*done.cells, *done.readouts.values()]
    for each, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(each.outputs, want, atol=1e-12)
    half = network.unroll(major("x")[:3], given=given[:3])
    rest = network.unroll(major("x")[3:], half.final, given[3:])
    np.testing.assert_allclose(rest.readouts["a"].outputs, wanted[-2][3:], atol=1e-12)
    received = np.where(given[1:, :, None], major("x")[1:], wanted[-1][:-1])
    np.testing.assert_allclose(done.cells[0].inputs[1:], received, atol=1e-12)


@pytest.mark.parametrize(
    "row,cut_every,fed",
    [(row, WHOLE, False) for row in ROWS]
    + [(row, cut, fed) for row in FEW for cut, fed in ((WHOLE, True), (2, False), (3, True))],
)
def test_gradients_are_those_of_autodiff(row: str, cut_every: int, fed: bool) -> None:
    network = make(row, fed)
    with tf.GradientTape() as tape:
        outputs, _ = Plain(network, UNEVEN)(
            major("x"), network.initial_state(SIZE), cut_every=cut_every
        )
        loss = error(outputs)
    wanted = tape.gradient(loss, network.parameters)
    (done,) = updates(network, BPTT() if cut_every == WHOLE else TBPTT(cut_every))
    np.testing.assert_allclose(done.loss, loss, rtol=1e-12)
    assert_close(done.gradients, wanted)


@pytest.mark.parametrize("row,size", [("alif-refractory", 2), ("leaky-tanh-gain", 3)])
def test_windows_know_which_of_their_steps_are_given(row: str, size: int) -> None:
    network = make(row)
    run, state = Plain(network, UNEVEN), network.initial_state(SIZE)
    for number, done in enumerate(updates(network, TBPTT(size, "window"))):
        start = number * size
        with tf.GradientTape() as tape:
            outputs, state = run(major("x")[start : start + size], state, start)
            loss = error(outputs, start)
        np.testing.assert_allclose(done.loss, loss, rtol=1e-12)
        assert_close(done.gradients, tape.gradient(loss, network.parameters))


@pytest.mark.parametrize(
    "rule,xla",
    [
        (BPTT, None),
        (lambda: Eprop("chunked", chunk=5), False),
        (lambda: RLS("grad", window=4), False),
    ],
    ids=["bptt-eager", "eprop-graph", "rls-graph"],
)
def test_a_graph_and_xla_give_the_same(rule: Callable, xla: bool | None) -> None:
    network = make("alif-refractory", fed=True, deep=False)
    both = zip(updates(network, rule(), xla), updates(network, rule(), True), strict=True)
    for found, want in both:
        np.testing.assert_allclose(found.loss, want.loss, rtol=1e-12)
        assert_close(found.gradients, want.gradients)


@pytest.mark.parametrize("row,fed", [*[(row, False) for row in ROWS], ("alif-refractory", True)])
def test_eprop_takes_what_is_fed_back_for_a_constant(row: str, fed: bool) -> None:
    network = make(row, fed)
    with tf.GradientTape() as tape:
        run = Plain(network, UNEVEN, constant=True)
        loss = error(run(major("x"), network.initial_state(SIZE))[0])
    (done,) = updates(network, Eprop())
    assert_close(done.gradients, tape.gradient(loss, network.parameters))


@pytest.mark.parametrize(
    "row,feedback",
    [("alif-refractory", Feedback()), ("leaky-tanh-gain", Feedback("random", seed=3))],
)
def test_modes_of_eprop_give_the_same(row: str, feedback: Feedback) -> None:
    network = make(row, fed=True, deep=False)
    (want,) = updates(network, Eprop(feedback=feedback))
    for mode, chunk in (("chunked", 3), ("stepwise", 1)):
        (found,) = updates(network, Eprop(mode, chunk, feedback))
        assert_close(found.gradients, want.gradients)
        np.testing.assert_allclose(found.loss, want.loss, rtol=1e-12)


@pytest.mark.parametrize("rule", [BPTT(), Eprop()])
def test_what_feeds_the_network_learns_from_given_steps_alone(rule: LearningRule) -> None:
    """A trained layer below, whose values at the other steps are NaN."""
    network = make("alif-refractory")
    weight = tf.Variable(np.random.default_rng(0).normal(size=(INPUTS, INPUTS)))

    class Code(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = weight

        def __call__(self, x):
            return tf.tensordot(x, self.weight, 1)

    code = graph.ModelNode("code", graph.InputNode("x", given="given"), Code())
    net = graph.NetworkNode("net", code, network)
    net.a.db_name = net.b.db_name = "y"
    loss = graph.MSE.of_node(net.a) + graph.MSE.of_node(net.b)
    modules, _ = graph.assemble_for_training(loss, {"loss": loss})
    rule = prepared(modules, rule)
    with tf.GradientTape() as tape:
        xs = tf.tensordot(major("x"), weight, 1)
        plain = Plain(network, UNEVEN, constant=rule.name == "eprop")
        outputs, _ = plain(xs, network.initial_state(SIZE))
        total = tf.add_n([tf.reduce_mean((x - major("y")) ** 2) for x in outputs[-2:]])
    wanted = tape.gradient(total, modules.model.parameters)
    hidden = tf.where(BATCH["given"][..., None], BATCH["x"], np.nan)
    clean = tf.where(BATCH["given"][..., None], BATCH["x"], 7.0)
    for x, learned in ((clean, wanted), (hidden, wanted[1:])):
        batch = {**BATCH, "x": x}
        done = rule.update(modules, batch, rule.initial_state(modules, SIZE))
        assert_close(done.gradients[-len(learned) :], learned)


@pytest.mark.parametrize("row,fed", [("alif-refractory", True), ("leaky-tanh-gain", False)])
def test_rows_of_kalman_filters_go_through_the_loop(row: str, fed: bool) -> None:
    network = make(row, fed, weak=True)
    net = assembled(network).model.networks[0]
    layers = {place: Layer(place) for place in places(net)}
    trajectory = network.unroll(major("x"), given=tf.transpose(BATCH["given"]))
    found = output_rows(Place(net, "a"), layers, trajectory, last=STEPS)
    with tf.GradientTape(persistent=True) as tape:
        outputs, _ = Plain(network, UNEVEN)(major("x"), network.initial_state(SIZE))
        chosen = tf.transpose(outputs[-2], [0, 2, 1])[-1]  # [K, B] of the last step
    for place, layer in layers.items():
        derivative = tape.jacobian(
            chosen, layer.parameters, unconnected_gradients="zero", experimental_use_pfor=False
        )
        want = [
            layer.by_synapse([d[k, b] for d in derivative]) for k in (0, 1) for b in range(SIZE)
        ]
        assert_close(found[place][-INPUTS * SIZE :], want)


def one_readout() -> Network:
    """One spiking cell and a readout with one time constant."""
    hidden = make("lif", deep=False).cells[0]
    weights = Dense(UNITS[0], INPUTS, bias=True, seed=2, dtype=tf.float64)
    return Network([hidden], Cell(zoo.READOUTS["a"].library(INPUTS, tf.float64), weights))


def learn(network: Network, rule: LearningRule) -> list[tf.Tensor]:
    """Trains on every window of the sequence; the spikes that there were, `[T, B, N]`."""
    net = graph.NetworkNode("net", graph.InputNode("x", given="given"), network, db_name="y")
    loss = graph.MSE.of_node(net.output)
    modules, _ = graph.assemble_for_training(loss, {"loss": loss})
    prepared(modules, rule)
    state, spikes = rule.initial_state(modules, SIZE), []
    for start, stop in rule.windows(WHOLE):
        batch = window_of(BATCH, modules.temporal, start, stop - start)
        run = modules.model.run(batch, state.model)
        spikes.append(run.trajectories()["net"].cells[0].outputs)
        done = rule.update(modules, batch, state)
        for variable, value in zip(rule.assigned(modules), done.assigned, strict=True):
            variable.assign(value)
        state = done.state
    return spikes


@pytest.mark.parametrize("window", [1, 3, None])
def test_least_squares_is_exact_on_outputs_as_they_were_given(window: int | None) -> None:
    network = one_readout()
    connection = network.readouts["output"].feedforward
    before = np.vstack([connection.kernel.numpy(), connection.bias.numpy()])
    spikes = learn(network, RLS("inputs", Kernel(alpha=0.3), window=window))
    x = np.concatenate(spikes)
    x = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    for t in range(1, WHOLE):
        x[t] += np.exp(-1.0 / zoo.READOUTS["a"].settings["tau_mem_ms"]) * x[t - 1]
    x, y = x.reshape(-1, x.shape[-1]), major("y").numpy().reshape(-1, INPUTS)
    curvature = 0.3 * np.eye(x.shape[1]) + x.T @ x
    want = before + np.linalg.solve(curvature, x.T @ (y - x @ before))
    found = np.vstack([connection.kernel.numpy(), connection.bias.numpy()])
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "rule",
    [
        RLS("outputs", window=3, feedback=Feedback("random", seed=1)),
        RLS("jacobian", window=3),
        RLS("scaled_jacobian", window=3),
        RLS("grad", window=3),
        RLS("grad", window=3, gradient="eprop"),
    ],
    ids=lambda rule: f"{rule.strategy}-{rule.options.gradient}",
)
def test_every_strategy_of_least_squares_runs(rule: RLS) -> None:
    network = one_readout()
    learn(network, rule)
    assert all(np.isfinite(p).all() for p in network.parameters)
    assert not rule.problem()
