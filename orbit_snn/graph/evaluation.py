"""Validation losses over a whole data set: exact, whatever the batches and replicas are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from orbit_snn import losses
from orbit_snn.graph.loss_module import LossModule, real_of
from orbit_snn.graph.measures import total_and_number
from orbit_snn.graph.module import GraphModule, GraphRun
from orbit_snn.graph.nodes import OutputNode
from orbit_snn.graph.sequences import outputs_of
from orbit_snn.metrics import rate_summary
from orbit_snn.types import Batch

RATES = "rates/"


class Batches(Protocol):
    """Gives the examples of a split in batches, padded ones with `weight` 0."""

    def batches(self, split: str, batch_size: int, *, names: Sequence[str]) -> Iterable[Batch]:
        """Every example of the split once, with these features."""


class GraphEvaluator:
    """Computes validation losses, and the rates of all cells, from sums over examples.

    Args:
      model: what is evaluated.
      loss: the validation losses.
      names: of the losses.
      plot_maker: draws predictions, or None.
      db_info: names of the features that the model and its losses take.
    """

    def __init__(
        self,
        model: GraphModule,
        loss: LossModule,
        names: Sequence[str],
        plot_maker: Any = None,
        db_info: Mapping[str, Sequence[str]] | None = None,
    ):
        self.model = model
        self.loss = loss
        self.names = tuple(names)
        self.plot_maker = plot_maker
        self.db_info = dict(db_info or {})

    @property
    def var_list(self) -> tuple[str, ...]:
        """Every feature that an evaluation needs, once."""
        return tuple(dict.fromkeys(n for names in self.db_info.values() for n in names))

    @property
    def cells(self) -> dict[str, OutputNode]:
        """Cells whose rates are reported: `cell0`, or `a.cell0` of one network among several."""
        networks = self.model.networks
        return {
            cell.key if len(networks) == 1 else cell.name: cell
            for node in networks
            for cell in node.cells
        }

    def sums(self, run: GraphRun, batch: Batch, skip: Sequence[str] = ()) -> dict[str, tf.Tensor]:
        """What is added up over batches and replicas, float64 `[S]` each.

        Args:
          run: of the model on the batch.
          batch: its features, `weight` too where examples are padded.
          skip: names of losses that are not wanted.
        """
        wanted = self.loss.needed_for(i for i, name in enumerate(self.names) if name not in skip)
        found = self.loss.sums(run.values, batch, tf.float64, wanted)
        for name, cell in self.cells.items():
            trajectory = run.values[cell.parents[0].name]
            found[RATES + name] = _rates(cell, trajectory, batch)
        return found

    def results(self, sums: Mapping[str, np.ndarray], learning: bool = False) -> dict[str, Any]:
        """Losses by name, and mean output per step of every cell's neurons, `rates/<cell>` `[N]`.

        Args:
          sums: added over all examples; losses of which some are missing are left out.
          learning: whether the model changed in between.
        """
        own = {key: value for key, value in sums.items() if not key.startswith(RATES)}
        pairs = zip(self.names, self.loss.results(own, learning), strict=True)
        found: dict[str, Any] = {name: value for name, value in pairs if value is not None}
        for key, value in sums.items():
            if key.startswith(RATES):
                with np.errstate(invalid="ignore"):
                    found[key] = np.asarray(value[:-1]) / value[-1]
        return found

    def evaluate_dataset(
        self, database: Batches, split: str = "validation", batch_size: int = 64
    ) -> dict[str, float]:
        """Validation losses of a split, on this device and without a strategy.

        Args:
          database: gives the examples.
          split: which of them.
          batch_size: examples at a time; the results do not depend on it.
        """

        @tf.function(autograph=False)
        def step(batch: Batch) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
            batch = self.model.completed(batch)
            run = self.model.run(batch)
            return self.sums(run, batch), self.collect(run, batch)

        total: dict[str, np.ndarray] = {}
        collected: list[dict[str, np.ndarray]] = []
        for batch in database.batches(split, batch_size, names=self.var_list):
            sums, tensors = step(batch)
            for key, value in sums.items():
                total[key] = total.get(key, 0.0) + value.numpy()
            collected.append({key: value.numpy() for key, value in tensors.items()})
        found = self.results(total | self.whole(collected))
        return {name: found[name] for name in self.names}

    @property
    def spiking(self) -> dict[str, float]:
        """Spiking cells among `cells`, with the length of their steps in ms."""
        neurons = {name: cell.neuron for name, cell in self.cells.items()}
        return {n: neuron.dt_ms for n, neuron in neurons.items() if neuron and neuron.spiking}

    @property
    def collects(self) -> bool:
        """Whether some loss needs all examples at once."""
        return bool(self.loss.collected)

    def collect(self, run: GraphRun, batch: Batch) -> dict[str, tf.Tensor]:
        """Tensors `[B, ...]` that have to be kept for `whole`, `weight` among them."""
        if not self.collects:
            return {}
        needed = self.loss.collected_by()
        found = {f"pred/{node.name}": run.values[node.name] for node in needed.outputs}
        found |= {f"true/{node.db_name}": batch[str(node.db_name)] for node in needed.targets}
        return found | {"weight": real_of(batch, None).weight}

    def whole(self, collected: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Sums of the losses that need all examples, from what `collect` gave for every batch."""
        if not self.collects:
            return {}
        kept = [each["weight"] > 0 for each in collected]
        joined = {
            key: np.concatenate(
                [each[key][real] for each, real in zip(collected, kept, strict=True)]
            )
            for key in collected[0]
        }
        parts: tuple[dict[str, np.ndarray], ...] = tuple(
            {k.removeprefix(p): v for k, v in joined.items() if k.startswith(p)}
            for p in ("pred/", "true/")
        )
        return self.loss.whole(*parts)

    def described(self, results: dict[str, Any]) -> dict[str, Any]:
        """Results with mean rate in Hz, silent and saturated fractions of every spiking cell."""
        described = dict(results)
        for name, dt_ms in self.spiking.items():
            for kind, value in rate_summary(results[RATES + name], dt_ms).items():
                described[f"{kind}/{name}"] = value
        return described


def _rates(cell: OutputNode, trajectory: Any, batch: Batch) -> tf.Tensor:
    """Sums over examples of the mean output per step, `[N + 1]`; no transposition."""
    z = outputs_of(cell, trajectory)
    real = real_of(batch, cell.mask, tf.float64)
    if real.mask is None:
        return total_and_number(tf.reduce_mean(z, axis=0), real)
    return total_and_number(losses.mean_over_steps(tf.transpose(z, [1, 0, 2]), real.mask), real)
