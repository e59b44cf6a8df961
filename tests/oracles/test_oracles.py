"""Self-tests of the oracles: finite differences, hand-computed steps, opposite checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from . import dual as d
from . import losses, surrogates
from .networks import Layer, Network, Run, loss_gradient, run
from .neurons import Neuron, mixed, output, step

ALPHA = math.exp(-1 / 20)
PRIMITIVES: dict[str, Callable] = {  # antiderivative of psi / dampening, zero at s = 0
    "triangular": lambda s, k: np.clip(s, -1, 1) * (1 - np.abs(np.clip(s, -1, 1)) / 2),
    "fast_sigmoid": lambda s, k: s / (1 + k * np.abs(s)),
    "arctan": lambda s, k: 2 / (np.pi * k) * np.arctan(np.pi / 2 * k * s),
    "sigmoid": lambda s, k: 2 / k * np.tanh(k * s / 2),
    "exponential": lambda s, k: np.sign(s) * (1 - np.exp(-k * np.abs(s))) / k,
    "gaussian": lambda s, k: np.sqrt(np.pi / 2) / k * np.vectorize(math.erf)(k * s / 2**0.5),
    "boxcar": lambda s, k: np.clip(s, -1 / k, 1 / k),
    "straight_through": lambda s, k: s,
}


def differences(function: Callable[[dict], float], weights: dict, step_size: float = 1e-6) -> dict:
    """Central differences of a scalar function of a dictionary of arrays."""
    result = {}
    for name, value in weights.items():
        value = np.asarray(value, np.float64)
        gradient = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = value.copy()
                moved[index] += sign * step_size
                ends.append(function({**weights, name: moved}))
            gradient[index] = (ends[0] - ends[1]) / (2 * step_size)
        result[name] = gradient
    return result


def two_layers(neuron: Neuron, seed: int = 0, extra: dict | None = None) -> tuple:
    """Two recurrent hidden layers and two readouts, with weights and an input [7, 2, 3]."""
    rng = np.random.default_rng(seed)
    network = Network(
        (Layer("low", 4, neuron), Layer("top", 3, neuron, no_autapse=False)),
        (
            Layer("a", 2, Neuron("leaky_integrator", tau=5.0)),
            Layer("b", 3, Neuron("leaky_integrator", tau=9.0, zeta="one_minus_decay")),
        ),
    )
    shapes = {"low.input": (3, 4), "low.recurrent": (4, 4), "low.bias": (4,)}
    shapes |= {"top.input": (4, 3), "top.recurrent": (3, 3), "a.input": (3, 2)}
    shapes |= {"b.input": (3, 3), "b.bias": (3,), "low.initial.v": (4,), "top.initial.v": (2, 3)}
    if neuron.kind == "mixed":
        shapes = {k: s for k, s in shapes.items() if "initial" not in k}
    weights = {name: 0.8 * rng.normal(size=shape) for name, shape in shapes.items()}
    return network, weights | (extra or {}), rng.normal(size=(7, 2, 3))


MASK = np.array([[1, 1, 0, 1, 1, 1, 0], [1, 0, 1, 1, 0, 0, 0]]).T


def total_loss(result: Run, mode: str = "mean", mask: np.ndarray | None = MASK) -> d.Dual:
    """Every loss at once."""
    targets = np.random.default_rng(1).normal(size=(7, 2, 3))
    return (
        losses.cross_entropy(result.outputs["a"], np.array([1, 0]), mode, mask)
        + losses.mean_squared_error(result.outputs["b"], targets, mask)
        + losses.firing_rate(result.spikes["low"], 0.2, 3.0, mask)
        + losses.firing_rate(result.spikes["top"], 0.1, 2.0, mask, "sample")
        + losses.l2([result.weights["low.input"]], 0.1)
    )


def assert_differences_agree(network: Network, weights: dict, xs: np.ndarray, **kwargs) -> None:
    """The forward-mode gradient against central differences, for every weight."""
    _, got = loss_gradient(network, weights, xs, lambda r: total_loss(r, **kwargs))
    want = differences(lambda w: float(total_loss(run(network, w, xs), **kwargs).value), weights)
    for name, gradient in want.items():
        assert np.shape(weights[name]) == got[name].shape
        np.testing.assert_allclose(got[name], gradient, rtol=1e-6, atol=1e-8, err_msg=name)
    masked = [np.diagonal(got["low.recurrent"])]
    assert all(np.any(got[name]) for name in got) and not np.any(masked)


@pytest.mark.parametrize("mode", losses.READOUT_MODES)
@pytest.mark.parametrize("masked", [False, True])
def test_smooth_network(mode: str, masked: bool) -> None:
    """leaky_tanh: every weight, initial state and time constant, every readout mode."""
    neuron = Neuron("leaky_tanh", zeta="one_minus_decay", tau=2.0)
    extra = {"low.tau": np.array([2.0, 3.0, 4.0, 5.0]), "top.tau": 3.0, "a.tau": 4.0}
    assert_differences_agree(
        *two_layers(neuron, extra=extra), mode=mode, mask=MASK if masked else None
    )


@pytest.fixture
def soft(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Replace H(s) by the antiderivative of psi, so that differences see the surrogate."""

    def use(neuron: Neuron) -> None:
        def smooth(s: np.ndarray) -> np.ndarray:
            return neuron.dampening * PRIMITIVES[neuron.surrogate](s, neuron.slope)

        monkeypatch.setattr(surrogates, "heaviside", smooth)

    return use


