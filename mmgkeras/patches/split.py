"""Which patients test which fold: folds.csv of a store, and the guard against leaks between its sides.

Owns the rule that no patient and no pixel-identical image is on both sides of a fold. The search for even subsets is
in `assign`, the counting in `subset_counts`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras import tables
from mmgkeras.config import SplitConfig
from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.json_files import Count
from mmgkeras.patches.assign import assign_subsets
from mmgkeras.patches.store import FOLDS, PatchStore
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN


@dataclass(frozen=True, slots=True)
class LeakProof:
    """What the guard counted on the two sides; the shared numbers are 0, or there would be no fold."""

    train_patients: Count
    test_patients: Count
    shared_patients: Count
    train_images: Count
    test_images: Count
    shared_pixel_digests: Count


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """The two sides of a fold.

    Attributes:
        number: of the fold, from 1.
        test_subset: the letter of the subset that is tested; all others train.
        train: (n,) int64 rows of the store's patches, ascending; those of unknown label are left out.
        test: (m,) int64 rows of the store's patches, ascending, those of unknown label too.
        proof: that nothing is on both sides.
    """

    number: int
    test_subset: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    proof: LeakProof


def split_store(
    store: PatchStore,
    config: SplitConfig,
    *,
    folds: Path | None = None,
    allow_look_alikes: bool = False,
    overwrite: bool = False,
) -> dict[str, str]:
    """The subset of each patient, also written into the store as folds.csv.

    Patients who share a pixel-identical image count as one and stay together.

    Args:
        store: an open store.
        config: how many subsets, and the seed.
        folds: a folds.csv of one's own, taken instead; patients whom the store does not hold are left out of it.
        allow_look_alikes: take patient ids that differ only in Unicode form, case, width, invisible characters or
            leading zeros for different patients.
        overwrite: replace folds.csv if it is there.

    Raises:
        InputFaultsError: every group of such patient ids, unless they are allowed.
        InputError: if folds.csv is there and `overwrite` is not set, there are fewer patients than subsets, or a file
            cannot be read or written.
        InputFaultsError: every fault in `folds`: patients without a subset, letters left out, identical images in
            two subsets.
    """
    target = store.path / FOLDS
    if target.exists() and not overwrite:
        raise InputError(f"{target}: already exists; give --overwrite to divide the patients anew")
    alike = tables.look_alikes(store.images["patient_id"])
    if alike and not allow_look_alikes:
        raise InputFaultsError(
            [
                f"{store.path}: patients {', '.join(ascii(one) for one in group)} differ only in Unicode form, case, "
                "width, invisible characters or leading zeros: one patient would be on both sides of a fold. Make "
                "their ids equal, or give --allow-look-alikes if they are different patients"
                for group in alike
            ]
        )
    if folds is None:
        assignment = _assign(store, config)
    else:
        assignment = tables.read_folds(folds)
        _check_assignment(store, assignment, path=folds)
    held = set(store.images["patient_id"])
    assignment = {patient: subset for patient, subset in assignment.items() if patient in held}
    tables.write_folds(target, assignment, overwrite=overwrite)
    return assignment


def read_store_folds(store: PatchStore) -> dict[str, str]:
    """The subset of each patient of a store that was split.

    Raises:
        InputError: if it was not split, or folds.csv cannot be read.
        InputFaultsError: every fault in folds.csv, as in `split_store`.
    """
    path = store.path / FOLDS
    if not path.exists():
        raise InputError(f"{path}: is missing; mmgkeras split makes it")
    assignment = tables.read_folds(path)
    _check_assignment(store, assignment, path=path)
    return assignment


def fold_patches(store: PatchStore, fold: int) -> Fold:
    """The training and test patches of a fold: fold k tests the k-th subset (paper, 3.2), from 1.

    Raises:
        InputError: if the store was not split or has no such fold.
        InputFaultsError: every fault in folds.csv, a patient or a pixel-identical image on both sides included.
    """
    assignment = read_store_folds(store)
    letters = sorted(set(assignment.values()))
    if not 1 <= fold <= len(letters):
        raise InputError(f"{store.path / FOLDS}: fold must be from 1 to {len(letters)}. Received: {fold}")
    test_subset = letters[fold - 1]
    subsets = store.patches["patient_id"].map(assignment).to_numpy()
    labels = store.patches["label"].to_numpy()
    is_test = subsets == test_subset
    train = np.flatnonzero(~is_test & (labels != UNKNOWN))
    test = np.flatnonzero(is_test)
    proof = prove_no_leak(store, train=train, test=test)
    return Fold(number=fold, test_subset=test_subset, train=train, test=test, proof=proof)


def prove_no_leak(store: PatchStore, *, train: NDArray[np.int64], test: NDArray[np.int64]) -> LeakProof:
    """Counts patients and pixels on both sides, from the patches themselves and not from how they were chosen.

    Args:
        store: an open store.
        train: (n,) rows of its patches on one side.
        test: (m,) rows of its patches on the other.

    Raises:
        InputFaultsError: every patient on both sides, and every image that has a pixel-identical one on the other.
    """
    sides = []
    for rows in (train, test):
        side = store.patches.iloc[rows]
        images = store.images[store.images["image_id"].isin(side["image_id"].unique())]
        sides.append((set(side["patient_id"]), dict(zip(images["pixel_sha256"], images["image_id"], strict=True))))
    (train_patients, train_images), (test_patients, test_images) = sides
    shared_patients = sorted(train_patients & test_patients)
    shared_digests = sorted(train_images.keys() & test_images.keys())
    faults = [f"patient {patient} is" for patient in shared_patients]
    faults += [
        f"images {train_images[key]} and {test_images[key]} have identical pixels and are" for key in shared_digests
    ]
    if faults:
        raise InputFaultsError([f"{store.path}: {fault} on both sides of a fold" for fault in faults])
    return LeakProof(
        train_patients=len(train_patients),
        test_patients=len(test_patients),
        shared_patients=len(shared_patients),
        train_images=int(store.patches["image_id"].iloc[train].nunique()),
        test_images=int(store.patches["image_id"].iloc[test].nunique()),
        shared_pixel_digests=len(shared_digests),
    )


def hold_out_patients(
    store: PatchStore, train: NDArray[np.int64], *, part: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divides the training patches by whole patients into those learned from and those watched.

    Patients with and without calcification are drawn apart, `part` of each rounded, at least one with. Patients who
    share a pixel-identical image count as one.

    Args:
        store: an open store.
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
    rows = store.patches.iloc[train]
    rows = rows.assign(patient_id=rows["patient_id"].map(_leaders(store)))
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


def identical_images(store: PatchStore) -> Iterator[tuple[str, pd.DataFrame]]:
    """Digests that images of more than one patient share, with those images' rows."""
    shared = store.images[store.images.duplicated("pixel_sha256", keep=False)]
    for digest, group in shared.groupby("pixel_sha256", sort=False):
        if group["patient_id"].nunique() > 1:
            yield str(digest), group


