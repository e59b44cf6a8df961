"""Values set in a config: what is accepted, what is refused and how the refusal reads."""

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from official.modeling import optimization

from orbit_snn import configuration as cf
from tests.configuration_samples import (
    NAMES,
    Alif,
    Cell,
    Lif,
    Task,
    contents,
    experiment,
    lookup,
    nest,
    refusal,
)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("runtime.distribution_strategy=off", "runtime.distribution_strategy", "off"),
        ("runtime.loss_scale=2", "runtime.loss_scale", 2.0),
        ("trainer.train_steps=5", "trainer.train_steps", 5),
        ("trainer.loss_upper_bound=1", "trainer.loss_upper_bound", 1.0),
        ("trainer.optimizer_config.ema={}", "trainer.optimizer_config.ema.average_decay", 0.99),
        ("trainer.optimizer_config.ema.start_step=3", "trainer.optimizer_config.ema.start_step", 3),
        ("task.train_data.seed=3", "task.train_data.seed", 3),
        ("task.train_data.input_path=[a,b]", "task.train_data.input_path", ["a", "b"]),
        ("task.train_data.input_path=a", "task.train_data.input_path", "a"),
        ("task.cell={type: alif, alif: {beta: 0}}", "task.cell.alif.beta", 0.0),
        ("task.cell.type=null", "task.cell.type", None),
        ("task.cell.lif.delays=[3]", "task.cell.lif.delays", [3]),
        ("task.cell.lif.delays=[]", "task.cell.lif.delays", []),
        ("task.cell.lif.rates=[1,0.5]", "task.cell.lif.rates", [1.0, 0.5]),
        ("task.cell.lif.rates=", "task.cell.lif.rates", None),
        ("task.cell.lif.reset=zero", "task.cell.lif.reset", "zero"),
        ("task.cell.lif.scale=1", "task.cell.lif.scale", 1),
        ("task.cell.lif.scale=1.5", "task.cell.lif.scale", 1.5),
        ("task.readout.units=3", "task.readout.units", 3),
        ("task.readout=null", "task.readout", None),
        ("task.span=[2,off]", "task.span", (2, "off")),
        ("task.window=[1,2,3]", "task.window", (1.0, 2.0, 3.0)),
    ],
)
def test_good_values_are_set(text, key, value):
    config = experiment()
    cf.apply(config, cf.parse_override(text), "flag")
    assert contents(lookup(config, key)) == contents(value)
    cf.validate(config)