@pytest.mark.parametrize("kind", ["lif", "alif"])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("timing", ["next", "same"])
def test_soft_spikes(soft: Callable, kind: str, reset: str, timing: str) -> None:
    """Every path through the spiking equations, with H replaced by a primitive of psi."""
    neuron = Neuron(
        kind, tau=4.0, reset=reset, reset_timing=timing, surrogate="sigmoid", slope=1.5, beta=0.3
    )
    soft(neuron)
    extra = {"low.tau": 3.0, "low.threshold": np.array([0.7, 0.8, 1.1, 0.6])}
    if kind == "alif":
        extra |= {"low.beta": 0.4, "low.tau_adaptation": 6.0, "top.initial.a": np.ones(3)}
    assert_differences_agree(*two_layers(neuron, extra=extra))


def test_soft_mixed(soft: Callable) -> None:
    """A mixed population: parameters of the parts by name."""
    lif = Neuron(tau=4.0, surrogate="arctan", zeta="one_minus_decay")
    alif = Neuron("alif", tau=np.array([3.0, 4.0]), beta=0.3, surrogate="arctan")
    soft(lif)
    network, weights, xs = two_layers(mixed((2, lif), (2, alif)))
    top = Layer("top", 3, replace(alif, tau=3.0))
    network = Network((network.hidden[0], top), network.readouts)
    weights |= {"low.part0.tau": 5.0, "low.part1.beta": 0.2, "low.initial.part1.a": np.ones(2)}
    assert_differences_agree(network, weights, xs)


@pytest.mark.parametrize("name", surrogates.NAMES)
def test_surrogates(name: str) -> None:
    """Psi is the derivative of its primitive and peaks at `dampening`."""
    s = np.linspace(-2.03, 2.02, 41)  # no kink among them
    h = 1e-6
    slope = 1.0 if name == "triangular" else 1.7
    primitive = PRIMITIVES[name]
    numeric = 0.4 * (primitive(s + h, slope) - primitive(s - h, slope)) / (2 * h)
    psi = surrogates.psi(name, s, 0.4, slope)
    np.testing.assert_allclose(psi, numeric, atol=1e-8)
    assert surrogates.psi(name, np.zeros(1), 0.4, 3.0) == 0.4 and psi.max() <= 0.4
    assert surrogates.heaviside(np.array([0.0, 1e-300]))[0] == 0.0


def lif_trace(currents: list[float], neuron: Neuron) -> tuple[list[float], list[float]]:
    """Potential and spikes of one neuron."""
    network = Network((Layer("h", 1, neuron),), ())
    result = run(network, {"h.input": np.ones((1, 1))}, np.reshape(currents, (-1, 1, 1)))
    return list(result.states["h"]["v"].value.ravel()), list(result.spikes["h"].value.ravel())


