"""What the conformance tests of e-prop do with a `zoo.Problem`: the rule, and its own gradient.

e-prop is the gradient of the loss where recurrent spikes are constants. `autodiff` computes that
with TensorFlow, step by step, without any code of the rule.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from orbit_snn.cells import Cell
from orbit_snn.learning import Eprop
from orbit_snn.learning.base import Update
from orbit_snn.types import Batch, CellTrajectory, Trajectory
from tests.conformance import zoo
from tests.conformance.zoo import Problem

Matrices = Mapping[str, np.ndarray]  # feedback of each readout onto the last cell, [N, K]


def prepared(p: Problem, **arguments) -> Eprop:
    """The rule, ready to train the problem."""
    rule = Eprop(**arguments)
    spec = {name: tf.TensorSpec(x.shape[1:], x.dtype) for name, x in p.batch.items()}
    rule.prepare(p.modules, spec, p.steps)
    return rule


def update(p: Problem, rule: Eprop, batch: Batch | None = None) -> Update:
    """One update on the whole sequence."""
    batch = p.batch if batch is None else batch
    size = batch["inputs"].shape[0]
    return rule.update(p.modules, batch, rule.initial_state(p.modules, size))


def gradients(p: Problem, **arguments) -> dict[str, np.ndarray]:
    """Gradients of the rule by the oracle's names of the variables."""
    return zoo.by_name(p, update(p, prepared(p, **arguments)).gradients)


def matrices_of(p: Problem, rule: Eprop) -> Matrices:
    """The rule's feedback onto the last cell, by readout."""
    last = f"cell{len(p.network.cells) - 1}"
    found = rule.feedback.matrices
    return {name: found[f"net/{name}/{last}"].kernel.numpy() for name in p.network.readouts}


def autodiff(
    p: Problem, feedback: Matrices | None = None, stop_layers: bool = False
) -> tuple[tf.Tensor, dict[str, np.ndarray]]:
    """Loss and gradients with recurrent spikes stopped; errors come back through `feedback`."""
    with tf.GradientTape() as tape:
        xs, cells = p.xs, []
        for cell in p.network.cells:
            cells.append(_unroll(cell, tf.stop_gradient(xs) if stop_layers else xs))
            xs = cells[-1].outputs
        readouts = {
            name: _unroll(cell, xs, None if feedback is None else feedback[name])
            for name, cell in p.network.readouts.items()
        }
        loss = zoo.loss_of(p, Trajectory(tuple(cells), readouts))
    return loss, zoo.by_name(p, tape.gradient(loss, p.network.parameters))


def _unroll(cell: Cell, xs: tf.Tensor, feedback: np.ndarray | None = None) -> CellTrajectory:
    if feedback is None:
        driven = cell.feedforward(xs)
    else:
        random = tf.tensordot(xs, tf.constant(feedback), 1)
        driven = cell.feedforward(tf.stop_gradient(xs)) + random - tf.stop_gradient(random)
    neuron, state, outputs, states = cell.neuron, cell.initial_state(xs.shape[1]), [], []
    for current in tf.unstack(driven):
        if cell.recurrent is not None:
            current += cell.recurrent(tf.stop_gradient(neuron.output(state)))
        state = neuron.step(state, current)
        outputs.append(neuron.output(state))
        states.append(state)
    history = tf.nest.map_structure(lambda *x: tf.stack([x[0], *x]), *states)
    return CellTrajectory(xs, None, history, None, None, tf.stack(outputs), None, state)
