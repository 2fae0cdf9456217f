"""The same metrics without assumed negatives, and on another store."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mmgkeras.errors import InputError
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.outputs import Scored, ScoringModel, write_metrics
from mmgkeras.evaluation.summary import mean_of_models, without_assumed
from mmgkeras.patches.store import PatchStore
from mmgkeras.report.comparisons import assumed_section, external_section
from mmgkeras.report.content import Section, Table, Text
from mmgkeras.study.read import Study, read_study
from mmgkeras.tables import read_predictions, write_predictions

R18 = "sakaida2023-resnet18"


@pytest.fixture(scope="module")
def study(crossval_folder: Path) -> Study:
    return read_study(crossval_folder)


def table(section: Section, name: str) -> Table:
    return next(part for part in section.body if isinstance(part, Table) and part.name == name)


def text_of(section: Section, *, kind: str | None = None) -> str:
    """The paragraphs of a section, or those of one kind."""
    return "\n".join(part.text for part in section.body if isinstance(part, Text) and kind in (None, part.kind))


def test_assumed_negatives_are_those_of_images_not_annotated_completely(study: Study, report_store: PatchStore) -> None:
    images = report_store.images.copy()
    images.loc[0, "annotation"] = "partial"
    predictions = study.networks[0].first.predictions
    kept = without_assumed(predictions, images)
    gone = predictions.drop(kept.index)
    assert set(gone["image_id"]) == {images.loc[0, "image_id"]}
    assert set(gone["label"]) == {0}


def with_assumed(study: Study, store: PatchStore, *, partial: slice) -> Study:
    """The study as if some of its images had not been annotated completely, and their negatives assumed."""
    images = store.images.copy()
    images.loc[images.index[partial], "annotation"] = "partial"
    labels = store.manifest.labels.model_copy(update={"label_source": "assumed"})
    manifest = store.manifest.model_copy(update={"labels": labels})
    return replace(study, store=PatchStore(store.path, manifest, store.patches, images))


def test_metrics_without_assumed_negatives_are_given_where_any_were_assumed(
    study: Study, report_store: PatchStore
) -> None:
    section = assumed_section(with_assumed(study, report_store, partial=slice(0, 3)), num_resamples=100)
    assert section is not None
    kept = report_store.patches[~report_store.patches["image_id"].isin(report_store.images["image_id"][:3])]
    negatives = int((kept["label"] == 0).sum())
    assert f"and {negatives} without." in text_of(section)
    row = table(section, "without_assumed_all").rows[0]
    assert row[0] == R18
    assert isinstance(row[1], Interval)


def test_no_negative_left_is_said(study: Study, report_store: PatchStore) -> None:
    section = assumed_section(with_assumed(study, report_store, partial=slice(None)), num_resamples=100)
    assert section is not None
    assert "fold 1 has no negatives left" in text_of(section, kind="missing")
    assert not any(isinstance(part, Table) for part in section.body)


def external_folder(folder: Path, study: Study, *, folds: tuple[int, ...]) -> Path:
    """What evaluate writes of models of those folds, on the patients of fold 1."""
    base = study.networks[0].first.predictions.query("fold == 1")
    frames = [base.assign(fold=fold, probability=base["probability"] * (1 - 0.1 * fold)) for fold in folds]
    write_predictions(folder / "predictions.csv", pd.concat(frames))
    return folder


def test_an_external_set_has_a_row_for_each_model_and_their_mean(study: Study, tmp_path: Path) -> None:
    folder = external_folder(tmp_path / "elsewhere", study, folds=(1, 2))
    section = external_section(study, [folder], num_resamples=100)
    assert section is not None
    rows = table(section, "external1_tissue").rows
    assert [row[0] for row in rows] == ["model of fold 1", "model of fold 2", "mean of models"]
    assert "elsewhere: " in text_of(section)


def test_the_mean_of_models_has_each_patch_once(study: Study) -> None:
    base = study.networks[0].first.predictions.query("fold == 1")
    both = pd.concat([base.assign(probability=0.2), base.assign(fold=2, probability=0.6)])
    mean = mean_of_models(both)
    assert len(mean) == len(base)
    assert mean["probability"].to_numpy() == pytest.approx(0.4)


def test_an_external_set_of_unknown_patches_is_one_line(study: Study, tmp_path: Path) -> None:
    base = study.networks[0].first.predictions.head(3).assign(label=-1)
    write_predictions(tmp_path / "predictions.csv", base)
    with pytest.raises(InputError, match=r"predictions.csv: must hold a patch of known label. Received: 3 patches"):
        external_section(study, [tmp_path], num_resamples=100)


def test_an_external_set_is_of_models_of_the_study_where_its_folder_says_of_which(study: Study, tmp_path: Path) -> None:
    folder = external_folder(tmp_path / "elsewhere", study, folds=(1,))
    section = external_section(study, [folder], num_resamples=100)
    assert section is not None
    assert "No metrics.json says which models" in text_of(section, kind="missing")
    own = study.crossval.store.checksum
    predictions = read_predictions(folder / "predictions.csv")

    def scored_by(checksum: str, *, is_external: bool) -> None:
        model = ScoringModel(fold=1, network="resnet18", store_checksum=checksum)
        write_metrics(folder, predictions, scored=Scored(models=(model,), is_external=is_external), overwrite=True)

    scored_by(own, is_external=True)
    section = external_section(study, [folder], num_resamples=100)
    assert section is not None
    assert "Scored by resnet18." in text_of(section)
    scored_by("7" * 64, is_external=True)
    with pytest.raises(InputError, match=r"Received: resnet18 of fold 1, trained on another store$"):
        external_section(study, [folder], num_resamples=100)
    scored_by(own, is_external=False)
    with pytest.raises(InputError, match=r"another store. Received: the models' own test subsets$"):
        external_section(study, [folder], num_resamples=100)
