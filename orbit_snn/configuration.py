"""Makes Model Garden's configs strict: types, ranges, names and locks are checked all the way down.

Their `Config` accepts any value for any field, new keys under an empty sub-config, and locks
its first level only. A configuration is read here in three steps::

    for path in config_files:
        apply(config, read_yaml(path), source=path)
    apply(config, parse_override(params_override), source="--params_override")
    validate(config)
    lock(config)
"""

import contextlib
import dataclasses
import operator
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from official.modeling.hyperparams import Config, OneOfConfig

from orbit_snn.configuration_yaml import ConfigError, dump_yaml, nearest, shown
from orbit_snn.configuration_yaml import parse_override as parse_override
from orbit_snn.configuration_yaml import read_yaml as read_yaml

_NOUNS = {bool: "true or false", int: "an integer", float: "a finite number", str: "a string"}
_NOUNS[type(None)] = "null"
_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "low": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "high": ("at most", operator.le),
    "below": ("below", operator.lt),
}
_MAX_INT = 2**63
_MAX_FLOAT = sys.float_info.max


def ranged(
    default: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    doc: str = "",
) -> Any:
    """Declares a dataclass field for a number, or a list of numbers, in a range.

    Args:
        default: the default; a list is copied for each config.
        low: the least value allowed.
        high: the greatest value allowed.
        above: a bound which is itself not allowed.
        below: a bound which is itself not allowed.
        doc: what the field is.

    Returns:
        The dataclass field; its metadata has the arguments that were given.

    Raises:
        ConfigError: when the default is out of the range.
    """
    bounds = {"low": low, "high": high, "above": above, "below": below}
    return _field(default, {name: b for name, b in bounds.items() if b is not None}, doc)


def choice(
    default: Any, options: Iterable[Any] | Callable[[], Iterable[Any]], doc: str = ""
) -> Any:
    """Declares a dataclass field for one of several values, or a list of them.

    Args:
        default: the default; a list is copied for each config.
        options: the values allowed, or a function which returns them and is called at each check.
        doc: what the field is.

    Returns:
        The dataclass field; its metadata has the options.

    Raises:
        ConfigError: when the default is none of the options and these are no function.
    """
    allowed = options if callable(options) else tuple(options)
    return _field(default, {"options": allowed}, doc)


def apply(config: Config, values: Mapping[str, Any], source: str) -> None:
    """Sets fields of a config, all or none.

    A list or a dict replaces the present one; a mapping for a sub-config sets its fields only, and
    makes the sub-config where there is none.

    Args:
        config: the config to change.
        values: nested mapping from field name to value.
        source: the file or flag which the values came from, for the messages.

    Raises:
        ConfigError: when a key is unknown, a value has the wrong type, is out of its range or is
            none of its options, or the config is locked; nothing is changed then.
    """
    spot = _Spot("", source, {})
    checked = _check_fields(config, values, spot)
    changes = list(_changes(config, checked, spot))
    for target, _, value, here in changes:
        if vars(target).get("_locked"):
            raise here.error(value, "no change: the config is locked")
    for target, name, value, _ in changes:
        _set(target, name, value)


def validate(config: Config) -> None:
    """Checks each field of a config and its restrictions, also where Python code has set them.

    Args:
        config: the config to check.

    Raises:
        ConfigError: for the first field found to be wrong, or the first restriction broken.
    """
    spot = _Spot("", type(config).__name__, {})
    _check_fields(config, _contents(config), spot)
    try:
        config.validate()
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(_broken_restriction(config, str(error.args[0]))) from error


def lock(config: Config) -> None:
    """Makes a config and all configs in it read-only.

    Args:
        config: the config. A list in it can still be changed in place; a tuple cannot.
    """
    for value in _contents(config).values():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, Config):
                lock(item)
    config.lock()


def to_yaml(config: Config) -> str:
    """Writes the resolved config, each default included.

    Args:
        config: a valid config.

    Returns:
        YAML which, applied to a new default config, gives an equal one. Of a `OneOfConfig` only
        the chosen branch is written.

    Raises:
        ConfigError: when the config is not valid.
    """
    checked = _check_fields(config, _contents(config), _Spot("", type(config).__name__, {}))
    return dump_yaml(_plain(_Patch(type(config), checked)))


@dataclasses.dataclass(frozen=True)
class _Patch:
    """Checked values for the fields of a config of type `kind`."""

    kind: type[Any]
    values: dict[str, Any]


class _Field(NamedTuple):
    """What is declared about a field; `null` tells whether its default is None."""

    hint: Any
    limits: Mapping[str, Any]
    null: bool


