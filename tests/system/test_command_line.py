"""The command line: modes, files that a run leaves, what it says."""

import json
import math
import os
import pathlib
import re
import shutil
import threading

import pytest

from orbit_snn import experiments
from orbit_snn.configuration import parse_override, read_yaml, to_yaml
from orbit_snn.tasks import digits  # noqa: F401, it registers the experiment
from tests.system.harness import FEW, TINY, checkpoint_steps, results, snapshot, variables

TRAIN_LINE = re.compile(r"train (\d+)/20 \| loss \S+ \|.* \| [\d.]+ steps/s \| ETA \d+:\d\d:\d\d")
OTHER_LINE = re.compile(r"(validation at step \d+|test at step \d+) \| loss \S+ \|")


def test_params_yaml_is_the_whole_resolved_config(finished, data_dir):
    text = ",".join(f"{key}={value}" for key, value in TINY.items() if key != "runtime.enable_xla")
    text = text.replace("pictures=0", "pictures=1")
    text += f",task.data_dir={data_dir},task.train_split={FEW}"
    expected = parse_override(to_yaml(experiments.load("digits", params_override=text)))
    params = read_yaml(finished.directory / "params.yaml")
    assert params == expected
    neuron = params["task"]["model"]["neuron"]["lif"]
    assert neuron["tau_mem_ms"] == 20.0
    assert neuron["surrogate"].keys() == {"name", "dampening", "slope"}
    assert params["trainer"]["optimizer_config"]["optimizer"]["adam"]["beta_1"] == 0.9
    assert params["learning"]["type"] == "bptt"


def test_params_yaml_is_a_config_file_for_the_same_run(finished):
    path = finished.directory / "params.yaml"
    assert to_yaml(experiments.load("digits", [str(path)])) == path.read_text()


def test_results_json(finished):
    found = results(finished.directory)
    assert (found["experiment"], found["rule"], found["seed"]) == ("digits", "bptt", 0)
    assert (found["step"], found["examples"]) == (20, 360)
    assert found["checkpoint"] == str(finished.directory / "ckpt-20")
    assert math.isfinite(found["steps_per_second"]) and found["steps_per_second"] > 0
    assert found["versions"].keys() >= {"orbit_snn", "tensorflow", "numpy", "python"}
    metrics = found["metrics"]
    assert metrics.keys() >= {"loss", "accuracy", "rate_hz/cell0"}
    assert all(isinstance(v, float) and math.isfinite(v) for v in metrics.values()), metrics
    assert 0 <= metrics["accuracy"] <= 1


def test_one_line_a_loop_and_nothing_of_orbit_or_a_progress_bar(finished):
    process = finished.process
    loops = [int(m[1]) for m in map(TRAIN_LINE.fullmatch, process.lines) if m]
    assert loops == [5, 10, 15, 20], process.stdout
    begin, first, *others = [line for line in process.lines if not TRAIN_LINE.fullmatch(line)]
    assert begin == "training from step 0 to 20"
    assert re.fullmatch(r"traced, compiled and ran the first loop in [\d.]+ s", first)
    assert all(map(OTHER_LINE.match, others)), others
    assert [line.split(" | ")[0] for line in others] == [
        "validation at step 10",
        "validation at step 20",
        "test at step 20",
    ]
    assert not re.search(r"[\r\x1b]|#{2}|\.{4}", process.stdout)
    assert not process.complaints


def test_first_run_prepares_the_data_without_a_progress_bar(cli, tmp_path):
    done = cli.run(tmp_path, {"task.data_dir": tmp_path / "data"}, mode="eval")
    assert (tmp_path / "data" / "digits").is_dir() and "no checkpoint" in done.stderr
    assert not re.search(r"[\r\x1b]|%\|", done.stdout + done.stderr), done.stderr


def test_a_terminal_shows_a_bar(cli, tmp_path):
    parent, child = os.openpty()
    shown = bytearray()

    def read():
        try:
            while piece := os.read(parent, 4096):
                shown.extend(piece)
        except OSError:  # nobody holds the other end any more
            pass

    reader = threading.Thread(target=read)
    reader.start()
    overrides = {"trainer.train_steps": 15, "trainer.validation_interval": 15}
    started = cli.start(tmp_path / "run", overrides, mode="train", stdout=os.ttyname(child))
    finished = started.wait()
    os.close(child)
    reader.join(10)
    os.close(parent)
    text = shown.decode()
    assert finished.code == 0, finished
    assert re.search(r"\[#{10}\.{20}\] 33 %", text), text
    assert re.search(r"\[#{20}\.{10}\] 66 %", text), text
    lines = [line.split("\x1b[K")[-1] for line in text.replace("\r\n", "\n").split("\n")]
    assert sum(line.startswith("train ") for line in lines) == 3
    assert lines[-1] == "", "the bar is gone at the end"


