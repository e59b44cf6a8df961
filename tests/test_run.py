"""A run made in Python: what it checks before its first step, in one line each."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.data import DataError, from_arrays
from orbit_snn.learning import BPTT, TBPTT
from orbit_snn.losses import classification, regression
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from orbit_snn.training import Run, RunDirectoryError, Task, TrainingOptions

FEW = {"train_steps": 4, "batch_size": 5, "steps_per_loop": 2, "pictures": 0}
FEW |= {"checkpoint_interval": 2, "validation_interval": 2}
INPUTS = np.random.default_rng(0).random((20, 6, 4)).astype(np.float32)
LABELS = np.arange(20) % 3


def make(directory, rule=None, objective=None, held_out=True, options=None, **fields):
    hidden = Cell(LIF(8), Dense(4, 8), Dense(8, 8, autapses=False))
    network = Network([hidden], Cell(LeakyIntegrator(3), Dense(8, 3)))
    examples = from_arrays({"inputs": INPUTS, "label": LABELS} | fields)
    task = Task(
        "small", network, objective or classification(), examples, examples if held_out else None
    )
    optimizer = tf_keras.optimizers.legacy.Adam(1e-2)
    options = TrainingOptions(**(FEW | (options or {})))
    return Run(task, rule or BPTT(), optimizer, directory, options, xla=False)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"inputs": INPUTS.astype(np.float64)}, DataError, "computes in float32; convert"),
        ({"inputs": INPUTS[:, :, :3]}, DataError, r"takes a feature `inputs` of shape \[T, 4\]"),
        ({"label": LABELS + 1}, DataError, r"label 3 in `label` is outside \[0, 3\)"),
        ({"label": LABELS - 1}, DataError, "label -1"),
        ({"mask": np.ones((20, 5))}, DataError, "`mask` needs one value for each of the 6 steps"),
        ({"mask": np.zeros((20, 6))}, DataError, "`mask` marks no step as real"),
        ({"objective": classification(label="labels")}, DataError, "reads the label `labels`"),
        ({"objective": classification(readout="out")}, DataError, "the readouts output"),
        ({"objective": regression()}, DataError, "`target` needs one value"),
        ({"rule": BPTT}, ValueError, r"such as BPTT\(\)"),
        ({"options": {"best_metric": "acuracy"}}, ValueError, "expected one of loss, accuracy"),
        ({"options": {"batch_size": 21}}, DataError, "at most 20"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line_before_anything_is_written(
    given, error, message, tmp_path
):
    with pytest.raises(error, match=message) as caught:
        make(tmp_path / "run", **given)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.*"))


def test_a_directory_belongs_to_one_run(tmp_path):
    make(tmp_path).train_and_evaluate()
    assert json.loads((tmp_path / "run.json").read_text())["rule"] == {"type": "bptt"}
    kept = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(RunDirectoryError, match="its rule is .*bptt.*, now it is .*tbptt"):
        make(tmp_path, rule=TBPTT(3)).train()
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    trained = json.loads((tmp_path / "results.json").read_text())
    again = make(tmp_path).train_and_evaluate()
    assert again["step"] == 4
    assert again["steps_per_second"] == trained["steps_per_second"] > 0


def test_nothing_held_out_is_said_before_training(tmp_path):
    run = make(tmp_path, held_out=False)
    with pytest.raises(ValueError, match="neither test nor validation"):
        run.train_and_evaluate()
    assert run.step == 0
    run.train()
    assert run.step == 4


def test_a_window_of_padding_teaches_nothing():
    """The second window of a short example has no real step: no loss, no count, no gradient."""
    run_network = make_network()
    x = tf.constant(INPUTS[:3])
    batch = {"inputs": x[:, :3], "label": tf.constant([0, 1, 2]), "mask": tf.zeros([3, 3], tf.bool)}
    for mode in ("mean", "max", "last", "per_step"):
        state = run_network.initial_state(3)
        update = TBPTT(3, "window").update(run_network, classification(mode), batch, state, 3)
        assert float(update.score.loss) == 0.0
        assert all(float(total) == float(count) == 0 for total, count in update.score.sums.values())
        assert all(not np.any(gradient) for gradient in update.gradients)


def make_network():
    hidden = Cell(LIF(8, threshold=0.3), Dense(4, 8), Dense(8, 8, autapses=False))
    return Network([hidden], Cell(LeakyIntegrator(3), Dense(8, 3)))


def test_one_cell_in_two_places_is_refused():
    cell = Cell(LIF(8), Dense(8, 8))
    with pytest.raises(ValueError, match="the same cell twice"):
        Network([cell, cell], Cell(LeakyIntegrator(3), Dense(8, 3)))


@pytest.mark.parametrize("given", [{"reset": "zero"}, {"surrogate": "arctan"}])
def test_names_where_objects_are_expected(given):
    with pytest.raises(ValueError, match=r"Reset\(\"zero\"\).*Surrogate\(\"arctan\"\)"):
        LIF(3, **given)
