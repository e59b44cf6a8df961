"""What of a model, a rule and a number of replicas cannot be trained together."""

from collections.abc import Sequence

from orbit_snn.graph import GraphError, TrainingModules
from orbit_snn.learning import LearningRule
from orbit_snn.learning.base import Window
from orbit_snn.training.task import time_axis_maker

_MOST_EXCHANGES = 64


def check_parts(
    modules: TrainingModules, rule: LearningRule, windows: Sequence[Window], replicas: int
) -> None:
    """Says what cannot be trained in this way before it is tried.

    Args:
      modules: what is to be trained.
      rule: how.
      windows: the spans of steps after which the rule updates.
      replicas: how many share a batch.

    Raises:
      GraphError: for a model without parameters, windows of a time axis that the model makes,
        too many exchanges between replicas, a loss that needs the whole batch in one place.
    """
    if not modules.model.parameters:
        raise GraphError("the model has nothing to train; make some of its weights trainable.")
    maker = time_axis_maker(modules)
    if maker is not None and len(windows) > 1:
        raise GraphError(
            f"node `{maker.name}` makes the time axis inside the model, which cannot be cut "
            f"into the {len(windows)} windows of {rule.name}; make it in the data "
            "(from_arrays(..., encode=...)), or update once a sequence."
        )
    if replicas > 1 and len(windows) > _MOST_EXCHANGES:
        raise GraphError(
            f"{len(windows)} updates in a sequence, each exchanged between {replicas} "
            f"replicas, are more than {_MOST_EXCHANGES}; use longer windows, one update a "
            "sequence, or one replica."
        )
    if replicas > 1 and modules.loss.collected:
        raise GraphError(
            f"{modules.loss.collected[0].name} needs the whole batch at once, which {replicas} "
            "replicas do not have; train on a loss of reductions, or on one replica."
        )
