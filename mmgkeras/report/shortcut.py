"""The shortcut test: what models say of patches without calcification once they are darkened, turned or flipped.

Owns its one table and the sentence that says what a rise means. The scores come from `inference.shortcut_test`.
"""

from typing import Final

import pandas as pd

from mmgkeras.evaluation.changed_patches import changed_scores
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.report.page import missing, paragraph
from mmgkeras.report.table import Cell, Section, Table
from mmgkeras.schema import NO_CALCIFICATION
from mmgkeras.study.read import Study

ANCHOR: Final = "shortcut"
AS_IS: Final = "as_is"
_NAMES: Final = {
    AS_IS: "as it is",
    "x0.5": "pixels x 0.5",
    "x0.75": "pixels x 0.75",
    "rot90": "turned by 90\u00b0",
    "rot180": "turned by 180\u00b0",
    "rot270": "turned by 270\u00b0",
    "flipped": "flipped",
}
_MEANING: Final = (
    "The paper's augmentation darkens and turns positives alone, so that darkness and turning themselves tell of "
    "calcification in training: where more negatives are called positive, or the mean logit rises, once the same "
    "patches are darkened or turned, the network has learned that shortcut; flipping, which negatives get too, should "
    "change nothing."
)
_SYMMETRIC: Final = (
    '{names} trained with augmentation.scheme = "symmetric", which changes both classes alike: there a rise is not the '
    "augmentation's doing."
)


def shortcut_section(study: Study, *, num_resamples: int = 2000, seed: int = 0) -> Section:
    """Share called positive and mean logit of negative patches as they are and changed, for each network."""
    rows: list[tuple[Cell, ...]] = []
    without = []
    for network in study.networks:
        if network.first.shortcut is None:
            without.append(study.labels[network.name])
        else:
            rows.extend(
                _rows(study.labels[network.name], network.first.shortcut, num_resamples=num_resamples, seed=seed)
            )
    body: list[str | Table] = [paragraph(_MEANING)]
    symmetric = [
        study.labels[network.name] for network in study.networks if network.config.augmentation.scheme == "symmetric"
    ]
    if symmetric:
        body.append(paragraph(_SYMMETRIC.format(names=", ".join(symmetric))))
    if rows:
        body.append(_table(rows))
    if without:
        body.append(missing(f"Not measured for {', '.join(without)}: no shortcut.csv beside its predictions."))
    return Section(anchor=ANCHOR, title="Shortcut test of the augmentation", body=tuple(body))


def _table(rows: list[tuple[Cell, ...]]) -> Table:
    return Table(
        name="shortcut_test",
        title="Patches without calcification, changed",
        columns=("Network", "Patches", "Number", "Called positive", "Change", "Mean logit", "Change of the logit"),
        rows=tuple(rows),
        note="The same patches on tissue in every row of a network, scored by the model of the fold that tests them. "
        f"Called positive: probability of at least {THRESHOLD:g}. Changes are against the patches as they are. "
        "95 % intervals over patients.",
    )


def _rows(network: str, scores: pd.DataFrame, *, num_resamples: int, seed: int) -> list[tuple[Cell, ...]]:
    negatives = scores[scores["label"] == NO_CALCIFICATION]
    found = changed_scores(negatives, reference=AS_IS, num_resamples=num_resamples, seed=seed)
    known = list(dict.fromkeys([*(name for name in _NAMES if name in found), *found]))
    return [(network, _NAMES.get(change, change), *found[change]) for change in known]
