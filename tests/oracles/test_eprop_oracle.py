"""Self-tests of the e-prop oracle: hand recursions, autodiff with stopped spikes, identities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest

from . import dual as d
from . import eprop as ep
from . import losses, neurons
from .networks import Layer, Network, Run, loss_gradient

T, B, F, N, K = 40, 3, 4, 5, 2
KAPPA, GAIN = np.array([0.9, 0.7]), np.array([0.1, 1.0])
HETEROGENEOUS = {
    "tau": np.array([20.0, 12.0, 30.0, 7.0, 15.0]),
    "tau_adaptation": np.array([100.0, 60.0, 200.0, 40.0, 80.0]),
    "threshold": np.array([0.6, 0.5, 0.7, 0.9, 0.4]),
    "beta": np.array([0.2, 0.05, 0.3, 0.0, 0.1]),
    "dampening": np.array([0.3, 0.5, 0.4, 0.3, 0.6]),
    "refractory_steps": np.array([0, 3, 1, 2, 5]),
}
CASES: dict[str, dict[str, Any]] = {
    "lif": {"threshold": 0.6},
    "lif_scaled_input": {"threshold": 0.03, "zeta": "one_minus_decay"},
    "lif_refractory": {"threshold": 0.6, "refractory_steps": 4},
    "alif": {"kind": "alif", "threshold": 0.6, "beta": 0.15},
    "alif_refractory": {"kind": "alif", "threshold": 0.6, "beta": 0.15, "refractory_steps": 3},
    "per_neuron": {"kind": "alif", **HETEROGENEOUS},
}


@dataclass(frozen=True)
class Case:
    """A net in both descriptions, its weights and an input that makes it spike."""

    neuron: neurons.Neuron
    population: ep.Population
    weights: dict[str, np.ndarray]
    x: np.ndarray
    record: ep.Record


def case_of(name: str, recurrent: bool = True, keep_reset: bool = False, seed: int = 23) -> Case:
    neuron = neurons.Neuron(**CASES[name], reset_gradient=keep_reset)
    alpha = np.exp(-1.0 / np.asarray(neuron.tau))
    population = ep.Population(
        alpha=alpha,
        rho=np.exp(-1.0 / np.asarray(neuron.tau_adaptation)),
        beta=neuron.beta,
        threshold=neuron.threshold,
        zeta=1.0 if neuron.zeta == "one" else 1.0 - alpha,
        refractory_steps=neuron.refractory_steps,
        dampening=neuron.dampening,
        keep_reset=keep_reset,
    )
    rng = np.random.default_rng(seed)
    weights = {
        "h.input": rng.normal(0.15, 0.35, (F, N)),
        "h.recurrent": rng.normal(0, 0.3, (N, N)) * recurrent,
        "h.bias": rng.normal(0.03, 0.03, N),
        "y.input": rng.normal(0, 0.6, (N, K)),
        "y.bias": rng.normal(0, 0.1, K),
    }
    x = (rng.random((T, B, F)) < 0.3) * 1.0
    record = ep.simulate(population, *hidden_weights(weights), x)
    rates = record.z.mean(axis=(0, 1))
    assert 0.05 < rates.mean() < 0.4 and rates.min() > 0.01 and rates.max() < 0.6, rates
    return Case(neuron, population, weights, x, record)


def hidden_weights(weights: dict[str, Any]) -> tuple[Any, Any, Any]:
    return weights["h.input"], weights["h.recurrent"], weights["h.bias"]


def readouts_of(bias_inside: bool, kappa: Any = KAPPA, gain: Any = GAIN) -> ep.Readouts:
    return ep.Readouts(kappa, gain, bias_inside)


def y_of(case: Case, readouts: ep.Readouts, z: np.ndarray | None = None) -> np.ndarray:
    z = case.record.z if z is None else z
    return ep.readout(readouts, case.weights["y.input"], case.weights["y.bias"], z)


def renamed(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = {"input": "h.input", "recurrent": "h.recurrent", "bias": "h.bias"}
    names |= {"w_out": "y.input", "readout_bias": "y.bias"}
    return {names[name]: value for name, value in gradients.items()}


def run_on_duals(
    case: Case, weights: dict[str, Any], readouts: ep.Readouts, push: Any = None
) -> tuple[d.Dual, d.Dual, d.Dual]:
    """y, z, v. Recurrent spikes are stopped, unless `push` [T, B, N] is given: it is added to what
    readout, recurrent current and reset see of z, and then they are not."""
    state = neurons.initial_state(case.neuron, B, N)
    w_rec = d.dual(weights["h.recurrent"]) * (1.0 - np.eye(N))
    filtered = d.dual(np.zeros((B, weights["y.input"].shape[1])))
    seen, own = d.dual(np.zeros((B, N))), d.dual(np.zeros((B, N)))
    ys, zs, vs = [], [], []
    for t, x in enumerate(case.x):
        sent = d.stop_gradient(seen) if push is None else seen
        current = d.dual(x) @ weights["h.input"] + sent @ w_rec + weights["h.bias"]
        before = state
        state = neurons.step(case.neuron, before, current, own if push is None else seen)
        if "a" in state:
            state["a"] = neurons.step(case.neuron, before, current, own)["a"]
        own = neurons.output(case.neuron, state)
        seen = own if push is None else own + push[t]
        inside = weights["y.bias"] if readouts.bias_inside else 0.0
        filtered = filtered * readouts.kappa + inside
        filtered = filtered + (seen @ weights["y.input"]) * readouts.gain
        ys.append(filtered if readouts.bias_inside else filtered + weights["y.bias"])
        zs.append(own)
        vs.append(state["v"])
    return d.stack(ys), d.stack(zs), d.stack(vs)


def autodiff(
    case: Case, readouts: ep.Readouts, loss: Callable[[d.Dual, d.Dual, d.Dual], d.Dual], **kw: Any
) -> tuple[float, dict[str, np.ndarray]]:
    """Loss of (y, z, v) and the gradient of e-prop by autodiff (1.9)."""
    weights = d.variables({**case.weights, **kw})
    result = loss(*run_on_duals(case, weights, readouts))
    return float(result.value), d.gradients(result, weights)


def assert_same(ours: dict, theirs: dict, tolerance: float = 1e-11) -> None:
    for name, value in ours.items():
        scale = np.abs(theirs[name]).max()
        assert scale > 1e-7, f"{name}: nothing to compare"
        np.testing.assert_allclose(value, theirs[name], atol=tolerance * scale, err_msg=name)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def signals(kind: str, seed: int = 5) -> tuple[Callable, Callable, np.ndarray]:
    """(loss, err) of an array y, the same loss on Duals, and the mask both use."""
    rng = np.random.default_rng(seed)
    target, labels = rng.normal(size=(T, B, K)), rng.integers(0, K, B)
    mask = np.arange(T)[:, None] < np.array([T, 25, 33])
    mask[:8, 1] = False
    step_labels = rng.integers(0, K, (T, B))
    count = mask.sum() * K
    table = {
        "squared": (
            lambda y: ep.squared_error_signal(y, target, mask),
            lambda y: losses.mean_squared_error(y, target, mask),
        ),
        "mse": (
            lambda y: ep.mse_signal(y, target, mask),
            lambda y: (((y - target) ** 2) * mask[:, :, None]).sum() / count,
        ),
        "mean": (
            lambda y: ep.cross_entropy_signal(y, labels, mask, "mean"),
            lambda y: losses.cross_entropy(y, labels, "mean", mask),
        ),
        "per_step": (
            lambda y: ep.cross_entropy_signal(y, step_labels, mask, "per_step"),
            lambda y: losses.cross_entropy(y, step_labels, "per_step", mask),
        ),
    }
    return *table[kind], mask


def test_hand_computed_alif_with_one_input():
    p = ep.Population(alpha=0.5, rho=0.8, beta=0.2, threshold=1.0)
    record = ep.simulate(p, np.array([[1.5]]), None, None, np.ones((2, 1, 1)))
    np.testing.assert_allclose(record.v.ravel(), [1.5, 1.25])
    np.testing.assert_allclose(record.a.ravel(), [0, 1])
    np.testing.assert_allclose(record.psi.ravel(), [0.15, 0.285])
    assert record.z.ravel().tolist() == [1, 1] and record.z_prev.ravel().tolist() == [0, 1]
    readouts = ep.Readouts(kappa=0.9, gain=0.1, bias_inside=True)
    y = ep.readout(readouts, np.array([[4.0]]), np.array([0.5]), record.z)
    np.testing.assert_allclose(y.ravel(), [0.9, 1.71])
    err = np.array([2.0, 1.0]).reshape(2, 1, 1)
    gradient, last = ep.traces(record, readouts, err, np.array([[3.0]]))
    # eps_v 1, 1.5; eps_a 0, .15; e .15, .285 (1.5 - .03); e_bar .015, .055395
    found = [a.reshape(-1)[0] for a in (last.eps_v, last.eps_a, last.e, last.e_bar, last.z_bar)]
    np.testing.assert_allclose(found, [1.5, 0.15, 0.41895, 0.055395, 0.19])
    np.testing.assert_allclose(gradient["input"], 3 * (2 * 0.015 + 0.055395))
    np.testing.assert_allclose(gradient["bias"], gradient["input"][0])
    np.testing.assert_allclose(gradient["w_out"], 2 * 0.1 + 0.19)
    np.testing.assert_allclose(gradient["readout_bias"], 2 * 1 + 1.9)
    dz, dv = np.array([1.0, 10.0]).reshape(2, 1, 1), np.array([5.0, 7.0]).reshape(2, 1, 1)
    gradient, _ = ep.traces(record, readouts, 0 * err, np.array([[3.0]]), dz=dz, dv=dv)
    np.testing.assert_allclose(gradient["input"], 0.15 + 4.1895 + 5 + 10.5)
    kept = ep.simulate(
        replace(p, keep_reset=True), np.array([[1.5]]), None, None, np.ones((2, 1, 1))
    )
    _, last = ep.traces(kept, readouts, err, np.array([[3.0]]))
    np.testing.assert_allclose(last.eps_v[0, 0], 1.5 - 0.15)
    np.testing.assert_allclose(last.e[0, 0], 0.285 * (1.35 - 0.03))


def test_hand_computed_recurrent_synapse_and_no_autapse():
    p = ep.Population(alpha=0.5, threshold=1.0, zeta=0.5)
    x = np.array([1.0, 0.0]).reshape(2, 1, 1)
    w_rec = np.array([[99.0, 1.8], [0.0, 99.0]])
    record = ep.simulate(p, np.array([[3.0, 0.0]]), w_rec, None, x)
    np.testing.assert_allclose(record.v[:, 0], [[1.5, 0], [0.75 - 1, 0.9]])
    err = np.array([0.0, 1.0]).reshape(2, 1, 1)
    gradient, last = ep.traces(record, ep.Readouts(0.0), err, np.array([[1.0], [2.0]]))
    # the spike of neuron 0 at t=0 arrives at neuron 1 at t=1, where psi = .3 * .9
    np.testing.assert_allclose(gradient["recurrent"], [[0, 2 * 0.27 * 0.5], [0, 0]])
    assert last.eps_v[0, 1:3].tolist() == [[0.0, 0.5], [0.0, 0.0]]


def test_a_spike_needs_more_than_the_threshold_and_refractoriness_blocks_four_steps():
    p = ep.Population(alpha=1.0, threshold=1.0, refractory_steps=5)
    record = ep.simulate(p, np.array([[1.0]]), None, None, np.ones((9, 1, 1)))
    np.testing.assert_allclose(record.v.ravel(), [1, 2, 2, 3, 4, 5, 6, 6, 7])
    assert record.z.ravel().tolist() == [0, 1, 0, 0, 0, 0, 1, 0, 0]
    np.testing.assert_allclose(record.psi.ravel(), [0.3] + [0] * 8, atol=1e-15)
    near = ep.simulate(p, np.array([[0.4]]), None, None, np.ones((6, 1, 1)))
    assert near.z.ravel().tolist() == [0, 0, 1, 0, 0, 0] and near.psi[2] > 0
    assert abs(near.v[3] - 0.6) < 1e-12 and (near.psi[3:] == 0).all()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["squared", "mean"])
def test_without_recurrence_equals_bptt_of_the_network_oracle(name: str, kind: str):
    case = case_of(name, recurrent=False)
    weights = {key: w for key, w in case.weights.items() if key != "h.recurrent"}
    reader = neurons.Neuron("leaky_integrator", tau=9.0, zeta="one_minus_decay")
    kappa = np.exp(-1 / 9.0)
    readouts = ep.Readouts(kappa, 1 - kappa, bias_inside=True, bias_gain=1 - kappa)
    network = Network((Layer("h", N, case.neuron),), (Layer("y", K, reader),))
    signal, dual_loss, _ = signals(kind)

    def loss(run: Run) -> d.Dual:
        return dual_loss(run.outputs["y"])

    expected, theirs = loss_gradient(network, weights, case.x, loss)
    value, err = signal(y_of(case, readouts))
    assert value == pytest.approx(expected, rel=1e-12)
    ours, _ = ep.traces(case.record, readouts, err, weights["y.input"])
    ours.pop("recurrent")
    assert_same(renamed(ours), theirs)


def test_mixed_population_equals_the_network_oracle():
    lif = neurons.Neuron("lif", tau=20.0, threshold=0.6, reset_gradient=False)
    alif = neurons.Neuron("alif", tau=10.0, threshold=0.5, beta=0.2, reset_gradient=False)
    both = neurons.mixed((2, lif), (3, alif))
    reader = neurons.Neuron("leaky_integrator", tau=9.0)
    network = Network((Layer("h", N, both),), (Layer("y", K, reader),))
    case = case_of("lif", recurrent=False)
    p = ep.Population(
        alpha=np.exp(-1 / np.array([20.0, 20, 10, 10, 10])),
        rho=np.exp(-1 / 200.0),
        beta=np.array([0, 0, 0.2, 0.2, 0.2]),
        threshold=np.array([0.6, 0.6, 0.5, 0.5, 0.5]),
    )
    w_in, _, bias = hidden_weights(case.weights)
    record = ep.simulate(p, w_in, None, bias, case.x)
    assert 0.05 < record.z.mean() < 0.4 and record.z.mean(axis=(0, 1)).min() > 0.01
    weights = {key: w for key, w in case.weights.items() if key != "h.recurrent"}
    signal, dual_loss, _ = signals("per_step")
    _, theirs = loss_gradient(network, weights, case.x, lambda run: dual_loss(run.outputs["y"]))
    readouts = ep.Readouts(np.exp(-1 / 9.0), bias_inside=True)
    _, err = signal(y_of(case, readouts, record.z))
    ours, _ = ep.traces(record, readouts, err, weights["y.input"])
    ours.pop("recurrent")
    assert_same(renamed(ours), theirs)


@pytest.mark.parametrize("keep_reset", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_recurrent_equals_autodiff_with_stopped_spikes(name: str, keep_reset: bool):
    case = case_of(name, keep_reset=keep_reset)
    readouts = readouts_of(bias_inside=name != "alif")
    signal, dual_loss, _ = signals("squared")
    expected, theirs = autodiff(case, readouts, lambda y, z, v: dual_loss(y))
    value, err = signal(y_of(case, readouts))
    assert value == pytest.approx(expected, rel=1e-12)
    ours, _ = ep.traces(case.record, readouts, err, case.weights["y.input"])
    assert_same(renamed(ours), theirs)
    assert (np.diag(ours["recurrent"]) == 0).all()


def test_the_states_are_those_of_the_neuron_oracle():
    for name in CASES:
        case = case_of(name)
        y, z, v = run_on_duals(case, case.weights, readouts_of(True))
        np.testing.assert_array_equal(case.record.z, z.value)
        np.testing.assert_allclose(case.record.v, v.value, atol=1e-12)
        np.testing.assert_allclose(y_of(case, readouts_of(True)), y.value, atol=1e-12)


@pytest.mark.parametrize("kind", ["mse", "mean", "per_step"])
def test_learning_signals_with_masks(kind: str):
    case, readouts = case_of("alif"), readouts_of(False)
    signal, dual_loss, mask = signals(kind)
    expected, theirs = autodiff(case, readouts, lambda y, z, v: dual_loss(y))
    y = y_of(case, readouts)
    value, err = signal(y)
    assert value == pytest.approx(expected, rel=1e-12)
    ours, _ = ep.traces(case.record, readouts, err, case.weights["y.input"])
    assert_same(renamed(ours), theirs)
    padded = np.where(mask[:, :, None], y, np.nan)
    same_value, same_err = signal(padded)
    assert same_value == value and (same_err == err).all() and (err[~mask] == 0).all()


def test_masks_without_a_real_step_and_unknown_names_are_refused():
    y, labels = np.zeros((T, B, K)), np.zeros(B, int)
    mask = np.ones((T, B))
    mask[:, 0] = 0
    with pytest.raises(ValueError, match="real step"):
        ep.mse_signal(y, y, mask)
    with pytest.raises(ValueError, match="mode"):
        ep.cross_entropy_signal(y, labels, mode="last")
    with pytest.raises(ValueError, match="reduction"):
        ep.rate_signal(y, 0.1, "sum")


@pytest.mark.parametrize("reduction", ["batch", "sample"])
def test_rate_and_voltage_regularisers(reduction: str):
    case, readouts = case_of("alif_refractory"), readouts_of(True)
    mask = signals("mse")[2]
    lost, dz = ep.rate_signal(case.record.z, 0.02, reduction, mask)
    expected, theirs = autodiff(
        case, readouts, lambda y, z, v: losses.firing_rate(z, 0.02, 1.0, mask, reduction)
    )
    assert lost == pytest.approx(expected, rel=1e-12)
    silent, b = np.zeros((T, B, K)), case.weights["y.input"]
    ours, _ = ep.traces(case.record, readouts, silent, b, dz=dz)
    hidden = {name: renamed(ours)[name] for name in ("h.input", "h.recurrent", "h.bias")}
    assert_same(hidden, theirs)
    _, theirs = autodiff(case, readouts, lambda y, z, v: (v**2).mean())
    ours, _ = ep.traces(case.record, readouts, silent, b, dv=2 * case.record.v / (T * B * N))
    assert_same({name: renamed(ours)[name] for name in hidden}, theirs)


def test_the_two_rate_reductions_differ_and_agree_for_one_example():
    z = case_of("lif").record.z
    (a, da), (b, db) = (ep.rate_signal(z, 0.1, name) for name in ("batch", "sample"))
    assert abs(a - b) > 1e-6 and distance(da, db) > 0.01
    (a, da), (b, db) = (ep.rate_signal(z[:, :1], 0.1, name) for name in ("batch", "sample"))
    assert a == b and (da == db).all()


def test_random_feedback_replaces_only_the_way_back():
    case, readouts = case_of("alif"), readouts_of(True)
    b = np.random.default_rng(9).normal(size=(N, K))
    _, err = signals("squared")[0](y_of(case, readouts))
    ours, _ = ep.traces(case.record, readouts, err, b)
    symmetric, _ = ep.traces(case.record, readouts, err, case.weights["y.input"])
    other = replace(case, weights={**case.weights, "y.input": b})
    _, theirs = autodiff(other, readouts, lambda y, z, v: (y * err).sum())
    assert_same(renamed(ours), theirs)
    assert (ours["w_out"] == symmetric["w_out"]).all()
    assert distance(ours["input"], symmetric["input"]) > 0.1


@pytest.mark.parametrize("name", ["lif", "per_neuron"])
def test_total_derivative_times_traces_is_full_bptt(name: str):
    """Equation 1 of the paper (1.9): with dE/dz total, through reset and recurrence, e is exact."""
    case, readouts = case_of(name), readouts_of(True)
    dual_loss = signals("squared")[1]
    pushes = d.variables({"push": np.zeros((T, B, N))})
    y, _, _ = run_on_duals(case, case.weights, readouts, push=pushes["push"])
    total = d.gradients(dual_loss(y), pushes)["push"]
    weights = d.variables(case.weights)
    y, _, _ = run_on_duals(case, weights, readouts, push=np.zeros((T, B, N)))
    full = d.gradients(dual_loss(y), weights)
    silent = np.zeros((T, B, K))
    ours, _ = ep.traces(case.record, readouts, silent, case.weights["y.input"], dz=total)
    names = ("h.input", "h.recurrent", "h.bias")
    assert_same({key: renamed(ours)[key] for key in names}, full)
    _, stopped = autodiff(case, readouts, lambda y, z, v: dual_loss(y))
    assert distance(stopped["h.input"], full["h.input"]) > 0.05


def test_what_is_kept_and_what_is_cut_matters():
    one, snap = case_of("alif"), case_of("alif", keep_reset=True)
    readouts, b = readouts_of(True), one.weights["y.input"]
    _, err = signals("squared")[0](y_of(one, readouts))
    base, _ = ep.traces(one.record, readouts, err, b)
    variants = {
        "reset": ep.traces(snap.record, readouts, err, b)[0],
        "one kappa": ep.traces(one.record, readouts_of(True, 0.9, 0.1), err, b)[0],
        "no filter": ep.traces(one.record, readouts_of(True, 0.0, 1.0), err, b)[0],
    }
    for name, other in variants.items():
        assert distance(other["input"], base["input"]) > 0.01, name


def in_chunks(case: Case, err: np.ndarray, readouts: ep.Readouts, carry: bool) -> tuple:
    """Summed gradients of three chunks, y, and the last traces; the neurons' state is carried."""
    totals, state, last, y0, ys = {}, None, None, None, []
    for rows in (slice(0, 11), slice(11, 12), slice(12, T)):
        record = ep.simulate(case.population, *hidden_weights(case.weights), case.x[rows], state)
        ys.append(
            ep.readout(readouts, case.weights["y.input"], case.weights["y.bias"], record.z, y0)
        )
        y0 = ys[-1][-1] - (0.0 if readouts.bias_inside else case.weights["y.bias"])
        start = last if carry else None
        b = case.weights["y.input"]
        part, last = ep.traces(record, readouts, err[rows], b, start=start)
        totals = {name: totals.get(name, 0.0) + value for name, value in part.items()}
        state = record.state
    return totals, np.concatenate(ys), last


