"""From a data folder to a store: pixels, labels and tables by hand, every fault listed, nothing left half-written."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.images import resample
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.store import PatchStore
from mmgkeras.patches.subset_counts import summary_lines
from mmgkeras.schema import Grid, Region
from mmgkeras.tables import write_labels, write_regions
from tests.patches.small import point, ramp

MakeData = Callable[..., Path]
CONFIG = PatchesConfig(patch_px=8)


class TestSpacing:
    """`patches.spacing_mm`: what a store of resampled images holds."""

    CONFIG = PatchesConfig(patch_px=8, spacing_mm=0.2)

    def make(self, make_data: MakeData, folder: Path) -> PatchStore:
        """a of 0.1 mm, twice as large; b of unknown and c of the same pixel size."""
        images = {"a": ramp(24, 32), "b": ramp(8, 8, start=7), "c": ramp(8, 8, start=9)}
        changes = {"a": {"spacing_mm": 0.1}, "c": {"spacing_mm": 0.2}}
        regions = [point("a", 3, 30), Region("c", "1", "calcification", "box", ((0, 0), (2, 2)))]
        return prepare(make_data(images, regions, changes=changes), folder / "store", self.CONFIG)

    def test_images_of_known_size_are_resampled_with_their_regions(self, make_data: MakeData, tmp_path: Path) -> None:
        store = self.make(make_data, tmp_path)
        small = resample(ramp(24, 32), factor=0.5)
        expected = Grid(12, 16, 8, 8, "left").cut(small).reshape(4, 8, 8)
        assert np.array_equal(store.gather(np.arange(4))[..., 0], expected)
        # The point lies at (1.25, 14.75) of 12 x 16 pixels: in the upper right patch.
        assert store.patches["label"].tolist() == [0, 1, 0, 0, 0, 1]
        assert store.images["spacing_mm"].tolist()[::2] == [0.2, 0.2]
        native = store.images[["native_height", "native_width", "native_spacing_mm"]]
        assert native.to_numpy()[::2].tolist() == [[24, 32, 0.1], [8, 8, 0.2]]
        assert store.native_shape("a") == (24, 32)

    def test_an_image_of_unknown_size_is_taken_as_it_is_and_named(self, make_data: MakeData, tmp_path: Path) -> None:
        store = self.make(make_data, tmp_path)
        assert np.array_equal(store.gather(np.array([4]))[0, ..., 0], ramp(8, 8, start=7))
        assert store.manifest.notes == ("1 of 3 images have no spacing_mm and were not resampled: b",)
        assert pd.isna(store.images["native_spacing_mm"].tolist()[1])

    def test_the_store_says_so_and_places_regions_on_its_images(self, make_data: MakeData, tmp_path: Path) -> None:
        self.make(make_data, tmp_path)
        store = PatchStore.open(tmp_path / "store", verify=True)
        assert store.manifest.grid.spacing_mm == 0.2
        path = tmp_path / "regions.csv"
        write_regions(path, [point("a", 3, 30), point("c", 3, 3), point("elsewhere", 99, 99)])
        assert [region.points[0] for region in store.read_regions(path)] == [(1.25, 14.75), (3, 3), (99, 99)]

    def test_without_it_nothing_is_said_so_that_checksums_stay(self, make_data: MakeData, tmp_path: Path) -> None:
        store = prepare(make_data({"a": ramp()}), tmp_path / "store", CONFIG)
        manifest = json.loads((store.path / "store.json").read_text())
        assert manifest["grid"] == {"patch_px": 8, "stride_px": 8}
        assert store.native_shape("a") == (12, 10)
        write_regions(tmp_path / "regions.csv", [point("a", 3, 5)])
        assert store.read_regions(tmp_path / "regions.csv") == [point("a", 3, 5)]

    def test_every_region_that_does_not_fit_its_image_is_told_with_its_line(
        self, make_data: MakeData, tmp_path: Path
    ) -> None:
        store = prepare(make_data({"a": ramp(), "c": ramp(start=9)}), tmp_path / "store", CONFIG)
        write_regions(tmp_path / "regions.csv", [point("a", 3, 50), point("b", 3, 50), point("c", 50, 3)])
        with pytest.raises(InputFaultsError) as fault:
            store.read_regions(tmp_path / "regions.csv")
        places = [line.split(": the point must")[0] for line in str(fault.value).splitlines()]
        path = tmp_path / "regions.csv"
        assert places == [f"{path}:2: image a, region 1", f"{path}:4: image c, region 1"]


class TestPrepare:
    def test_patches_are_the_grid_of_each_image_in_order(self, make_data: MakeData, tmp_path: Path) -> None:
        images = {"a": ramp(), "b": ramp(8, 8, start=7)}
        data = make_data(images, [point("a", 0, 9)], changes={"b": {"laterality": "R", "annotation": "partial"}})
        store = prepare(data, tmp_path / "store", CONFIG)
        expected = Grid(12, 10, 8, 8, "left").cut(images["a"]).reshape(4, 8, 8)
        assert np.array_equal(store.gather(np.arange(4))[..., 0], expected)
        assert np.array_equal(store.gather(np.array([4]))[0, ..., 0], images["b"])
        assert store.patches["image_id"].tolist() == ["a"] * 4 + ["b"]
        assert store.patches["patient_id"].tolist() == ["Pa"] * 4 + ["Pb"]
        assert store.patches[["row", "col"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 0]]
        assert store.patches["label"].tolist() == [0, 1, 0, 0, -1]
        assert store.grid("b") == Grid(8, 8, 8, 8, "right")
        assert store.images["num_patches"].tolist() == [4, 1]
        assert store.images["stride_px"].tolist() == [8, 8]
        assert store.manifest.counts.model_dump() == {
            "images": 2,
            "patients": 2,
            "patches": 5,
            "positive": 1,
            "negative": 3,
            "unknown": 1,
        }

    def test_tissue_is_the_part_of_the_padded_patch_that_is_breast(self, make_data: MakeData, tmp_path: Path) -> None:
        data = make_data({"a": np.full((12, 8), 200, dtype=np.uint8)})
        store = prepare(data, tmp_path / "store", CONFIG)
        assert store.patches["tissue"].tolist() == [0.5, 1.0]
        assert store.patches["tissue"].dtype == np.float32

    def test_overlapping_patches_follow_the_stride(self, make_data: MakeData, tmp_path: Path) -> None:
        data = make_data({"a": ramp(12, 8)})
        store = prepare(data, tmp_path / "store", PatchesConfig(patch_px=8, stride_px=4))
        assert store.stride_px == 4
        assert np.array_equal(store.gather(np.array([0, 1]))[..., 0], [ramp(12, 8)[:8], ramp(12, 8)[4:]])

    def test_mixed_depths_become_sixteen_bits(self, make_data: MakeData, tmp_path: Path) -> None:
        deep = ramp(8, 8).astype(np.uint16) * 256
        data = make_data({"a": ramp(8, 8), "b": deep, "c": ramp(8, 8, start=3)})
        store = prepare(data, tmp_path / "store", CONFIG)
        assert store.pixel_type == "uint16"
        expected = [ramp(8, 8).astype(np.uint16) * 257, deep, ramp(8, 8, start=3).astype(np.uint16) * 257]
        assert np.array_equal(store.gather(np.arange(3))[..., 0], expected)

    def test_eight_bits_alone_stay_eight_bits(self, make_data: MakeData, tmp_path: Path) -> None:
        assert prepare(make_data({"a": ramp()}), tmp_path / "store", CONFIG).pixel_type == "uint8"

    def test_optional_fields_come_back_or_are_empty(self, make_data: MakeData, tmp_path: Path) -> None:
        data = make_data({"a": ramp(), "NA": ramp(start=2)}, changes={"a": {"spacing_mm": 0.05, "density": "NA"}})
        images = prepare(data, tmp_path / "store", CONFIG).images
        assert images["image_id"].tolist() == ["a", "NA"]
        assert images["density"].tolist()[0] == "NA"
        assert pd.isna(images["density"].tolist()[1])
        assert images["spacing_mm"].tolist()[0] == 0.05

    def test_equal_data_elsewhere_give_an_equal_checksum(self, make_data: MakeData, tmp_path: Path) -> None:
        first = make_data({"a": ramp(), "b": ramp(start=5)}, [point("b", 0, 0)], name="one")
        second = make_data({"a": ramp(), "b": ramp(start=5)}, [point("b", 0, 0)], name="two")
        for folder in (first, second):
            (folder / "a.png").write_bytes(b"")
        stores = [prepare(data, tmp_path / f"s-{data.name}", CONFIG, skip_bad=True) for data in (first, second)]
        assert stores[0].checksum == stores[1].checksum
        assert len(stores[0].checksum) == 64

    def test_other_labels_give_another_checksum(self, make_data: MakeData, tmp_path: Path) -> None:
        first = prepare(make_data({"a": ramp()}, name="one"), tmp_path / "s1", CONFIG)
        second = prepare(make_data({"a": ramp()}, [point("a", 0, 0)], name="two"), tmp_path / "s2", CONFIG)
        assert first.checksum != second.checksum

    def test_images_pass_the_track_once(self, make_data: MakeData, tmp_path: Path) -> None:
        seen = []

        def track(items, label):
            for item in items:
                seen.append((label, item[0].image_id))
                yield item

        prepare(make_data({"a": ramp(), "b": ramp(start=5)}), tmp_path / "store", CONFIG, track=track)
        assert seen == [("reading images", "a"), ("reading images", "b")]


class TestAnnotations:
    def test_labels_win_over_regions_and_say_so(self, make_data: MakeData, tmp_path: Path) -> None:
        data = make_data({"a": ramp(), "b": ramp(start=4)}, [point("a", 0, 9)], changes={"b": {"annotation": "none"}})
        write_labels(data / "labels.csv", [("a", 1, 1, 1), ("a", 0, 0, -1), ("b", 0, 1, 0)])
        store = prepare(data, tmp_path / "store", CONFIG)
        assert store.patches["label"].tolist() == [-1, 0, 0, 1, -1, 0, -1, -1]
        assert [note for note in store.manifest.notes if "labels.csv" in note and "regions.csv" in note]
        assert store.manifest.labels.read_from == "labels.csv"

    def test_no_annotation_file_is_noted(self, make_data: MakeData, tmp_path: Path) -> None:
        data = make_data({"a": ramp()})
        (data / "regions.csv").unlink()
        store = prepare(data, tmp_path / "store", CONFIG)
        assert store.patches["label"].tolist() == [0, 0, 0, 0]
        assert [note for note in store.manifest.notes if "labels.csv" in note and "regions.csv" in note]

    @pytest.mark.parametrize(("min_marks", "said", "expected"), [(1, {}, 1), (2, {"min_marks": 2}, -1)])
    def test_how_many_marks_it_takes_is_said_where_it_is_not_one(
        self, make_data: MakeData, tmp_path: Path, min_marks: int, said: dict[str, int], expected: int
    ) -> None:
        data = make_data({"a": ramp()}, [point("a", 0, 9)])
        made = prepare(data, tmp_path / "store", PatchesConfig(patch_px=8, min_marks=min_marks))
        store = PatchStore.open(made.path, verify=True)
        assert store.patches["label"].tolist() == [0, expected, 0, 0]
        assert store.manifest.labels.min_marks == min_marks
        labels = json.loads((store.path / "store.json").read_text())["labels"]
        assert labels == {"read_from": "regions.csv", "envelope_fraction": 0.5, "label_source": "annotated", **said}

    def test_labels_outside_the_grid_or_of_unknown_images_are_refused(
        self, make_data: MakeData, tmp_path: Path
    ) -> None:
        data = make_data({"a": ramp()})
        write_labels(data / "labels.csv", [("a", 1, 1, 1), ("a", 2, 0, 0), ("z", 0, 0, 1)])
        with pytest.raises(InputFaultsError) as caught:
            prepare(data, tmp_path / "store", CONFIG)
        path = data / "labels.csv"
        assert list(caught.value.faults) == [
            f"{path}:4: an annotation must belong to an image of images.csv. Received: image_id 'z'",
            f"{path}:3: image a has 2 x 2 patches of 8 px. Received: row 2, col 0",
        ]


class TestFaults:
    def faulty(self, make_data: MakeData) -> Path:
        images = {name: ramp(start=index) for index, name in enumerate("abcd")}
        data = make_data(images, [point("a", 0, 0), point("b", 12, 0), point("z", 0, 0)])
        (data / "c.png").write_bytes(b"")
        return data

    def test_all_are_listed_and_nothing_is_written(self, make_data: MakeData, tmp_path: Path) -> None:
        data = self.faulty(make_data)
        with pytest.raises(InputFaultsError) as caught:
            prepare(data, tmp_path / "store", CONFIG)
        unknown, outside, empty = caught.value.faults
        assert unknown.startswith(f"{data / 'regions.csv'}:4: ")
        assert "image_id 'z'" in unknown
        assert outside.startswith(f"{data / 'regions.csv'}:3: image b, region 1: ")
        assert empty == f"{data / 'c.png'}: is empty (0 bytes)"
        assert [path.name for path in tmp_path.iterdir()] == ["data"]

    def test_bad_images_are_left_out_and_recorded_when_asked(self, make_data: MakeData, tmp_path: Path) -> None:
        store = prepare(self.faulty(make_data), tmp_path / "store", CONFIG, skip_bad=True)
        assert store.images["image_id"].tolist() == ["a", "d"]
        assert len(store.patches) == 8
        assert [image.image_id for image in store.manifest.skipped_images] == ["b", "c"]
        assert store.manifest.skipped_images[1].reason == "c.png: is empty (0 bytes)"
        assert "image_id 'z'" in store.manifest.skipped_annotations[0]
        text = "\n".join(summary_lines(store))
        assert "skipped     c: c.png: is empty (0 bytes)" in text

    def test_a_data_folder_whose_name_is_no_utf8_is_found_again(
        self, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        data = self.faulty(make_data).rename(os.fsdecode(b"M\xfc"))
        store = PatchStore.open(prepare(data, Path("store"), CONFIG, skip_bad=True).path)
        assert store.source == data.absolute()
        assert store.manifest.skipped_images[1].reason == "c.png: is empty (0 bytes)"

    def test_both_tables_are_checked_before_giving_up(self, make_data: MakeData, tmp_path: Path) -> None:
        data = make_data({"a": ramp()})
        (data / "images.csv").write_text("image_id\na\n")
        (data / "regions.csv").write_text("image_id,region_id,kind,shape,points\na,1,calcification,disc,\n")
        with pytest.raises(InputFaultsError) as caught:
            prepare(data, tmp_path / "store", CONFIG)
        assert any("images.csv:1: column path is missing" in fault for fault in caught.value.faults)
        assert any("regions.csv:2: shape must be one of" in fault for fault in caught.value.faults)

    def test_a_store_of_nothing_is_refused(self, make_data: MakeData, tmp_path: Path) -> None:
        data = make_data({"a": ramp()})
        (data / "a.png").write_bytes(b"")
        with pytest.raises(InputFaultsError, match="no image is left to make a store of"):
            prepare(data, tmp_path / "store", CONFIG, skip_bad=True)

    def test_a_store_is_kept_unless_overwriting(self, make_data: MakeData, tmp_path: Path) -> None:
        data = make_data({"a": ramp()})
        before = prepare(data, tmp_path / "store", CONFIG)
        with pytest.raises(InputError, match="store: already exists"):
            prepare(data, tmp_path / "store", PatchesConfig(patch_px=9))
        assert PatchStore.open(tmp_path / "store").checksum == before.checksum
        assert prepare(data, tmp_path / "store", PatchesConfig(patch_px=9), overwrite=True).patch_px == 9

    def test_other_folders_are_never_replaced(self, make_data: MakeData, tmp_path: Path) -> None:
        data = make_data({"a": ramp()})
        with pytest.raises(InputError, match=r"data: is .*data, which is read; name another place"):
            prepare(data, data, CONFIG, overwrite=True)
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter.txt").touch()
        with pytest.raises(InputError, match=r"thesis: is not this command's to replace, it has no store\.json"):
            prepare(data, tmp_path / "thesis", CONFIG, overwrite=True)
        assert (data / "a.png").exists()
        assert (tmp_path / "thesis" / "chapter.txt").exists()

    def test_a_pixel_size_in_other_units_is_the_fault_of_its_image(self, make_data: MakeData, tmp_path: Path) -> None:
        changes = {"a": {"spacing_mm": 0.05}, "b": {"spacing_mm": 100.0}}
        data = make_data({"a": ramp(), "b": ramp(start=1)}, changes=changes)
        config = CONFIG.model_copy(update={"spacing_mm": 0.05})
        with pytest.raises(InputFaultsError, match=r"images.csv:3: image b: must make at most 100,000,000 pixels"):
            prepare(data, tmp_path / "store", config)
        manifest = prepare(data, tmp_path / "store", config, skip_bad=True).manifest
        assert [image.image_id for image in manifest.skipped_images] == ["b"]

    def test_a_disk_that_fails_once_is_told(
        self, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The system tells of each failure once, to whom waits for the file first."""
        failed: list[Path] = []

        def fail_once(path: Path) -> None:
            if path.name.startswith("patches-0") and not failed:
                failed.append(path)
                raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr("mmgkeras.files.sync", fail_once)
        with pytest.raises(InputError, match="store: cannot be written: Input/output error"):
            prepare(make_data({"a": ramp()}), tmp_path / "store", CONFIG)
        assert not (tmp_path / "store").exists()

    def test_unwritable_places_are_named(self, make_data: MakeData, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="store: cannot be written: File exists"):
            prepare(make_data({"a": ramp()}), tmp_path / "file" / "store", CONFIG)


