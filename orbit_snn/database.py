"""A database: the splits of a data set, and which of their features are read.

database = Database({"train": from_arrays(...), "validation": from_arrays(...)})
database.inputs = db_info["inputs"]
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from orbit_snn import data
from orbit_snn.data import DataError, Examples, from_arrays
from orbit_snn.tfds_source import flat, load_tfds

SPLITS = ("train", "validation", "test")


class Database:
    """Splits by name, each a set of examples with named features; nested ones as `a/b`.

    Args:
      splits: `train`, and where there are `validation` (to watch and to choose by) and `test`
        (held out, for the numbers at the end); others too.
      inputs: features that a model takes.
      targets: features that its losses take.

    Raises:
      DataError: for no splits, or a feature that the data set does not have.
    """

    def __init__(
        self,
        splits: Mapping[str, Examples],
        inputs: Sequence[str] = (),
        targets: Sequence[str] = (),
    ):
        if not splits:
            raise DataError("a database got no splits; give at least `train`.")
        self.splits = {name: examples.mapped(flat) for name, examples in splits.items()}
        self.inputs = list(inputs)
        self.targets = list(targets)

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray],
        validation_size: float = 0.1,
        test_size: float = 0.1,
        seed: int = 0,
        inputs: Sequence[str] = (),
        targets: Sequence[str] = (),
    ) -> "Database":
        """Arrays `[size, ...]` by feature, split at random into train, validation and test.

        Args:
          arrays: the examples.
          validation_size: a fraction of all examples.
          test_size: a fraction of all examples.
          seed: of the split.
          inputs: as for `Database`.
          targets: as for `Database`.

        Raises:
          DataError: for fractions that leave no example to train on, or as `data.from_arrays`.
        """
        everything = from_arrays(dict(arrays))  # which checks them
        size = everything.size or 0
        counts = [round(fraction * size) for fraction in (validation_size, test_size)]
        if min(counts) < 0 or sum(counts) >= size:
            raise DataError(
                f"validation_size {validation_size} and test_size {test_size} leave nothing of "
                f"{size} examples to train on; lower them."
            )
        order = np.random.default_rng(seed).permutation(size)
        ends = [size - sum(counts), size - counts[1]]
        parts = zip(SPLITS, np.split(order, ends), strict=True)
        return cls(
            {
                name: from_arrays({f: np.asarray(a)[np.sort(part)] for f, a in arrays.items()})
                for name, part in parts
                if len(part)
            },
            inputs,
            targets,
        )

    @classmethod
    def from_tfds(
        cls,
        builder: Any,
        splits: Mapping[str, str],
        data_dir: str | None = None,
        encode: Callable[..., dict[str, tf.Tensor]] | None = None,
        inputs: Sequence[str] = (),
        targets: Sequence[str] = (),
    ) -> "Database":
        """A TFDS data set, read into memory.

        Args:
          builder: a builder, or the name of a data set that ships with tensorflow-datasets.
          splits: of TFDS by name here: `{"train": "train[:90%]", "validation": "train[90%:]"}`.
          data_dir: see `load_tfds`.
          encode: see `data.from_arrays`; it makes what the model takes of the stored features.
          inputs: as for `Database`.
          targets: as for `Database`. Without `encode` only these and `inputs` are read.

        Raises:
          DataError: see `load_tfds`.
        """
        fields = None if encode or not (inputs or targets) else dict.fromkeys([*inputs, *targets])
        loaded = {
            name: from_arrays(load_tfds(builder, split, data_dir, fields), encode)
            for name, split in splits.items()
        }
        return cls(loaded, inputs, targets)

    @property
    def inputs(self) -> list[str]:
        """Features that a model takes."""
        return self._inputs

    @inputs.setter
    def inputs(self, names: Iterable[str]) -> None:
        self._inputs = self._checked(names)

    @property
    def targets(self) -> list[str]:
        """Features that its losses take."""
        return self._targets

    @targets.setter
    def targets(self, names: Iterable[str]) -> None:
        self._targets = self._checked(names)

    @property
    def var_list(self) -> list[str]:
        """Inputs and targets, each once."""
        return list(dict.fromkeys([*self.inputs, *self.targets]))

    def features(self, split: str | None = None) -> dict[str, tf.TensorSpec]:
        """Shape and type of every feature of one example; default of the first split."""
        return self.split(split or next(iter(self.splits))).spec

    def split(self, name: str) -> Examples:
        """A split with all of its features.

        Raises:
          DataError: naming the splits that there are.
        """
        if name not in self.splits:
            raise data.unknown("split", name, self.splits, show=True)
        return self.splits[name]

    def examples(self, split: str, names: Iterable[str] | None = None) -> Examples:
        """A split with some of its features, default `var_list`.

        Raises:
          DataError: for a feature that the split does not have, naming those that it has.
        """
        examples = self.split(split)
        wanted = list(dict.fromkeys(self.var_list if names is None else names))
        data.require_fields(wanted, examples.spec)
        return examples.mapped(lambda example: {name: example[name] for name in wanted})

    def batches(
        self, split: str, batch_size: int, seed: int = 0, names: Iterable[str] | None = None
    ) -> tf.data.Dataset:
        """Every example of a split once; see `data.evaluation_dataset`.

        Args:
          split: name of the split.
          batch_size: examples at a time.
          seed: of what is random in the examples.
          names: of the features, default `var_list`.

        Raises:
          DataError: where no features are known.
        """
        names = list(self.var_list if names is None else names)
        if not names:
            raise DataError(
                "the database has no inputs and targets; set database.inputs = db_info['inputs'] "
                "and database.targets = db_info['targets']."
            )
        return data.evaluation_dataset(self.examples(split, names), batch_size, seed)

    def add(self, name: str, values: Mapping[str, np.ndarray]) -> None:
        """Adds a feature to every split, whole or not at all.

        Args:
          name: of the feature; a feature of that name is replaced.
          values: by split, `[size, ...]`.

        Raises:
          DataError: for a split without values, or with another number of them.
        """
        made = {split: _with(self.splits[split], name, values.get(split)) for split in self.splits}
        self.splits.update(made)

    def _checked(self, names: Iterable[str]) -> list[str]:
        names = list(names)
        data.require_fields(names, self.features())
        return names


def _with(examples: Examples, name: str, values: np.ndarray | None) -> Examples:
    if values is None or examples.size is None or len(values) != examples.size:
        given = "no" if values is None else len(values)
        raise DataError(
            f"feature `{name}` got {given} values for {examples.size or 'endless'} examples; give "
            "one for each."
        )
    with tf.device("CPU:0"):
        tensor = tf.constant(values)

    def fetch(index: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return {**examples.fetch(index, seed), name: tf.gather(tensor, index)}

    return Examples(fetch, examples.size)