def test_lists_and_dicts_are_replaced_and_sub_configs_kept():
    config = experiment()
    trainer = config.trainer
    cf.apply(config, {"task": {"layers": [{"units": 3}, {"units": 4, "dropout": 0.5}]}}, "a")
    cf.apply(config, {"task": {"layers": [{"units": 5}, {"dropout": 0.1}]}}, "b")
    assert [(lay.units, lay.dropout) for lay in config.task.layers] == [(5, 0), (100, 0.1)]
    assert all(type(layer) is Lif for layer in config.task.layers)
    cf.apply(config, {"task": {"weights": {"a": 1}, "options": {"b": {"c": [1, "x"]}}}}, "c")
    cf.apply(config, {"task": {"weights": {"b": 2}}, "trainer": {"train_steps": 9}}, "d")
    assert config.task.weights.as_dict() == {"b": 2.0}
    assert config.task.options.as_dict() == {"b": {"c": [1, "x"]}}
    assert config.trainer is trainer and trainer.train_steps == 9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("trainer.train_steps=5.5", "run.yaml: `trainer.train_steps`: got 5.5, expected an int"),
        ("trainer.train_steps='5'", "got '5', expected an integer"),
        ("trainer.train_steps=1e3", "got 1000.0, expected an integer"),
        ("trainer.train_steps=true", "got true, expected an integer"),
        ("trainer.train_steps=", "got null, expected an integer"),
        (f"trainer.train_steps={2**63}", "an integer of 64 bits"),
        ("trainer.loss_upper_bound=.inf", "got inf, expected a finite number"),
        ("trainer.loss_upper_bound=1e999", "got inf, expected a finite number"),
        ("trainer.loss_upper_bound=.nan", "got nan, expected a finite number"),
        ("trainer.loss_upper_bound=no", "got 'no', expected a finite number"),
        ({"trainer": {"loss_upper_bound": 10**400}}, "expected a finite number"),
        ({"trainer": {"loss_upper_bound": 10**5000}}, "got a very large int"),
        ("trainer.train_tf_function=no", "got 'no', expected true or false"),
        ("trainer.train_tf_function=1", "got 1, expected true or false"),
        ("runtime.distribution_strategy=true", "got true, expected a string (in quotes)"),
        ("runtime.loss_scale=[1]", "expected a string or a finite number"),
        ("trainer=5", "got 5, expected a mapping with fields of TrainerConfig"),
        ("trainer=", "`trainer`: got null, expected a mapping"),
        ("task.teacher=null", "`task.teacher`: got null, expected a mapping with fields of Lif"),
        ("trainer.train_stepz=5", "expected a field of TrainerConfig. Did you mean `train_steps`?"),
        ("Trainer.train_steps=5", "Did you mean `trainer`?"),
        ("trainer.train_steps: 5", "Nest the keys"),
        ("_locked=true", "`_locked`: got true, expected a field"),
        ("default_params={}", "expected a field"),
        ("task.model.foo=1", "`task.model.foo`: got 1, expected a field of Config (it has none)"),
        ("task.train_data.input_path.a=b", "expected a field of Config"),
        ("trainer.optimizer_config.ema.average=1", "Did you mean `average_decay`?"),
        ("task.readout.unit=1", "`task.readout.unit`: got 1, expected a field of Lif. Did you"),
        ("task.cell.alif.bet=1", "Did you mean `beta`?"),
        ("task.cell.lif.beta=1", "`task.cell.lif.beta`: got 1, expected a field of Lif (units,"),
        ("task.cell.type=LIFF", "a string which is one of lif, alif. Did you mean `lif`?"),
        ("task.cell.type=type", "`task.cell.type`: got 'type', expected a string which is one of"),
        ("task.cell.type=3", "got 3, expected a string (in quotes) which is one of lif, alif"),
        ("trainer.optimizer_config.optimizer.type=adm", "Did you mean `adam`?"),
        ("task.cell.lif.units=0", "got 0, expected an integer at least 1 and at most 4096."),
        ("task.cell.lif.units=x", "got 'x', expected an integer at least 1 and at most 4096."),
        ("task.cell.lif.tau_mem_ms=0", "expected a finite number above 0."),
        ("task.cell.lif.dropout=1", "expected a finite number at least 0 and below 1."),
        ("task.cell.lif.surrogate=triangel", "Did you mean `triangle`?"),
        ("task.cell.lif.reset=none", "expected a string which is one of zero, subtract."),
        ("task.cell.lif.delays=[1,0]", "`task.cell.lif.delays[1]`: got 0, expected an integer at"),
        ("task.cell.lif.delays=[1,[2]]", "`task.cell.lif.delays[1]`: got [2], expected an integer"),
        ("task.cell.lif.delays=1", "expected a list (an integer)"),
        ("task.cell.lif.delays=12", "expected a list"),
        ({"task": {"cell": {"lif": {"delays": (1, 2)}}}}, "got (1, 2), expected a list"),
        ("task.cell.lif.scale=-1", "got -1, expected an integer at least 0."),
        ("task.layers=[{units: 0}]", "`task.layers[0].units`: got 0"),
        ("task.layers=[{unit: 1}]", "`task.layers[0].unit`: got 1, expected a field of Lif"),
        ("task.layers=[1]", "`task.layers[0]`: got 1, expected a mapping"),
        ("task.span=[1]", "expected a list (an integer, a string) of 2 items"),
        ("task.weights.a=x", "`task.weights.a`: got 'x', expected a finite number"),
        ("task.weights=[1]", "expected a mapping"),
        ("task.options.as_dict=1", "Model Garden reserves"),
        ("task.options._locked=1", "Model Garden reserves"),
        ("task.options.a=[[1]]", "`task.options.a`: got [[1]], expected a flat list"),
        ("task.options.a=[1,{b: 2}]", "expected a flat list"),
        ({"task": {"options": {1: 2}}}, "got 1, expected a string as key"),
        ({"task": {"options": {"a": {1}}}}, "got {1}, expected a number, a string"),
        ({1: 2}, "run.yaml: `1`: got 2, expected a field of ExperimentConfig"),
        ({"a\nb\x1b": 2}, "`a\\nb\\x1b`: got 2"),
        (["trainer"], "run.yaml: got ['trainer'], expected a mapping"),
        ({"trainer": {"train_steps": 5, "max_to_keep": "x"}}, "`trainer.max_to_keep`: got 'x'"),
        ({"trainer": Lif()}, "got 'Lif', expected a mapping with fields of TrainerConfig"),
        ({"runtime": {"tpu": "x" * 9999, "num_gpus": "y" * 9999}}, "`runtime.num_gpus`: got 'yyy"),
    ],
)
def test_bad_values_are_refused(values, message):
    assert message in refusal(experiment(), values)


