"""Every step of every rule is one program of static shapes, which a TPU could be given.

There is no TPU here. Each whole step, the optimizer and all variables included, is traced and
lowered by XLA as a TPU strategy does it, and its programs are read. See docs/tpu.md.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from orbit_snn.data import training_dataset
from orbit_snn.learning import BPTT, RLS, TBPTT, Eprop, Feedback, Kernel, LearningRule, Plasticity
from orbit_snn.learning.eprop import MODES
from orbit_snn.learning.feedback import KINDS
from orbit_snn.learning.plasticity import (
    MSTDP,
    MSTDPET,
    STDP,
    ExponentialKernel,
    KernelSTDP,
    Limits,
    LinearHomeostasis,
    TripletSTDP,
)
from orbit_snn.learning.rls.kernel import NUMERICS
from orbit_snn.learning.rls.rule import STRATEGIES
from orbit_snn.training import Evaluator, Task
from orbit_snn.training.exchange import added, gathered
from orbit_snn.training.trainer import Trainer
from tests.conformance import programs
from tests.conformance.pretend_tpu import COLLECTIVES, pretend_tpu, traced
from tests.conformance.small_tasks import BATCH, MODELS, TASKS
from tests.tables import leading

CHUNK = 3
AVERAGING = Kernel(0.95, alpha=3e-3, regularising_rows=1, averaging=True)
FORGETTING = Kernel(0.99)
RANDOM = Feedback("random")
TWO_SIDES = KernelSTDP(ExponentialKernel(0.03, 9.0), ExponentialKernel(-0.02, 5.0))


class Row(NamedTuple):
    """A rule and the task that it is tried on; `alone` where it is for one replica only."""

    rule: Callable[[], LearningRule]
    task: str = "regression"
    alone: bool = False


RULES = {
    "bptt": Row(BPTT),
    "tbptt": Row(lambda: TBPTT(CHUNK)),
    "tbptt, windows": Row(lambda: TBPTT(4, "window")),
    "tbptt, windows in a loop": Row(lambda: TBPTT(1, "window")),
    **{
        f"eprop, {mode}, {kind}": Row(lambda m=mode, k=kind: Eprop(m, CHUNK, Feedback(k)))
        for mode in MODES
        for kind in KINDS
    },
    **{
        f"eprop, {mode}, windows": Row(
            lambda m=mode: Eprop(m, CHUNK, Feedback("adaptive"), update_every="window")
        )
        for mode in MODES
        if mode != "factored"
    },
    **{
        f"rls, {strategy}": Row(
            lambda s=strategy: RLS(s, FORGETTING, CHUNK, feedback=RANDOM), "rates"
        )
        for strategy in STRATEGIES
        if strategy != "grad"
    },
    "rls, grad": Row(lambda: RLS("grad", AVERAGING, CHUNK, trust=0.1)),
    "rls, grad, eprop": Row(lambda: RLS("grad", AVERAGING, CHUNK, gradient="eprop")),
    **{
        f"rls, {numerics}": Row(lambda n=numerics: RLS("inputs", Kernel(numerics=n), CHUNK))
        for numerics in NUMERICS
    },
    "rls, potter, noise": Row(
        lambda: RLS("jacobian", Kernel(numerics="potter", process_noise=1e-3, cap_trace=True), 3)
    ),
    "rls, information, rows": Row(
        lambda: RLS("inputs", Kernel(0.99, numerics="information", regularising_rows=1), CHUNK)
    ),
    "rls, corrected": Row(lambda: RLS("inputs", window=CHUNK, rows="last", corrected=True)),
    "rls, sparse": Row(lambda: RLS("outputs", window=CHUNK), "sparse own targets"),
    "rls, currents": Row(lambda: RLS("outputs", window=CHUNK, alignment="current"), "own targets"),
    "stdp": Row(lambda: Plasticity(STDP()), "plastic"),
    "stdp, steps": Row(lambda: Plasticity(STDP(), "step"), "plastic", alone=True),
    "stdp, every 4": Row(lambda: Plasticity(STDP(), 4), "plastic"),
    "stdp, two sequences": Row(
        lambda: Plasticity((STDP(), LinearHomeostasis(0.01, 20.0)), sequences=2), "plastic"
    ),
    "stdp, largest": Row(
        lambda: Plasticity(STDP(), step_reduction="max", limits=Limits(hard=True)),
        "plastic",
        alone=True,
    ),
    "triplet": Row(lambda: Plasticity(TripletSTDP()), "plastic"),
    "mstdp": Row(lambda: Plasticity(MSTDP(), reward="reward"), "plastic"),
    "mstdpet, steps": Row(
        lambda: Plasticity(MSTDPET(), "step", reward="reward"), "plastic", alone=True
    ),
    "kernel": Row(lambda: Plasticity(TWO_SIDES), "plastic"),
}
EVERY = {**TASKS, **MODELS}

# At least one of every loop, exchange and solver; all of them with --thorough.
LEADING = {
    "tbptt, windows in a loop",
    "eprop, factored, random",
    "eprop, stepwise, adaptive",
    "eprop, chunked, windows",
    "rls, outputs",
    "rls, scaled_jacobian",
    "rls, grad, eprop",
    "rls, potter, noise",
    "rls, information, rows",
    "rls, sparse",
    "stdp, every 4",
    "stdp, largest",
    "mstdpet, steps",
}

pytestmark = pytest.mark.usefixtures("writing")


def trainer(task: Task, rule: LearningRule, strategy: Any = None) -> Trainer:
    adam = tf_keras.optimizers.legacy.Adam(1e-3)
    return Trainer(*task, rule, adam, BATCH, clip_norm=1.0, strategy=strategy)


def assert_static(step: Callable[..., Any], batch: Any) -> None:
    graph, hlo = programs.lowered(step, batch)
    assert programs.traced_faults(graph) == []
    assert programs.lowered_faults(hlo) == []


def assert_trained_statically(task: Task, rule: LearningRule) -> None:
    made = trainer(task, rule)
    assert_static(made._replica_step, next(iter(training_dataset(made._examples, BATCH, seed=0))))


@pytest.mark.every_row
@pytest.mark.parametrize("name", leading(RULES, LEADING))
def test_a_training_step_is_one_static_program(name):
    row = RULES[name]
    assert_trained_statically(EVERY[row.task](), row.rule())


@pytest.mark.parametrize("name", MODELS)
def test_so_it_is_for_every_kind_of_model(name):
    assert_trained_statically(MODELS[name](), BPTT())


@pytest.mark.parametrize("name", EVERY)
def test_an_evaluation_step_is_one_static_program(name):
    made = Evaluator(*EVERY[name](), "test", BATCH)
    assert_static(made._replica_step, next(iter(made.eval_dataset)))


def assert_for_tpu(graph: Any) -> None:
    result = "TPUCompilationResult"  # a message for the host, and the only string
    found = [fault for fault in programs.traced_faults(graph) if not fault.startswith(result)]
    assert found == []
    every = [op for _, part in programs.functions_of(graph) for op in part.get_operations()]
    exchanged = {x.dtype for op in every if op.type in COLLECTIVES for x in op.inputs}
    assert exchanged <= {tf.float32, tf.int32}
    assert not [op for op in every if op.node_def.attr["_XlaMustCompile"].b]  # parts of one program
    handles = [op for op in graph.get_operations() if op.type == "Placeholder"]
    handles = [x for op in handles for x in op.outputs if x.dtype == tf.resource]
    readers = {op.type for handle in handles for op in handle.consumers()}
    assert readers == {"TPUReplicatedInput"}  # variables of all cores, none of a single one


@pytest.mark.parametrize("name", RULES)
def test_a_tpu_strategy_traces_it(name):
    row = RULES[name]
    replicas = 1 if row.alone else 2
    strategy = pretend_tpu(replicas)
    with strategy.scope():
        made = trainer(EVERY[row.task](), row.rule(), strategy)
    size = BATCH // replicas
    batch = next(iter(training_dataset(made._examples, size, seed=0)))
    assert_for_tpu(traced(strategy, made._replica_step, batch))


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("name", ["bptt", "rls, inputs", "stdp"])
def test_a_tpu_strategy_traces_both_loops(name, replicas):
    """As the controller runs them: the iterators, all steps, and what is read after them."""
    row, strategy = RULES[name], pretend_tpu(replicas)
    with strategy.scope():
        task = EVERY[row.task]()
        made, judge = trainer(task, row.rule(), strategy), Evaluator(*task, "test", BATCH)
    made.train_loop_begin()
    for dataset in (made.train_dataset, judge.eval_dataset):
        for spec in tf.nest.flatten(dataset.element_spec, expand_composites=True):
            assert spec.shape[0] == BATCH // replicas and spec.shape.is_fully_defined()
    steps = tf.constant(3)
    made.create_train_loop_fn().get_concrete_function(iter(made.train_dataset), steps)
    tf.function(judge.eval_step).get_concrete_function(iter(judge.eval_dataset))
    judge.eval_begin()
    assert judge._sums.read().keys() >= {"examples"}


class TestExchange:
    """Numbers of 64 bits are sent to the other cores of a TPU as numbers of 32."""

    class Context(NamedTuple):
        """Two replicas, of which the other one has twice what this one has."""

        strategy: Any
        sent: list
        num_replicas_in_sync: int = 2

        def all_gather(self, x, axis):
            self.sent.append(x.dtype)
            return tf.concat([x, 2 * x], axis)

    @pytest.fixture
    def context(self):
        return self.Context(pretend_tpu(2), [])

    @pytest.mark.parametrize("xla", [False, True])
    def test_sums_keep_the_digits_of_a_pair(self, context, xla):
        draw = np.random.default_rng(0).normal(size=7) * 10.0 ** np.arange(-9, 12, 3)
        sums = {"a": tf.constant(draw), "b": tf.constant([0.1, 2.0**24 + 2])}
        add = tf.function(lambda sums: added(context, sums), jit_compile=xla, autograph=False)
        total = add(sums)
        assert context.sent == [tf.float32]
        assert {key: x.dtype for key, x in total.items()} == {k: x.dtype for k, x in sums.items()}
        np.testing.assert_allclose(total["a"], 3 * draw, rtol=2.0**-46)
        np.testing.assert_array_equal(total["b"], 3 * sums["b"])

    def test_what_is_not_finite_stays_so(self, context):
        total = added(context, {"a": tf.constant([np.inf, np.nan, 1.0])})["a"]
        assert np.isfinite(total).tolist() == [False, False, True]

    def test_rows_of_any_type_arrive(self, context):
        rows = [tf.constant([[0.1, 1e9]], kind) for kind in (tf.float64, tf.float32)]
        rows.append(tf.constant([[3, 400_000_000]], tf.int64))
        for own, every in zip(rows, gathered(context, rows), strict=True):
            assert every.dtype == own.dtype and every.shape == [2, 2]
            np.testing.assert_allclose(every, np.concatenate([own, 2 * own]), rtol=2.0**-46)
        assert set(context.sent) == {tf.float32, tf.int32}
