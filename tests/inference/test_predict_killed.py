"""A call of predict that was killed goes on, or begins anew where what it depends on has changed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.inference import marker
from mmgkeras.inference.detection import Detection, Prepared
from mmgkeras.inference.predict import predict
from mmgkeras.ray_actors import RayActors
from tests.processes import KilledActor


def made(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestKilled:
    @pytest.fixture
    def archive(self, films: Path) -> list[Path]:
        """Ten films and a damaged file."""
        whole = np.array(Image.open(films / "one" / "=film L_CC.png"))
        (films / "archive").mkdir()
        for number in range(10):
            Image.fromarray(np.roll(whole, number, axis=0)).save(films / "archive" / f"f{number}_L_CC.png")
        return [films / "archive", films / "broken.png"]

    def test_a_killed_call_goes_on_and_makes_the_same_bytes(
        self, model: Path, films: Path, archive: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options: dict[str, Any] = {"models": [model], "with_geojson": True, "with_json_lines": True}
        expected = predict(archive, out=films / "expected", **options)
        assert (len(expected.images), list(expected.skipped)) == (10, [films / "broken.png"])
        scored: list[str] = []
        score = marker.score

        def until(prepared: Prepared) -> Detection:
            if len(scored) == 5:
                raise KeyboardInterrupt
            scored.append(prepared.mammogram.record.image_id)
            return score(prepared)

        def counted(prepared: Prepared) -> Detection:
            scored.append(prepared.mammogram.record.image_id)
            return score(prepared)

        with monkeypatch.context() as patch:
            patch.setattr(marker, "score", until)
            with pytest.raises(KeyboardInterrupt):
                predict(archive, out=films / "out", **options)
            assert not [path for path in (films / "out").iterdir() if not path.name.startswith(".")]
        before = len(scored)
        with monkeypatch.context() as patch:
            patch.setattr(marker, "score", counted)
            assert predict(archive, out=films / "out", **options) == expected
        assert (before, len(scored), len(set(scored))) == (5, 10, 10)
        assert made(films / "out") == made(films / "expected")

    def test_another_threshold_or_model_begins_anew(
        self, model: Path, films: Path, archive: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("mmgkeras.inference.predict.write_marks", interrupt)
            with pytest.raises(KeyboardInterrupt):
                predict(archive, out=films / "out", models=[model])
        predict(archive, out=films / "out", models=[model], threshold=0.7)
        predict(archive, out=films / "expected", models=[model], threshold=0.7)
        assert made(films / "out") == made(films / "expected")

    def test_a_file_that_a_file_browser_put_beside_the_model_does_not_begin_anew(
        self, model: Path, films: Path, archive: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = Path(shutil.copytree(model, films / "mine" / "1"))
        with monkeypatch.context() as patch:
            patch.setattr("mmgkeras.inference.predict.write_marks", interrupt)
            with pytest.raises(KeyboardInterrupt):
                predict(archive, out=films / "out", models=[mine])
        (mine / "variables" / "._variables.index").touch()
        with monkeypatch.context() as patch:
            patch.delattr(marker, "score")  # which nothing needs
            assert len(predict(archive, out=films / "out", models=[mine]).images) == 10

    def test_a_finer_model_that_came_since_begins_anew(
        self,
        model: Path,
        films: Path,
        archive: list[Path],
        export_finer_model: Callable[[Path], Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        mine = Path(shutil.copytree(model, films / "mine" / "1"))
        with monkeypatch.context() as patch:
            patch.setattr("mmgkeras.inference.predict.write_marks", interrupt)
            with pytest.raises(KeyboardInterrupt):
                predict(archive, out=films / "out", models=[mine], spacing_mm=0.1)
        export_finer_model(mine)
        for out in ("out", "expected"):
            predict(archive, out=films / out, models=[mine], spacing_mm=0.1)
        assert made(films / "out") == made(films / "expected")

    def test_ray_makes_the_same_bytes_although_an_actor_is_killed(
        self, model: Path, films: Path, archive: list[Path], ray_cluster: None
    ) -> None:
        predict(archive, out=films / "expected", models=[model])
        killed = KilledActor(4)
        done = predict(archive, out=films / "out", models=[model], workers=RayActors(), track=killed)
        assert killed.killed
        assert list(done.skipped) == [films / "broken.png"]
        assert made(films / "out") == made(films / "expected")

    def test_a_model_that_cannot_be_used_is_the_fault_of_no_image(
        self, model: Path, films: Path, archive: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise InputError("the model is damaged")

        monkeypatch.setattr("mmgkeras.inference.marker.load_with_finer", fail)
        with pytest.raises(InputError, match="the model is damaged"):
            predict(archive, out=films / "out", models=[model])
        assert not (films / "out").exists()


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
