"""Checks values against the type hints of a config's fields, all the way down."""

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from official.modeling.hyperparams import Config, OneOfConfig

from orbit_snn.configuration_errors import ConfigError, nearest
from orbit_snn.configuration_fields import NOUNS, Field, Spot, check_limits, declared

_MAX_INT = 2**63
_MAX_FLOAT = sys.float_info.max


@dataclasses.dataclass(frozen=True)
class Patch:
    """Checked values for the fields of a config of type `kind`."""

    kind: type[Any]
    values: dict[str, Any]


def contents(config: Config) -> dict[str, Any]:
    """Returns the values of all fields, without what Model Garden keeps beside them."""
    return {k: v for k, v in vars(config).items() if k not in config.RESERVED_ATTR}


def check_fields(config: Config, values: Any, spot: Spot) -> dict[str, Any]:
    """Checks values for fields of a config, which stays as it is.

    Args:
        config: the config whose fields the values are for.
        values: nested mapping from field name to value.
        spot: where the mapping stands.

    Returns:
        The values as they are to be stored; for each sub-config a `Patch`.

    Raises:
        ConfigError: for the first key that is unknown, and the first value of the wrong type, out
            of its range or none of its options.
    """
    if not isinstance(values, Mapping):
        raise spot.error(values, _describe(type(config)))
    schema = _schema(config)
    checked = {}
    for name, value in values.items():
        if name not in schema:
            raise _unknown(name, values, config, spot)
        field = schema[name]
        here = spot.child(name)._replace(limits=field.limits)
        checked[name] = _check_field(field, value, vars(config).get(name), here)
    return checked


def _schema(config: Config) -> dict[str, Field]:
    if type(config) is Config:  # untyped: the keys it has, as in Model Garden
        return {name: Field(Any, {}, True) for name in contents(config)}
    return declared(type(config))


