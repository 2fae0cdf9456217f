"""Patients to subsets of equal weight: a greedy start, then exchanges for as long as they help.

Owns the search. It counts in whole numbers alone, so equal input and seed give equal subsets on every machine.
"""

from string import ascii_uppercase
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.config import SplitConfig
from mmgkeras.errors import InputError, counted

_SCALE: Final = 2**40
"""A quantity's weight is this over its squared mean, so that equal relative deviations count equally."""
_MAX_ROUNDS: Final = 50
_MAX_PARTNERS: Final = 512
"""In larger cohorts each round tries exchanges with this many patients, others in every round."""
_START_BUDGET: Final = 2000
_MAX_STARTS: Final = 12


def assign_subsets(patients: pd.DataFrame, config: SplitConfig) -> dict[str, str]:
    """The subset, "A" and on, of each patient, balanced as the paper's Table 4.

    The squared relative deviations from the mean of five quantities are made small together: patients, images,
    positive patches, negative patches, and patients with a positive patch. Where at least as many patients as
    subsets have a positive (or a negative) patch, every subset gets one.

    Args:
        patients: one row for each: patient_id, and the numbers of its images, positives and negatives.
        config: how many subsets, and the seed that decides between equally good ones.

    Raises:
        InputError: if there are fewer patients than subsets.
    """
    if len(patients) < config.num_subsets:
        raise InputError(
            f"split.num_subsets: each subset needs a patient. Received: {config.num_subsets} subsets "
            f"for {counted(len(patients), 'patient')}"
        )
    ordered = patients.sort_values("patient_id", ignore_index=True)
    search = _Search(ordered, num_subsets=config.num_subsets)
    generator = np.random.default_rng(config.seed)
    num_starts = int(np.clip(_START_BUDGET // len(ordered), 1, _MAX_STARTS))
    places = min((search.run(generator) for _ in range(num_starts)), key=search.cost)
    return dict(zip(ordered["patient_id"], (ascii_uppercase[place] for place in _by_size(places)), strict=True))


def _by_size(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Subsets renamed by their first patient, so that equal partitions get equal letters."""
    names: dict[int, int] = {}
    return np.array([names.setdefault(place, len(names)) for place in places.tolist()], dtype=np.int64)


class _Search:
    """Quantities of patients, and the moves between subsets."""

    def __init__(self, patients: pd.DataFrame, *, num_subsets: int) -> None:
        counts = patients[["images", "positives", "negatives"]].to_numpy(dtype=np.int64)
        has = (counts[:, 1:] > 0).astype(np.int64)
        one = np.ones((len(patients), 1), dtype=np.int64)
        self._num_subsets = num_subsets
        self._values = np.hstack([one, counts, has[:, :1]])
        self._kept = np.hstack([one, has])
        totals = np.maximum(1, self._values.sum(axis=0))
        self._weights = np.maximum(1, _SCALE * num_subsets**2 // totals**2)

    def run(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """(patients,) subset of each after a greedy start in a random order among equals."""
        places = self._start(generator)
        for _ in range(_MAX_ROUNDS):
            if not self._improve(places, generator):
                break
        return places

    def cost(self, places: NDArray[np.int64]) -> int:
        """The weighted sum of squared totals: least where subsets are equal."""
        totals = self._totals(self._values, places)
        return int((totals**2 * self._weights).sum())

    def _totals(self, values: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
        totals = np.zeros((self._num_subsets, values.shape[1]), dtype=np.int64)
        np.add.at(totals, places, values)
        return totals

    def _start(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Patients with most positives first, each to the subset that it unbalances least."""
        shuffled = generator.permutation(len(self._values))
        order = shuffled[np.lexsort(-self._values[shuffled][:, [1, 3, 2]].T)]
        places = np.empty(len(order), dtype=np.int64)
        totals = np.zeros((self._num_subsets, self._values.shape[1]), dtype=np.int64)
        kept = np.zeros((self._num_subsets, self._kept.shape[1]), dtype=np.int64)
        for patient in order:
            value = self._values[patient]
            lacks = ((kept == 0) & (self._kept[patient] > 0)).sum(axis=1)
            growth = ((2 * totals + value) * value * self._weights).sum(axis=1)
            # A subset that lacks what this patient has comes first; then the least growth of the cost.
            best = np.lexsort((growth, -lacks))[0]
            places[patient] = best
            totals[best] += value
            kept[best] += self._kept[patient]
        return places

    def _improve(self, places: NDArray[np.int64], generator: np.random.Generator) -> bool:
        """One round: each patient takes the best move or exchange there is; whether any helped."""
        totals, kept = self._totals(self._values, places), self._totals(self._kept, places)
        count = len(places)
        partners = generator.permutation(count)[:_MAX_PARTNERS]
        has_improved = False
        for patient in generator.permutation(count):
            home = places[patient]
            # Moving alone is an exchange with a patient of nothing.
            away = np.concatenate([places[partners], np.arange(self._num_subsets)])
            given = self._values[patient] - self._padded(self._values, partners)
            kept_given = self._kept[patient] - self._padded(self._kept, partners)
            change = (given * (given + totals[away] - totals[home]) * self._weights).sum(axis=1)
            loses = (kept[home] - kept_given < np.minimum(1, kept[home])) | (
                kept[away] + kept_given < np.minimum(1, kept[away])
            )
            change[loses.any(axis=1) | (away == home)] = 0
            best = int(np.argmin(change))
            if change[best] < 0:
                totals[home] -= given[best]
                totals[away[best]] += given[best]
                kept[home] -= kept_given[best]
                kept[away[best]] += kept_given[best]
                places[patient] = away[best]
                if best < len(partners):
                    places[partners[best]] = home
                has_improved = True
        return has_improved

    def _padded(self, values: NDArray[np.int64], partners: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the partners, then a row of nothing for each subset."""
        return np.concatenate([values[partners], np.zeros((self._num_subsets, values.shape[1]), dtype=np.int64)])
