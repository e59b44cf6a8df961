"""scikit-learn's handwritten digits as a TFDS data set, made on this machine without a network."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from orbit_snn.tfds_source import open_tfds, prepare_tfds

_DESCRIPTION = """
1797 scanned handwritten digits of 8x8 pixels, with values from 0 (paper) to 16 (ink), as they come
with scikit-learn. The test split is a fixed, stratified fifth of them; training images were not
separated from test images by writer.
"""

_CITATION = """
@misc{alpaydin1998digits,
  author = {Alpaydin, Ethem and Kaynak, Cenk},
  title = {Optical Recognition of Handwritten Digits},
  year = {1998},
  publisher = {UCI Machine Learning Repository},
  doi = {10.24432/C50P49},
}
"""


class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Images uint8 `[8, 8, 1]` in 0..16 and labels 0..9; splits `train` (1437) and `test` (360).

    Not registered with TFDS, whose registry refuses a second import under another module name.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            homepage="https://doi.org/10.24432/C50P49",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        images, labels = load_digits(return_X_y=True)
        images = images.reshape(-1, 8, 8, 1).astype(np.uint8)
        train, test = train_test_split(
            np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0
        )
        return {
            "train": self._generate_examples(images, labels, train),
            "test": self._generate_examples(images, labels, test),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
    ) -> Iterator[tuple[int, dict]]:
        """Yields examples by their number in scikit-learn; TFDS orders them by a hash of it."""
        for index in map(int, indices):
            yield index, {"image": images[index], "label": int(labels[index])}


def builder(data_dir: str | os.PathLike[str] | None = None) -> tfds.core.DatasetBuilder:
    """Returns the builder of the data set, prepared once in `data_dir`, by default TFDS's own.

    Raises:
        DataError: when the folder cannot be written, or what was prepared in it is damaged.
    """
    folder = None if data_dir is None else os.fspath(data_dir)
    digits = open_tfds(lambda: Digits(data_dir=folder), Digits.name)
    prepare_tfds(digits)
    return digits
