"""What a rule adds to a parameter over some steps, of one replica's samples."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from orbit_snn.learning.plasticity.synaptic import (
    Product,
    Rates,
    Seen,
    SeparableRule,
    SynapsewiseRule,
)
from orbit_snn.learning.plasticity.units import Unit
from orbit_snn.monitors import Record, record
from orbit_snn.types import CellTrajectory
from orbit_snn.unroll.folding import accumulated, folded
from orbit_snn.unroll.forward import steps_of

BatchReduction = Callable[..., tf.Tensor]
"""Of the samples' updates, `(tensor, axis) -> tensor`: `tf.reduce_mean`, `tf.reduce_max`, ..."""


class Parts(NamedTuple):
    """Positive and negative part of an update, of a parameter's shape."""

    pos: tf.Tensor
    neg: tf.Tensor


def seen_by(
    unit: Unit, record: Record, values: dict[str, tf.Tensor], reward: tf.Tensor | None, mask: Any
) -> Seen:
    """What a unit's rule looks at.

    Args:
      unit: the unit.
      record: of its cell, see `only_real`.
      values: of its monitors.
      reward: `[T, B]` or None.
      mask: `[T, B]` or None.
    """
    arriving = record.inputs if unit.state.connection == "feedforward" else record.recurrent
    pre, post = (tf.cast(x > 0.0, unit.state.dtype) for x in (arriving, record.outputs))
    real = None if mask is None else tf.cast(mask, unit.state.dtype)
    if reward is not None:
        reward = tf.cast(reward, unit.state.dtype)
    return Seen(pre, post, values, reward, unit.cell.neuron.dt_ms, real)


def only_real(record: Record, mask: tf.Tensor | None) -> Record:
    """A record whose padding, where the mask `[T, B]` is 0, has no spikes."""
    if mask is None:
        return record
    real = lambda x: tf.cast(mask, x.dtype)[..., tf.newaxis] * x  # noqa: E731
    return record._replace(
        inputs=real(record.inputs), recurrent=real(record.recurrent), outputs=real(record.outputs)
    )


def summed(unit: Unit, seen: Seen, remembered: Any) -> tuple[Parts, Any]:
    """Parts summed over steps and samples, and what the rule remembers."""
    rule, connection, rates = unit.rule, unit.connection, unit.rates
    if isinstance(rule, SeparableRule):
        products = _of_real(rule.products(seen, rates), seen)
        return Parts(*(_product(unit, products, side) for side in ("pos", "neg"))), ()

    def at(t: Any, carry: Any) -> Any:
        totals, remembered = carry
        *parts, remembered = _synapsewise(unit, seen, rates, t, remembered)
        added = [total + tf.reduce_sum(x, axis=0) for total, x in zip(totals, parts, strict=True)]
        return added, remembered

    steps, rows = seen.pre.shape[0], connection.presynaptic(seen.pre[0]).shape[-1]
    zeros = tf.zeros([rows, connection.units], unit.state.dtype)
    totals, remembered = accumulated(steps, at, ([zeros, zeros], remembered))
    return Parts(*(_of_param(unit, total) for total in totals)), remembered


def stepwise(
    unit: Unit,
    seen: Seen,
    remembered: Any,
    reduction: BatchReduction,
    joined: Callable[..., tf.Tensor],
) -> tuple[Parts, Any]:
    """Parts whose samples are reduced in every step, and whose steps are joined one by one.

    Args:
      unit: the unit.
      seen: what its rule looks at.
      remembered: by the rule.
      reduction: of samples.
      joined: see `Accumulator.joined`.
    """
    rates = unit.rates

    def at(t: Any, carry: Any) -> Any:
        totals, remembered = carry
        *parts, remembered = _synapsewise(unit, seen, rates, t, remembered)
        reduced = [_reduced(unit, x, reduction) for x in parts]
        pairs = zip(totals, reduced, strict=True)
        return [joined(total, x, tf.cast(t, tf.int32)) for total, x in pairs], remembered

    zeros = tf.zeros(parameter(unit).shape, unit.state.dtype)
    steps = seen.pre.shape[0]
    totals, remembered = accumulated(steps, at, ([zeros, zeros], remembered))
    return Parts(*totals), remembered


def of_sequence(
    unit: Unit, trajectory: CellTrajectory, state: Any, reward: tf.Tensor | None
) -> tuple[Parts, Any]:
    """Parts of a sequence, mean over samples, and the unit's state after it.

    Args:
      unit: the unit.
      trajectory: of its cell.
      state: of its monitors and rule before the sequence, or None.
      reward: `[T, B]` or None.
    """
    own, monitors = record(trajectory), unit.monitors.values()
    observed = [[tf.cast(x, unit.state.dtype) for x in m.look(own)] for m in monitors]
    size = own.outputs.shape[1]
    if state is None:
        pairs = zip(monitors, observed, strict=True)
        folds = [monitor.reducer.start(seen[0][0]) for monitor, seen in pairs]
        state = folds, start(unit, size)
    values, folds = folded([monitor.reducer for monitor in monitors], observed, state[0])
    named = dict(zip(unit.monitors, values, strict=True))
    parts, remembered = summed(unit, seen_by(unit, own, named, reward, None), state[1])
    return Parts(*(part / size for part in parts)), (folds, remembered)


