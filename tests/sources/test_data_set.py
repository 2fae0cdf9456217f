"""What all importers share: the tables and import.json, finding files, listing what is skipped."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.images import ImageFacts
from mmgkeras.progress import Track, untracked
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.sources.data_set import (
    ImportReport,
    at_size,
    find_images,
    import_data_set,
    only_file,
    read_all_facts,
    with_rows,
)
from mmgkeras.tables import read_images


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source" / "a").mkdir(parents=True)
    for name in ("i1.png", "a/i2.PNG"):
        Image.new("L", (4, 3)).save(tmp_path / "source" / name, format="PNG")
    return tmp_path / "source"


def take_all(source: Path, report: ImportReport, track: Track) -> None:
    """An importer of any images."""
    files = find_images(source, report, name_of=lambda path: path.stem, example="i1.png")
    report.records += [ImageRecord(name, str(path), "p", "L", "CC", "none") for name, path in files.items()]


class TestImport:
    def test_paths_lead_from_the_data_folder_and_digests_are_written(self, source: Path, tmp_path: Path) -> None:
        out = tmp_path / "x" / "out"
        report = import_data_set("Mine", take_all, source, out)
        assert report.num_images == 2
        assert [one.path for one in read_images(out / "images.csv")] == ["../../source/a/i2.PNG", "../../source/i1.png"]
        values = json.loads((out / "import.json").read_text())
        assert values["source"] == "Mine"
        assert values["sha256"].keys() == {"images.csv", "regions.csv"}

    def test_tables_are_replaced_when_asked_but_not_once_they_were_edited(self, source: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        import_data_set("Mine", take_all, source, out)
        with pytest.raises(InputError, match="already exists"):
            import_data_set("Mine", take_all, source, out)
        import_data_set("Mine", take_all, source, out, overwrite=True)
        with (out / "images.csv").open("a") as file:
            file.write("i3,i3.png,p,L,CC,none,,,,,,,\n")
        with pytest.raises(InputError, match=r"images\.csv: was not made by this command as it is"):
            import_data_set("Mine", take_all, source, out, overwrite=True)

    def test_nothing_is_left_of_an_import_that_fails(self, source: Path, tmp_path: Path) -> None:
        def fail(source: Path, report: ImportReport, track: Track) -> None:
            raise InputError("no")

        with pytest.raises(InputError, match="no"):
            import_data_set("Mine", fail, source, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_links_that_are_not_followed_are_counted(self, source: Path, tmp_path: Path) -> None:
        (source / "a").rename(tmp_path / "elsewhere")
        (source / "a").symlink_to(tmp_path / "elsewhere")
        line = f"{source}: links to folders and broken links, which are not followed: 1"
        report = import_data_set("Mine", take_all, source, tmp_path / "out")
        assert ([record.image_id for record in report.records], report.notes) == (["i1"], [line])
        (source / "i1.png").unlink()
        with pytest.raises(InputError, match=f"must hold images such as i1.png. Received: none\n{line}$"):
            import_data_set("Mine", take_all, source, tmp_path / "new")

    def test_an_import_of_no_image_tells_what_was_skipped(self, source: Path, tmp_path: Path) -> None:
        def skip(source: Path, report: ImportReport, track: Track) -> None:
            report.skipped.append("i1.png: is blue")

        with pytest.raises(InputError, match=r"holds no image of Mine that can be taken\ni1\.png: is blue"):
            import_data_set("Mine", skip, source, tmp_path / "out")

    def test_an_image_of_nobody_is_left_out_with_its_regions(self, source: Path, tmp_path: Path) -> None:
        def take(source: Path, report: ImportReport, track: Track) -> None:
            take_all(source, report, track)
            report.records[0] = replace(report.records[0], patient_id=" ")
            report.regions += [Region(name, "r1", "other", "point", ((0, 0),)) for name in ("i1", "i2")]

        report = import_data_set("Mine", take, source, tmp_path / "out")
        assert [record.image_id for record in read_images(tmp_path / "out" / "images.csv")] == ["i1"]
        assert [region.image_id for region in report.regions] == ["i1"]
        assert report.skipped == [f"{source / 'a' / 'i2.PNG'}: its patient is not told"]

    def test_an_image_that_no_table_can_name_is_left_out(self, source: Path, tmp_path: Path) -> None:
        (source / "i1.png").rename(source / os.fsdecode(b"M\xfc.png"))
        report = import_data_set("Mine", take_all, source, tmp_path / "out")
        assert [record.image_id for record in read_images(tmp_path / "out" / "images.csv")] == ["i2"]
        assert [line.rpartition("/")[2] for line in report.skipped] == [
            "M\udcfc.png: its path is not UTF-8, as images.csv is; rename it"
        ]
        source.rename(tmp_path / os.fsdecode(b"M\xfc"))
        with pytest.raises(
            InputError, match=r"(?s)M\\udcfc: holds no image of Mine that can be taken.*i2\.PNG: its path"
        ):
            import_data_set("Mine", take_all, tmp_path / os.fsdecode(b"M\xfc"), tmp_path / "new")

    def test_source_must_be_a_folder_apart_from_the_data_folder(self, source: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="must be the folder of Mine"):
            import_data_set("Mine", take_all, tmp_path / "nowhere", tmp_path / "out")
        with pytest.raises(InputError, match="lies in"):
            import_data_set("Mine", take_all, source, source / "out")


class TestReport:
    def test_region_beyond_is_noted_and_region_off_is_skipped(self) -> None:
        report, facts = ImportReport(), ImageFacts(9, 9, None)
        report.place(Region("i", "r1", "cluster", "box", ((5, 5), (12, 12))), facts, source="t.csv:2")
        report.place(Region("i", "r2", "cluster", "box", ((10, 5), (12, 12))), facts, source="t.csv:3")
        assert [region.region_id for region in report.regions] == ["r1"]
        assert report.notes == ["t.csv:2: image i, region r1: reaches beyond the image and is cut at its edge"]
        assert report.skipped[0].startswith("t.csv:3: image i, region r2: the box must overlap")

    def test_counts(self) -> None:
        report = ImportReport()
        report.records += [
            ImageRecord(f"i{n}", "", f"p{n // 2}", "L", "CC", "none", pathology="Normal") for n in range(3)
        ]
        report.regions.append(Region("i1", "r1", "other", "point", ((0, 0),)))
        assert report.images_of() == "3 images of 2 patients"
        assert report.images_of(["i0", "i1"], patient="exam") == "2 images of 1 exam"
        assert (report.num_normal, report.num_of_kind("other"), report.images_with("other")) == (3, 1, {"i1"})
        assert report.images_with("cluster") == set()


class TestFiles:
    def test_two_files_of_a_name_are_listed_and_not_used(self, source: Path) -> None:
        Image.new("L", (4, 3)).save(source / "a" / "i1.png")
        report = ImportReport()
        files = find_images(source, report, name_of=lambda path: path.stem, example="i1.png")
        assert list(files) == ["i2"]
        (line,) = report.skipped
        assert "i1 must be there once" in line

    def test_one_file_of_the_first_pattern_that_any_matches(self, source: Path) -> None:
        (source / "b.XLS").touch()
        assert only_file(source, "x*.csv", "B.xls") == source / "b.XLS"
        with pytest.raises(InputError, match=r"must hold one file \*\.png\. Received: 2"):
            only_file(source, "*.png")
        with pytest.raises(InputError, match=r"must hold one file x or y\. Received: none"):
            only_file(source, "x", "y")

    def test_rows_and_files_without_each_other_are_listed(self, source: Path) -> None:
        report, files = ImportReport(), {"i1": source / "i1.png", "i2": source / "i2.png"}
        places = {"i1": "t.csv:2", "i9": "t.csv:3"}
        assert list(with_rows(files, places, report, table=source / "t.csv")) == ["i1"]
        assert report.skipped == ["t.csv:3: there is no image i9", f"{source / 'i2.png'}: has no row in t.csv"]

    def test_a_file_that_cannot_be_read_is_listed(self, source: Path) -> None:
        (source / "bad.png").write_bytes(b"")
        report = ImportReport()
        facts = read_all_facts({"bad": source / "bad.png", "i1": source / "i1.png"}, report, untracked)
        assert facts == {"i1": (3, 4, None)}
        assert "bad.png: is empty" in report.skipped[0]


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_mask_at_the_size_from_which_it_was_enlarged_is_that_mask(scale: int) -> None:
    mask = np.random.default_rng(0).random((5, 7)) < 0.5
    large = np.kron(mask, np.ones((scale, scale), dtype=np.bool_))
    np.testing.assert_array_equal(at_size(large, (5, 7)), mask)
    np.testing.assert_array_equal(at_size(mask, large.shape), large)
