"""Metrics of parts of the patches: by what is known of the image, what is annotated, and what errors are blamed on.

Owns which parts there are, the features of patches that they are told apart by (number and area of the marks in a
patch, brightness; paper, 5), and when a metric of one has a meaning. Intervals are of patients drawn from all folds
together, see `bootstrap`; they are not corrected for the number of parts.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.bootstrap import MIN_PATIENTS, PATCH, PatientResamples
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.evaluation.summary import TISSUE_FRACTION
from mmgkeras.patches.labelling import region_overlap
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, Region

Error = Literal["missed", "false positive"]
_CHUNK: Final = 256
MIN_PATCHES: Final = 10
"""A part has metrics of its positives, or of its negatives, if there are so many of them, of MIN_PATIENTS patients."""
UNKNOWN_VALUE: Final = "unknown"
_SIDES: Final = {"L": "left", "R": "right"}
_THIRDS: Final = (1 / 3, 2 / 3)
_COUNTS: Final = ((1, 1), (2, 2), (3, 5), (6, 10), (11, None))
_OF_IMAGES: Final[Mapping[str, str]] = {"density": "density", "view": "view", "laterality": "breast"}


class PartMetrics(NamedTuple):
    """Metrics of one part; None where too few patches or patients carry one."""

    sensitivity: Interval | None
    specificity: Interval | None
    auc: Interval | None


class ErrorGroup(NamedTuple):
    """Patches with something in common, which `chosen` (N,) says; of some kinds there are no negatives."""

    what: str
    name: str
    chosen: pd.Series
    of_positives: bool = False


def by_column(frame: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """The patches of each value, the values in order and unknown last."""
    values = frame[column].fillna(UNKNOWN_VALUE).astype(str)
    names = sorted(set(values) - {UNKNOWN_VALUE}) + ([UNKNOWN_VALUE] if (values == UNKNOWN_VALUE).any() else [])
    return {_SIDES.get(name, name) if column == "laterality" else name: frame[values == name] for name in names}


def by_annotation(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The positives of each kind by the columns of `patch_marks`, each kind together with all negatives."""
    is_positive = frame["label"] == CALCIFICATION
    has_marks, has_region = frame["num_marks"] > 0, frame["num_envelopes"] > 0
    kinds = {
        "marks inside a cluster": has_marks & has_region,
        "scattered marks": has_marks & ~has_region,
        "a cluster region alone": ~has_marks & has_region,
        "nothing annotated": ~has_marks & ~has_region,
    }
    return {name: frame[~is_positive | chosen] for name, chosen in kinds.items() if (is_positive & chosen).any()}


def part_counts(frame: pd.DataFrame, *, of_positives: bool = False) -> tuple[int, int, int, int]:
    """Mammograms and patients of a part, or of its positives alone, and its positive and its negative patches."""
    labels = frame["label"]
    counted = frame[labels == CALCIFICATION] if of_positives else frame
    return (
        int(counted["image_id"].nunique()),
        int(counted["patient_id"].nunique()),
        int((labels == CALCIFICATION).sum()),
        int((labels == NO_CALCIFICATION).sum()),
    )


def part_metrics(frame: pd.DataFrame, resamples: PatientResamples) -> PartMetrics:
    """Sensitivity and specificity at the paper's threshold, and the AUC of pairs of the same fold."""
    labels, scores = frame["label"].to_numpy(), frame["probability"].to_numpy()
    is_positive = labels == CALCIFICATION
    places = resamples.places(frame["patient_id"])
    has_positives, has_negatives = (_is_enough(places[chosen]) for chosen in (is_positive, ~is_positive))
    called = scores >= THRESHOLD
    return PartMetrics(
        sensitivity=resamples.rate(called[is_positive], places[is_positive]) if has_positives else None,
        specificity=resamples.rate(~called[~is_positive], places[~is_positive]) if has_negatives else None,
        auc=resamples.auc(frame) if has_positives and has_negatives else None,
    )


def _is_enough(places: NDArray[np.int64]) -> bool:
    return len(places) >= MIN_PATCHES and len(np.unique(places)) >= MIN_PATIENTS


def error_rate(patches: pd.DataFrame, resamples: PatientResamples, *, label: int) -> Interval | None:
    """The part of the patches of this label that was called the other."""
    of_label = patches[patches["label"] == label]
    called = of_label["probability"].to_numpy() >= THRESHOLD
    return resamples.rate(called == (label == NO_CALCIFICATION), resamples.places(of_label["patient_id"]))


def error_groups(patches: pd.DataFrame) -> Iterator[ErrorGroup]:
    """The groups that what the paper's discussion blames divides patches into; columns as of `describe_patches`."""
    yield ErrorGroup("all", "", pd.Series(data=True, index=patches.index))
    yield from _brightness_groups(patches["brightness"])
    positives = patches[patches["label"] == CALCIFICATION]
    if "num_marks" in patches.columns and positives["num_marks"].any():
        marked = positives.loc[positives["num_marks"] > 0, "calcified_px"]
        yield from _area_groups(patches["calcified_px"], marked=marked)
        yield from _count_groups(patches["num_marks"], has_unmarked=bool((positives["num_marks"] == 0).any()))
    for column, what in _OF_IMAGES.items():
        values, is_unknown = patches[column].astype(str), patches[column].isna()
        for value in sorted(set(values[~is_unknown])):
            yield ErrorGroup(what, _SIDES.get(value, value), ~is_unknown & (values == value))
        if is_unknown.any() and not is_unknown.all():
            yield ErrorGroup(what, "unknown", is_unknown)


