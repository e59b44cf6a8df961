"""What the benchmark times on TensorFlow: one entry of `CASES` for each way of learning.

A case makes the network of a problem and gives two calls, one training iteration (forward,
backward, Adam update) and one forward pass, both of which return when their work is done. Cases are
timed in turn in one process; memory is measured with one case in a process of its own, for an
allocator gives back what another case has touched before.
"""

import functools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras

from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.graph import (
    Accuracy,
    CrossEntropy,
    Decision,
    InputNode,
    NetworkNode,
    assemble_for_training,
)
from orbit_snn.learning import BPTT, TBPTT, LearningRule
from orbit_snn.losses import cross_entropy, mean_over_steps
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from orbit_snn.surrogate import Surrogate
from orbit_snn.tools import peers
from orbit_snn.tools.peer_models import problem as constants
from orbit_snn.tools.peer_models.problem import Model, Problem, make_problem
from orbit_snn.training import optimizers
from orbit_snn.types import Batch, OutputGradients

TINY = peers.Size(2, 3, 4, 5, 2)
WARMUP = 2

# What an iteration computes: (network, batch) -> gradients of `network.parameters`, loss.
Gradients = Callable[[Network, Batch], tuple[Sequence[tf.Tensor], tf.Tensor]]


class Times(NamedTuple):
    """Medians over the calls: wall time, and processor time of all threads."""

    wall_ms: float
    cpu_ms: float


def limit_threads(threads: int) -> None:
    """Keeps both of TensorFlow's thread pools at `threads`; call it before anything runs."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def make_network(problem: Problem, checkpoint_every: int | None = None) -> Network:
    """The benchmark's network: recurrent LIF layer, leaky readout, the problem's weights."""
    hidden = LIF(
        problem.w_in.shape[1],
        tau_mem_ms=-1 / math.log(constants.MEMBRANE_DECAY),
        surrogate=Surrogate("fast_sigmoid", dampening=1.0, slope=constants.SURROGATE_SLOPE),
    )
    readout = LeakyIntegrator(
        problem.w_out.shape[1], tau_mem_ms=-1 / math.log(constants.READOUT_DECAY)
    )
    cell = Cell(hidden, _dense(problem.w_in), _dense(problem.w_rec))
    return Network([cell], Cell(readout, _dense(problem.w_out)), checkpoint_every)


def make_batch(problem: Problem) -> Batch:
    """The problem's batch, batch-major as a data set gives it."""
    return {
        "inputs": tf.constant(problem.x.transpose(1, 0, 2)),
        "label": tf.constant(problem.labels, tf.int32),
    }


def _dense(kernel: np.ndarray) -> Dense:
    inputs, units = kernel.shape
    return Dense(inputs, units, initializer=lambda shape, dtype: tf.constant(kernel, dtype))


def rule_gradients(rule: LearningRule, xla: bool = True) -> Gradients:
    """The gradients of a learning rule on the assembled graph, as the trainer runs it.

    Accuracy and rates, which the trainer reports, are part of it.
    """

    def gradients(network: Network, batch: Batch) -> tuple[Sequence[tf.Tensor], tf.Tensor]:
        node = NetworkNode("network", InputNode("inputs"), network)
        decision = Decision("decision", node.output, "mean", db_name="label")
        loss, accuracy = CrossEntropy.of_node(decision), Accuracy.of_node(decision)
        modules, _ = assemble_for_training(loss, {"loss": loss, "accuracy": accuracy})

        @tf.function(jit_compile=xla, autograph=False)
        def update(batch: Batch, state: Any) -> Any:
            return rule.update(modules, batch, state)

        result = update(batch, modules.model.initial_state(batch["inputs"].shape[0]))
        return result.gradients, result.loss

    return gradients


def direct_gradients(network: Network, batch: Batch) -> tuple[Sequence[tf.Tensor], tf.Tensor]:
    """The gradients of the same loss by the network's own passes, without a graph or metrics."""

    @tf.function(jit_compile=True, autograph=False)
    def update(batch: Batch, state: Any) -> tuple[Sequence[tf.Tensor], tf.Tensor]:
        trajectory = network.unroll(tf.transpose(batch["inputs"], [1, 0, 2]), state)
        readout = tf.identity(trajectory.readouts["output"].outputs)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(readout)
            logits = tf.transpose(readout, [1, 0, 2])
            loss = tf.reduce_mean(cross_entropy(logits, batch["label"]))
        signal = {"output": tape.gradient(loss, readout)}
        return network.reverse(trajectory, OutputGradients([None], [None], signal))[0], loss

    return update(batch, network.initial_state(batch["inputs"].shape[0]))


def autodiff_gradients(xla: bool = False) -> Gradients:
    """TensorFlow's own gradients of the same loss, back through the time loop."""

    def gradients(network: Network, batch: Batch) -> tuple[Sequence[tf.Tensor], tf.Tensor]:
        @tf.function(jit_compile=xla, autograph=False)
        def differentiate(batch: Batch) -> tuple[Sequence[tf.Tensor], tf.Tensor]:
            with tf.GradientTape() as tape:
                logits = readout_of(network, batch)
                loss = tf.reduce_mean(cross_entropy(logits, batch["label"]))
            return tape.gradient(loss, network.parameters), loss

        return differentiate(batch)

    return gradients


def readout_of(network: Network, batch: Batch) -> tf.Tensor:
    """The readout at every step, `[B, T, K]`."""
    trajectory = network.unroll(tf.transpose(batch["inputs"], [1, 0, 2]))
    return tf.transpose(trajectory.readouts["output"].outputs, [1, 0, 2])


