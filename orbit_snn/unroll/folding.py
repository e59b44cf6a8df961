"""The loop that folds observations of a sequence, step by step."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.reducers import Reducer
from orbit_snn.unroll.chunks import consecutive
from orbit_snn.unroll.forward import new_array, tree_map


def folded(
    reducers: Sequence[Reducer], observed: Sequence[Sequence[tf.Tensor]], states: Sequence[Any]
) -> tuple[list[tf.Tensor], list[Any]]:
    """Runs reducers over a sequence, all in one loop.

    Args:
      reducers: what folds.
      observed: observations of each, `[T, ...]`.
      states: of each before the first step.

    Returns:
      The value of each before the first step and after every one, `[T + 1, ...]`, and the states
      after the last one.
    """
    if not reducers:
        return [], []
    steps = observed[0][0].shape[0]
    first = [reducer.value(state) for reducer, state in zip(reducers, states, strict=True)]
    if steps == 1:
        after = _step(reducers, states, [[x[0] for x in own] for own in observed])
        values = [reducer.value(state) for reducer, state in zip(reducers, after, strict=True)]
        return [tf.stack(pair) for pair in zip(first, values, strict=True)], list(after)
    read = tree_map(lambda x: new_array(x, steps).unstack(x), [list(own) for own in observed])
    arrays = [new_array(x, steps + 1, x.shape).write(0, x) for x in first]

    def body(t: tf.Tensor, states: Any, arrays: Any) -> tuple:
        states = _step(reducers, states, tree_map(lambda array: array.read(t), read))
        pairs = zip(reducers, states, arrays, strict=True)
        return t + 1, states, [array.write(t + 1, r.value(state)) for r, state, array in pairs]

    _, states, arrays = tf.while_loop(
        lambda t, *_: t < steps, body, (0, list(states), arrays), maximum_iterations=steps
    )
    return [array.stack() for array in arrays], list(states)


def accumulated(steps: int, at: Callable[[Any, Any], Any], initial: Any) -> Any:
    """Runs `state = at(t, state)` over the steps of a sequence and returns the last state."""
    if steps == 1:
        return at(0, initial)
    return consecutive(steps, 1, lambda state, t: at(t, state), initial)


def _step(reducers: Sequence[Reducer], states: Sequence[Any], observed: Any) -> list[Any]:
    triples = zip(reducers, states, observed, strict=True)
    return [reducer.fold(state, *own) for reducer, state, own in triples]
