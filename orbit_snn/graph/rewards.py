"""Reward-based learning: actions that are drawn, and the loss of an actor and its critic.

With the return `R(t) = sum_k gamma^k r(t + k)` and its error `D(t) = R(t) - V(t)`, which is
`sum_k gamma^k delta(t + k)` of the temporal-difference errors delta, the gradients are

    dE/dV(t) = -c_V D(t)          dE/dlogit_k(t) = D(t) (pi_k(t) - [a(t) = k])

so e-prop with this loss is reward-based e-prop (Bellec et al., Nat. Commun. 11:3625, 2020, eq. 5):
`sum_t delta(t) F_gamma(L ebar)(t)` is `sum_t D(t) L(t) ebar(t)`. Every rule that trains a loss of
whole sequences trains it.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.graph.errors import GraphError
from orbit_snn.graph.nodes import InputNode, Node
from orbit_snn.graph.reductions import Real, Reduction, mean, per_example
from orbit_snn.graph.types import IdxType


class SampledActions(Node):
    """An action at every step, drawn from a softmax, int32 `[B, T]`; no gradient passes.

    The draw inverts the distribution at a uniform number of the data set, so that an example has
    the same luck whenever and wherever it is looked at.

    Args:
      name: of the node.
      logits: node of `[B, T, K]`.
      chance: the feature `[T]` of numbers between 0 and 1, its name or its node.
    """

    def __init__(self, name: str, logits: Node, chance: "InputNode | str"):
        if isinstance(chance, str):
            chance = InputNode(chance, index=IdxType.SEQ_STEP)
        super().__init__(name, (logits, chance), IdxType.SEQ_STEP)

    def compute(self, *values: Any) -> tf.Tensor:
        """The actions."""
        logits, chance = values
        fits = logits.shape.rank == 3 and chance.shape == logits.shape[:2]
        if not fits or not chance.dtype.is_floating:
            raise GraphError(
                f"node `{self.name}` got logits {logits.shape} and chance {chance.shape} of "
                f"{chance.dtype.name}; expected [B, T, K] and [B, T] of numbers between 0 and 1."
            )
        up_to = tf.cumsum(tf.nn.softmax(tf.stop_gradient(logits)), axis=-1)
        passed = tf.cast(chance, logits.dtype)[..., tf.newaxis] >= up_to[..., :-1]
        return tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)


def ActorCritic(
    policy: Node,
    value: Node,
    actions: Node,
    rewards: Node,
    discount: float = 0.99,
    value_weight: float = 0.5,
    entropy_weight: float = 0.0,
    acting: Node | None = None,
) -> Reduction:
    """`sum_t -log pi(a) D + c_V/2 D^2 - c_H H(pi)` of an example, mean over examples.

    In the first term D is a constant, and R is one everywhere: the loss's gradients are those of
    the top of this file. A rule that updates every window takes each window for an episode of its
    own, so that no action is rewarded for what comes after its window.

    Args:
      policy: node of logits, `[B, T, K]`.
      value: node of the critic, `[B, T, 1]`; after the last real step it counts as 0.
      actions: node of actions, `[B, T]`, see `SampledActions`.
      rewards: node of rewards, `[B, T]`.
      discount: gamma, of a step.
      value_weight: c_V.
      entropy_weight: c_H, of a bonus that keeps the policy undecided.
      acting: node `[B, T]` that is true where an action has an effect; default everywhere.

    Raises:
      GraphError: for a discount outside [0, 1], a negative weight, or values of other shapes.
    """
    if not 0.0 <= discount <= 1.0:
        raise GraphError(f"actor_critic: the discount is {discount}; expected 0 to 1.")
    if not (value_weight >= 0.0 and entropy_weight >= 0.0):
        raise GraphError(
            f"actor_critic: value_weight is {value_weight} and entropy_weight {entropy_weight}; "
            "neither can be negative."
        )

    def sums(values: Sequence[tf.Tensor], real: Real, node: Reduction) -> tf.Tensor:
        logits, critic, chosen, reward, *acts = values
        _check_shapes(logits, critic, chosen, reward, *acts)
        dtype = logits.dtype
        steps = tf.ones(chosen.shape, dtype) if real.mask is None else tf.cast(real.mask, dtype)
        returns = discounted(steps * tf.cast(reward, dtype), discount)
        error = tf.stop_gradient(returns) - tf.cast(critic[..., 0], dtype)
        log_policy = tf.nn.log_softmax(logits)
        of_action = tf.reduce_sum(
            log_policy * tf.one_hot(chosen, logits.shape[-1], dtype=dtype), -1
        )
        entropy = -tf.reduce_sum(tf.exp(log_policy) * log_policy, axis=-1)
        actor = -of_action * tf.stop_gradient(error) - entropy_weight * entropy
        if acts:
            actor *= tf.cast(acts[0], dtype)
        total = steps * (actor + 0.5 * value_weight * tf.square(error))
        return per_example(tf.reduce_sum(total, axis=1), real)

    nodes = [policy, value, actions, rewards, *([] if acting is None else [acting])]
    return Reduction("actor_critic", [node.pred for node in nodes], sums, mean)


def discounted(rewards: tf.Tensor, discount: float) -> tf.Tensor:
    """`R(t) = sum_k gamma^k r(t + k)`, `[B, T]`.

    Sums over 1, 2, 4, ... steps are made of two of half the length: log2(T) additions, where a
    matrix of powers would be `[T, T]`.
    """
    steps, ahead = rewards.shape[1], 1
    while ahead < steps:
        later = tf.pad(rewards[:, ahead:], [[0, 0], [0, ahead]])
        rewards += tf.constant(discount**ahead, rewards.dtype) * later
        ahead *= 2
    return rewards


def _check_shapes(
    logits: tf.Tensor, critic: tf.Tensor, actions: tf.Tensor, *of_steps: tf.Tensor
) -> None:
    wanted = logits.shape[:2]
    fits = logits.shape.rank == 3 and critic.shape == [*wanted, 1]
    if not (fits and all(x.shape == wanted for x in (actions, *of_steps))):
        rewards, *acting = (x.shape for x in of_steps)
        also = f" and acting {acting[0]}" if acting else ""
        raise GraphError(
            f"actor_critic got policy {logits.shape}, value {critic.shape}, actions "
            f"{actions.shape}, rewards {rewards}{also}; expected [B, T, K], [B, T, 1] and [B, T] "
            "for all others."
        )
    if not actions.dtype.is_integer:
        raise GraphError(
            f"actor_critic got actions of {actions.dtype.name}; expected integers from 0 to K - 1, "
            "see SampledActions."
        )