@pytest.mark.parametrize("bias_inside", [False, True])
@pytest.mark.parametrize("keep_reset", [False, True])
def test_chunks_with_carried_traces_are_one_sequence(bias_inside: bool, keep_reset: bool):
    case, readouts = case_of("per_neuron", keep_reset=keep_reset), readouts_of(bias_inside)
    y = y_of(case, readouts)
    _, err = signals("mse")[0](y)
    whole, end = ep.traces(case.record, readouts, err, case.weights["y.input"])
    carried, y_chunks, last = in_chunks(case, err, readouts, carry=True)
    np.testing.assert_allclose(y_chunks, y, atol=0 if bias_inside else 1e-13)
    for field in fields(ep.Traces):
        np.testing.assert_array_equal(getattr(last, field.name), getattr(end, field.name))
    assert_same(carried, whole, 1e-13)
    reset, _, _ = in_chunks(case, err, readouts, carry=False)
    for name in ("input", "recurrent", "bias", "w_out"):
        assert distance(reset[name], whole[name]) > 0.01, name


@pytest.mark.parametrize("kind", ["squared", "mean"])
def test_batch_gradient_is_the_mean_of_the_gradients_of_its_examples(kind: str):
    case, readouts = case_of("per_neuron"), readouts_of(True)
    rng = np.random.default_rng(1)
    target, labels = rng.normal(size=(T, B, K)), np.array([0, 1, 0])

    def gradient(rows: slice) -> dict[str, np.ndarray]:
        x = case.x[:, rows]
        record = ep.simulate(case.population, *hidden_weights(case.weights), x)
        y = y_of(case, readouts, record.z)
        if kind == "squared":
            _, err = ep.squared_error_signal(y, target[:, rows])
        else:
            _, err = ep.cross_entropy_signal(y, labels[rows])
        _, dz = ep.rate_signal(record.z, 0.01, "sample")
        return ep.traces(record, readouts, err, case.weights["y.input"], dz=dz)[0]

    parts = [gradient(slice(i, i + 1)) for i in range(B)]
    mean = {name: sum(part[name] for part in parts) / B for name in parts[0]}
    assert_same(gradient(slice(0, B)), mean, 1e-12)


