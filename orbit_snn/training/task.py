"""What is trained on what: a network, its objective and its data."""

import dataclasses

import tensorflow as tf

from orbit_snn.data import DataError, Examples, check_examples, element_spec
from orbit_snn.losses import Objective
from orbit_snn.networks import Network
from orbit_snn.types import Batch


@dataclasses.dataclass(frozen=True)
class Task:
    """A network, what it is to minimise and the examples that it sees.

    Attributes:
      name: in files and messages.
      network: to train; made in the scope of the strategy that trains it.
      objective: what to minimise and to report.
      train: examples to learn from.
      validation: examples to watch and choose by while training; None leaves that out.
      test: held-out examples for the numbers at the end; default the validation examples.
    """

    name: str
    network: Network
    objective: Objective
    train: Examples
    validation: Examples | None = None
    test: Examples | None = None

    def check(self, limit: int = 32) -> None:
        """Looks at some examples of every set before time is spent on training.

        Args:
          limit: how many of each.

        Raises:
          DataError: for sequences without steps, NaN, silent inputs, labels without a readout
            output of their own.
        """
        for examples in (self.train, self.validation, self.test):
            if examples is None:
                continue
            self._check_shapes(examples)
            labels = {
                label: self.network.readouts[readout].neuron.units
                for label, readout in self.objective.labels.items()
            }
            check_examples(examples, labels=labels, limit=limit)

    def _check_shapes(self, examples: Examples) -> None:
        """Compares the features of an example with what the network and the objective take."""
        spec = element_spec(examples)
        cell = self.network.cells[0]
        wanted, dtype = cell.feedforward.inputs, cell.neuron.dtype
        given = spec.get("inputs")
        if given is None or given.shape.rank != 2 or given.shape[1] != wanted:
            raise DataError(
                f"an example has {_described(spec)}; the network takes a feature `inputs` of shape "
                f"[T, {wanted}]."
            )
        if given.dtype != dtype:
            raise DataError(
                f"the inputs are {given.dtype.name}, the network computes in {dtype.name}; convert "
                "the data, or make the network with that dtype."
            )
        for name in ("mask", *self.objective.temporal):
            feature = spec.get(name)
            if feature is None and name == "mask":
                continue
            if feature is None or feature.shape[:1] != given.shape[:1]:
                raise DataError(
                    f"an example has {_described(spec)}; `{name}` needs one value for each of the "
                    f"{given.shape[0]} steps of the inputs."
                )
        for name, readout in self.objective.labels.items():
            if name not in spec or readout not in self.network.readouts:
                raise DataError(
                    f"the objective reads the label `{name}` and the readout `{readout}`; there "
                    f"are the features {_described(spec)} and the readouts "
                    f"{', '.join(self.network.readouts)}."
                )


def _described(spec: dict[str, tf.TensorSpec]) -> str:
    return ", ".join(f"`{name}` {feature.shape.as_list()}" for name, feature in spec.items())


def window_of(batch: Batch, objective: Objective, start: int, stop: int) -> Batch:
    """The features of a batch between two steps; those without a time axis stay whole."""
    temporal = {"inputs", "mask", *objective.temporal}
    return {
        name: value[:, start:stop] if name in temporal else value for name, value in batch.items()
    }


def steps_of(batch: Batch) -> int:
    """Number of steps T of a batch, from its static shape."""
    shape = batch["inputs"].shape
    if shape.rank != 3 or shape[1] is None:
        raise ValueError(f"the batch's inputs have shape {shape}; expected [B, T, F], all known.")
    return shape[1]
