"""A model's card: what it is, what it was trained on, its metrics and what it is not for, beside the model itself.

Owns MODEL_CARD.md in a SavedModel's folder, in the sections of Mitchell et al. 2019, doi 10.1145/3287560.3287596. All
of it follows from the model's metadata and its metrics; it names no patient. What only its makers know is left blank.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mmgkeras.evaluation.metrics import METRIC_NAMES, METRICS
from mmgkeras.evaluation.outputs import standing
from mmgkeras.evaluation.summary import SelectionSummary, Summary
from mmgkeras.files import atomic_file
from mmgkeras.savedmodel.metadata import ModelMetadata, read_metadata

MODEL_CARD: Final = "MODEL_CARD.md"
BLANK: Final = "_to be filled in by those who trained it_"
_OPERATING_POINT: Final = "\n## Operating point"
_SHOWN: Final = (
    ("model", ("network", "weights")),
    ("augmentation", ()),
    ("train", ("epochs", "batch_size", "learning_rate", "l2", "head_rate_factor", "seed")),
)
"""Sections of the configuration and the keys of them that are shown; all where none is named."""


def write_model_card(model: Path, *, metrics: Summary | None = None) -> Path:
    """Writes or replaces MODEL_CARD.md in a SavedModel's folder; its path.

    Args:
        model: the folder, `<name>/<version>`.
        metrics: of the model's own test subset; None if it was not evaluated.

    Raises:
        InputError: if the folder is no SavedModel of ours, or cannot be written.
    """
    text = model_card(read_metadata(model), metrics=metrics)
    with atomic_file(model / MODEL_CARD, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return model / MODEL_CARD


def model_card(metadata: ModelMetadata, *, metrics: Summary | None = None) -> str:
    """The card as Markdown."""
    sections = (
        ("", _details(metadata)),
        ("Intended use", _INTENDED_USE),
        ("Input and output", _interface(metadata)),
        ("Training data", _training_data(metadata)),
        ("Training", _training(metadata)),
        ("Evaluation", "Not evaluated yet." if metrics is None else _evaluation(metrics)),
        ("Limits and risks", _LIMITS),
        ("Contact, licence, ethics approval", f"- {BLANK}"),
    )
    text = "\n\n".join(f"## {title}\n\n{body}" if title else body for title, body in sections) + "\n"
    return text + _operating_point(metadata)


def note_operating_point(model: Path) -> None:
    """Puts the operating point of a model's metadata into its card, in place of another; a model without card gets one.

    Raises:
        InputError: if the folder is no SavedModel of ours, or cannot be written.
    """
    path = model / MODEL_CARD
    if not path.is_file():
        write_model_card(model)
        return
    text = path.read_text(encoding="utf-8").partition(_OPERATING_POINT)[0]
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_text(text + _operating_point(read_metadata(model)), encoding="utf-8")


def _operating_point(metadata: ModelMetadata) -> str:
    """The last section of the card; empty where the model brings no operating point along."""
    point = metadata.operating_point
    if point is None:
        return ""
    target = "given" if point.target is None else f"for {point.kind.replace('_', ' ')} of {point.target:g}"
    return (
        f"{_OPERATING_POINT}\n\nThis version calls calcification from a probability of {point.threshold:.6g}, "
        f"{target}; fitted on {point.fitted_on}.\nThe metrics above are at the threshold that they name.\n"
    )


_INTENDED_USE: Final = (
    "Research on the detection of calcifications in mammograms, patch by patch, after Sakaida et al. 2023,\n"
    "Algorithms 16, 483, doi 10.3390/a16100483. It is not a medical device and must not be used for diagnosis,\n"
    "triage or any decision on a patient. It says where calcification may be, not whether it is benign or malignant."
)
_LIMITS: Final = (
    "- Its metrics hold for the data it was measured on. Another device, pixel size, processing, population or\n"
    "  prevalence of calcification can change each of them; measure it on your own data first.\n"
    "- Probabilities are of classes that were balanced in training; in the field calcification is rarer, so they are\n"
    "  too high unless they were calibrated.\n"
    "- Where the positives of its training were darkened or turned and the negatives were not, it may take that for a\n"
    "  sign of calcification.\n"
    "- A patch is judged by itself: nothing outside it is seen, neither the other view nor the other breast."
)


def _details(metadata: ModelMetadata) -> str:
    return (
        f"# {metadata.network}, fold {metadata.fold}\n\n"
        f"A classifier of mammogram patches, with and without calcification, exported by mmgkeras "
        f"{metadata.mmgkeras_version}.\nFor research use only, never for diagnosis."
    )


def _interface(metadata: ModelMetadata) -> str:
    edge, spacing = metadata.patch_px, metadata.spacing_mm
    pitch = "unknown or mixed" if spacing is None else f"{spacing:g} mm"
    return "\n".join(
        [
            f"- in: raw patches (N, {edge}, {edge}, 1) {metadata.pixel_type}, display polarity (bright is dense)",
            f"- pixel size of the training data: {pitch}; pixels must not be resampled to fit",
            f"- distance between neighbouring patches: {metadata.stride_px} px, from the bottom chest-wall corner",
            "- out: probability of calcification (N,) float32; the paper decides at 0.5",
        ]
    )


def _training_data(metadata: ModelMetadata) -> str:
    return "\n".join(
        [
            f"- patch store with checksum {metadata.store_checksum}",
            f"- all its subsets but {metadata.test_subset}; no patient of subset {metadata.test_subset} was seen",
            *(
                f"- before that, fold {origin.fold} of the patch store with checksum {origin.store_checksum}, by the "
                "model that it started from"
                for origin in metadata.started_from
            ),
            f"- source of the images, inclusion, reference standard: {BLANK}",
        ]
    )


def _training(metadata: ModelMetadata) -> str:
    lines = []
    for section, keys in _SHOWN:
        values: Mapping[str, Any] = metadata.config.get(section, {})
        shown = {key: value for key, value in values.items() if not keys or key in keys}
        lines += [f"- {section}.{key}: {value}" for key, value in shown.items()]
    return "\n".join([*lines, "- every other setting: assets.extra/mmgkeras.json"])


def _evaluation(metrics: Summary) -> str:
    counts = metrics.all_patches.counts
    header = ["| metric | tissue patches | all patches | always no (all) |", "|---|---|---|---|"]
    rows = [
        f"| {METRIC_NAMES[name]} | {_text(metrics.tissue.mean[name])} | {_text(metrics.all_patches.mean[name])} "
        f"| {_text(metrics.all_patches.always_no[name])} |"
        for name in METRICS
    ]
    accuracies = (metrics.tissue.mammogram_accuracy, metrics.all_patches.mammogram_accuracy)
    rows.append(f"| mean accuracy of a mammogram | {_text(accuracies[0])} | {_text(accuracies[1])} | |")
    return "\n".join(
        [
            f"On {counts.num_images} images of {counts.num_patients} patients whom it had not seen: "
            f"{counts.num_positives:,} patches with calcification,",
            f"{counts.num_negatives:,} without, {counts.num_unknown:,} unknown and not counted. Decisions at a "
            f"probability of {metrics.threshold:g}. Tissue patches show",
            "breast on at least half of their area. One fold has no interval: see the report of the cross-validation.",
            "",
            *header,
            *rows,
            "",
            _baseline(metrics.tissue),
        ]
    )


def _baseline(tissue: SelectionSummary) -> str:
    beside = standing(tissue)
    if not beside:
        return "No baseline was measured beside it."
    return f"On tissue patches its AUC is {beside}."


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
