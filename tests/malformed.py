"""Strategies of malformed input, drawn from what the registered experiments declare.

Values are texts in YAML's flow style, grouped by what they are read as. A field is given a value of
a group that its type does not take, so that nothing valid is drawn and no key is named here.
"""

import functools
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st
from official.core import exp_factory
from official.modeling.hyperparams import Config, OneOfConfig

from orbit_snn import experiments, train
from orbit_snn.configuration_fields import Field, _options, declared
from orbit_snn.configuration_yaml import MAX_BYTES, MAX_DEPTH
from orbit_snn.training import options

TEXTS = {
    "bool": ["true", "False"],
    "int": ["0", "7", "-3", "+1"],
    "float": ["1.5e3", "-0.5", ".5", "1e-3", "5.5"],
    "str": ["no", "off", "12:30", "0x1f", "1_000", "2020-01-01", "'5'", '"1.5"', "'true'", "many"],
    "null": ["null", "~", ""],
    "list": ["[1, 2]", "[x]", "[[]]", "[]"],
    "mapping": ["{a: 1}", "{}"],
    "wide": [str(2**63), str(-(2**63) - 1)],
    "not finite": [".nan", ".inf", "-.Inf", "1e999", "9" * 50],
    "tagged": ["!!binary aGk=", "!!python/name:os.system", "&a 1", "*a", "!!float 5", "!x y"],
}
BESIDE = "nothing of the kind"


class Place(NamedTuple):
    """A field of a config, or a sub-config.

    Attributes:
      experiment: that has it.
      key: with dots.
      parent: the class of the config that it is in.
      field: what is declared about it.
      below: the sub-config, or None.
      chosen: what makes it count: `a.type` and the branch that it is in.
    """

    experiment: str
    key: str
    parent: type
    field: Field
    below: Config | None
    chosen: dict[str, str]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]


def places_of(experiment: str, config: Config, key: str, chosen: dict) -> Iterator[Place]:
    for name, field in declared(type(config)).items():
        value = vars(config).get(name)
        here = f"{key}.{name}" if key else name
        branch = {f"{key}.type": name} if isinstance(config, OneOfConfig) else {}
        sub = value if isinstance(value, Config) else None
        yield Place(experiment, here, type(config), field, sub, chosen)
        if sub is not None:
            yield from places_of(experiment, sub, here, chosen | branch)


@functools.cache
def places() -> dict[str, list[Place]]:
    """Every field of every experiment, each of a class once, by the part of the config it is in."""
    train.import_tasks()
    grouped: dict[str, list[Place]] = {}
    seen = set()
    for name in experiments.names():
        config = exp_factory.get_exp_config(name)
        if not type(getattr(config, "task", None)).__module__.startswith("orbit_snn.tasks"):
            continue  # of Model Garden, or of another test
        for place in places_of(name, config, "", {}):
            mark = (place.parent, place.name)
            if mark not in seen:
                seen.add(mark)
                grouped.setdefault(".".join(place.key.split(".")[:2]), []).append(place)
    return grouped


def some(wanted: Any = lambda place: True) -> st.SearchStrategy[Place]:
    """A place, of any part of the config with equal probability."""
    found = {part: [p for p in each if wanted(p)] for part, each in places().items()}
    return st.sampled_from([part for part in found if found[part]]).flatmap(
        lambda part: st.sampled_from(found[part])
    )