def test_columns_of_the_users_own_may_hold_any_line_break(make_data: MakeData, tmp_path: Path) -> None:
    data = make_data({"a": ramp(), "b": ramp(start=1)}, changes={"a": {"own": (("note", "one\rtwo"),)}})
    store = prepare(data, tmp_path / "store", CONFIG)
    assert PatchStore.open(tmp_path / "store", verify=True).images["own_note"].tolist() == ["one\rtwo", ""]
    assert store.manifest.counts.images == 2


class TestNotes:
    def test_pixels_of_different_size_are_noted(self, make_data: MakeData, tmp_path: Path) -> None:
        changes = {"a": {"spacing_mm": 0.05}, "b": {"spacing_mm": 0.07}, "c": {"spacing_mm": 0.07}}
        data = make_data({name: ramp(start=ord(name)) for name in "abcd"}, changes=changes)
        store = prepare(data, tmp_path / "store", CONFIG)
        assert [note for note in store.manifest.notes if "0.05 to 0.07 mm" in note]
        assert store.manifest.spacing_mm.model_dump() == {"median": 0.07, "min": 0.05, "max": 0.07, "num_unknown": 1}
        assert store.spacing_mm == 0.07

    def test_spacing_is_none_where_no_image_tells_it(self, make_data: MakeData, tmp_path: Path) -> None:
        store = prepare(make_data({"a": ramp()}), tmp_path / "store", CONFIG)
        assert store.spacing_mm is None
        assert "spacing unknown" in "\n".join(summary_lines(store))

    def test_a_chest_wall_that_pixels_contradict_is_noted(self, make_data: MakeData, tmp_path: Path) -> None:
        rows, cols = np.mgrid[:200, :120]
        breast = np.where((rows - 100) ** 2 / 95**2 + (119 - cols) ** 2 / 80**2 <= 1, 180, 0).astype(np.uint8)
        data = make_data({"a": breast, "b": breast[:, ::-1].copy()})
        store = prepare(data, tmp_path / "store", CONFIG)
        assert store.images["chest_wall_side"].tolist() == ["left", "left"]
        assert store.manifest.chest_wall_differs == ("a",)
        assert [note for note in store.manifest.notes if "1 of 2 images: a" in note]

    def test_many_such_images_are_counted_and_a_few_named(self, make_data: MakeData, tmp_path: Path) -> None:
        rows, cols = np.mgrid[:100, :60]
        breast = (rows - 50) ** 2 / 47**2 + (59 - cols) ** 2 / 40**2 <= 1
        images = {name: np.where(breast, 180 + number, 0).astype(np.uint8) for number, name in enumerate("abcde")}
        store = prepare(make_data(images), tmp_path / "store", CONFIG)
        assert store.manifest.chest_wall_differs == tuple("abcde")
        expected = "the pixels put the chest wall at the other edge in 5 of 5 images: a, b, c, ..."
        assert expected in store.manifest.notes


