"""Locks on outputs, and what they leave."""

import os
from pathlib import Path

import pytest

from mmgkeras.errors import InputError
from mmgkeras.files import atomic_folder
from mmgkeras.locks import output_lock

from .processes import names_in, run


class TestOutputLock:
    def test_second_process_is_refused_with_the_pid_of_the_first(self, tmp_path: Path) -> None:
        with output_lock(tmp_path / "store"):
            other = run('with output_lock(root / "store"): pass', tmp_path)
        assert other.returncode == 1
        message = f"store: is being written by another process, {os.getpid()}; wait until it has ended or name another"
        assert message in other.stderr

    def test_lock_of_a_killed_process_is_no_lock(self, tmp_path: Path) -> None:
        code = 'context = output_lock(root / "store"); context.__enter__()\nimport os; os._exit(9)'
        assert run(code, tmp_path).returncode == 9
        assert names_in(tmp_path) == [".store.lock"]
        with output_lock(tmp_path / "store"):
            pass
        assert names_in(tmp_path) == []

    def test_link_stands_for_its_folder(self, tmp_path: Path) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / "link").symlink_to("store")
        with output_lock(tmp_path / "store"), pytest.raises(InputError, match="link: is being written by another"):
            output_lock(tmp_path / "link").__enter__()

    def test_link_at_the_name_of_the_lock_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "precious").write_text("precious")
        (tmp_path / ".store.lock").symlink_to("precious")
        with pytest.raises(InputError, match="store: cannot be written: Too many levels of symbolic links"):
            output_lock(tmp_path / "store").__enter__()
        assert (tmp_path / "precious").read_text() == "precious"

    def test_file_system_without_locks_is_written_to(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def flock(descriptor: int, operation: int) -> None:
            raise OSError(37, "No locks available")

        monkeypatch.setattr("fcntl.flock", flock)
        other = tmp_path / f".store.{'0' * 16}.partial"
        other.mkdir()
        with output_lock(tmp_path / "store"), atomic_folder(tmp_path / "store") as temporary:
            (temporary / "a.txt").touch()
        assert names_in(tmp_path) == ["store/a.txt"]
        assert other.exists(), "whose it is cannot be known"