class _Spot(NamedTuple):
    """Where a value stands: its dotted key, the source it came from, the limits of its field."""

    key: str
    source: str
    limits: Mapping[str, Any]

    def child(self, name: object) -> "_Spot":
        """Returns the spot of the field `name` below this one."""
        return _Spot(f"{self.key}.{name}" if self.key else str(name), self.source, {})

    def item(self, index: int) -> "_Spot":
        """Returns the spot of one item of the list here."""
        return self._replace(key=f"{self.key}[{index}]")

    def error(self, value: object, expected: str, hint: str = "") -> ConfigError:
        """Returns the error for `value` at this spot."""
        key = f" `{self.key[:200]}`:" if self.key else ""
        text = " ".join(filter(None, [expected, _limits_text(self.limits)]))
        return ConfigError(f"{self.source}:{key} got {shown(value)}, expected {text}.{hint}")


def _field(default: Any, limits: dict[str, Any], doc: str) -> Any:
    if not callable(limits.get("options")):  # whose names may not be registered yet
        _check_limits(default, _Spot("", "default", limits))
    metadata = {**limits, "doc": doc}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _declared(kind: Any) -> dict[str, _Field]:
    hints = typing.get_type_hints(kind)
    fields = {
        field.name: _Field(hints[field.name], field.metadata, field.default is None)
        for field in dataclasses.fields(kind)
    }
    if issubclass(kind, OneOfConfig):
        branches = tuple(name for name in fields if name != "type")
        fields["type"] = fields["type"]._replace(limits={"options": branches})
    return fields


def _contents(config: Config) -> dict[str, Any]:
    return {k: v for k, v in vars(config).items() if k not in config.RESERVED_ATTR}


def _schema(config: Config) -> dict[str, _Field]:
    if type(config) is Config:  # untyped: the keys it has, as in Model Garden
        return {name: _Field(Any, {}, True) for name in _contents(config)}
    return _declared(type(config))


def _options(limits: Mapping[str, Any]) -> tuple[Any, ...] | None:
    options = limits.get("options")
    if options is None:
        return None
    return tuple(options() if callable(options) else options)


def _limits_text(limits: Mapping[str, Any]) -> str:
    options = _options(limits)
    bounds = [f"{words} {limits[name]}" for name, (words, _) in _BOUNDS.items() if name in limits]
    if options is None:
        return " and ".join(bounds)
    return "which is one of " + ", ".join(map(str, options))


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
    if kind in _NOUNS:
        return _NOUNS[kind]
    if _is_config(kind):
        return f"a mapping with fields of {kind.__name__}"
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a mapping"
    if isinstance(kind, type) and issubclass(kind, Sequence):
        inner = [a for a in typing.get_args(members[0]) if a is not ...]
        return "a list" + (f" ({', '.join(map(_describe, inner))})" if inner else "")
    return str(members[0])


def _check_fields(config: Config, values: Any, spot: _Spot) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise spot.error(values, _describe(type(config)))
    schema = _schema(config)
    checked = {}
    for name, value in values.items():
        if name not in schema:
            raise _unknown(name, value, config, spot)
        field = schema[name]
        here = spot.child(name)._replace(limits=field.limits)
        checked[name] = _check_field(field, value, vars(config).get(name), here)
    return checked


def _unknown(name: object, value: Any, config: Config, spot: _Spot) -> ConfigError:
    names = list(_schema(config))
    hint = nearest(name, names)
    if not hint and isinstance(name, str) and "." in name:
        hint = " Nest the keys: `a: {b: 1}` for a.b."
    known = "" if hint else f" ({', '.join(names) or 'it has none'})"
    return spot.child(name).error(value, f"a field of {type(config).__name__}{known}", hint)


def _check_field(field: _Field, value: Any, current: Any, spot: _Spot) -> Any:
    if value is None:
        members = _members(field.hint)
        optional = type(None) in members and not any(map(_is_config, members))
        if field.null or optional or field.hint is Any:
            return None
        raise spot.error(value, _describe(field.hint))
    checked = _check(field.hint, value, current, spot)
    _check_limits(checked, spot)
    return checked


def _check_limits(value: Any, spot: _Spot) -> None:
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_limits(item, spot.item(index))
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_limits(item, spot.child(key)._replace(limits=spot.limits))
    elif isinstance(value, (bool, int, float, str)):
        options = _options(spot.limits)
        if options is not None and value not in options:
            raise spot.error(value, _NOUNS.get(type(value), ""), nearest(value, options))
        for name, (_, holds) in _BOUNDS.items():
            bounded = name in spot.limits and not isinstance(value, (bool, str))
            if bounded and not holds(value, spot.limits[name]):
                raise spot.error(value, _NOUNS.get(type(value), ""))