def _members(hint: Any) -> tuple[Any, ...]:
    """Returns the alternatives of a union, or the hint itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _is_config(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Config)


def _describe(hint: Any) -> str:
    members = [member for member in _members(hint) if member is not type(None)]
    if len(members) > 1:
        return " or ".join(dict.fromkeys(map(_describe, members)))
    kind = typing.get_origin(members[0]) or members[0]
    if kind in NOUNS:
        return NOUNS[kind]
    if _is_config(kind):
        return f"a mapping with fields of {kind.__name__}"
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a mapping"
    if isinstance(kind, type) and issubclass(kind, Sequence):
        inner = [a for a in typing.get_args(members[0]) if a is not ...]
        return "a list" + (f" ({', '.join(map(_describe, inner))})" if inner else "")
    return str(members[0])


def _unknown(name: object, values: Mapping[Any, Any], config: Config, spot: Spot) -> ConfigError:
    names = list(_schema(config))
    hint = _in_branch(name, values, config, spot) or nearest(name, names)
    if not hint and isinstance(name, str) and "." in name:
        hint = " Nest the keys: `a: {b: 1}` for a.b."
    known = "" if hint else f" ({', '.join(names) or 'it has none'})"
    return spot.child(name).error(values[name], f"a field of {type(config).__name__}{known}", hint)


def _in_branch(name: object, values: Mapping[Any, Any], config: Config, spot: Spot) -> str:
    """The key that was meant where a field of the chosen branch was put beside the branches."""
    branch = values.get("type", vars(config).get("type"))
    chosen = vars(config).get(str(branch)) if isinstance(config, OneOfConfig) else None
    if not isinstance(chosen, Config) or name not in _schema(chosen):
        return ""
    return f" Did you mean `{spot.child(branch).child(name).key}`?"


def _check_field(field: Field, value: Any, current: Any, spot: Spot) -> Any:
    if value is None:
        members = _members(field.hint)
        optional = type(None) in members and not any(map(_is_config, members))
        if field.null or optional or field.hint is Any:
            return None
        raise spot.error(value, _describe(field.hint))
    checked = _check(field.hint, value, current, spot)
    check_limits(checked, spot)
    return checked


def _check(hint: Any, value: Any, current: Any, spot: Spot) -> Any:
    if hint is Any:
        return _check_any(value, spot)
    members = _members(hint)
    if len(members) > 1:
        return _check_union(members, value, current, spot)
    kind = typing.get_origin(hint) or hint
    if kind in NOUNS:
        return _check_scalar(kind, value, spot)
    if _is_config(kind):
        return _check_config(kind, value, current, spot)
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return _check_dict(hint, value, spot)
    if isinstance(kind, type) and issubclass(kind, Sequence):
        return _check_sequence(hint, kind, value, spot)
    raise spot.error(value, f"no value: its type hint {hint} is not supported")


def _check_union(members: tuple[Any, ...], value: Any, current: Any, spot: Spot) -> Any:
    ordered = sorted(members, key=lambda member: type(value) is not member)  # 1 stays an int
    wanted = [m for m in ordered if m is not type(None) or value is None]
    if isinstance(value, (Mapping, Config)):
        wanted = [m for m in wanted if _is_config(m)] or wanted
    for member in wanted:
        try:
            return _check(member, value, current, spot)
        except ConfigError:
            if len(wanted) == 1:
                raise
    raise spot.error(value, _describe(typing.Union[members]))  # noqa: UP007


def _check_scalar(kind: type[Any], value: Any, spot: Spot) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    expected = NOUNS[kind]
    if kind is float and number and -_MAX_FLOAT <= value <= _MAX_FLOAT:
        return float(value)
    if kind is int and number and isinstance(value, int):
        if -_MAX_INT <= value < _MAX_INT:
            return int(value)
        expected += " of 64 bits"
    if kind is str and isinstance(value, str):
        return str.__str__(value)  # also of a subclass, such as NumPy's
    if (kind is bool and isinstance(value, bool)) or (kind is type(None) and value is None):
        return value
    quote = " (in quotes)" if kind is str and isinstance(value, (bool, int, float)) else ""
    raise spot.error(value, expected + quote)


def _check_config(kind: type[Any], value: Any, current: Any, spot: Spot) -> Patch:
    if isinstance(value, Config):
        if not isinstance(value, kind):
            raise spot.error(type(value).__name__, _describe(kind))
        return Patch(type(value), check_fields(value, contents(value), spot))
    if not isinstance(value, Mapping):
        raise spot.error(value, _describe(kind))
    base = current if isinstance(current, kind) else kind()
    return Patch(type(base), check_fields(base, value, spot))


def _check_dict(hint: Any, value: Any, spot: Spot) -> dict[str, Any]:
    if isinstance(value, Config):  # as which Model Garden stores a dict
        value = contents(value)
    if not isinstance(value, Mapping):
        raise spot.error(value, _describe(hint))
    inner = (typing.get_args(hint) or (str, Any))[1]
    for key in value:
        if not isinstance(key, str):
            raise spot.error(key, "a string as key")
        if hasattr(Config, key) or key in Config.RESERVED_ATTR:
            raise spot.error(key, "another key: Model Garden reserves this one")
    return {
        key: _check(inner, item, None, spot.child(key)._replace(limits=spot.limits))
        for key, item in value.items()
    }


def _check_sequence(hint: Any, kind: type[Any], value: Any, spot: Spot) -> Any:
    inner = typing.get_args(hint)
    fixed = kind is tuple and bool(inner) and inner[-1] is not ...
    accepted = list if kind is list else (list, tuple)
    if not isinstance(value, accepted) or (fixed and len(value) != len(inner)):
        size = f" of {len(inner)} items" if fixed else ""
        raise spot.error(value, _describe(hint) + size)
    hints = inner if fixed else (inner[:1] or (Any,)) * len(value)
    items = [
        _check(each, item, None, spot.item(index))
        for index, (each, item) in enumerate(zip(hints, value, strict=True))
    ]
    return _flat(items, tuple if kind is tuple or isinstance(value, tuple) else list, spot)


def _flat(items: list[Any], kind: type[Any], spot: Spot) -> Any:
    """Returns the items as `kind`; Model Garden stores neither nested nor mixed lists."""
    kinds = {next((k for k in (list, tuple, dict, Patch) if isinstance(i, k)), 0) for i in items}
    if kinds & {list, tuple} or len(kinds) > 1:
        raise spot.error(items, "a flat list of values or of mappings")
    return kind(items)


def _check_any(value: Any, spot: Spot) -> Any:
    if isinstance(value, Config) and type(value) is not Config:
        return _check_config(type(value), value, None, spot)
    if isinstance(value, (Config, Mapping)):
        return _check_dict(dict, value, spot)
    if isinstance(value, (list, tuple)):
        return _check_sequence(type(value), type(value), value, spot)
    for kind in NOUNS:
        if isinstance(value, kind):
            return _check_scalar(kind, value, spot)
    raise spot.error(value, "a number, a string, true, false, null, a list or a mapping")
