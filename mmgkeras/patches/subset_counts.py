"""Counts of patients, mammograms and patches by subset and fold, for terminal and report (paper, Table 4).

Owns counting alone. Rows with unknown labels are counted apart and neither trained on nor scored.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from mmgkeras.errors import counted
from mmgkeras.patches.split import identical_images
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN

SUBSET_COLUMNS: Final = ("subset", "patients", "images", "yes", "no", "unknown")


def subset_counts(patches: pd.DataFrame, assignment: Mapping[str, str]) -> pd.DataFrame:
    """Table 4: for each subset its patients, images, and patches with (yes), without (no) and of unknown label.

    Args:
        patches: of a store: patient_id, image_id, label.
        assignment: the subset of each patient.
    """
    subsets = patches["patient_id"].map(dict(assignment))
    rows = [
        (
            str(subset),
            int(group["patient_id"].nunique()),
            int(group["image_id"].nunique()),
            *(int((group["label"] == label).sum()) for label in (CALCIFICATION, NO_CALCIFICATION, UNKNOWN)),
        )
        for subset, group in patches.groupby(subsets)
    ]
    return pd.DataFrame(rows, columns=list(SUBSET_COLUMNS))


Row = tuple[str | int | None, ...]

_UNKNOWN: Final = "unknown"
_OF_IMAGES: Final = (("density", "density"), ("birads", "BI-RADS"), ("pathology", "pathology"), ("vendor", "vendor"))
_MOST_VALUES: Final = 10
"""A column with more different words is cut to so many of the commonest and the rest together."""


def demographics(images: pd.DataFrame, assignment: Mapping[str, str]) -> tuple[Row, ...]:
    """Rows of what is counted, its value, and the count in each subset, in order, and in all.

    Args:
        images: of a store; age counts by patient, the other columns by mammogram.
        assignment: the subset of each patient.
    """
    subsets = images["patient_id"].map(dict(assignment))
    groups = [images[subsets == letter] for letter in sorted(set(assignment.values()))]
    groups.append(images)
    rows = _age_rows(groups)
    for column, name in _OF_IMAGES:
        rows.extend(_value_rows(groups, column=column, name=name))
    return tuple(rows)


def _age_rows(groups: Sequence[pd.DataFrame]) -> list[Row]:
    ages = [group.groupby("patient_id", sort=False)["age"].first() for group in groups]
    rows: list[Row] = [("patients", "", *(len(age) for age in ages))]
    if any(age.notna().any() for age in ages):
        rows.append(("age, median (range)", "", *(_range(age.dropna()) for age in ages)))
    return [*rows, ("age", "patients, unknown", *(int(age.isna().sum()) for age in ages))]


def _range(ages: pd.Series) -> str | None:
    return f"{ages.median():.4g} ({ages.min():.4g} to {ages.max():.4g})" if len(ages) else None


def _value_rows(groups: Sequence[pd.DataFrame], *, column: str, name: str) -> list[Row]:
    """A row for each value of a column, the commonest first where there are many, and one for unknown."""
    values = [group[column].fillna(_UNKNOWN).astype(str) for group in groups]
    total = values[-1].value_counts()
    known = [str(value) for value in total.index if value != _UNKNOWN]
    shown = sorted(known[:_MOST_VALUES]) if len(known) <= _MOST_VALUES else known[: _MOST_VALUES - 1]
    rows: list[Row] = [(name, value, *(int((part == value).sum()) for part in values)) for value in shown]
    rest = set(known) - set(shown)
    if rest:
        rows.append((name, f"other ({len(rest)} values)", *(int(part.isin(rest).sum()) for part in values)))
    if _UNKNOWN in total.index or not known:
        rows.append((name, _UNKNOWN, *(int((part == _UNKNOWN).sum()) for part in values)))
    return rows


def summary_lines(store: PatchStore) -> list[str]:
    """What is in a store, what was left out of it and what should be known of it."""
    counts = store.manifest.counts
    spacing = "unknown" if store.spacing_mm is None else f"{store.spacing_mm:g} mm"
    skipped = store.manifest.skipped_images
    facts = [
        ("store", str(store.path)),
        ("images", f"{counts.images:,} of {counted(counts.patients, 'patient')}"),
        (
            "patches",
            f"{counts.patches:,} of {store.patch_px} px: {counts.positive:,} positive, "
            f"{counts.negative:,} negative, {counts.unknown:,} unknown",
        ),
        ("labels", f"from {store.manifest.labels.read_from}"),
        ("pixels", f"{store.pixel_type}, spacing {spacing}"),
        ("size", f"{store.num_bytes / 1e6:,.1f} MB"),
        *(("skipped", f"{image.image_id}: {image.reason}") for image in skipped),
        *(("skipped", text) for text in store.manifest.skipped_annotations),
        *(("note", text) for text in store.manifest.notes),
    ]
    wrapper = textwrap.TextWrapper(80, subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False)
    return [line for name, text in facts for line in wrapper.wrap(f"{name:<12}{text}")]


def subset_lines(store: PatchStore, assignment: Mapping[str, str]) -> list[str]:
    """The paper's Table 4 for a store: subset, patients, images, and patches with, without and of unknown label."""
    table = subset_counts(store.patches, assignment)
    total = ["all", *table.iloc[:, 1:].sum().tolist()]
    rows = [list(table.columns), *table.to_numpy().tolist(), total]
    return ["".join([f"{row[0]:<8}", *(_cell(value) for value in row[1:])]) for row in rows]


def shared_patient_lines(store: PatchStore) -> list[str]:
    """One line for each set of pixel-identical images of several patients, which a split keeps together."""
    return [
        "kept together, for their images have identical pixels: "
        + "; ".join(
            f"patient {patient} (image {image})"
            for patient, image in zip(group["patient_id"], group["image_id"], strict=True)
        )
        for _, group in identical_images(store)
    ]


def _cell(value: str | int) -> str:
    return f"{value:>10,}" if isinstance(value, int) else f"{value:>10}"
