"""Health of checkpoints: every damage is found, nothing good is called damaged."""

import collections

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.training import inspection

VALUES = {
    "kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "flags": np.array([True, False]),
    "text": np.array("word"),
    "none": np.zeros([0, 3], np.float64),
    "brief": np.ones(3, ml_dtypes.bfloat16),
}


def save(directory, values, step=3, name="ckpt"):
    items = {key: tf.Variable(value) for key, value in values.items()}
    return tf.train.Checkpoint(**items).write(str(directory / f"{name}-{step}"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Suffixes and contents of the files of a small checkpoint."""
    directory = tmp_path_factory.mktemp("saved")
    save(directory, VALUES)
    return {path.suffix: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def prefix(tmp_path, files):
    """A copy of the checkpoint, to damage."""
    for suffix, content in files.items():
        (tmp_path / f"ckpt-3{suffix}").write_bytes(content)
    return tmp_path / "ckpt-3"


def everything(prefix):
    """All that a restore reads, as something that can be compared."""
    reader = tf.train.load_checkpoint(str(prefix))
    types = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    return {k: (types[k], s, np.asarray(reader.get_tensor(k)).tobytes()) for k, s in shapes.items()}


def varint(number):
    """The number as the index's footer has it."""
    digits = []
    while number >= 128:
        digits.append(number % 128 + 128)
        number //= 128
    return bytes([*digits, number])


class TestProblem:
    def test_a_good_checkpoint_has_none(self, prefix):
        assert inspection.problem_of(prefix) == ""
        assert inspection.problem_of(str(prefix)) == ""

    @pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
    def test_damaged_files(self, prefix, files, suffix):
        path, good = prefix.with_name(prefix.name + suffix), files[suffix]
        middle = len(good) // 2
        damages = {
            "empty": b"",
            "zeros": bytes(len(good)),
            "half": good[:middle],
            "one byte": good[:1],
            "one byte short": good[:-1],
            "of something else": b"x" * len(good),
            "zeros at the end": good[:middle] + bytes(len(good) - middle),
        }
        for damage, content in damages.items():
            path.write_bytes(content)
            problem = inspection.problem_of(prefix)
            assert problem and "\n" not in problem, damage
        path.write_bytes(b"")
        assert inspection.problem_of(prefix) == f"{path.name} is empty"
        path.unlink()
        assert inspection.problem_of(prefix) == f"{path.name} is missing"
        path.mkdir()
        assert inspection.problem_of(prefix) == f"{path.name} is missing"

    @pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
    def test_every_changed_byte_is_found_or_changes_nothing(self, prefix, files, suffix):
        path, good = prefix.with_name(prefix.name + suffix), files[suffix]
        expected = everything(prefix)
        found = collections.Counter()
        for place in range(len(good)):
            changed = bytearray(good)
            changed[place] ^= 1 << place % 8
            path.write_bytes(changed)
            problem = inspection.problem_of(prefix)
            found[bool(problem)] += 1
            if not problem:
                assert everything(prefix) == expected, place
        # 13 bytes of an empty block; 40 of two places of blocks with padding, of which few count.
        assert found[False] <= (53 if suffix == ".index" else 0), found

    @pytest.mark.parametrize("size", [2**31, 2**40, 2**62, 2**64 - 1])
    def test_an_index_that_asks_for_all_memory(self, prefix, files, size):
        """The restore operation dies of it: a segmentation fault."""
        good = files[".index"]
        footer = (varint(0) + varint(5) + varint(0) + varint(size)).ljust(40, b"\0")
        prefix.with_suffix(".index").write_bytes(good[:-48] + footer[:40] + good[-8:])
        assert "ckpt-3.index cannot be read" in inspection.problem_of(prefix)

    def test_the_variable_is_named(self, prefix, files):
        good = files[".data-00000-of-00001"]
        place = good.index(VALUES["kernel"].tobytes())
        changed = bytearray(good)
        changed[place] ^= 1
        prefix.with_suffix(".data-00000-of-00001").write_bytes(changed)
        assert "kernel cannot be read (" in inspection.problem_of(prefix)

    def test_a_missing_shard(self, prefix, files):
        data = prefix.with_suffix(".data-00000-of-00001")
        data.rename(prefix.with_suffix(".data-00001-of-00002"))
        assert inspection.problem_of(prefix) == "ckpt-3.data-00000-of-00002 is missing"

    def test_files_of_two_saves(self, prefix, tmp_path):
        other = {**VALUES, "kernel": VALUES["kernel"] + 1}
        save(tmp_path, other, step=4)
        (tmp_path / "ckpt-4.index").replace(tmp_path / "ckpt-3.index")
        assert "kernel cannot be read" in inspection.problem_of(prefix)

    def test_nothing_there(self, tmp_path):
        assert inspection.problem_of(tmp_path / "no" / "ckpt-1") == "ckpt-1.index is missing"


class TestNonFinite:
    @pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.complex64])
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_names_the_variable(self, tmp_path, dtype, bad):
        spoiled = np.ones([2, 2], dtype)
        spoiled[1, 0] = bad
        prefix = save(tmp_path, {**VALUES, "a": spoiled})
        assert inspection.non_finite(prefix) == ["a"]
        assert inspection.problem_of(prefix) == ""

    def test_none(self, prefix):
        assert inspection.non_finite(prefix) == []

    def test_damaged(self, prefix, files):
        prefix.with_suffix(".data-00000-of-00001").write_bytes(b"")
        assert inspection.non_finite(prefix) == []
        prefix.with_suffix(".index").write_bytes(b"")
        assert inspection.non_finite(prefix) == []


