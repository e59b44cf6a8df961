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
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from official.modeling.hyperparams import Config, OneOfConfig

from orbit_snn.configuration_checks import Patch, check_fields, contents
from orbit_snn.configuration_errors import ConfigError as ConfigError
from orbit_snn.configuration_errors import nearest as nearest
from orbit_snn.configuration_errors import shown
from orbit_snn.configuration_fields import Spot
from orbit_snn.configuration_fields import choice as choice
from orbit_snn.configuration_fields import ranged as ranged
from orbit_snn.configuration_yaml import dump_yaml
from orbit_snn.configuration_yaml import parse_override as parse_override
from orbit_snn.configuration_yaml import read_yaml as read_yaml


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
    spot = Spot("", source, {})
    checked = check_fields(config, values, spot)
    changes = list(_changes(config, checked, spot))
    for target, _, value, here in changes:
        if vars(target).get("_locked"):
            raise here.error(value, "no change: the config is locked")
    for target, name, value, _ in changes:
        _set(target, name, value)


def check_effect(config: Config, values: Mapping[str, Any], source: str) -> None:
    """Refuses values for a branch of a one-of that is not the chosen one.

    Args:
        config: the resolved config.
        values: what was applied to it.
        source: the flag which the values came from, for the message.

    Raises:
        ConfigError: naming the branch, the chosen type, and how to choose the other.
    """

    def check(config: Config, values: Mapping[str, Any], key: str) -> None:
        for name, value in values.items():
            here = f"{key}.{name}" if key else name
            if isinstance(config, OneOfConfig) and name not in ("type", config.type):
                raise ConfigError(
                    f"{source}: `{here}` has no effect: {key}.type is {config.type}; "
                    f"add {key}.type={name}."
                )
            below = vars(config).get(name)
            if isinstance(below, Config) and isinstance(value, Mapping):
                check(below, value, here)

    check(config, values, "")


def validate(config: Config) -> None:
    """Checks each field of a config and its restrictions, also where Python code has set them.

    Args:
        config: the config to check.

    Raises:
        ConfigError: for the first field found to be wrong, or the first restriction broken.
    """
    spot = Spot("", type(config).__name__, {})
    check_fields(config, contents(config), spot)
    try:
        config.validate()
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(_broken_restriction(config, str(error.args[0]))) from error


def lock(config: Config) -> None:
    """Makes a config and all configs in it read-only.

    Args:
        config: the config. A list in it can still be changed in place; a tuple cannot.
    """
    for value in contents(config).values():
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
    checked = check_fields(config, contents(config), Spot("", type(config).__name__, {}))
    return dump_yaml(_plain(Patch(type(config), checked)))


def _changes(
    config: Config, checked: dict[str, Any], spot: Spot
) -> Iterator[tuple[Config, str, Any, Spot]]:
    """Yields the config, the field, the value and the spot of each assignment to make."""
    for name, value in checked.items():
        current = vars(config).get(name)
        if isinstance(value, Patch) and type(current) is value.kind:
            yield from _changes(current, value.values, spot.child(name))
        else:
            yield config, name, value, spot.child(name)


def _set(config: Config, name: str, value: Any) -> None:
    if isinstance(value, (dict, list, tuple)):  # which Model Garden would merge
        setattr(config, name, None)
    setattr(config, name, _resolve(value, _build))


def _build(patch: Patch) -> Config:
    config = patch.kind()
    for target, name, value, _ in _changes(config, patch.values, Spot("", "", {})):
        _set(target, name, value)
    return config


def _plain(patch: Patch) -> dict[str, Any]:
    values = patch.values
    if issubclass(patch.kind, OneOfConfig):
        values = {k: values[k] for k in ("type", values["type"]) if k is not None}
    return {name: _resolve(value, _plain) for name, value in values.items()}


def _resolve(value: Any, convert: Callable[[Patch], Any]) -> Any:
    """Returns the value with each patch in it converted, and dicts in the order of their keys."""
    if isinstance(value, Patch):
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