def _brightness_groups(values: pd.Series) -> Iterator[ErrorGroup]:
    told = values.dropna()
    if len(told):
        low, high = np.quantile(told, _THIRDS)
        yield ErrorGroup("brightness", f"darkest third, below {low:.2f}", values < low)
        yield ErrorGroup("brightness", "middle third", (values >= low) & (values < high))
        yield ErrorGroup("brightness", f"brightest third, {high:.2f} and above", values >= high)
    if len(told) < len(values):
        yield ErrorGroup("brightness", "breast on less than half", values.isna())


def _area_groups(values: pd.Series, *, marked: pd.Series) -> Iterator[ErrorGroup]:
    low, high = np.quantile(marked, _THIRDS, method="higher").astype(int).tolist()
    names = (f"below {low:,} px", f"{low:,} to {high - 1:,} px", f"{high:,} px and above")
    for name, (least, above) in zip(names, ((1, low), (low, high), (high, np.inf)), strict=True):
        yield ErrorGroup("calcified area", name, (values >= least) & (values < above), of_positives=True)


def _count_groups(values: pd.Series, *, has_unmarked: bool) -> Iterator[ErrorGroup]:
    for least, most in _COUNTS:
        name = f"{least} or more" if most is None else f"{least}" if least == most else f"{least} to {most}"
        above = np.inf if most is None else most + 1
        yield ErrorGroup("number of marks", name, (values >= least) & (values < above), of_positives=True)
    if has_unmarked:
        yield ErrorGroup("number of marks", "none", values == 0, of_positives=True)


def patch_marks(store: PatchStore, regions: Sequence[Region]) -> pd.DataFrame:
    """What is annotated in each patch of a store, one row for each row of `store.patches`.

    Columns: image_id, row, col; num_marks, individual calcifications with a pixel in the patch; calcified_px, their
    pixels in it, of overlapping marks each counted; num_envelopes, clusters that touch it. Regions of images that the
    store does not hold are left out.

    Raises:
        InputError: if a region cannot be drawn on its image.
    """
    columns = ("num_marks", "calcified_px", "num_envelopes")
    patches = store.patches[PATCH].reset_index(drop=True)
    counts = {name: np.zeros(len(patches), dtype=np.int64) for name in columns}
    by_image: dict[str, list[Region]] = defaultdict(list)
    for region in regions:
        by_image[region.image_id].append(region)
    for image_id, rows in patches.groupby("image_id", sort=False):
        grid = store.grid(str(image_id))
        place = np.full((grid.rows, grid.cols), -1, dtype=np.int64)
        place[rows["row"], rows["col"]] = rows.index
        for region in by_image.get(str(image_id), ()):
            covered = region_mask(region, height=grid.height, width=grid.width)
            touched_rows, touched_cols, overlap_px = region_overlap(grid, covered)
            is_touched = overlap_px > 0
            at = place[np.ix_(touched_rows, touched_cols)][is_touched]
            if region.kind == "calcification":
                counts["num_marks"][at] += 1
                counts["calcified_px"][at] += overlap_px[is_touched]
            elif region.kind == "cluster":
                counts["num_envelopes"][at] += 1
    return patches.assign(**counts)


def patch_brightness(store: PatchStore) -> NDArray[np.float64]:
    """(n,) the mean grey of the breast in each patch of a store, 0 to 1 of the pixel type's range.

    It is the patch's mean over the part of it that is breast, the rest taken for black; NaN where the breast covers
    less than `TISSUE_FRACTION` of the patch.
    """
    tissue = store.patches["tissue"].to_numpy(dtype=np.float64)
    brightness = np.full(len(tissue), np.nan)
    indices = np.flatnonzero(tissue >= TISSUE_FRACTION)
    scale = float(np.iinfo(store.pixel_type).max)
    for start in range(0, len(indices), _CHUNK):
        chunk = indices[start : start + _CHUNK]
        sums = store.gather(chunk).sum(axis=(1, 2, 3), dtype=np.uint64)
        brightness[chunk] = sums / (scale * store.patch_px**2) / tissue[chunk]
    return np.asarray(np.minimum(brightness, 1.0))


def describe_patches(store: PatchStore, marks: pd.DataFrame | None) -> pd.DataFrame:
    """What may cause an error, one row for each patch of a store: its place, brightness, `marks` and the image's own.

    `index` is its row in `store.patches`.
    """
    frame = store.patches[PATCH].reset_index(drop=True).reset_index()
    frame["brightness"] = patch_brightness(store)
    if marks is not None:
        frame = frame.merge(marks, on=PATCH, how="left", validate="one_to_one")
    return frame.merge(store.images[["image_id", "density", "view", "laterality"]], on="image_id", how="left")


def worst_errors(predictions: pd.DataFrame, error: Error) -> pd.DataFrame:
    """The patches that were missed, least probable first, or called by mistake, most probable first."""
    scores, labels = predictions["probability"], predictions["label"]
    if error == "missed":
        wrong = predictions[(labels == CALCIFICATION) & (scores < THRESHOLD)]
        return wrong.sort_values(["probability", *PATCH])
    wrong = predictions[(labels == NO_CALCIFICATION) & (scores >= THRESHOLD)]
    return wrong.sort_values(["probability", *PATCH], ascending=[False, True, True, True])
