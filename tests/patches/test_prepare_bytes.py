"""The bytes of a store: the same in every version, by any number of processes, and after any kill."""

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.files import sha256_file
from mmgkeras.images.reader import read as read_image
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.shards import ShardWriter
from mmgkeras.patches.store import PatchStore
from mmgkeras.processes import Processes
from mmgkeras.ray_actors import RayActors
from mmgkeras.schema import ImageRecord, Mammogram, Region
from tests.patches.small import point, ramp
from tests.processes import KilledActor

MakeData = Callable[..., Path]
CONFIG = PatchesConfig(patch_px=8)


@pytest.mark.parametrize(
    ("stride_px", "checksum"),
    [
        (64, "8e3ad0d5b57071a3c1a07ca519fa1f560d5e5380885559447655c219b8100852"),
        (40, "9562d25b967861639ce4cdd8e9029669a4ffa415cab90d85702e7661875ed8fe"),
    ],
)
def test_the_same_data_make_the_store_that_earlier_versions_made(
    make_data: MakeData, tmp_path: Path, stride_px: int, checksum: str
) -> None:
    rows, cols = np.mgrid[:300, :230]
    uneven = 90 + (rows * 7 + cols * 13) % 101 + np.where(cols < 20, 40, 0)
    breast = np.where((rows - 140) ** 2 / 120**2 + cols**2 / 180**2 <= 1, uneven, (rows + cols) % 7)
    images = {
        "a": breast.astype(np.uint8),
        "b": breast[:, ::-1].astype(np.uint8),
        "c": (breast[:251, :217] * 200).astype(np.uint16),
    }
    regions = [point("a", 100, 50), Region("c", "1", "cluster", "circle", ((120, 60), (30, 30)))]
    data = make_data(images, regions, changes={"b": {"annotation": "partial"}, "c": {"spacing_mm": 0.1}})
    store = prepare(data, tmp_path / "store", PatchesConfig(patch_px=64, stride_px=stride_px))
    assert PatchStore.open(tmp_path / "store", verify=True).checksum == store.checksum == checksum


def contents(store: Path) -> dict[str, bytes]:
    """The files of a store; of the manifest, its checksum."""
    files = {path.name: path.read_bytes() for path in store.iterdir() if path.name != "store.json"}
    return files | {"checksum": PatchStore.open(store).checksum.encode()}


class TestProcesses:
    @pytest.fixture
    def data(self, make_data: MakeData) -> Path:
        """24 images of two depths."""
        images = {f"{k:02d}": ramp(start=k) if k % 5 else ramp(start=k).astype(np.uint16) * 250 for k in range(24)}
        return make_data(images, [point("03", 0, 0)])

    def test_several_make_the_same_bytes_as_one(self, data: Path, tmp_path: Path) -> None:
        for num_workers in (1, 2):
            prepare(data, tmp_path / f"store{num_workers}", CONFIG, workers=Processes(num_workers))
        assert contents(tmp_path / "store1") == contents(tmp_path / "store2")

    def test_ray_makes_the_same_bytes_although_an_actor_is_killed(
        self, data: Path, tmp_path: Path, ray_cluster: None
    ) -> None:
        prepare(data, tmp_path / "expected", CONFIG)
        killed = KilledActor(9)
        prepare(data, tmp_path / "store", CONFIG, workers=RayActors(), track=killed)
        assert killed.killed
        assert contents(tmp_path / "store") == contents(tmp_path / "expected")

    @pytest.mark.parametrize("patches_per_shard", [1, 3, 7, 1000])
    def test_a_killed_call_goes_on_and_makes_the_same_bytes(
        self, data: Path, tmp_path: Path, patches_per_shard: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "mmgkeras.patches.prepare.ShardWriter", partial(ShardWriter, max_bytes=patches_per_shard * 128)
        )
        prepare(data, tmp_path / "expected", CONFIG)
        read: list[str] = []

        def until(record: ImageRecord, folder: Path) -> Mammogram:
            if len(read) in kills:
                kills.remove(len(read))
                raise KeyboardInterrupt
            read.append(record.image_id)
            return read_image(record, folder)

        monkeypatch.setattr("mmgkeras.patches.examine.images.read", until)
        kills = [1, 4, 5, 11, 23]
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                prepare(data, tmp_path / "store", CONFIG)
            assert not (tmp_path / "store").exists()
        prepare(data, tmp_path / "store", CONFIG)
        assert len(read) == len(set(read)) == 24
        assert contents(tmp_path / "store") == contents(tmp_path / "expected")
        assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]

    def test_full_shards_are_hashed_once_where_they_were_filled(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashed: list[Path] = []

        def noted(path: Path) -> str:
            hashed.append(path)
            return sha256_file(path)

        monkeypatch.setattr("mmgkeras.patches.prepare.sha256_file", noted)
        monkeypatch.setattr("mmgkeras.patches.prepare.ShardWriter", partial(ShardWriter, max_bytes=7 * 128))
        manifest = prepare(data, tmp_path / "store", CONFIG).manifest
        shards = [path for path in hashed if path.suffix == ".npy"]
        assert sorted(path.name for path in shards) == list(manifest.shards)
        later = [path.name for path in shards if path.parent != shards[0].parent]
        assert later == list(manifest.shards[manifest.counts.patches // 7 :])

    def test_full_shards_that_deeper_images_change_are_hashed_anew(
        self, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mmgkeras.patches.prepare.ShardWriter", partial(ShardWriter, max_bytes=3 * 128))
        images = {f"{k}": ramp(start=k) for k in range(6)} | {"deep": ramp().astype(np.uint16) * 250}
        prepare(make_data(images), tmp_path / "store", CONFIG)
        assert PatchStore.open(tmp_path / "store", verify=True).pixel_type == "uint16"

    def test_a_disk_that_fails_meanwhile_is_told(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(path: Path) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr("mmgkeras.patches.prepare.sync", fail)
        monkeypatch.setattr("mmgkeras.patches.prepare.ShardWriter", partial(ShardWriter, max_bytes=7 * 128))
        with pytest.raises(InputError, match="store: cannot be written: Input/output error"):
            prepare(data, tmp_path / "store", CONFIG)
        assert not (tmp_path / "store").exists()

    def test_an_image_that_changed_after_a_kill_begins_all_anew(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("mmgkeras.patches.prepare._write", interrupt)
            with pytest.raises(KeyboardInterrupt):
                prepare(data, tmp_path / "store", CONFIG)
        Image.fromarray(ramp(20, 20)).save(data / "02.png")
        prepare(data, tmp_path / "expected", CONFIG)
        prepare(data, tmp_path / "store", CONFIG)
        assert contents(tmp_path / "store") == contents(tmp_path / "expected")

    def test_a_machine_that_started_anew_begins_all_anew(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a killed call wrote may not have reached the disk."""

        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        (tmp_path / "boot_id").write_text("one")
        monkeypatch.setattr("mmgkeras.locks._BOOT_ID", tmp_path / "boot_id")
        with monkeypatch.context() as patch:
            patch.setattr("mmgkeras.patches.prepare._write", interrupt)
            with pytest.raises(KeyboardInterrupt):
                prepare(data, tmp_path / "store", CONFIG)
        (shard,) = tmp_path.glob(".store.*.work/patches-00000.npy")
        shard.write_bytes(bytes(shard.stat().st_size))
        (tmp_path / "boot_id").write_text("two")
        prepare(data, tmp_path / "store", CONFIG)
        prepare(data, tmp_path / "expected", CONFIG)
        assert contents(tmp_path / "store") == contents(tmp_path / "expected")
