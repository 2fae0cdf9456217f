"""Opening a store: what is missing, cut short or changed is named file by file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import Grid

MakeStore = Callable[..., PatchStore]
PIXELS = np.arange(1, 121, dtype=np.uint8).reshape(12, 10)
FILES = ("patches-00000.npy", "patches.csv", "images.csv")


@pytest.fixture
def store(make_store: MakeStore) -> PatchStore:
    return make_store({"a": PIXELS, "b": PIXELS[::-1].copy()})


def flip_byte(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


class TestOpen:
    def test_an_untouched_store_passes(self, store: PatchStore) -> None:
        opened = PatchStore.open(store.path, verify=True)
        assert opened.checksum == store.checksum
        assert opened.patches.equals(store.patches)
        assert opened.images.equals(store.images)

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("place", [0, -1])
    def test_one_flipped_byte_is_named_when_verifying(self, store: PatchStore, name: str, place: int) -> None:
        flip_byte(store.path / name, place)
        with pytest.raises(InputFaultsError, match=f"^{store.path / name}: is not as it was written") as caught:
            PatchStore.open(store.path, verify=True)
        assert len(caught.value.faults) == 1

    def test_tables_are_verified_always(self, store: PatchStore) -> None:
        flip_byte(store.path / "patches.csv", -2)
        with pytest.raises(InputFaultsError, match=r"patches\.csv: is not as it was written"):
            PatchStore.open(store.path)

    @pytest.mark.parametrize("name", FILES)
    def test_missing_files_are_named(self, store: PatchStore, name: str) -> None:
        (store.path / name).unlink()
        with pytest.raises(InputFaultsError, match=f"{name}: cannot be read: No such file"):
            PatchStore.open(store.path)

    def test_every_file_cut_short_is_named(self, store: PatchStore) -> None:
        for name in FILES:
            (store.path / name).write_bytes((store.path / name).read_bytes()[:-1])
        with pytest.raises(InputFaultsError, match=r"bytes, as store\.json says\. Received: ") as caught:
            PatchStore.open(store.path)
        assert len(caught.value.faults) == 3

    def test_other_folders_are_no_stores(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"is not a patch store: it has no store\.json; mmgkeras prepare makes one"
        ):
            PatchStore.open(tmp_path)

    @pytest.mark.parametrize(
        ("before", "after", "fault"),
        [
            ('"uint8"', '"uint16"', "is not as it was written, its checksum differs"),
            ('"format_version": 1', '"format_version": 2', "format_version: Input should be 1. Received: 2"),
            ("{", "", "is not JSON: .*; prepare the store again$"),
        ],
    )
    def test_changed_manifests_are_refused(self, store: PatchStore, before: str, after: str, fault: str) -> None:
        path = store.path / "store.json"
        path.write_text(path.read_text().replace(before, after, 1))
        with pytest.raises(InputError, match=f"store.json: {fault}"):
            PatchStore.open(store.path)

    def test_a_manifest_that_is_no_table_is_refused(self, store: PatchStore) -> None:
        (store.path / "store.json").write_text("[]")
        with pytest.raises(InputError, match=r"store.json: Input should be an object. Received: \[\]; prepare"):
            PatchStore.open(store.path)

    def test_an_unreadable_manifest_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "store.json").mkdir()
        with pytest.raises(InputError, match=r"store\.json: cannot be read: it is not a file"):
            PatchStore.open(tmp_path)


class TestPatchStore:
    def test_gathered_patches_join_to_the_image(self, store: PatchStore) -> None:
        rows = np.flatnonzero(store.patches["image_id"] == "b")
        grid = store.grid("b")
        assert grid == Grid(12, 10, 8, 8, "left")
        patches = store.gather(rows).reshape(grid.rows, grid.cols, 8, 8)
        assert np.array_equal(grid.join(patches), PIXELS[::-1])

    def test_facts_of_the_store(self, store: PatchStore) -> None:
        assert (store.patch_px, store.stride_px, store.pixel_type, store.spacing_mm) == (8, 8, "uint8", None)

    def test_unknown_images_have_no_grid(self, store: PatchStore) -> None:
        with pytest.raises(KeyError, match="z"):
            store.grid("z")