# alpha = 1/2, threshold 1, I = 1.5, 0, 1, 1: written out by hand
@pytest.mark.parametrize(
    ("reset", "timing", "want"),
    [
        ("subtract", "next", [1.5, -0.25, 0.875, 1.4375]),
        ("subtract", "same", [1.5, 0.25, 1.125, 1.0625]),
        ("zero", "next", [1.5, 0.0, 1.0, 1.5]),
        ("zero", "same", [1.5, 0.0, 1.0, 1.5]),
        ("none", "next", [1.5, 0.75, 1.375, 1.6875]),
    ],
)
def test_four_steps(reset: str, timing: str, want: list[float]) -> None:
    """Each reset for four steps; v = 1 at threshold 1 is no spike."""
    neuron = Neuron(tau=1 / math.log(2), reset=reset, reset_timing=timing)
    v, z = lif_trace([1.5, 0.0, 1.0, 1.0], neuron)
    np.testing.assert_allclose(v, want, rtol=1e-14)
    if reset != "zero":  # there v(3) = 1 up to rounding of alpha
        assert z == [float(x > 1) for x in want]


def test_refractory() -> None:
    """n_ref - 1 blocked steps after a spike, psi 0 in them; n_ref <= 1 blocks none."""
    for n_ref, period in ((0, 1), (1, 1), (2, 2), (4, 4)):
        neuron = Neuron(refractory_steps=n_ref, reset="none")
        _, z = lif_trace([5.0] * 9, neuron)
        assert z == [float(t % period == 0) for t in range(9)]
    v = d.variables({"v": np.array([[0.9]])})["v"]
    blocked = output(Neuron(refractory_steps=2), {"v": v, "q": d.Dual([[1.0]])})
    assert not blocked.tangent.any()
    assert output(Neuron(), {"v": v, "q": d.Dual([[0.0]])}).tangent == pytest.approx(0.27)


def test_reset_gradient_by_hand() -> None:
    """dv(2)/dw of one neuron: alpha x1 + x2 (detached), - threshold psi x1 / threshold (not)."""
    for keep in (True, False):
        state = {"v": d.Dual([[0.0]]), "q": d.Dual([[0.0]])}
        w = d.variables({"w": np.array([[1.0]])})["w"]
        neuron = Neuron(reset_gradient=keep, threshold=0.8)
        state = step(neuron, state, w * 0.9)
        psi = 0.3 * (1 - abs(0.9 - 0.8) / 0.8)
        state = step(neuron, state, w * 2.0)
        assert state["v"].value == pytest.approx(ALPHA * 0.9 + 2.0 - 0.8)
        want = ALPHA * 0.9 + 2.0 - (psi * 0.9 if keep else 0.0)
        assert state["v"].tangent == pytest.approx(want)


@pytest.mark.parametrize("kind", ["lif", "alif", "leaky_tanh"])
def test_truncation(kind: str) -> None:
    """K >= T is BPTT; K < T is the sum of chunks, each started from the values of the last."""
    neuron = Neuron(kind, tau=6.0, threshold=0.4, beta=0.1, dampening=1.0, refractory_steps=2)
    network, weights, xs = two_layers(neuron, seed=3)

    def squares(result: Run) -> d.Dual:
        return (result.outputs["a"] ** 2).sum() + (result.outputs["b"] ** 2).sum()

    loss, full = loss_gradient(network, weights, xs, squares)
    _, same = loss_gradient(network, weights, xs, squares, cut_every=7)
    cut_loss, cut = loss_gradient(network, weights, xs, squares, cut_every=3)
    assert loss == cut_loss and run(network, weights, xs).spikes["top"].value.any()
    assert all(np.array_equal(full[name], same[name]) for name in full)
    assert not np.allclose(full["low.recurrent"], cut["low.recurrent"])

    synapses = [name for name in weights if "initial" not in name]
    total = {name: np.zeros(np.shape(weights[name])) for name in synapses}
    start = dict(weights)
    for t in (0, 3, 6):
        _, part = loss_gradient(network, start, xs[t : t + 3], squares, trainable=synapses)
        total = {name: total[name] + part[name] for name in synapses}
        for layer, states in run(network, start, xs[t : t + 3]).states.items():
            start |= {f"{layer}.initial.{key}": x.value[-1] for key, x in states.items()}
    for name in synapses:
        np.testing.assert_allclose(cut[name], total[name], rtol=1e-12, atol=1e-14)


