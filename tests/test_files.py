"""Files and folders that are whole or not there."""

from pathlib import Path

import pytest

from benchmarks.campaign.interrupt import KILLED
from mmgkeras.errors import InputError
from mmgkeras.files import (
    atomic_file,
    atomic_files,
    atomic_folder,
    check_apart,
    check_outputs,
    files_below,
    sha256_file,
)

from .processes import names_in, run

OWNED = ("mark.json", "*.txt", "sub/*.txt")
NOBODYS = (".DS_Store", "._i1.dcm", "Thumbs.db", "desktop.ini")


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
        assert names_in(path.parent) == ["a.txt"]

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

    def test_folder_of_that_name_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").mkdir()
        path = tmp_path / "a.txt"
        with pytest.raises(InputError, match=r"txt: cannot be written: Is a dir"), atomic_file(path, overwrite=True):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]

    def test_error_of_the_system_within_the_block_names_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        with pytest.raises(InputError, match=r"a\.txt: cannot be written: No space left"), atomic_file(path):
            raise OSError(28, "No space left on device")

    def test_two_writers_at_once_do_not_meet(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        with atomic_file(path) as first, atomic_file(path, overwrite=True) as second:
            assert first != second
            first.write_text("first")
            second.write_text("second")
        assert path.read_text() == "first"

    def test_longest_name_of_the_file_system_can_be_written(self, tmp_path: Path) -> None:
        path = tmp_path / ("n" * 255)
        with atomic_file(path) as temporary:
            temporary.write_text("whole")
        assert path.read_text() == "whole"
        with pytest.raises(InputError, match="cannot be written: File name too long"):
            atomic_file(tmp_path / ("n" * 256)).__enter__()

    def test_link_at_the_old_temporary_name_is_not_followed(self, tmp_path: Path) -> None:
        precious = tmp_path / "precious"
        precious.write_text("precious")
        (tmp_path / ".a.txt.partial").symlink_to(precious)
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")
        assert precious.read_text() == "precious"

    def test_link_at_the_temporary_name_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        precious = tmp_path / "precious"
        precious.write_text("precious")
        monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)
        (tmp_path / f".a.txt.{'0' * 16}.partial").symlink_to(precious)
        with pytest.raises(InputError, match=r"a\.txt: cannot be written: File exists"):
            atomic_file(tmp_path / "a.txt").__enter__()
        assert precious.read_text() == "precious"

    def test_kill_at_any_call_leaves_the_old_file_or_the_new(self, tmp_path: Path) -> None:
        code = """
with atomic_file(root / "a.txt", overwrite=True) as temporary:
    temporary.write_text("new")
"""
        num_calls = int(run(code, tmp_path).stdout)
        assert num_calls >= 4
        for number in range(num_calls):
            (tmp_path / "a.txt").write_text("old")
            assert run(code, tmp_path, kill_at=number).returncode == KILLED
            assert (tmp_path / "a.txt").read_text() in ("old", "new")
            assert run(code, tmp_path).returncode == 0
            assert (tmp_path / "a.txt").read_text() == "new"
            assert names_in(tmp_path) == ["a.txt"]


