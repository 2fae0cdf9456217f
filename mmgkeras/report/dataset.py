"""Who and what was studied: inclusion flow, subsets, demographics and reference standard.

Owns what is told of the data before any model is. What only the group knows is left as a visible blank.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from mmgkeras.errors import counted
from mmgkeras.evaluation.summary import TISSUE_FRACTION
from mmgkeras.json_files import without_folders
from mmgkeras.patches.manifest import SkippedImage
from mmgkeras.patches.split import read_store_folds
from mmgkeras.patches.store import PatchStore
from mmgkeras.patches.subset_counts import demographics, subset_counts
from mmgkeras.report.content import Block, Bullets, Cell, Flow, FlowStep, Heading, Section, Table, Text, missing
from mmgkeras.schema import CALCIFICATION, LATERALITIES, NO_CALCIFICATION, UNKNOWN
from mmgkeras.study.read import Study

ANCHOR: Final = "data"
INCLUSION: Final = "data-inclusion"
REFERENCE_STANDARD: Final = "data-reference-standard"

_SIDE_NAMES: Final = {"L": "left", "R": "right"}
_GONE: Final = "The patch store is not where the cross-validation was made, so nothing can be told of its images."
_LABEL_RULES: Final[Mapping[str, str]] = {
    "regions.csv": "Labels come from findings marked on the mammograms (regions.csv): a patch is positive if it holds "
    "any pixel of {marks}, at least {fraction} of the area of a cluster region, or is itself "
    "covered by one to at least {fraction}. Any other overlap with a finding makes it unknown.",
    "labels.csv": "Labels come from readers who judged patch by patch (labels.csv), one label for each patch: their "
    "consensus.",
    "nothing": "There was neither regions.csv nor labels.csv: no patch is positive.",
}


def dataset_section(study: Study) -> Section:
    """The data of a study; where its store is gone, one sentence that says so.

    Raises:
        InputError: if the store's folds.csv is not there any more or cannot be read.
        InputFaultsError: every fault in it.
    """
    title = "Data"
    if study.store is None:
        return Section(anchor=ANCHOR, title=title, body=(missing(_GONE),))
    store = study.store
    assignment = read_store_folds(store)
    return Section(
        anchor=ANCHOR,
        title=title,
        body=(
            *_inclusion(store),
            Heading("Mammograms and subsets"),
            _views_table(store.images),
            _subsets_table(store, assignment),
            Text(_pixels_sentence(store)),
            Heading("Demographics"),
            _demographics_table(store, assignment),
            Text("recruitment: where, when, consecutive or selected, why these patients", "blank"),
            Heading("Reference standard", REFERENCE_STANDARD),
            *_reference_standard(store),
        ),
    )


def _inclusion(store: PatchStore) -> tuple[Block, ...]:
    counts, skipped = store.manifest.counts, store.manifest.skipped_images
    annotations = store.manifest.skipped_annotations
    num_skipped = len({image.image_id for image in skipped})
    left_out = (f"{counted(num_skipped, 'image')} left out", "reasons below") if num_skipped else ()
    is_on_tissue = store.patches["tissue"] >= TISSUE_FRACTION
    num_on_tissue = int((is_on_tissue & (store.patches["label"] != UNKNOWN)).sum())
    steps = (
        FlowStep((f"{counted(counts.images + num_skipped, 'image')} listed in images.csv",), left_out),
        FlowStep((counted(counts.images, "mammogram"), f"of {counted(counts.patients, 'patient')}")),
        FlowStep(
            (f"{counted(counts.patches, 'patch')} of {store.patch_px} x {store.patch_px} pixels",),
            (f"{counted(counts.unknown, 'patch')} of unknown label", "neither trained on nor scored")
            if counts.unknown
            else (),
        ),
        FlowStep(
            (
                f"{counted(counts.positive + counts.negative, 'patch')} of known label",
                f"{counts.positive:,} with calcification",
                f"{counts.negative:,} without",
                f"{num_on_tissue:,} on tissue: breast on half of the patch or more",
            )
        ),
    )
    return (
        Heading("Inclusion", INCLUSION),
        Flow(steps, "From the images that the data list to the patches of known label."),
        _skipped_table(skipped, annotations)
        if skipped or annotations
        else Text("No image and no annotation was left out."),
        Text("what was excluded before the images were listed, how many, and why", "blank"),
    )


def _skipped_table(skipped: Sequence[SkippedImage], annotations: Sequence[str]) -> Table:
    rows: list[tuple[Cell, ...]] = [("image", image.image_id, without_folders(image.reason)) for image in skipped]
    rows += [("annotation", None, without_folders(text)) for text in annotations]
    return Table(
        name="left_out",
        title="What was left out of the store, and why",
        columns=("What", "Mammogram", "Reason"),
        rows=tuple(rows),
    )


def _views_table(images: pd.DataFrame) -> Table:
    counts = pd.crosstab(images["laterality"], images["view"], margins=True, margins_name="All")
    sides = {side: _SIDE_NAMES[side] for side in LATERALITIES} | {"All": "all"}
    counts = counts.reindex(list(sides), fill_value=0)
    rows: list[tuple[Cell, ...]] = [(name, *map(int, counts.loc[side])) for side, name in sides.items()]
    return Table(
        name="mammograms_by_view",
        title="Mammograms by breast and view",
        columns=("Breast", *map(str, counts.columns)),
        rows=tuple(rows),
    )


def _subsets_table(store: PatchStore, assignment: Mapping[str, str]) -> Table:
    patches = store.patches
    counts = subset_counts(patches, assignment)
    subsets = patches["patient_id"].map(dict(assignment))
    on_tissue = patches["tissue"] >= TISSUE_FRACTION
    rows: list[tuple[Cell, ...]] = [
        (subset, fold, *numbers, *_on_tissue(patches[on_tissue & (subsets == subset)]))
        for fold, (subset, *numbers) in enumerate(counts.itertuples(index=False), start=1)
    ]
    totals = [int(counts[name].sum()) for name in ("patients", "images", "yes", "no", "unknown")]
    rows.append(("all", None, *totals, *_on_tissue(patches[on_tissue])))
    return Table(
        name="subsets",
        title="Patients and patches by subset",
        columns=(
            *("Subset", "Tested in fold", "Patients", "Mammograms", "With calcification", "Without", "Unknown label"),
            *("With, on tissue", "Without, on tissue"),
        ),
        rows=tuple(rows),
        note="No patient is in two subsets, nor is an image with pixels identical to another patient's. On tissue: the "
        f"breast covers at least {TISSUE_FRACTION:.0%} of the patch.",
    )


def _on_tissue(patches: pd.DataFrame) -> list[int]:
    return [int((patches["label"] == label).sum()) for label in (CALCIFICATION, NO_CALCIFICATION)]


def _pixels_sentence(store: PatchStore) -> str:
    height, width, spacing = (native(store, name) for name in ("height", "width", "spacing_mm"))
    size = (
        f"{int(height.median()):,} x {int(width.median()):,} pixels at the median (height {height.min():,} to "
        f"{height.max():,}, width {width.min():,} to {width.max():,})"
    )
    edge = "the size of a pixel is not known"
    if spacing.notna().any():
        least, most = spacing.min(), spacing.max()
        extent = "" if least == most else f" at the median ({least:g} to {most:g})"
        num_unknown = int(spacing.isna().sum())
        unknown = f", not known of {counted(num_unknown, 'image')}" if num_unknown else ""
        edge = f"a pixel is {spacing.median():g} mm wide{extent}{unknown}"
    overlap = "do not overlap" if store.stride_px == store.patch_px else f"begin every {store.stride_px} pixels"
    return f"The mammograms have {size}, {store.pixel_type}; {edge}. They were {resampling(store)}. Patches {overlap}."


def native(store: PatchStore, name: str) -> pd.Series:
    """height, width or spacing_mm of each image of a store before it was resampled, if it was."""
    return store.images[name if store.manifest.grid.spacing_mm is None else f"native_{name}"]


def resampling(store: PatchStore) -> str:
    """What was done to the images of a store, such as "never resampled" or "resampled by area to 0.2 mm a pixel"."""
    (from_height, height), (from_width, width) = (
        (native(store, name), store.images[name]) for name in ("height", "width")
    )
    is_smaller = (height < from_height) | (width < from_width)
    is_larger = (height > from_height) | (width > from_width)
    ways = {
        "by area": is_smaller,
        "by linear interpolation": is_larger,
        "taken as they were": ~(is_smaller | is_larger),
    }
    counts = {way: int(chosen.sum()) for way, chosen in ways.items() if chosen.any()}
    if list(counts) == ["taken as they were"]:
        return "never resampled"
    to = f"to {store.manifest.grid.spacing_mm:g} mm a pixel"
    if len(counts) == 1:
        return f"resampled {next(iter(counts))} {to}"
    return f"resampled {to} ({', '.join(f'{count:,} {way}' for way, count in counts.items())})"


def _reference_standard(store: PatchStore) -> tuple[Block, ...]:
    labels = store.manifest.labels
    marks = f"at least {labels.min_marks} individual calcifications"
    if labels.min_marks == 1:
        marks = "an individual calcification"
    rule = _LABEL_RULES[labels.read_from].format(fraction=f"{labels.cluster_fraction:g}", marks=marks)
    items = [rule, _annotation_sentence(store), *_assumed_sentences(store), *store.manifest.notes]
    wanted = (
        "who marked or labelled: number, profession, years of experience",
        "how they agreed, and how well: consensus, second reading, kappa",
        "what they saw besides: reports, histology, other views, earlier examinations",
        "what confirms a calcification and its absence: histology, follow-up, the image alone",
    )
    return (
        Bullets(tuple(Text(without_folders(item)) for item in items)),
        Bullets(tuple(Text(what, "blank") for what in wanted)),
    )


def _annotation_sentence(store: PatchStore) -> str:
    unless = ", but for those assumed below" if store.manifest.labels.label_source == "assumed" else ""
    meanings = {
        "complete": "searched in full (an unmarked patch counts as free of calcification)",
        "partial": f"marked in part (an unmarked patch is unknown{unless})",
        "none": f"not searched{unless}",
    }
    counts = store.images["annotation"].value_counts()
    return f"Mammograms {', '.join(f'{meanings[name]}: {counts[name]:,}' for name in meanings if name in counts)}."


def _assumed_sentences(store: PatchStore) -> list[str]:
    """What rests on label_source "assumed", if anything does."""
    if store.manifest.labels.label_source != "assumed":
        return ["Nothing is assumed: no patch counts as free of calcification without having been searched."]
    images = store.images
    is_normal = images["pathology"].fillna("").str.strip().str.casefold() == "normal"
    assumed = images[is_normal & (images["annotation"] != "complete")]
    patches = store.patches[store.patches["image_id"].isin(assumed["image_id"])]
    num_negative = int((patches["label"] == NO_CALCIFICATION).sum())
    return [
        f"Assumed, of {counted(len(assumed), 'mammogram')} called normal and not marked: the {num_negative:,} patches "
        'count as free of calcification (patches.label_source = "assumed"), which nobody confirmed patch by patch.'
    ]


def _demographics_table(store: PatchStore, assignment: Mapping[str, str]) -> Table:
    letters = [f"Subset {letter}" for letter in sorted(set(assignment.values()))]
    return Table(
        name="demographics",
        title="Demographics by subset",
        columns=("By", "Value", *letters, "All"),
        rows=demographics(store.images, assignment),
        note="Subset k is the test set of fold k, which is trained on the others alone. Age is that of a patient's "
        "first mammogram that tells it, in years; density, BI-RADS, pathology and vendor are counted by mammogram, in "
        "the words of the data.",
    )