def agent(seed: int = 3) -> tuple[Case, ep.Readouts, np.ndarray, np.ndarray, np.ndarray]:
    """A net whose readouts are one logit per action (K - 1 of them), then the value."""
    case = case_of("alif")
    rng = np.random.default_rng(seed)
    extra = {"y.input": rng.normal(0, 0.6, (N, 3)), "y.bias": rng.normal(0, 0.1, 3)}
    case = replace(case, weights={**case.weights, **extra})
    readouts = ep.Readouts(np.array([0.9, 0.9, 0.6]), np.array([0.1, 0.1, 0.5]), True)
    return case, readouts, y_of(case, readouts), rng.integers(0, 2, (T, B)), rng.normal(size=(T, B))


def test_td_errors_sum_to_returns_less_values():
    values, rewards = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [0.0], [4.0]])
    delta = ep.td_errors(values, rewards, 0.5)
    np.testing.assert_allclose(delta.ravel(), [1.0, -0.5, 1.0])
    np.testing.assert_allclose(delta[0] + 0.5 * delta[1] + 0.25 * delta[2], 1 + 0.25 * 4 - 1)


def backwards(steps: np.ndarray, discount: float) -> np.ndarray:
    """D(t) = steps(t) + discount D(t+1)."""
    result, following = np.zeros_like(steps), np.zeros_like(steps[0])
    for t in range(len(steps) - 1, -1, -1):
        following = result[t] = steps[t] + discount * following
    return result


