import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import Dataset

from mmgkeras.errors import InputError
from mmgkeras.locks import HIDDEN
from mmgkeras.pacs.spool import Spool, image_key, open_spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", limit=2)


def accept(path: Path) -> None:
    assert path.is_file()


def result() -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2"
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def test_a_key_is_of_the_uid_and_says_nothing_of_side_or_view() -> None:
    assert image_key("1.2.3") == image_key("1.2.3") != image_key("1.2.4")
    assert image_key("1.2.3").isdecimal()
    assert len(image_key("1.2.3")) == 16


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.3.27"])
def test_the_command_of_the_docs_gives_the_key(uid: str) -> None:
    page = (Path(__file__).parents[2] / "docs/pacs.md").read_text()
    code = page.partition('python3 -c "')[2].partition('"')[0].replace("\n    ", "\n")
    told = subprocess.run([sys.executable, "-c", code, uid], capture_output=True, text=True, check=True).stdout
    assert told.strip() == image_key(uid)


def test_images_are_taken_in_the_order_in_which_they_came(spool: Spool) -> None:
    for key in ("2", "1", "3"):
        spool.add(key, key.encode(), check=accept)
    taken = []
    while (path := spool.take()) is not None:
        taken.append((path.stem, path.read_bytes()))
        path.unlink()
    assert taken == [("2", b"2"), ("1", b"1"), ("3", b"3")]


def test_an_image_that_is_refused_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        assert path.read_bytes() == b"x"
        raise InputError("no mammogram")

    with pytest.raises(InputError, match="no mammogram"):
        spool.add("1", b"x", check=refuse)
    assert list((tmp_path / "spool" / "images").iterdir()) == []


def test_images_and_images_with_results_count_together(spool: Spool) -> None:
    spool.add("1", b"", check=accept)
    spool.add("1", b"", check=accept)
    assert not spool.is_full
    spool.keep("2", {kind: result() for kind in ("sc", "sr")})
    assert spool.is_full
    assert [(key, [path.name for path in paths]) for key, paths in spool.results()] == [("2", ["2-sc.dcm", "2-sr.dcm"])]


def test_an_image_over_which_the_process_dies_comes_twice_and_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    Spool(folder, limit=2).add("1", b"x", check=accept)
    for _ in range(2):
        again = Spool(folder, limit=2)
        assert again.give_up() == []
        path = again.take()
        assert path is not None
        assert path.read_bytes() == b"x"
    last = Spool(folder, limit=2)
    assert last.take() is None
    assert last.give_up() == ["1"]
    assert list((folder / "images").iterdir()) == []


def test_an_image_that_is_put_back_is_the_next_again(spool: Spool) -> None:
    for key in ("2", "1"):
        spool.add(key, key.encode(), check=accept)
    for _ in range(3):
        path = spool.take()
        assert path is not None
        assert path.name == "2.first"
        spool.put_back(path)


def test_of_results_that_cannot_all_be_written_none_stays(spool: Spool) -> None:
    with pytest.raises(ValueError, match="file meta"):
        spool.keep("1", {"sc": result(), "sr": Dataset()})
    assert spool.results() == []


def test_what_was_half_written_when_a_process_died_goes(tmp_path: Path) -> None:
    left = tmp_path / "spool" / "images" / ".1.new.0123456789abcdef.partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"secret")
    assert HIDDEN.fullmatch(left.name)
    Spool(tmp_path / "spool", limit=2)
    assert not left.exists()


def test_it_is_its_owners_alone(spool: Spool, tmp_path: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "spool").iterdir()} == {0o700}


def test_one_process_has_it_at_a_time(tmp_path: Path) -> None:
    with (
        open_spool(tmp_path / "spool", limit=1),
        pytest.raises(InputError, match="another process"),
        open_spool(tmp_path / "spool", limit=1),
    ):
        pass
