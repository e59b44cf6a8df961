"""Strict configurations: what is read, what is refused and how the refusal reads."""

import copy
import dataclasses
import json
from typing import Any, Optional

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st
from official.core import config_definitions
from official.modeling import hyperparams, optimization

from orbit_snn import configuration as cf
from orbit_snn.configuration_yaml import MAX_BYTES, dump_yaml

NAMES = ["fast_sigmoid", "triangle"]


@dataclasses.dataclass
class Lif(hyperparams.Config):
    units: int = cf.ranged(100, low=1, high=4096, doc="neurons")
    tau_mem_ms: float = cf.ranged(20.0, above=0)
    dropout: float = cf.ranged(0.0, low=0, below=1)
    surrogate: str = cf.choice("fast_sigmoid", lambda: NAMES)
    recurrent: bool = True
    delays: list[int] = cf.ranged([1, 2], low=1)
    rates: list[float] | None = None
    reset: str | None = cf.choice(None, ["zero", "subtract"])
    scale: float | int | str = cf.ranged("auto", low=0)


@dataclasses.dataclass
class Alif(Lif):
    beta: float = cf.ranged(1.7, low=0)


@dataclasses.dataclass
class Cell(hyperparams.OneOfConfig):
    type: str | None = "lif"
    lif: Lif = dataclasses.field(default_factory=Lif)
    alif: Alif = dataclasses.field(default_factory=Alif)


@dataclasses.dataclass
class Task(config_definitions.TaskConfig):
    cell: Cell = dataclasses.field(default_factory=Cell)
    readout: Optional[Lif] = None  # noqa: UP045
    teacher: Lif | None = dataclasses.field(default_factory=Lif)
    layers: list[Lif] = dataclasses.field(default_factory=list)
    span: tuple[int, str] = (1, "ms")
    window: tuple[float, ...] = (0.0, 1.0)
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    options: dict = dataclasses.field(default_factory=lambda: {"a": 1})


def experiment() -> config_definitions.ExperimentConfig:
    optimizer = {"optimizer": {"type": "adam"}, "learning_rate": {"type": "constant"}}
    return config_definitions.ExperimentConfig(
        task=Task(),
        trainer=config_definitions.TrainerConfig(
            optimizer_config=optimization.OptimizationConfig(optimizer)
        ),
        restrictions=["task.train_data.global_batch_size >= 0", "runtime.num_packs != None"],
    )


