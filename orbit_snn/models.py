"""A network from a config: layers of one or two neuron models and a readout."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import tensorflow as tf
from official.modeling.hyperparams import Config

from orbit_snn import neurons
from orbit_snn.cells import Cell
from orbit_snn.configuration import ConfigError, ranged
from orbit_snn.connections import Dense
from orbit_snn.derived_config import build, config_class, one_of, snake_case
from orbit_snn.networks import Network
from orbit_snn.neurons import LeakyIntegrator, Mixed, Neuron
from orbit_snn.seeds import derive

_GIVEN = ("units", "dt_ms", "dtype", "name")

NEURONS: dict[str, type[Neuron]] = {
    snake_case(model.__name__): model
    for model in vars(neurons).values()
    if isinstance(model, type) and issubclass(model, Neuron) and model is not Neuron
    if "units" in inspect.signature(model).parameters
}
if TYPE_CHECKING:
    NeuronConfig: TypeAlias = Any
    ReadoutNeuronConfig: TypeAlias = Any
else:
    NeuronConfig = one_of("NeuronConfig", NEURONS.values(), "lif", skip=_GIVEN)
    ReadoutNeuronConfig = config_class(LeakyIntegrator, skip=_GIVEN)


@dataclasses.dataclass
class ReadoutConfig(Config):
    """A leaky integrator that reads the last layer.

    Attributes:
      neuron: its time constant and gain.
      bias: whether it has a trained bias.
      initializer: of its weights, see `connections.dense.initial_weights`.
      gain: factor on its initial weights.
    """

    neuron: ReadoutNeuronConfig = dataclasses.field(default_factory=ReadoutNeuronConfig)
    bias: bool = True
    initializer: str = "normal_fan_in"
    gain: float = 1.0


@dataclasses.dataclass
class ModelConfig(Config):
    """Layers of spiking or rate neurons and one readout.

    Attributes:
      units: neurons of every layer, from the input on.
      neuron: the model of all neurons, or of all but `other_share` of each layer.
      other_neuron: a second model for the last neurons of each layer.
      other_share: which part of each layer the second model has, 0 for none.
      recurrent: whether every layer has a connection onto itself, without autapses.
      bias: whether the feedforward connections have a trained bias.
      dt_ms: length of a step.
      initializer: of all weights but the readout's.
      gain: factor on the initial feedforward weights.
      recurrent_gain: factor on the initial recurrent weights.
      readout: of the last layer.
      checkpoint_every: keep every C-th state of a sequence only and compute the rest again in the
        reverse pass, for long sequences.
    """

    units: list[int] = ranged([128], low=1)
    neuron: NeuronConfig = dataclasses.field(default_factory=NeuronConfig)
    other_neuron: NeuronConfig = dataclasses.field(
        default_factory=lambda: NeuronConfig(type="alif")
    )
    other_share: float = ranged(0.0, low=0.0, high=1.0)
    recurrent: bool = True
    bias: bool = False
    dt_ms: float = ranged(1.0, above=0.0)
    initializer: str = "normal_fan_in"
    gain: float = 1.0
    recurrent_gain: float = 1.0
    readout: ReadoutConfig = dataclasses.field(default_factory=ReadoutConfig)
    checkpoint_every: int | None = ranged(None, low=1)


def build_network(
    config: ModelConfig,
    inputs: int,
    outputs: int | Mapping[str, int],
    seed: int,
    dtype: tf.DType,
    key: str,
) -> Network:
    """Makes the network of a config.

    Args:
      config: of the model.
      inputs: values a step, F.
      outputs: of the readout, K; or of several readouts, by name, all made by `config.readout`.
      seed: of the initial weights.
      dtype: of weights and states.
      key: where the config stands, for messages.

    Raises:
      ConfigError: where a neuron model refuses a value.
    """
    cells = []
    try:
        with tf.name_scope("network"):
            for index, units in enumerate(config.units):
                with tf.name_scope(f"cell{index}"):
                    cells.append(_cell(config, index, inputs, units, seed, dtype, key))
                inputs = units
            with tf.name_scope("readout"):
                named = {"output": outputs} if isinstance(outputs, int) else outputs
                readouts = {}
                for name, size in named.items():
                    path = ("readout",) if name == "output" else ("readout", name)
                    own = derive(seed, *path)
                    readouts[name] = _readout(config, inputs, size, own, dtype, f"{key}.readout")
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{key}: {error}") from error
    return Network(cells, readouts, config.checkpoint_every)


def _cell(
    config: ModelConfig, index: int, inputs: int, units: int, seed: int, dtype: tf.DType, key: str
) -> Cell:
    common: dict[str, Any] = {"initializer": config.initializer, "dtype": dtype}
    feedforward = Dense(
        inputs,
        units,
        bias=config.bias,
        gain=config.gain,
        seed=derive(seed, "cell", index, "feedforward"),
        name="feedforward",
        **common,
    )
    recurrent = None
    if config.recurrent:
        recurrent = Dense(
            units,
            units,
            autapses=False,
            gain=config.recurrent_gain,
            seed=derive(seed, "cell", index, "recurrent"),
            name="recurrent",
            **common,
        )
    return Cell(_population(config, units, dtype, key), feedforward, recurrent)


def _population(config: ModelConfig, units: int, dtype: tf.DType, key: str) -> Neuron:
    other = round(config.other_share * units)
    parts = []
    for count, name in ((units - other, "neuron"), (other, "other_neuron")):
        if count:
            chosen = getattr(config, name)
            parts.append(build_neuron(chosen, count, config.dt_ms, dtype, f"{key}.{name}"))
    return parts[0] if len(parts) == 1 else Mixed(parts)


def build_neuron(
    config: NeuronConfig, units: int, dt_ms: float, dtype: tf.DType, key: str
) -> Neuron:
    """Makes a population of a config.

    Args:
      config: its model and settings.
      units: N.
      dt_ms: length of a step.
      dtype: of state and currents.
      key: where the config stands, for messages.

    Raises:
      ConfigError: where the neuron model refuses a value.
    """
    sizes = {"units": units, "dt_ms": dt_ms, "dtype": dtype}
    return build(NEURONS[config.type], config.get(), f"{key}.{config.type}", **sizes)


def _readout(
    config: ModelConfig, inputs: int, outputs: int, seed: int, dtype: tf.DType, key: str
) -> Cell:
    readout = config.readout
    neuron = build(
        LeakyIntegrator,
        readout.neuron,
        f"{key}.neuron",
        units=outputs,
        dt_ms=config.dt_ms,
        dtype=dtype,
    )
    connection = Dense(
        inputs,
        outputs,
        bias=readout.bias,
        initializer=readout.initializer,
        gain=readout.gain,
        seed=seed,
        dtype=dtype,
        name="feedforward",
    )
    return Cell(neuron, connection)
