"""e-prop as a rule of a run: what it refuses, what it carries, how it is configured."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from orbit_snn import experiments, graph, neurons
from orbit_snn.cells import Cell
from orbit_snn.configuration import ConfigError
from orbit_snn.connections import Dense
from orbit_snn.data import from_arrays
from orbit_snn.database import Database
from orbit_snn.learning import TBPTT, Eprop, Feedback
from orbit_snn.networks import Network
from orbit_snn.neurons import LIF, LeakyIntegrator, Reset
from orbit_snn.tasks import digits, pattern_generation  # noqa: F401, they register experiments
from orbit_snn.training.trainer import Trainer

F, N, K, STEPS = 3, 5, 2, 10
SPEC = {
    "x": tf.TensorSpec([STEPS, F], tf.float32),
    "target": tf.TensorSpec([STEPS, K], tf.float32),
    "label": tf.TensorSpec([], tf.int32),
    "chance": tf.TensorSpec([STEPS], tf.float32),
}
CHUNKED = {"mode": "chunked", "chunk": 4}
RANDOM = {"feedback": Feedback("random")}


def make_net(units=(N,), readouts=("output",), readout=LeakyIntegrator, **arguments):
    cells, below = [], F
    for size in units:
        cells.append(Cell(LIF(size), Dense(below, size), Dense(size, size, autapses=False)))
        below = size
    made = {name: Cell(readout(K), Dense(below, K)) for name in readouts}
    net = graph.NetworkNode("net", graph.InputNode("x"), Network(cells, made, **arguments))
    for node in net.readouts.values():
        node.db_name = "target"
    return net


def error(net):
    return graph.SquaredError.of_node(next(iter(net.readouts.values())))


def prepare(net, loss=None, **arguments):
    loss = error(net) if loss is None else loss
    modules, _ = graph.assemble_for_training(loss, {"loss": loss})
    rule = Eprop(**arguments)
    rule.prepare(modules, SPEC, STEPS)
    return rule


def classified(net, mode):
    net.output.db_name = "label"
    return graph.CrossEntropy.of_node(graph.Decision("digit", net.output, mode, db_name="label"))


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"mode": "online"}, "mode is 'online'; expected one of factored, chunked, stepwise"),
            ({"chunk": 0}, "chunk is 0; expected a whole number of steps, 1 or more"),
            ({"chunk": "10"}, "chunk is '10'; expected a whole number"),
            ({"chunk": 2.5}, "chunk is 2.5; expected a whole number"),
            ({"feedback": "random"}, r"feedback is 'random'; expected a Feedback, such as Feedb"),
            (
                {"update_every": "window"},
                "update_every is window, and mode=factored goes back once",
            ),
            ({"layer_gradient": "none"}, "layer_gradient is 'none'; expected one of spatial, stop"),
            ({"update_every": "step"}, "update_every is 'step'; expected one of sequence, window"),
        ],
    )
    def test_of_the_rule(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            Eprop(**arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"kind": "direct"}, "feedback is 'direct'; expected one of symmetric, random, adapt"),
            ({"gain": float("nan")}, "the feedback's gain is nan; expected a finite number"),
            ({"decay": 1.0}, "the feedback's decay is 1.0; expected 0 or more, below 1"),
        ],
    )
    def test_of_feedback(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            Feedback(**arguments)

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("learning.eprop.chunk=0", "learning.eprop: chunk is 0"),
            ("learning.eprop.feedback.kind=none", "learning.eprop.feedback: feedback is 'none'"),
            ("learning.eprop.feedback.initialiser=zeros", "initializer"),
            ("learning.feedback.kind=random", "Did you mean `learning.eprop.feedback`"),
        ],
    )
    def test_of_a_configuration(self, override, message):
        with pytest.raises(ConfigError, match=message) as caught:
            experiments.load("digits", params_override=f"learning.type=eprop,{override}")
        assert "\n" not in str(caught.value)


REFUSED = {
    "decision": (
        lambda: (net := make_net(), classified(net, "mean")),
        CHUNKED,
        r"cross_entropy\(digit-pred,digit-true\) depends on the whole .*mode=factored",
    ),
    "rewards": (
        lambda: (net := make_net(), actor_critic(net)),
        CHUNKED,
        "actor_critic.* depends on the whole sequence.*use learning.eprop.mode=factored, or a loss",
    ),
    "windows of whole sequences": (
        lambda: (make_net(), None),
        {"mode": "chunked", "chunk": STEPS, "update_every": "window"},
        "a chunk of 10 holds the whole sequence of 10 steps; use a smaller chunk",
    ),
    "root": (
        lambda: (net := make_net(), error(net) ** 0.5),
        CHUNKED,
        "squared_error.* depends on the whole sequence",
    ),
    "delay after the network": (
        lambda: delayed(make_net()),
        CHUNKED,
        "node `delay` depends on the whole sequence",
    ),
    "spiking readout": (
        lambda: (make_net(readout=lambda k: LIF(k, reset=Reset(gradient=True))), None),
        CHUNKED,
        r"the readout `net.output` \(LIF\) is no linear filter",
    ),
    "unconnected readout": (
        lambda: (net := make_net(readouts=("a", "b")), error(net)),
        {},
        "the readout `net.b` is connected to no loss",
    ),
    "layers without a signal": (
        lambda: (make_net(units=(4, N)), None),
        {"layer_gradient": "stop"},
        "layer_gradient=stop leaves net.cell0 without a learning signal",
    ),
    "layers in chunks": (
        lambda: (make_net(units=(4, N)), None),
        CHUNKED,
        "layer_gradient=spatial takes errors through the memory of the cells above `net.cell0`",
    ),
    "checkpoints": (
        lambda: (make_net(checkpoint_every=2), None),
        CHUNKED,
        "`net` keeps every 2-th state only",
    ),
    "feedback of a wrong shape": (
        lambda: (make_net(), None),
        {"feedback": Feedback("random", initializer=lambda *_: tf.zeros([K, N]))},
        r"the feedback net/output/cell0, 5 neurons by 2 outputs: .*shape \(2, 5\); expected \(5, 2",
    ),
    "unknown initializer": (
        lambda: (make_net(), None),
        {"feedback": Feedback("random", initializer="randn")},
        "initializer is 'randn'; expected normal_fan_in",
    ),
}


def actor_critic(net):
    steps = graph.IdxType.SEQ_STEP
    actions = graph.SampledActions("actions", net.output, "chance")
    value = graph.ModelNode("value", net.output, lambda y: y[..., :1])
    rewards = graph.InputNode("chance", name="rewards", index=steps)
    return graph.ActorCritic(net.output, value, actions, rewards)


class Delay(tf.Module):
    def initial_state(self, size):
        return tf.zeros([size, 1, K])

    def __call__(self, x, state):
        whole = tf.concat([state, x], axis=1)
        return whole[:, :-1], whole[:, -1:]


def delayed(net):
    node = graph.SequenceNode("delay", net.output, Delay(), db_name="target")
    return net, graph.SquaredError.of_node(node)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_said_before_the_first_step(case):
    make, arguments, message = REFUSED[case]
    net, loss = make()
    with pytest.raises(ValueError, match=message) as caught:
        prepare(net, loss, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (lambda net: classified(net, "per_step"), CHUNKED),
        (lambda net: classified(net, "mean"), {}),
        (lambda net: classified(net, "mean"), CHUNKED | {"update_every": "window"}),
        (lambda net: classified(net, "mean"), {"mode": "chunked", "chunk": STEPS}),
        (lambda net: error(net) + 0.1 * graph.L2(net) + graph.L1(net), CHUNKED),
        (lambda net: error(net) + graph.FiringRate(net.cell0, 10.0, "batch"), CHUNKED),
        (lambda net: 2.0 * error(net) + 3.0 * graph.MeanSq.of_node(net.cell0), CHUNKED),
    ],
)
def test_what_can(make, arguments):
    net = make_net()
    assert prepare(net, make(net), **arguments).feedback is not None


def test_feedback_is_in_the_checkpoint(tmp_path):
    """Below the rule's own name, one matrix for each readout."""
    rule = prepare(make_net(), **RANDOM)
    (matrix,) = rule.feedback.matrices.values()
    assert matrix.kernel.name.startswith("eprop/") and not matrix.kernel.trainable
    assert matrix.kernel.shape == [N, K]
    before = matrix.kernel.numpy()
    path = tf.train.Checkpoint(rule=rule).write(str(tmp_path / "rule"))
    matrix.kernel.assign(tf.zeros_like(matrix.kernel))
    tf.train.Checkpoint(rule=rule).read(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(matrix.kernel, before)


def test_adaptive_feedback_is_in_the_checkpoint_once(tmp_path):
    """What is trained and what decays is found below the names of its owners alone."""
    net = make_net()
    loss = error(net)
    modules, _ = graph.assemble_for_training(loss, {"loss": loss})
    rule = Eprop(feedback=Feedback("adaptive"))
    rule.prepare(modules, SPEC, STEPS)
    assert len(rule.trained(modules)) == len(modules.model.parameters) + 1
    assert len(rule.decays(modules)) == 2
    path = tf.train.Checkpoint(rule=rule).write(str(tmp_path / "rule"))
    keys = [k for k, _ in tf.train.list_variables(path) if k.startswith("rule/")]
    assert keys and all(key.startswith("rule/feedback/") for key in keys)


def measured_by(net):
    """Losses that are sums over steps, or not."""
    decision = graph.Decision("digit", net.output, "mean", db_name="label")
    return {
        "mse": graph.MSE.of_node(net.output),
        "mae": graph.MAE.of_node(net.output),
        "nmse": graph.NMSE.of_node(net.output),
        "rmse": graph.MSE.of_node(net.output) ** 0.5,
        "penalty": graph.FiringRate(net.cell0, 50.0),
        "accuracy": graph.Accuracy.of_node(decision),
        "median": graph.DatasetLoss("median", np.median, net.output.pred),
    }


EXACT = {"mse", "mae", "rmse"}


@pytest.mark.parametrize(
    ("rule", "penalised", "known"),
    [
        (lambda: Eprop(), False, EXACT | {"nmse", "penalty", "accuracy"}),
        (lambda: Eprop(**CHUNKED), False, EXACT),
        (lambda: Eprop(mode="stepwise"), True, EXACT | {"penalty"}),
        (lambda: Eprop(**CHUNKED, update_every="window"), False, EXACT),
        (lambda: TBPTT(5), False, EXACT | {"nmse", "penalty", "accuracy"}),
        (lambda: TBPTT(5, "window"), False, EXACT),
    ],
)
def test_training_reports_what_it_knows_and_nothing_else(rule, penalised, known):
    """With weights that do not change, what training reports is what an evaluation finds."""
    draw = np.random.default_rng(0)
    features = {
        "x": 3.0 * draw.normal(size=(6, STEPS, F)).astype(np.float32),
        "target": draw.normal(size=(6, STEPS, K)).astype(np.float32),
        "label": draw.integers(K, size=6).astype(np.int32),
    }
    database = Database({"train": from_arrays(features), "validation": from_arrays(features)})
    net = make_net()
    losses = measured_by(net)
    loss = losses["mse"] + 0.1 * losses["penalty"] if penalised else losses["mse"]
    modules, db_info = graph.assemble_for_training(loss, {"loss": loss, **losses})
    sgd = tf_keras.optimizers.legacy.SGD(0.0)
    found = Trainer(modules, db_info, database, rule(), sgd, 6, xla=False).train(tf.constant(1))
    wanted = modules.evaluator.evaluate_dataset(database)
    assert set(losses) & set(found) == known
    for name in known:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, err_msg=name)


