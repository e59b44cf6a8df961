"""Strict configurations: declared, validated, locked and written."""

import copy
import dataclasses

import pytest
import yaml
from official.core import config_definitions
from official.modeling import hyperparams, optimization

from orbit_snn import configuration as cf
from tests.configuration_samples import Alif, Cell, Lif, contents, experiment, lookup, refusal


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


def test_nearest():
    assert cf.nearest("adm", ["sgd", "adam"]) == " Did you mean `adam`?"
    assert cf.nearest("LIF", ["lif"]) == " Did you mean `lif`?"
    assert cf.nearest("zzz", ["adam"]) == cf.nearest(3, ["a"]) == cf.nearest("a", []) == ""
