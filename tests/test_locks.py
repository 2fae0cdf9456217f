"""Locks on outputs, and what they leave."""

import os
from pathlib import Path

import pytest

from mmgkeras.errors import InputError
from mmgkeras.files import atomic_folder
from mmgkeras.locks import machine_start, output_lock, resumable_work, work_digest

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

    @pytest.mark.parametrize(("name", "what"), [("store.json", "a patch store"), ("saved_model.pb", "a SavedModel")])
    @pytest.mark.parametrize("out", ["x", "new/x"])
    def test_an_output_in_a_store_or_model_is_refused(self, tmp_path: Path, name: str, what: str, out: str) -> None:
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=f"{tmp_path}: is {what}, and nothing else goes there"):
            output_lock(tmp_path / out).__enter__()
        assert [path.name for path in tmp_path.iterdir()] == [name]

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


DIGEST = "0123456789abcdef"
WORK_OF_STORE = f".store.{DIGEST}.work"


class TestResumableWork:
    def test_it_goes_at_the_end(self, tmp_path: Path) -> None:
        with resumable_work(tmp_path / "store", digest=DIGEST) as work:
            (work / "a").touch()
        assert names_in(tmp_path) == []

    def test_the_work_of_a_killed_process_is_found_by_a_call_for_the_same(self, tmp_path: Path) -> None:
        code = 'context = resumable_work(root / "store", digest="0123456789abcdef"); work = context.__enter__()\n'
        assert run(f'{code}(work / "a").touch(); import os; os._exit(9)', tmp_path).returncode == 9
        with resumable_work(tmp_path / "store", digest=DIGEST) as work:
            assert names_in(work) == ["a"]

    def test_the_work_of_a_call_for_something_else_is_removed(self, tmp_path: Path) -> None:
        other = tmp_path / f".store.{'0' * 16}.work"
        other.mkdir()
        with resumable_work(tmp_path / "store", digest=DIGEST) as work:
            assert not other.exists()
            assert names_in(work) == []

    def test_it_goes_with_a_fault_of_the_input_and_stays_when_cut_from_outside(self, tmp_path: Path) -> None:
        with pytest.raises(InputError), resumable_work(tmp_path / "store", digest=DIGEST):
            raise InputError("a region lies outside")
        assert names_in(tmp_path) == []
        for error in (KeyboardInterrupt(), OSError(28, "No space left on device")):
            with pytest.raises(type(error)), resumable_work(tmp_path / "store", digest=DIGEST):
                raise error
            assert [path.name for path in tmp_path.iterdir()] == [WORK_OF_STORE]
        with (
            pytest.raises(InputError, match="store: cannot be written: No space left"),
            resumable_work(tmp_path / "store", digest=DIGEST),
            atomic_folder(tmp_path / "store"),
        ):
            raise error
        assert [path.name for path in tmp_path.iterdir()] == [WORK_OF_STORE]

    def test_a_link_at_its_name_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "precious").mkdir()
        (tmp_path / WORK_OF_STORE).symlink_to("precious")
        with resumable_work(tmp_path / "store", digest=DIGEST) as work:
            (work / "a").touch()
        assert names_in(tmp_path / "precious") == []


def test_a_digest_differs_where_a_part_does() -> None:
    digests = {work_digest(*parts) for parts in [(), ("a",), ("a", 1), ("a", 2), ("b", 1)]}
    assert len(digests) == 5
    assert all(len(digest) == 16 for digest in digests)


def test_each_start_of_the_machine_has_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmgkeras.locks._BOOT_ID", tmp_path / "boot_id")
    texts = [machine_start()]
    for boot_id in ("one\n", "two\n", "two\n"):
        (tmp_path / "boot_id").write_text(boot_id)
        texts.append(machine_start())
    assert texts[0] == ""
    assert len(set(texts)) == 3
