"""Local plasticity against its oracle: every rule, every way to apply it, every connection."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.connections import Dense
from orbit_snn.learning.plasticity import Plasticity
from tests.conformance import plasticity as zoo
from tests.oracles import plasticity as oracle

F, N, STEPS = 5, 4, 25


def dense(dtype=tf.float64):
    return Dense(F, N, seed=3, gain=1.5, dtype=dtype)


def expected(p, row, w0, reduction, every):
    """Weights after every window, by the oracle, of spikes that do not depend on weights."""
    terms = row.oracle(p.pre, zoo.post(p), p.reward)
    whole = oracle.run([terms], w0, batch_reduction=reduction, apply_every=every)
    return whole[every - 1 :: every]


@pytest.mark.parametrize("row", zoo.ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_update_of_a_sequence_is_that_of_the_oracle(row, reduction):
    p = zoo.problem(dense())
    want = expected(p, row, p.connection.kernel.numpy(), reduction, STEPS)
    rule = Plasticity(row.rule, batch_reduction=reduction, reward="reward")
    got = zoo.learn(p, rule)
    assert np.abs(want[-1] - got[0]).max() > 1e-3
    np.testing.assert_allclose(got[1:], want, rtol=0, atol=1e-12)
