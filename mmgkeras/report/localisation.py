"""Localisation inside the patch: how often the class activation peaks on a calcification, against chance.

Owns its one table. Where activations peaked comes from `savedmodel.pointing`.
"""

from typing import Final

import numpy as np
import pandas as pd

from mmgkeras.report.page import missing, paragraph
from mmgkeras.report.resampling import resample_patients
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
            rows.append((study.labels[network.name], *_figures(pointing, num_resamples=num_resamples, seed=seed)))
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


def _figures(pointing: pd.DataFrame, *, num_resamples: int, seed: int) -> tuple[Cell, ...]:
    resamples = resample_patients(pointing, num_resamples=num_resamples, seed=seed)
    places = resamples.places(pointing["patient_id"])
    hits = pointing["is_hit"].to_numpy(dtype=np.float64)
    chance = pointing["chance"].to_numpy(dtype=np.float64)
    return (
        len(pointing),
        int(pointing["patient_id"].nunique()),
        int(hits.sum()),
        resamples.rate(hits, places),
        float(chance.mean()),
        resamples.mean(hits - chance, places),
    )
