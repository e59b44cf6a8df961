"""Actor and critic: e-prop on their loss is the textbook's reward-based rule; drawn actions."""

import numpy as np
import pytest
import tensorflow as tf

from orbit_snn import experiments, graph
from orbit_snn.cells import Cell
from orbit_snn.configuration import ConfigError
from orbit_snn.connections import Dense
from orbit_snn.decay import decay
from orbit_snn.graph import ActorCritic, GraphError, SampledActions
from orbit_snn.graph.rewards import discounted
from orbit_snn.graph.types import IdxType
from orbit_snn.learning import Eprop, Feedback
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator
from orbit_snn.tasks import delayed_reward
from tests.oracles import eprop as oracle

T, B, F, N, K = 15, 4, 3, 6, 3
TAU, TAU_OUT, GAMMA, WEIGHT = 5.0, 8.0, 0.9, 0.7
DRAW = np.random.default_rng(0)
FEATURES = {
    "x": DRAW.normal(0.4, 1.0, size=(B, T, F)),
    "actions": DRAW.integers(K, size=(B, T)),
    "rewards": DRAW.normal(size=(B, T)),
    "chance": DRAW.random(size=(B, T)),
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"discount": 1.5}, "the discount is 1.5; expected 0 to 1"),
        ({"value_weight": -1.0}, "value_weight is -1.0 .*; neither can be negative"),
    ],
)
def test_bad_arguments(arguments, message):
    nodes = [steps(name) for name in "abcd"]
    with pytest.raises(GraphError, match=message):
        ActorCritic(*nodes, **arguments)


def test_shapes_that_do_not_fit():
    loss = ActorCritic(*(steps(name) for name in "abcd"))
    modules = graph.LossModule([loss])
    values = dict(zip("abcd", ([2, 5, 3], [2, 5], [2, 5], [2, 5]), strict=True))
    with pytest.raises(GraphError, match=r"value \(2, 5\).*expected \[B, T, K\], \[B, T, 1\]"):
        modules({name: tf.zeros(shape) for name, shape in values.items()}, {})


def config(override=""):
    small = "task.cue_steps=10,task.delay_steps=5,task.act_steps=5,task.reward_steps=5"
    text = ",".join(filter(None, (small, override)))
    return experiments.load("delayed_reward", params_override=text)


class TestTask:
    def test_an_example(self):
        task = delayed_reward.DelayedRewardConfig()
        example = {n: x.numpy() for n, x in task.draw(tf.constant([1, 2])).items()}
        assert example["inputs"].shape == (task.steps, 30) == (130, 30)
        groups = example["inputs"].reshape(130, 3, 10)
        assert groups[:40, example["cue"]].any() and not groups[:40, 1 - example["cue"]].any()
        assert not groups[40:80].any() and groups[80:100, 2].any() and not groups[100:].any()
        assert np.flatnonzero(example["acting"]).tolist() == [task.decision] == [99]

    def test_the_reward_comes_at_the_end(self):
        task = delayed_reward.DelayedRewardConfig()
        actions = tf.one_hot(99, 130, dtype=tf.int32)[tf.newaxis] * tf.ones([2, 1], tf.int32)
        rewards = task.rewards(actions, tf.constant([1, 0])).numpy()
        assert rewards.sum(axis=1).tolist() == [1.0, 0.0] and rewards[0, 129] == 1.0

    @pytest.mark.parametrize("rule", ["bptt", "eprop"])
    def test_it_is_learned(self, tmp_path, rule):
        """From chance to nearly always in a small version."""
        override = (
            f"learning.type={rule},trainer.train_steps=160,trainer.pictures=0,task.model.units=[40],"
            "task.validation_examples=200,trainer.validation_interval=160,task.test_examples=200,"
            "trainer.checkpoint_interval=160,"
            "trainer.optimizer_config.learning_rate.cosine.initial_learning_rate=0.02"
        )
        run = experiments.build_run(config(override), tmp_path)
        first = run.trainer.train(tf.constant(1))["reward"]
        run.train()
        last = run.trainer.train(tf.constant(5))["reward"]
        assert first < 0.7 and last > 0.85

    def test_bad_values(self):
        with pytest.raises(ConfigError, match="task.discount.: got 1.2"):
            config("task.discount=1.2")
