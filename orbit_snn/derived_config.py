"""Configs derived from the classes that they configure, so that nothing is declared twice.

A neuron, a learning rule or an options dataclass says its arguments, their types and defaults once,
in its constructor; the config of the same fields is made from that. A new class needs no config.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any

from official.modeling.hyperparams import Config, OneOfConfig

from orbit_snn.configuration import ConfigError
from orbit_snn.types import Initializer, PerNeuron


def snake_case(name: str) -> str:
    """`LeakyTanh` to `leaky_tanh`, `ALIF` to `alif`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def config_class(
    built: type, skip: Collection[str] = (), extra: Mapping[str, Any] | None = None
) -> type[Config]:
    """A config with one field for every argument of a class.

    Args:
      built: a class whose constructor's arguments have types and defaults; an argument that is a
        dataclass itself becomes a sub-config, one of several dataclasses a one-of.
      skip: arguments that the config leaves out.
      extra: more fields, by name, as pairs of type and dataclass field.
    """
    hints = _hints(built)
    fields: list[tuple[str, Any, Any]] = []
    for name, argument in inspect.signature(built).parameters.items():
        if name in skip:
            continue
        if name not in hints or argument.default is inspect.Parameter.empty:
            raise TypeError(
                f"the argument {name} of {built.__name__} needs a type and a default, for its "
                "config is made from them."
            )
        kind, default = hints[name], argument.default
        if _is_choice(kind):
            made_one_of = _choice_of(name, kind, default)
            fields.append((name, made_one_of, dataclasses.field(default_factory=made_one_of)))
        elif dataclasses.is_dataclass(kind):
            nested = config_class(typing.cast(type, kind))
            values = dataclasses.asdict(default)
            fields.append(
                (name, nested, dataclasses.field(default_factory=_making(nested, values)))
            )
        else:
            fields.append((name, _config_type(kind), dataclasses.field(default=default)))
    fields += [(name, kind, field) for name, (kind, field) in (extra or {}).items()]
    made = dataclasses.make_dataclass(f"{built.__name__}Config", fields, bases=(Config,))
    made.__doc__ = inspect.getdoc(built)
    made.__module__ = built.__module__
    return made


def one_of(name: str, classes: Collection[type], default: str, skip: Collection[str] = ()) -> Any:
    """A one-of config over classes: `type` is the snake-case name of one of them."""
    fields: list[tuple[str, Any, Any]] = [("type", str, dataclasses.field(default=default))]
    for built in classes:
        made = config_class(built, skip)
        key = snake_case(built.__name__)
        fields.append((key, made, dataclasses.field(default_factory=made)))
    made_one_of = dataclasses.make_dataclass(name, fields, bases=(OneOfConfig,))
    made_one_of.__module__ = __name__
    return made_one_of


def build(built: type, config: Config, key: str, **arguments: Any) -> Any:
    """Makes an object of a class from the config that was derived from it.

    Args:
      built: the class.
      config: of `config_class(built)`.
      key: where the config stands, for messages.
      **arguments: those that the config leaves out.

    Raises:
      ConfigError: where the class refuses a value.
    """
    hints = _hints(built)
    accepted = inspect.signature(built).parameters
    try:
        for name in accepted:
            if name not in arguments and hasattr(config, name):
                value = getattr(config, name)
                where = f"{key}.{name}"
                if isinstance(value, OneOfConfig):
                    chosen = _members(hints[name])[value.type]
                    value = build(chosen, value.get(), f"{where}.{value.type}")
                elif isinstance(value, Config):
                    value = build(hints[name], value, where)
                arguments[name] = value
        return built(**arguments)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error


def _is_choice(kind: Any) -> bool:
    """Whether a type is one of several dataclasses."""
    members = typing.get_args(kind) if isinstance(kind, types.UnionType) else ()
    return bool(members) and all(map(dataclasses.is_dataclass, members))


def _members(kind: Any) -> dict[str, type]:
    return {snake_case(member.__name__): member for member in typing.get_args(kind)}


def _choice_of(name: str, kind: Any, default: Any) -> Any:
    members = typing.get_args(kind)
    return one_of(f"{name.title()}Config", members, snake_case(type(default).__name__))


def _hints(built: type) -> dict[str, Any]:
    return typing.get_type_hints(inspect.getattr_static(built, "__init__"))


def _config_type(kind: Any) -> Any:
    """The type as a config file can hold it."""
    if kind == Initializer:
        return str
    if kind == PerNeuron:
        return float | list[float]
    if isinstance(kind, types.UnionType) or kind in (int, float, bool, str):
        return kind
    raise TypeError(f"an argument of type {kind} has no place in a config; skip it.")


def _making(made: type[Config], values: dict[str, Any]) -> Any:
    return lambda: made(**values)