def test_a_run_that_was_not_prepared():
    net = make_net()
    modules, _ = graph.assemble_for_training(error(net), {"loss": error(net)})
    rule = Eprop()
    with pytest.raises(RuntimeError, match="call prepare"):
        rule.forward(modules, {}, rule.initial_state(modules, 2))


def test_adaptive_feedback_comes_close_to_the_readout(tmp_path):
    """Equal updates and decay: the difference shrinks by the decay, whatever is learned."""
    decay, steps = 0.1, 20
    override = (
        f"task.steps=12,task.inputs=10,task.input_rate_hz=200.0,task.model.units=[8],"
        f"learning.type=eprop,learning.eprop.feedback.kind=adaptive,trainer.train_steps={steps},"
        f"learning.eprop.feedback.decay={decay},trainer.optimizer_config.optimizer.type=sgd,"
        "trainer.pictures=0,trainer.steps_per_loop=10,trainer.validation_interval=10,"
        "trainer.checkpoint_interval=10,runtime.dtype=float64,runtime.enable_xla=false"
    )
    run = experiments.build_run(
        experiments.load("pattern_generation", params_override=override), tmp_path
    )
    (matrix,) = run.trainer.rule.feedback.matrices.values()
    (node,) = run.task.training_modules.model.networks
    kernel = node.module.readouts["output"].feedforward.kernel
    before = matrix.kernel.numpy() - kernel.numpy()
    run.trainer.train(tf.constant(steps))
    after = matrix.kernel.numpy() - kernel.numpy()
    np.testing.assert_allclose(after, before * (1.0 - decay) ** steps, rtol=1e-9)