class TestAtomicFolder:
    def test_folder_appears_when_the_block_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "store"
        with atomic_folder(path) as temporary:
            (temporary / "a.txt").write_text("whole")
            assert not path.exists()
        assert (path / "a.txt").read_text() == "whole"
        assert [entry.name for entry in tmp_path.iterdir()] == ["store"]

    def test_failed_block_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(HalfwayError), atomic_folder(tmp_path / "new" / "store") as temporary:
            write_half(temporary / "a.txt")
        assert list(tmp_path.iterdir()) == []

    def test_failed_block_leaves_the_old_folder(self, tmp_path: Path) -> None:
        path = self.old_folder(tmp_path)
        with pytest.raises(HalfwayError), atomic_folder(path, overwrite=True, owned=OWNED) as temporary:
            write_half(temporary / "a.txt")
        assert names_in(tmp_path) == ["store/mark.json", "store/old.txt"]

    def test_overwriting_leaves_nothing_of_the_old_folder(self, tmp_path: Path) -> None:
        path = self.old_folder(tmp_path)
        with atomic_folder(path, overwrite=True, owned=OWNED) as temporary:
            (temporary / "new.txt").touch()
        assert names_in(tmp_path) == ["store/new.txt"]

    def test_failed_swap_puts_the_old_folder_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.old_folder(tmp_path)
        rename = Path.rename

        def failing(source: Path, target: Path) -> Path:
            if source.name.endswith(".partial"):
                raise OSError(28, "No space left on device")
            return rename(source, target)

        monkeypatch.setattr(Path, "rename", failing)
        with pytest.raises(InputError, match="No space left"), atomic_folder(path, overwrite=True, owned=OWNED):
            pass
        assert names_in(tmp_path) == ["store/mark.json", "store/old.txt"]

    def test_kill_at_any_call_leaves_the_old_folder_or_the_new(self, tmp_path: Path) -> None:
        code = f"""
with atomic_folder(root / "store", overwrite=True, owned={OWNED!r}) as temporary:
    for name in ("mark.json", "new.txt"):
        (temporary / name).write_text("new")
"""
        self.old_folder(tmp_path)
        num_calls = int(run(code, tmp_path).stdout)
        assert num_calls >= 12
        for number in range(num_calls):
            with atomic_folder(tmp_path / "store", overwrite=True, owned=OWNED) as temporary:
                for name in ("mark.json", "old.txt"):
                    (temporary / name).write_text("old")
            assert run(code, tmp_path, kill_at=number).returncode == KILLED
            whole = [folder for folder in tmp_path.iterdir() if len(names_in(folder)) >= 2 and folder.is_dir()]
            assert whole, number
            # A command without --overwrite: what was there is there again, and refused.
            again = run(code.replace("overwrite=True", "overwrite=False"), tmp_path)
            assert "already exists" in again.stderr
            assert names_in(tmp_path / "store") in (["mark.json", "new.txt"], ["mark.json", "old.txt"])
            assert run(code, tmp_path).returncode == 0
            assert names_in(tmp_path) == ["store/mark.json", "store/new.txt"]

    def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(self, tmp_path: Path) -> None:
        code = 'context = atomic_folder(root / "store"); context.__enter__()\nimport os; os._exit(9)'
        assert run(code, tmp_path).returncode == 9
        [dead] = tmp_path.iterdir()
        first = atomic_folder(tmp_path / "store")
        living = first.__enter__()
        assert not dead.exists()
        with atomic_folder(tmp_path / "store") as second:
            assert living.is_dir()
            assert second.is_dir()
        with pytest.raises(InputError, match="store: already exists"):
            first.__exit__(None, None, None)
        assert [path.name for path in tmp_path.iterdir()] == ["store"]

    def test_existing_folder_is_refused_unless_asked(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="already exists; name another place or give --overwrite"):
            atomic_folder(tmp_path).__enter__()

    def test_folder_without_the_mark_is_not_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "thesis"
        path.mkdir()
        (path / "chapter.txt").touch()
        with pytest.raises(InputError, match=r"thesis: is not this command's to replace, it has no mark\.json; name"):
            atomic_folder(path, overwrite=True, owned=OWNED).__enter__()
        with pytest.raises(InputError, match="is not this command's to replace, it is not empty; name"):
            atomic_folder(path, overwrite=True).__enter__()
        assert names_in(path) == ["chapter.txt"]

    @pytest.mark.parametrize("name", ["notes.md", "sub/notes.md", ".git"])
    def test_folder_with_other_files_is_not_replaced(self, tmp_path: Path, name: str) -> None:
        path = self.old_folder(tmp_path)
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).touch()
        with pytest.raises(InputError, match=f"store: holds {name}, which this command did not make; move it or"):
            atomic_folder(path, overwrite=True, owned=OWNED).__enter__()
        assert (path / name).exists()

    def test_file_that_comes_while_the_block_runs_is_not_lost(self, tmp_path: Path) -> None:
        path = self.old_folder(tmp_path)
        with pytest.raises(InputError, match=r"holds notes\.md"), atomic_folder(path, overwrite=True, owned=OWNED):
            (path / "notes.md").touch()
        assert names_in(tmp_path) == ["store/mark.json", "store/notes.md", "store/old.txt"]

    @pytest.mark.parametrize("name", NOBODYS)
    def test_what_a_file_browser_left_does_not_count(self, tmp_path: Path, name: str) -> None:
        path = self.old_folder(tmp_path)
        (path / name).touch()
        with atomic_folder(path, overwrite=True, owned=OWNED):
            pass
        assert names_in(path) == []

    @pytest.mark.parametrize("place", [".", "..", "/", "inner/.."])
    def test_present_folder_and_those_above_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        (tmp_path / "inner").mkdir()
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError, match=r": is the present folder or one above it; name a folder of its own"):
            atomic_folder(Path(place), overwrite=True, owned=OWNED).__enter__()

    def test_link_stands_for_its_folder(self, tmp_path: Path) -> None:
        path = self.old_folder(tmp_path)
        (tmp_path / "link").symlink_to(path)
        with atomic_folder(tmp_path / "link", overwrite=True, owned=OWNED) as temporary:
            (temporary / "new.txt").touch()
        assert (tmp_path / "link").is_symlink()
        assert names_in(path) == ["new.txt"]

    def test_links_in_a_circle_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to(tmp_path / "b")
        (tmp_path / "b").symlink_to(tmp_path / "a")
        with pytest.raises(InputError, match="cannot be written: Too many levels of symbolic links"):
            atomic_folder(tmp_path / "a", overwrite=True, owned=OWNED).__enter__()

    def test_place_that_is_no_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot be written: "):
            atomic_folder(tmp_path / "file" / "store").__enter__()
        with pytest.raises(InputError, match="file: is not a folder; name another place"):
            atomic_folder(tmp_path / "file", overwrite=True, owned=OWNED).__enter__()

    @staticmethod
    def old_folder(parent: Path) -> Path:
        path = parent / "store"
        path.mkdir()
        (path / "mark.json").touch()
        (path / "old.txt").touch()
        return path


