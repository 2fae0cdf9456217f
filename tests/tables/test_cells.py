"""Text in CSV files that no spreadsheet takes for a formula, and that comes back as it was."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgkeras.schema import ImageRecord
from mmgkeras.tables import read_images, write_images
from mmgkeras.tables.cells import from_cell, from_cells, to_cell, to_cells, write_cells

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd|x", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-x", "=", "-"]


@pytest.mark.parametrize("text", FORMULAS[:-1])
def test_text_that_a_spreadsheet_would_run_is_written_as_text(text: str) -> None:
    assert to_cell(text) == f"'{text}"
    assert from_cell(f"'{text}") == text


@pytest.mark.parametrize("value", [-1.5, 3, None, "-1.5", "+3", "1e-5", "-3.5,2 4,1", "p1", "'quoted'", "", "a=b"])
def test_numbers_and_other_text_stay_as_they_are(value: object) -> None:
    assert to_cell(value) is value
    assert not isinstance(value, str) or from_cell(value) == value


@given(st.text(alphabet="'=+-@\ta1 ", max_size=6))
def test_every_text_comes_back(text: str) -> None:
    cell = to_cell(text)
    assert isinstance(cell, str)
    assert from_cell(cell) == text


def test_every_text_of_a_frame_comes_back() -> None:
    frame = pd.DataFrame({"image_id": pd.Series([*FORMULAS, "p1"], dtype="str"), "row": range(len(FORMULAS) + 1)})
    written = to_cells(frame)
    assert written["image_id"].tolist()[:3] == ["'=1+1", "'+cmd|' /C calc'!A0", "'-2+3+cmd|x"]
    pd.testing.assert_frame_equal(from_cells(written), frame)
    plain = pd.DataFrame({"image_id": ["p1"]})
    assert to_cells(plain) is plain


def test_ids_that_are_formulas_survive_a_table(tmp_path: Path) -> None:
    record = ImageRecord("=1+1", "-a b.png", "@p", "L", "CC", "none", vendor='=HYPERLINK("http://x")')
    write_images(tmp_path / "images.csv", [record])
    text = (tmp_path / "images.csv").read_text()
    assert "\n'=1+1,'-a b.png,'@p,L,CC,none" in text
    assert read_images(tmp_path / "images.csv") == [record]


@pytest.mark.parametrize("note", ["one\rtwo", "one\ntwo", 'a "b", c', "=1"])
def test_every_text_comes_back_from_a_table_of_text_and_numbers(tmp_path: Path, note: str) -> None:
    frame = pd.DataFrame({"note": [note, ""], "number": [1.5, np.nan]})
    write_cells(frame, tmp_path / "table.csv", columns=["number", "note"])
    found = from_cells(pd.read_csv(tmp_path / "table.csv", dtype={"note": str}, na_filter=False, keep_default_na=False))
    assert found["note"].tolist() == [note, ""]
    assert found["number"].astype(str).tolist() == ["1.5", ""]
