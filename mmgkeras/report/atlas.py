"""The error atlas: what each network missed and what it called by mistake, with pictures and rates.

Owns which errors are shown, and the table of their rates. Pictures are `pictures`'.
"""

from collections.abc import Hashable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from mmgkeras.errors import counted
from mmgkeras.evaluation.bootstrap import NUM_RESAMPLES, PATCH, PatientResamples, resample_patients
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.evaluation.subgroup_metrics import Error, describe_patches, error_groups, error_rate, worst_errors
from mmgkeras.report.content import Block, Card, Cell, Gallery, Heading, Section, Table, Text, missing
from mmgkeras.report.pictures import Pictures
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN, probability_text
from mmgkeras.study.read import Study, study_regions

ANCHOR: Final = "errors"
LIMIT: Final = 24
"""Errors of each kind that are shown for each network."""

_INTRO: Final = (
    "Sakaida et al. (Discussion) blame white patches, small calcified areas and few calcifications for missed patches, "
    "and white patches for false positives. The rates below check that on these data; the galleries show the worst "
    f"{LIMIT} of each kind: all pixels of the patch, what is annotated framed in blue, and beside it the patch's "
    "place on the mammogram. Each picture has a window of its own, from its darkest to its brightest pixels, for many "
    "patches would be near black otherwise; brightness is that of the pixels as stored. A click enlarges."
)
_NOTE: Final = (
    "Missed: positives below {threshold:g}, of the positives. False: negatives of at least {threshold:g}, of the "
    "negatives. Brightness: mean grey of the breast in the patch, 0 to 1, in thirds of the patches on tissue. "
    "Calcified area: pixels of individual marks, in thirds of the positives that hold any. All patches of known label; "
    "95 % intervals over patients, none where fewer than five carry the rate."
)


def atlas_section(
    study: Study, *, marks: pd.DataFrame | None = None, limit: int = LIMIT, num_resamples: int = NUM_RESAMPLES
) -> Section:
    """Rates of errors by what may cause them, then at most `limit` of the worst errors of each network and kind.

    `marks` are `study_marks` of the study.
    """
    title = "Errors"
    if study.store is None:
        return Section(anchor=ANCHOR, title=title, body=(missing("The patch store is not there: no patch to show."),))
    patches = describe_patches(study.store, marks)
    predictions = {
        study.labels[network.name]: network.first.predictions.merge(
            patches, on=PATCH, how="left", validate="many_to_one"
        )
        for network in study.networks
    }
    resamples = resample_patients(study.networks[0].first.predictions, num_resamples=num_resamples)
    body: list[Block] = [Text(_INTRO), error_rates_table(predictions, resamples)]
    if marks is None:
        body.append(missing("Calcified area and number of calcifications are not known: no regions.csv was found."))
    elif not marks["num_marks"].any():
        body.append(missing("Calcified area and number are not known: regions.csv holds no individual calcifications."))
    pictures = Pictures(study.store, regions=() if marks is None else study_regions(study) or ())
    for name, frame in predictions.items():
        body.extend(_gallery(frame, pictures, network=name, error="missed", limit=limit))
        body.extend(_gallery(frame, pictures, network=name, error="false positive", limit=limit))
    return Section(anchor=ANCHOR, title=title, body=tuple(body))


def _gallery(predictions: pd.DataFrame, pictures: Pictures, *, network: str, error: Error, limit: int) -> list[Block]:
    wrong = worst_errors(predictions, error)
    names = {"missed": "missed calcifications", "false positive": "false positives"}
    heading = Heading(f"{network}: {names[error]}")
    if wrong.empty:
        return [heading, Text("None.")]
    shown = wrong.head(limit)
    order = "least" if error == "missed" else "most"
    is_cut = len(shown) < len(wrong)
    count = f"{len(shown)} of {len(wrong):,}, the {order} probable first." if is_cut else "All of them."
    cards = tuple(_card(patch, pictures) for patch in shown.to_dict("records"))
    return [heading, Text(count, "note"), Gallery(cards)]


def _card(patch: Mapping[Hashable, Any], pictures: Pictures) -> Card:
    index = int(patch["index"])
    place = f"{patch['image_id']}, row {patch['row']}, col {patch['col']}"
    return Card(
        value=probability_text(patch["probability"]),
        lines=(place, *_details(patch)),
        pictures=(pictures.patch(index, title=f"patch of {place}"), pictures.place(index)),
    )


def _details(patch: Mapping[Hashable, Any]) -> list[str]:
    parts = []
    if not np.isnan(patch["brightness"]):
        parts.append(f"brightness {patch['brightness']:.2f}")
    num_marks = patch.get("num_marks")
    if num_marks and patch["label"] == CALCIFICATION:
        parts.append(f"{counted(num_marks, 'mark')}, {patch['calcified_px']} px")
    if isinstance(patch["density"], str):
        parts.append(f"density {patch['density']}")
    return [", ".join(parts)] if parts else []


def error_rates_table(predictions: Mapping[str, pd.DataFrame], resamples: PatientResamples) -> Table:
    """The table of all groups, two columns for each network; frames as `describe_patches` makes them."""
    known = {
        name: frame[frame["label"] != UNKNOWN].sort_values(["fold", *PATCH], ignore_index=True)
        for name, frame in predictions.items()
    }
    first = next(iter(known.values()))
    rows = []
    for group in error_groups(first):
        of_first = first[group.chosen]
        if of_first.empty:
            continue
        num_positives, num_negatives = (
            int((of_first["label"] == label).sum()) for label in (CALCIFICATION, NO_CALCIFICATION)
        )
        cells: list[Cell] = [group.what, group.name, num_positives, None if group.of_positives else num_negatives]
        for frame in known.values():
            chosen = frame[group.chosen]
            cells.append(error_rate(chosen, resamples, label=CALCIFICATION))
            cells.append(None if group.of_positives else error_rate(chosen, resamples, label=NO_CALCIFICATION))
        rows.append(tuple(cells))
    columns = [column for name in known for column in (f"Missed, {name}", f"False, {name}")]
    return Table(
        name="error_rates",
        title="Rates of errors by what may cause them",
        columns=("By", "Group", "Positives", "Negatives", *columns),
        rows=tuple(rows),
        note=_NOTE.format(threshold=THRESHOLD),
    )
