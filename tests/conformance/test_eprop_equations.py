"""The rule against the textbook: traces of every synapse, stepped forward in NumPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph, neurons
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.decay import decay
from orbit_snn.graph import TrainingModules
from orbit_snn.learning import Eprop, Feedback
from orbit_snn.networks import Network
from orbit_snn.neurons import ALIF, LIF, LeakyIntegrator, Mixed, Reset
from tests.conformance import zoo
from tests.oracles import eprop as oracle

T, B, F, N, K = 30, 3, 4, 6, 2
RATE, RATE_TARGET_HZ = 3.0, 100.0
VOLTAGE, LOW, HIGH = 0.2, -0.1, 0.5
RANDOM = Feedback("random", seed=3)
TAUS = np.linspace(3.0, 9.0, N)
BETAS = np.linspace(0.0, 0.6, N)


@dataclasses.dataclass(frozen=True)
class Case:
    """A population in the library and in the oracle."""

    neuron: neurons.Neuron
    population: oracle.Population


def spiking(model=LIF, keep_reset=False, refractory=0, scaled=False, **settings) -> Case:
    tau = settings.pop("tau_mem_ms", 5.0)
    tau_a, beta = settings.pop("tau_adaptation_ms", 0.0), settings.pop("beta", 0.0)
    alif = {"tau_adaptation_ms": tau_a, "beta": beta} if model is ALIF else {}
    alpha = decay(np.asarray(tau), 1.0)
    return Case(
        model(
            N,
            tau_mem_ms=tau,
            threshold=0.6,
            refractory_ms=float(refractory),
            reset=Reset(gradient=keep_reset),
            input_gain="one_minus_decay" if scaled else "one",
            dtype=tf.float64,
            **alif,
        ),
        oracle.Population(
            alpha=alpha,
            rho=decay(np.asarray(tau_a), 1.0) if alif else 0.0,
            beta=beta,
            threshold=0.6,
            zeta=1.0 - alpha if scaled else 1.0,
            refractory_steps=refractory,
            keep_reset=keep_reset,
        ),
    )


def mixed() -> Case:
    half = N // 2
    parts = [
        LIF(half, tau_mem_ms=5.0, threshold=0.6, dtype=tf.float64),
        ALIF(half, 5.0, 20.0, 0.4, threshold=0.6, refractory_ms=3.0, dtype=tf.float64),
    ]
    adaptive = np.arange(N) >= half
    population = oracle.Population(
        alpha=decay(5.0, 1.0),
        rho=decay(20.0, 1.0),
        beta=0.4 * adaptive,
        threshold=0.6,
        refractory_steps=3 * adaptive,
    )
    return Case(Mixed(parts), population)


CASES = {
    "lif": spiking,
    "lif-refractory": lambda: spiking(refractory=4),
    "lif-scaled-per-neuron": lambda: spiking(tau_mem_ms=list(TAUS), scaled=True),
    "lif-reset-kept": lambda: spiking(keep_reset=True),
    "alif": lambda: spiking(ALIF, tau_adaptation_ms=30.0, beta=0.3),
    "alif-per-neuron-refractory": lambda: spiking(
        ALIF, tau_adaptation_ms=list(3 * TAUS), beta=list(BETAS), refractory=3
    ),
    "alif-reset-kept": lambda: spiking(ALIF, True, tau_adaptation_ms=30.0, beta=0.3),
    "mixed": mixed,
}
READOUT_TAUS = {"common": 8.0, "each": [4.0, 11.0]}


class Problem:
    """A recurrent population with a bias, a readout with a bias, and data."""

    def __init__(self, case: Case, error: str, readout: str, reduction: str):
        draw = np.random.default_rng(1)
        self.case = case
        self.error, self.reduction = error, reduction
        gain = 1.0 / float(np.mean(np.broadcast_to(case.population.zeta, N)))
        self.w_in = gain * draw.normal(0.2, 0.5, size=(F, N))
        self.w_rec = gain * draw.normal(0.0, 0.3, size=(N, N))
        self.bias = gain * draw.uniform(0.0, 0.1, size=N)
        self.w_out = draw.normal(size=(N, K))
        self.out_bias = draw.normal(size=K)
        self.x = (draw.random((T, B, F)) < 0.4).astype(float)
        self.target = draw.normal(size=(T, B, K))
        self.labels = draw.integers(K, size=B)
        self.mask = np.arange(T)[:, None] < np.array([T, T - 7, T - 12])
        self.tau = READOUT_TAUS[readout]
        self.kappa = np.broadcast_to(decay(np.asarray(self.tau), 1.0), K)
        self.bias_inside = readout == "common"
        self.network = self._network()
        self.modules = self._modules()

    def _network(self) -> Network:
        hidden = Cell(
            self.case.neuron, dense(self.w_in, self.bias), dense(self.w_rec, autapses=False)
        )
        inside = self.out_bias if self.bias_inside else None
        readout = LeakyIntegrator(
            K, self.tau, input_gain="one", output_bias=not self.bias_inside, dtype=tf.float64
        )
        if not self.bias_inside:
            readout.bias.assign(self.out_bias)
        return Network([hidden], Cell(readout, dense(self.w_out, inside)))

    def _modules(self) -> TrainingModules:
        net = graph.NetworkNode("net", graph.InputNode("x", mask="mask"), self.network)
        net.output.db_name = "target" if self.error != "cross_entropy" else "label"
        measures = {
            "squared_error": graph.SquaredError,
            "mse": graph.MSE,
            "cross_entropy": graph.CrossEntropy,
        }
        loss = measures[self.error].of_node(net.output)
        loss += RATE * graph.FiringRate(net.cell0, RATE_TARGET_HZ, self.reduction)
        loss += VOLTAGE * graph.Voltage(net.cell0, LOW, HIGH)
        return graph.assemble_for_training(loss, {"loss": loss})[0]

    @property
    def batch(self) -> dict[str, tf.Tensor]:
        batch = {
            "x": tf.constant(self.x.transpose(1, 0, 2)),
            "mask": tf.constant(self.mask.T),
        }
        if self.error == "cross_entropy":
            return batch | {"label": tf.constant(self.labels)}
        return batch | {"target": tf.constant(self.target.transpose(1, 0, 2))}

    def reference(self, feedback: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """Loss and gradients of the oracle."""
        record = oracle.simulate(self.case.population, self.w_in, self.w_rec, self.bias, self.x)
        assert 0.05 < record.z.mean() < 0.6
        readouts = oracle.Readouts(self.kappa, bias_inside=self.bias_inside)
        y = oracle.readout(readouts, self.w_out, self.out_bias, record.z)
        if self.error == "cross_entropy":
            loss, err = oracle.cross_entropy_signal(y, self.labels, self.mask, "per_step")
        else:
            signal = {"mse": oracle.mse_signal, "squared_error": oracle.squared_error_signal}
            loss, err = signal[self.error](y, self.target, self.mask)
        rate, dz = oracle.rate_signal(record.z, RATE_TARGET_HZ / 1e3, self.reduction, self.mask)
        voltage, dv = self._voltage(record.v)
        found, _ = oracle.traces(record, readouts, err, feedback, RATE * dz, VOLTAGE * dv)
        return loss + RATE * rate + VOLTAGE * voltage, found

    def _voltage(self, v: np.ndarray) -> tuple[float, np.ndarray]:
        share = self.mask / self.mask.sum(axis=0) / B
        over = np.maximum(v - HIGH, 0.0) - np.maximum(LOW - v, 0.0)
        return float(0.5 * np.sum(share[..., None] * over**2)), share[..., None] * over


def dense(weights: np.ndarray, bias: np.ndarray | None = None, **arguments) -> Dense:
    made = Dense(*weights.shape, bias=bias is not None, dtype=tf.float64, **arguments)
    made.kernel.assign(weights)
    if bias is not None:
        made.bias.assign(bias)
    return made


ERRORS = ("squared_error", "mse", "cross_entropy")
COMBINATIONS = [
    (case, ERRORS[(i + j) % 3], ("common", "each")[(i + j) % 2], ("sample", "batch")[i % 2], mode)
    for i, case in enumerate(CASES)
    for j, mode in enumerate(("factored", "chunked", "stepwise"))
]


@pytest.mark.parametrize(("case", "error", "readout", "reduction", "mode"), COMBINATIONS)
@pytest.mark.parametrize("feedback", [Feedback(), RANDOM], ids=lambda f: f.kind)
def test_gradients(case, error, readout, reduction, mode, feedback):
    p = Problem(CASES[case](), error, readout, reduction)
    rule = Eprop(mode, chunk=7, feedback=feedback)
    batch = p.batch
    spec = {name: tf.TensorSpec(x.shape[1:], x.dtype) for name, x in batch.items()}
    rule.prepare(p.modules, spec, T)
    done = rule.update(p.modules, batch, rule.initial_state(p.modules, B))
    names = ("input", "bias", "recurrent", "w_out", "readout_bias")
    got = {n: g.numpy() for n, g in zip(names, done.gradients, strict=True)}
    matrix = p.w_out
    if feedback.kind == "random":
        matrix = rule.feedback.matrices["net/output/cell0"].kernel.numpy()
    loss, want = p.reference(matrix)
    np.testing.assert_allclose(done.loss, loss, rtol=1e-12)
    zoo.assert_equal(got, {name: want[name] for name in names})
