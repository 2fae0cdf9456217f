"""Shards: what was appended comes back by number, whatever the types and however it lies over files."""

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.patches.shards import ShardReader, ShardWriter, pixel_sha256, promote, shard_name


def patches_of(*values: int, dtype: type = np.uint8) -> np.ndarray:
    """Patches of 2 px, each filled with its value."""
    return np.array(values, dtype=dtype)[:, None, None] * np.ones((1, 2, 2), dtype=dtype)


def shard_paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


class TestShardWriter:
    def test_patches_fill_one_shard_after_another(self, tmp_path: Path) -> None:
        with ShardWriter(tmp_path, patch_px=2, max_bytes=3 * 2 * 4) as writer:
            writer.append(patches_of(1, 2))
            writer.append(patches_of(3, 4, 5, 6, 7))
        assert writer.patches_per_shard == 3
        assert writer.num_patches == 7
        assert [path.name for path in shard_paths(tmp_path)] == [shard_name(k) for k in range(3)]
        shards = [np.load(path) for path in shard_paths(tmp_path)]
        assert [shard[:, 0, 0, 0].tolist() for shard in shards] == [[1, 2, 3], [4, 5, 6], [7]]
        assert {(shard.shape[1:], shard.dtype.name) for shard in shards} == {((2, 2, 1), "uint8")}

    def test_full_last_shard_is_not_followed_by_an_empty_one(self, tmp_path: Path) -> None:
        with ShardWriter(tmp_path, patch_px=2, max_bytes=3 * 2 * 4) as writer:
            writer.append(patches_of(1, 2, 3))
        assert [np.load(path).shape for path in shard_paths(tmp_path)] == [(3, 2, 2, 1)]

    @pytest.mark.parametrize("max_bytes", [1, 16, 24, 1000])
    def test_deeper_patches_turn_what_is_there_into_their_type(self, tmp_path: Path, max_bytes: int) -> None:
        with ShardWriter(tmp_path, patch_px=2, max_bytes=max_bytes) as writer:
            writer.append(patches_of(0, 1, 255, 3))
            writer.append(patches_of(258, dtype=np.uint16))
            writer.append(patches_of(2))
        everything = np.concatenate([np.load(path) for path in shard_paths(tmp_path)])
        assert everything.dtype == np.uint16
        assert everything[:, 1, 1, 0].tolist() == [0, 257, 65535, 771, 258, 514]
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npy"] * len(shard_paths(tmp_path))


