"""Training patients who are held out and watched, where the configuration asks for it. The test subset is not seen."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.schema import CALCIFICATION


def hold_out_patients(
    patches: pd.DataFrame, train: NDArray[np.int64], *, part: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divides the training patches by whole patients into those learned from and those watched.

    Patients with and without calcification are drawn apart, `part` of each rounded, at least one with.

    Args:
        patches: the store's table, with patient_id and label.
        train: (n,) places of the training patches.
        part: of the patients; 0 holds nobody out.
        seed: of the draw.

    Returns:
        Two arrays of places, both in the order of `train`; the second is empty for part 0.

    Raises:
        InputError: if fewer than two training patients have calcification, or nobody would be left to learn from.
    """
    if part == 0:
        return train, train[:0]
    rows = patches.iloc[train]
    has_calcification = (rows["label"] == CALCIFICATION).groupby(rows["patient_id"]).any().sort_index()
    if has_calcification.sum() < 2:
        raise InputError(
            "train.validation_patients: needs at least two training patients with calcification. "
            f"Received: {has_calcification.sum()}"
        )
    generator = np.random.default_rng(seed)
    held_out: list[str] = []
    for wanted in (True, False):
        patients = has_calcification.index[has_calcification == wanted].to_numpy()
        number = min(max(round(part * len(patients)), int(wanted)), len(patients) - int(wanted))
        held_out += list(patients[generator.permutation(len(patients))[:number]])
    is_held_out = rows["patient_id"].isin(held_out).to_numpy()
    return train[~is_held_out], train[is_held_out]
