"""A cross-validation made by version 0.1.0, before its readers were rewritten, is still read.

tests/data/crossval-0.1.0 is of a phantom of six patients, patches of 32 px and two folds. What no reader of tables
needs was taken out: the pixels of the store, which are black here, the models' variables and graphs, and checkpoints.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmgkeras.config import read_config
from mmgkeras.crossval.summary_table import measure_job
from mmgkeras.errors import InputError
from mmgkeras.patches.split import fold_patches
from mmgkeras.patches.store import PatchStore
from mmgkeras.report.report import write_report
from mmgkeras.savedmodel.metadata import METADATA_FILE, read_metadata
from mmgkeras.study.layout import (
    PREDICTIONS_CSV,
    RUN,
    Crossval,
    FoldJob,
    is_done,
    model_sha256,
    read_crossval,
    read_done,
)
from mmgkeras.study.read import read_study
from mmgkeras.study.run_files import CONFIG, HISTORY
from mmgkeras.tables import read_predictions

KEPT = Path(__file__).resolve().parents[1] / "data" / "crossval-0.1.0"
JOBS = [FoldJob("sakaida2023-resnet18", 0, fold) for fold in (1, 2)]
FILES = ("predictions.csv", "timing.csv", "shortcut.csv", "pointing.csv")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy with black pixels, beside which the paths in it are right; the folder of the cross-validation."""
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    np.save(tmp_path / "store" / "patches-00000.npy", np.zeros((675, 32, 32, 1), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "crossval"


def asked(out: Path) -> Crossval:
    crossval = read_crossval(out)
    assert crossval is not None
    return crossval


def test_its_store_is_opened_and_its_division_is_known(kept: Path) -> None:
    store = PatchStore.open(kept.parent / "store")
    assert store.checksum == asked(kept).store.checksum
    assert store.manifest.labels.cluster_fraction == 0.5
    assert (store.patch_px, store.spacing_mm, store.manifest.counts.positive) == (32, 0.8, 34)
    assert fold_patches(store, 1).proof.test_patients == 3
    with pytest.raises(InputError, match=r"patches-00000.npy: is not as it was written, its checksum differs"):
        PatchStore.open(store.path, verify=True)


def test_it_is_read_as_a_study(kept: Path) -> None:
    study = read_study(kept)
    first = study.networks[0].first
    assert len(first.predictions) == 675
    assert study.store is not None
    assert first.environments[2].counts.steps_per_epoch > 0
    assert list(first.histories[1]["step"]) == [69]
    assert first.timing is not None
    assert first.timing["read_s"].notna().all()
    assert study.networks[0].config.patches.cluster_fraction == 0.5


@pytest.mark.parametrize("job", JOBS)
def test_its_summary_is_come_to_again(kept: Path, job: FoldJob) -> None:
    folder, batch_size = job.folder(kept), asked(kept).config(job).train.batch_size
    row = measure_job(
        job,
        predictions=read_predictions(folder / PREDICTIONS_CSV),
        history=folder / RUN / HISTORY,
        batch_size=batch_size,
    )
    written = pd.read_csv(kept / "summary.csv").set_index("fold").loc[job.fold]
    assert row.tissue.auc == pytest.approx(written["tissue_auc"])
    assert row.all_patches.tp == written["all_tp"]
    assert row.training_minutes == pytest.approx(written["training_minutes"], abs=0.001)


@pytest.mark.parametrize("job", JOBS)
def test_its_jobs_count_as_done(kept: Path, job: FoldJob) -> None:
    crossval, done = asked(kept), read_done(kept, job)
    assert done is not None
    assert done.model_dump(include=set(crossval.identity(job))) == crossval.identity(job)
    with pytest.raises(InputError, match="is not the model that the fold was done with"):
        is_done(kept, job, crossval=crossval, files=FILES)  # for most of it is not there
    path = job.folder(kept) / "done.json"
    values = json.loads(path.read_text()) | {"model_sha256": model_sha256(job.model(kept))}
    path.write_text(json.dumps(values))
    assert is_done(kept, job, crossval=crossval, files=FILES)


@pytest.mark.parametrize("job", JOBS)
def test_its_models_and_runs_say_what_they_said(kept: Path, job: FoldJob) -> None:
    metadata = read_metadata(job.model(kept))
    assert (metadata.network, metadata.fold, metadata.threshold, metadata.started_from) == (
        "resnet18",
        job.fold,
        0.5,
        (),
    )
    assert metadata.store_checksum == asked(kept).store.checksum
    written = json.loads((job.model(kept) / METADATA_FILE).read_text())
    assert metadata.model_dump(mode="json", exclude_unset=True) == written
    assert read_config(job.folder(kept) / RUN / CONFIG) == asked(kept).config(job)


def test_a_report_is_made_of_it(kept: Path, tmp_path: Path) -> None:
    page = write_report(kept, out=tmp_path / "report", num_resamples=20)
    text = page.read_text(encoding="utf-8")
    assert "sakaida2023-resnet18" in text
    assert "675 patches of 32 x 32 pixels" in text