def _check(hint: Any, value: Any, current: Any, spot: _Spot) -> Any:
    if hint is Any:
        return _check_any(value, spot)
    members = _members(hint)
    if len(members) > 1:
        return _check_union(members, value, current, spot)
    kind = typing.get_origin(hint) or hint
    if kind in _NOUNS:
        return _check_scalar(kind, value, spot)
    if _is_config(kind):
        return _check_config(kind, value, current, spot)
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return _check_dict(hint, value, spot)
    if isinstance(kind, type) and issubclass(kind, Sequence):
        return _check_sequence(hint, kind, value, spot)
    raise spot.error(value, f"no value: its type hint {hint} is not supported")


def _check_union(members: tuple[Any, ...], value: Any, current: Any, spot: _Spot) -> Any:
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


def _check_scalar(kind: type[Any], value: Any, spot: _Spot) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    expected = _NOUNS[kind]
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


def _check_config(kind: type[Any], value: Any, current: Any, spot: _Spot) -> _Patch:
    if isinstance(value, Config):
        if not isinstance(value, kind):
            raise spot.error(type(value).__name__, _describe(kind))
        return _Patch(type(value), _check_fields(value, _contents(value), spot))
    if not isinstance(value, Mapping):
        raise spot.error(value, _describe(kind))
    base = current if isinstance(current, kind) else kind()
    return _Patch(type(base), _check_fields(base, value, spot))


def _check_dict(hint: Any, value: Any, spot: _Spot) -> dict[str, Any]:
    if isinstance(value, Config):  # as which Model Garden stores a dict
        value = _contents(value)
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


def _check_sequence(hint: Any, kind: type[Any], value: Any, spot: _Spot) -> Any:
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


def _flat(items: list[Any], kind: type[Any], spot: _Spot) -> Any:
    """Returns the items as `kind`; Model Garden stores neither nested nor mixed lists."""
    kinds = {next((k for k in (list, tuple, dict, _Patch) if isinstance(i, k)), 0) for i in items}
    if kinds & {list, tuple} or len(kinds) > 1:
        raise spot.error(items, "a flat list of values or of mappings")
    return kind(items)


def _check_any(value: Any, spot: _Spot) -> Any:
    if isinstance(value, Config) and type(value) is not Config:
        return _check_config(type(value), value, None, spot)
    if isinstance(value, (Config, Mapping)):
        return _check_dict(dict, value, spot)
    if isinstance(value, (list, tuple)):
        return _check_sequence(type(value), type(value), value, spot)
    for kind in _NOUNS:
        if isinstance(value, kind):
            return _check_scalar(kind, value, spot)
    raise spot.error(value, "a number, a string, true, false, null, a list or a mapping")


def _changes(
    config: Config, checked: dict[str, Any], spot: _Spot
) -> Iterator[tuple[Config, str, Any, _Spot]]:
    """Yields the config, the field, the value and the spot of each assignment to make."""
    for name, value in checked.items():
        current = vars(config).get(name)
        if isinstance(value, _Patch) and type(current) is value.kind:
            yield from _changes(current, value.values, spot.child(name))
        else:
            yield config, name, value, spot.child(name)


def _set(config: Config, name: str, value: Any) -> None:
    if isinstance(value, (dict, list, tuple)):  # which Model Garden would merge
        setattr(config, name, None)
    setattr(config, name, _resolve(value, _build))


def _build(patch: _Patch) -> Config:
    config = patch.kind()
    for target, name, value, _ in _changes(config, patch.values, _Spot("", "", {})):
        _set(target, name, value)
    return config


def _plain(patch: _Patch) -> dict[str, Any]:
    values = patch.values
    if issubclass(patch.kind, OneOfConfig):
        values = {k: values[k] for k in ("type", values["type"]) if k is not None}
    return {name: _resolve(value, _plain) for name, value in values.items()}


def _resolve(value: Any, convert: Callable[[_Patch], Any]) -> Any:
    """Returns the value with each patch in it converted, and dicts in the order of their keys."""
    if isinstance(value, _Patch):
        return convert(value)
    if isinstance(value, dict):
        return {key: _resolve(value[key], convert) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return type(value)(_resolve(item, convert) for item in value)
    return value


def _broken_restriction(config: Config, text: str) -> str:
    found = []
    for key in re.findall(r"`\s*([A-Za-z_][\w.]*)\s*`", text):
        with contextlib.suppress(AttributeError):
            found.append(f"`{key}` is {shown(operator.attrgetter(key)(config))}")
    return f"{type(config).__name__}: broken restriction: {text} ({', '.join(found)})."
