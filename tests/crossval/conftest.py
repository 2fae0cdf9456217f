"""A training that takes no time, for jobs of a cross-validation."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmgkeras.patches.split import fold_patches
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.metadata import ModelMetadata, patients_digest, read_metadata, write_metadata
from mmgkeras.schema import Pixels
from mmgkeras.study.run_files import Environment, EpochRow, RunCounts, write_environment, write_history


class MeanClassifier:
    """A model in numpy whose probability is the mean of the patch."""

    can_localise = True
    cell_centres_px = (1.5, 5.5)

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata = read_metadata(path)

    def classify(self, patches: Pixels) -> NDArray[np.float32]:
        return (patches.mean(axis=(1, 2, 3)) / 255).astype(np.float32)


def fake_point(classifier, store, *, data, indices, track):
    rows = store.patches.iloc[indices][["image_id", "patient_id", "row", "col"]]
    return rows.assign(peak_row=0.0, peak_col=0.0, is_hit=1, chance=0.5)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """`fit` of a job replaced by the writing of a model of no training; the list gets the folder and seed of each."""
    from mmgkeras.crossval import job as job_module
    from mmgkeras.training.fit import Fitted

    trainings: list[tuple[str, int]] = []

    def fake_fit(store, *, fold, config, run, export, devices, track, report):
        opened = PatchStore.open(store)
        division = fold_patches(opened, fold)
        tested = patients_digest(opened.patches["patient_id"].to_numpy()[division.test])
        run.mkdir(parents=True, exist_ok=True)
        environment = Environment(
            fold=fold,
            test_subset=division.test_subset,
            test_patients_sha256=tested,
            store_checksum=opened.checksum,
            training_patches_sha256="0" * 64,
            seed=config.train.seed,
            leak_guard=division.proof,
            counts=RunCounts(**dict.fromkeys(RunCounts.model_fields, 0)),
            export=Path("model/1"),
            is_finished=True,
        )
        write_environment(run, environment)
        rows = [EpochRow(1, 60, 0.1, 0.5, 0.5, 0.5, 0.5, 128.0), EpochRow(2, 120, 0.1, 0.5, 0.5, 0.5, 0.5, 64.0)]
        write_history(rows, run / "history.csv")
        (run / "checkpoint.npz").write_bytes(b"")
        (export / "1").mkdir(parents=True, exist_ok=True)
        (export / "1" / "saved_model.pb").write_bytes(b"the network")
        metadata = ModelMetadata(
            network="mean",
            patch_px=8,
            stride_px=8,
            pixel_type="uint8",
            spacing_mm=0.2,
            fold=fold,
            test_subset=division.test_subset,
            test_patients_sha256=tested,
            store_checksum=opened.checksum,
        )
        write_metadata(metadata, export / "1")
        trainings.append((str(run.parent), config.train.seed))
        return Fitted(export / "1", was_finished=False)

    monkeypatch.setattr(job_module, "fit", fake_fit)
    # The stores here do not fill the batches of the configurations.
    monkeypatch.setattr("mmgkeras.crossval.request.plan_training", lambda store, division, *, config: None)
    monkeypatch.setattr("keras.backend.clear_session", lambda: None)  # slow, and nothing is there to be cleared
    monkeypatch.setattr(job_module, "load", MeanClassifier)
    monkeypatch.setattr(job_module, "point", fake_point)
    monkeypatch.setattr("mmgkeras.training.devices.set_arithmetic", lambda config: None)
    return trainings
