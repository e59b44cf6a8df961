"""Configs of every kind of field, and how tests read and compare them."""

import dataclasses
from typing import Any, Optional

import pytest
from official.core import config_definitions
from official.modeling import hyperparams, optimization

from orbit_snn import configuration as cf

NAMES = ["fast_sigmoid", "triangle"]


@dataclasses.dataclass
class Lif(hyperparams.Config):
    units: int = cf.ranged(100, low=1, high=4096, doc="neurons")
    tau_mem_ms: float = cf.ranged(20.0, above=0)
    dropout: float = cf.ranged(0.0, low=0, below=1)
    surrogate: str = cf.choice("fast_sigmoid", lambda: NAMES)
    recurrent: bool = True
    delays: list[int] = cf.ranged([1, 2], low=1)
    rates: list[float] | None = None
    reset: str | None = cf.choice(None, ["zero", "subtract"])
    scale: float | int | str = cf.ranged("auto", low=0)


@dataclasses.dataclass
class Alif(Lif):
    beta: float = cf.ranged(1.7, low=0)


@dataclasses.dataclass
class Cell(hyperparams.OneOfConfig):
    type: str | None = "lif"
    lif: Lif = dataclasses.field(default_factory=Lif)
    alif: Alif = dataclasses.field(default_factory=Alif)


@dataclasses.dataclass
class Task(config_definitions.TaskConfig):
    cell: Cell = dataclasses.field(default_factory=Cell)
    readout: Optional[Lif] = None  # noqa: UP045
    teacher: Lif | None = dataclasses.field(default_factory=Lif)
    layers: list[Lif] = dataclasses.field(default_factory=list)
    span: tuple[int, str] = (1, "ms")
    window: tuple[float, ...] = (0.0, 1.0)
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    options: dict = dataclasses.field(default_factory=lambda: {"a": 1})


def experiment() -> config_definitions.ExperimentConfig:
    optimizer = {"optimizer": {"type": "adam"}, "learning_rate": {"type": "constant"}}
    return config_definitions.ExperimentConfig(
        task=Task(),
        trainer=config_definitions.TrainerConfig(
            optimizer_config=optimization.OptimizationConfig(optimizer)
        ),
        restrictions=["task.train_data.global_batch_size >= 0", "runtime.num_packs != None"],
    )


def nest(key: str, value: Any) -> Any:
    """Returns {"a": {"b": value}} for "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def lookup(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def contents(config: Any) -> Any:
    """Returns every value and its type, of all branches, for an exact comparison."""
    if isinstance(config, hyperparams.Config):
        return type(config), {k: contents(v) for k, v in vars(config).items()}
    if isinstance(config, (list, tuple)):
        return type(config), [contents(item) for item in config]
    return type(config), config


def refusal(config: Any, values: Any, source: str = "run.yaml") -> str:
    """Returns the message with which `values` are refused; checks that nothing has changed."""
    before = contents(config)
    with pytest.raises(cf.ConfigError) as caught:
        cf.apply(config, cf.parse_override(values) if isinstance(values, str) else values, source)
    assert contents(config) == before
    message = str(caught.value)
    assert message.isprintable() and len(message) < 800
    return message
