"""Corrected copies of tables: what is certain is changed and told, everything else stays."""

from pathlib import Path

import pytest

from mmgkeras.errors import InputError
from mmgkeras.tables import read_images, read_regions
from mmgkeras.tables.repair import repair_tables


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


def test_text_of_another_encoding_is_one_line(data: Path) -> None:
    (data / "labels.csv").write_bytes(b"image_id,row,col,label\n\xe4,0,0,1\n")
    with pytest.raises(InputError, match=r"labels\.csv: must be UTF-8 text\. Received: 'utf-8' codec"):
        repair_tables(data, data.parent / "fixed")