def test_a_folder_or_output_in_a_store_or_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(InputError, match=f"{tmp_path}: is a SavedModel, and nothing else goes there"):
        atomic_folder(tmp_path / "new" / "x").__enter__()
    with pytest.raises(InputError, match=f"{tmp_path}: is a SavedModel, and nothing else goes there"):
        check_outputs([tmp_path / "new" / "x"])
    assert names_in(tmp_path) == ["saved_model.pb"]


class TestAtomicFiles:
    NAMES = ("a.txt", "sub/b.txt", "c.txt")

    def test_files_appear_together(self, tmp_path: Path) -> None:
        (tmp_path / "other.txt").touch()
        with atomic_files(tmp_path, self.NAMES, label="x") as folder:
            self.write(folder, "new")
            assert names_in(folder) == ["a.txt", "sub/b.txt"]
            assert not (tmp_path / "a.txt").exists()
        assert names_in(tmp_path) == ["a.txt", "other.txt", "sub/b.txt"]

    def test_failed_block_leaves_the_old_files(self, tmp_path: Path) -> None:
        self.write(tmp_path, "old")
        with pytest.raises(HalfwayError), atomic_files(tmp_path, self.NAMES, label="x", overwrite=True) as folder:
            write_half(folder / "a.txt")
        assert (tmp_path / "a.txt").read_text() == "old"
        assert names_in(tmp_path) == ["a.txt", "sub/b.txt"]

    def test_file_that_is_not_made_again_goes(self, tmp_path: Path) -> None:
        (tmp_path / "c.txt").write_text("old")
        with atomic_files(tmp_path, self.NAMES, label="x", overwrite=True) as folder:
            self.write(folder, "new")
        assert names_in(tmp_path) == ["a.txt", "sub/b.txt"]

    def test_former_files_go_where_they_are_its_own_and_it_overwrites(self, tmp_path: Path) -> None:
        for name in ("old.txt", "mine.txt"):
            (tmp_path / name).touch()
        former = ("old.txt", "mine.txt", "none.txt")
        for overwrite, left in ((False, ["mine.txt", "old.txt"]), (True, ["mine.txt"])):
            with atomic_files(
                tmp_path,
                ["a.txt"],
                label="x",
                overwrite=overwrite,
                is_own=lambda path: path.name != "mine.txt",
                former=former,
            ) as folder:
                (folder / "a.txt").touch()
            assert names_in(tmp_path) == ["a.txt", *left]

    def test_existing_file_is_refused_unless_asked(self, tmp_path: Path) -> None:
        (tmp_path / "c.txt").touch()
        with pytest.raises(InputError, match=r"c\.txt: already exists; name another place or give --overwrite"):
            atomic_files(tmp_path, self.NAMES, label="x").__enter__()

    def test_file_of_another_maker_is_not_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "c.txt").touch()
        with pytest.raises(InputError, match=r"c\.txt: was not made by this command as it is; name another place"):
            atomic_files(tmp_path, self.NAMES, label="x", overwrite=True, is_own=lambda path: False).__enter__()

    def test_kill_at_any_call_leaves_a_command_that_can_be_given_again(self, tmp_path: Path) -> None:
        code = f"""
with atomic_files(root, {self.NAMES!r}, label="x") as folder:
    (folder / "sub").mkdir()
    for name in ("a.txt", "sub/b.txt"):
        (folder / name).write_text("new")
"""
        num_calls = int(run(code, tmp_path).stdout)
        assert num_calls >= 12
        for number in range(num_calls):
            for name in names_in(tmp_path):
                (tmp_path / name).unlink()
            assert run(code, tmp_path, kill_at=number).returncode == KILLED
            again = run(code, tmp_path)
            assert again.returncode == 0 or "already exists" in again.stderr
            assert names_in(tmp_path) == ["a.txt", "sub/b.txt"], number

    @staticmethod
    def write(folder: Path, text: str) -> None:
        (folder / "sub").mkdir()
        for name in ("a.txt", "sub/b.txt"):
            (folder / name).write_text(text)


class TestCheckOutputs:
    def test_output_that_is_in_or_around_an_input_is_refused(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        (data / "inner").mkdir(parents=True)
        for output, how in ((data, "is"), (data / "inner" / ".." / "x", "lies in"), (tmp_path, "holds")):
            with pytest.raises(InputError, match=f": {how} {data}, which is read; name another place"):
                check_outputs([output], inputs=[data], overwrite=True)
        check_apart(tmp_path / "database", [data])

    def test_place_that_cannot_be_written_to_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match=r"a\.txt: cannot be written: Not a directory"):
            check_outputs([tmp_path / "file" / "inner" / "a.txt"])


def test_files_below_a_folder_are_those_of_people(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("i1.dcm", ".hidden", "a/i2", *NOBODYS, *(f"a/{name}" for name in NOBODYS)):
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)] == [".hidden", "a/i2", "i1.dcm"]


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "a") == expected


def test_a_loop_of_links_is_no_output_and_as_an_input_left_to_its_reader(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(InputError, match=r"loop: cannot be written: Too many levels of symbolic links$"):
        check_apart(loop, [tmp_path / "data"])
    check_apart(tmp_path / "out", [loop])
