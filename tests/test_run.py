"""A run made in Python: what it checks before its first step, in one line each."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.data import DataError, from_arrays
from orbit_snn.database import Database
from orbit_snn.graph import (
    Accuracy,
    CrossEntropy,
    Decision,
    GraphError,
    IdxType,
    InputNode,
    ModelNode,
    NetworkNode,
    SquaredError,
    assemble_for_training,
)
from orbit_snn.learning import BPTT, TBPTT
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from orbit_snn.training import (
    PlotMaker,
    Plotter,
    Raster,
    Run,
    RunDirectoryError,
    TrainingOptions,
)

FEW = {"train_steps": 4, "batch_size": 5, "steps_per_loop": 2, "pictures": 0}
FEW |= {"checkpoint_interval": 2, "validation_interval": 2}
INPUTS = np.random.default_rng(0).random((20, 6, 4)).astype(np.float32)
LABELS = np.arange(20) % 3
MASKED = {"graph": {"mask": "mask"}}


def make_network():
    hidden = Cell(LIF(8, threshold=0.3), Dense(4, 8), Dense(8, 8, autapses=False))
    return Network([hidden], Cell(LeakyIntegrator(3), Dense(8, 3)))


def assemble(mode="mean", label="label", target=None, mask=None):
    net = NetworkNode("network", InputNode("inputs", mask=mask), make_network(), db_name=target)
    if target is not None:
        loss = SquaredError.of_node(net.output)
        return assemble_for_training(loss, {"loss": loss})
    decision = Decision("decision", net.output, mode, db_name=label)
    loss = CrossEntropy.of_node(decision)
    return assemble_for_training(loss, {"loss": loss, "accuracy": Accuracy.of_node(decision)})


def make(directory, rule=None, graph=None, held_out=True, options=None, optimizer=None, **fields):
    examples = from_arrays({"inputs": INPUTS, "label": LABELS} | fields)
    splits = {"train": examples} | ({"validation": examples} if held_out else {})
    optimizer = optimizer or tf_keras.optimizers.legacy.Adam(1e-2)
    options = TrainingOptions(**(FEW | (options or {})))
    modules, db_info = assemble(**(graph or {}))
    database = Database(splits)
    return Run(modules, db_info, database, rule or BPTT(), optimizer, directory, options, xla=False)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"inputs": INPUTS[:, :, :3]}, GraphError, r"takes 4 inputs a step, \[B, T, 4\]; `inputs`"),
        ({"inputs": INPUTS[:, 0]}, GraphError, r"`inputs` gives shape \(2, 4\)"),
        ({"inputs": INPUTS * np.nan}, DataError, "`inputs` has NaN or infinity"),
        ({"inputs": INPUTS * 0}, DataError, "`inputs` is zero at every step"),
        ({"label": LABELS + 1}, DataError, r"label 3 in `label` is outside \[0, 3\)"),
        ({"label": LABELS - 1}, DataError, "label -1"),
        ({"label": LABELS.astype(np.float32)}, ValueError, "float32 of shape .*give class indices"),
        (
            {"mask": np.ones((20, 5)), **MASKED},
            DataError,
            "needs one value for each of the 6 steps",
        ),
        ({"mask": np.zeros((20, 6), bool), **MASKED}, DataError, "`mask` marks no step as real"),
        (MASKED, DataError, "no field `mask`, there are inputs, label"),
        ({"graph": {"label": "lable"}}, DataError, "no field `lable`.*did you mean `label`"),
        ({"graph": {"target": "target"}}, DataError, "no field `target`"),
        (
            {"graph": {"target": "label"}},
            GraphError,
            r"network.output-true \[2\]; nothing is broad",
        ),
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


@pytest.mark.parametrize("mode", ["mean", "max", "last", "per_step"])
def test_a_window_of_padding_teaches_nothing(mode):
    """The second window of a short example has no real step: no loss, no count, no gradient."""
    modules, _ = assemble(mode, mask="mask")
    x = tf.constant(INPUTS[:3])
    batch = {"inputs": x[:, :3], "label": tf.constant([0, 1, 2]), "mask": tf.zeros([3, 3], tf.bool)}
    update = TBPTT(3, "window").update(modules, batch, modules.model.initial_state(3))
    assert float(update.loss) == 0.0
    assert not any(np.any(sums) for sums in (*update.sums.values(), *update.reports.values()))
    assert all(not np.any(gradient) for gradient in update.gradients)


def test_formulas_of_scores_and_scalar_features(tmp_path):
    """A temperature that the data set gives, and scores that are no output of the model."""
    x = InputNode("inputs")
    warm = ModelNode("warm", (x, InputNode("heat", index=IdxType.SEQUENCES)), scaled)
    net = NetworkNode("network", warm, make_network())
    decision = Decision("decision", net.output, db_name="label")
    loss = CrossEntropy(2.0 * decision.pred, decision.true)
    modules, db_info = assemble_for_training(loss, [loss])
    features = {"inputs": INPUTS, "label": LABELS, "heat": np.linspace(1, 2, 20)}
    database = Database({"train": from_arrays(features), "test": from_arrays(features)})
    optimizer = tf_keras.optimizers.legacy.Adam(1e-2)
    options = TrainingOptions(**FEW)
    rule = TBPTT(2, "window")
    run = Run(modules, db_info, database, rule, optimizer, tmp_path, options, xla=False)
    assert np.isfinite(run.train_and_evaluate()["metrics"][loss.name])


def scaled(x, heat):
    return x * tf.cast(heat, x.dtype)[:, tf.newaxis, tf.newaxis]


def test_inputs_of_any_type_are_taken(tmp_path):
    losses = [
        make(tmp_path / str(number), inputs=(INPUTS > 0.5).astype(dtype)).train_and_evaluate()
        for number, dtype in enumerate((np.float32, np.float64, np.uint8, bool))
    ]
    assert len({found["metrics"]["loss"] for found in losses}) == 1


def test_one_cell_in_two_places_is_refused():
    cell = Cell(LIF(8), Dense(8, 8))
    with pytest.raises(ValueError, match="the same cell twice"):
        Network([cell, cell], Cell(LeakyIntegrator(3), Dense(8, 3)))


@pytest.mark.parametrize("given", [{"reset": "zero"}, {"surrogate": "arctan"}])
def test_names_where_objects_are_expected(given):
    with pytest.raises(ValueError, match=r"Reset\(\"zero\"\).*Surrogate\(\"arctan\"\)"):
        LIF(3, **given)


class TestActions:
    """What is done after a validation, in runs of 12 validations."""

    OPTIONS = {"train_steps": 24, "best_metric": "loss", "higher_is_better": False}

    def test_patience_ends_a_run_and_is_remembered(self, tmp_path, capsys):
        hopeless = self.OPTIONS | {"best_metric": "accuracy", "patience": 2, "clip_norm": 1e-12}
        make(tmp_path, options=hopeless).train()
        assert "stopped at step 6: accuracy was not better than" in capsys.readouterr().out
        again = make(tmp_path, options=hopeless)
        assert again.train_and_evaluate()["step"] == 6
        assert "already complete: accuracy was not better" in capsys.readouterr().out
        longer = make(tmp_path, options=hopeless | {"patience": 4})
        longer.train()
        assert longer.step == 10

    def test_the_best_is_evaluated_where_that_is_asked_for(self, tmp_path):
        """A growing learning rate spoils what was learned."""
        rate = tf_keras.optimizers.schedules.PolynomialDecay(1e-2, 24, 10.0)
        kept = {
            keep: make(
                tmp_path / keep,
                options=self.OPTIONS | {"keep": keep},
                optimizer=tf_keras.optimizers.legacy.SGD(rate),
                inputs=6.0 * INPUTS,
            ).train_and_evaluate()
            for keep in ("last", "best")
        }
        best = json.loads((tmp_path / "best" / "best" / "best.json").read_text())
        assert kept["last"]["step"] == 24 > kept["best"]["step"]
        assert best["step"] == kept["best"]["step"] and best["metric"] == "loss"
        assert kept["best"]["metrics"]["loss"] == pytest.approx(best["value"], rel=1e-6)
        assert kept["best"]["metrics"]["loss"] < kept["last"]["metrics"]["loss"]

    def test_a_run_with_changing_batches_goes_on_exactly(self, tmp_path):
        changing = self.OPTIONS | {
            "higher_is_better": True,
            "batch_size_patience": 0,
            "max_batch_size": 10,
            "rate_patience": 1,
        }
        whole = make(tmp_path / "whole", options=changing)
        whole.train()
        assert whole.trainer.batch_size == 10
        for stop in (6, 10, 24):
            rest = make(tmp_path / "parts", options=changing | {"train_steps": stop})
            rest.train()
        assert rest.trainer.batch_size == 10 and rest.step == whole.step == 24
        pairs = zip(*(r.task.training_modules.model.variables for r in (whole, rest)), strict=True)
        for a, b in pairs:
            assert a.numpy().tobytes() == b.numpy().tobytes()

    def test_actions_may_be_added_to_a_run(self, tmp_path):
        make(tmp_path, options=self.OPTIONS | {"train_steps": 4}).train()
        run = make(tmp_path, options=self.OPTIONS | {"patience": 20, "rate_patience": 9})
        run.train()
        assert run.step == 24

    def test_a_best_metric_needs_validations(self, tmp_path):
        with pytest.raises(ValueError, match="best_metric is 'loss', of validations"):
            make(tmp_path, held_out=False, options=self.OPTIONS | {"keep": "best"})

    def test_actions_need_validations(self, tmp_path):
        with pytest.raises(ValueError, match="patience looks at validations"):
            make(tmp_path, held_out=False, options=self.OPTIONS | {"patience": 2})
        assert not list(tmp_path.rglob("*.*"))


class TestPictures:
    def draw(self, tmp_path, plotter, **options):
        net = NetworkNode("network", InputNode("inputs"), make_network())
        decision = Decision("decision", net.output, db_name="label")
        loss = CrossEntropy.of_node(decision)
        maker = PlotMaker(plotter(net, decision), plot_every=2)
        modules, db_info = assemble_for_training(loss, {"loss": loss}, plot_maker=maker)
        examples = from_arrays({"inputs": INPUTS, "label": LABELS})
        database = Database({"train": examples, "validation": examples})
        options = TrainingOptions(**(FEW | {"train_steps": 8, "pictures": 1} | options))
        optimizer = tf_keras.optimizers.legacy.Adam(1e-2)
        run = Run(modules, db_info, database, BPTT(), optimizer, tmp_path, options, xla=False)
        run.train()
        return sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.png"))

    def test_a_plot_maker_draws_at_its_validations(self, tmp_path):
        found = self.draw(tmp_path, lambda net, decision: Raster(net))
        assert found == [f"plots/step{step}/raster/network/0.png" for step in (4, 8)]

    def test_no_pictures(self, tmp_path):
        assert self.draw(tmp_path, lambda net, decision: Raster(net), pictures=0) == []

    def test_a_plotter_that_fails_does_not_end_the_run(self, tmp_path, capsys):
        def fail(*_):
            raise KeyError("lost")

        plotter = lambda net, decision: Plotter("mine", (decision.pred,), fail)  # noqa: E731
        assert self.draw(tmp_path, plotter) == []
        assert "pictures left out: KeyError: 'lost'" in capsys.readouterr().out