def test_help_explains_every_flag(server):
    done = server.start(["--help"]).wait()
    for flag in ("experiment", "mode", "model_dir", "config_file", "params_override", "tpu"):
        assert f"--{flag}" in done.stdout or f"--[no]{flag}" in done.stdout
    for mode in ("train", "eval", "train_and_eval", "continuous_eval"):
        assert mode in done.stdout
    assert "Traceback" not in done.stderr


def test_train_leaves_the_test_set_alone_and_eval_adds_the_results(cli, finished, tmp_path):
    run = tmp_path / "run"
    cli.succeed(run, mode="train")
    assert checkpoint_steps(run)[-1] == 20
    assert not (run / "results.json").exists()
    before = snapshot(run)
    done = cli.succeed(run, mode="eval")
    assert [line.split(" | ")[0] for line in done.lines] == ["test at step 20"]
    found, expected = results(run), results(finished.directory)
    assert found["step"] == 20 and found["examples"] == 360
    assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-4)
    after = snapshot(run)
    assert {name: after[name] for name in before} == before


def test_continuous_eval_follows_a_training_run_to_its_end(cli, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    overrides = {"trainer.train_steps": 30}
    evaluating = cli.start(run, overrides, mode="continuous_eval", eval_timeout=120)
    training = cli.start(run, overrides, mode="train")
    trained, evaluated = training.wait(), evaluating.wait()
    assert trained.code == 0, trained
    assert evaluated.code == 0, evaluated
    steps = [int(line.split(" | ")[0].split()[-1]) for line in evaluated.lines]
    assert steps == sorted(set(steps)) and steps[-1] == 30, evaluated.stdout
    assert results(run)["step"] == 30
    assert results(run)["examples"] == 360


def test_continuous_eval_gives_up_after_its_timeout(cli, tmp_path):
    done = cli.run(tmp_path, mode="continuous_eval", eval_timeout=1)
    assert done.code != 0
    assert len(done.complaints) == 1 and "no checkpoint" in done.complaints[0], done


def test_later_files_win_and_the_override_wins_over_all(cli, finished, tmp_path):
    """The rule, the seed and the window come from three places."""
    (tmp_path / "mine.yaml").write_text("learning: {tbptt: {truncation: 12}}\nseed: 3\n")
    root = pathlib.Path(__file__).resolve().parents[2]
    files = (root / "configs/digits/tbptt.yaml", tmp_path / "mine.yaml")
    run = tmp_path / "run"
    overrides = {"seed": 7, "trainer.train_steps": 5, "learning.type": None}
    cli.succeed(run, overrides, config_file=files)
    params, found = read_yaml(run / "params.yaml"), results(run)
    tbptt = {"truncation": 12, "update_every": "window"}
    assert params["learning"] == {"type": "tbptt", "tbptt": tbptt}
    assert params["seed"] == found["seed"] == 7
    assert (found["rule"], found["step"]) == ("tbptt", 5)
    kernel = "model/modules/network/cells/0/recurrent/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    assert (variables(run)[kernel] != variables(finished.directory)[kernel]).any()


def test_the_rule_is_a_matter_of_an_override():
    for rule in ("bptt", "tbptt"):
        config = experiments.load("digits", params_override=f"learning.type={rule}")
        assert type(experiments.build_rule(config)).__name__.lower() == rule


def test_a_finished_run_started_again_is_evaluated_once(cli, finished, tmp_path):
    run = shutil.copytree(finished.directory, tmp_path / "run")
    (run / "results.json").unlink()
    before = snapshot(run)
    overrides = {"trainer.pictures": 1, "runtime.enable_xla": "true"}
    done = cli.succeed(run, overrides)
    assert "already complete" in done.stdout
    assert sum(line.startswith("test at step 20") for line in done.lines) == 1
    assert not any(line.startswith("train ") for line in done.lines)
    assert results(run)["metrics"] == results(finished.directory)["metrics"]
    after = snapshot(run)
    kept = [name for name in before if "ckpt" in name or name == "checkpoint"]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert json.loads((run / "results.json").read_text())["step"] == 20
