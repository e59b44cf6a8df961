"""Fields of configs: their declaration with limits, and the check of a value against these."""

import dataclasses
import operator
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from official.modeling.hyperparams import OneOfConfig

from orbit_snn.configuration_errors import ConfigError, escaped, nearest, shown

NOUNS = {bool: "true or false", int: "an integer", float: "a finite number", str: "a string"}
NOUNS[type(None)] = "null"
_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "low": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "high": ("at most", operator.le),
    "below": ("below", operator.lt),
}


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


class Field(NamedTuple):
    """What is declared about a field; `null` tells whether its default is None."""

    hint: Any
    limits: Mapping[str, Any]
    null: bool


class Spot(NamedTuple):
    """Where a value stands: its dotted key, the source it came from, the limits of its field."""

    key: str
    source: str
    limits: Mapping[str, Any]

    def child(self, name: object) -> "Spot":
        """Returns the spot of the field `name` below this one."""
        return Spot(f"{self.key}.{name}" if self.key else str(name), self.source, {})

    def item(self, index: int) -> "Spot":
        """Returns the spot of one item of the list here."""
        return self._replace(key=f"{self.key}[{index}]")

    def error(self, value: object, expected: str, hint: str = "") -> ConfigError:
        """Returns the error for `value` at this spot."""
        key = f" `{escaped(self.key)[:200]}`:" if self.key else ""
        text = " ".join(filter(None, [expected, _limits_text(self.limits)]))
        return ConfigError(f"{self.source}:{key} got {shown(value)}, expected {text}.{hint}")


def declared(kind: Any) -> dict[str, Field]:
    """Reads what a config class declares about its fields.

    Args:
        kind: a dataclass; of a `OneOfConfig`, the options of `type` are its branches.

    Returns:
        The declarations by field name.
    """
    hints = typing.get_type_hints(kind)
    fields = {
        field.name: Field(hints[field.name], field.metadata, field.default is None)
        for field in dataclasses.fields(kind)
    }
    if issubclass(kind, OneOfConfig):
        branches = tuple(name for name in fields if name != "type")
        fields["type"] = fields["type"]._replace(limits={"options": branches})
    return fields


def check_limits(value: Any, spot: Spot) -> None:
    """Checks a value, or each one in a list or dict, against the limits of its field.

    Args:
        value: the value; its type is known to be right.
        spot: where it stands, with the limits.

    Raises:
        ConfigError: for the first value out of its range or none of its options.
    """
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check_limits(item, spot.item(index))
    elif isinstance(value, dict):
        for key, item in value.items():
            check_limits(item, spot.child(key)._replace(limits=spot.limits))
    elif isinstance(value, (bool, int, float, str)):
        options = _options(spot.limits)
        if options is not None and value not in options:
            raise spot.error(value, NOUNS.get(type(value), ""), nearest(value, options))
        for name, (_, holds) in _BOUNDS.items():
            bounded = name in spot.limits and not isinstance(value, (bool, str))
            if bounded and not holds(value, spot.limits[name]):
                raise spot.error(value, NOUNS.get(type(value), ""))


def _field(default: Any, limits: dict[str, Any], doc: str) -> Any:
    if not callable(limits.get("options")):  # whose names may not be registered yet
        check_limits(default, Spot("", "default", limits))
    metadata = {**limits, "doc": doc}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


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
