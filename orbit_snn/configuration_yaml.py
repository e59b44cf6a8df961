"""Reads and writes the YAML of configurations, so that no value silently becomes another one.

YAML 1.1, which PyYAML and Model Garden read, turns `off` into False, `12:30` into 750 and `1.5e3`
into a string, and keeps the last of two equal keys. Here numbers have the forms of YAML 1.2, only
`true` and `false` are booleans, and tags, anchors and repeated keys are errors.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from orbit_snn.configuration_errors import ConfigError, shown

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
_MAX_DIGITS = 40
_FLAG = "--params_override"
_PREFIX = "tag:yaml.org,2002:"

_SCALARS: dict[str, tuple[str, list[str]]] = {  # tag: (form, possible first characters)
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}

_PAIRS = re.compile(r"[\w.\[\]-]+\s*=")  # how `a.b=c,d=e` starts, and YAML does not
_KEY = re.compile(r"\s*([^=,]*?)\s*=\s*")
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_QUOTED = r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\""
_TOKEN = re.compile(rf"{_QUOTED}|[\[\]{{}}]")


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalar forms of `_SCALARS`, without tags, anchors or merging."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def __init__(self, text: str):
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Composes one node; refuses what could name code or multiply the document."""
        event = self.peek_event()
        if getattr(event, "anchor", None) is not None:  # of an anchor or of an alias
            raise _problem("anchors (&) and aliases (*) are not allowed", event)
        if getattr(event, "tag", None) is not None:
            raise _problem(f"the tag {shown(event.tag)} is not allowed", event)
        if self._depth >= MAX_DEPTH:
            raise _problem(f"nested more than {MAX_DEPTH} deep", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        """Makes a dict; refuses a key that is repeated or not a string."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _problem(f"the key {shown(key)} is not a string; quote it", key_node)
            if key in seen:
                raise _problem(f"the key `{key}` is given twice", key_node)
            seen.add(key)
        result: dict[str, Any] = super().construct_mapping(node, deep)
        return result

    def construct_number(self, node: Any) -> int | float:
        """Makes an int or float from the text of a node whose form was matched."""
        text = node.value
        if len(text) > _MAX_DIGITS:
            raise _problem(f"the number {shown(text)} has more than {_MAX_DIGITS} digits", node)
        if node.tag == f"{_PREFIX}int":
            return int(text)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Quotes each string that YAML 1.1 or `_Loader` would read as something else."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: list(forms) for first, forms in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: Any) -> bool:
        """Writes a repeated object in full."""
        return True

    def represent_flow_list(self, data: list[Any] | tuple[Any, ...]) -> Any:
        """Writes a list of plain values on one line."""
        flow = not any(isinstance(item, (dict, list, tuple)) for item in data)
        return self.represent_sequence(f"{_PREFIX}seq", data, flow_style=flow)


for _tag, (_form, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{_PREFIX}{_tag}", re.compile(rf"(?:{_form})\Z"), _first)
_Loader.add_constructor(f"{_PREFIX}int", _Loader.construct_number)
_Loader.add_constructor(f"{_PREFIX}float", _Loader.construct_number)
_Dumper.add_representer(list, _Dumper.represent_flow_list)
_Dumper.add_representer(tuple, _Dumper.represent_flow_list)


def _problem(text: str, where: Any) -> Exception:
    error: Exception = yaml.MarkedYAMLError(problem=text, problem_mark=where.start_mark)
    return error


def _explain(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}" if mark else str(what)


def _load(text: str, source: str) -> Any:
    """Parses one YAML document.

    Raises:
        ConfigError: for a text that is not strict YAML; names the line and the column.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{source}: larger than {MAX_BYTES} bytes.")
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{source}: not valid YAML: {_explain(error)}.") from error


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a YAML (or JSON) file.

    Args:
        path: a local file of at most 1 MB.

    Returns:
        The mapping in the file; {} for an empty file.

    Raises:
        ConfigError: when the file cannot be read, is not strict YAML, or holds no mapping.
    """
    source = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig") if len(data) <= MAX_BYTES else ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{source}: cannot read the file: {reason}.") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{source}: larger than {MAX_BYTES} bytes.")
    return _mapping(_load(text, source), source)


def parse_override(text: str) -> dict[str, Any]:
    """Reads the value of `--params_override`.

    Args:
        text: `a.b=c,d=[1,2]`, or a YAML or JSON mapping, or the path of a YAML file.

    Returns:
        The nested mapping.

    Raises:
        ConfigError: when the text is none of these.
    """
    stripped = text.strip()
    if _PAIRS.match(stripped):
        return _parse_pairs(stripped)
    try:
        value = _load(text, _FLAG)
    except ConfigError:
        if not _is_file(stripped):
            raise
        value = stripped
    if isinstance(value, str) and _is_file(stripped):
        return read_yaml(stripped)
    return _mapping(value, _FLAG)


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """Writes plain values as YAML that reads back as the same values here and in Model Garden.

    Args:
        tree: nested dicts with string keys, lists or tuples, strings, numbers, booleans and None.

    Returns:
        The YAML text, keys in the order of the dicts.
    """
    text: str = yaml.dump(
        dict(tree), Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=MAX_BYTES
    )
    return text


def _is_file(text: str) -> bool:
    try:
        return os.path.isfile(text)
    except ValueError:
        return False


def _mapping(value: Any, source: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        ways = "a YAML mapping, `key=value` pairs or the path of a file"
        expected = ways if source == _FLAG else "a YAML mapping"
        raise ConfigError(f"{source}: got {shown(value)}, expected {expected}.")
    return value


def _parse_pairs(text: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    position = 0
    while position < len(text):
        match = _KEY.match(text, position)
        if not match or not _NAME.fullmatch(match[1]):
            rest = shown(text[position:])
            raise ConfigError(f"{_FLAG}: got {rest}, expected `key=value`, such as `a.b=[1,2]`.")
        end = _value_end(text, match.end())
        _insert(tree, match[1], _parse_value(match[1], text[match.end() : end].strip()))
        position = end + 1
    return tree


def _value_end(text: str, start: int) -> int:
    """Returns the index of the comma after the value which starts at `start`, or the end."""
    position, depth = start, 0
    if text[start : start + 1] in {"'", '"', "[", "{"}:
        for token in _TOKEN.finditer(text, start):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
            position = token.end()
            if depth <= 0:
                break
    comma = text.find(",", position)
    return len(text) if comma < 0 else comma


def _parse_value(key: str, text: str) -> Any:
    if text[:1] in {"'", '"', "[", "{"}:
        return _load(text, f"{_FLAG}: `{key}`")
    if text[:1] in set("!&*|>%@`#"):
        raise ConfigError(f"{_FLAG}: `{key}`: got {shown(text)}, expected quotes around it.")
    loader = _Loader("")
    node = yaml.ScalarNode(loader.resolve(yaml.ScalarNode, text, (True, False)), text)
    try:
        return loader.construct_object(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{_FLAG}: `{key}`: {_explain(error)}.") from error


def _insert(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    if len(parents) >= MAX_DEPTH:
        raise ConfigError(f"{_FLAG}: got {shown(key)}, expected at most {MAX_DEPTH} levels.")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{_FLAG}: `{key}`: got both a value and a field of `{parent}`.")
    if leaf in tree:
        raise ConfigError(f"{_FLAG}: `{key}`: got it twice, expected it once.")
    tree[leaf] = value
