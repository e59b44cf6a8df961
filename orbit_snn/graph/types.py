"""How the values of a node are indexed, and what a loss knows of a model's node."""

import enum
from typing import Any, Protocol, runtime_checkable


class IdxType(enum.Enum):
    """What the axes of a node's value count.

    SCALAR: nothing, one number a batch, such as a penalty on weights.
    SEQUENCES: examples, `[B, ...]`: one value for a whole sequence.
    SEQ_STEP: examples and time steps, `[B, T, ...]`.
    PAIRS: examples and pairs of neurons, `[B, P, ...]`.
    """

    SCALAR = "scalar"
    SEQUENCES = "sequences"
    SEQ_STEP = "seq_step"
    PAIRS = "pairs"


@runtime_checkable
class Origin(Protocol):
    """A model's node as its predictions and targets see it; see `nodes.Node`."""

    name: str
    db_name: str | None

    @property
    def index(self) -> IdxType | None:
        """How its values are indexed."""

    @property
    def mask(self) -> Any:
        """The input node that marks the real steps of padded sequences, or None."""