def test_a_store_without_negatives_says_what_would_give_some(make_data: MakeData, tmp_path: Path) -> None:
    changes = {"a": {"annotation": "partial"}, "b": {"annotation": "none", "pathology": "normal"}}
    data = make_data({"a": ramp(), "b": ramp(start=9)}, [point("a", 3, 3)], changes=changes)
    told = prepare(data, tmp_path / "store", CONFIG).manifest.notes
    assert told == (
        "no patch is negative, so no network can be trained: no image has the annotation 'complete'; "
        "with patches.label_source = 'assumed' 1 called normal count as free",
    )
    assumed = PatchesConfig(patch_px=8, label_source="assumed")
    assert prepare(data, tmp_path / "assumed", assumed).manifest.notes == ()


def test_manifest_lists_sizes_and_digests_of_all_data_files(make_data: MakeData, tmp_path: Path) -> None:
    store = prepare(make_data({"a": ramp()}), tmp_path / "store", CONFIG)
    manifest = json.loads((store.path / "store.json").read_text())
    names = {path.name for path in store.path.iterdir()} - {"store.json"}
    assert set(manifest["files"]) == names == {"images.csv", "patches.csv", "patches-00000.npy"}
    assert store.num_bytes == sum((store.path / name).stat().st_size for name in names)


