"""Typed experiment configs, their registry, and how one becomes a run."""

import contextlib
import dataclasses
import functools
import inspect
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import tensorflow as tf
from official.core import config_definitions, exp_factory
from official.modeling import optimization
from official.modeling.hyperparams import Config

from orbit_snn import learning
from orbit_snn.configuration import (
    ConfigError,
    apply,
    check_effect,
    choice,
    lock,
    nearest,
    parse_override,
    ranged,
    read_yaml,
    to_yaml,
    validate,
)
from orbit_snn.data import DataError
from orbit_snn.derived_config import build, config_class, one_of, snake_case
from orbit_snn.graph import L2, FiringRate, GraphError, Voltage
from orbit_snn.graph.algebra import LossNode
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.learning import LearningRule
from orbit_snn.optimizer_config import build_optimizer, check_optimizer
from orbit_snn.runtime import RuntimeConfig, build_strategy
from orbit_snn.seeds import derive
from orbit_snn.training.directory import absolute, check_directory
from orbit_snn.training.errors import RunDirectoryError, TrainingError
from orbit_snn.training.options import TrainingOptions
from orbit_snn.training.runner import Run
from orbit_snn.training.task import Task

RULES: dict[str, type[LearningRule]] = {
    snake_case(rule.__name__): rule
    for rule in vars(learning).values()
    if isinstance(rule, type) and issubclass(rule, LearningRule) and rule is not LearningRule
}
register = exp_factory.register_config_factory


def adam(learning_rate: float) -> optimization.OptimizationConfig:
    """Adam, with a learning rate that falls to 0 along a cosine over `trainer.train_steps`."""
    rate = {"type": "cosine", "cosine": {"initial_learning_rate": learning_rate}}
    return optimization.OptimizationConfig({"optimizer": {"type": "adam"}, "learning_rate": rate})


if TYPE_CHECKING:
    LearningConfig: TypeAlias = Any
    TrainerConfig: TypeAlias = Any
else:
    LearningConfig = one_of("LearningConfig", RULES.values(), "bptt", skip=("seed",))
    TrainerConfig = config_class(
        TrainingOptions,
        extra={
            "optimizer_config": (
                optimization.OptimizationConfig,
                dataclasses.field(default_factory=lambda: adam(1e-3)),
            )
        },
    )


@dataclasses.dataclass
class TaskConfig(Config):
    """Data and graph of a task.

    A task's file subclasses it, adds its fields, and says in `build` what they mean.
    """

    name: str = ""

    def build(self, seed: int, dtype: tf.DType) -> Task:
        """The assembled graph and its data, made in the scope of the strategy that trains it."""
        raise NotImplementedError


@dataclasses.dataclass
class RegularizerConfig(Config):
    """What is added to a task's loss.

    Attributes:
      rate_strength: of `1/2 sum_j (f_j - f*)^2` over the neurons' rates in spikes per step.
      rate_target_hz: f*, in Hz.
      rate_reduction: `sample` takes each example's own rates, `batch` their mean over the batch.
      voltage_strength: of `1/2 sum_j` of the squares by which membrane potentials leave the range
        from `voltage_low` to `voltage_high`.
      voltage_low: in units of the potential.
      voltage_high: in units of the potential.
      l2: strength of `1/2 sum w^2` over all trainable weights (not biases, not time constants).
    """

    rate_strength: float = ranged(0.0, low=0.0)
    rate_target_hz: float = ranged(10.0, low=0.0)
    rate_reduction: str = choice("sample", ("sample", "batch"))
    voltage_strength: float = ranged(0.0, low=0.0)
    voltage_low: float = -2.0
    voltage_high: float = 2.0
    l2: float = ranged(0.0, low=0.0)

    def penalties(self, network: NetworkNode) -> dict[str, LossNode]:
        """The regularisers that have a strength, by name, as terms of a loss."""
        found: dict[str, LossNode] = {}
        if self.rate_strength:
            rates = [
                FiringRate(cell, self.rate_target_hz, self.rate_reduction) for cell in network.cells
            ]
            found["rate"] = self.rate_strength * added(rates)
        if self.voltage_strength:
            outside = [Voltage(cell, self.voltage_low, self.voltage_high) for cell in network.cells]
            found["voltage"] = self.voltage_strength * added(outside)
        if self.l2:
            found["l2"] = self.l2 * L2(network)
        return found


def added(losses: Sequence[LossNode]) -> LossNode:
    """The sum of some losses."""
    return functools.reduce(operator.add, losses)


def reported(error: LossNode, penalties: Mapping[str, LossNode], kind: str) -> dict[str, LossNode]:
    """The loss, `loss`, and where there are penalties, its parts `loss/<name>`.

    Args:
      error: what a task minimises.
      penalties: what is added to it, by name.
      kind: name of the error among the parts.
    """
    if not penalties:
        return {"loss": error}
    parts = {f"loss/{name}": part for name, part in {kind: error, **penalties}.items()}
    return {"loss": added([error, *penalties.values()]), **parts}