def _assign(store: PatchStore, config: SplitConfig) -> dict[str, str]:
    """Subsets of groups of patients that must stay together, then of each patient."""
    leaders = _leaders(store)
    patches = store.patches.assign(leader=store.patches["patient_id"].map(leaders))
    labels = patches["label"]
    groups = pd.DataFrame(
        {
            "images": patches.groupby("leader")["image_id"].nunique(),
            "positives": (labels == CALCIFICATION).groupby(patches["leader"]).sum(),
            "negatives": (labels == NO_CALCIFICATION).groupby(patches["leader"]).sum(),
        }
    )
    groups = groups.rename_axis("patient_id").reset_index()
    try:
        subsets = assign_subsets(groups, config)
    except InputError as error:
        raise InputError(f"{store.path}: {error}") from error
    return {patient: subsets[leader] for patient, leader in leaders.items()}


def _leaders(store: PatchStore) -> dict[str, str]:
    """For each patient the one who stands for all with whom it shares a pixel-identical image, directly or not."""
    leaders = {patient: patient for patient in sorted(set(store.images["patient_id"]))}
    for _, group in identical_images(store):
        joined = {leaders[patient] for patient in group["patient_id"]}
        leaders = {patient: min(joined) if leader in joined else leader for patient, leader in leaders.items()}
    return leaders


def _check_assignment(store: PatchStore, assignment: Mapping[str, str], *, path: Path) -> None:
    patients = sorted(set(store.images["patient_id"]))
    faults = [
        f"{path}: every patient of {store.path} must have a subset. Received: none for {patient!r}"
        for patient in patients
        if patient not in assignment
    ]
    letters = sorted({assignment[patient] for patient in patients if patient in assignment})
    expected = list(ascii_uppercase[: len(letters)])
    if letters != expected or len(letters) < 2:
        allowed = "subsets that have patients in the store must be two or more letters from A on, none left out"
        faults.append(f"{path}: {allowed}. Received: {', '.join(letters)}")
    for _, group in identical_images(store):
        subsets = [assignment.get(patient) for patient in group["patient_id"]]
        if len(set(subsets)) > 1:
            places = zip(group["image_id"], group["patient_id"], subsets, strict=True)
            names = "; ".join(f"image {image} of patient {patient} in {subset}" for image, patient, subset in places)
            faults.append(f"{path}: images with identical pixels must be in one subset. Received: {names}")
    if faults:
        raise InputFaultsError(faults)
