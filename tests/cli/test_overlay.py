import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from mmgkeras.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    return export_mean_model(tmp_path_factory.mktemp("models") / "1")


def test_pictures_are_written_and_their_places_printed(model: Path, quadrant_data: Path, tmp_path: Path) -> None:
    arguments = ["overlay", "--model", str(model), "--data", str(quadrant_data), "--out", str(tmp_path)]
    result = CliRunner().invoke(main, [*arguments, "--image-id", "b", "--image-id", "a", "--truth", "--stride", "4"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(tmp_path / "b.png"), str(tmp_path / "a.png")]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")) == [
        "a.png",
        "b.png",
        "previews/a.png",
        "previews/b.png",
    ]
    again = CliRunner().invoke(main, [*arguments, "--image-id", "a"])
    assert again.exit_code == 1
    assert again.stderr.startswith(f"error: {tmp_path / 'a.png'}: ")
    assert again.stderr.endswith("--overwrite\n")
    more = ["--image-id", "a", "--overwrite", "--activation"]
    assert CliRunner().invoke(main, [*arguments, *more]).exit_code == 0


def test_a_bad_image_is_listed_the_others_drawn_and_the_exit_code_is_1(
    model: Path, quadrant_data: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    (data / "c.png").write_bytes(b"")
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["overlay", "--model", str(model), "--data", str(data), "--out", str(out)])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [str(out / f"{image_id}.png") for image_id in "abd"]
    assert "error: image c skipped: " in result.stderr
