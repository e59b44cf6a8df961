"""Accumulated updates of a module's parameters: positive and negative parts, bounded, applied.

    updater = Updater(connection, "kernel")
    updater.kernel = potentiation, depression      # both 0 or more; also `= potentiation`, `= None`
    updater.kernel.neg = more_depression
    updater()                                      # kernel += bounded(pos) - bounded(neg)

An updater knows its module by a weak reference: the module owns the updater, not the other way.
"""

import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from orbit_snn.accumulators import Accumulator

Hook = Callable[[tf.Tensor], tf.Tensor]
"""Gives a parameter its last shape after an update, such as `clamp(0, 1)`."""


class Updater(tf.Module):
    """Accumulators of some parameters of a module, each a property of the parameter's name.

    `updater.kernel = x` adds to the positive part, `= (x, y)` to both, `= None` to none;
    `del updater.kernel` forgets both. `updater()` applies all, `updater("kernel")` one. Variables
    are below `updater/<parameter>/{pos,neg}` of the module's name scope. In a Python loop or branch
    that AutoGraph converts, call `updater.accumulator("kernel").add("pos", x)` instead.

    Args:
      module: of the parameters; it is referenced weakly.
      *params: names of attributes of the module that are variables.
      reduction: of every accumulator, see `Accumulator`; default `sum`.

    Raises:
      ValueError: for a parameter that the module does not have, or whose name an attribute of
        every `tf.Module` has.
    """

    def __init__(self, module: tf.Module, *params: str, reduction: str | None = None):
        for name in params:
            _check_parameter(module, name)
        made = {name: _property(name) for name in params}
        self.__class__ = type(f"{type(module).__name__}Updater", (type(self),), made)
        with module.name_scope:
            super().__init__(name="updater")
        self._parent = weakref.ref(module)
        self._hooks: dict[str, tuple[Hook, ...]] = {}
        variables = {name: getattr(module, name) for name in params}
        with self.name_scope:
            self._updates = {
                name: Accumulator(variable.shape, variable.dtype, reduction or "sum", name)
                for name, variable in variables.items()
            }

    def __setattr__(self, key: str, value: Any) -> None:
        if key in vars(type(self)):
            vars(type(self))[key].fset(self, value)
        elif not key.startswith("_"):
            raise ValueError(f"the updater has no {key!r}; it has {', '.join(self.names)}.")
        else:
            super().__setattr__(key, value)

    def __getattr__(self, key: str) -> Any:
        known = ", ".join(vars(self).get("_updates", ()))
        raise AttributeError(f"the updater has no {key!r}; it has {known}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters."""
        return tuple(self._updates)

    @property
    def parent(self) -> tf.Module:
        """The module whose parameters these are.

        Raises:
          RuntimeError: where it is gone.
        """
        module = self._parent()
        if module is None:
            raise RuntimeError(
                f"the module of this updater ({', '.join(self.names)}) is gone, so there is "
                "nothing to update; keep a reference to the module, or make a new updater."
            )
        return module

    def accumulator(self, name: str) -> Accumulator:
        """That of a parameter.

        Raises:
          ValueError: for an unknown one.
        """
        if name not in self._updates:
            raise ValueError(f"the updater has no {name!r}; it has {', '.join(self.names)}.")
        return self._updates[name]

    def add_post_update(self, name: str, hook: Hook) -> None:
        """Calls a function of a parameter's new value after each of its updates, in order."""
        self.accumulator(name)
        self._hooks = {**self._hooks, name: (*self._hooks.get(name, ()), hook)}

    def updated(self, name: str, param: tf.Tensor, pos: tf.Tensor, neg: tf.Tensor) -> tf.Tensor:
        """A parameter after an update with these reduced parts: bounds, then hooks."""
        value = param + self.accumulator(name).change(param, pos, neg)
        for hook in self._hooks.get(name, ()):
            value = hook(value)
        return value

    def __call__(self, *params: str) -> None:
        """Applies what was accumulated for some parameters, or all; forgets nothing.

        Raises:
          RuntimeError: where the module is gone.
          ValueError: for an unknown parameter.
        """
        module = self.parent
        for name, accumulator in self._accumulators(params):
            variable = getattr(module, name)
            value = tf.convert_to_tensor(variable)
            parts = accumulator.parts(value)
            if parts is None:
                continue
            changed = self.updated(name, value, *parts)
            variable.assign(tf.where(accumulator.empty, value, changed))

    def clear(self, *params: str) -> None:
        """Forgets what was accumulated for some parameters, or all."""
        for _, accumulator in self._accumulators(params):
            accumulator.clear()

    def _accumulators(self, params: tuple[str, ...]) -> list[tuple[str, Accumulator]]:
        """Those of some parameters, or all; of unknown ones none is touched."""
        return [(name, self.accumulator(name)) for name in params or self.names]


class Updatable:
    """What a `tf.Module` with an updater has; its `defaultupdater` makes one.

    `module.updater` is the updater, or None; it may be set and deleted.
    """

    _updater: Updater | None = None

    @property
    def updatable(self) -> bool:
        """Whether there is an updater."""
        return self._updater is not None

    @property
    def updater(self) -> Updater | None:
        """Of the module's parameters."""
        return self._updater

    @updater.setter
    def updater(self, updater: Updater | None) -> None:
        if updater is None:
            del self.updater
        else:
            self._updater = updater

    @updater.deleter
    def updater(self) -> None:
        if self._updater is not None:
            del self._updater  # and not None in its place: a checkpoint would go on to follow it

    def defaultupdater(self) -> Updater:
        """An updater of all parameters, which the module keeps from now on."""
        raise NotImplementedError

    def update(self, clear: bool = True) -> None:
        """Applies all that was accumulated and, by default, forgets it."""
        self.updatesome(clear=clear)

    def updatesome(self, *params: str, clear: bool = True) -> None:
        """Applies what was accumulated for some parameters, or all."""
        if self._updater is not None:
            self._updater(*params)
            if clear:
                self._updater.clear(*params)


def clamp(minimum: float | None = None, maximum: float | None = None) -> Hook:
    """A hook that keeps a parameter between limits.

    Raises:
      ValueError: for a maximum below the minimum.
    """
    low = -float("inf") if minimum is None else minimum
    high = float("inf") if maximum is None else maximum
    if high < low:
        raise ValueError(f"clamp got a minimum of {low} and a maximum of {high}; exchange them.")
    return lambda value: tf.clip_by_value(value, low, high)


def normalize(total: float, axis: int = 0, order: float = 1.0) -> Hook:
    """A hook that scales a parameter so that its norm along an axis is `total`.

    Args:
      total: the norm wanted, above 0.
      axis: 0 for the synapses onto each neuron of a kernel `[F, N]`.
      order: p of the norm `(sum |w|^p)^(1/p)`.
    """
    if not 0 < total < float("inf") or not 0 < order < float("inf"):
        raise ValueError(
            f"normalize got total={total} and order={order}; both must be above 0 and finite."
        )

    def scaled(value: tf.Tensor) -> tf.Tensor:
        norm = tf.reduce_sum(tf.abs(value) ** order, axis=axis, keepdims=True) ** (1.0 / order)
        return tf.math.divide_no_nan(total * value, norm)

    return scaled


_TAKEN = frozenset(dir(tf.Module)) | {"names", "parent", "accumulator", "clear"}


def _check_parameter(module: tf.Module, name: str) -> None:
    if name.startswith("_") or name in _TAKEN or name in dir(Updater):
        raise ValueError(
            f"a parameter called {name!r} would hide an attribute of the updater; rename it."
        )
    value = getattr(module, name, None)
    if not isinstance(value, tf.Variable):
        known = sorted(key for key, v in vars(module).items() if isinstance(v, tf.Variable))
        raise ValueError(
            f"{type(module).__name__} has no parameter {name!r}; it has "
            f"{', '.join(known) or 'none'}."
        )


def _property(name: str) -> property:
    def get(updater: Updater) -> Accumulator:
        return updater.accumulator(name)

    def add(updater: Updater, value: Any) -> None:
        if isinstance(value, tuple) and len(value) != 2:
            raise ValueError(
                f"an update of {name} is a tuple of {len(value)}; expected one tensor, or a "
                "positive and a negative part."
            )
        pos, neg = value if isinstance(value, tuple) else (value, None)
        accumulator = updater.accumulator(name)
        accumulator.add("pos", pos)
        accumulator.add("neg", neg)

    def clear(updater: Updater) -> None:
        updater.accumulator(name).clear()

    return property(get, add, clear)
