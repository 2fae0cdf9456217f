from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.images import find_inputs
from mmgkeras.schema import ImageRecord
from mmgkeras.tables import write_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of them deeper, a text, and what a file browser hides."""
    (tmp_path / "films" / "deep").mkdir(parents=True)
    for name in ("b_L_CC.png", "deep/a_R_CC.png", ".hidden.png"):
        Image.fromarray(np.full((9, 9), 50, np.uint8)).save(tmp_path / "films" / name)
    (tmp_path / "films" / "notes.txt").write_text("no image")
    return tmp_path / "films"


def test_a_folder_stands_for_its_images_and_says_what_it_passes_over(folder: Path) -> None:
    inputs, notes = find_inputs([folder / "b_L_CC.png", folder])
    assert [one.path for one in inputs] == [folder / "b_L_CC.png", folder / "deep" / "a_R_CC.png"]
    assert notes == [f"{folder}: passed over 1 of 3 files, no image or a result of this command"]


def test_links_that_are_not_followed_are_counted(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "deep")
    inputs, notes = find_inputs([folder])
    assert (len(inputs), notes[-1]) == (2, f"{folder}: links to folders and broken links, which are not followed: 1")
    (folder / "empty").mkdir()
    (folder / "empty" / "link").symlink_to(folder / "deep")
    with pytest.raises(
        InputError, match=r"empty: holds no image file, and no images\.csv\n.*which are not followed: 1"
    ):
        find_inputs([folder / "empty"])


def test_results_in_a_folder_are_no_inputs(folder: Path) -> None:
    inputs, _ = find_inputs([folder], is_result=lambda path: path.parent.name == "deep")
    assert [one.path for one in inputs] == [folder / "b_L_CC.png"]


def test_a_table_says_side_chest_wall_and_pixel_size(folder: Path) -> None:
    record = ImageRecord("x", "b_L_CC.png", "p", "R", "CC", "none", chest_wall="left", spacing_mm=0.1)
    write_images(folder / "images.csv", [record])
    for path in (folder, folder / "images.csv"):
        (one,) = find_inputs([path])[0]
        single = one.read(laterality=None, spacing_mm=None)
        seen = single.mammogram.record
        assert (seen.laterality, seen.chest_wall_side, seen.spacing_mm) == ("R", "left", 0.1)
        assert (single.side_from, single.hangs_mirrored) == ("the table", True)
    asked = one.read(laterality="L", spacing_mm=0.2)
    assert (asked.mammogram.record.laterality, asked.mammogram.record.spacing_mm) == ("L", 0.2)
    assert (asked.side_from, asked.hangs_mirrored) == ("the option", False)


def test_gray_values_of_a_table_are_doubted_as_those_of_a_file(folder: Path) -> None:
    write_images(folder / "images.csv", [ImageRecord("x", "b_L_CC.png", "p", "R", "CC", "none")])
    for one in find_inputs([folder / "images.csv", folder / "deep" / "a_R_CC.png"])[0]:
        inverted, narrow = one.read(laterality=None, spacing_mm=None).notes
        assert "looks inverted" in inverted
        assert "its largest value is 50 of 255" in narrow


def test_a_folder_without_images_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{tmp_path}: holds no image file, and no images.csv$"):
        find_inputs([tmp_path])
