"""Self-tests of the oracles for assembly: the specification's numbers, hand-computed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from . import dataset_metrics as m
from . import pairs as p
from . import schedules as s

PRED, TRUE = [[1.0], [3.0]], [0.0, 1.0]
NAN, INF = float("nan"), float("inf")


def test_numbers_of_the_specification():
    mse, mae = m.mse(PRED, TRUE), m.mae(PRED, TRUE)
    assert (mse, mae, m.rsq(PRED, TRUE)) == (2.5, 1.5, -4.0)
    assert m.rsq(PRED, TRUE, ddof=0) == -9.0
    assert 2 * mse + 0.5 * mae == 5.75
    assert m.rmse(PRED, TRUE) == mse**0.5 == pytest.approx(1.5811388, abs=1e-7)
    assert (mse - mae, 1 - mse, 1 / mse, -mse) == (1, -1.5, 0.4, -2.5)
    assert mse / mae == pytest.approx(1.6666667, abs=1e-7)
    assert 2**mse == pytest.approx(5.656854, abs=1e-6)


def test_mean_and_spread():
    x = [[1, 2], [3, 6]]
    assert (m.mean(x), m.mean_sq(x)) == (3.0, 12.5)
    assert m.var(x) == pytest.approx(14 / 3) and m.var(x, ddof=0) == 3.5
    assert m.std(x) == pytest.approx((14 / 3) ** 0.5)
    assert math.isnan(m.var([1.0])) and m.var([1.0], ddof=0) == 0.0
    assert m.var(np.arange(200, dtype=np.int8)[:100]) == pytest.approx(841.6666667)


def test_unequal_shapes_are_refused():
    for pred, true in (((3,), (3, 1)), ((3, 1), (1, 3)), ((3, 2), 3), ((1, 3), 3), ((3, 1), ())):
        for metric in (m.mse, m.mae, m.rmse, m.rsq):
            with pytest.raises(ValueError, match="differ in shape"):
                metric(np.zeros(pred), np.zeros(true))
        with pytest.raises(ValueError, match="differ in shape"):
            m.weighted_mse(np.zeros(pred), np.zeros(true), np.ones(3))


def test_weighted_by_hand():
    # w / mean(w) = .5, 1.5; squares 1, 4; magnitudes 1, 2
    for weight in ([1, 3], [[1], [3]]):
        assert m.weighted_mse(PRED, TRUE, weight) == 3.25
        assert m.weighted_mae(PRED, TRUE, weight) == 1.75
    assert m.weighted_mse(PRED, TRUE, [7, 7]) == 2.5
    with pytest.raises(ValueError, match="weights"):
        m.weighted_mse(PRED, TRUE, [[1, 3]])


def test_padded_steps_do_not_exist():
    rng = np.random.default_rng(0)
    mask = np.array([[1, 1, 1], [1, 0, 0]])
    pred, true = rng.normal(size=(2, 2, 3, 2))
    packed_pred, packed_true = (np.concatenate([a[0], a[1, :1]]) for a in (pred, true))
    pred[1, 1:], true[1, 1:] = NAN, INF
    for metric in (m.mse, m.mae, m.rmse, m.rsq):
        assert metric(pred, true, mask=mask) == pytest.approx(metric(packed_pred, packed_true))
    for metric in (m.mean, m.mean_sq, m.var, m.std):
        assert metric(pred, mask=mask) == pytest.approx(metric(packed_pred))
    each = m.weighted_mse(packed_pred, packed_true, [1, 1, 1, 5])
    assert m.weighted_mse(pred, true, [1, 5], mask) == pytest.approx(each)
    # mean(w): 2 over the elements, 3 over the examples
    by_examples = m.weighted_mse(pred, true, [1, 5], mask, weight_mean="examples")
    assert by_examples == pytest.approx(each * 2 / 3)
    with pytest.raises(ValueError, match="mask"):
        m.mse(pred, true, mask=mask.T)
    with pytest.raises(ValueError, match="real"):
        m.mse(pred, true, mask=0 * mask)


def test_classification():
    logits = np.log([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]])
    assert m.cross_entropy(logits, [1, 1, 0]) == pytest.approx(-np.log(0.75 * 0.5 * 0.9) / 3)
    assert m.cross_entropy(logits + 1000, [1, 1, 0]) == pytest.approx(-np.log(0.3375) / 3)
    assert m.accuracy(logits, [1, 1, 0]) == pytest.approx(2 / 3)  # of equal logits, the first
    for wrong in ([0, 1, 2], [0, 1, -1], [[0], [1], [1]], [0, 1], [0, 1, 0.5]):
        with pytest.raises(ValueError, match="label"):
            m.cross_entropy(logits, wrong)
        with pytest.raises(ValueError, match="label"):
            m.accuracy(logits, wrong)


def test_sequence_errors_by_hand():
    pred = [[[1.0, 2.0], [3.0, 0.0]], [[2.0, 2.0], [99.0, 99.0]]]
    true = [[[0.0, 0.0], [2.0, 4.0]], [[0.0, 1.0], [-99.0, 99.0]]]
    mask = [[True, True], [True, False]]
    # sum_k of squares: 5, 17 | 5. About (1, 2): 5, 5 | 0
    assert m.squared_error(pred, true, mask) == (0.5 * 11 + 0.5 * 5) / 2
    assert m.nmse(pred, true, mask) == (11 + 5) / (5 + 0)
    assert m.squared_error(pred[:1], true[:1]) == 5.5 and m.nmse(pred[:1], true[:1]) == 11 / 5
    assert m.mse(pred, true, mask) == 27 / 6
    for metric in (m.squared_error, m.nmse):
        with pytest.raises(ValueError, match="without a real step"):
            metric(pred, true, [[True, True], [False, False]])


def test_firing_rate_by_hand():
    spikes = [[[1, 0], [1, 1]], [[0, 1], [1, 1]]]
    mask = [[True, True], [True, False]]
    # rates (1, .5), (0, 1); target .5: squares .25, 0 | .25, .25; mean rates (.5, .75)
    assert m.firing_rate(spikes, 0.5, "sample", mask) == (0.125 + 0.25) / 2
    assert m.firing_rate(spikes, 0.5, "batch", mask) == 0.5 * 0.0625
    assert m.firing_rate(spikes, 0.5) == (0.125 + 0.125) / 2
    with pytest.raises(ValueError, match="reduction"):
        m.firing_rate(spikes, 0.5, "sum")


def test_mean_over_batches_differs():
    rng = np.random.default_rng(1)
    pred, true = rng.normal(size=(10, 2)), rng.normal(size=(10, 2))
    assert m.batch_mean(m.rmse, PRED, TRUE, 1) == 1.5  # not 1.58
    assert m.batch_mean(m.mse, [[0], [0], [3]], [0, 0, 0], 2) == 4.5  # ragged: not 3
    for size in (1, 3, 4):
        assert abs(m.batch_mean(m.rmse, pred, true, size) - m.rmse(pred, true)) > 1e-3
    assert m.batch_mean(m.rmse, pred, true, 10) == m.rmse(pred, true)


def test_pairs_on_a_line():
    open_line = p.pairs([[0.0], [1.0], [3.0]], None, 2.0)  # 2.0 is not below 2.0
    assert list(zip(open_line.first, open_line.second, strict=True)) == [(0, 1), (1, 0)]
    np.testing.assert_array_equal(open_line.coords, [[1.0], [-1.0]])
    ring = p.pairs([[0.0], [1.0], [3.0]], [4.0], 2.0)
    found = list(zip(ring.first, ring.second, ring.offsets[:, 0], ring.dist, strict=True))
    assert found == [(0, 1, 0, 1), (0, 2, -1, 1), (1, 0, 0, 1), (2, 0, 1, 1)]
    alone = p.pairs([[9.0]], [1.0], 2.5)  # images of itself, wherever it is
    np.testing.assert_array_equal(alone.offsets[:, 0], [-2, -1, 1, 2])
    assert p.pairs([[0.0, 0.0], [0.0, 0.0]], None, 0.1).dist.tolist() == [0, 0]
    far = p.pairs([[0.0, 0.0], [0.0, 7.5]], [1.0, 2.0], 0.6)
    np.testing.assert_array_equal(far.offsets, [[0, -4], [0, 4]])
    assert p.needed_images(far.offsets) == 4 and p.needed_images(np.zeros((0, 2))) == 0
    empty = p.pairs(np.zeros((1, 3)), None, 1.0)
    assert [a.shape for a in empty] == [(0,), (0,), (0, 3), (0, 3), (0,)]
    for r, box in (([0.0], None), ([[0.0]], [0.0]), ([[0.0]], [1.0, 1.0]), ([[NAN]], None)):
        with pytest.raises(ValueError, match="positions|box"):
            p.pairs(r, box, 1.0)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_pairs_are_complete(dims):
    rng = np.random.default_rng(dims)
    box = np.array([1.0, 0.7, 1.3])[:dims]
    r = rng.uniform(-1, 2, size=(5, dims))
    found, naive = p.pairs(r, box, 0.9), p.pairs(r, box, 0.9, search=6)
    for a, b in zip(found, naive, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="could miss"):
        p.pairs(r, box, 0.9, search=p.needed_images(found.offsets) - 1)
    coords, dist = p.geometry(r, box, found.first, found.second, found.offsets)
    np.testing.assert_allclose(coords, found.coords, atol=1e-14)
    np.testing.assert_allclose(dist, found.dist, atol=1e-14)
    # every pair has its mirror, and moving neurons by whole boxes changes only the offsets
    there = {(i, j, *o) for i, j, o in zip(*found[:2], found.offsets.tolist(), strict=True)}
    assert there == {(j, i, *(-k for k in o)) for i, j, *o in there}
    wrapped = p.pairs(r % box, box, 0.9)
    np.testing.assert_array_equal(np.bincount(found.first), np.bincount(wrapped.first))
    np.testing.assert_allclose(np.sort(found.dist), np.sort(wrapped.dist))
    n = p.needed_images(found.offsets)
    flat = (found.first * 5 + found.second) * (2 * n + 1) ** dims + p.offset_index(found.offsets, n)
    assert (np.diff(flat) > 0).all()


def test_offset_index_by_hand():
    assert p.offset_index([[0, 0], [-1, -1], [1, 0], [0, 1]], 1).tolist() == [4, 0, 5, 7]
    assert p.offset_index([[0, 0, 0]], 0).tolist() == [0]
    assert p.offset_index([[2, -1]], 2).tolist() == [4 + 5 * 1]
    assert p.offset_index(np.zeros((0, 2), int), 1).shape == (0,)
    with pytest.raises(ValueError, match=r"larger number of images n_images \(need 3\)"):
        p.offset_index([[0, -3]], 2)


def test_currents_by_hand():
    x = [[8.0, 1.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]
    lists = ([0, 1], [1, 0], [1.5, 2.5])
    e, gauss = 3 * np.exp([-0.75, -1.25]), 3 * np.exp([-0.28125, -0.78125])
    columns = {"none": ([1, 2, 0, 0], [8, 0, 0, 0]), "nearest": ([0, 0, 1, 2], [0, 0, 8, 0])}
    columns["linear"] = ([0, 0.5, 1.5, 1], [0, 0, 4, 4])
    for delays, (zero, one) in columns.items():
        for profile, w in (("exponential", e), ("gaussian", gauss)):
            expected = np.stack([w[0] * np.array(zero), w[1] * np.array(one)], axis=1)
            got = p.currents(x, *lists, 3.0, 2.0, profile, 2.0, 0.5, delays)
            np.testing.assert_allclose(got, expected, atol=1e-15)
    twice = p.currents(x, [0, 0], [1, 1], [0.0, 0.0], 1.0, 2.0, "gaussian")
    np.testing.assert_array_equal(twice[:, 0], [2, 4, 0, 0])
    with pytest.raises(ValueError, match="velocity"):
        p.currents(x, *lists, 3.0, 2.0, "gaussian", delays="nearest")


@pytest.mark.parametrize("profile", p.PROFILES)
@pytest.mark.parametrize("delays", p.DELAYS)
def test_current_gradients_match_differences(profile, delays):
    rng = np.random.default_rng(3)
    box, r = np.array([1.0, 0.8]), rng.uniform(-0.5, 1.5, size=(4, 2))
    x, g = rng.normal(size=(7, 4)), rng.normal(size=(7, 4))
    i, j, offsets, _, dist = p.pairs(r, box, 0.9)
    assert len(i) > 10 and (i == j).any()  # with images of neurons themselves
    values = {"amplitude": 1.3, "length": 0.4, "velocity": 0.31, "positions": r}
    steps = dist / (0.31 * 0.5)
    assert steps.max() > 3 and np.abs(2 * steps - np.round(2 * steps)).min() > 1e-4  # no kinks

    def loss(v):
        distances = p.geometry(v["positions"], box, i, j, offsets)[1]
        scalars = (v["amplitude"], v["length"], profile, v["velocity"], 0.5, delays)
        return (g * p.currents(x, i, j, distances, *scalars)).sum()

    coords = p.geometry(r, box, i, j, offsets)[0]
    got = p.current_gradients(g, x, i, j, coords, 1.3, 0.4, profile, 0.31, 0.5, delays)
    assert (got["velocity"] != 0) == (delays == "linear")
    for name, value in values.items():
        for index in np.ndindex(np.shape(value)):
            step = np.zeros(np.shape(value))
            step[index] = 1e-6
            ends = [loss({**values, name: value + sign * step}) for sign in (1, -1)]
            assert got[name][index] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-7)


def test_patience():
    assert s.better_flags([NAN, 1, 0.5]) == [False, True, True]
    assert s.better_flags([INF, NAN, 1, 1, 2]) == [True, False, True, False, False]
    assert s.patience([5, 6, 4, 4, 5, 6, 0], 3, 100) == 6  # the tie at 3 is not better
    assert s.patience([5, 6, 4, 4, 5, 6, 0], 3, 4) == 4
    assert s.patience([5, 4, 3, 2, 1], 1, 5) == 5
    assert s.patience([NAN] * 9, 2, 9) == 3 and s.patience([NAN, NAN, 1, NAN, NAN], 2, 9) == 5
    assert s.patience([1], 0, 9) == 1 and s.patience([], 3, 0) == 0
    with pytest.raises(ValueError, match="goes on"):
        s.patience([3, 2], 3, 10)


def test_raise_batch_size():
    table = [(4, 1), (4, 1), (8, 1), (8, 1), (16, 1), (16, 1), (16, 0.5), (16, 0.5), (16, 0.25)]
    arguments = (4, 1, 0.5, 16)
    assert s.raise_batch_size([1.0] * 9, *arguments) == table
    assert s.raise_batch_size([1.0] * 10, *arguments, listed="during") == [(4, 1), *table]
    # bad epochs: 0 1 0 1 2->0 1 2->0; NaN is bad
    metrics = [NAN, 3, 3, 2, NAN, 2, 2, 2]
    sizes = [b for b, _ in s.raise_batch_size(metrics, *arguments)]
    assert sizes == [4, 4, 4, 4, 4, 8, 8, 16]
    # 6 -> 12, and 24 > 16: not clamped
    changes = s.raise_batch_size([1, 1, 1], 6, 0, 0.5, 16)
    assert changes == [(6, 1), (12, 1), (12, 0.5)]
