"""What is trained on what: a network, its objective and its data."""

import dataclasses

import tensorflow as tf

from orbit_snn.data import Examples, check_examples
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
            labels = {
                label: self.network.readouts[readout].neuron.units
                for label, readout in self.objective.labels.items()
            }
            check_examples(examples, labels=labels, limit=limit)


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


def element_spec(examples: Examples) -> dict[str, tf.TensorSpec]:
    """Shapes and types of one unbatched example."""
    index, seed = tf.TensorSpec([], tf.int64), tf.TensorSpec([2], tf.int32)
    outputs = tf.function(examples.fetch).get_concrete_function(index, seed).structured_outputs
    return dict(outputs)
