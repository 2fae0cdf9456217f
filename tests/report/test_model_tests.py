from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from mmgkeras.config import AugmentationConfig, Config
from mmgkeras.evaluation.interval import Interval
from mmgkeras.report.content import Section, Table, Text
from mmgkeras.report.model_tests import localisation_section, shortcut_section
from mmgkeras.study.read import Study


def with_scores(study: Study, shortcut: pd.DataFrame | None, **changes: object) -> Study:
    network = study.networks[0]
    seed = replace(network.first, shortcut=shortcut)
    return replace(study, networks=(replace(network, seeds={0: seed}, **changes),))


@pytest.fixture
def scores() -> pd.DataFrame:
    """Ten negatives of five patients: darkening calls the first patch of each, and turning changes nothing."""
    rows = []
    for change in ("x0.5", "as_is", "rot90"):
        for number in range(10):
            is_called = change == "x0.5" and number % 2 == 0
            rows.append((f"I{number // 2}", f"P{number // 2}", 0, number % 2, 0, change, 0.8 if is_called else 0.1, 1))
    columns = ["image_id", "patient_id", "row", "col", "label", "change", "probability", "fold"]
    return pd.DataFrame(rows, columns=columns)


def rows(section: Section) -> dict[object, tuple[object, ...]]:
    (table,) = (part for part in section.body if isinstance(part, Table))
    return {row[1]: row for row in table.rows}


def estimates(row: tuple[object, ...]) -> list[float | None]:
    return [cell.estimate if isinstance(cell, Interval) else None for cell in row[3:]]


def test_shares_and_logits_are_compared_with_the_same_patches_as_they_are(
    section_study: Study, scores: pd.DataFrame
) -> None:
    found = rows(shortcut_section(with_scores(section_study, scores), num_resamples=100))
    assert list(found) == ["as it is", "pixels x 0.5", "turned by 90\u00b0"]
    assert found["as it is"][:3] == ("net", "as it is", 10)
    assert estimates(found["as it is"]) == [0, None, pytest.approx(logit(0.1)), None]
    rise = (logit(0.8) - logit(0.1)) / 2
    assert estimates(found["pixels x 0.5"]) == pytest.approx([0.5, 0.5, logit(0.1) + rise, rise])
    assert estimates(found["turned by 90\u00b0"]) == pytest.approx([0, 0, logit(0.1), 0])


def test_probabilities_of_one_have_a_finite_logit(section_study: Study, scores: pd.DataFrame) -> None:
    found = rows(shortcut_section(with_scores(section_study, scores.assign(probability=1.0)), num_resamples=10))
    values = estimates(found["as it is"])
    assert values[2] is not None
    assert np.isfinite(values[2])


def test_positives_take_no_part(section_study: Study, scores: pd.DataFrame) -> None:
    positives = scores.assign(label=1, probability=0.9, image_id="other")
    both = pd.concat([scores, positives])
    found = rows(shortcut_section(with_scores(section_study, both), num_resamples=10))
    assert found["as it is"][2] == 10


def test_networks_whose_augmentation_changes_both_classes_are_told_apart(
    section_study: Study, scores: pd.DataFrame
) -> None:
    paper = shortcut_section(with_scores(section_study, scores), num_resamples=10)
    config = Config(augmentation=AugmentationConfig(scheme="symmetric"))
    symmetric = shortcut_section(with_scores(section_study, scores, config=config), num_resamples=10)
    assert symmetric.body[0] == paper.body[0]
    assert isinstance(symmetric.body[1], Text)
    assert "net" in symmetric.body[1].text
    assert isinstance(paper.body[1], Table)


def test_networks_that_were_trained_without_darkening_are_told_apart(
    section_study: Study, scores: pd.DataFrame
) -> None:
    config = Config(augmentation=AugmentationConfig(intensities=(1.0,)))
    told = shortcut_section(with_scores(section_study, scores, config=config), num_resamples=10).body[1]
    assert isinstance(told, Text)
    assert told.text.startswith("net trained on undarkened patches alone")


def test_a_network_without_scores_is_named(section_study: Study) -> None:
    section = shortcut_section(section_study)
    assert [block.kind for block in section.body if isinstance(block, Text)] == ["", "missing"]
    assert not any(isinstance(block, Table) for block in section.body)


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
    missing = section.body[-1]
    assert isinstance(missing, Text)
    assert missing.kind == "missing"
    assert "net" in missing.text