# Wrong values for some fields, as (dotted key, values that fit neither its type nor its range).
NOT_NUMBERS = st.one_of(
    st.booleans(), st.text(max_size=9), st.lists(st.integers(), max_size=2), st.just({"a": 1})
)
NOT_STRINGS = st.one_of(
    st.booleans(), st.integers(), st.floats(), st.lists(st.text(max_size=3)), st.just({"z": "y"})
)
WRONG_VALUES = {
    "trainer.train_steps": NOT_NUMBERS | st.floats() | st.integers(min_value=2**63) | st.none(),
    "trainer.optimizer_config.ema.average_decay": NOT_NUMBERS | st.none(),
    "trainer.optimizer_config.learning_rate.type": NOT_STRINGS | st.text(max_size=3),
    "trainer": NOT_NUMBERS.filter(lambda v: v != {}) | st.none() | st.integers(),
    "task.cell.alif.units": NOT_NUMBERS | st.floats() | st.integers(max_value=0) | st.none(),
    "task.cell.lif.tau_mem_ms": NOT_NUMBERS | st.floats(max_value=0) | st.just(float("inf")),
    "task.cell.lif.surrogate": NOT_STRINGS | st.text().filter(lambda v: v not in NAMES),
    "task.cell.lif.recurrent": NOT_STRINGS.filter(lambda v: not isinstance(v, bool)) | st.text(),
    "task.readout.delays": st.text() | st.lists(NOT_NUMBERS, min_size=1) | st.integers(),
    "task.layers": st.text() | st.lists(NOT_STRINGS, min_size=1),
    "runtime.distribution_strategy": NOT_STRINGS | st.none(),
}
PARENTS = ["", "task", "task.model", "task.readout", "task.cell", "task.cell.alif", "trainer"]
PARENTS += ["trainer.optimizer_config.optimizer.sgd", "trainer.optimizer_config.ema", "runtime"]
FIELDS = {name for kind in (Task, Alif, Cell) for name in kind._get_annotations()}
FIELDS |= set(vars(experiment().trainer)) | set(vars(experiment().runtime))
FIELDS |= {"task", "trainer", "runtime", *vars(optimization.EMAConfig())}
FIELDS |= set(vars(experiment().trainer.optimizer_config.optimizer.sgd))


@st.composite
def malformed(draw: st.DrawFn) -> Any:
    """Draws values, or the text of an override, of which exactly one thing is wrong."""
    kind = draw(st.sampled_from(["value", "key", "text"]))
    if kind == "text":
        head = draw(st.sampled_from(["", "task: {}\n", "trainer:\n  train_steps: 5\n"]))
        tail = ["? [", "x: !!python/object/apply:os.system [ls]", "x: *y", "- 1", "x: 'y", "\x00"]
        noise = draw(st.text(st.characters(exclude_characters="\r\n\x85\u2028\u2029"), max_size=9))
        return head + "# " + noise + "\n" + draw(st.sampled_from(tail))
    if kind == "value":
        key = draw(st.sampled_from(sorted(WRONG_VALUES)))
        values = nest(key, draw(WRONG_VALUES[key]))
    else:
        name = draw(st.text(max_size=12).filter(lambda name: name not in FIELDS))
        value: Any = {name: draw(st.none() | st.integers() | st.text(max_size=5))}
        for part in reversed(draw(st.sampled_from(PARENTS)).split(".")):
            value = {part: value} if part else value
        values = value
    good = {"runtime": {"num_gpus": 1}}  # which must not be set either
    values = values if "runtime" in values else {**good, **values}
    return json.dumps(values) if draw(st.booleans()) else values


CONFIG = experiment()


@hypothesis.settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(malformed())
def test_malformed_overrides_change_nothing(values):
    refusal(CONFIG, values)
