"""Small plastic networks, the rules on them and their oracle."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Connection
from orbit_snn.graph import InputNode, NetworkNode, TrainingModules
from orbit_snn.learning.plasticity import (
    MSTDP,
    MSTDPET,
    STDP,
    ExponentialKernel,
    KernelSTDP,
    LinearHomeostasis,
    Plasticity,
    TripletSTDP,
)
from orbit_snn.networks import Network
from orbit_snn.neurons import Neuron
from tests.oracles import plasticity_kernels as kernels
from tests.oracles import plasticity_rules as rules

DT = 0.5


class ExactState(NamedTuple):
    """State of an Exact population: whether the current was above the threshold, `[B, N]`."""

    z: tf.Tensor


class Exact(Neuron):
    """A neuron for tests: it spikes where the current of the step is above a threshold."""

    spiking = True

    def __init__(self, units: int, threshold: float = 0.0, dt_ms: float = 1.0, dtype=tf.float64):
        super().__init__(units, dt_ms, dtype, None)
        self.threshold = threshold

    def initial_state(self, batch_size: int) -> ExactState:
        """No spikes."""
        return ExactState(tf.zeros([batch_size, self.units], self.dtype))

    def step(self, state: ExactState, current: tf.Tensor) -> ExactState:
        """Spikes at once."""
        return ExactState(tf.cast(current > self.threshold, self.dtype))

    def output(self, state: ExactState) -> tf.Tensor:
        """Spikes, 0 or 1."""
        return state.z


class Row(NamedTuple):
    """A rule of the library and its oracle, of pre, post and reward, before samples are reduced."""

    name: str
    rule: Any
    oracle: Callable[..., Any]


PAIR = {"lr_post": 0.03, "lr_pre": -0.02, "tc_post": 12.0, "tc_pre": 7.0}


def in_library(constants: dict[str, float]) -> dict[str, float]:
    """The oracle's constants as the library calls them."""
    names = {
        "lr_post_pair": "lr_post",
        "lr_pre_pair": "lr_pre",
        **{f"tc_{end}_{speed}": f"tc_{end}_{speed}_ms" for end in ("post", "pre")
           for speed in ("fast", "slow")},
        "tc_post": "tc_post_ms",
        "tc_pre": "tc_pre_ms",
        "tc_eligibility": "tc_eligibility_ms",
        "trace_mode": "trace",
    }  # fmt: skip
    return {names.get(name, name): value for name, value in constants.items()}


def table() -> Iterator[Row]:
    """Every rule, with every routing by signs and both traces."""
    for trace in ("cumulative", "nearest"):
        for post, pre in ((1, -1), (-1, 1), (1, 1), (-1, -1)):
            own = {**PAIR, "lr_post": 0.03 * post, "lr_pre": 0.02 * pre, "trace_mode": trace}
            name = f"{trace}{'+' if post > 0 else '-'}{'+' if pre > 0 else '-'}"
            yield Row(f"stdp-{name}", STDP(**in_library(own)), lambda pre, post, reward, own=own: (
                rules.pair_stdp(pre, post, dt=DT, **own)))  # fmt: skip
            yield Row(f"mstdp-{name}", MSTDP(scale=1.5, **in_library(own)),
                      lambda pre, post, reward, own=own: (
                rules.mstdp(pre, post, reward, scale=1.5, dt=DT, **own)))  # fmt: skip
            more = {**own, "tc_eligibility": 9.0}
            yield Row(f"mstdpet-{name}", MSTDPET(scale=0.5, **in_library(more)),
                      lambda pre, post, reward, own=more: (
                rules.mstdpet(pre, post, reward, scale=0.5, dt=DT, **own)))  # fmt: skip
            triplet = {
                "lr_post_pair": own["lr_post"], "lr_post_triplet": 0.05,
                "lr_pre_pair": own["lr_pre"], "lr_pre_triplet": 0.01,
                "tc_post_fast": 6.0, "tc_post_slow": 20.0,
                "tc_pre_fast": 8.0, "tc_pre_slow": 40.0, "trace_mode": trace,
            }  # fmt: skip
            yield Row(f"triplet-{name}", TripletSTDP(**in_library(triplet)),
                      lambda pre, post, reward, own=triplet: (
                rules.triplet_stdp(pre, post, dt=DT, **own)))  # fmt: skip
    for at_spikes in (True, False):
        rule = KernelSTDP(ExponentialKernel(0.03, 9.0), ExponentialKernel(-0.02, 5.0), at_spikes)
        gate = "own" if at_spikes else "none"
        yield Row(f"kernel-{gate}", rule, lambda pre, post, reward, gate=gate: (
            kernels.kernel_stdp(pre, post, dt=DT, gate=gate,
                                kernel_post=kernels.causal_kernel(0.03, 9.0),
                                kernel_pre=kernels.anticausal_kernel(-0.02, 5.0))))  # fmt: skip
    target = 0.2  # spikes a step
    yield Row("homeostasis", LinearHomeostasis(0.01, target * 1e3 / DT),
              lambda pre, post, reward: (
        rules.linear_homeostasis(post, pre.shape[-1], plasticity=0.01, target=target)))  # fmt: skip


