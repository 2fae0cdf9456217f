from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.images import read_single
from mmgkeras.images.single import side_and_view

from .dicom_files import file_of, mammogram


def breast(*, wall: str) -> np.ndarray:
    """(200, 120) a half disc whose straight edge is at the wall."""
    rows, cols = np.ogrid[:200, :120]
    is_breast = (rows - 100) ** 2 + cols**2 < 80**2
    pixels = np.where(is_breast, 120, 0).astype(np.uint8)
    return pixels if wall == "left" else pixels[:, ::-1]


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("p7_L_CC", ("L", "CC")),
        ("R_MLO", ("R", "MLO")),
        ("0012 RMLO (copy)", ("R", "MLO")),
        ("case-left-cc", ("L", "CC")),
        ("Right", ("R", "other")),
        ("mlo", (None, "MLO")),
        ("L_R", (None, "other")),
        ("lobe", (None, "other")),
        ("film12", (None, "other")),
    ],
)
def test_a_name_says_side_and_view(stem: str, expected: tuple[str | None, str]) -> None:
    assert side_and_view(stem) == expected


@pytest.mark.parametrize(
    ("name", "laterality", "expected"),
    [
        ("x.png", None, ("L", "the pixels", False)),
        ("x_R_CC.png", None, ("R", "the name", True)),
        ("x_R_CC.png", "L", ("L", "the option", False)),
    ],
)
def test_the_option_goes_before_the_name_and_that_before_the_pixels(
    tmp_path: Path, name: str, laterality: str | None, expected: tuple[str, str, bool]
) -> None:
    Image.fromarray(breast(wall="left")).save(tmp_path / name)
    single = read_single(tmp_path / name, laterality=laterality)  # type: ignore[arg-type]
    assert (single.mammogram.record.laterality, single.side_from, single.hangs_mirrored) == expected
    assert single.mammogram.record.chest_wall_side == "left"


def test_an_image_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64), 100, np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x.png: neither its name nor its pixels tell which breast"):
        read_single(tmp_path / "x.png")
    assert read_single(tmp_path / "x.png", laterality="R").mammogram.record.chest_wall_side == "right"


def test_a_dicom_header_goes_after_the_options_and_before_name_and_pixels(tmp_path: Path) -> None:
    path = tmp_path / "R_MLO.dcm"
    stored = breast(wall="left").astype(np.int64)
    attributes = {"ImageLaterality": "L", "ViewPosition": "CC", "ImagerPixelSpacing": [0.1, 0.1], "Laterality": "R"}
    path.write_bytes(file_of(mammogram(stored, bits=8, **attributes)))
    single = read_single(path)
    record = single.mammogram.record
    assert (record.laterality, record.view, record.spacing_mm, record.chest_wall) == ("L", "CC", 0.1, None)
    assert (single.side_from, len(single.notes)) == ("the header", 1)
    asked = read_single(path, laterality="R", view="ML", spacing_mm=0.2)
    record = asked.mammogram.record
    assert (record.laterality, record.view, record.spacing_mm, record.chest_wall) == ("R", "ML", 0.2, "left")
    assert asked.side_from == "the option"


def test_a_dicom_header_that_tells_nothing_leaves_the_name(tmp_path: Path) -> None:
    path = tmp_path / "R_MLO.dcm"
    path.write_bytes(file_of(mammogram(breast(wall="left").astype(np.int64), bits=8)))
    single = read_single(path)
    record = single.mammogram.record
    assert (record.laterality, record.view, record.spacing_mm, single.side_from) == ("R", "MLO", None, "the name")


def test_an_inverted_image_is_noticed(tmp_path: Path) -> None:
    pixels = breast(wall="left")
    for name, shown in (("plain.png", pixels), ("inverted.png", 255 - pixels)):
        Image.fromarray(shown).save(tmp_path / name)
    assert read_single(tmp_path / "plain.png", laterality="L").notes == ()
    (note,) = read_single(tmp_path / "inverted.png", laterality="L").notes
    assert "looks inverted" in note


@pytest.mark.parametrize(("largest", "is_told"), [(1023, True), (4095, True), (16383, True), (20000, False)])
def test_few_bits_in_a_deep_file_are_noticed(tmp_path: Path, largest: int, is_told: bool) -> None:
    pixels = breast(wall="left").astype(np.uint16)
    Image.fromarray((pixels * (largest / pixels.max())).round().astype(np.uint16)).save(tmp_path / "x.png")
    notes = read_single(tmp_path / "x.png", laterality="L").notes
    assert [f"its largest value is {largest} of 65535" in note for note in notes] == [True] * is_told


ROWS, COLS = np.ogrid[:200, :120]
DISC = np.where((ROWS - 100) ** 2 + (COLS - 60) ** 2 < 40**2, 120, 0)
"""Without a straight edge."""


@pytest.mark.parametrize(
    ("stored", "orientation", "wall", "note"),
    [
        (breast(wall="left"), ["A", "R"], "left", ""),
        (breast(wall="left"), ["P", "L"], "left", "the left edge by the pixels, right by Patient Orientation"),
        (DISC, ["P", "L"], "right", ""),
        (
            breast(wall="left"),
            ["R", "P"],
            "left",
            "lies on its side: by Patient Orientation the chest wall is at the bo",
        ),
    ],
)
def test_the_pixels_go_before_patient_orientation(
    tmp_path: Path, stored: np.ndarray, orientation: list[str], wall: str, note: str
) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(file_of(mammogram(stored, bits=8, ImageLaterality="L", PatientOrientation=orientation)))
    single = read_single(path)
    assert single.mammogram.record.chest_wall_side == wall
    assert len(single.notes) == bool(note)
    assert note in "".join(single.notes)
