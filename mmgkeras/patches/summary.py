"""Stores and splits in a few lines of text for the terminal, at most 80 columns wide where names allow it."""

import textwrap
from collections.abc import Mapping

from mmgkeras.patches.balance import subset_counts
from mmgkeras.patches.split import identical_images
from mmgkeras.patches.store import PatchStore

_WIDTH = 80
_INDENT = " " * 12


def summary_lines(store: PatchStore) -> list[str]:
    """What is in a store, what was left out of it and what should be known of it."""
    counts = store.manifest["counts"]
    spacing = "unknown" if store.spacing_mm is None else f"{store.spacing_mm:g} mm"
    skipped = store.manifest["skipped_images"]
    facts = [
        ("store", str(store.path)),
        ("images", f"{counts['images']:,} of {counts['patients']:,} patients"),
        (
            "patches",
            f"{counts['patches']:,} of {store.patch_px} px: {counts['positive']:,} positive, "
            f"{counts['negative']:,} negative, {counts['unknown']:,} unknown",
        ),
        ("labels", f"from {store.manifest['labels']['read_from']}"),
        ("pixels", f"{store.pixel_type}, spacing {spacing}"),
        ("size", f"{store.num_bytes / 1e6:,.1f} MB"),
        *(("skipped", f"{image['image_id']}: {image['reason']}") for image in skipped),
        *(("skipped", text) for text in store.manifest["skipped_annotations"]),
        *(("note", text) for text in store.manifest["notes"]),
    ]
    return [line for name, text in facts for line in _wrapped(name, text)]


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


def _wrapped(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        f"{name:<12}{text}", _WIDTH, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
    )
