from dataclasses import replace

import pandas as pd
import pytest

from mmgkeras.evaluation.interval import Interval
from mmgkeras.report.localisation import localisation_section
from mmgkeras.report.table import Table
from mmgkeras.study.read import Study


@pytest.fixture
def pointing() -> pd.DataFrame:
    """Twelve positives of six patients, every second one hit."""
    return pd.DataFrame(
        {
            "image_id": [f"I{number}" for number in range(12)],
            "patient_id": [f"P{number // 2}" for number in range(12)],
            "row": 0,
            "col": 0,
            "peak_row": 1.0,
            "peak_col": 1.0,
            "is_hit": [1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1],
            "chance": 0.125,
            "fold": [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2],
        }
    )


def with_pointing(study: Study, pointing: pd.DataFrame | None) -> Study:
    network = study.networks[0]
    return replace(study, networks=(replace(network, seeds={0: replace(network.first, pointing=pointing)}),))


def test_score_and_chance_are_means_over_patches(section_study: Study, pointing: pd.DataFrame) -> None:
    section = localisation_section(with_pointing(section_study, pointing), num_resamples=200)
    (table,) = (part for part in section.body if isinstance(part, Table))
    ((network, patches, patients, hits, score, chance, better),) = table.rows
    assert (network, patches, patients, hits, chance) == ("net", 12, 6, 7, 0.125)
    assert isinstance(score, Interval)
    assert isinstance(better, Interval)
    assert score.estimate == pytest.approx(7 / 12)
    assert score.low is not None
    assert score.low < 7 / 12
    assert better.estimate == pytest.approx(7 / 12 - 0.125)


@pytest.mark.parametrize("rows", [None, 0])
def test_a_network_that_pointed_at_nothing_is_named(
    section_study: Study, pointing: pd.DataFrame, rows: int | None
) -> None:
    section = localisation_section(with_pointing(section_study, None if rows is None else pointing.head(rows)))
    assert "Not measured for net" in str(section.body[-1])