def parameter(unit: Unit) -> tf.Variable:
    """The variable that a unit's rule changes."""
    return getattr(unit.connection, unit.rule.param)


def start(unit: Unit, batch_size: int) -> Any:
    """What a unit's rule remembers before the first step."""
    rule = unit.rule
    if not isinstance(rule, SynapsewiseRule):
        return ()
    connection = unit.connection
    like = tf.zeros([batch_size, connection.inputs], unit.state.dtype)
    rows = connection.presynaptic(like).shape[-1]
    return rule.start([batch_size, rows, connection.units], unit.state.dtype)


def _product(unit: Unit, products: Sequence[Product], side: str) -> tf.Tensor:
    own = [product for product in products if product.side == side]
    if not own:
        return tf.zeros(parameter(unit).shape, unit.state.dtype)
    dtype = parameter(unit).dtype
    pre = tf.cast(tf.concat([product.pre for product in own], axis=0), dtype)
    post = tf.cast(tf.concat([product.post for product in own], axis=0), dtype)
    return _index(unit, unit.connection.weight_gradient(pre, post))


def _synapsewise(unit: Unit, seen: Seen, rates: Rates, t: Any, remembered: Any) -> tuple:
    """Positive and negative part of step t, `[B, P, N]`, and what is remembered."""
    rule, connection = unit.rule, unit.connection
    if isinstance(rule, SynapsewiseRule):
        now = _step_of(unit, seen, t)
        *parts, remembered = rule.step(now, remembered, rates)
        parts = parts if now.real is None else [now.real * x for x in parts]
        return (*parts, remembered)
    assert isinstance(rule, SeparableRule)
    now = _slice(seen, t)
    products = _of_real(rule.products(now, rates), now)
    found = []
    for side in ("pos", "neg"):
        terms = [
            connection.presynaptic(pre[0])[..., tf.newaxis] * post[0][:, tf.newaxis, :]
            for own, pre, post in products
            if own == side
        ]
        found.append(tf.add_n(terms) if terms else None)
    like = next(x for x in found if x is not None)
    return (*(tf.zeros_like(like) if x is None else x for x in found), ())


def _of_real(products: Sequence[Product], seen: Seen) -> Sequence[Product]:
    """Products that are 0 in padding.

    Raises:
      ValueError: for a side that is none.
    """
    for product in products:
        if product.side not in ("pos", "neg"):
            raise ValueError(f"a Product is of the side {product.side!r}; expected pos or neg.")
    if seen.real is None:
        return products
    real = seen.real[..., tf.newaxis]
    return [product._replace(post=real * product.post) for product in products]


def _step_of(unit: Unit, seen: Seen, t: Any) -> Seen:
    """One step, with a dimension for the other side of the synapses."""
    rows = lambda x: unit.connection.presynaptic(x)[..., tf.newaxis]  # noqa: E731
    columns = lambda x: x[:, tf.newaxis, :]  # noqa: E731
    values = {
        name: (rows if unit.monitors[name].look.presynaptic else columns)(x[t + 1])
        for name, x in seen.values.items()
    }
    synapses = lambda x: None if x is None else x[t][:, tf.newaxis, tf.newaxis]  # noqa: E731
    pre, post = rows(seen.pre[t]), columns(seen.post[t])
    return Seen(pre, post, values, synapses(seen.reward), seen.dt_ms, synapses(seen.real))


def _slice(seen: Seen, t: Any) -> Seen:
    """Step t as a window of one step."""
    values = {name: steps_of(x, t, 2) for name, x in seen.values.items()}
    one = lambda x: None if x is None else x[t][tf.newaxis]  # noqa: E731
    pre, post, reward, real = map(one, (seen.pre, seen.post, seen.reward, seen.real))
    return Seen(pre, post, values, reward, seen.dt_ms, real)


def _reduced(unit: Unit, samples: tf.Tensor, reduction: BatchReduction) -> tf.Tensor:
    """Of `[B, P, N]`, what the samples come to, of the parameter's shape."""
    return reduction(tf.stack([_of_param(unit, x) for x in tf.unstack(samples)]), axis=0)


def _of_param(unit: Unit, products: tf.Tensor) -> tf.Tensor:
    """Products `[P, N]` in the parameter's shape."""
    return _index(unit, unit.connection.synapses(tf.cast(products, parameter(unit).dtype)))


def _index(unit: Unit, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    connection, param = unit.connection, unit.rule.param
    index = connection.parameter_names.index(connection.beside.get(param, param))
    return tf.cast(gradients[index], unit.state.dtype)