def test_cut_spikes_concerns_thresholds_only() -> None:
    """At a cut, the recomputed z(t-1) depends directly on the threshold, on no weight."""
    neuron = Neuron(tau=6.0, surrogate="fast_sigmoid")
    network, weights, xs = two_layers(neuron, seed=3, extra={"low.threshold": 0.4})

    def cut(keep: bool) -> dict:
        return loss_gradient(network, weights, xs, total_loss, 3, cut_spikes=not keep)[1]

    dropped, kept = cut(False), cut(True)
    differ = {name for name in kept if not np.array_equal(kept[name], dropped[name])}
    assert differ == {"low.threshold"}


def test_losses_by_hand() -> None:
    """Modes, masks and reductions on numbers small enough to write out."""
    logits = np.array([[[0.0, 2.0]], [[3.0, 1.0]], [[9.0, 9.5]]])
    mask = np.array([[1], [1], [0]])

    def nats(a: float, b: float) -> float:
        return math.log(1 + math.exp(b - a))

    want = {"mean": nats(1.5, 1.5), "max": nats(3, 2), "last": nats(3, 1)}
    want["per_step"] = (nats(0, 2) + nats(3, 1)) / 2
    for mode, number in want.items():
        got = losses.cross_entropy(d.Dual(logits), np.array([0]), mode, mask)
        assert got.value == pytest.approx(number)
    mse = losses.mean_squared_error(d.Dual(logits), np.zeros((3, 1, 2)), mask)
    assert mse.value == pytest.approx((4 + 9 + 1) / 4)
    spikes = d.Dual(np.array([[[1.0], [0.0]], [[1.0], [0.0]]]))
    assert losses.firing_rate(spikes, 0.5, 2.0).value == pytest.approx(0.0)
    assert losses.firing_rate(spikes, 0.5, 2.0, reduction="sample").value == pytest.approx(0.25)
    assert losses.l2([np.array([3.0]), np.eye(2)], 2.0).value == pytest.approx(11.0)


def test_opposite_samples() -> None:
    """The gradient of a batch is the mean of its samples' gradients, cancelling ones included."""
    network, weights, xs = two_layers(Neuron(tau=6.0, threshold=0.4, dampening=1.0), seed=3)
    weights = {name: w for name, w in weights.items() if "initial" not in name}

    def gradient(columns: list[int], labels: list[int]) -> np.ndarray:
        def loss(result: Run) -> d.Dual:
            return losses.cross_entropy(result.outputs["a"], np.array(labels))

        return loss_gradient(network, weights, xs[:, columns], loss)[1]["low.input"]

    mean = (gradient([0], [1]) + gradient([1], [0])) / 2
    np.testing.assert_allclose(gradient([0, 1], [1, 0]), mean, atol=1e-15)
    small = gradient([0, 0], [0, 1])
    np.testing.assert_allclose(small, (gradient([0], [0]) + gradient([0], [1])) / 2, atol=1e-15)


def test_mixed_alif_by_hand() -> None:
    """The LIF half follows the LIF; the other half's spikes raise its threshold a step later."""
    alif = Neuron("alif", tau_adaptation=1 / math.log(2), beta=2.0, reset="none", tau=1e-3)
    network = Network((Layer("h", 2, mixed((1, Neuron()), (1, alif))),), ())
    xs = np.reshape([2.0, 2.5, 2.5, 1.4], (4, 1, 1))
    result = run(network, {"h.input": np.ones((1, 2))}, xs)
    v, z = lif_trace(list(xs.ravel()), Neuron())
    assert np.array_equal(result.states["h"]["part0.v"].value.ravel(), v)
    np.testing.assert_allclose(result.states["h"]["part1.a"].value.ravel(), [0, 1, 0.5, 1.25])
    assert result.spikes["h"].value[:, 0].T.tolist() == [z, [1.0, 0.0, 1.0, 0.0]]
