"""Malformed input ends with one line that says what is wrong, and writes nothing."""

import functools
import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from orbit_snn import train
from tests import malformed

TINY = """
task: {steps: 6, inputs: 4, input_rate_hz: 500, model: {units: [3]}}
trainer: {train_steps: 2, steps_per_loop: 1, batch_size: 1, pictures: 0}
runtime: {enable_xla: false}
"""
ADAM = "trainer.optimizer_config.optimizer.adam"
RATE = "trainer.optimizer_config.learning_rate"


@pytest.fixture(scope="module", autouse=True)
def _fast_configs():
    """Model Garden reads the type hints of a class again for every config that it makes."""
    read = functools.cache(typing.get_type_hints)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typing, "get_type_hints", lambda kind, **options: dict(read(kind, **options)))
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A config file with which a run is made in no time."""
    file = tmp_path_factory.mktemp("tiny") / "tiny.yaml"
    file.write_text(TINY)
    return str(file)


def refusal(folder, experiment="pattern_generation", override="", **flags):
    """The line with which the command line refuses; nothing but it may be seen."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        train.launch(experiment, folder / "a" / "run", params_override=override, **flags)
    line = caught.value.code
    assert isinstance(line, str) and line.startswith("orbit_snn: ")
    assert line.isprintable() and len(line) < 1000
    assert sorted(folder.rglob("*")) == before
    return line


@st.composite
def examples(draw):
    """Flags of one malformed call; `file` is the content of a config file."""
    kind = draw(st.sampled_from(["field", "field", "field", "field", "yaml", "pairs", "options"]))
    if kind == "field":
        fields = [malformed.wrong_type(), malformed.out_of_range(), malformed.misspelt()]
        place, text = draw(st.one_of(fields))
        form = draw(st.sampled_from(["pairs", "override", "file"]))
        if form == "pairs":
            return {"experiment": place.experiment, "override": f"{place.key}={text}"}
        content = malformed.nested(place.key, text)
        given = content.encode() if form == "file" else content
        return {"experiment": place.experiment, "file" if form == "file" else "override": given}
    if kind == "yaml":
        content = draw(malformed.YAML.map(str.encode) | malformed.BINARY)
        return {"file": content} if draw(st.booleans()) else {"path": content}
    if kind == "pairs":
        return {"override": draw(malformed.PAIRS)}
    several = [malformed.rule_option(), malformed.without_effect()]
    conflicts = malformed.conflict().map(lambda override: ("digits", override))
    experiment, override = draw(st.one_of(*several, conflicts))
    return {"experiment": experiment, "override": override}


def test_malformed_configs_are_refused_in_one_line(tmp_path, capsys):
    seen = set()
    file = tmp_path / "mine.yaml"
    file.touch()

    @hypothesis.settings(
        max_examples=300,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(examples())
    def check(example):
        seen.add(repr(example))
        flags = dict(example)
        if "path" in flags:  # the override may be the path of a file
            file.write_bytes(flags.pop("path"))
            flags["override"] = str(file)
        elif "file" in flags:
            file.write_bytes(flags.pop("file"))
            flags["config_files"] = [str(file)]
        refusal(tmp_path, **flags)

    check()
    assert len(seen) >= 200
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5.5", "got 5.5, expected an integer"),
        ("'5'", "got '5', expected an integer"),
        ("-5", "train_steps is -5; expected 1 or more"),
        ("1.5e3", "got 1500.0, expected an integer"),
        ("no", "got 'no', expected an integer"),
        ("12:30", "got '12:30', expected an integer"),
        ("1,trainer.train_steps=2", "got it twice"),
    ],
)
def test_rows_of_the_fault_table(tmp_path, value, message):
    assert message in refusal(tmp_path, override=f"trainer.train_steps={value}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("foo", "got 'foo', expected a YAML mapping, `key=value` pairs or the path of a file"),
        ("trainer.optimizer_config.ema.averag=1", "Did you mean `average_decay`?"),
        ("trainer.checkpoint_interval=null", "checkpoint_interval`: got null, expected an integer"),
        ("trainer.checkpoint_interval=0", "checkpoint_interval is 0; expected a multiple of"),
        ("trainer.validation_interval=7", "is 7; expected a multiple of steps_per_loop, 20"),
        ("trainer.steps_per_loop=3000", "is 100; expected a multiple of steps_per_loop, 3000"),
        ("trainer.eval_batch_size=0", "eval_batch_size is 0; expected 1 or more"),
        ("trainer.clip_norm=-1", "clip_norm is -1.0; expected more than 0"),
        ("trainer.pictures=-1", "pictures is -1; expected 0 or more"),
        ("learning.type=null", "`learning.type`: got null, expected a string"),
    ],
)
def test_options(tmp_path, override, message):
    assert message in refusal(tmp_path, override=override)


@pytest.mark.parametrize("path", ["missing.yaml", ".", "a\0b", "a\nb", "/dev/null/x"])
def test_config_files_that_cannot_be_read(tmp_path, path):
    assert "cannot read the file" in refusal(tmp_path, config_files=[str(tmp_path / path)])


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True, database=None)
@hypothesis.given(override=malformed.model_option())
def test_what_a_network_refuses_leaves_no_directory(tmp_path_factory, tiny, override):
    folder = tmp_path_factory.mktemp("network")
    refusal(folder, override=override, config_files=[tiny])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.best_metric=../../x", "best_metric is '../../x'; expected one of"),
        ("trainer.batch_size=64", "batch of 64"),
        (f"{ADAM}.name='a b'", "adam cannot be made: ValueError: 'a b' is not a valid"),
        (f"{ADAM}.beta_1=1e300", "adam cannot be made"),
        (f"{ADAM}.beta_2=5", "first update, of a gradient of 1, is not finite"),
        (f"{RATE}.cosine.name='a b'", "cannot be made: ValueError: 'a b' is not a valid"),
        (f"{RATE}.type=exponential", "adam cannot be made: "),
        (f"{RATE}.type=null", "Learning rate type must be specified"),
        (f"{RATE}.cosine.initial_learning_rate=-1", "the learning rate is -1.0 at step 0"),
        ("trainer.optimizer_config.optimizer.type=null", "Optimizer type must be specified"),
        ("trainer.optimizer_config.ema={}", "averaged weights are not supported"),
        ("task.model.gain=1e300", "gain is 1e+300; expected a number in the range of float32"),
        ("task.model.readout.neuron.tau_mem_ms=1e300", "float32 goes to 3.40282e+38 only"),
        ("task.model.neuron.lif.surrogate.slope=0", "slope is 0.0; expected more than 0"),
        ("task.model.neuron.lif.surrogate.dampening=-1", "dampening is -1.0; expected 0 or more"),
        ("task.model.units=[3000000]", "more memory than this machine has"),
        ("runtime.num_gpus=99,runtime.distribution_strategy=one_device", "ask for fewer"),
        (
            "learning.type=eprop,learning.eprop.feedback.kind=random,"
            "learning.eprop.feedback.initializer=nothing",
            "initializer is 'nothing'",
        ),
        ("learning.type=plasticity,learning.plasticity.reward=nothing", "nothing"),
    ],
)
def test_what_is_found_while_a_run_is_made_leaves_no_directory(tmp_path, tiny, override, message):
    assert message in refusal(tmp_path, override=override, config_files=[tiny])


def test_a_directory_that_was_there_stays(tmp_path, tiny):
    (tmp_path / "a").mkdir()
    refusal(tmp_path, override="trainer.best_metric=x", config_files=[tiny])
    assert (tmp_path / "a").is_dir()
