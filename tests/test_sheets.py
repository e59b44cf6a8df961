"""Runs on sheets and tori: a lateral connection between two networks, with pairs in the data."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from orbit_snn.cells import Cell
from orbit_snn.connections import Dense, DistanceConnection
from orbit_snn.data import from_arrays
from orbit_snn.database import Database
from orbit_snn.graph import (
    Accuracy,
    BoxNode,
    CrossEntropy,
    Decision,
    DistanceNode,
    GraphError,
    InputNode,
    NetworkNode,
    PairIndexer,
    PositionsNode,
    assemble_for_training,
    precompute_pairs,
)
from orbit_snn.learning import BPTT, TBPTT
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from orbit_snn.training import Run, TrainingOptions

SIZE, STEPS, N, K = 24, 8, 6, 2
DRAW = np.random.default_rng(0)
ARRAYS = {
    "spikes": (DRAW.random((SIZE, STEPS, N)) < 0.5).astype(np.float64),
    "positions": DRAW.random((SIZE, N, 2)),
    "box": np.ones((SIZE, 2)),
    "label": np.arange(SIZE) % K,
}
OPTIONS = TrainingOptions(
    train_steps=6,
    batch_size=8,
    steps_per_loop=3,
    checkpoint_interval=3,
    validation_interval=3,
    pictures=1,
)


def losses(cutoff=0.5, delays="linear", n_images=1):
    """Sheet onto sheet: spikes travel to neighbours, further ones later."""
    kind = {"dtype": tf.float64}
    sheet = PositionsNode("positions"), BoxNode("box")
    pairs = PairIndexer("pairs", sheet, cutoff, n_images=n_images)
    lateral = DistanceConnection(
        N, length=0.3, velocity=0.2, delays=delays, dist_hard_max=cutoff, **kind
    )
    currents = DistanceNode("lateral", InputNode("spikes"), pairs, lateral)
    hidden = Cell(LIF(8, threshold=0.2, **kind), Dense(N, 8, seed=1, **kind))
    readout = Cell(LeakyIntegrator(K, **kind), Dense(8, K, seed=2, **kind))
    net = NetworkNode("network", currents, Network([hidden], readout))
    decision = Decision("decision", net.output, db_name="label")
    loss = CrossEntropy.of_node(decision)
    return loss, {"loss": loss, "accuracy": Accuracy.of_node(decision)}


def splits(**change):
    examples = from_arrays(ARRAYS | change)
    return Database({"train": examples, "validation": examples})


def trained(directory, modules, db_info, database, rule, xla):
    optimizer = tf_keras.optimizers.Adam(1e-2)
    run = Run(modules, db_info, database, rule, optimizer, directory, OPTIONS, xla=xla)
    results = run.train_and_evaluate()
    return results["metrics"], [v.numpy() for v in modules.model.parameters]


@pytest.mark.parametrize(
    ("rule", "xla"), [(BPTT(), True), (TBPTT(3, "window"), False)], ids=["bptt", "tbptt"]
)
def test_stored_pairs_train_like_those_that_are_found(tmp_path, rule, xla):
    """The example of the specification, and a run of each model; every parameter learns."""
    found = {}
    for stored in (False, True):
        train_loss, validation_losses = losses()
        training_modules, db_info = assemble_for_training(train_loss, validation_losses)
        before = [v.numpy() for v in training_modules.model.parameters]
        database = splits()
        if stored:
            precompute_pairs(training_modules.model, database, device="/CPU:0")
            training_modules, db_info = assemble_for_training(train_loss, validation_losses)
            database.inputs = db_info["inputs"]
            assert "AutoPrecomputedPairs" in db_info["inputs"]
        directory = tmp_path / str(stored)
        found[stored] = trained(directory, training_modules, db_info, database, rule, xla)
        after = found[stored][1]
        assert all(np.any(a != b) for a, b in zip(before, after, strict=True))
    for a, b in zip(found[False][1], found[True][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)
    assert found[False][0] == pytest.approx(found[True][0], rel=1e-6)


def test_too_few_images_are_said_before_the_first_step(tmp_path):
    """A compiled step would lose the pairs silently."""
    box = np.ones((SIZE, 2))
    box[17, 1] = 0.2
    modules, db_info = assemble_for_training(*losses())
    with pytest.raises(GraphError, match="3"):
        Run(modules, db_info, splits(box=box), BPTT(), tf_keras.optimizers.Adam(), tmp_path / "run")
    assert not list(tmp_path.iterdir())