@dataclasses.dataclass
class ExperimentConfig(config_definitions.ExperimentConfig):
    """One run, completely: two runs of equal configs give equal numbers.

    Attributes:
      seed: the one seed of the run.
      task: data and graph.
      learning: the learning rule; `learning.type=tbptt` switches it.
      trainer: how long, how often, which optimizer.
      runtime: where.
    """

    seed: int = ranged(0, low=0, high=2**31 - 1)
    task: TaskConfig = dataclasses.field(default_factory=TaskConfig)
    learning: LearningConfig = dataclasses.field(default_factory=LearningConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)


def names() -> list[str]:
    """Names of the registered experiments."""
    return sorted(name for name in exp_factory._REGISTERED_CONFIGS if isinstance(name, str))


def load(
    experiment: str, config_files: Sequence[str] = (), params_override: str = "", tpu: str = ""
) -> ExperimentConfig:
    """The config of a registered experiment, with files and overrides applied in order.

    Raises:
      ConfigError: for an unknown experiment or anything wrong in a file or override.
    """
    known = names()
    if experiment not in known:
        raise ConfigError(
            f"--experiment is {experiment!r}; expected one of {', '.join(known)}."
            f"{nearest(experiment, known)}"
        )
    config = exp_factory.get_exp_config(experiment)
    for path in config_files:
        apply(config, read_yaml(path), source=path)
    if tpu:
        runtime = {"distribution_strategy": "tpu", "tpu": tpu}
        apply(config, {"runtime": runtime}, source="--tpu")
    if params_override:
        values = parse_override(params_override)
        apply(config, values, source="--params_override")
        check_effect(config, values, source="--params_override")
    _fill_in_decay(config)
    validate(config)
    build(TrainingOptions, config.trainer, "trainer")
    build_rule(config)
    lock(config)
    return config


def _fill_in_decay(config: ExperimentConfig) -> None:
    """A schedule without `decay_steps` runs over the whole training."""
    schedule = config.trainer.optimizer_config.learning_rate.get()
    if getattr(schedule, "decay_steps", 0) is None:
        schedule.decay_steps = config.trainer.train_steps


def build_rule(config: ExperimentConfig) -> LearningRule:
    """The learning rule of a config."""
    chosen = config.learning
    rule = RULES[chosen.type]
    seeded = "seed" in inspect.signature(rule).parameters
    given = {"seed": derive(config.seed, "learning")} if seeded else {}
    return build(rule, chosen.get(), f"learning.{chosen.type}", **given)


def build_run(config: ExperimentConfig, model_dir: str | os.PathLike, create: bool = True) -> Run:
    """Makes the run of a config in a directory, which has to be there unless `create`.

    Raises:
      ConfigError, DataError, RunDirectoryError, ValueError: each one line that says what to do.
    """
    directory = absolute(model_dir)
    check_directory(directory, create)
    text = to_yaml(config)
    check_same_run(directory / "params.yaml", config)
    strategy = build_strategy(config.runtime)
    options = build(TrainingOptions, config.trainer, "trainer")
    check_optimizer(config)
    with _enough_memory():
        with strategy.scope():
            task = config.task.build(config.seed, tf.as_dtype(config.runtime.dtype))
            rule = build_rule(config)
            optimizer = build_optimizer(config, task, rule)
        return Run(
            *task,
            rule,
            optimizer,
            directory,
            options,
            config.seed,
            config.runtime.enable_xla,
            strategy,
            configuration=text,
            name=config.task.name,
        )


@contextlib.contextmanager
def _enough_memory() -> Iterator[None]:
    """Says in one line that a configuration is too large for the machine."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise ConfigError(
            "the configuration asks for more memory than this machine has "
            f"({' '.join(str(error).split())[:200]}); make the network or the data smaller."
        ) from error


def is_message(error: Exception) -> bool:
    """Whether an error's text is written for the person at the terminal, without a traceback."""
    written = (ConfigError, DataError, GraphError, RunDirectoryError, TrainingError)
    return isinstance(error, written) or (
        type(error) is ValueError and _raised_in(error).startswith("orbit_snn")
    )


def _raised_in(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")


_MAY_CHANGE = ("trainer", "runtime")


def check_same_run(path: Any, config: ExperimentConfig) -> None:
    """Refuses a directory that holds the run of another experiment, rule, seed or task.

    How long and where a run goes on may change: `trainer` and `runtime`.

    Raises:
      RunDirectoryError: naming the first key that differs and both values.
    """
    if not path.exists():
        return
    try:
        before = read_yaml(str(path))
    except ConfigError as error:
        raise RunDirectoryError(
            f"{error}; move {path} away, or choose another --model_dir."
        ) from error
    now = parse_override(to_yaml(config))
    differing = _first_difference(before, now)
    if differing:
        key, old, new = differing
        raise RunDirectoryError(
            f"{path.parent} holds another run: its {key} is {old!r}, now it is {new!r}; choose "
            "another --model_dir, or the configuration in its params.yaml."
        )


def _first_difference(before: Any, now: Any, key: str = "") -> tuple[str, Any, Any] | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}, key=lambda name: (name != "type", name)):
            if not key and name in _MAY_CHANGE:
                continue
            where = f"{key}.{name}" if key else name
            found = _first_difference(before.get(name), now.get(name), where)
            if found:
                return found
        return None
    return None if before == now else (key, before, now)
