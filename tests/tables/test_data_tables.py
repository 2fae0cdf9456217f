"""The CSV tables: what they hold comes back equal, and every fault is named with its file, line and rule."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.tables import (
    IMAGE_COLUMNS,
    look_alikes,
    read_folds,
    read_images,
    read_labels,
    read_regions,
    write_folds,
    write_images,
    write_labels,
    write_regions,
)

IMAGES_HEADER = "image_id,path,patient_id,laterality,view,annotation\n"
REGIONS_HEADER = "image_id,region_id,kind,shape,points\n"
LABELS_HEADER = "image_id,row,col,label\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode())
    return path


class TestImages:
    def test_round_trip_keeps_every_field(self, tmp_path: Path) -> None:
        records = [
            ImageRecord(
                "001", "a,b/1.png", "007", "R", "MLO", "complete", "left", 0.05, "C", "4a", 61.5, "MAL", "X\nY"
            ),
            ImageRecord("b", "b.png", "7", "L", "CC", "none", vendor="X\rY"),
            ImageRecord("NA", 'say "x".png', "nan", "L", "other", "none"),
        ]
        write_images(tmp_path / "images.csv", records)
        assert read_images(tmp_path / "images.csv") == records

    def test_byte_order_mark_blank_lines_and_carriage_returns_are_tolerated(self, tmp_path: Path) -> None:
        path = written(tmp_path, "\ufeff" + IMAGES_HEADER.replace("\n", "\r\n") + "\r\n001,1.png,7,L,CC,partial\r\n")
        assert read_images(path) == [ImageRecord("001", "1.png", "7", "L", "CC", "partial")]

    def test_columns_of_the_user_are_kept_and_come_back(self, tmp_path: Path) -> None:
        path = written(tmp_path, f"{IMAGES_HEADER.strip()},stage,Site\na,1,p,L,CC,none,,1+1\nb,2,p,R,CC,none,x,\n")
        first, second = read_images(path)
        assert (first.own, second.own) == ((("stage", ""), ("Site", "1+1")), (("stage", "x"), ("Site", "")))
        write_images(tmp_path / "images.csv", [first, second])
        assert read_images(tmp_path / "images.csv") == [first, second]

    def test_records_with_and_without_a_column_share_a_table(self, tmp_path: Path) -> None:
        records = [
            ImageRecord("a", "f", "p", "R", "CC", "none", own=(("x", "1"),)),
            ImageRecord("b", "f", "p", "R", "CC", "none"),
        ]
        write_images(tmp_path / "images.csv", records)
        assert [record.own for record in read_images(tmp_path / "images.csv")] == [(("x", "1"),), (("x", ""),)]

    def test_rows_and_columns_that_are_wholly_empty_are_passed_over(self, tmp_path: Path) -> None:
        header, row = IMAGES_HEADER.strip().replace("view", ",view,chestwall"), "a,1.png,7,L, ,CC,,partial"
        path = written(tmp_path, f",,,\n{header},,\n , ,,\n{row},,\n{row.replace('a,1', 'b,1')},,,,\n,,,,,,,,,\n")
        expected = [ImageRecord(name, "1.png", "7", "L", "CC", "partial") for name in "ab"]
        assert read_images(path) == expected

    @pytest.mark.parametrize(
        ("text", "received"),
        [
            (IMAGES_HEADER.replace(",", ";"), "1: fields must be separated by commas. Received: semicolons"),
            (IMAGES_HEADER.replace(",", "\t"), "1: fields must be separated by commas. Received: tabs"),
            ("\n" + IMAGES_HEADER.replace(",", "|"), "2: fields must be separated by commas. Received: vertical bars"),
            (
                "sep=;\n" + IMAGES_HEADER.replace(",", ";"),
                "1: fields must be separated by commas. Received: semicolons",
            ),
            ("SEP=^\n" + IMAGES_HEADER, "1: fields must be separated by commas. Received: '^'"),
        ],
    )
    def test_another_delimiter_is_one_line_that_names_it(self, tmp_path: Path, text: str, received: str) -> None:
        path = written(tmp_path, "\ufeff" + text)
        with pytest.raises(InputError) as caught:
            read_images(path)
        assert str(caught.value) == f"{path}:{received}"

    def test_a_first_line_for_excel_that_names_the_comma_is_passed_over(self, tmp_path: Path) -> None:
        path = written(tmp_path, f"sep=,\r\n{IMAGES_HEADER}001,1.png,7,L,X,partial\n")
        with pytest.raises(InputFaultsError, match=r"table\.csv:3: view must be one of"):
            read_images(path)

    def test_columns_may_come_in_any_order(self, tmp_path: Path) -> None:
        path = written(
            tmp_path, "view,annotation,laterality,spacing_mm,patient_id,path,image_id\nCC,none,R,0.1,p,f,i\n"
        )
        assert read_images(path) == [ImageRecord("i", "f", "p", "R", "CC", "none", spacing_mm=0.1)]

    def test_every_fault_is_listed_with_its_line_after_quoted_newlines(self, tmp_path: Path) -> None:
        path = written(
            tmp_path,
            "image_id,path,patient_id,laterality,view,annotation,chest_wall,spacing_mm,pathology\n"
            'a,1.png,p,L,CC,complete,,0.05,"two\nlines"\n'
            "\n"
            "a,2.png,p,X,CC,complete,top,-1,\n"
            "b,,p ,L,cc,full,,nan,\n",
        )
        with pytest.raises(InputFaultsError) as caught:
            read_images(path)
        assert list(caught.value.faults) == [
            f"{path}:5: laterality must be one of L, R. Received: 'X'",
            f"{path}:5: chest_wall must be one of left, right. Received: 'top'",
            f"{path}:5: spacing_mm must be a number above 0 and at most 100, or empty. Received: '-1'",
            f"{path}:5: image_id must be unique; line 2 has it too. Received: 'a'",
            f"{path}:6: path must not be empty. Received: ''",
            f"{path}:6: patient_id must not begin or end with a blank. Received: 'p '",
            f"{path}:6: view must be one of CC, MLO, ML, LM, LMO, XCCL, XCCM, other. Received: 'cc'",
            f"{path}:6: annotation must be one of complete, partial, none. Received: 'full'",
            f"{path}:6: spacing_mm must be a number above 0 and at most 100, or empty. Received: 'nan'",
        ]

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            (IMAGES_HEADER.replace(",view", ""), "table.csv:1: column view is missing. Received: image_id, path"),
            (
                IMAGES_HEADER.strip() + ",chestwall\na,f,p,L,CC,none,left\n",
                "1: no such column; did you mean chest_wall.. Received: 'chestw",
            ),
            (
                IMAGES_HEADER.strip() + ", Spacing\na,f,p,L,CC,none,1\n",
                "did you mean spacing_mm.. Received: ' Spacing'",
            ),
            (
                IMAGES_HEADER.strip() + ",label\na,f,p,L,CC,none,1\n",
                "must not be named as one of predictions.csv; rename",
            ),
            (
                IMAGES_HEADER.strip() + ",untrained_x\na,f,p,L,CC,none,1\n",
                "must not be named as one of predictions.csv",
            ),
            (IMAGES_HEADER.strip() + ",site \na,f,p,L,CC,none,1\n", "1: a column's name must have no blanks around it"),
            (
                IMAGES_HEADER.strip() + ",\na,f,p,L,CC,none,\nb,f,p,L,CC,none,x\n",
                "table.csv:3: column 7 has no name. Received: 'x'",
            ),
            (IMAGES_HEADER.strip() + ",view\n", "a column must appear once. Received: 'view' 2 times"),
            (IMAGES_HEADER + "a,b\n", "table.csv:2: a row must have 6 fields, as the header has. Received: 2"),
            (IMAGES_HEADER, "table.csv:2: at least one image must be listed. Received: the header alone"),
        ],
    )
    def test_faults_of_the_whole_table_are_named(self, tmp_path: Path, text: str, fault: str) -> None:
        with pytest.raises(InputFaultsError, match=fault):
            read_images(written(tmp_path, text))

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            (
                IMAGES_HEADER.strip() + "," + ",".join(map(str, range(995))) + "\n",
                r"table.csv:1: must have at most 1,000 columns\. Received: 1,001",
            ),
            ("", "table.csv:1: the header must hold image_id, .* Received: an empty file"),
            (IMAGES_HEADER + 'a,"b,p,L,CC,none\n', "table.csv:2: is not CSV. Received: unexpected end of data"),
        ],
    )
    def test_text_that_is_no_table_is_named(self, tmp_path: Path, text: str, fault: str) -> None:
        with pytest.raises(InputError, match=fault):
            read_images(written(tmp_path, text))

    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"images\.csv: cannot be read: No such file"):
            read_images(tmp_path / "images.csv")

    def test_other_encodings_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "images.csv"
        path.write_bytes(IMAGES_HEADER.encode("utf-16"))
        with pytest.raises(InputError, match=r"images\.csv: must be UTF-8 text\. Received: 'utf-8' codec"):
            read_images(path)

    def test_existing_file_is_kept_unless_overwriting(self, tmp_path: Path) -> None:
        path = written(tmp_path, "before")
        record = ImageRecord("a", "f", "p", "R", "CC", "none")
        with pytest.raises(InputError, match="already exists"):
            write_images(path, [record])
        write_images(path, [record], overwrite=True)
        assert read_images(path) == [record]

    def test_a_path_that_is_no_utf8_is_one_line(self, tmp_path: Path) -> None:
        record = ImageRecord("a", os.fsdecode(b"M\xfc.png"), "p", "R", "CC", "none")
        with pytest.raises(InputError, match=r"csv: cannot be written: text must be UTF-8\. Received: 'M\\udcfc\.png'"):
            write_images(tmp_path / "images.csv", [record])
        assert list(tmp_path.iterdir()) == []

    def test_columns_are_those_of_the_record(self) -> None:
        assert IMAGE_COLUMNS[:6] == ("image_id", "path", "patient_id", "laterality", "view", "annotation")
        assert IMAGE_COLUMNS[6:8] == ("chest_wall", "spacing_mm")


@pytest.mark.parametrize("text", ["1_0", "\uff11", " 1", "+1", "1.0", "inf", "nan", "1e2", "", "9" * 5000, "-"])
def test_a_whole_number_is_ascii_digits(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, LABELS_HEADER + f"a,0,0,1\nb,{text},0,1\n")
    with pytest.raises(InputFaultsError, match=r"^\S+:3: row must be a whole number. Received: ") as caught:
        read_labels(path)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["1_0", "\uff11", "inf", "1e400", "nan", "0x1", "9" * 5000])
def test_a_pixel_size_is_an_ascii_and_finite_number(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, IMAGES_HEADER.strip() + f",spacing_mm\ni,f,p,R,CC,none,{text}\n")
    with pytest.raises(InputFaultsError, match=r"spacing_mm must be a number above 0 and at most 100, or empty"):
        read_images(path)


@pytest.mark.parametrize("text", ["a\0", "a\x1b[2J", "a\x7fb"])
def test_control_characters_are_refused_in_names(tmp_path: Path, text: str) -> None:
    for header, row, read in (
        (IMAGES_HEADER, f"{text},f,p,R,CC,none\n", read_images),
        (LABELS_HEADER, f"{text},0,0,1\n", read_labels),
        ("patient_id,subset\n", f"{text},A\n", read_folds),
    ):
        with pytest.raises(InputFaultsError, match=r"must hold no control character\. Received: '") as caught:
            read(written(tmp_path, header + row))
        assert str(caught.value).isprintable()


class TestRegions:
    @given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.integers(0, 10**9)), min_size=3, max_size=5))
    def test_round_trip_keeps_every_number(
        self, tmp_path_factory: pytest.TempPathFactory, points: list[tuple[float, float]]
    ) -> None:
        path = tmp_path_factory.mktemp("regions") / "regions.csv"
        regions = [Region("001", "1", "cluster", "polygon", tuple(points))]
        write_regions(path, regions)
        assert read_regions(path) == regions

    def test_whole_numbers_and_numpy_numbers_are_written_plainly(self, tmp_path: Path) -> None:
        point = (np.float64(10.0), np.float32(20.5))
        write_regions(tmp_path / "r.csv", [Region("i", "1", "calcification", "point", (point,))])
        assert (tmp_path / "r.csv").read_text() == REGIONS_HEADER + 'i,1,calcification,point,"10,20.5"\n'

    def test_masks_longer_than_the_csv_default_are_read(self, tmp_path: Path) -> None:
        region = Region("i", "1", "cluster", "mask", ((0, 0), (3000, 3000), *((k * 10, 5) for k in range(30000))))
        write_regions(tmp_path / "r.csv", [region])
        assert read_regions(tmp_path / "r.csv") == [region]

    def test_no_region_at_all_is_allowed(self, tmp_path: Path) -> None:
        assert read_regions(written(tmp_path, REGIONS_HEADER)) == []

    def test_every_fault_is_listed(self, tmp_path: Path) -> None:
        path = written(
            tmp_path,
            REGIONS_HEADER + 'i,1,cluster,box,"0,0 9,9"\n'
            'j,1,cluster,box,"0,0 9,9"\n'
            'i,1,mass,disc,"0,0 9"\n'
            'i,2,other,circle,"0,0"\n'
            ',3,other,polygon,"0,0 1,inf"\n'
            'i,4,other,polygon,""\n',
        )
        with pytest.raises(InputFaultsError) as caught:
            read_regions(path)
        pairs = 'points must be pairs of numbers, none beyond 1,000,000,000, such as "10,20 30,40"'
        assert list(caught.value.faults) == [
            f"{path}:4: shape must be one of box, circle, ellipse, polygon, point, mask. Received: 'disc'",
            f"{path}:4: kind must be one of calcification, cluster, other. Received: 'mass'",
            f"{path}:4: {pairs}. Received: '9'",
            f"{path}:4: region_id must be unique within image 'i'; line 2 has it too. Received: '1'",
            f"{path}:5: a circle must have 2 points. Received: 1",
            f"{path}:6: image_id must not be empty. Received: ''",
            f"{path}:6: {pairs}. Received: '1,inf'",
            f"{path}:7: a polygon must have 3 or more points. Received: 0",
        ]


class TestLabels:
    def test_round_trip_keeps_ids_and_lines(self, tmp_path: Path) -> None:
        write_labels(tmp_path / "labels.csv", [("001", 0, 2, 1), ("001", 1, 0, -1)])
        frame = read_labels(tmp_path / "labels.csv")
        assert frame["image_id"].tolist() == ["001", "001"]
        assert frame[["row", "col", "label"]].to_numpy().tolist() == [[0, 2, 1], [1, 0, -1]]
        assert frame.index.tolist() == [2, 3]
        assert frame["label"].dtype == np.int8

    def test_every_fault_is_listed(self, tmp_path: Path) -> None:
        path = written(tmp_path, LABELS_HEADER + "i,0,0,1\n,0,0,2\ni,-1,x,1\ni,0,0,0\ni,1,99999999999999999999,0\n")
        with pytest.raises(InputFaultsError) as caught:
            read_labels(path)
        assert sorted(caught.value.faults) == [
            f"{path}:3: image_id must not be empty or have blanks around it. Received: ''",
            f"{path}:3: label must be from -1 to 1. Received: 2",
            f"{path}:4: col must be a whole number. Received: 'x'",
            f"{path}:4: row must be from 0 to 1,000,000. Received: -1",
            f"{path}:5: a patch must have one label; line 2 has it too. Received: ('i', 0, 0)",
            f"{path}:6: col must be a whole number. Received: '99999999999999999999'",
        ]


class TestFolds:
    def test_round_trip(self, tmp_path: Path) -> None:
        write_folds(tmp_path / "folds.csv", {"02": "A", "01": "E"})
        assert read_folds(tmp_path / "folds.csv") == {"01": "E", "02": "A"}
        assert (tmp_path / "folds.csv").read_text() == "patient_id,subset\n01,E\n02,A\n"

    def test_patients_in_two_subsets_or_listed_twice_are_refused(self, tmp_path: Path) -> None:
        path = written(tmp_path, "patient_id,subset\np,A\nq,B\np,C\nq,B\nr,5\n")
        with pytest.raises(InputFaultsError) as caught:
            read_folds(path)
        assert caught.value.faults[0] == f"{path}:4: a patient must be in one subset. Received: 'p' in A and C"
        assert caught.value.faults[1] == f"{path}:5: a patient must be listed once. Received: 'q' again"
        assert caught.value.faults[2].startswith(f"{path}:6: subset must be one of A, B, C")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("J\u00e4ger", "Ja\u0308ger"),
        ("P001", "p001"),
        ("P001", "\uff30\uff10\uff10\uff11"),
        ("P001", "P0\u200b01"),
        ("P001", "\ufeffP001 "),
        ("stra\u00dfe", "STRASSE"),
        ("P 1", "P\u00a0 1"),
        ("0012", "12"),
        ("000", "0"),
        ("12", "\uff10\uff11\uff12"),
    ],
)
def test_ids_that_a_person_takes_for_one_fold_to_one(one: str, other: str) -> None:
    assert look_alikes([one, "another", other, one]) == [(one, other)]


def test_ids_that_differ_to_the_eye_stay_apart() -> None:
    assert look_alikes(["P1", "P01", "P-1", "P_1", "P 1", "P1a", "Pl", "12", "120", "012a", "12a"]) == []


def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "images.csv")
    with pytest.raises(InputError, match=r"images.csv: cannot be read: it is not a file"):
        read_images(tmp_path / "images.csv")


def test_a_table_of_nothing_but_faults_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "images.csv"
    path.write_text("image_id,path,patient_id,laterality,view,annotation\n" + "x,,,,,\n" * 3000)
    with pytest.raises(InputFaultsError) as caught:
        read_images(path)
    assert len(caught.value.faults) == 1000
    assert caught.value.faults[-1] == f"{path}: has 999 faults so far; the rest of it was not read"
