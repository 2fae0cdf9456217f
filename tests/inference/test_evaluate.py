import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.evaluation.outputs import recompute_metrics
from mmgkeras.inference.evaluate import evaluate
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.metadata import patients_digest

ExportModel = Callable[..., Path]


@pytest.fixture
def models(tmp_path: Path, quadrant_store: Path, export_mean_model: ExportModel) -> list[Path]:
    """One of each fold, trained on the store."""
    checksum = PatchStore.open(quadrant_store).checksum
    second = {"fold": 2, "test_subset": "B", "test_patients_sha256": patients_digest(["p3", "p4"])}
    return [
        export_mean_model(tmp_path / "one" / "1", changes={"store_checksum": checksum}),
        export_mean_model(tmp_path / "two" / "1", changes={"store_checksum": checksum, **second}),
    ]


def test_folds_are_scored_on_their_own_subsets_then_averaged_and_pooled(
    tmp_path: Path, quadrant_store: Path, models: list[Path]
) -> None:
    evaluation = evaluate(models, store=quadrant_store, out=tmp_path / "out")
    assert evaluation.notes == []
    everything = evaluation.summary.all_patches
    # Fold 1, grays 200 and 110 against 50 100 20 220 60 30: 5 + 5 of 12 pairs. Fold 2, 250: 7 of 7.
    assert everything.folds[1].auc == pytest.approx(10 / 12)
    assert everything.folds[2].auc == 1
    assert everything.mean["auc"] == pytest.approx((10 / 12 + 1) / 2)
    # Pooled, against 13 negatives: 200 loses to 220, 110 loses to 220, 120 and 160, 250 to none.
    assert everything.pooled is not None
    assert everything.pooled.auc == pytest.approx((12 + 10 + 13) / 39)
    assert (everything.counts.num_positives, everything.counts.num_negatives) == (3, 13)
    # At 0.5: 200 and 250 found, 110 missed; 220 and 160 called wrongly.
    assert (everything.pooled.tp, everything.pooled.fn, everything.pooled.fp) == (2, 1, 2)
    timing = evaluation.summary.timing
    assert timing is not None
    assert timing.num_images == 4
    mammograms = pd.read_csv(tmp_path / "out" / "mammograms.csv")
    assert mammograms["accuracy"].tolist() == [1, 0.5, 1, 0.75]
    assert (mammograms["seconds"] > 0).all()


def test_an_output_among_the_files_of_another_store_or_model_is_refused(
    tmp_path: Path, quadrant_store: Path, models: list[Path]
) -> None:
    for source, what in ((quadrant_store, "a patch store"), (models[1], "a SavedModel")):
        other = shutil.copytree(source, tmp_path / "other" / source.name)
        with pytest.raises(InputError, match=f"{other}: is {what}, and nothing else goes there; name another place"):
            evaluate(models[:1], store=quadrant_store, out=other)


def test_the_metrics_can_be_taken_again_from_the_predictions_alone(
    tmp_path: Path, quadrant_store: Path, models: list[Path]
) -> None:
    evaluation = evaluate(models[:1], store=quadrant_store, out=tmp_path / "out")
    again = recompute_metrics([tmp_path / "out" / "predictions.csv"], out=tmp_path / "again")
    assert again.tissue == evaluation.summary.tissue
    assert again.all_patches == evaluation.summary.all_patches
    values = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert values["all"]["untrained"]["mean"] == pytest.approx(10 / 12)


def test_an_external_store_is_scored_as_a_whole_and_that_is_said(
    tmp_path: Path, quadrant_store: Path, export_mean_model: ExportModel
) -> None:
    model = export_mean_model(tmp_path / "one" / "1", changes={"test_patients_sha256": patients_digest(["q1"])})
    evaluation = evaluate([model], store=quadrant_store, out=tmp_path / "out")
    assert len(evaluation.notes) == 1
    assert "all its patches are scored; make sure" in evaluation.notes[0]
    assert evaluation.is_external
    assert evaluation.summary.all_patches.counts.num_images == 4
    values = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert values["is_external"]
    assert values["models"] == [{"fold": 1, "network": "mean", "store_checksum": "0" * 64}]


def test_of_a_store_that_was_prepared_anew_the_test_subset_alone_is_scored(
    tmp_path: Path, quadrant_store: Path, export_mean_model: ExportModel
) -> None:
    model = export_mean_model(tmp_path / "one" / "1", changes={"store_checksum": "7" * 64})
    evaluation = evaluate([model], store=quadrant_store, out=tmp_path / "out")
    assert ["divided alike, and the model's test subset alone" in note for note in evaluation.notes] == [True]
    assert not evaluation.is_external
    assert set(pd.read_csv(tmp_path / "out" / "predictions.csv")["patient_id"]) == {"p1", "p2"}


@pytest.mark.parametrize(("spacing_mm", "num_notes"), [(0.16, 2), (0.17, 1), (0.25, 1), (0.26, 2), (None, 1)])
def test_a_pixel_size_over_20_percent_apart_is_said(
    tmp_path: Path,
    quadrant_store: Path,
    export_mean_model: ExportModel,
    spacing_mm: float | None,
    num_notes: int,
) -> None:
    model = export_mean_model(tmp_path / "one" / "1", changes={"spacing_mm": spacing_mm})
    notes = evaluate([model], store=quadrant_store, out=tmp_path / "out").notes
    assert len(notes) == num_notes
    assert num_notes == 1 or "over 20% apart" in notes[1]


