import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.evaluation.operating_point import OperatingPoint
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.metadata import METADATA_FILE, read_metadata
from mmgkeras.savedmodel.model_card import MODEL_CARD
from mmgkeras.savedmodel.versions import add_version, next_version

POINT = OperatingPoint(0.3, "sensitivity", 0.9, "patients held out")


@pytest.fixture
def model(tmp_path: Path, model_path: Path) -> Path:
    return Path(shutil.copytree(model_path, tmp_path / "mean" / "1"))


def test_the_next_version_follows_the_highest(tmp_path: Path) -> None:
    assert next_version(tmp_path / "model") == 1
    for name in ("1", "10", "notes", ".11.partial"):
        (tmp_path / "model" / name).mkdir(parents=True)
    assert next_version(tmp_path / "model") == 11


def test_a_new_version_carries_the_point_and_gives_the_same_scores(model: Path) -> None:
    (model.with_name("7")).mkdir()
    new = add_version(model, POINT)
    assert new == model.with_name("8")
    assert sorted(path.name for path in model.parent.iterdir()) == ["1", "7", "8"]
    assert read_metadata(new).operating_point == POINT
    assert read_metadata(new).threshold == 0.3
    assert "from a probability of 0.3, for sensitivity of 0.9" in (new / MODEL_CARD).read_text()
    assert read_metadata(model).operating_point is None
    assert read_metadata(model).threshold == 0.5
    patches = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    np.testing.assert_array_equal(load(new).classify(patches), load(model).classify(patches))
    later = OperatingPoint(0.2, "given", None, "nothing")
    assert read_metadata(add_version(new, later)).operating_point == later


def test_a_folder_that_is_no_version_is_refused(model: Path) -> None:
    named = model.rename(model.with_name("best"))
    with pytest.raises(InputError, match=r"must be a version's folder, saved_models/NAME/1. Received: 'best' as last"):
        add_version(named, POINT)


def test_nothing_is_left_half_written(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmgkeras.savedmodel.versions.write_metadata", fail)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        add_version(model, POINT)
    assert [path.name for path in model.parent.iterdir()] == ["1"]


def test_metadata_of_older_models_have_no_operating_point(model: Path) -> None:
    path = model / METADATA_FILE
    values = json.loads(path.read_text())
    del values["operating_point"]
    path.write_text(json.dumps(values))
    assert read_metadata(model).operating_point is None


@pytest.mark.parametrize(
    "value",
    [
        0.3,
        {"threshold": 0.3},
        {"threshold": 0, "kind": "given", "target": None, "fitted_on": ""},
        {"threshold": "0.3", "kind": "given", "target": None, "fitted_on": ""},
        {"threshold": 0.3, "kind": "youden", "target": None, "fitted_on": ""},
    ],
)
def test_a_damaged_operating_point_is_refused(model: Path, value: object) -> None:
    path = model / METADATA_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"operating_point": value}))
    with pytest.raises(InputError, match=r"mmgkeras.json: operating_point: must hold threshold above 0 and at most 1"):
        read_metadata(model)