class Sluggish(neurons.Neuron):
    """A model that no part of the library knows: two filters in series, and a soft output."""

    def initial_state(self, batch_size):
        zeros = tf.zeros([batch_size, self.units], self.dtype)
        return (zeros, zeros)

    def step(self, state, current):
        fast, slow = state
        fast = 0.8 * fast + current
        return (fast, 0.9 * slow + 0.1 * tf.tanh(fast))

    def output(self, state):
        return tf.sigmoid(state[1])


def test_a_new_neuron_needs_no_line_of_e_prop():
    """Chunks give the gradient of the whole sequence, for a neuron made up here."""
    draw = np.random.default_rng(0)
    batch = {
        "x": tf.constant(draw.normal(size=(2, STEPS, F))),
        "target": tf.constant(draw.normal(size=(2, STEPS, K))),
    }
    found = []
    for arguments in ({}, CHUNKED, {"mode": "stepwise"}):
        neuron = Sluggish(N, 1.0, tf.float64, None)
        cell = Cell(
            neuron,
            Dense(F, N, bias=True, seed=1, dtype=tf.float64),
            Dense(N, N, seed=2, dtype=tf.float64),
        )
        readout = Cell(LeakyIntegrator(K, dtype=tf.float64), Dense(N, K, seed=3, dtype=tf.float64))
        net = graph.NetworkNode("net", graph.InputNode("x"), Network([cell], readout), "target")
        loss = error(net) + graph.FiringRate(net.cell0, 400.0)
        modules, _ = graph.assemble_for_training(loss, {"loss": loss})
        rule = Eprop(**arguments)
        spec = {name: tf.TensorSpec(x.shape[1:], x.dtype) for name, x in batch.items()}
        rule.prepare(modules, spec, STEPS)
        found.append(rule.update(modules, batch, rule.initial_state(modules, 2)).gradients)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)


def test_a_directory_remembers_every_setting_of_the_rule():
    """Another feedback under the same directory would go on silently with the old matrices."""
    from orbit_snn.training.directory import as_json

    one, other = (as_json(Feedback("random", seed=seed)) for seed in (1, 2))
    assert one != other and one == json.loads(json.dumps(one))
    assert as_json(Feedback("random", initializer=tf.zeros))["initializer"] == "zeros"
