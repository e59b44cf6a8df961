"""Actor and critic: e-prop on their loss is the textbook's reward-based rule; drawn actions."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import graph
from orbit_snn.cells import Cell
from orbit_snn.connections import Dense
from orbit_snn.decay import decay
from orbit_snn.graph import ActorCritic, GraphError, SampledActions
from orbit_snn.graph.rewards import discounted
from orbit_snn.graph.types import IdxType
from orbit_snn.learning import Eprop, Feedback
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from tests.oracles import eprop as oracle

T, B, F, N, K = 15, 4, 3, 6, 3
TAU, TAU_OUT, GAMMA, WEIGHT = 5.0, 8.0, 0.9, 0.7
DRAW = np.random.default_rng(0)
FEATURES = {
    "x": DRAW.normal(0.4, 1.0, size=(B, T, F)),
    "actions": DRAW.integers(K, size=(B, T)),
    "rewards": DRAW.normal(size=(B, T)),
    "chance": DRAW.random(size=(B, T)),
    "acting": DRAW.random(size=(B, T)) < 0.5,
    "mask": np.arange(T) < np.array([T, T, T, 9])[:, np.newaxis],
}
BATCH = {name: tf.constant(value) for name, value in FEATURES.items()}


def steps(name):
    return graph.InputNode(name, index=IdxType.SEQ_STEP)


def network():
    def dense(inputs, units, seed, **arguments):
        return Dense(inputs, units, seed=seed, dtype=tf.float64, **arguments)

    hidden = Cell(
        LIF(N, TAU, threshold=0.6, dtype=tf.float64),
        dense(F, N, 1, bias=True),
        dense(N, N, 2, autapses=False),
    )
    heads = {
        name: Cell(LeakyIntegrator(size, TAU_OUT, dtype=tf.float64), dense(N, size, 3 + i))
        for i, (name, size) in enumerate({"policy": K, "value": 1}.items())
    }
    return Network([hidden], heads)


def modules_of(net, mask=None, **arguments):
    node = graph.NetworkNode("net", graph.InputNode("x", mask=mask), net)
    loss = ActorCritic(
        node.policy, node.value, steps("actions"), steps("rewards"), GAMMA, WEIGHT, **arguments
    )
    return graph.assemble_for_training(loss, {"loss": loss})[0]


def update(modules, batch=BATCH, **arguments):
    rule = Eprop(**arguments)
    rule.prepare(modules, {n: tf.TensorSpec(x.shape[1:], x.dtype) for n, x in batch.items()}, T)
    size = batch["x"].shape[0]
    return rule, rule.update(modules, batch, rule.initial_state(modules, size))


def test_e_prop_is_the_textbooks_rule():
    """Temporal-difference errors times traces of `L ebar` that decay with the discount."""
    net = network()
    rule, done = update(modules_of(net), feedback=Feedback("random"))
    own = net.cells[0]
    population = oracle.Population(decay(TAU, 1.0), threshold=0.6)
    weights = [v.numpy() for v in own.parameters]  # kernel, bias, recurrent
    record = oracle.simulate(
        population, weights[0], weights[2], weights[1], FEATURES["x"].swapaxes(0, 1)
    )
    assert 0.05 < record.z.mean() < 0.7
    readouts = oracle.Readouts(decay(TAU_OUT, 1.0))
    heads = [net.readouts[name] for name in ("policy", "value")]
    w_out = np.concatenate([head.feedforward.kernel.numpy() for head in heads], axis=1)
    y = oracle.readout(readouts, w_out, None, record.z)
    matrices = rule.feedback.matrices
    feedback = np.concatenate(
        [matrices[f"net/{name}/cell0"].kernel.numpy() for name in ("policy", "value")], axis=1
    )
    want = oracle.actor_critic(
        record,
        readouts,
        y,
        feedback,
        FEATURES["actions"].T,
        FEATURES["rewards"].T,
        GAMMA,
        WEIGHT,
    )
    names = ("input", "bias", "recurrent", "policy", "value")
    for name, gradient in zip(names, done.gradients, strict=True):
        atol = 1e-9 * np.abs(want[name]).max()
        np.testing.assert_allclose(gradient, want[name], rtol=0, atol=atol, err_msg=name)


PADDED = np.arange(T) < np.array([T, 9, T, 0])[:, np.newaxis]


def credit(rewards, value):
    """What each step gets of every later error `r + gamma V' - V`, by a trace that decays."""
    value = np.append(value, 0.0)
    given, trace = np.zeros(len(rewards)), np.zeros(len(rewards))
    for t, reward in enumerate(rewards):
        trace *= GAMMA
        trace[t] = 1.0
        given += (reward + GAMMA * value[t + 1] - value[t]) * trace
    return given


def by_hand(features, weight, mask, entropy_weight):
    """The loss and its gradients to logits and values, forward in time (spec 1.8), by example."""
    loss, to_logits, to_value = 0.0, np.zeros([B, T, K]), np.zeros([B, T, 1])
    share = weight / np.sum(weight * mask.any(axis=1))
    for b, n in enumerate(mask.sum(axis=1)):
        logits, acts, rewards = (features[k][b, :n] for k in ("logits", "acting", "rewards"))
        given = credit(rewards, features["value"][b, :n, 0])
        policy = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        entropy = -(policy * np.log(policy)).sum(axis=1)
        chosen = np.eye(K)[features["actions"][b, :n]]
        slope = policy * (np.log(policy) + entropy[:, np.newaxis])  # of minus the entropy
        actor = given[:, np.newaxis] * (policy - chosen) + entropy_weight * slope
        to_logits[b, :n] = share[b] * acts[:, np.newaxis] * actor
        to_value[b, :n, 0] = -share[b] * WEIGHT * given
        surprise = -np.log(policy[np.arange(n), features["actions"][b, :n]])
        cost = acts * (surprise * given - entropy_weight * entropy) + WEIGHT / 2 * given**2
        loss += share[b] * cost.sum()
    return loss, to_logits, to_value


@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
@pytest.mark.parametrize("mask", [None, PADDED], ids=["whole", "padded"])
def test_the_loss_by_hand(mask, entropy_weight):
    """Value and gradients; an example of weight 0 and one without a real step have no part."""
    outputs = {"logits": DRAW.normal(size=(B, T, K)), "value": DRAW.normal(size=(B, T, 1))}
    features = FEATURES | outputs
    logits = graph.InputNode("logits", index=IdxType.SEQ_STEP, mask=None if mask is None else "m")
    others = [steps(name) for name in ("value", "actions", "rewards")]
    loss = ActorCritic(logits, *others, GAMMA, WEIGHT, entropy_weight, acting=steps("acting"))
    values = {name: tf.constant(x) for name, x in features.items()}
    weight = np.array([1.0, 1.0, 0.0, 1.0])
    real = np.ones([B, T], bool) if mask is None else mask
    with tf.GradientTape() as tape:
        watched = [values[name] for name in ("logits", "value", "rewards")]
        tape.watch(watched)
        (found,) = graph.LossModule([loss])(values, {"weight": tf.constant(weight), "m": real})
    gradients = tape.gradient(found, watched)
    want, *wanted = by_hand(features, weight, real, entropy_weight)
    np.testing.assert_allclose(found, want, rtol=1e-9)
    for gradient, expected in zip(gradients, wanted, strict=False):
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)
    assert gradients[2] is None, "the return is a constant, whatever the rewards are made of"


def test_xla_gives_the_same_loss_and_gradients():
    """Of actions that are drawn, too."""
    nodes = [steps(name) for name in ("logits", "value", "rewards")]
    actions = SampledActions("actions", nodes[0], "chance")
    modules = graph.LossModule([ActorCritic(*nodes[:2], actions, nodes[2], GAMMA, WEIGHT, 0.1)])

    def gradients(logits, value):
        with tf.GradientTape() as tape:
            tape.watch([logits, value])
            drawn = actions.compute(logits, BATCH["chance"])
            values = {**BATCH, "logits": logits, "value": value, "actions": drawn}
            (loss,) = modules(values, {})
        return loss, *tape.gradient(loss, [logits, value])

    outputs = [tf.constant(DRAW.normal(size=(B, T, size))) for size in (K, 1)]
    compiled = tf.function(gradients, jit_compile=True)(*outputs)
    for a, b in zip(gradients(*outputs), compiled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        assert np.any(a)


def test_padded_steps_have_no_part():
    """A masked sequence gives what the shorter one gives."""
    net = network()
    last = {name: x[3:] for name, x in BATCH.items()}
    changed = last | {"rewards": tf.where(last["mask"], last["rewards"], 100.0)}
    _, masked = update(modules_of(net, mask="mask"), changed)
    short = {name: x[:, :9] for name, x in last.items()}
    _, alone = update(modules_of(net), short)
    for a, b in zip(masked.gradients, alone.gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_the_batch_is_the_mean_of_its_examples():
    modules = modules_of(network())
    _, whole = update(modules)
    each = [update(modules, {n: x[i : i + 1] for n, x in BATCH.items()})[1] for i in range(B)]
    for i, gradient in enumerate(whole.gradients):
        mean = np.mean([done.gradients[i] for done in each], axis=0)
        np.testing.assert_allclose(gradient, mean, rtol=1e-9, atol=1e-12)


def test_an_action_counts_only_where_it_acts():
    net = network()
    nowhere = {**BATCH, "acting": tf.zeros([B, T], tf.bool)}
    _, done = update(modules_of(net, acting=steps("acting")), nowhere)
    policy = [v.ref() for v in net.parameters].index(
        net.readouts["policy"].feedforward.kernel.ref()
    )
    assert not np.any(done.gradients[policy])
    assert np.any(done.gradients[0])  # by way of the critic


def test_online_modes_say_that_they_cannot():
    with pytest.raises(GraphError, match="actor_critic.* depends on the whole .*mode=factored"):
        update(modules_of(network()), mode="chunked", chunk=4)


def test_returns():
    rewards = FEATURES["rewards"]
    want = [sum(GAMMA**k * rewards[:, t + k] for k in range(T - t)) for t in range(T)]
    np.testing.assert_allclose(discounted(tf.constant(rewards), GAMMA), np.transpose(want))
    np.testing.assert_array_equal(discounted(tf.constant(rewards), 0.0), rewards)
    np.testing.assert_array_equal(discounted(tf.constant(rewards[:, :1]), GAMMA), rewards[:, :1])
    total = discounted(tf.constant(rewards), 1.0)
    np.testing.assert_allclose(total[:, 0], rewards.sum(axis=1))


class TestActions:
    def node(self):
        return SampledActions("actions", steps("logits"), "chance")

    def test_frequencies(self):
        """Those of the softmax, over many draws."""
        logits = tf.broadcast_to(tf.constant([1.0, 0.0, -1.0]), [2, 20000, 3])
        chance = tf.constant(np.random.default_rng(1).random((2, 20000)), tf.float32)
        found = np.bincount(self.node().compute(logits, chance).numpy().ravel(), minlength=3)
        np.testing.assert_allclose(found / 40000, tf.nn.softmax(logits[0, 0]), atol=0.01)

    def test_the_same_with_xla_and_without_a_gradient(self):
        logits = tf.constant(DRAW.normal(size=(B, T, K)))
        plain = self.node().compute(logits, BATCH["chance"])
        compiled = tf.function(self.node().compute, jit_compile=True)(logits, BATCH["chance"])
        np.testing.assert_array_equal(plain, compiled)
        assert set(np.unique(plain)) <= set(range(K))

    def test_shapes(self):
        with pytest.raises(GraphError, match=r"logits \(4, 3\) and chance"):
            self.node().compute(tf.zeros([4, 3]), tf.zeros([4]))
        with pytest.raises(GraphError, match=r"chance \(4, 5\) of int32; expected .* 0 and 1\."):
            self.node().compute(tf.zeros([4, 5, 3]), tf.zeros([4, 5], tf.int32))

    def test_an_action_that_cannot_be_is_not_drawn(self):
        """Whatever the chance, at the ends of its range too."""
        logits = tf.constant([[[0.0, -1e9, 0.0]] * 3, [[-1e9, 0.0, -1e9]] * 3])
        chance = tf.constant([[0.0, 0.5, 1.0 - 2.0**-24]] * 2)
        found = self.node().compute(logits, chance).numpy()
        assert found.tolist() == [[0, 2, 2], [1, 1, 1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"discount": 1.5}, "the discount is 1.5; expected 0 to 1"),
        ({"discount": -0.1}, "the discount is -0.1; expected 0 to 1"),
        ({"discount": float("nan")}, "the discount is nan; expected 0 to 1"),
        ({"value_weight": -1.0}, "value_weight is -1.0 .*; neither can be negative"),
        ({"value_weight": float("nan")}, "value_weight is nan .*; neither can be negative"),
        ({"entropy_weight": -1.0}, "entropy_weight -1.0; neither can be negative"),
    ],
)
def test_bad_arguments(arguments, message):
    nodes = [steps(name) for name in "abcd"]
    with pytest.raises(GraphError, match=message):
        ActorCritic(*nodes, **arguments)


GOOD = {"l": [2, 5, 3], "v": [2, 5, 1], "a": [2, 5], "r": [2, 5], "on": [2, 5]}


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("l", tf.zeros([2, 3]), r"policy \(2, 3\), .*; expected \[B, T, K\], \[B, T, 1\]"),
        ("v", tf.zeros([2, 5]), r"value \(2, 5\), .*; expected \[B, T, K\], \[B, T, 1\]"),
        ("a", tf.zeros([2, 4], tf.int32), r"actions \(2, 4\), .* and \[B, T\] for all others"),
        ("a", tf.zeros([2, 5]), "actions of float32; expected integers from 0 to K - 1"),
        ("r", tf.zeros([2, 5, 1]), r"rewards \(2, 5, 1\) and acting \(2, 5\); expected"),
        ("on", tf.zeros([2, 1]), r"rewards \(2, 5\) and acting \(2, 1\); expected"),
    ],
)
def test_values_that_do_not_fit(name, bad, message):
    loss = ActorCritic(*(steps(node) for node in "lvar"), acting=steps("on"))
    types = {"a": tf.int32, "on": tf.bool}
    values = {n: tf.zeros(shape, types.get(n, tf.float32)) for n, shape in GOOD.items()}
    with pytest.raises(GraphError, match=message) as caught:
        graph.LossModule([loss])(values | {name: bad}, {})
    assert "\n" not in str(caught.value)
