"""What the training said of itself: the metrics of each epoch, from the samples that its steps saw.

The metrics are exact, from the probabilities that the network gave each sample while it learned from
it, which makes them worse than those of the finished network, and the test subset no part of them.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION
from mmgkeras.study.run_files import HISTORY_COLUMNS, EpochRow


@dataclass(frozen=True, slots=True)
class Discrimination:
    """How well probabilities tell labels apart; NaN where a class is missing.

    Attributes:
        auc: area under the receiver operating characteristic.
        sensitivity: part of the samples with calcification whose probability is at least 0.5.
        specificity: part of the samples without whose probability is below 0.5.
        confusion: (2, 2) int64 counts, rows the truth and columns the answer, without calcification first.
    """

    auc: float
    sensitivity: float
    specificity: float
    confusion: NDArray[np.int64]


def discrimination(labels: NDArray[Any], probabilities: NDArray[np.float32]) -> Discrimination:
    """The metrics of (n,) labels 0 or 1 and (n,) probabilities of 1, at a threshold of 0.5."""
    answers = probabilities >= 0.5
    confusion = np.zeros((2, 2), np.int64)
    np.add.at(confusion, (np.asarray(labels, np.int64), answers.astype(np.int64)), 1)
    num_negatives, num_positives = (int(count) for count in confusion.sum(axis=1))
    both = num_negatives > 0 and num_positives > 0
    return Discrimination(
        auc=float(roc_auc_score(labels, probabilities)) if both else math.nan,
        sensitivity=int(confusion[CALCIFICATION, 1]) / num_positives if num_positives else math.nan,
        specificity=int(confusion[NO_CALCIFICATION, 0]) / num_negatives if num_negatives else math.nan,
        confusion=confusion,
    )


@dataclass
class EpochSamples:
    """What the steps of an epoch gave so far, sample by sample in the order of the stream.

    Attributes:
        losses: (n,) float32 cross-entropy of each sample, without any L2 term.
        probabilities: (n,) float32 of calcification.
        labels: (n,) int8.
    """

    losses: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    probabilities: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    labels: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def extended(self, more: "EpochSamples") -> "EpochSamples":
        """These samples and then `more`."""
        return EpochSamples(
            losses=np.concatenate([self.losses, more.losses]),
            probabilities=np.concatenate([self.probabilities, more.probabilities]),
            labels=np.concatenate([self.labels, more.labels]),
        )

    def last(self, num_samples: int) -> "EpochSamples":
        """The last `num_samples`, or all where there are fewer."""
        first = max(0, len(self) - num_samples)
        return EpochSamples(
            losses=self.losses[first:], probabilities=self.probabilities[first:], labels=self.labels[first:]
        )

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in float64."""
        return float(np.mean(self.losses, dtype=np.float64))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, for a checkpoint."""
        return {name: getattr(self, name) for name in ("losses", "probabilities", "labels")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "EpochSamples":
        """The inverse of `arrays`.

        Raises:
            KeyError: if one is missing.
            ValueError: if they are not columns of one length and of these types.
        """
        kinds = {name: (arrays[name].dtype, arrays[name].shape) for name in ("losses", "probabilities", "labels")}
        shape = arrays["labels"].shape
        types = {"losses": np.float32, "probabilities": np.float32, "labels": np.int8}
        if len(shape) != 1 or kinds != {name: (np.dtype(kind), shape) for name, kind in types.items()}:
            raise ValueError("losses, probabilities and labels are not the columns of one table")
        return cls(losses=arrays["losses"], probabilities=arrays["probabilities"], labels=arrays["labels"])


@dataclass
class History:
    """The rows of all finished epochs."""

    rows: list[EpochRow] = field(default_factory=list)

    def array(self) -> NDArray[np.float64]:
        """(epochs, columns) float64, for a checkpoint."""
        values = [dataclasses.astuple(row) for row in self.rows]
        return np.asarray(values, np.float64).reshape(len(values), len(HISTORY_COLUMNS))

    @classmethod
    def from_array(cls, array: NDArray[np.float64]) -> "History":
        """The inverse of `array`."""
        return cls([EpochRow(int(row[0]), int(row[1]), *(float(value) for value in row[2:])) for row in array])
