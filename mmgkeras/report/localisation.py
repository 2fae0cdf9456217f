"""Localisation inside the patch: how often the class activation peaks on a calcification, against chance.

Owns its one table. Where activations peaked comes from `inference.pointing_game`.
"""

from typing import Final

from mmgkeras.evaluation.pointing import pointing_scores
from mmgkeras.report.page import missing, paragraph
from mmgkeras.report.table import Cell, Section, Table
from mmgkeras.study.read import Study

ANCHOR: Final = "localisation"
_WHAT: Final = (
    "The pointing game asks of each positive patch whether the cell of the last feature map in which the activation "
    "for calcification is highest holds a pixel of an annotated finding (Zhang et al. 2018). Chance is the part of the "
    "patch's cells that hold one: what a cell drawn blindly would score."
)


def localisation_section(study: Study, *, num_resamples: int = 2000, seed: int = 0) -> Section:
    """The pointing-game score of each network with its interval, chance, and the difference."""
    rows: list[tuple[Cell, ...]] = []
    without = []
    for network in study.networks:
        pointing = network.first.pointing
        if pointing is None or pointing.empty:
            without.append(study.labels[network.name])
        else:
            scores = pointing_scores(pointing, num_resamples=num_resamples, seed=seed)
            rows.append((study.labels[network.name], *scores))
    body: list[str | Table] = [paragraph(_WHAT)]
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
        names = ", ".join(without)
        body.append(missing(f"Not measured for {names}: it needs regions.csv and a model that gives activations."))
    return Section(anchor=ANCHOR, title="Localisation inside the patch", body=tuple(body))