def nest(key: str, value: Any) -> Any:
    """Returns {"a": {"b": value}} for "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def lookup(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def contents(config: Any) -> Any:
    """Returns every value and its type, of all branches, for an exact comparison."""
    if isinstance(config, hyperparams.Config):
        return type(config), {k: contents(v) for k, v in vars(config).items()}
    if isinstance(config, (list, tuple)):
        return type(config), [contents(item) for item in config]
    return type(config), config


def refusal(config: Any, values: Any, source: str = "run.yaml") -> str:
    """Returns the message with which `values` are refused; checks that nothing has changed."""
    before = contents(config)
    with pytest.raises(cf.ConfigError) as caught:
        cf.apply(config, cf.parse_override(values) if isinstance(values, str) else values, source)
    assert contents(config) == before
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600
    return message


# --- Reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1.5e3", 1500.0), ("1e-3", 1e-3), ("1E+3", 1e3), (".5", 0.5), ("-2.", -2.0)],
        *[("7", 7), ("-7", -7), ("+7", 7), ("0", 0), ("-.inf", -float("inf"))],
        *[("010", "010"), ("0o17", "0o17"), ("0x1f", "0x1f"), ("1_000", "1_000"), ("0b1", "0b1")],
        *[("12:30", "12:30"), ("1:30.5", "1:30.5"), ("2020-01-01", "2020-01-01"), ("=", "=")],
        *[(word, word) for word in ("no", "off", "yes", "on", "No", "OFF", "y", "n", "<<", "inf")],
        *[("true", True), ("false", False), ("null", None), ("~", None), ("''", "")],
        *[("'5'", "5"), ('"a,b"', "a,b"), ("[1, 2.0, off]", [1, 2.0, "off"]), ("[]", [])],
        *[("{b: 1, c: [2]}", {"b": 1, "c": [2]}), ("[1e-3,-2]", [1e-3, -2])],
        *[("gs://bucket/x", "gs://bucket/x"), ("'it''s, so'", "it's, so"), ("a b", "a b")],
    ],
)
def test_scalars_keep_their_type(text, value, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"a:\n  b: {text}\nc: 1\n")
    expected = {"a": {"b": value}, "c": 1}
    for read in (
        cf.read_yaml(path),
        cf.parse_override(f"a.b={text},c=1"),
        cf.parse_override(f" a.b = {text} , c=1,"),
        cf.parse_override(f"  a:\n    b: {text}\n  c: 1"),
    ):
        assert contents(read) == contents(expected)
        assert contents(read["a"]["b"]) == contents(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("{}", {}),
        ("# nothing", {}),
        ('{"a": {"b": [1, "x"]}}', {"a": {"b": [1, "x"]}}),
        ("a.b=1,a.c=x=y,d=it's", {"a": {"b": 1, "c": "x=y"}, "d": "it's"}),
        ("a=b: c,d=x #y", {"a": "b: c", "d": "x #y"}),
        ("a=,b=1", {"a": None, "b": 1}),
        ("a=['x,y', [1, 2], {z: ']'}],b=2", {"a": ["x,y", [1, 2], {"z": "]"}], "b": 2}),
    ],
)
def test_override_forms(text, expected):
    assert cf.parse_override(text) == expected


def test_override_is_a_path(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: {b: off}")
    assert cf.parse_override(f" {path} ") == {"a": {"b": "off"}}
    (tmp_path / "empty.yaml").write_text("")
    assert cf.read_yaml(tmp_path / "empty.yaml") == {}


BAD_TEXTS = {
    "a: 1\nb: 2\na: 3": "line 3, column 1: the key `a` is given twice",
    "a: [1\nb: 2": "line 2, column 2",
    "a: !!python/name:os.system": "line 1, column 4: the tag",
    "a: !!int '5'": "is not allowed",
    "a: ! 5": "is not allowed",
    "a: &x [1]\nb: *x": "line 1, column 4: anchors",
    "a: *x": "anchors",
    "1: 2": "the key 1 is not a string",
    "true: 2": "the key true is not a string",
    "[a]: 2": "is not a string",
    "? {a: 1}\n: 2": "is not a string",
    "a: " + "9" * 5000: "digits",
    "[" * 5000: "nested more than",
    "a: " + "[" * 60 + "]" * 60: "nested more than",
    "a: 1\n---\nb: 2": "line 2, column 1",
    'a: "\\U00110000"': "not valid YAML",
    "a: \0": "special characters",
    "a: 'x": "line 1",
    "\ta: 1": "line 1, column 1",
    "[1, 2]": "expected a YAML mapping",
    "- a": "expected a YAML mapping",
}
BAD_PAIRS = {
    "foo": "got 'foo', expected a YAML mapping",
    "nothing.yaml": "path of a file",
    "5": "got 5, expected a YAML mapping",
    "a=1,a=2": "`a`: got it twice",
    "a=1,a.b=2": "`a.b`: got both",
    "a.b=1,a=2": "`a`: got it twice",
    "a[0]=1": "got 'a[0]=1', expected `key=value`",
    "a..b=1": "expected `key=value`",
    "a-b=1": "expected `key=value`",
    "a=1,,b=2": "got ',b=2'",
    "a=1,b": "got 'b'",
    "a=[1,b=2": "`a`: not valid YAML",
    "a=[1]x,b=2": "`a`: not valid YAML",
    "a='x,b=2": "`a`: not valid YAML",
    "a=!!python/name:os.system": "expected quotes",
    "a=*x": "expected quotes",
    "a=&x 1": "expected quotes",
    "a=[!!int 5]": "is not allowed",
    "a=" + "9" * 50: "digits",
    ".".join("a" * 60) + "=1": "at most 50 levels",
    "\0": "special characters",
    "a: 1\n" * 3: "given twice",
}


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_bad_file_is_refused_with_its_place(text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(cf.ConfigError) as caught:
        cf.read_yaml(path)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{path}: ") and BAD_TEXTS[text] in message


@pytest.mark.parametrize("text", BAD_PAIRS)
def test_bad_override_is_refused(text):
    with pytest.raises(cf.ConfigError) as caught:
        cf.parse_override(text)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 300
    assert message.startswith("--params_override: ") and BAD_PAIRS[text] in message


def test_unreadable_files(tmp_path):
    (tmp_path / "big.yaml").write_text("#" * (MAX_BYTES + 1))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name, words in {
        "big.yaml": "larger than",
        "binary.yaml": "utf-8",
        "missing.yaml": "No such file",
        ".": "Is a directory",
        "a\0b": "null byte",
        "a\nb": "No such file",
    }.items():
        with pytest.raises(cf.ConfigError, match=words) as caught:
            cf.read_yaml(tmp_path / name)
        assert str(caught.value).isprintable()
    with pytest.raises(cf.ConfigError, match="larger than"):
        cf.parse_override("#" * (MAX_BYTES + 1))


# --- Applying --------------------------------------------------------------------------------


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


# --- Validating, locking, writing ------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trainer.train_steps", 5.5, "ExperimentConfig: `trainer.train_steps`: got 5.5"),
        ("task.cell.lif.units", 0, "`task.cell.lif.units`: got 0"),
        ("task.cell.alif.surrogate", "x", "one of fast_sigmoid, triangle"),
        ("task.cell.type", "lstm", "one of lif, alif"),
        ("task.cell.lif", None, "`task.cell.lif`: got null"),
        ("task.cell.lif", Cell(), "got 'Cell', expected a mapping with fields of Lif"),
        ("task.layers", [Lif(units=-1)], "`task.layers[0].units`: got -1"),
        ("task.cell.lif.delays", (1, 2), "expected a list"),
        ("trainer.loss_upper_bound", float("nan"), "got nan"),
        ("task.train_data.global_batch_size", -1, "`task.train_data.global_batch_size` is -1"),
        ("runtime.num_packs", None, "`runtime.num_packs`: got null"),
    ],
)
def test_validate_finds_values_set_from_python(key, value, message):
    config = experiment()
    cf.validate(config)
    parent, _, name = key.rpartition(".")
    setattr(lookup(config, parent), name, value)
    with pytest.raises(cf.ConfigError) as caught:
        cf.validate(config)
    assert message in str(caught.value) and str(caught.value).isprintable()


def test_validate_finds_fields_that_are_not_declared():
    config = experiment()
    config.trainer.override({"train_stepz": 3}, is_strict=False)
    with pytest.raises(cf.ConfigError, match="Did you mean `train_steps`"):
        cf.validate(config)


def test_an_untyped_config_keeps_to_the_keys_it_has():
    config = experiment()
    config.task.model = hyperparams.Config({"a": 1})
    cf.validate(config)
    cf.apply(config, {"task": {"model": {"a": 2}}}, "x")
    assert config.task.model.a == 2
    assert "expected a field of Config (a)" in refusal(config, "task.model.long=2")


def test_validate_accepts_subclasses():
    config = experiment()
    config.task.layers = [Alif(beta=2.0)]
    cf.validate(config)
    assert "beta: 2.0" in cf.to_yaml(config)


@pytest.mark.parametrize(
    "kind",
    [
        *[config_definitions.DataConfig, config_definitions.TrainerConfig],
        *[config_definitions.RuntimeConfig, config_definitions.TaskConfig],
        *[config_definitions.ExperimentConfig, optimization.OptimizationConfig],
        *[optimization.OptimizerConfig, optimization.LrConfig, optimization.WarmupConfig],
    ],
)
def test_defaults_of_model_garden_are_valid(kind):
    cf.validate(kind())
    fresh = kind()
    cf.apply(fresh, cf.parse_override(cf.to_yaml(kind())), "x")
    assert fresh == kind()


@pytest.mark.parametrize(
    "field",
    [
        lambda: cf.ranged(0, above=0),
        lambda: cf.ranged(5, low=1, high=4),
        lambda: cf.ranged([1, 0], low=1),
        lambda: cf.ranged(1.0, below=1),
        lambda: cf.ranged(float("nan"), low=0),
        lambda: cf.choice("x", ["a", "b"]),
    ],
)
def test_a_default_outside_its_limits_is_refused(field):
    with pytest.raises(cf.ConfigError, match="^default: "):
        field()


def test_metadata_and_defaults():
    fields = {field.name: field for field in dataclasses.fields(Lif)}
    assert fields["units"].metadata == {"low": 1, "high": 4096, "doc": "neurons"}
    assert fields["reset"].metadata == {"options": ("zero", "subtract"), "doc": ""}
    assert Lif().delays == [1, 2] and Lif().delays is not Lif().delays


def test_lock_reaches_every_level():
    config = experiment()
    config.task.layers = [Lif()]
    cf.lock(config)
    before = contents(config)
    for key in ("trainer", "task.cell.lif", "trainer.optimizer_config.optimizer.adam", "runtime"):
        target = lookup(config, key)
        name = next(iter(vars(target)))
        with pytest.raises(ValueError, match="locked"):
            setattr(target, name, getattr(target, name))
    with pytest.raises(ValueError, match="locked"):
        config.task.layers[0].units = 3
    assert "`trainer.train_steps`: got 3" in refusal(config, "trainer.train_steps=3")
    assert "locked" in refusal(config, "task.readout.units=3")
    assert contents(config) == before
    cf.validate(config)
    assert config.replace(trainer={"train_steps": 3}).trainer.train_steps == 3


def test_yaml_round_trip_is_exact():
    config = experiment()
    changes = """
      task:
        cell: {type: alif, alif: {units: 7, rates: [1, 2.5e-7], reset: subtract, scale: 3}}
        readout: {dropout: 0.25}
        layers: [{units: 1}, {tau_mem_ms: 1e-5, scale: 1e22}]
        span: [3, 'off']
        window: []
        weights: {b: 1, a: -0.0}
        options: {x: [], y: {z: null}, w: '1e-3', v: "12:30", u: "a\\nb\\u2028: #"}
        name: '010'
      runtime: {distribution_strategy: off, tpu: ''}
      trainer: {optimizer_config: {ema: {}, warmup: {type: linear}}}
    """
    cf.apply(config, cf.parse_override(changes), "x")
    text = cf.to_yaml(config)
    fresh = experiment()
    cf.apply(fresh, cf.parse_override(text), "params.yaml")
    assert contents(fresh.task) == contents(config.task)
    assert fresh == config and fresh.as_dict() == config.as_dict()
    assert cf.to_yaml(fresh) == text == cf.to_yaml(copy.deepcopy(config))
    theirs = experiment()
    values = yaml.load(text, yaml.FullLoader)
    theirs.override({key: values[key] for key in ("trainer", "runtime")})
    assert theirs.trainer == config.trainer and theirs.runtime == config.runtime
    assert "units: 7\n" in text and "window: []\n" in text and "sgd" not in text


@hypothesis.settings(max_examples=200, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False)
        | st.text(max_size=20)
        | st.text("0123456789.:+-eExo_ ~#'\"\\,[]{}", max_size=8),
        max_size=4,
    )
)
def test_written_values_read_back(tree):
    text = "---\n" + dump_yaml(tree)
    assert contents(list(cf.parse_override(text).items())) == contents(list(tree.items()))
    assert yaml.safe_load(text) == tree


def test_nearest():
    assert cf.nearest("adm", ["sgd", "adam"]) == " Did you mean `adam`?"
    assert cf.nearest("LIF", ["lif"]) == " Did you mean `lif`?"
    assert cf.nearest("zzz", ["adam"]) == cf.nearest(3, ["a"]) == cf.nearest("a", []) == ""
