from pathlib import Path

from mmgkeras.savedmodel.versions import next_version


def test_the_next_version_follows_the_highest(tmp_path: Path) -> None:
    assert next_version(tmp_path / "model") == 1
    for name in ("1", "10", "notes", ".11.partial"):
        (tmp_path / "model" / name).mkdir(parents=True)
    assert next_version(tmp_path / "model") == 11