def test_actor_critic_equals_the_reverse_form():
    case, readouts, y, actions, rewards = agent()
    b = np.random.default_rng(8).normal(size=(N, 3))
    ours = ep.actor_critic(case.record, readouts, y, b, actions, rewards, 0.9, 0.5)
    later = backwards(ep.td_errors(y[:, :, 2], rewards, 0.9), 0.9)
    logits = y[:, :, :2]
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    err = np.concatenate([p - np.eye(2)[actions], np.full((T, B, 1), -0.5)], axis=2)
    theirs, _ = ep.traces(case.record, readouts, later[:, :, None] * err / B, b)
    theirs |= {"policy": theirs["w_out"][:, :2], "value": theirs["w_out"][:, 2:]}
    bias = theirs["readout_bias"]
    assert_same(ours, {**theirs, "policy_bias": bias[:2], "value_bias": bias[2:]}, 1e-12)


def test_actor_critic_equals_autodiff_of_its_losses():
    case, readouts, y, actions, rewards = agent()
    returns = backwards(rewards, 0.9)
    advantage = returns - y[:, :, 2]

    def loss(y: d.Dual, z: d.Dual, v: d.Dual) -> d.Dual:
        chosen = (d.log_softmax(y[:, :, :2]) * np.eye(2)[actions]).sum(axis=2)
        critic = ((y[:, :, 2] - returns) ** 2).sum() * (0.5 * 0.7)
        return (critic - (chosen * advantage).sum()) / B

    _, theirs = autodiff(case, readouts, loss)
    b = case.weights["y.input"]
    ours = ep.actor_critic(case.record, readouts, y, b, actions, rewards, 0.9, 0.7)
    ours["w_out"] = np.concatenate([ours.pop("policy"), ours.pop("value")], axis=1)
    ours["readout_bias"] = np.concatenate([ours.pop("policy_bias"), ours.pop("value_bias")])
    assert_same(renamed(ours), theirs)


def test_kolen_pollack_aligns_feedback_geometrically():
    rng = np.random.default_rng(0)
    w, b, gradient = rng.normal(size=(3, N, K))
    new_w, new_b = ep.kolen_pollack_step(w, b, gradient, 0.5, 0.1)
    np.testing.assert_allclose(new_w, 0.9 * (w - 0.5 * gradient))
    np.testing.assert_allclose(new_b - new_w, 0.9 * (b - w))
