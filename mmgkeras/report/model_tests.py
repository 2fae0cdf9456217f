"""Tests of what the networks learned: shortcuts of the augmentation, and localisation inside the patch.

Owns their tables and what a reader is told of them. The shortcut test (`inference.shortcut_test`) scores patches
without calcification once they are darkened, turned or flipped; the pointing game is `inference.pointing_game`'s.
"""

from typing import Final

import pandas as pd

from mmgkeras.evaluation.behaviour import changed_scores, pointing_scores
from mmgkeras.evaluation.bootstrap import NUM_RESAMPLES
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.report.content import Block, Cell, Section, Table, Text, missing
from mmgkeras.schema import NO_CALCIFICATION
from mmgkeras.study.read import Study

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
_NOT_DARKENED: Final = (
    "{names} trained on undarkened patches alone (augmentation.intensities = [1.0]): there a rise of darkened ones is "
    "not the augmentation's doing."
)
_POINTING: Final = (
    "The pointing game asks of each positive patch whether the cell of the last feature map in which the activation "
    "for calcification is highest holds a pixel of an annotated finding (Zhang et al. 2018). Chance is the part of the "
    "patch's cells that hold one: what a cell drawn blindly would score."
)


def shortcut_section(study: Study, *, num_resamples: int = NUM_RESAMPLES) -> Section:
    """Share called positive and mean logit of negative patches as they are and changed, for each network."""
    rows: list[tuple[Cell, ...]] = []
    without = []
    for network in study.networks:
        if network.first.shortcut is None:
            without.append(study.labels[network.name])
        else:
            rows.extend(_rows(study.labels[network.name], network.first.shortcut, num_resamples=num_resamples))
    body: list[Block] = [Text(_MEANING)]
    settings = {study.labels[network.name]: network.config.augmentation for network in study.networks}
    symmetric = [label for label, one in settings.items() if one.scheme == "symmetric"]
    not_darkened = [label for label, one in settings.items() if one.scheme == "paper" and len(one.intensities) == 1]
    for text, labels in ((_SYMMETRIC, symmetric), (_NOT_DARKENED, not_darkened)):
        if labels:
            body.append(Text(text.format(names=", ".join(labels))))
    if rows:
        body.append(
            Table(
                name="shortcut_test",
                title="Patches without calcification, changed",
                columns=(
                    *("Network", "Patches", "Number", "Called positive", "Change", "Mean logit"),
                    "Change of the logit",
                ),
                rows=tuple(rows),
                note="The same patches on tissue in every row of a network, scored by the model of the fold that tests "
                f"them. Called positive: probability of at least {THRESHOLD:g}. Changes are against the patches as "
                "they are. 95 % intervals over patients.",
            )
        )
    if without:
        body.append(missing(f"Not measured for {', '.join(without)}: no shortcut.csv beside its predictions."))
    return Section(anchor="shortcut", title="Shortcut test of the augmentation", body=tuple(body))


def _rows(network: str, scores: pd.DataFrame, *, num_resamples: int) -> list[tuple[Cell, ...]]:
    negatives = scores[scores["label"] == NO_CALCIFICATION]
    found = changed_scores(negatives, reference=AS_IS, num_resamples=num_resamples)
    known = list(dict.fromkeys([*(name for name in _NAMES if name in found), *found]))
    return [(network, _NAMES.get(change, change), *found[change]) for change in known]


def localisation_section(study: Study, *, num_resamples: int = NUM_RESAMPLES) -> Section:
    """The pointing-game score of each network with its interval, chance, and the difference."""
    rows: list[tuple[Cell, ...]] = []
    without = []
    for network in study.networks:
        pointing = network.first.pointing
        if pointing is None or pointing.empty:
            without.append(study.labels[network.name])
        else:
            scores = pointing_scores(pointing, num_resamples=num_resamples)
            rows.append((study.labels[network.name], *scores))
    body: list[Block] = [Text(_POINTING)]
    if rows:
        body.append(
            Table(
                name="pointing_game",
                title="Pointing game",
                columns=("Network", "Positive patches", "Patients", "Hits", "Score", "Chance", "Score less chance"),
                rows=tuple(rows),
                note="All positive patches with an annotated pixel, called positive or not. 95 % intervals over "
                "patients.",
            )
        )
    if without:
        why = "it needs regions.csv and a model with several cells of activation a patch"
        body.append(missing(f"Not measured for {', '.join(without)}: {why}."))
    return Section(anchor="localisation", title="Localisation inside the patch", body=tuple(body))
