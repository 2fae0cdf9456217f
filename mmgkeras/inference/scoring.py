"""What a model says of the patches of a store, mammogram by mammogram, with the time of each.

Owns which patches a model may be measured on, and the making of predictions. What they are worth is told from the
predictions alone, elsewhere.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.evaluation.baselines import baseline_scores
from mmgkeras.inference.timing import Source, classify_timed, open_source
from mmgkeras.patches.split import fold_patches
from mmgkeras.patches.store import FOLDS, PatchStore
from mmgkeras.progress import Track, untracked
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.metadata import fold_digests, tested_fold
from mmgkeras.schema import UNKNOWN, Pixels
from mmgkeras.study.run_files import TIMING
from mmgkeras.tables import BASELINE_PREFIX

TIMED_IMAGES: Final = 10
"""Of a store of which only the known patches are scored, so many mammograms are scored whole, for their time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePredictions:
    """Frames with the columns of predictions.csv and of timing.csv, from one pass over the mammograms of a store.

    In the timing the first mammogram comes twice, at first straight after loading.
    """

    predictions: pd.DataFrame
    timing: pd.DataFrame


def unseen_patches(classifier: Classifier, store: PatchStore) -> NDArray[np.int64]:
    """(n,) rows of the patches that a model has not seen in training.

    They are its own test subset in the store that it was trained on and in one that is divided alike, and every patch
    of any other store.

    Raises:
        InputError: if the store has patches that the model cannot take, or was split anew since the training; or if
            the model has learned from its patients by the model that it started from.
    """
    metadata = classifier.metadata
    check_fits(classifier, store)
    if (fold := tested_fold(classifier.path, metadata, store)) is not None:
        return fold_patches(store, fold).test
    digests = fold_digests(store).values() if (store.path / FOLDS).exists() else ()
    if any(o.store_checksum == store.checksum or o.test_patients_sha256 in digests for o in metadata.started_from):
        raise InputError(
            f"{store.path}: {classifier.path} started from a model that was trained on it; its patches are not unseen"
        )
    return np.arange(len(store.patches), dtype=np.int64)


