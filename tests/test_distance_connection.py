"""The connection that depends on distances, against brute force."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn.connections.distance import DELAYS, PROFILES, DistanceConnection
from orbit_snn.graph import MSE, GraphError, GraphModule, InputNode, assemble_for_training
from orbit_snn.graph.pairs import BoxNode, DistanceNode, PairFinder, PairIndexer, PositionsNode
from orbit_snn.learning import BPTT, TBPTT
from tests.oracles import pairs as oracle

SIZE, STEPS, N, CUTOFF, DT = 2, 9, 5, 0.8, 2.0
RNG = np.random.default_rng(3)
POSITIONS = RNG.uniform(-1.0, 2.0, [SIZE, N, 2])
POSITIONS[:, 1] = POSITIONS[:, 0]
BOX = np.array([[1.0, 1.4], [1.2, 0.9]])
X = RNG.normal(size=[SIZE, STEPS, N])
SLOPE = RNG.normal(size=[SIZE, STEPS, N])
QUANTITIES = {"amplitude": -0.7, "length": 0.4, "velocity": 0.11}


def connection(delays="linear", profile="exponential", **options):
    options = QUANTITIES | {"dtype": tf.float64, "dist_hard_max": CUTOFF} | options
    return DistanceConnection(N, profile=profile, delays=delays, dt_ms=DT, **options)


def found(positions=POSITIONS, box=BOX, dtype=tf.float64):
    values = PairFinder(CUTOFF)(tf.cast(positions, dtype), tf.cast(box, dtype))
    return [values[key] for key in ("pair_dist", "pair_first", "pair_second", "pair_mask")]


def brute(delays, profile):
    """Currents, and gradients of sum(SLOPE * currents), of float64."""
    kind = {"velocity": QUANTITIES["velocity"], "dt": DT, "delays": delays}
    kind |= {"amplitude": QUANTITIES["amplitude"], "length": QUANTITIES["length"]}
    currents, gradients = [], []
    for r, box, x, slope in zip(POSITIONS, BOX, X, SLOPE, strict=True):
        pairs = oracle.pairs(r, box, CUTOFF)
        ends = pairs.first, pairs.second
        currents.append(oracle.currents(x, *ends, pairs.dist, profile=profile, **kind))
        gradients.append(
            oracle.current_gradients(slope, x, *ends, pairs.coords, profile=profile, **kind)
        )
    total = {k: sum(g[k] for g in gradients) for k in ("amplitude", "length", "velocity")}
    return np.stack(currents), total, np.stack([g["positions"] for g in gradients])


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("delays", DELAYS)
def test_currents_and_gradients_are_those_of_brute_force(delays, profile, dtype):
    tolerance = 1e-9 if dtype == tf.float64 else 3e-5
    want, slopes, by_position = brute(delays, profile)
    lateral = connection(delays, profile, dtype=dtype)
    r = tf.cast(POSITIONS, dtype)
    with tf.GradientTape() as tape:
        tape.watch(r)
        pairs = found(r, dtype=dtype)
        currents, _ = lateral(tf.cast(X, dtype), *pairs, lateral.initial_state(SIZE))
        total = tf.reduce_sum(tf.cast(SLOPE, dtype) * currents)
    assert currents.dtype == dtype
    np.testing.assert_allclose(currents, want, tolerance, tolerance)
    trained = {"amplitude": lateral.amplitude, "length": lateral.length.log}
    if delays == "linear":
        trained["velocity"] = lateral.velocity.log
    assert len(lateral.trainable_variables) == len(trained)
    *gradients, dr = tape.gradient(total, [*trained.values(), r])
    for name, gradient in zip(trained, gradients, strict=True):
        factor = 1.0 if name == "amplitude" else QUANTITIES[name]  # of the logarithm
        np.testing.assert_allclose(np.squeeze(gradient), slopes[name] * factor, 10 * tolerance)
    np.testing.assert_allclose(dr, by_position, 10 * tolerance, 10 * tolerance)


@pytest.mark.parametrize("delays", DELAYS)
def test_compiled_is_eager(delays):
    lateral = connection(delays)

    def call(r, x, state):
        with tf.GradientTape() as tape:
            tape.watch(r)
            currents, after = lateral(x, *found(r), state)
        return currents, after, tape.gradient(currents, [r, *lateral.trainable_variables])

    arguments = tf.constant(POSITIONS), tf.constant(X), lateral.initial_state(SIZE)
    eager = call(*arguments)
    compiled = tf.function(call, jit_compile=True)(*arguments)
    for a, b in zip(tf.nest.flatten(compiled), tf.nest.flatten(eager), strict=True):
        np.testing.assert_allclose(a, b, 1e-12, 1e-12)


@pytest.mark.parametrize("cuts", [(4,), (1, 2, 3), (8,)])
@pytest.mark.parametrize("delays", DELAYS)
def test_a_sequence_in_parts_is_the_whole(delays, cuts):
    lateral = connection(delays)
    pairs = found()
    whole, end = lateral(tf.constant(X), *pairs, lateral.initial_state(SIZE))
    state, parts = lateral.initial_state(SIZE), []
    for x in np.split(X, cuts, axis=1):
        currents, state = lateral(tf.constant(x), *pairs, state)
        parts.append(currents)
    np.testing.assert_allclose(tf.concat(parts, axis=1), whole, 1e-12, 1e-12)
    np.testing.assert_array_equal(state, end)
    assert lateral.max_delay_steps == {"none": 0, "nearest": 4, "linear": 4}[delays]


def test_spikes_of_any_type_are_taken():
    lateral = connection(dtype=tf.float32)
    spikes = X > 0
    state = lateral.initial_state(SIZE)
    want, _ = lateral(tf.cast(spikes, tf.float32), *found(), state)
    np.testing.assert_array_equal(lateral(tf.constant(spikes), *found(), state)[0], want)


@pytest.mark.parametrize("delays", ["nearest", "linear"])
def test_delays_that_grow_too_long_are_shortened(delays):
    lateral = connection(delays, max_delay_steps=4)
    slow = connection(delays, velocity=1e-6, max_delay_steps=4, dist_hard_max=None)
    lateral.velocity, state = slow.velocity, lateral.initial_state(SIZE)
    currents, _ = lateral(tf.constant(X), *found(), state)
    weights = connection("none").kernels(*found())[0]
    together = np.array(
        [[[oracle._past(x, t - 4, j) for j in range(N)] for t in range(9)] for x in X]
    )
    coincident = np.isclose(found()[0], 0.0) & found()[3].numpy()  # without a delay at any speed
    assert coincident.any()
    at_once = np.zeros([SIZE, N, N])
    for b, i, j in ((b, i, j) for b in range(SIZE) for i, j in ((0, 1), (1, 0))):
        at_once[b, j, i] = QUANTITIES["amplitude"]
    want = together @ (weights - at_once) + X @ at_once
    np.testing.assert_allclose(currents, want, 1e-12, 1e-12)


def test_half_steps_go_to_the_even_one():
    lateral = connection("nearest", velocity=0.5, max_delay_steps=3, dist_hard_max=None)
    distances = tf.constant([[0.5, 1.5, 2.5, 0.0, 0.0]], tf.float64)  # in steps, as 0.5 * DT is 1
    to, by = tf.constant([[0, 1, 2, 3, 4]]), tf.constant([[1, 2, 4, 3, 0]])
    kernels = lateral.kernels(distances, to, by, tf.constant([[True] * 4 + [False]]))
    delay, example, second, first = np.nonzero(kernels.numpy())
    order = np.argsort(first)
    assert delay[order].tolist() == [0, 2, 2, 0] and first[order].tolist() == [0, 1, 2, 3]
    assert second[order].tolist() == [1, 2, 4, 3] and not example.any()


@pytest.mark.parametrize("delays", DELAYS)
def test_pairs_lead_from_the_second_to_the_first(delays):
    rng = np.random.default_rng(8)
    first, second = rng.integers(N, size=[2, SIZE, 11])  # some of them twice
    distances, mask = rng.uniform(0, CUTOFF, [SIZE, 11]), rng.random([SIZE, 11]) < 0.7
    lateral = connection(delays)
    given = map(tf.constant, (X, distances, first, second, mask))
    currents, _ = lateral(*given, lateral.initial_state(SIZE))
    for b, real in enumerate(mask):
        pairs = first[b][real], second[b][real], distances[b][real]
        kind = QUANTITIES | {"profile": "exponential", "dt": DT, "delays": delays}
        np.testing.assert_allclose(currents[b], oracle.currents(X[b], *pairs, **kind), 1e-9, 1e-9)


@pytest.mark.parametrize("frozen", ["amplitude", "length", "velocity"])
def test_quantities_can_be_frozen(frozen):
    names = {
        v.name.split("/")[-1] for v in connection(**{f"train_{frozen}": False}).trainable_variables
    }
    every = {"amplitude": "amplitude:0", "length": "log_length:0", "velocity": "log_velocity:0"}
    assert names == set(every.values()) - {every[frozen]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "square"}, "profile is 'square'; expected one of exponential, gaussian"),
        ({"delays": "some"}, "delays is 'some'; expected one of none, nearest, linear"),
        ({"amplitude": np.nan}, "amplitude is nan"),
        ({"length": 0.0}, "length is 0.0; it must be positive"),
        ({"velocity": None}, "got velocity None and dt_ms 2.0"),
        ({"velocity": -1.0}, "got velocity -1.0"),
        ({"dist_hard_max": None}, "max_delay_steps None and no dist_hard_max; give one of them"),
        ({"max_delay_steps": 3}, "takes 4 steps of 2.0 ms; give that many or more"),
        ({"delays": "nearest", "max_delay_steps": 3}, "takes 4 steps"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message) as error:
        connection(**options)
    assert "\n" not in str(error.value)


def test_no_neurons_are_refused():
    with pytest.raises(ValueError, match="units is 0"):
        DistanceConnection(0)
    lateral = connection()
    with pytest.raises(ValueError, match=r"5 neurons got inputs \(2, 9, 4\)"):
        lateral(tf.zeros([2, 9, 4]), *found(), lateral.initial_state(2))


def model_of(lateral, db_name=None):
    parents = PositionsNode("positions"), BoxNode("box")
    node = DistanceNode("lateral", InputNode("x"), PairIndexer("pairs", parents, CUTOFF), lateral)
    node.db_name = db_name
    return node, parents


FEATURES = {"x": X, "positions": POSITIONS, "box": BOX, "target": SLOPE}
BATCH = {name: tf.constant(value) for name, value in FEATURES.items()}


def test_in_a_graph_it_is_a_sequence_with_a_state():
    lateral = connection()
    node, parents = model_of(lateral)
    model = GraphModule([node.parents[0].parents[0], *parents], [node])
    assert model.temporal == ("x",)
    want, _, _ = brute("linear", "exponential")
    np.testing.assert_allclose(model(BATCH)["lateral"], want, 1e-9, 1e-9)
    first = model.run(BATCH | {"x": BATCH["x"][:, :3]})
    second = model(BATCH | {"x": BATCH["x"][:, 3:]}, first.state)["lateral"]
    np.testing.assert_allclose(second, want[:, 3:], 1e-9, 1e-9)


def test_learning_rules_train_it():
    node, _ = model_of(connection(), "target")
    loss = MSE.of_node(node)
    modules, _ = assemble_for_training(loss, {"loss": loss})
    state = modules.model.initial_state(SIZE)
    step = tf.function(lambda: BPTT().update(modules, BATCH, state), jit_compile=True)
    done = step()
    with tf.GradientTape() as tape:
        (value,) = modules.loss(modules.model(BATCH), BATCH)
    want = tape.gradient(value, modules.model.parameters)
    assert len(want) == 3
    for a, b in zip(done.gradients, want, strict=True):
        np.testing.assert_allclose(a, b, 1e-9)
    windows = TBPTT(STEPS).update(modules, BATCH, state)
    for a, b in zip(windows.gradients, done.gradients, strict=True):
        np.testing.assert_allclose(a, b, 1e-9)


def test_numbers_of_neurons_must_agree():
    node, parents = model_of(DistanceConnection(N + 1))
    model = GraphModule([node.parents[0].parents[0], *parents], [node])
    message = "`x` has 5 neurons, `pairs` 5 positions and the connection 6 units"
    with pytest.raises(GraphError, match=message):
        model(BATCH)
