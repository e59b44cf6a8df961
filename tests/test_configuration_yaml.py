"""The YAML and the overrides of configurations: what is read, refused and written."""

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from orbit_snn import configuration as cf
from orbit_snn.configuration_yaml import MAX_BYTES, dump_yaml
from tests.configuration_samples import contents


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