class TestSteps:
    def test_in_order_with_their_files(self, tmp_path):
        names = (
            *("ckpt-10.index", "ckpt-9.data-00000-of-00002", "ckpt-9.data-00001-of-00002"),
            *("ckpt-9.index", "ckpt-x.index", "ckpt-8_temp", "checkpoint", "ckpt-7.index.tmp"),
            *("best_ckpt-5.index", "my-ckpt-4.index"),
        )
        for name in names:
            (tmp_path / name).touch()
        steps = inspection.steps_in(tmp_path)
        assert list(steps) == [9, 10]
        assert sorted(path.name for path in steps[9]) == sorted(names[1:4])
        assert steps[10] == [tmp_path / "ckpt-10.index"]
        assert list(inspection.steps_in(tmp_path, "best_ckpt")) == [5]

    def test_no_directory(self, tmp_path):
        assert inspection.steps_in(tmp_path / "no") == {}


VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (
            "model/modules/network/cells/0/feedforward/kernel",
            "model.network.cells.0.feedforward.kernel",
        ),
        ("model/modules/network/kernel/.OPTIMIZER_SLOT/opt/m", "model.network.kernel[opt.m]"),
        ("rule/feedback/network.Soutput/kernel", "rule.feedback.network/output.kernel"),
        ("rule/a..Sb", "rule.a.Sb"),
        ("global_step", "global_step"),
        ("optimizer/_variables/10", "optimizer._variables.10"),
    ],
)
def test_dotted(key, path):
    assert inspection.dotted(key + VALUE) == path


def test_dotted_of_other_keys():
    assert inspection.dotted("") == ""
    assert inspection.dotted("_CHECKPOINTABLE_OBJECT_GRAPH") == "_CHECKPOINTABLE_OBJECT_GRAPH"
    assert inspection.dotted("layer/.ATTRIBUTES/OBJECT_CONFIG") == "layer[OBJECT_CONFIG]"


def test_slots_with_numbers_of_variables_that_share_a_name(tmp_path):
    """Whose they are is not known; what is the end of several names is not the shorter one's."""
    model, optimizer = tf.Module(), tf.Module()
    names = ("a/kernel", "a/kernel", "kernel", "b/kernel")
    model.modules = [tf.Variable(1.0, name=name) for name in names]
    optimizer._variables = [tf.Variable(1.0, name=f"Adam/m/{name}") for name in names]
    prefix = tf.train.Checkpoint(model=model, optimizer=optimizer).write(str(tmp_path / "ckpt-1"))
    paths = {path for path, _ in inspection.tensors(prefix) if "optimizer" in path}
    assert paths == {
        *("optimizer._variables.0", "optimizer._variables.1"),
        *("model.2[optimizer.m]", "model.3[optimizer.m]"),
    }
