"""The error atlas: what each network missed and what it called by mistake, with pictures and rates.

Owns which errors are shown. Pictures are `pictures`', rates `error_rates`'.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from mmgkeras.evaluation.bootstrap import resample_patients
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.evaluation.patch_features import PLACE, patch_brightness
from mmgkeras.patches.store import PatchStore
from mmgkeras.report.error_rates import error_rates
from mmgkeras.report.page import missing, paragraph
from mmgkeras.report.pictures import Pictures
from mmgkeras.report.table import Section, Table
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION
from mmgkeras.study.read import Study
from mmgkeras.study.reference_standard import study_regions

ANCHOR: Final = "errors"
LIMIT: Final = 24
"""Errors of each kind that are shown for each network."""
Error = Literal["missed", "false positive"]

_INTRO: Final = (
    "Sakaida et al. (Discussion) blame white patches, small calcified areas and few calcifications for missed patches, "
    "and white patches for false positives. The rates below check that on these data; the galleries show the worst "
    f"{LIMIT} of each kind: all pixels of the patch, grey as stored, what is annotated framed in blue, and beside it "
    "the patch's place on the mammogram."
)


def atlas_section(
    study: Study,
    *,
    marks: pd.DataFrame | None = None,
    limit: int = LIMIT,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Section:
    """Rates of errors by what may cause them, then the worst errors of each network as galleries.

    Args:
        study: the cross-validation.
        marks: `study_marks` of it.
        limit: errors of each kind shown for each network.
        num_resamples: sets of patients drawn.
        seed: of the drawing.
    """
    title = "Errors"
    if study.store is None:
        return Section(anchor=ANCHOR, title=title, body=(missing("The patch store is not there: no patch to show."),))
    patches = _described(study.store, marks)
    predictions = {
        study.labels[network.name]: network.first.predictions.merge(
            patches, on=PLACE, how="left", validate="many_to_one"
        )
        for network in study.networks
    }
    resamples = resample_patients(study.networks[0].first.predictions, num_resamples=num_resamples, seed=seed)
    body: list[str | Table] = [paragraph(_INTRO), error_rates(predictions, resamples)]
    if marks is None:
        body.append(missing("Calcified area and number of calcifications are not known: no regions.csv was found."))
    elif not marks["num_marks"].any():
        body.append(missing("Calcified area and number are not known: regions.csv holds no individual calcifications."))
    pictures = Pictures(study.store, regions=() if marks is None else study_regions(study) or ())
    for name, frame in predictions.items():
        body.extend(_gallery(frame, pictures, network=name, error="missed", limit=limit))
        body.extend(_gallery(frame, pictures, network=name, error="false positive", limit=limit))
    return Section(anchor=ANCHOR, title=title, body=tuple(body))


def _described(store: PatchStore, marks: pd.DataFrame | None) -> pd.DataFrame:
    """What may cause an error, for each patch of a store; `index` is its row there."""
    frame = store.patches[PLACE].reset_index(drop=True).reset_index()
    frame["brightness"] = patch_brightness(store)
    if marks is not None:
        frame = frame.merge(marks, on=PLACE, how="left", validate="one_to_one")
    return frame.merge(store.images[["image_id", "density", "view", "laterality"]], on="image_id", how="left")


def worst_errors(predictions: pd.DataFrame, error: Error) -> pd.DataFrame:
    """The patches that were missed, least probable first, or called by mistake, most probable first."""
    scores, labels = predictions["probability"], predictions["label"]
    if error == "missed":
        wrong = predictions[(labels == CALCIFICATION) & (scores < THRESHOLD)]
        return wrong.sort_values(["probability", *PLACE])
    wrong = predictions[(labels == NO_CALCIFICATION) & (scores >= THRESHOLD)]
    return wrong.sort_values(["probability", *PLACE], ascending=[False, True, True, True])


def _gallery(predictions: pd.DataFrame, pictures: Pictures, *, network: str, error: Error, limit: int) -> Sequence[str]:
    wrong = worst_errors(predictions, error)
    names = {"missed": "missed calcifications", "false positive": "false positives"}
    heading = f"<h3>{escape(network)}: {names[error]}</h3>"
    if wrong.empty:
        return (heading, paragraph("None."))
    shown = wrong.head(limit)
    order = "least" if error == "missed" else "most"
    count = (
        f"{len(shown)} of {len(wrong):,}, the {order} probable first." if len(shown) < len(wrong) else "All of them."
    )
    records: list[dict[str, Any]] = [
        {str(key): value for key, value in row.items()} for row in shown.to_dict("records")
    ]
    cards = "".join(_card(patch, pictures) for patch in records)
    return (heading, paragraph(count, kind="note"), f'<div class="gallery" style="margin-top:10px">{cards}</div>')


def _card(patch: Mapping[str, Any], pictures: Pictures) -> str:
    index = int(patch["index"])
    place = f"{patch['image_id']}, row {patch['row']}, col {patch['col']}"
    lines = [f"<strong>{patch['probability']:.3f}</strong> {escape(place)}", *_details(patch)]
    picture = pictures.patch(index, title=f"patch of {place}")
    caption = f"<figcaption>{'<br>'.join(lines)}</figcaption>"
    return f'<figure class="patch"><div>{picture}{pictures.place(index)}</div>{caption}</figure>'


def _details(patch: Mapping[str, Any]) -> list[str]:
    parts = []
    if not np.isnan(patch["brightness"]):
        parts.append(f"brightness {patch['brightness']:.2f}")
    num_marks = patch.get("num_marks")
    if num_marks and patch["label"] == CALCIFICATION:
        parts.append(f"{num_marks} {'mark' if num_marks == 1 else 'marks'}, {patch['calcified_px']} px")
    if isinstance(patch["density"], str):
        parts.append(f"density {patch['density']}")
    return [escape(", ".join(parts))] if parts else []