def build(network: Network, batch: Batch, gradients: Gradients, xla: bool) -> Model:
    """The two calls of a case; Adam's update stands outside the compiled part, as in training."""
    optimizer = tf_keras.optimizers.legacy.Adam(constants.LEARNING_RATE)
    optimizers.build_slots(optimizer, network.parameters)

    @tf.function(autograph=False)
    def train(batch: Batch) -> tf.Tensor:
        values, loss = gradients(network, batch)
        optimizers.apply(optimizer, values, network.parameters)
        return loss

    @tf.function(jit_compile=xla, autograph=False)
    def infer(batch: Batch) -> tf.Tensor:
        return mean_over_steps(readout_of(network, batch))

    return Model(lambda: float(train(batch)), lambda: infer(batch).numpy())


def _bptt(problem: Problem, xla: bool = True) -> Model:
    network = make_network(problem)
    return build(network, make_batch(problem), rule_gradients(BPTT(), xla), xla)


def _bptt_direct(problem: Problem) -> Model:
    return build(make_network(problem), make_batch(problem), direct_gradients, True)


def _bptt_checkpointed(problem: Problem) -> Model:
    """Keeps the state of every sqrt(T)-th step only."""
    network = make_network(problem, checkpoint_every=round(math.sqrt(len(problem.x))))
    return build(network, make_batch(problem), rule_gradients(BPTT()), True)


def _tbptt(problem: Problem) -> Model:
    """Ten stretches of the sequence, one update."""
    rule = TBPTT(truncation=max(1, len(problem.x) // 10))
    return build(make_network(problem), make_batch(problem), rule_gradients(rule), True)


def _autodiff(problem: Problem, xla: bool = False) -> Model:
    network = make_network(problem)
    return build(network, make_batch(problem), autodiff_gradients(xla), xla)


CASES: dict[str, Callable[[Problem], Model]] = {
    "bptt": _bptt,
    "bptt_direct": _bptt_direct,
    "bptt_no_xla": functools.partial(_bptt, xla=False),
    "bptt_checkpointed": _bptt_checkpointed,
    "tbptt": _tbptt,
    "autodiff": _autodiff,
    "autodiff_xla": functools.partial(_autodiff, xla=True),
}


def time_cases(names: Sequence[str], size: peers.Size, rounds: int) -> dict[str, Any]:
    """Times cases in turn in this process.

    Returns:
      `times`, by case: `train_ms`, `infer_ms`, `cpu_ms` of an iteration. `first_loss`, by case,
      before the first update: equal but for rounding. `rate`: spikes of a hidden neuron in a step.
    """
    problem = make_problem(*size)
    rate = hidden_rate(problem)
    models = {name: CASES[name](problem) for name in names}
    first_loss = {name: model.train() for name, model in models.items()}
    train = in_turn({name: model.train for name, model in models.items()}, rounds)
    infer = in_turn({name: model.infer for name, model in models.items()}, rounds)
    times = {
        name: {
            "train_ms": train[name].wall_ms,
            "infer_ms": infer[name].wall_ms,
            "cpu_ms": train[name].cpu_ms,
        }
        for name in names
    }
    return {"times": times, "first_loss": first_loss, "rate": rate}


def in_turn(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Times]:
    """Medians of calls that are made in turn, A B C A B C, after a warm-up.

    Each timed call follows an untimed one of the same case, as in training: else small sizes pay
    for what the case before has left in the processor's caches.
    """
    for call in calls.values():
        for _ in range(WARMUP):
            call()
    times: dict[str, list[Times]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            times[name].append(_time(call))
    return {name: _medians(each) for name, each in times.items()}


def _medians(times: Sequence[Times]) -> Times:
    return Times(*(statistics.median(column) for column in zip(*times, strict=True)))


def _time(call: Callable[[], Any]) -> Times:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Times(1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu))


def hidden_rate(problem: Problem) -> float:
    """Mean spikes of a hidden neuron in a step."""
    network = make_network(problem)

    @tf.function(jit_compile=True, autograph=False)
    def rate(batch: Batch) -> tf.Tensor:
        xs = tf.transpose(batch["inputs"], [1, 0, 2])
        return tf.reduce_mean(network.unroll(xs).cells[0].outputs)

    return float(rate(make_batch(problem)))


def peak_memory(name: str, size: peers.Size, repeats: int) -> dict[str, float]:
    """Memory that the training of one case takes, in a process that runs nothing else.

    A tiny model of the same form is trained first, so that libraries and compiler do not count.
    """
    CASES[name](make_problem(*TINY)).train()
    problem = make_problem(*size)
    base_mb = peers.memory_mb()
    model = CASES[name](problem)
    return {"peak_mb_over_base": peers.measure(model.train, repeats)["peak_mb"] - base_mb}


def startup() -> dict[str, float]:
    """Time of the first training step of the default digits experiment, which compiles it."""
    from orbit_snn import experiments
    from orbit_snn.tasks import digits  # noqa: F401  (registers the experiment)

    with tempfile.TemporaryDirectory() as directory:
        data = os.path.join(directory, "data")
        config = experiments.load("digits", params_override=f"task.data_dir={data}")
        trainer = experiments.build_run(config, os.path.join(directory, "run")).trainer
        first = _time(lambda: trainer.train(tf.constant(1)))
    return {"train_ms": first.wall_ms, "cpu_ms": first.cpu_ms}