@pytest.fixture
def twin_store(tmp_path: Path, quadrant_data: Path) -> Path:
    """The same images with a dark top left quadrant and no regions."""
    data = shutil.copytree(quadrant_data, tmp_path / "twin-data")
    (data / "regions.csv").unlink()
    for path in data.glob("*.png"):
        pixels = np.array(Image.open(path))
        pixels[:8, :8] = 150
        Image.fromarray(pixels).save(path)
    prepare(data, tmp_path / "twins", PatchesConfig(patch_px=8))
    return tmp_path / "twins"


def test_positives_are_held_against_their_twins(
    tmp_path: Path, quadrant_store: Path, twin_store: Path, models: list[Path]
) -> None:
    out = tmp_path / "out"
    twins = evaluate(models, store=quadrant_store, out=out, twins=twin_store).summary.twins
    assert twins is not None
    # Fold 1: 200 over both twins of 150, 110 under both. Fold 2: 250 over 150.
    assert twins.auc == pytest.approx((0.5 + 1) / 2)
    assert twins.num_pairs == 3
    again = recompute_metrics([out / "predictions.csv"], twins=out / "twins.csv", out=tmp_path / "again")
    assert again.twins == twins
    assert json.loads((out / "metrics.json").read_text())["twins"]["auc"] == twins.auc


def test_a_store_with_calcification_is_no_twin(tmp_path: Path, quadrant_store: Path, models: list[Path]) -> None:
    with pytest.raises(InputError, match="is positive in the twin store too"):
        evaluate(models[:1], store=quadrant_store, out=tmp_path / "out", twins=quadrant_store)


def test_two_models_of_one_fold_are_refused_before_any_is_scored(
    tmp_path: Path, quadrant_store: Path, models: list[Path]
) -> None:
    copy = shutil.copytree(models[0], tmp_path / "copy" / "1")
    with pytest.raises(InputError, match=r"copy/1: is of fold 1, as is .*one/1; give one model for each fold"):
        evaluate([models[0], copy], store=quadrant_store, out=tmp_path / "out", track=track_of_none)


def test_a_store_without_the_twins_of_a_later_fold_is_refused_before_any_is_scored(
    tmp_path: Path, quadrant_store: Path, twin_store: Path, models: list[Path]
) -> None:
    data = shutil.copytree(tmp_path / "twin-data", tmp_path / "half")
    lines = (data / "images.csv").read_text().splitlines(keepends=True)
    (data / "images.csv").write_text("".join(line for line in lines if ",p3," not in line))
    prepare(data, tmp_path / "half-store", PatchesConfig(patch_px=8))
    with pytest.raises(InputError, match="half-store: has no twin of the patch"):
        evaluate(models, store=quadrant_store, out=tmp_path / "out", twins=tmp_path / "half-store", track=track_of_none)


def track_of_none(items: Iterable[object], label: str) -> Iterator[object]:
    raise AssertionError(label)


def test_a_fold_without_positives_has_no_twins(
    tmp_path: Path, quadrant_data: Path, quadrant_store: Path, export_mean_model: ExportModel
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    (data / "regions.csv").unlink()
    prepare(data, tmp_path / "negative", PatchesConfig(patch_px=8))
    model = export_mean_model(tmp_path / "one" / "1", changes={"test_patients_sha256": patients_digest(["q1"])})
    evaluation = evaluate([model], store=tmp_path / "negative", out=tmp_path / "out", twins=quadrant_store)
    assert evaluation.summary.twins is None
    assert evaluation.notes[-1] == "no patch that was scored is positive, so that none is held against its twin"


def test_patches_of_unknown_label_are_counted_once_whatever_the_number_of_models(
    tmp_path: Path, quadrant_data: Path, export_mean_model: ExportModel
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    text = (data / "images.csv").read_text()
    (data / "images.csv").write_text(text.replace("complete", "partial", 1))
    prepare(data, tmp_path / "partial", PatchesConfig(patch_px=8))
    unknown = PatchStore.open(tmp_path / "partial").manifest.counts.unknown
    models = [
        export_mean_model(
            tmp_path / name / "1", changes={"fold": fold, "test_patients_sha256": patients_digest([name])}
        )
        for fold, name in enumerate(("one", "two"), start=1)
    ]
    notes = evaluate(models, store=tmp_path / "partial", out=tmp_path / "out").notes
    assert unknown > 0
    assert notes[-1] == f"patches of unknown label, not scored and not in predictions.csv: {unknown}"


def test_an_existing_table_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("mine")
    with pytest.raises(InputError, match=r"metrics.json: already exists"):
        evaluate([tmp_path / "no model"], store=tmp_path / "no store", out=tmp_path)


def test_unknown_patches_are_left_out_and_counted(
    tmp_path: Path, quadrant_data: Path, export_mean_model: ExportModel
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    text = (data / "images.csv").read_text()
    (data / "images.csv").write_text(text.replace("a.png,p1,L,CC,complete", "a.png,p1,L,CC,partial"))
    prepare(data, tmp_path / "store", PatchesConfig(patch_px=8))
    evaluation = evaluate([export_mean_model(tmp_path / "one" / "1")], store=tmp_path / "store", out=tmp_path / "out")
    assert evaluation.notes[-1] == "patches of unknown label, not scored and not in predictions.csv: 3"
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 13
