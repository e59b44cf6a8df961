"""A step that a TPU could not run is found out, before and after XLA has seen it."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from orbit_snn.data import training_dataset
from orbit_snn.learning import BPTT
from orbit_snn.training.trainer import Trainer
from tests.conformance import programs, small_tasks

X, WHOLE = tf.constant([[1.0, -2.0], [3.0, 4.0]]), tf.constant([3, 1, 2], tf.int64)
TRACED = {
    "boolean mask": lambda x: tf.reduce_sum(tf.boolean_mask(x, x > 0)),
    "where": lambda x: tf.shape(tf.where(x > 0))[0],
    "unique": lambda x: tf.reduce_sum(tf.unique(tf.reshape(x, [-1])).y),
    "python": lambda x: tf.ensure_shape(tf.py_function(np.sum, [x], tf.float32), []),
    "numpy": lambda x: tf.ensure_shape(tf.numpy_function(np.sum, [x], tf.float32), []),
    "print": lambda x: [tf.print(x), x][1],
    "summary": lambda x: tf.summary.scalar("x", x[0, 0]),
    "check": lambda x: tf.debugging.check_numerics(x, "x"),
    "assertion": lambda x: [tf.debugging.assert_greater(x, 0.0), x][1],
    "string": lambda x: tf.strings.length(tf.strings.as_string(x)),
    "inside": lambda x: tf.function(lambda x: tf.reduce_sum(tf.boolean_mask(x, x > 0)))(x),
    "in a loop": lambda x: tf.while_loop(
        lambda i, x: i < 3,
        lambda i, x: (i + 1, x + tf.reduce_sum(tf.boolean_mask(x, x > 0))),
        (0, x),
    ),
}


@pytest.mark.every_row
@pytest.mark.parametrize("name", TRACED)
def test_in_a_graph(name, writing):
    traced = tf.function(TRACED[name], autograph=False)
    assert programs.traced_faults(traced.get_concrete_function(X).graph)


@pytest.mark.parametrize(
    "step",
    [
        lambda x, n: tf.reduce_sum(tf.boolean_mask(x, x > 0)),
        lambda x, n: tf.ensure_shape(tf.boolean_mask(x, x > 0), [4]),
        lambda x, n: tf.matmul(tf.cast(x, tf.float64), tf.cast(x, tf.float64)),
        lambda x, n: tf.sort(n),
        lambda x, n: tf.bitcast(n, tf.float64),
        lambda x, n: tf.linalg.cholesky(tf.cast(x, tf.float64)),
    ],
    ids=["unknown size", "padded", "product", "sorting", "bits", "solver"],
)
def test_in_a_program(step):
    assert programs.lowered_faults(programs.lowered(step, X, WHOLE)[1])


@pytest.mark.parametrize(
    "line",
    [
        "  %a.1 = f32[<=4,5]{1,0} add(f32[<=4,5]{1,0} %b, f32[<=4,5]{1,0} %c)",
        "  %a.1 = (f32[2]{0}, token[]) infeed(token[] %b)",
        "  ROOT %a.1 = token[] outfeed(f32[] %b, token[] %c), outfeed_shape=f32[]",
        "  %a = token[] send-done((f32[], u32[], token[]) %b), is_host_transfer=true",
        '  %a = f32[] custom-call(f32[] %b), custom_call_target="xla_python_cpu_callback"',
        "  %a = f64[3]{0} all-reduce(f64[3]{0} %b), replica_groups={}, to_apply=%add",
    ],
)
def test_in_a_line(line):
    assert len(programs.lowered_faults(f"HloModule m\n\nENTRY %e {{\n{line}\n}}")) == 1


def test_a_step_that_is_fine_is_fine():
    graph, hlo = programs.lowered(lambda x: tf.matmul(x, x), X)
    assert programs.traced_faults(graph) == programs.lowered_faults(hlo) == []


def test_every_instruction_is_read():
    adam = tf_keras.optimizers.legacy.Adam(1e-3)
    made = Trainer(*small_tasks.regression(), BPTT(), adam, small_tasks.BATCH)
    batch = next(iter(training_dataset(made._examples, small_tasks.BATCH, seed=0)))
    _, hlo = programs.lowered(made._replica_step, batch)
    lines = [line for line in hlo.splitlines() if line.startswith("  ")]
    assert len(list(programs.instructions(hlo))) == len(lines) > 1000
