"""Least squares of currents (`current`, `own_current`): targets are turned into what makes them."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense, Sparse
from orbit_snn.graph import GraphError, InputNode, NetworkNode
from orbit_snn.learning import RLS, Kernel
from orbit_snn.learning.base import window_of
from orbit_snn.learning.rls.inversion import inversion
from orbit_snn.learning.rls.options import OF_CURRENTS
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyTanh, Neuron
from tests.conformance import zoo
from tests.oracles import rls as oracle

N, STEPS, LEAK, ALPHA = 6, 14, 0.1, 0.7
TAU = -1.0 / np.log(1.0 - LEAK)
KIND = {"dtype": tf.float64}


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


class BentState(NamedTuple):
    """Of `Bent`: what it gives, and a count that nothing depends on."""

    v: tf.Tensor
    count: tf.Tensor


class Bent(Neuron):
    """A unit that no file of the library knows: a nonlinear leak, a gain that depends on it."""

    def __init__(self, units, power=1):
        super().__init__(units, 1.0, tf.float64, None)
        self._power = power

    def initial_state(self, batch_size):
        return BentState(*[tf.fill([batch_size, self.units], tf.constant(0.1, tf.float64))] * 2)

    def step(self, state, current):
        v = state.v - 0.1 * tf.sinh(state.v) + (0.3 + 0.1 * tf.cos(state.v)) * current**self._power
        return BentState(v, state.count + 1.0)

    def output(self, state):
        return tf.math.softplus(3.0 * state.v)


def onto_itself(neuron, recurrent, trained=False):
    units = neuron.units
    below = Dense(units, units, initializer="identity", trainable=trained, **KIND)
    return Network([Cell(neuron, below, recurrent)])


def prepared(network, rule, batch, mask=None):
    """The rule on the squared error of the first cell, and the batch as tensors."""
    net = NetworkNode("net", InputNode("x", mask=mask), network)
    net.cell0.db_name = "y"
    loss = graph.MSE.of_node(net.cell0)
    modules, _ = graph.assemble_for_training(loss, {"loss": loss})
    batch = {name: tf.constant(x) for name, x in batch.items()}
    spec = {name: tf.TensorSpec(x.shape[1:], x.dtype) for name, x in batch.items()}
    rule.prepare(modules, spec, batch["x"].shape[1])
    return modules, batch


def learn(network, rule, batch, passes=1, mask=None, compiled=False):
    """So many passes over one batch."""
    modules, batch = prepared(network, rule, batch, mask)
    update = lambda cut, state: rule.update(modules, cut, state)  # noqa: E731
    update = tf.function(update, jit_compile=True) if compiled else update
    for _ in range(passes):
        state = rule.initial_state(modules, batch["x"].shape[0])
        for start, stop in rule.windows(batch["x"].shape[1]):
            done = update(window_of(batch, modules.temporal, start, stop - start), state)
            for variable, value in zip(rule.assigned(modules), done.assigned, strict=True):
                variable.assign(value)
            state = done.state
    return network.cells[0].recurrent


@pytest.mark.parametrize("alignment", OF_CURRENTS)
@pytest.mark.parametrize("window", [None, 4, 1])
@pytest.mark.parametrize("passes", [1, 3])
def test_it_is_the_exact_solution_whatever_the_windows(window, passes, alignment):
    """The regressors of `own_current` depend on the windows; those of `current` do not."""
    data, u, weights = np.tanh(draw(1, STEPS, N)), draw(2, STEPS, N), draw(3, N, N)
    if alignment == "current":
        want, p = oracle.curbd_current(data, weights, LEAK, u[1:], ALPHA, passes)
    else:
        block = window or STEPS
        want, p = oracle.curbd_own_current(data, weights, u, LEAK, block, ALPHA, passes)
    recurrent = Dense(N, N, initializer=lambda *_: tf.constant(weights), **KIND)
    network = onto_itself(LeakyTanh(N, tau_mem_ms=TAU, **KIND), recurrent)
    rule = RLS("outputs", Kernel(alpha=ALPHA), window, alignment=alignment)
    learn(network, rule, {"x": u[np.newaxis], "y": data[np.newaxis]}, passes)
    np.testing.assert_allclose(recurrent.kernel, want, rtol=0, atol=1e-9)
    np.testing.assert_allclose(rule.matrices["net.cell0"][0], p, rtol=0, atol=1e-9)


@pytest.mark.parametrize("alignment", OF_CURRENTS)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("row", ["leaky-tanh", "leaky-tanh-gain", "leaky-integrator", "mixed-rate"])
def test_every_neuron_that_can_be_turned_around(row, sparse, alignment):
    """Sequences that end early, and windows that cut them, where regressors do not follow W."""
    size, known = 3, zoo.BY_NAME[row]
    neuron = known.library(N, tf.float64)
    settings = [known.settings] * N
    if known.parts:
        sizes = known.sizes(N)
        settings = [p.settings for p, n in zip(known.parts, sizes, strict=True) for _ in range(n)]
    tau = np.diag([zoo.resolve(own["tau_mem_ms"], N) * np.ones(N) for own in settings])
    decay = np.exp(-1.0 / tau)
    gain = np.array([own["input_gain"] == "one" for own in settings])
    drive = np.where(gain, 1.0, 1.0 - decay)
    bent = np.full(N, row.startswith("leaky-tanh")) | ((row == "mixed-rate") & (np.arange(N) < 3))
    u, h = draw(1, size, STEPS, N), draw(2, size, STEPS, N)
    rates = np.where(bent, np.tanh(h), h)
    kind = {"bias": True, "seed": 4, **KIND}
    recurrent = Sparse(N, N, 3, **kind) if sparse else Dense(N, N, **kind)
    weights = np.vstack([recurrent.weights()[0].numpy(), recurrent.bias.numpy()[None]])
    lengths = STEPS - 2 * np.arange(size)[:, None]
    real = np.arange(STEPS) < lengths
    window = 5 if alignment == "current" else None
    rule = RLS("outputs", Kernel(alpha=ALPHA), window, alignment=alignment)
    batch = {"x": u, "y": np.where(real[..., None], rates, 7.0), "mask": real}
    network = onto_itself(neuron, recurrent)
    own = network.unroll(tf.constant(u.transpose(1, 0, 2))).cells[0].previous_outputs.numpy()
    learn(network, rule, batch, mask="mask")
    before = np.concatenate([np.zeros((size, 1, N)), h[:, :-1]], axis=1)
    seen = np.where(bent, np.tanh(before), before)
    seen = seen if alignment == "current" else own.transpose(1, 0, 2)
    x = np.concatenate([seen, np.ones((size, STEPS, 1))], axis=2)[real]
    y = ((h - decay * before) / drive - u)[real]
    got = np.vstack([recurrent.weights()[0].numpy(), recurrent.bias.numpy()[None]])
    for n in range(N):
        own = [*recurrent.sources.numpy()[:, n], N] if sparse else np.arange(N + 1)
        want, _ = oracle.ridge([x[:, own]], [y[:, n : n + 1]], weights[own, n : n + 1], ALPHA)
        np.testing.assert_allclose(got[own, n], want[:, 0], rtol=0, atol=1e-9)


def test_a_neuron_that_the_library_does_not_know():
    """It starts elsewhere than at 0; its own dynamics make the targets, so nothing is left."""
    weights, u = 0.8 * draw(1, N, N) / N**0.5, draw(2, 2, 60, N)
    teacher = onto_itself(Bent(N), Dense(N, N, initializer=lambda *_: tf.constant(weights), **KIND))
    rates = teacher.unroll(tf.constant(u.transpose(1, 0, 2))).cells[0].outputs.numpy()
    rule = RLS("outputs", Kernel(alpha=1e-8), 7, alignment="current")
    network = onto_itself(Bent(N), Dense(N, N, seed=5, **KIND))
    recurrent = learn(network, rule, {"x": u, "y": rates.transpose(1, 0, 2)})
    np.testing.assert_allclose(recurrent.kernel, weights, rtol=0, atol=1e-5)


@pytest.mark.parametrize("alignment", OF_CURRENTS)
def test_a_row_needs_two_steps_that_the_loss_looks_at(alignment):
    every_second = np.arange(STEPS)[np.newaxis] % 2 == 1
    batch = {"x": draw(1, 1, STEPS, N), "y": np.tanh(draw(2, 1, STEPS, N)), "mask": every_second}
    rule = RLS("outputs", Kernel(alpha=ALPHA), 3, alignment=alignment)
    recurrent = Dense(N, N, **KIND)
    before = recurrent.kernel.numpy()
    learn(onto_itself(LeakyTanh(N, **KIND), recurrent), rule, batch, mask="mask")
    np.testing.assert_array_equal(recurrent.kernel, before)


@pytest.mark.parametrize("alignment", OF_CURRENTS)
@pytest.mark.parametrize("window", [None, 4])
def test_compiled(window, alignment):
    batch = {"x": draw(1, 2, 8, N), "y": np.tanh(draw(2, 2, 8, N))}
    found = []
    for compiled in (False, True):
        rule = RLS("outputs", Kernel(alpha=ALPHA), window, alignment=alignment)
        network = onto_itself(LeakyTanh(N, **KIND), Dense(N, N, seed=1, **KIND))
        found.append(learn(network, rule, batch, compiled=compiled).kernel.numpy())
    np.testing.assert_allclose(*found, rtol=0, atol=1e-10)


def explained(alignment, data, u, passes=1):
    """Share of the variance of rates that a fitted network explains on its own."""
    units = data.shape[1]
    network = onto_itself(
        LeakyTanh(units, tau_mem_ms=TAU, **KIND), Dense(units, units, gain=1.5, seed=9, **KIND)
    )
    rule = RLS("outputs", Kernel(), 5, alignment=alignment)
    learn(network, rule, {"x": u[np.newaxis], "y": data[np.newaxis]}, passes)
    rates = network.unroll(tf.constant(u[:, np.newaxis])).cells[0].outputs.numpy()[:, 0]
    return oracle.p_var(data, rates)


def test_one_pass_explains_more_than_one_of_rates():
    """Data of another chaotic network, which a network of the same size is fitted to (CURBD)."""
    units, steps = 20, 300
    wave = np.sin(2 * np.pi * np.arange(steps)[:, None] / 40 + np.arange(units))
    weights = 1.5 * draw(1, units, units) / units**0.5
    recurrent = Dense(units, units, initializer=lambda *_: tf.constant(weights), **KIND)
    teacher = onto_itself(LeakyTanh(units, tau_mem_ms=TAU, **KIND), recurrent)
    data = teacher.unroll(tf.constant(wave[:, np.newaxis])).cells[0].outputs.numpy()[:, 0]
    data = np.clip(data, -0.999, 0.999)
    previous, current = (explained(each, data, wave) for each in ("previous", "current"))
    assert current > 0.95 and current > previous
    passes = [explained(each, data, wave, 3) for each in ("previous", "own_current")]
    assert passes[1] > 0.99 and passes[1] > passes[0]


def test_which_neurons_can_be_turned_around():
    found = {row.name for row in zoo.NEURONS if inversion(row.library(4, tf.float32))}
    assert found == {"leaky-integrator", "leaky-tanh", "leaky-tanh-gain", "mixed-rate"}
    assert inversion(Bent(3)) is not None
    assert inversion(Bent(3, power=3)) is None


def test_a_number_has_an_inverse_up_to_its_last_bits():
    turned = inversion(LeakyTanh(5, **KIND))
    h = np.concatenate([draw(1, 20, 5), [[0.0, -0.0, 1e-12, -1e-300, 15.0]]])
    got = turned.potentials(tf.tanh(tf.constant(h)))
    np.testing.assert_allclose(got[:-1], h[:-1], rtol=1e-12)
    np.testing.assert_allclose(got[-1, :4], h[-1, :4], rtol=1e-12, atol=1e-300)
    assert abs(got[-1, 4] - 15.0) < 0.1
    outside = turned.potentials(tf.constant([[1.0, -1.0, 2.0, -3.0, np.nan]], tf.float64))
    assert np.isnan(outside).all()


@pytest.mark.parametrize("alignment", OF_CURRENTS)
def test_targets_out_of_range_are_named(alignment):
    batch = {"x": draw(1, 1, STEPS, N), "y": np.tanh(draw(2, 1, STEPS, N))}
    batch["y"][0, 9, 2] = 1.0
    rule = RLS("outputs", Kernel(alpha=ALPHA), 4, alignment=alignment)
    learn(onto_itself(LeakyTanh(N, **KIND), Dense(N, N, **KIND)), rule, batch)
    message = rule.problem()
    assert "in update 2 of the run" in message
    assert f"targets inside of what the neurons can put out (alignment={alignment})" in message
    assert np.isfinite(rule.matrices["net.cell0"][0]).all()


@pytest.mark.parametrize("alignment", OF_CURRENTS)
def test_what_cannot_be_turned_around_is_refused(alignment):
    batch = {"x": draw(1, 1, STEPS, N), "y": draw(2, 1, STEPS, N)}
    rule = RLS("outputs", alignment=alignment)
    network = onto_itself(LIF(N, **KIND), Dense(N, N, **KIND))
    with pytest.raises(GraphError, match="of `net.cell0` around, .* use alignment=previous"):
        prepared(network, rule, batch)
    with pytest.raises(ValueError, match="rows=last looks at one of each window; use rows=all"):
        RLS("outputs", rows="last", alignment=alignment)
