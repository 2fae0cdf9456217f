from pathlib import Path

from mmgkeras.study.layout import model_sha256, read_crossval


def test_the_digest_of_a_model_is_of_all_its_files_but_the_card_and_those_of_a_file_browser(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "variables.index").write_text("weights")
    before = model_sha256(tmp_path)
    for name in ("MODEL_CARD.md", ".DS_Store", "variables/._variables.index"):
        (tmp_path / name).write_text("not of the model")
    assert model_sha256(tmp_path) == before
    (tmp_path / "variables" / "variables.data").write_text("more weights")
    assert model_sha256(tmp_path) != before


def test_a_folder_that_a_file_browser_alone_wrote_to_is_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    assert read_crossval(tmp_path) is None
