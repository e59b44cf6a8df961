"""Checkpoints that are damaged, that do not fit, or for which there is no room."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from orbit_snn.training import DiskFullError, DivergedError, RunDirectoryError, inspection
from orbit_snn.training.checkpoints import Checkpoints
from orbit_snn.training.optimizers import build_slots
from tests.accidents import ACCIDENTS, damage, small_disk
from tests.system.harness import snapshot

PAGE = 4096


class Model(tf.Module):
    def __init__(self, size=40, names=("kernel", "bias"), dtype=tf.float32):
        super().__init__()
        self.cell = tf.Module()
        for name in names:
            setattr(self.cell, name, tf.Variable(tf.zeros([size, 3], dtype)))


class Seen(tf.Module):
    """Stands for what looks at validations."""

    def __init__(self):
        super().__init__()
        self.best = tf.Variable(np.nan)


def state(**options):
    """A model, an optimizer and a step, as a run saves them."""
    model, optimizer = Model(**options), tf_keras.optimizers.legacy.Adam()
    build_slots(optimizer, [model.cell.kernel])
    return {"model": model, "optimizer": optimizer, "step": tf.Variable(0)}


class Saved:
    """Checkpoints at steps 5, 10 and 15, whose weights are the step."""

    def __init__(self, directory, items=None, optional=None, **options):
        self.items = items or state()
        self.lines = []
        self.directory = directory
        options = {"max_to_keep": 3, **options}
        strategy = tf.distribute.get_strategy()
        self.checkpoints = Checkpoints(
            self.items, optional or {}, directory, strategy, say=self.lines.append, **options
        )

    def save(self, *steps):
        for step in steps:
            kernel = self.items["model"].cell.kernel
            kernel.assign(tf.fill(kernel.shape, float(step)))
            self.items["step"].assign(step)
            self.checkpoints.save(step)

    def resumed(self, **options):
        """The step of the newest one that is found, after restoring it."""
        path = self.checkpoints.newest(**options)
        if path is None:
            return None
        self.checkpoints.restore(path)
        step = int(self.items["step"].numpy())
        assert (self.items["model"].cell.kernel.numpy() == step).all()
        return step


@pytest.fixture
def saved(tmp_path):
    found = Saved(tmp_path / "run")
    found.save(5, 10, 15)
    return found


@pytest.mark.parametrize("how", ACCIDENTS)
@pytest.mark.parametrize("kind", ["index", "data-00000-of-00001"])
def test_the_newest_that_can_be_read_is_found(saved, kind, how):
    directory = saved.directory
    damage(directory / f"ckpt-15.{kind}", how)
    before = snapshot(directory)
    assert saved.resumed() == 10
    assert snapshot(directory) == before
    assert saved.resumed(set_aside=True) == 10
    assert "WARNING: ckpt-15 cannot be read" in saved.lines[-1] and "ckpt-10" in saved.lines[-1]
    after = {pathlib.Path(name).name: value for name, value in snapshot(directory).items()}
    assert after == {pathlib.Path(name).name: value for name, value in before.items()}
    assert not list(directory.glob("ckpt-15.*"))
    saved.save(15)
    assert Saved(directory).resumed() == 15


@pytest.mark.parametrize("how", ACCIDENTS)
def test_the_file_that_names_the_newest_is_not_needed(saved, how):
    damage(saved.directory / "checkpoint", how)
    assert saved.resumed() == 15


def test_a_state_file_that_points_back_does_not_lose_what_came_after(saved):
    tf.compat.v1.train.update_checkpoint_state(str(saved.directory), "ckpt-5")
    assert saved.resumed() == 15


def test_one_that_is_damaged_twice_is_kept_twice(saved):
    for _ in range(2):
        damage(saved.directory / "ckpt-15.index", "truncated")
        assert saved.resumed(set_aside=True) == 10
        saved.save(15)
    names = {path.name for path in (saved.directory / "damaged").iterdir()}
    assert {"ckpt-15.index", "ckpt-15.index.1"} <= names and len(names) == 4


def test_falling_back_can_be_forbidden(saved):
    damage(saved.directory / "ckpt-15.index", "truncated")
    before = snapshot(saved.directory)
    with pytest.raises(RunDirectoryError, match="ckpt-15 cannot be read.*fall_back is false"):
        saved.resumed(set_aside=True, fall_back=False)
    assert snapshot(saved.directory) == before


def test_where_none_can_be_read_nothing_starts_afresh(saved):
    for path in saved.directory.glob("*.index"):
        damage(path, "zeroed")
    before = snapshot(saved.directory)
    with pytest.raises(RunDirectoryError, match="ckpt-15 cannot be read.*no older one"):
        saved.resumed(set_aside=True)
    assert snapshot(saved.directory) == before


def test_where_all_are_gone_nothing_starts_afresh(saved):
    for path in saved.directory.glob("ckpt-*"):
        path.unlink()
    with pytest.raises(RunDirectoryError, match="held checkpoints, and none is left"):
        saved.resumed()


def test_an_empty_directory_is_a_start(tmp_path):
    assert Saved(tmp_path).resumed() is None
    assert Saved(tmp_path / "missing").resumed() is None


def test_values_that_are_not_finite_are_neither_saved_nor_resumed(saved):
    kernel = saved.items["model"].cell.kernel
    kernel.assign(tf.fill([40, 3], np.nan))
    with pytest.raises(DivergedError, match=r"model\.cell\.kernel has values.*not finite"):
        saved.checkpoints.save(20)
    assert saved.resumed() == 15
    kernel.assign(tf.fill([40, 3], np.inf))
    tf.train.Checkpoint(**saved.items).write(str(saved.directory / "ckpt-20"))
    assert saved.resumed() == 15
    assert "model.cell.kernel is not finite" in saved.lines[-1]


def test_the_oldest_go_when_the_new_one_is_read_back(saved, monkeypatch):
    directory = saved.directory
    saved.save(20)
    assert list(inspection.steps_in(directory)) == [10, 15, 20]
    assert tf.train.latest_checkpoint(str(directory)) == str(directory / "ckpt-20")
    before = snapshot(directory)
    monkeypatch.setattr(inspection, "problem_of", lambda _: "the disk forgets")
    with pytest.raises(RunDirectoryError, match="could not be read back.*the disk forgets"):
        saved.save(25)
    assert snapshot(directory) == before


def test_one_is_kept(tmp_path):
    saved = Saved(tmp_path, max_to_keep=1)
    saved.save(5, 10)
    assert saved.resumed() == 10
    assert list(inspection.steps_in(tmp_path)) == [10]
    saved.save(5)  # the best one of a run that went back
    assert list(inspection.steps_in(tmp_path)) == [5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 41}, r"model\.cell\.kernel of shape \[40, 3\].*\[41, 3\]"),
        ({"dtype": tf.float64}, r"model\.cell\.(bias|kernel) in float32.*float64"),
        ({"names": ("kernel", "bias", "tau")}, r"lacks model\.cell\.tau"),
        ({"names": ("kernel",)}, r"has model\.cell\.bias, which this configuration has not"),
    ],
)
def test_all_of_it_has_to_fit(saved, options, message):
    other = Saved(saved.directory, state(**options))
    with pytest.raises(RunDirectoryError, match=message):
        other.checkpoints.restore(other.checkpoints.newest())


def test_an_optimizer_without_its_slots_does_not_fit(saved):
    items = state()
    items["optimizer"] = tf_keras.optimizers.legacy.Adam(amsgrad=True)
    build_slots(items["optimizer"], [items["model"].cell.kernel])
    other = Saved(saved.directory, items)
    with pytest.raises(RunDirectoryError, match="does not fit"):
        other.resumed()


def test_what_looks_at_validations_may_come_and_go(saved, tmp_path):
    watched = Saved(saved.directory, optional={"patience": Seen()})
    assert watched.resumed() == 15
    watched.save(20)
    assert Saved(saved.directory).resumed() == 20
    assert Saved(saved.directory, optional={"other": Seen()}).resumed() == 20


@pytest.mark.parametrize("blind", [False, True], ids=["looked before", "written blindly"])
def test_a_full_disk_loses_nothing(tmp_path, blind, monkeypatch):
    """With room for none, some and all but one of the pages that a checkpoint takes."""
    if blind:
        monkeypatch.setattr(Checkpoints, "_check_room", lambda _: None)
    with small_disk(tmp_path / "disk", 2**19) as disk:
        saved = Saved(disk, state(size=1500))
        saved.save(5, 10)
        pages = sum(-(-file.stat().st_size // PAGE) for file in disk.glob("ckpt-10.*"))
        assert pages > 12
        for left in [*range(0, pages, 4), pages - 1]:
            filler = disk / "filler"
            filler.write_bytes(bytes(shutil.disk_usage(disk).free - left * PAGE))
            before = snapshot(disk)
            with pytest.raises(DiskFullError, match="disk is full.*ckpt-15.*Nothing.*lost") as full:
                saved.save(15)
            assert full.value.exit_code == 28
            assert snapshot(disk) == before
            filler.unlink()
            assert saved.resumed() == 10
        saved.save(15)
        assert saved.resumed() == 15
