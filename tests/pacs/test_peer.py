import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom.association import Association
from pynetdicom.sop_class import SegmentationStorage

from mmgkeras.errors import InputError
from mmgkeras.pacs import peer
from mmgkeras.pacs.dicom_results import build_results
from mmgkeras.pacs.peer import Peer, check_title, send

from .archive import UNCLOSED, Archive, free_port
from .readings import reading_of, write_source


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ARCHIVE@pacs.example:104", ("ARCHIVE", "pacs.example", 104)),
        ("MY PACS@127.0.0.1:11112", ("MY PACS", "127.0.0.1", 11112)),
        ("A@[::1]:104", ("A", "::1", 104)),
    ],
)
def test_a_node_is_title_host_and_port(text: str, parts: tuple[str, str, int]) -> None:
    node = Peer.parse(text)
    assert (node.title, node.host, node.port) == parts
    assert str(node) == text


@pytest.mark.parametrize(
    "text", ["", "pacs:104", "A@pacs", "A@pacs:0", "A@pacs:65536", "A@:104", "A@pacs:x", "A@::1:104"]
)
def test_another_form_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match="must be TITLE@HOST:PORT"):
        Peer.parse(text)


@pytest.mark.parametrize("title", ["", "  ", "A" * 17, "A\\B", "Ä", "A\n"])
def test_a_title_is_short_ascii_without_a_backslash(title: str) -> None:
    with pytest.raises(InputError, match="1 to 16 ASCII characters"):
        check_title(title)


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Path]:
    """The files of an image's results by kind."""
    built = build_results(reading_of(write_source(tmp_path / "source.dcm"), patches={(4, 1): 0.9}))
    paths = {kind: tmp_path / f"{kind}.dcm" for kind in built}
    for kind, result in built.items():
        result.save_as(paths[kind], enforce_file_format=True)
    return paths


def outcomes(results: dict[str, Path], archive: Archive) -> dict[str, Any]:
    told = send(list(results.values()), archive.peer, title="MMGKERAS")
    return {kind: told[path] for kind, path in results.items()}


class TestSend:
    def test_all_files_arrive_as_they_are(self, results: dict[str, Path], archive: Archive) -> None:
        assert outcomes(results, archive) == dict.fromkeys(results, ("sent", ""))
        assert [received.Modality for received in archive.received] == ["OT", "SEG", "SR"]
        assert archive.callers == {"MMGKERAS"}

    def test_a_kind_that_the_node_does_not_take_is_refused_and_the_rest_is_sent(
        self, results: dict[str, Path], make_archive: Callable[..., Archive]
    ) -> None:
        archive = make_archive(without=[SegmentationStorage])
        told = outcomes(results, archive)
        assert told["seg"] == ("refused", "it does not take files of this kind")
        assert told["sc"] == told["sr"] == ("sent", "")

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [(0x0000, "sent"), (0xB000, "sent"), (0xA700, "later"), (0xA900, "refused"), (0xC000, "refused")],
    )
    def test_the_status_decides(
        self, results: dict[str, Path], make_archive: Callable[..., Archive], status: int, outcome: str
    ) -> None:
        archive = make_archive(status=status)
        assert {told for told, _ in outcomes(results, archive).values()} == {outcome}

    @UNCLOSED
    def test_a_node_that_is_not_there_or_rejects_gets_another_try(
        self, results: dict[str, Path], archive: Archive
    ) -> None:
        absent = Peer("ARCHIVE", "127.0.0.1", free_port())
        told = send([results["sr"]], absent, title="MMGKERAS")
        assert told == {results["sr"]: ("later", "it cannot be reached")}
        other = Peer("OTHER", "127.0.0.1", archive.peer.port)
        told = send([results["sr"]], other, title="MMGKERAS")
        assert told == {results["sr"]: ("later", "it rejects the association")}

    @pytest.mark.parametrize("kept", [0, 100, 2000, -1])
    def test_a_file_that_is_damaged_is_refused_and_the_rest_is_sent(
        self, results: dict[str, Path], archive: Archive, kept: int
    ) -> None:
        results["sc"].write_bytes(results["sc"].read_bytes()[:kept])
        told = outcomes(results, archive)
        assert told.pop("sc") == ("refused", "its file is damaged")
        assert set(told.values()) == {("sent", "")}
        assert send([results["sc"]], archive.peer, title="MMGKERAS") == {
            results["sc"]: ("refused", "its file is damaged")
        }

    @UNCLOSED
    def test_a_wait_of_pynetdicom_that_does_not_end_gets_another_try(
        self, results: dict[str, Path], archive: Archive, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As for a thread of it that has ended: it looks every 0.1 ms, for ever, whether that has paused."""
        released = threading.Event()
        monkeypatch.setattr(Association, "send_c_store", lambda *_: released.wait(10))
        monkeypatch.setattr(peer, "_CONNECT_S", 0.1)
        monkeypatch.setattr(peer, "_ANSWER_S", 0.1)
        monkeypatch.setattr(peer, "_SLOWEST_BYTES", 10**9)
        try:
            assert set(outcomes(results, archive).values()) == {("later", "no end of sending")}
        finally:
            released.set()

    @UNCLOSED
    def test_an_association_that_breaks_when_a_file_is_to_be_sent_gets_another_try(
        self, results: dict[str, Path], archive: Archive, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = Association.send_c_store

        def broken(association: Association, result: Dataset) -> Dataset:
            association.abort()
            return store(association, result)

        monkeypatch.setattr(Association, "send_c_store", broken)
        assert outcomes(results, archive) == dict.fromkeys(results, ("later", "the association broke"))
