"""Corrected copies of tables: what is certain is changed and told, everything else stays."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.schema import VIEWS, ImageRecord, Region
from mmgkeras.tables import (
    IMAGE_COLUMNS,
    read_images,
    read_labels,
    read_regions,
    write_images,
    write_labels,
    write_regions,
)
from mmgkeras.tables.repair import repair_tables

HEADER = "image_id,path,patient_id,laterality,view,annotation"
NAMES = st.text(alphabet="'=+-@a,;\"|é 1/", min_size=1, max_size=6).filter(lambda text: text == text.strip())
TEXTS = st.none() | (NAMES | st.text(alphabet="a\r\n, 'CC=", min_size=1)).filter(lambda text: text == text.strip())
OWN = st.sampled_from(["site", "kind", "AGE", "Density", "=x", "laterality 2"])
RECORDS = st.builds(
    ImageRecord,
    image_id=NAMES,
    path=NAMES,
    patient_id=NAMES,
    laterality=st.sampled_from(["L", "R"]),
    view=st.sampled_from(VIEWS),
    annotation=st.just("none"),
    chest_wall=st.sampled_from([None, "left", "right"]),
    spacing_mm=st.none() | st.floats(0.01, 10),
    density=TEXTS,
    birads=TEXTS,
    age=st.none() | st.floats(1, 100),
    pathology=TEXTS,
    vendor=TEXTS,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "fixed").mkdir()
    return folder


def test_a_table_as_a_spreadsheet_saves_it(data: Path) -> None:
    text = (
        "sep=;\r\nImage ID;path;patient_id;Laterality;view;annotation;spacing_mm;site;;\r\n"
        "a;a.png; P1 ;left;cc;Complete;0,05;=x;;\r\n;;;;;;;;;\r\n"
        "b;/abs/b.png;P2;R;MLO;none;;;;\r\nb;/abs/b.png;P2;R;MLO;none;;;;\r\n"
    )
    (data / "images.csv").write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))
    before = (data / "images.csv").read_bytes()
    changes = repair_tables(data, data.parent / "fixed")
    first, second = read_images(data.parent / "fixed/images.csv")
    assert (first.image_id, first.path, first.patient_id, first.laterality) == ("a", "../data/a.png", "P1", "L")
    assert (first.view, first.annotation, first.spacing_mm, first.own) == ("CC", "complete", 0.05, (("site", "=x"),))
    assert (second.path, second.own) == ("/abs/b.png", (("site", ""),))
    assert (data / "images.csv").read_bytes() == before
    path = data / "images.csv"
    assert changes == [
        f"{path}: written in UTF-8 instead of UTF-16",
        f"{path}: separated by commas instead of ';'",
        f"{path}:2: column 'Image ID' is named image_id",
        f"{path}:2: column 'Laterality' is named laterality",
        f"{path}:3: patient_id is 'P1' instead of ' P1 '",
        f"{path}:3: laterality is 'L' instead of 'left'",
        f"{path}:3: view is 'CC' instead of 'cc'",
        f"{path}:3: annotation is 'complete' instead of 'Complete'",
        f"{path}:3: spacing_mm is '0.05' instead of '0,05'",
        f"{path}:6: left out, for it is line 5 again",
    ]


def test_what_is_not_certain_stays(data: Path) -> None:
    header = "image_id,region_id,kind,shape,points\n"
    (data / "regions.csv").write_text(f'{header}a,1,mass,box,"1,2 x"\na,1,cluster,box,"1,2 3,4"\n')
    assert repair_tables(data, data.parent / "fixed") == []
    assert (data.parent / "fixed/regions.csv").read_text() == (data / "regions.csv").read_text()
    with pytest.raises(InputError):
        read_regions(data.parent / "fixed/regions.csv")


@pytest.mark.parametrize(
    ("columns", "row", "received"),
    [
        (",pathology,vendor", ",mass, benign,Hologic", 9),
        (",age,density", ",45,5,B", 9),
        (",pathology,vendor,,", ",mass, benign,Hologic,,,x", 12),
        (",pathology,vendor", ",mass", 7),
    ],
)
def test_a_row_of_too_many_or_too_few_fields_stays_a_fault(data: Path, columns: str, row: str, received: int) -> None:
    """What an unquoted comma shifted may stand anywhere; blanks and case in such a row are nobody's to mend."""
    rows = f"a, a.png,P1,left,cc,none{row}\nb,b.png,P1,L,CC,none,,\nc,c.png,P1,L,CC,none,,,,,,,\n"
    (data / "images.csv").write_text(f"{HEADER}{columns}\n{rows}")
    faults: list[str] = []
    before = read_images(data / "images.csv", faults=faults)
    assert faults[0].endswith(f"fields, as the header has. Received: {received}")
    assert repair_tables(data, data.parent / "fixed") == []
    fixed = data.parent / "fixed/images.csv"
    assert f"\na, a.png,P1,left,cc,none{row}\n" in fixed.read_text()
    with pytest.raises(InputFaultsError, match=r"images\.csv:2: a row must have"):
        read_images(fixed)
    remaining: list[str] = []
    assert len(read_images(fixed, faults=remaining)) == len(before)
    assert len(remaining) == len(faults)