class TestShardsOfAKilledProcess:
    """A writer that nobody closed left its shards, without their headers set; another goes on."""

    IMAGES = (
        patches_of(1, 2),
        patches_of(3, 4, 5),
        patches_of(500, 6, dtype=np.uint16),
        patches_of(7),
        patches_of(8, 9),
    )

    def contents(self, folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def go_on(self, folder: Path, *, max_bytes: int) -> list[int]:
        """Appends what is not there; gives the numbers of the images that were."""
        passed = []
        with ShardWriter(folder, patch_px=2, max_bytes=max_bytes) as writer:
            for number, patches in enumerate(self.IMAGES):
                if writer.pass_by(len(patches), pixel_type=str(patches.dtype)):
                    passed.append(number)
                else:
                    writer.append(patches)
        return passed

    @pytest.mark.parametrize("torn", [0, 3])
    @pytest.mark.parametrize("max_bytes", [8, 24, 40, 1000])
    def test_what_was_appended_is_passed_by(self, tmp_path: Path, max_bytes: int, torn: int) -> None:
        (tmp_path / "expected").mkdir()
        assert self.go_on(tmp_path / "expected", max_bytes=max_bytes) == []
        for num_appended in range(len(self.IMAGES) + 1):
            folder = tmp_path / str(num_appended)
            (tmp_path / "work").mkdir()
            with ShardWriter(tmp_path / "work", patch_px=2, max_bytes=max_bytes) as writer:
                for patches in self.IMAGES[:num_appended]:
                    writer.append(patches)
                shutil.copytree(tmp_path / "work", folder)  # as a kill now leaves it
            shutil.rmtree(tmp_path / "work")
            if num_appended and writer.num_patches % writer.patches_per_shard:
                with shard_paths(folder)[-1].open("ab") as file:
                    file.write(bytes(torn))  # of the next patch
            passed = self.go_on(folder, max_bytes=max_bytes)
            assert passed[:num_appended] == list(range(num_appended))
            assert self.contents(folder) == self.contents(tmp_path / "expected")

    @pytest.mark.parametrize("num_widened", [0, 1, 2, 3])
    def test_a_kill_while_shards_are_widened(
        self, tmp_path: Path, num_widened: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "expected").mkdir()
        self.go_on(tmp_path / "expected", max_bytes=16)
        folder = tmp_path / "killed"
        folder.mkdir()
        left = [True] * num_widened
        replace = Path.replace

        def replace_some(self: Path, target: Path) -> Path:
            if not left:
                raise KeyboardInterrupt
            left.pop()
            return replace(self, target)

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(Path, "replace", replace_some)
            with ShardWriter(folder, patch_px=2, max_bytes=16) as writer:
                for patches in self.IMAGES[:3]:
                    writer.append(patches)
        assert self.go_on(folder, max_bytes=16)[:2] == [0, 1]
        assert self.contents(folder) == self.contents(tmp_path / "expected")


def open_reader(folder, writer):
    return ShardReader(
        shard_paths(folder),
        patches_per_shard=writer.patches_per_shard,
        shape=(writer.num_patches, 2, 2, 1),
        pixel_type=str(writer.dtype),
    )


class TestShardReader:
    @pytest.mark.parametrize("max_bytes", [16, 1000])
    def test_patches_come_in_the_order_asked_for(self, tmp_path: Path, max_bytes: int) -> None:
        with ShardWriter(tmp_path, patch_px=2, max_bytes=max_bytes) as writer:
            writer.append(patches_of(10, 11, 12, 13, 14))
        reader = open_reader(tmp_path, writer)
        patches = reader.gather(np.array([4, 0, 3, 0, 2]))
        assert patches.shape == (5, 2, 2, 1)
        assert patches[:, 0, 1, 0].tolist() == [14, 10, 13, 10, 12]
        assert reader.gather(np.array([], dtype=np.int64)).shape == (0, 2, 2, 1)

    @pytest.mark.parametrize("index", [-1, 5])
    def test_indices_outside_are_refused(self, tmp_path: Path, index: int) -> None:
        with ShardWriter(tmp_path, patch_px=2) as writer:
            writer.append(patches_of(10, 11, 12, 13, 14))
        reader = open_reader(tmp_path, writer)
        with pytest.raises(IndexError, match="must be from 0 to 4"):
            reader.gather(np.array([0, index]))


class TestPixelSha256:
    def test_equal_gray_values_are_equal_at_both_depths(self) -> None:
        pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
        assert pixel_sha256(pixels) == pixel_sha256(promote(pixels))
        assert pixel_sha256(np.asfortranarray(pixels)) == pixel_sha256(pixels)

    def test_shape_and_values_count(self) -> None:
        pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
        assert pixel_sha256(pixels) != pixel_sha256(pixels.reshape(3, 2))
        assert pixel_sha256(pixels) != pixel_sha256(pixels + 1)


@pytest.mark.parametrize("max_bytes", [24, 1000])
def test_a_shard_that_is_cut_or_taken_away_while_it_is_read_is_named(tmp_path: Path, max_bytes: int) -> None:
    with ShardWriter(tmp_path, patch_px=2, max_bytes=max_bytes) as writer:
        writer.append(patches_of(1, 2, 3, 4))
    paths = shard_paths(tmp_path)
    reader = ShardReader(paths, patches_per_shard=writer.patches_per_shard, shape=(4, 2, 2, 1), pixel_type="uint8")
    assert reader.gather(np.array([3, 0]))[:, 0, 0, 0].tolist() == [4, 1]
    with paths[-1].open("r+b") as file:
        file.truncate(130)
    with pytest.raises(InputError, match=r"patches-0000\d.npy: was changed while it was read: .* Received: 130$"):
        reader.gather(np.array([3, 0]))
    paths[-1].unlink()
    with pytest.raises(InputError, match=r"patches-0000\d.npy: cannot be read any more: No such file"):
        reader.gather(np.array([3, 0]))