ROWS = tuple(table())
BY_NAME = {row.name: row for row in ROWS}


class Problem(NamedTuple):
    """A plastic cell, data and what its rule sees.

    Attributes:
      modules: the network as an assembled graph; its node is `net`.
      connection: that learns.
      batch: features, batch-major.
      pre: spikes that arrive, `[T, B, F]`.
      reward: `[T, B]`.
    """

    modules: TrainingModules
    network: Network
    connection: Connection
    batch: dict[str, tf.Tensor]
    pre: np.ndarray
    reward: np.ndarray


def problem(
    connection: Connection,
    neuron: Neuron | None = None,
    given: np.ndarray | None = None,
    mask: bool = False,
) -> Problem:
    """Spikes onto a population, `given` or Poisson, and a random reward."""
    rng = np.random.default_rng(4)
    dtype = connection.parameters[0].dtype
    pre = (rng.random((25, 3, connection.inputs)) < 0.25).astype(float) if given is None else given
    steps, size = pre.shape[:2]
    reward = rng.normal(size=(steps, size))
    neuron = Exact(connection.units, 0.6, DT, dtype) if neuron is None else neuron
    network = Network([Cell(neuron, connection)])
    net = NetworkNode("net", InputNode("x", mask="mask" if mask else None), network)
    given = InputNode("reward", index=graph.IdxType.SEQ_STEP)
    loss = graph.FiringRate(net.cells[0], 10.0, dt_ms=DT)
    metrics = {"loss": loss, "reward": graph.MeanSq.of_node(given)}
    modules = graph.assemble_for_training(loss, metrics)[0]
    batch = {"x": pre, "reward": reward[..., np.newaxis]}
    batch = {k: tf.constant(v.swapaxes(0, 1), dtype) for k, v in batch.items()}
    if mask:
        batch["mask"] = tf.range(steps) < tf.constant([[steps], [steps - 6], [steps - 11]])
    return Problem(modules, network, connection, batch, pre, reward)


class Learned(NamedTuple):
    """What came of a training.

    Attributes:
      weights: before the first window and after each.
      post: spikes of the population with the weights of the time, `[T, B, N]`.
    """

    weights: np.ndarray
    post: np.ndarray


def learn(p: Problem, rule: Plasticity, compiled: bool = False, passes: int = 1) -> Learned:
    """Trains on the batch, window by window, so often."""
    steps, size = p.pre.shape[:2]
    spec = {name: tf.TensorSpec(x.shape[1:], x.dtype) for name, x in p.batch.items()}
    rule.prepare(p.modules, spec, steps)

    def step(window: Any, state: Any) -> tuple[Any, tf.Tensor]:
        run = p.modules.model.run(window, state.model)
        return rule.update(p.modules, window, state), run.values["net"].cells[0].outputs

    if compiled or len(rule.windows(steps)) > 1:
        step = tf.function(step, jit_compile=compiled, autograph=False)
    parameter = p.connection.parameters[0]
    weights, spikes = [parameter.numpy()], []
    for _ in range(passes):
        state = rule.initial_state(p.modules, size)
        for start, stop in rule.windows(steps):
            window = {name: x[:, start:stop] for name, x in p.batch.items()}
            done, post = step(window, state)
            for variable, value in zip(rule.assigned(p.modules), done.assigned, strict=True):
                variable.assign(value)
            state = done.state
            weights.append(parameter.numpy())
            spikes.append(post.numpy())
    return Learned(np.array(weights), np.concatenate(spikes))
