"""Feedback: the way of an error from a readout back to the neurons that it reads."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from orbit_snn.connections import Dense
from orbit_snn.graph.sequences import NetworkNode
from orbit_snn.seeds import derive
from orbit_snn.types import Initializer

KINDS = ("symmetric", "random", "adaptive")


@dataclasses.dataclass(frozen=True)
class Feedback:
    """Which weights carry learning signals.

    Attributes:
      kind: `symmetric`, the readout's own weights; `random`, fixed matrices; `adaptive`, matrices
        that get the readout's updates and, with the readout, decay, so that both come together
        (Kolen & Pollack 1994; Akrout et al. 2019).
      initializer: of the matrices, N neurons by K outputs, see `connections.dense.initial_weights`;
        from Python also a function `(shape, dtype) -> tensor`.
      gain: factor on them.
      seed: of them; None takes the rule's.
      decay: of `adaptive`: after every update they, and the readout's weights, are multiplied by
        `1 - decay`.

    Raises:
      ValueError: for an unknown kind, a gain that is not finite, or a decay outside [0, 1).
    """

    kind: str = "symmetric"
    initializer: Initializer = "standard_normal"
    gain: float = 1.0
    seed: int | None = None
    decay: float = 1e-2

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"feedback is {self.kind!r}; expected one of {', '.join(KINDS)}.")
        if not math.isfinite(self.gain):
            raise ValueError(f"the feedback's gain is {self.gain}; expected a finite number.")
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"the feedback's decay is {self.decay}; expected 0 or more, below 1.")


class FeedbackMatrices(tf.Module):
    """Feedback of a model: one matrix for each readout and each population that it teaches.

    Args:
      feedback: which kind.
      networks: of the model.
      everywhere: whether a readout teaches every cell of its network, or only the last one, which
        it reads.
      seed: of the matrices where the feedback has none.

    Raises:
      ValueError: for a matrix of a wrong shape.
    """

    def __init__(
        self,
        feedback: Feedback,
        networks: tuple[NetworkNode, ...],
        everywhere: bool,
        seed: int,
    ):
        super().__init__(name="feedback")
        self._everywhere = everywhere
        self.matrices: dict[str, Dense] = {}
        if feedback.kind == "symmetric":
            return
        seed = seed if feedback.seed is None else feedback.seed
        for node in networks:
            for readout, index in self._pairs(node):
                key = _key(node, readout, index)
                cell = node.module.cells[index]
                with self.name_scope:
                    self.matrices[key] = _matrix(
                        feedback,
                        (cell.neuron.units, node.module.readouts[readout].neuron.units),
                        derive(seed, "feedback", key),
                        cell.neuron.dtype,
                        key,
                    )

    def _pairs(self, node: NetworkNode) -> Iterator[tuple[str, int]]:
        for readout in node.module.readouts:
            for index in range(len(node.module.cells)):
                if self.teaches(node, index):
                    yield readout, index

    def teaches(self, node: NetworkNode, index: int) -> bool:
        """Whether a network's readouts send their errors to one of its cells."""
        return self._everywhere or index == len(node.module.cells) - 1

    def signal(
        self, node: NetworkNode, readout: str, index: int, dcurrents: tf.Tensor
    ) -> tf.Tensor:
        """The learning signal `[..., N]` of a cell, given a readout's dE/d(currents) `[..., K]`."""
        matrix = self.matrices.get(_key(node, readout, index))
        connection = node.module.readouts[readout].feedforward if matrix is None else matrix
        return connection.transpose(dcurrents)

    @property
    def trained(self) -> tuple[tf.Variable, ...]:
        """Adaptive matrices."""
        return tuple(v for matrix in self.matrices.values() for v in matrix.parameters)

    def followed(
        self, node: NetworkNode, readout: str, gradients: Sequence[tf.Tensor]
    ) -> dict[Any, tf.Tensor]:
        """Gradients to matrices that follow the weights of a readout, by reference of the variable.

        Args:
          node: of the network.
          readout: its name.
          gradients: to the readout's parameters.
        """
        matrices = [
            matrix
            for name, index in self._pairs(node)
            if name == readout and (matrix := self.matrices.get(_key(node, readout, index)))
        ]
        trained = [variable for matrix in matrices for variable in matrix.parameters]
        if not trained:
            return {}
        connection = node.module.readouts[readout].feedforward
        by_synapse = connection.by_synapse(gradients[: len(connection.parameters)])
        return dict.fromkeys([v.ref() for v in trained], by_synapse[: connection.inputs])


def _key(node: NetworkNode, readout: str, index: int) -> str:
    return f"{node.name}/{readout}/cell{index}"


def _matrix(
    feedback: Feedback, shape: tuple[int, int], seed: int, dtype: tf.DType, key: str
) -> Dense:
    try:
        return Dense(
            *shape,
            initializer=feedback.initializer,
            gain=feedback.gain,
            seed=seed,
            trainable=feedback.kind == "adaptive",
            dtype=dtype,
            name=key.replace("/", "_"),
        )
    except ValueError as error:
        raise ValueError(
            f"the feedback {key}, {shape[0]} neurons by {shape[1]} outputs: {error}"
        ) from error