def test_fields_beyond_the_header_that_are_empty_are_dropped(data: Path) -> None:
    (data / "images.csv").write_text(f"{HEADER},\na,a.png,P1,L,CC,none,, ,,\nb,b.png,P1,L,CC,none\n")
    assert repair_tables(data, data.parent / "fixed") == []
    assert [record.image_id for record in read_images(data.parent / "fixed/images.csv")] == ["a", "b"]


@given(st.lists(RECORDS, min_size=1, max_size=4, unique_by=lambda record: record.image_id), OWN, NAMES)
def test_a_table_of_our_own_comes_back_equal_and_nothing_is_told(
    records: list[ImageRecord], own: str, text: str
) -> None:
    records = [
        ImageRecord(**{name: getattr(record, name) for name in IMAGE_COLUMNS}, own=((own, text),)) for record in records
    ]
    points = ((0.0, -1.5), (3.0, 4.0))
    regions = [Region(record.image_id, record.patient_id, "cluster", "box", points) for record in records]
    with tempfile.TemporaryDirectory() as folder:
        data, fixed = Path(folder, "data"), Path(folder, "fixed")
        data.mkdir()
        fixed.mkdir()
        write_images(data / "images.csv", records)
        write_regions(data / "regions.csv", regions)
        write_labels(data / "labels.csv", [(record.image_id, 0, 1, -1) for record in records])
        before, labels = read_images(data / "images.csv"), read_labels(data / "labels.csv")
        assert repair_tables(data, fixed) == []
        after = read_images(fixed / "images.csv")
        assert read_regions(fixed / "regions.csv") == regions
        assert read_labels(fixed / "labels.csv").equals(labels)
    for old, new in zip(before, after, strict=True):
        assert os.path.normpath(fixed / new.path) == os.path.normpath(data / old.path)
        assert [getattr(new, name) for name in IMAGE_COLUMNS if name != "path"] == [
            getattr(old, name) for name in IMAGE_COLUMNS if name != "path"
        ]
        assert new.own == old.own


def test_names_that_were_escaped_for_spreadsheets_stay_what_they_are(data: Path) -> None:
    write_images(data / "images.csv", [ImageRecord("-a", "=a.png", "@p1", "L", "CC", "none", vendor="+'x")])
    assert repair_tables(data, data.parent / "fixed") == []
    record = ImageRecord("-a", "../data/=a.png", "@p1", "L", "CC", "none", vendor="+'x")
    assert read_images(data.parent / "fixed/images.csv") == [record]


@pytest.mark.parametrize("path", ["1 /", "link/../b.png", "./a.png"])
def test_a_path_is_led_to_and_not_rewritten(data: Path, path: str) -> None:
    write_images(data / "images.csv", [ImageRecord("a", path, "p1", "L", "CC", "none")])
    assert repair_tables(data, data.parent / "fixed") == []
    assert [record.path for record in read_images(data.parent / "fixed/images.csv")] == [f"../data/{path}"]


def test_a_mask_longer_than_the_csv_default_comes_back(data: Path) -> None:
    region = Region("i", "1", "cluster", "mask", ((0, 0), (3000, 3000), *((k * 10, 5) for k in range(30000))))
    write_regions(data / "regions.csv", [region])
    assert repair_tables(data, data.parent / "fixed") == []
    assert read_regions(data.parent / "fixed/regions.csv") == [region]


def test_columns_of_the_user_are_not_taken_for_others(data: Path) -> None:
    """A word, or a number, is known in its own table's column alone; a name that is there already is not given."""
    (data / "images.csv").write_text(f"{HEADER},age,AGE,kind\na,a.png,P1,L,CC,none,,old,Cluster\n")
    assert repair_tables(data, data.parent / "fixed") == []
    (record,) = read_images(data.parent / "fixed/images.csv")
    assert record.own == (("AGE", "old"), ("kind", "Cluster"))
    (data / "regions.csv").write_text('image_id,region_id,kind,shape,points,age\na,1,cluster,point,"1,2","4,5"\n')
    fixed = data.parent / "fixed again"
    fixed.mkdir()
    assert repair_tables(data, fixed) == []
    assert (fixed / "regions.csv").read_text() == (data / "regions.csv").read_text()


def test_text_of_another_encoding_is_one_line(data: Path) -> None:
    (data / "labels.csv").write_bytes(b"image_id,row,col,label\n\xe4,0,0,1\n")
    with pytest.raises(InputError, match=r"labels\.csv: must be UTF-8 text\. Received: 'utf-8' codec"):
        repair_tables(data, data.parent / "fixed")
