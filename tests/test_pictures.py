"""Figures of networks at work, and what tools/plot.py reads and draws of a run."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from matplotlib import pyplot
from matplotlib.image import imread

from orbit_snn.tools import plot
from orbit_snn.training import pictures
from orbit_snn.training.pictures import CellActivity

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS = 20


def spikes(neurons, rate=0.1, seed=0):
    return (np.random.default_rng(seed).random((STEPS, neurons)) < rate).astype(np.float32)


def walk(outputs):
    return np.random.default_rng(1).normal(size=(STEPS, outputs)).cumsum(0)


def activity(**changes):
    arguments = {
        "inputs": spikes(8),
        "cells": [CellActivity("hidden", spikes(30), True), CellActivity("rate", walk(5), False)],
        "readouts": {"out": walk(3)},
        "dt_ms": 2.0,
    }
    return pictures.activity_figure(**{**arguments, **changes})


def names(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def words(ax):
    return " ".join(text.get_text() for text in ax.texts)


def is_drawn(image):
    return image.dtype == np.uint8 and image[..., :3].std() > 1


class TestActivity:
    def test_has_a_panel_for_inputs_each_cell_and_each_readout(self):
        figure = activity()
        assert names(figure)[:4] == ["inputs", "hidden", "rate", "out"]
        inputs, hidden, rate, out = figure.axes[:4]
        assert inputs.collections and hidden.collections and not hidden.images
        assert rate.images and not rate.collections
        assert len(out.lines) == 3

    def test_panels_share_an_axis_in_milliseconds(self):
        figure = activity()
        assert {ax.get_xlim() for ax in figure.axes[:4]} == {(-1.0, 39.0)}
        assert figure.axes[3].get_xlabel() == "time (ms)"

    def test_a_spike_is_where_it_was(self):
        only = np.zeros((STEPS, 6))
        only[7, 4] = 1
        bars = activity(inputs=only).axes[0].collections[0].get_segments()
        assert len(bars) == 1
        np.testing.assert_allclose(bars[0].mean(0), [14.0, 4.0])

    def test_inputs_with_other_numbers_than_0_and_1_are_a_heat_map(self):
        assert activity(inputs=walk(4)).axes[0].images
        assert not activity(inputs=spikes(4)).axes[0].images

    def test_signed_heat_maps_are_symmetric_about_0(self):
        low, high = activity(inputs=walk(4)).axes[0].images[0].get_clim()
        assert low == -high < 0

    def test_many_neurons_are_picked_evenly_and_the_panel_says_so(self):
        cell = CellActivity("wide", np.ones((STEPS, 50)), True)
        ax = activity(cells=[cell], max_neurons=10).axes[1]
        assert len(ax.collections[0].get_segments()) == 10 * STEPS
        assert "10 of 50 neurons" in words(ax)
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "22", "49"]

    def test_the_rate_counts_real_steps_only(self):
        outputs = np.zeros((STEPS, 2))
        outputs[10:] = 1
        cells = [CellActivity("late", outputs, True)]
        assert "mean 250 Hz" in words(activity(cells=cells).axes[1])
        assert "mean 0 Hz" in words(activity(cells=cells, real_steps=10).axes[1])

    def test_padding_is_shaded_in_every_panel(self):
        whole, padded = activity(real_steps=STEPS), activity(real_steps=15)
        assert [len(ax.patches) for ax in whole.axes[:4]] == [0] * 4
        assert [len(ax.patches) for ax in padded.axes[:4]] == [1] * 4
        assert padded.axes[3].patches[0].get_x() == 29.0

    def test_targets_are_dashed(self):
        lines = activity(targets={"out": walk(3)}).axes[3].lines
        assert sum(line.is_dashed() for line in lines) == 3 and len(lines) == 6

    @pytest.mark.parametrize(("outputs", "entries"), [(1, 0), (2, 2), (12, 12), (13, 0)])
    def test_legend_of_up_to_12_outputs(self, outputs, entries):
        legend = activity(readouts={"out": walk(outputs)}).axes[3].get_legend()
        assert (len(legend.get_texts()) if legend else 0) == entries

    def test_nothing_but_inputs_of_one_silent_neuron(self):
        figure = activity(inputs=np.zeros((STEPS, 1)), cells=[], readouts={}, title="quiet")
        assert names(figure) == ["inputs"]
        assert is_drawn(pictures.to_image(figure))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"inputs": np.zeros(STEPS)}, r"inputs has shape \[20\]"),
            (
                {"readouts": {"out": np.zeros((3, 2))}},
                r"out has shape \[3, 2\]; expected \[20, N\]",
            ),
            ({"targets": {"out": np.zeros((STEPS, 1))}}, r"out: targets have shape \[20, 1\]"),
            ({"targets": {"other": walk(3)}}, r"targets are for \['other'\]"),
            ({"real_steps": 21}, "real_steps is 21"),
            ({"max_neurons": 0}, "max_neurons is 0"),
        ],
    )
    def test_errors_name_what_does_not_fit(self, changes, message):
        with pytest.raises(ValueError, match=message):
            activity(**changes)


class TestWeights:
    def test_every_array_is_a_heat_map_symmetric_about_0(self):
        weights = {
            "w": np.array([[1.0, -3.0]]),
            "b": np.array([2.0, 1.0]),
            "zero": np.zeros((2, 2)),
        }
        figure = pictures.weights_figure(weights)
        limits = {ax.get_title(loc="left"): ax.images[0].get_clim() for ax in figure.axes[:3]}
        assert limits == {"w": (-3, 3), "b": (-2, 2), "zero": (-1, 1)}
        assert is_drawn(pictures.to_image(figure))

    def test_any_rank_and_what_is_not_finite(self):
        weights = {"s": np.float32(2), "k": np.ones((3, 3, 2, 4)), "n": np.full((2, 2), np.nan)}
        figure = pictures.weights_figure(weights)
        assert figure.axes[1].images[0].get_array().shape == (18, 4)
        assert is_drawn(pictures.to_image(figure))

    def test_none_at_all(self):
        with pytest.raises(ValueError, match="no weights"):
            pictures.weights_figure({})


class TestConfusion:
    def test_counts_are_written_and_colours_are_fractions_of_a_row(self):
        ax = pictures.confusion_figure(np.array([[3, 1], [0, 0]]), ["cat", "dog"]).axes[0]
        np.testing.assert_array_equal(ax.images[0].get_array(), [[0.75, 0.25], [0, 0]])
        assert words(ax).split() == ["3", "1"]
        assert ax.get_title(loc="left") == "75.0% of 4 right"
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["cat", "dog"]

    def test_many_classes_and_no_examples(self):
        assert is_drawn(pictures.to_image(pictures.confusion_figure(np.eye(60))))
        assert is_drawn(pictures.to_image(pictures.confusion_figure(np.zeros((2, 2)))))

    def test_errors(self):
        with pytest.raises(ValueError, match=r"shape \[2, 3\]"):
            pictures.confusion_figure(np.ones((2, 3)))
        with pytest.raises(ValueError, match="1 names; expected 2"):
            pictures.confusion_figure(np.ones((2, 2)), ["a"])


class TestFiles:
    def test_image_is_as_tf_summary_takes_it(self):
        image = pictures.to_image(activity())
        assert image.ndim == 4 and image.shape[0] == 1 and image.shape[2:] == (800, 4)
        assert is_drawn(image)

    def test_save_makes_directories_and_leaves_nothing_else(self, tmp_path):
        path = tmp_path / "a" / "b" / "activity.png"
        for _ in range(2):
            pictures.save(activity(), path, dpi=100)
        assert [file.name for file in path.parent.iterdir()] == ["activity.png"]
        assert imread(path).shape[1:] == (800, 4)

    def test_a_save_that_fails_keeps_the_old_file(self, tmp_path):
        path = tmp_path / "activity.png"
        path.write_text("old")
        with pytest.raises(ValueError, match="unknown"):
            pictures.save(activity(title=r"$\unknown$"), path)
        assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]

    def test_pyplot_holds_none_of_the_figures(self):
        pictures.to_image(activity())
        assert pyplot.get_fignums() == []


def write(directory, scalars, steps, image=None):
    """Events of one process: the value of a tag at a step is `scalars[tag] + step`."""
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default():
        for step in steps:
            for tag, value in scalars.items():
                tf.summary.scalar(tag, value + step, step)
            tf.summary.histogram("rates/cell0", [0.0, 1.0], step)
            if image is not None:
                tf.summary.image("images/activity", image, step)
    writer.close()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "first"
    scalars = {"loss": 0.5, "accuracy": 0.0, "learning_rate": 0.0, "rate_hz/cell0": 1.0}
    write(directory / "train", scalars, range(0, 40, 2))
    write(directory / "validation", {"loss": 1.0, "accuracy": 0.0, "examples": 9}, (10, 20, 30),
          pictures.to_image(activity()))  # fmt: skip
    return directory


class TestPlot:
    def test_curves_are_scalars_by_split_and_tag(self, run_dir):
        found = plot.curves(run_dir)
        assert set(found) == {"train", "validation"}
        assert set(found["train"]) == {"loss", "accuracy", "learning_rate", "rate_hz/cell0"}
        steps, values = found["train"]["loss"]
        np.testing.assert_array_equal(steps, np.arange(0, 40, 2))
        np.testing.assert_allclose(values, steps + 0.5)
        np.testing.assert_array_equal(found["validation"]["loss"][0], [10, 20, 30])

    def test_later_values_of_a_step_replace_earlier_ones(self, tmp_path):
        write(tmp_path / "train", {"loss": 0.0}, (0, 10, 20, 30))
        write(tmp_path / "train", {"loss": 0.5}, (20, 30, 40))
        steps, values = plot.curves(tmp_path)["train"]["loss"]
        np.testing.assert_array_equal(steps, [0, 10, 20, 30, 40])
        np.testing.assert_array_equal(values, [0, 10, 20.5, 30.5, 40.5])

    def test_all_of_a_long_run_and_directories_below(self, tmp_path):
        write(tmp_path / "validation" / "easy", {"loss": 0.0}, range(300))
        assert len(plot.curves(tmp_path)["validation"]["easy/loss"][0]) == 300

    def test_file_of_one_run(self, run_dir, capsys):
        plot.main([str(run_dir)])
        assert capsys.readouterr().out.strip() == str(run_dir / "curves.png")
        assert imread(run_dir / "curves.png").std() > 0.01

    def test_panels_and_the_newest_picture(self, run_dir):
        run = plot.read(run_dir)
        assert [picture.step for picture in run.pictures] == [30]
        curves, images = plot.draw([run]).subfigs
        assert names(curves) == ["loss", "accuracy", "learning_rate", "rate_hz/cell0"]
        assert [len(ax.lines) for ax in curves.axes] == [2, 2, 1, 1]
        assert names(images) == ["validation/images/activity, step 30"]

    def test_several_runs_have_a_legend(self, run_dir, tmp_path):
        write(tmp_path / "second" / "train", {"loss": 3.0}, (0, 10))
        part = plot.draw([plot.read(run_dir), plot.read(tmp_path / "second")]).subfigs[0]
        labels = [text.get_text() for text in part.legends[0].get_texts()]
        assert labels == ["first train", "first validation", "second train"]
        assert len(part.axes[0].lines) == 3

    def test_runs_of_the_same_name_are_told_apart_by_path(self, run_dir, tmp_path):
        write(tmp_path / "first" / "train", {"loss": 3.0}, (0, 10))
        paths = [str(run_dir), str(tmp_path / "first")]
        runs = plot.distinct([plot.read(path) for path in paths], paths)
        assert [run.name for run in runs] == paths

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["missing"], "there is no directory missing"),
            (["."], "no events to draw in train or validation"),
            (["there", "--out=a.jpg"], "ends in .png"),
        ],
    )
    def test_errors_are_one_line_and_not_exit_code_0(
        self, arguments, message, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as error:
            plot.main(arguments)
        assert message in str(error.value.code)
        assert "\n" not in str(error.value.code)

    def test_runs_as_a_script_without_being_installed(self, tmp_path):
        command = [sys.executable, str(ROOT / "tools" / "plot.py"), "missing"]
        clean = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL")
        }
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=clean)
        assert result.returncode == 1
        assert result.stderr == "plot: there is no directory missing.\n"