def members(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def taken(hint: Any) -> set[str]:
    """The groups of `TEXTS` that a type takes."""
    if hint is Any:
        return {*TEXTS} - {"not finite", "tagged"}
    if len(members(hint)) > 1:
        return set().union(*map(taken, members(hint)))
    kind = typing.get_origin(hint) or hint
    simple = {bool: {"bool"}, int: {"int"}, float: {"int", "float", "wide"}, str: {"str"}}
    if kind in simple:
        return simple[kind]
    if kind is type(None):
        return {"null"}
    return {"mapping" if issubclass(kind, (Config, Mapping)) else "list"}


def item_of(hint: Any) -> Any:
    """The type of the items of a list, None for what is none."""
    for member in members(hint):
        kind = typing.get_origin(member)
        if isinstance(kind, type) and issubclass(kind, Sequence):
            return typing.get_args(member)[0]
    return None


def of_other_groups(groups: set[str]) -> st.SearchStrategy[str]:
    other = [group for group in TEXTS if group not in groups]
    return st.sampled_from(other).flatmap(lambda group: st.sampled_from(TEXTS[group]))


@st.composite
def wrong_type(draw: st.DrawFn) -> tuple[Place, str]:
    place = draw(some())
    hint, item = place.field.hint, item_of(place.field.hint)
    if item is not None and draw(st.booleans()):
        return place, f"[{draw(of_other_groups(taken(item) | {'null'}))}]"
    nullable = {"null"} if place.field.null else set()
    if any(isinstance(m, type) and issubclass(m, Config) for m in members(hint)):
        return place, draw(of_other_groups(taken(hint) - {"null"} | nullable))
    return place, draw(of_other_groups(taken(hint) | nullable))


@st.composite
def out_of_range(draw: st.DrawFn) -> tuple[Place, str]:
    place = draw(some(lambda place: {*place.field.limits} - {"doc"}))
    limits, item = place.field.limits, item_of(place.field.hint)
    if "options" in limits:
        beside = [BESIDE, "../x", "TYPE", "-"]
        wrong = draw(st.sampled_from([x for x in beside if x not in _options(limits)]))
    else:
        whole = "float" not in taken(item or place.field.hint)
        beyond = st.integers(1, 10**6) if whole else st.floats(1e-3, 1e6)
        bounds = [(name, limits[name]) for name in limits if name != "doc"]
        name, bound = draw(st.sampled_from(bounds))
        far = 0 if name in ("above", "below") and draw(st.booleans()) else draw(beyond)
        value = bound - far if name in ("low", "above") else bound + far
        wrong = repr(int(value) if whole else value)
    return place, wrong if item is None else f"[{wrong}]"


@st.composite
def misspelt(draw: st.DrawFn) -> tuple[Place, str]:
    place = draw(some())
    name, at = place.name, draw(st.integers(0, len(place.name) - 1))
    spelt = [name[:at] + name[at + 1 :], name[:at] + name[at] + name[at:], name.upper(), name + "s"]
    wrong = draw(st.sampled_from([s for s in spelt if s and s not in declared(place.parent)]))
    return place._replace(key=place.key.removesuffix(name) + wrong), "1"


def refused_by_class(place: Place) -> str:
    """What the class that is made of a field's config refuses, as far as its type and name tell."""
    groups = taken(place.field.hint)
    if place.field.limits or place.below is not None or place.name in ("seed", "reward", "name"):
        return ""
    if "str" in groups:
        return BESIDE
    if place.name.endswith("_ms"):
        return "-1"
    return "-3" if groups <= {"int", "null"} else ""


@st.composite
def rule_option(draw: st.DrawFn) -> tuple[str, str]:
    """An experiment and an override of an option that the rule refuses."""
    place = draw(
        some(
            lambda place: (
                place.key.startswith("learning.")
                and place.name != "initializer"  # which is looked up when matrices are drawn
                and refused_by_class(place)
            )
        )
    )
    settings = place.chosen | {place.key: refused_by_class(place)}
    return place.experiment, ",".join(f"{k}={v}" for k, v in settings.items())


@st.composite
def model_option(draw: st.DrawFn) -> str:
    """An override of an option of the network that a neuron or a connection refuses."""
    place = draw(some(lambda place: place.key.startswith("task.model") and refused_by_class(place)))
    settings = place.chosen | {place.key: refused_by_class(place)}
    return ",".join(f"{k}={v}" for k, v in settings.items())


@st.composite
def without_effect(draw: st.DrawFn) -> tuple[str, str]:
    """An experiment and an override of a branch of a one-of that is not the chosen one."""
    inside = draw(some(lambda place: place.below is None and place.chosen and place.field.null))
    *_, (key, branch) = inside.chosen.items()
    others = [name for name in declared(one_of_at(inside, key)) if name not in ("type", branch)]
    settings = inside.chosen | {key: draw(st.sampled_from(others)), inside.key: "null"}
    return inside.experiment, ",".join(f"{k}={v}" for k, v in settings.items())


def one_of_at(place: Place, key: str) -> type:
    config: Any = exp_factory.get_exp_config(place.experiment)
    for part in key.split(".")[:-1]:
        config = getattr(config, part)
    return type(config)


def nested(key: str, text: str) -> str:
    """`a:\\n  b: text` for `a.b`."""
    parts = key.split(".")
    return "\n".join("  " * i + f"{part}:" for i, part in enumerate(parts)) + f" {text}\n"


DEEP = st.integers(MAX_DEPTH + 1, 5000).map(lambda depth: "task: " + "[" * depth + "]" * depth)
BOMB = st.integers(2, 9).map(
    lambda levels: "\n".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, levels))
)
LARGE = st.integers(1, 99).map(lambda more: "#" * (MAX_BYTES + more))
CUT = st.sampled_from(
    ["task: 'x", "task: [1", "task: {a: 1", 'task: "\\q"', "task: \\\n x: %", "? ["]
)
NO_MAPPING = st.sampled_from(
    ["- seed: 1", "5", "seed", "[seed]", "'seed: 1'", "2020-01-01", "|\n x"]
)
NO_NAME = st.sampled_from(
    ["1: 2", "true: 2", "null: 2", "[a]: 2", "? {a: 1}\n: 2", "1.5: 1", "~: 1"]
)
SEVERAL = st.sampled_from(["seed: 1\n---\nseed: 2", "---\n...\n---\nseed: 1"])
TABS = some().map(lambda place: nested(place.key, "1").replace("  ", "\t") + "\tb: 1\n")
TWICE = some().map(lambda place: nested(place.key, "1") + nested(place.key, "2"))
MERGED = st.sampled_from(["<<: {seed: 1}", "runtime:\n  <<: [{tpu: x}]"])
YAML = st.one_of(DEEP, BOMB, LARGE, CUT, NO_MAPPING, NO_NAME, SEVERAL, TABS, TWICE, MERGED)
BINARY = st.binary(max_size=20).map(lambda x: b"seed: 1 #" + x + b"\xff\xfe\x00")