def twin_patches(store: PatchStore, twins: PatchStore, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) int64 rows of the twin store at the same image_id, row and col as `indices` (n,) of the store.

    Raises:
        InputError: if a patch has no twin.
    """
    key = ["image_id", "row", "col"]
    wanted = store.patches.iloc[indices][key]
    numbered = twins.patches[key].assign(index=np.arange(len(twins.patches)))
    found = wanted.merge(numbered, on=key, how="left", validate="one_to_one")
    if found["index"].isna().any():
        lost = found[found["index"].isna()].iloc[0]
        place = f"row {lost['row']}, col {lost['col']} of image {lost['image_id']}"
        raise InputError(f"{twins.path}: has no twin of the patch at {place}; prepare both stores alike")
    return found["index"].to_numpy(dtype=np.int64)


def predict_store(
    classifier: Classifier,
    store: PatchStore,
    *,
    indices: NDArray[np.int64],
    fold: int,
    data: Path | None = None,
    only_known: bool = False,
    track: Track = untracked,
    label: str | None = None,
) -> StorePredictions:
    """The model's probabilities and the baselines of the patches `indices` (n,) of a store, and their times.

    Args:
        classifier: the model.
        store: where the patches are.
        indices: rows of the store's patches; those of one image are scored together.
        fold: 1-based, written beside every patch.
        data: the data folder that the store was made of, to time reading, dividing and drawing too; whole images must
            be asked for then. Without it only the inference is timed.
        only_known: leave out patches of unknown label, and ask but once about those without any brightness. The first
            `TIMED_IMAGES` images are scored whole all the same and they alone are timed: the time is that of whole
            images.
        track: called with the images.
        label: what it is told of them; None for the fold.

    Raises:
        InputError: if the store has patches that the model cannot take, no patch is asked for, or the data folder is
            not the store's.
    """
    check_fits(classifier, store)
    if len(indices) == 0:
        raise InputError(f"{store.path}: has no patches to score in fold {fold}")
    chosen = store.patches.iloc[indices].assign(index=indices)
    images = [
        group
        for _, group in chosen.groupby("image_id", sort=False)
        if not only_known or (group["label"] != UNKNOWN).any()
    ]
    if not images:
        raise InputError(f"{store.path}: the label of every patch to score is unknown; there is nothing to measure")
    source = None if data is None else open_source(data, [str(image["image_id"].iloc[0]) for image in images])
    frames: list[pd.DataFrame] = []
    times: list[dict[str, Any]] = []
    blank: float | None = None
    for image in track(images, label or f"score fold {fold}"):
        image_id = str(image["image_id"].iloc[0])
        known = image[image["label"] != UNKNOWN] if only_known else image
        if only_known and len(frames) >= TIMED_IMAGES:
            patches = store.gather(known["index"].to_numpy())
            if blank is None:
                blank = float(classifier.classify(np.zeros_like(patches[:1]))[0])
            probability = _without_blank(classifier, patches, blank=blank)
        else:
            patches = store.gather(image["index"].to_numpy())
            probability, rows = _timed(
                classifier, patches, store=store, image_id=image_id, source=source, is_first=not times
            )
            times.extend(rows)
            is_known = image.index.isin(known.index)
            patches, probability = patches[is_known], probability[is_known]
        baselines = {BASELINE_PREFIX + name: values for name, values in baseline_scores(patches[..., 0]).items()}
        frames.append(known.assign(fold=fold, probability=probability.astype(np.float64), **baselines))
    predictions = pd.concat(frames, ignore_index=True).drop(columns="index")
    for name, texts in store.own_columns.items():
        predictions[name] = predictions["image_id"].map(texts)
    return StorePredictions(
        predictions=predictions,
        timing=pd.DataFrame(times, columns=list(TIMING)),
    )


def _timed(
    classifier: Classifier,
    patches: Pixels,
    *,
    store: PatchStore,
    image_id: str,
    source: Source | None,
    is_first: bool,
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """The probabilities (n,) of an image's patches and rows of timing.csv: two of the first image, cold and warm."""
    rows: list[dict[str, Any]] = []
    # The first inference after loading is slower; its probabilities are the same.
    for is_cold in (1, 0) if is_first else (0,):
        probability, seconds = classify_timed(classifier, patches, store=store, image_id=image_id, source=source)
        rows.append({"image_id": image_id, "num_patches": len(patches), "is_cold": is_cold, **seconds})
    return probability, rows


def _without_blank(classifier: Classifier, patches: Pixels, *, blank: float) -> NDArray[np.float32]:
    """The probabilities (n,) of patches; those in which every pixel is 0 have that of such a patch, `blank`."""
    has_content = patches.any(axis=(1, 2, 3))
    probability = np.full(len(patches), blank, np.float32)
    probability[has_content] = classifier.classify(patches[has_content])
    return probability


def hardware() -> str:
    """What TensorFlow runs on: the GPUs if there are any, and the CPU."""
    gpus = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
    return ", ".join([*gpus, _cpu()])


def check_fits(classifier: Classifier, store: PatchStore) -> None:
    """Refuses a store whose patches the model cannot take.

    Raises:
        InputError: if they are of another size, or have 16 bits where the model takes 8.
    """
    metadata = classifier.metadata
    if store.patch_px != metadata.patch_px:
        raise InputError(
            f"{store.path}: has patches of {store.patch_px} px, and {classifier.path} takes {metadata.patch_px} px"
        )
    if (store.pixel_type, metadata.pixel_type) == ("uint16", "uint8"):
        raise InputError(f"{store.path}: has pixels of 16 bits, and {classifier.path} takes 8")


def _cpu() -> str:
    """The processor's name and the number of its threads that this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {threads} threads"
