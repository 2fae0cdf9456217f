import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mmgkeras.cli import main
from mmgkeras.cli.workers import ray_actors

from mmgkeras.inference.mark_files import Predictions
from mmgkeras.patches.store import PatchStore
from mmgkeras.ray_actors import LOCAL, RayActors

COMMANDS = (["prepare", "--data", "d", "--out", "o"], ["import", "dicom", "d", "--out", "o"], ["predict", "d"])


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Of the test alone, without Ray's variables."""
    monkeypatch.setattr(
        os, "environ", {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    )
    return monkeypatch


def test_a_ray_that_is_started_here_is_private(environment: pytest.MonkeyPatch) -> None:
    assert ray_actors(None) == RayActors(LOCAL)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    first = os.environ["RAY_AUTH_TOKEN"]
    ray_actors(None)
    assert len({first, os.environ["RAY_AUTH_TOKEN"]}) == 2


def test_a_cluster_is_taken_as_it_is(environment: pytest.MonkeyPatch) -> None:
    environment.setitem(os.environ, "RAY_ADDRESS", "head:1")
    assert ray_actors(None) == RayActors("head:1")
    assert ray_actors("other:1", can_use_gpus=True) == RayActors("other:1", can_use_gpus=True)
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_an_address_needs_the_engine(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "--ray-address", "head:1"])
    assert result.exit_code == 2
    assert "--ray-address needs --engine ray" in result.stderr


@pytest.mark.usefixtures("ray_cluster")
def test_prepare_runs_on_ray(quadrant_data: Path, tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    arguments = ["prepare", "--data", str(quadrant_data), "--set", "patches.patch_px=8", "--out"]
    for place, engine in ((tmp_path / "here", "processes"), (tmp_path / "ray", "ray")):
        result = CliRunner().invoke(main, [*arguments, str(place), "--engine", engine])
        assert result.exit_code == 0, result.output
    assert PatchStore.open(tmp_path / "ray").checksum == PatchStore.open(tmp_path / "here").checksum


def test_predict_runs_tensorflow_on_the_gpus_of_a_cluster(environment: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def predict(_: object, **options: Any) -> Predictions:
        asked.append(options)
        return Predictions(0.5)

    environment.setattr("mmgkeras.inference.predict.predict", predict)
    assert CliRunner().invoke(main, ["predict", "x.png", "--engine", "ray", "--ray-address", "head:1"]).exit_code == 0
    assert (asked[0]["engine"], asked[0]["workers"]) == ("tensorflow", RayActors("head:1", can_use_gpus=True))
