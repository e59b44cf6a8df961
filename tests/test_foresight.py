"""Forecasting: networks that go on after their inputs, from data to training."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.data import DataError
from orbit_snn.database import Database
from orbit_snn.graph import (
    MSE,
    During,
    GraphError,
    GraphModule,
    InputNode,
    NetworkNode,
    assemble_for_training,
)
from orbit_snn.learning import BPTT, RLS, TBPTT, Eprop, Kernel
from orbit_snn.learning.base import window_of
from orbit_snn.networks import Network
from orbit_snn.neurons import ALIF, LeakyIntegrator, LeakyTanh
from orbit_snn.training import PlotMaker, Raster, Run, Traces, TrainingOptions
from orbit_snn.training.trainer import Trainer

INSTANT = 1e-3  # ms: a time constant that forgets everything in a step
SEEN, FORESIGHT, UNITS = 30, 21, 24
WHOLE = SEEN + FORESIGHT - 1


def sines(size=32, seed=0):
    """A sine of any phase: 30 steps are seen, the next value of 50 is to be told."""
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, size=(size, 1))
    wave = 0.8 * np.sin(phase + 2 * np.pi * np.arange(WHOLE + 1) / 20).astype(np.float32)
    late = np.broadcast_to(np.arange(WHOLE) >= SEEN, [size, WHOLE]).copy()
    return {"x": wave[:, :SEEN, None], "next": wave[:, 1:, None], "late": late}


def network(neuron=None, tau_ms=INSTANT, outputs=1, **options):
    hidden = Cell(
        neuron or LeakyTanh(UNITS, tau_mem_ms=INSTANT),
        Dense(1, UNITS, bias=True, seed=1),
        Dense(UNITS, UNITS, autapses=False, gain=0.9, seed=2),
    )
    readout = LeakyIntegrator(outputs, tau_mem_ms=tau_ms, input_gain="one_minus_decay")
    return Network([hidden], Cell(readout, Dense(UNITS, outputs, bias=True, seed=3)), **options)


def assembled(made, foresight=FORESIGHT, **options):
    net = NetworkNode("net", InputNode("x", foresight_time_steps=foresight), made, db_name="next")
    loss = MSE.of_node(net.output)
    alone = MSE.of_node(During("alone", net.output, "late", db_name="next"))
    return assemble_for_training(loss, {"loss": loss, "alone": alone}, **options)


def database(arrays=None, held_out=0.0):
    return Database.from_arrays(arrays or sines(), test_size=held_out, validation_size=held_out)


def test_a_hundred_inputs_and_a_foresight_of_twenty_make_119_outputs():
    """The first 100 are those of the network as it is; each later one is made of that before."""
    made, given = network(), tf.random.stateless_normal([2, 100, 1], [1, 2])
    x, y = InputNode("x", foresight_time_steps=20), InputNode("x")
    outputs = GraphModule([x], [NetworkNode("net", x, made).output])({"x": given})["net.output"]
    assert outputs.shape == (2, 119, 1)
    open_loop = GraphModule([y], [NetworkNode("net", y, made).output])
    run = open_loop.run({"x": given})
    np.testing.assert_allclose(outputs[:, :100], run.values["net.output"], atol=1e-6)
    for t in range(100, 119):
        run = open_loop.run({"x": outputs[:, t - 1 : t]}, run.state)
        np.testing.assert_allclose(outputs[:, t : t + 1], run.values["net.output"], atol=1e-5)


def test_features_are_completed_once():
    modules, db_info = assembled(network())
    assert db_info == {"inputs": ["x"], "targets": ["next", "late"]}
    batch = {name: tf.constant(value) for name, value in sines(3).items()}
    done = modules.model.completed(batch)
    assert {name: x.shape[1] for name, x in done.items()} == dict.fromkeys(
        ["x", "x/given", "next", "late"], WHOLE
    )
    np.testing.assert_array_equal(done["x/given"][0], np.arange(WHOLE) < SEEN)
    assert modules.model.completed(done) == done
    outputs = modules.model(batch)["net.output"]
    np.testing.assert_array_equal(outputs, modules.model(done)["net.output"])
    first = modules.model.run(window_of(done, modules.temporal, 0, 35))
    rest = window_of(done, modules.temporal, 35, WHOLE - 35)
    found = modules.model.run(rest, first.state).values["net.output"]
    np.testing.assert_allclose(found, outputs[:, 35:], atol=1e-6)


def test_one_step_of_foresight_is_an_open_loop():
    (modules, _), made = assembled(network(), foresight=1), sines(2)
    assert modules.model.networks[0].parents == (modules.model.inputs[0],)
    assert modules.model({"x": tf.constant(made["x"])})["net.output"].shape == (2, SEEN, 1)


def adam(rate=1e-2):
    return tf_keras.optimizers.legacy.Adam(rate)


RULES = {
    "bptt": (lambda: BPTT(), adam, 120),
    "tbptt": (lambda: TBPTT(15), adam, 120),
    "tbptt-window": (lambda: TBPTT(25, "window"), adam, 80),
    "eprop": (lambda: Eprop(), adam, 200),
    "eprop-chunked": (lambda: Eprop("chunked", chunk=20), adam, 200),
    "rls-inputs": (lambda: RLS("inputs", Kernel(alpha=1e-2), window=10), lambda: None, 12),
    "rls-jacobian": (lambda: RLS("scaled_jacobian", Kernel(0.99), window=10), lambda: None, 12),
    "rls-grad": (
        lambda: RLS(
            "grad",
            Kernel(0.95, alpha=3e-3, regularising_rows=1, averaging=True),
            window=25,
            trust=0.3,
        ),
        lambda: tf_keras.optimizers.legacy.SGD(0.3),
        40,
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_learns_to_forecast(name):
    rule, optimizer, steps = RULES[name]
    modules, db_info = assembled(network())
    data = database()
    trainer = Trainer(modules, db_info, data, rule(), optimizer(), 32)
    before = modules.evaluator.evaluate_dataset(data, "train")["alone"]
    trainer.train(tf.constant(steps))
    after = modules.evaluator.evaluate_dataset(data, "train")["alone"]
    assert after < 0.1 * before


def test_spikes_forecast():
    modules, db_info = assembled(network(ALIF(UNITS, tau_mem_ms=5.0), tau_ms=5.0))
    data = database()
    trainer = Trainer(modules, db_info, data, BPTT(), adam(2e-2), 32)
    before = modules.evaluator.evaluate_dataset(data, "train")["alone"]
    trainer.train(tf.constant(200))
    after = modules.evaluator.evaluate_dataset(data, "train")["alone"]
    assert after < 0.3 * before


def test_a_run_evaluates_and_draws_what_is_told(tmp_path):
    made = network()
    x = InputNode("x", foresight_time_steps=FORESIGHT)
    net = NetworkNode("net", x, made, db_name="next")
    loss = MSE.of_node(net.output)
    plots = PlotMaker(Raster(net), Traces(net.output))
    modules, db_info = assemble_for_training(loss, {"loss": loss}, plot_maker=plots)
    every = dict.fromkeys(("steps_per_loop", "checkpoint_interval", "validation_interval"), 4)
    options = TrainingOptions(train_steps=4, batch_size=8, pictures=1, **every)
    data = database(held_out=0.25)
    run = Run(modules, db_info, data, BPTT(), adam(), tmp_path / "run", options)
    found = run.train_and_evaluate()
    assert found["metrics"]["loss"] == pytest.approx(
        modules.evaluator.evaluate_dataset(data, "test")["loss"], rel=1e-5
    )
    assert list((tmp_path / "run" / "plots").rglob("*.png"))


def test_targets_of_another_length_are_refused():
    arrays = sines()
    arrays["next"] = arrays["next"][:, :SEEN]
    modules, db_info = assembled(network())
    with pytest.raises(DataError, match=r"`next` needs one value for each of the 50 steps of `x`"):
        Run(modules, db_info, database(arrays), BPTT(), adam(), "unused")


def test_silent_inputs_are_refused_whatever_the_marks():
    modules, db_info = assembled(network())
    silent = {**sines(), "x": np.zeros([32, SEEN, 1], np.float32)}
    with pytest.raises(DataError, match="`x` is zero at every step"):
        Run(modules, db_info, database(silent), BPTT(), adam(), "unused")


def test_sequences_of_unequal_length_end_where_their_masks_say():
    """Inputs end where `given` says, sequences where `mask` does; padding never counts."""
    steps, ends = np.arange(WHOLE), np.array([[WHOLE], [30], [20]])
    batch = {"next": sines(3)["next"], "g": steps < ends - 10, "m": steps < ends}
    x = np.random.default_rng(0).normal(size=[3, WHOLE, 1]).astype(np.float32)
    net = NetworkNode("n", InputNode("x", mask="m", given="g"), network(), db_name="next")
    loss = MSE.of_node(net.output)
    modules, _ = assemble_for_training(loss, {"loss": loss})
    found = []
    for padding in (0.0, 9.0):
        full = {**batch, "x": np.where(batch["g"][..., None], x, padding)}
        full["next"] = np.where(batch["m"][..., None], batch["next"], padding)
        full = {name: tf.constant(value) for name, value in full.items()}
        done = BPTT().update(modules, full, modules.model.initial_state(3))
        found.append([done.loss, *done.gradients])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    outputs = modules.model({**full, "x": x})["n.output"]
    for (end,), own, want in zip(ends, full["next"], outputs, strict=True):
        found[0][0] -= tf.reduce_sum((own - want)[:end] ** 2) / ends.sum()
    np.testing.assert_allclose(found[0][0], 0.0, atol=1e-6)


def two(**options):
    """Two readouts, of 1 and 2 outputs, on a network of 1 input."""
    made = network()
    wide = Cell(LeakyIntegrator(2), Dense(UNITS, 2))
    return Network(made.cells, {"one": made.readouts["output"], "wide": wide}, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InputNode("x", foresight_time_steps=0), "of `x` is 0; expected a whole number"),
        (lambda: InputNode("x", foresight_time_steps=2.5), "is 2.5; expected a whole number"),
        (lambda: InputNode("x", foresight_time_steps=2, given="g"), "use one of them"),
        (lambda: assembled(network(outputs=2)), "'output' gives 2 outputs and the network takes 1"),
        (lambda: assembled(network(checkpoint_every=3)), "set checkpoint_every to None"),
        (lambda: two(closed_loop="three"), "the readout 'three'; the network has one, wide"),
        (lambda: two(closed_loop="wide"), "'wide' gives 2 outputs and the network takes 1 inputs"),
        (lambda: assembled(two()), "the network has one, wide; name it, as in Network"),
        (lambda: assembled(Network(network().cells)), "the network has none; add one"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_at_once(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_marks_are_checked():
    net = NetworkNode("n", InputNode("x", given="g"), network())
    model = GraphModule([*net.parents], [net.output])
    x = tf.zeros([2, 5, 1])
    for mark in (tf.ones([2, 5]), tf.ones([2, 4], tf.bool)):
        with pytest.raises(GraphError, match=r"`g` marks the steps of `n`.*expected bool \(2, 5\)"):
            model({"x": x, "g": mark})