def test_summary_fits_a_terminal(make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = summary_lines(prepare(make_data({"a": ramp()}), Path("store"), CONFIG))
    assert all(len(line) <= 80 for line in lines)
    assert "patches     4 of 8 px: 0 positive, 4 negative, 0 unknown" in lines


def test_memory_does_not_grow_with_the_number_of_images(make_data: MakeData, tmp_path: Path) -> None:
    import tracemalloc

    data = make_data({"a": ramp(512, 512)})
    header, row = (data / "images.csv").read_text().splitlines()[:2]
    peaks = []
    for count in (2, 40):
        rows = [row.replace("a,", f"a{k},", 1) for k in range(count)]
        (data / "images.csv").write_text("\n".join([header, *rows]) + "\n")
        tracemalloc.start()
        prepare(data, tmp_path / f"store{count}", PatchesConfig(patch_px=256))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000  # 38 more images of 262,144 pixels


def test_truncated_images_are_named(make_data: MakeData, tmp_path: Path) -> None:
    data = make_data({"a": ramp()})
    Image.fromarray(ramp(64, 64)).save(data / "a.png")
    whole = (data / "a.png").read_bytes()
    (data / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputFaultsError, match=r"a\.png: is damaged or cut short"):
        prepare(data, tmp_path / "store", CONFIG)
