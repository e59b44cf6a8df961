"""What the benchmark measures of e-prop: its modes against back-propagation of the same network.

An adaptive recurrent layer with a leaky readout and a cross-entropy at every step, which all modes
can learn. `bptt` is our own reverse pass on it.
"""

import ctypes
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.graph import (
    Accuracy,
    CrossEntropy,
    InputNode,
    NetworkNode,
    TrainingModules,
    assemble_for_training,
)
from orbit_snn.learning import BPTT, Eprop, LearningRule
from orbit_snn.networks import Network
from orbit_snn.neurons import ALIF, LeakyIntegrator
from orbit_snn.tools import peers
from orbit_snn.tools.benchmark_cases import TINY, in_turn
from orbit_snn.types import Batch

INPUT_RATE = 0.05
MODES = ("bptt", "factored", "chunked", "stepwise")
_M_MMAP_THRESHOLD = -3  # of malloc.h
_WARM_STEPS = 20_000
SLOW_ROUNDS = 2  # of `stepwise`, which takes seconds


def make_rule(mode: str, chunk: int) -> LearningRule:
    """The rule of a mode."""
    return BPTT() if mode == "bptt" else Eprop(mode, chunk=chunk)


def make_batch(size: peers.Size) -> Batch:
    """Bernoulli spikes and labels, made where they stay."""
    shape = [size.batch, size.steps, size.inputs]
    draw = tf.random.stateless_uniform(shape, [0, 0], alg="philox")
    labels = tf.random.stateless_uniform([size.batch], [0, 1], 0, size.classes, tf.int32, "philox")
    return {"inputs": tf.cast(draw < INPUT_RATE, tf.float32), "label": labels}


def make_modules(size: peers.Size) -> TrainingModules:
    """The network and its loss."""
    gain = 0.4 / math.sqrt(INPUT_RATE)
    hidden = Cell(
        ALIF(size.units, tau_mem_ms=20.0, tau_adaptation_ms=200.0, beta=0.2),
        Dense(size.inputs, size.units, gain=gain, seed=1),
        Dense(size.units, size.units, autapses=False, gain=0.4, seed=2),
    )
    readout = Cell(LeakyIntegrator(size.classes), Dense(size.units, size.classes, seed=3))
    net = NetworkNode("network", InputNode("inputs"), Network([hidden], readout), "label")
    loss, accuracy = CrossEntropy.of_node(net.output), Accuracy.of_node(net.output)
    return assemble_for_training(loss, {"loss": loss, "accuracy": accuracy})[0]


def make_update(mode: str, size: peers.Size, chunk: int, batch: Batch) -> Callable[[], Any]:
    """One compiled pass of a rule over a batch; returns the loss, rates and accuracy are made."""
    modules, rule = make_modules(size), make_rule(mode, chunk)
    spec = {name: tf.TensorSpec(x.shape[1:], x.dtype) for name, x in batch.items()}
    rule.prepare(modules, spec, size.steps)
    state = rule.initial_state(modules, size.batch)

    @tf.function(jit_compile=True, autograph=False)
    def update(batch: Batch, state: Any) -> Any:
        done = rule.update(modules, batch, state)
        return done.loss, done.gradients, done.reports

    return lambda: float(update(batch, state)[0])


def time_modes(size: peers.Size, rounds: int, chunk: int) -> dict[str, dict[str, float]]:
    """Time and loss of every mode, the fast ones in turn; the losses are equal but for rounding."""
    batch = make_batch(size)
    updates = {mode: make_update(mode, size, chunk, batch) for mode in MODES}
    fast = {mode: update for mode, update in updates.items() if mode != "stepwise"}
    times = in_turn(fast, rounds) | in_turn(
        {"stepwise": updates["stepwise"]}, min(rounds, SLOW_ROUNDS)
    )
    return {
        mode: {"train_ms": times[mode].wall_ms, "cpu_ms": times[mode].cpu_ms, "loss": update()}
        for mode, update in updates.items()
    }


def chunked_memory(size: peers.Size, chunk: int) -> dict[str, float]:
    """Memory that `chunked` takes over what the process and its batch hold already.

    A tiny model is trained, and a large batch made, first: libraries, compiler and what the
    allocator and TensorFlow's threads set up for large tensors do not count, however long the
    sequences are.
    """
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
    make_batch(size._replace(steps=_WARM_STEPS))
    make_update("chunked", TINY, 2, make_batch(TINY))()
    batch = make_batch(size)
    libc.malloc_trim(0)
    base_mb = peers.memory_mb()
    update = make_update("chunked", size, chunk, batch)
    return {"peak_mb_over_base": peers.measure(update, 2, warmup=1)["peak_mb"] - base_mb}
