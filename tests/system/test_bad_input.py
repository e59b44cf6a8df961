"""Bad input ends with one line that says what to do, and harms nothing that is on the disk."""

import re
import shutil

import pytest

from tests.system.harness import checkpoint_steps, only_line, snapshot

CONFIG = {
    "unknown key": ({"task.modl.units": "[3]"}, r"`task\.modl`.*Did you mean `model`"),
    "wrong type": ({"trainer.batch_size": "many"}, r"trainer\.batch_size.*'many'.*integer"),
    "not an integer": ({"trainer.train_steps": "1.5e3"}, r"trainer\.train_steps.*1500.*integer"),
    "not a number": ({"task.model.gain": ".nan"}, r"task\.model\.gain.*nan.*finite"),
    "out of range": ({"task.steps_per_row": 0}, r"task\.steps_per_row.*got 0.*at least 1"),
    "negative time": ({"task.model.neuron.lif.tau_mem_ms": -1.0}, r"tau_mem_ms.*-1.*positive"),
    "no layer of 0": ({"task.model.units": "[16,0]"}, r"task\.model\.units.*got 0.*at least 1"),
    "unknown surrogate": (
        {"task.model.neuron.lif.surrogate.name": "triangle"},
        r"surrogate.*'triangle'.*triangular",
    ),
    "unknown rule": ({"learning.type": "bppt"}, r"learning\.type.*bppt.*tbptt"),
    "unknown optimizer": ({"trainer.optimizer_config.optimizer.type": "adm"}, r"adm.*adamw"),
    "seed below": ({"seed": -1}, r"seed.*-1.*at least 0"),
    "seed above": ({"seed": 2**31}, r"seed.*2147483648.*at most 2147483647"),
    "intervals": ({"trainer.checkpoint_interval": 7}, r"checkpoint_interval is 7.*multiple of.*5"),
    "no steps": ({"trainer.train_steps": 0}, r"trainer.*train_steps.*0.*1 or more"),
    "no such split": ({"task.train_split": "training"}, r"split `training`.*train"),
    "empty split": ({"task.train_split": "train[:0%]"}, r"`train\[:0%\]`.*no examples"),
    "too many GPUs": (
        {"runtime.num_gpus": 9, "runtime.distribution_strategy": "one_device"},
        r"num_gpus is 9.*fewer",
    ),
    "uneven replicas": (
        {
            "trainer.batch_size": 15,
            "runtime.distribution_strategy": "mirrored",
            "runtime.logical_cpus": 2,
        },
        r"batch of 15.*2 replicas.*multiple of 2",
    ),
    "large batch": ({"trainer.batch_size": 5000}, r"batch of 5000 .*at most 72"),
}


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run that must come out as it went in."""
    return shutil.copytree(finished.directory, tmp_path / "run")


@pytest.mark.parametrize("case", CONFIG)
def test_config(cli, tmp_path, case):
    overrides, message = CONFIG[case]
    line = only_line(cli.run(tmp_path / "run", overrides, mode="train"))
    assert re.search(message, line), line
    assert not checkpoint_steps(tmp_path / "run")


def test_a_config_error_in_a_process_of_its_own(cli, run):
    before = snapshot(run)
    line = only_line(cli.process(run, {"task.model.unit": "[3]"}))
    assert re.search(r"`task\.model\.unit`.*Did you mean `units`", line), line
    assert snapshot(run) == before


def test_unknown_experiment(cli, tmp_path):
    line = only_line(cli.run(tmp_path / "run", experiment="digit"))
    assert re.search(r"'digit'.*digits, .*pattern_generation.*Did you mean `digits`", line), line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: !!python/object/apply:os.system ['touch evil']\n", r"line 1.*tag"),
        ("seed: 1\nseed: 2\n", r"line 2.*`seed`.*twice"),
        ("trainer: {train_step: 3}\n", r"`trainer\.train_step`.*Did you mean `train_steps`"),
        ("- 1\n", r"YAML mapping"),
        (None, r"mine\.yaml"),
    ],
)
def test_config_file(cli, tmp_path, text, message):
    if text is not None:
        (tmp_path / "mine.yaml").write_text(text)
    line = only_line(cli.run(tmp_path / "run", config_file=(tmp_path / "mine.yaml",)))
    assert "mine.yaml" in line and re.search(message, line), line
    assert not (tmp_path / "run").exists()


def test_model_dir_below_a_file(cli, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    line = only_line(cli.run(file / "run"))
    assert re.search(r"file/run cannot be written.*--model_dir", line), line
    assert file.read_text() == "mine"


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(
    ("overrides", "experiment", "message"),
    [
        ({"seed": 1}, "digits", r"another run.*seed is 0, now it is 1"),
        ({}, "pattern_generation", r"another run"),
        ({"learning.type": "tbptt"}, "digits", r"another run.*learning.*bptt.*tbptt"),
        ({"task.model.units": "[8]"}, "digits", r"task\.model\.units is \[16\], now it is \[8\]"),
    ],
)
def test_directory_of_another_run(cli, run, overrides, experiment, message, mode):
    before = snapshot(run)
    line = only_line(cli.run(run, overrides, experiment, mode))
    assert re.search(message, line) and str(run) in line, line
    assert snapshot(run) == before


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_checkpoint_of_other_shapes(cli, run, mode):
    params = run / "params.yaml"
    params.write_text(params.read_text().replace("units: [16]", "units: [8]"))
    before = snapshot(run)
    line = only_line(cli.run(run, {"task.model.units": "[8]"}, mode=mode))
    assert re.search(
        r"ckpt-20 .* model\.network\.cells\.0\.\S+ of shape \[.*16\].*\[.*8\]", line
    ), line
    kept = [name for name in before if name != "params.yaml"]
    after = snapshot(run)
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}


def test_checkpoint_of_another_optimizer(cli, run):
    """The optimizer belongs to `trainer`, which may change, so only the checkpoint can tell."""
    before = snapshot(run)
    amsgrad = {"trainer.optimizer_config.optimizer.adam.amsgrad": "true"}
    overrides = {"trainer.train_steps": 40, **amsgrad}
    line = only_line(cli.run(run, overrides, mode="train"))
    assert re.search(r"ckpt-20 does not fit", line), line
    assert snapshot(run) == before


def test_eval_without_a_checkpoint(cli, tmp_path):
    line = only_line(cli.run(tmp_path, mode="eval"))
    assert re.search(r"no checkpoint.*--mode=train", line), line
    assert not snapshot(tmp_path)


@pytest.mark.parametrize("mode", ["eval", "continuous_eval"])
def test_eval_of_a_missing_directory(cli, tmp_path, mode):
    line = only_line(cli.run(tmp_path / "missing", mode=mode))
    assert re.search(r"no directory \S+missing", line), line
    assert not (tmp_path / "missing").exists()
