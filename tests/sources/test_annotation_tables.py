"""Tables of other people's data sets."""

from pathlib import Path

import pandas as pd
import pytest

from mmgkeras.errors import InputError
from mmgkeras.sources.annotation_tables import read_rows
from mmgkeras.sources.data_set import ImportReport


def read(path: Path, *columns: str, report: ImportReport | None = None) -> list[tuple[str, dict[str, str]]]:
    rows = read_rows(path, columns, report=report or ImportReport())
    return [(row.place.removeprefix(str(path)), dict(row.values)) for row in rows]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_any_delimiter_and_blanks_around_names_and_fields(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(f"\ufeff a {delimiter}b\r\n 1 {delimiter}x y\r\n".encode())
    assert read(path, "a") == [(":2", {"a": "1", "b": "x y"})]


def test_lines_count_newlines_within_quotes(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('a,b\n1,"x\n"\n,\n2,y\n')
    assert read(path, "b") == [(":2", {"a": "1", "b": "x"}), (":5", {"a": "2", "b": "y"})]


def test_latin_letters_are_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes("a\nMühle\n".encode("latin-1"))
    assert read(path, "a") == [(":2", {"a": "Mühle"})]


@pytest.mark.parametrize(
    ("begin", "line"), [("sep=;\r\n", ":3"), ("SEP=;;\r\n", ":3"), ("\r\n;\r\n", ":4"), ("\ufeffsep=\n\n", ":4")]
)
def test_header_stands_below_empty_lines_and_what_excel_is_told(tmp_path: Path, begin: str, line: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(f"{begin}a;b\r\n1;x\r\n".encode())
    assert read(path, "a") == [(line, {"a": "1", "b": "x"})]


def test_delimiter_is_the_one_that_gives_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('a;"where, how, and by whom"\n1;x\n')
    assert read(path, "a") == [(":2", {"a": "1", "where, how, and by whom": "x"})]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_text_of_excel_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "table.txt"
    mark = "" if encoding == "utf-16" else "\ufeff"
    path.write_bytes(f"{mark}a\tb\r\nMühle\tx\r\n".encode(encoding))
    assert read(path, "a") == [(":2", {"a": "Mühle", "b": "x"})]


def test_apostrophes_and_dashes_of_windows_are_no_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes("a\nit\u2019s \u2013 3 € Mühle\n".encode("cp1252"))
    assert read(path, "a") == [(":2", {"a": "it\u2019s \u2013 3 € Mühle"})]


@pytest.mark.parametrize("text", ["a\x81b", "a\x0cb", "a\x1cb"])
def test_character_that_ends_a_line_elsewhere_ends_no_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(f"a,b\n1,{text}\r\n2,x\r3,y".encode("latin-1"))
    assert read(path, "a") == [
        (":2", {"a": "1", "b": text}),
        (":3", {"a": "2", "b": "x"}),
        (":4", {"a": "3", "b": "y"}),
    ]


def test_which_of_two_columns_of_a_name_is_meant_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b,b,\n1,2,3,4\n")
    assert read(path, "a") == [(":2", {"a": "1"})]
    with pytest.raises(InputError, match=r"table\.csv: must have each column once\. Received: 'b' several times"):
        read(path, "b")


def test_which_of_two_columns_of_a_name_in_a_workbook_is_meant_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    pd.DataFrame([["a", "b", "b ", ""], [1, 2.5, "x", "y"]]).to_excel(path, index=False, header=False)
    (row,) = read_rows(path, ("a",), report=ImportReport())
    assert (row.place, row.values) == (f"{path}, row 2", {"a": "1"})
    with pytest.raises(InputError, match=r"table\.xlsx: must have each column once\. Received: 'b' several times"):
        read_rows(path, ("b",), report=ImportReport())
    with pytest.raises(InputError, match=r"sheet 0 must have a header and rows\. Received: 2 rows"):
        read_rows(path, ("a",), report=ImportReport(), header_row=3)


def test_workbook_with_macros_is_read(tmp_path: Path) -> None:
    pd.DataFrame([["a"], ["x"]]).to_excel(tmp_path / "table.xlsx", index=False, header=False)
    path = (tmp_path / "table.xlsx").rename(tmp_path / "table.xlsm")
    assert [row["a"] for row in read_rows(path, ("a",), report=ImportReport())] == ["x"]


def test_row_of_another_length_is_listed(tmp_path: Path) -> None:
    path, report = tmp_path / "table.csv", ImportReport()
    path.write_text("a,b\n1,2\n1\n")
    assert len(read(path, "a", report=report)) == 1
    assert report.skipped == [f"{path}:3: a row must have 2 fields, as the header has. Received: 1"]


def test_sheet_by_number_with_its_header_further_down(tmp_path: Path) -> None:
    path = tmp_path / "table.XLSX"
    pd.DataFrame([["title", ""], ["a", "b"], ["1", "2"]]).to_excel(
        tmp_path / "table.xlsx", index=False, header=False, engine="openpyxl"
    )
    (tmp_path / "table.xlsx").rename(path)
    rows = read_rows(path, ("a",), report=ImportReport(), header_row=2)
    assert [(row.place, row["b"]) for row in rows] == [(f"{path}, row 3", "2")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have a header and rows. Received: an empty file"),
        ("a,b\n1,2\n", "must have the columns c too. Received: 'a, b'"),
        ('c\n"1\n', ":2: is not CSV"),
    ],
)
def test_file_that_is_no_such_table_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / "table.csv", "c")
    assert len(str(caught.value).splitlines()) == 1


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"table\.csv: cannot be read"):
        read(tmp_path / "table.csv", "c")


def test_numbers_and_words_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1.5,yes\n")
    (row,) = read_rows(path, ("a", "b"), report=ImportReport())
    assert (row.number("a"), row.one_of("b", {"yes": True})) == (1.5, True)
    with pytest.raises(InputError, match=r"b must be a number\. Received: 'yes'"):
        row.number("b")
    with pytest.raises(InputError, match=r"a must be one of yes, no\. Received: '1\.5'"):
        row.one_of("a", {"yes": True, "no": False})
