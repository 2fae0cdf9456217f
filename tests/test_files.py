"""Files and folders that are whole or not there."""

from pathlib import Path

import pytest

from mmgkeras.errors import InputError
from mmgkeras.files import atomic_file, atomic_folder, sha256_file


class HalfwayError(Exception):
    """Stands for whatever ends a write halfway."""


def write_half(temporary: Path) -> None:
    temporary.write_text("half")
    raise HalfwayError


class TestAtomicFile:
    def test_file_appears_when_the_block_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "a.txt"
        with atomic_file(path) as temporary:
            temporary.write_text("whole")
            assert not path.exists()
        assert path.read_text() == "whole"
        assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]

    def test_failed_block_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(HalfwayError), atomic_file(tmp_path / "a.txt") as temporary:
            write_half(temporary)
        assert list(tmp_path.iterdir()) == []

    def test_failed_block_leaves_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")
        with pytest.raises(HalfwayError), atomic_file(path, overwrite=True) as temporary:
            write_half(temporary)
        assert path.read_text() == "old"

    def test_existing_file_is_refused_unless_asked(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")
        with pytest.raises(InputError, match=r"a\.txt: already exists; name another place or give --overwrite"):
            atomic_file(path).__enter__()
        with atomic_file(path, overwrite=True) as temporary:
            temporary.write_text("new")
        assert path.read_text() == "new"

    def test_place_that_is_no_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot be written: "):
            atomic_file(tmp_path / "file" / "a.txt").__enter__()

    def test_error_of_the_system_within_the_block_names_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        with pytest.raises(InputError, match=r"a\.txt: cannot be written: No space left"), atomic_file(path):
            raise OSError(28, "No space left on device")


class TestAtomicFolder:
    def test_folder_appears_when_the_block_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "store"
        with atomic_folder(path) as temporary:
            (temporary / "a.txt").write_text("whole")
            assert not path.exists()
        assert (path / "a.txt").read_text() == "whole"
        assert [entry.name for entry in tmp_path.iterdir()] == ["store"]

    def test_failed_block_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(HalfwayError), atomic_folder(tmp_path / "store") as temporary:
            write_half(temporary / "a.txt")
        assert list(tmp_path.iterdir()) == []

    def test_failed_block_leaves_the_old_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "store"
        path.mkdir()
        (path / "old.txt").touch()
        with pytest.raises(HalfwayError), atomic_folder(path, overwrite=True) as temporary:
            write_half(temporary / "a.txt")
        assert [entry.name for entry in path.iterdir()] == ["old.txt"]

    def test_overwriting_leaves_nothing_of_the_old_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "store"
        path.mkdir()
        (path / "old.txt").touch()
        with atomic_folder(path, overwrite=True) as temporary:
            (temporary / "new.txt").touch()
        assert [entry.name for entry in path.iterdir()] == ["new.txt"]

    def test_rest_of_a_killed_run_is_cleared(self, tmp_path: Path) -> None:
        (tmp_path / ".store.partial").mkdir()
        (tmp_path / ".store.partial" / "rest.npy").touch()
        with atomic_folder(tmp_path / "store") as temporary:
            assert list(temporary.iterdir()) == []

    def test_existing_folder_is_refused_unless_asked(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="already exists; name another place or give --overwrite"):
            atomic_folder(tmp_path).__enter__()

    def test_place_that_is_no_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot be written: "):
            atomic_folder(tmp_path / "file" / "store").__enter__()


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "a") == expected