PAIRS = st.one_of(
    some().map(lambda place: place.key),
    some().map(lambda place: f"{place.key}=1,{place.key}=1"),
    some().map(lambda place: f"{place.key}=1,{place.key}.x=1"),
    some().map(lambda place: f"{place.key}.=1"),
    some().map(lambda place: f"{place.key}[0]=1"),
    some().map(lambda place: f"{place.key}=1,,seed=1"),
    some().map(lambda place: f"{place.key}=[1"),
    some().map(lambda place: f"{place.key}='x"),
    some().map(lambda place: f"{place.key}: 1" if "." in place.key else f"-{place.key}=1"),
    some().map(lambda place: f"{place.key}.yaml"),
    st.integers(MAX_DEPTH + 1, 500).map(lambda depth: ".".join("a" * depth) + "=1"),
    st.sampled_from(["foo", "5", "seed=1,foo", "=1", "seed==", "\0", "foo.yaml", "/", "seed=\x1b"]),
)


@st.composite
def conflict(draw: st.DrawFn) -> str:
    """Options of `trainer` that are each in their range and do not go together."""
    loop = draw(st.integers(2, 50))
    interval = draw(st.integers(1, 1000).filter(lambda n: n % loop)) if draw(st.booleans()) else 0
    name = draw(st.sampled_from(["checkpoint_interval", "validation_interval"]))
    apart = {"checkpoint_interval": loop, "validation_interval": loop, name: interval}
    watch = draw(st.sampled_from(options._WATCHES))
    found = [
        {"steps_per_loop": loop, **apart},
        {watch: 5, "best_metric": "''"},
        {"keep": "best", "best_metric": "''"},
        {"best_metric": "loss", "batch_size_patience": 1},
        {"best_metric": "loss", "max_batch_size": 1000},
        {"batch_size": loop, "max_batch_size": loop - 1, "batch_size_patience": 1},
    ]
    return ",".join(f"trainer.{k}={v}" for k, v in draw(st.sampled_from(found)).items())
