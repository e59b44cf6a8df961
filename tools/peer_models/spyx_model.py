"""Spyx: `RLIF`, a linear layer and `LI` in one scan (`spyx.nn.run`), everything under jit."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from spyx import axn, nn
from spyx.optimize import backprop

from .problem import (
    LEARNING_RATE,
    MEMBRANE_DECAY,
    READOUT_DECAY,
    SURROGATE_SLOPE,
    Model,
    Problem,
)


class Net(nnx.Module):
    """Input product of the whole sequence, then the scan."""

    def __init__(self, problem: Problem):
        """Makes Spyx's layers and gives them the problem's weights."""
        rngs = nnx.Rngs(0)
        inputs, units = problem.w_in.shape
        classes = problem.w_out.shape[1]
        spike = axn.superspike(SURROGATE_SLOPE)
        self.project = nnx.Linear(inputs, units, use_bias=False, rngs=rngs)
        self.hidden = nn.RLIF((units,), MEMBRANE_DECAY, activation=spike, rngs=rngs)
        self.output = nnx.Linear(units, classes, use_bias=False, rngs=rngs)
        self.integrator = nn.LI((classes,), READOUT_DECAY, rngs=rngs)
        self.project.kernel[...] = jnp.asarray(problem.w_in)
        self.hidden.recurrent_w[...] = jnp.asarray(problem.w_rec)
        self.output.kernel[...] = jnp.asarray(problem.w_out)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the logits `[B, K]` of `x`, `[T, B, F]`."""
        scanned = nn.Sequential(self.hidden, self.output, self.integrator)
        voltages, _ = nn.run(scanned, self.project(x))
        return voltages.mean(0)


def is_weight(path: tuple[Any, ...], value: Any) -> bool:
    """True for what is trained: the three matrices, not the decay factors."""
    del value
    return path[-1] in ("kernel", "recurrent_w")


def build(problem: Problem) -> Model:
    """Builds the model on Spyx's pure gradient step, its state donated to the update.

    The decays travel with the batch: as constants of the program they make XLA's code slower.
    """
    graph, *parts = nnx.split(Net(problem), is_weight, ...)
    weights, decays = parts
    batch = (decays, jnp.asarray(problem.x), jnp.asarray(problem.labels))

    def forward(weights: Any, decays: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, weights, decays)(x)

    def loss_fn(weights: Any, batch: tuple[Any, jax.Array, jax.Array]) -> jax.Array:
        decays, x, labels = batch
        logits = forward(weights, decays, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    key = jax.random.key(0)  # the interface asks for one; gradient descent draws nothing
    solver = backprop(optax.adam(LEARNING_RATE))(loss_fn, weights)
    step = jax.jit(solver.step, donate_argnums=0)
    predict = jax.jit(forward)
    state = solver.init(key)

    def train() -> float:
        nonlocal state
        state, loss = step(state, batch, key)
        jax.block_until_ready(state)
        return float(loss)

    def infer() -> jax.Array:
        return predict(solver.get_params(state), *batch[:2]).block_until_ready()

    return Model(train, infer)
