import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from pynetdicom import AE
from pynetdicom.sop_class import (
    DigitalMammographyXRayImageStorageForPresentation,
    SegmentationStorage,
    Verification,
)

from mmgkeras import files
from mmgkeras.errors import InputError
from mmgkeras.inference.predict import predict
from mmgkeras.pacs import listener as module
from mmgkeras.pacs.listener import ListenOptions, listen
from mmgkeras.pacs.peer import Peer
from mmgkeras.pacs.spool import Spool, image_key

from .archive import TITLE, UNCLOSED, Archive, free_port
from .readings import write_source

PATIENCE_S = 60
SECRET = {"PatientName": "SECRET^NAME", "PatientID": "SECRET-ID", "AccessionNumber": "SECRET-A"}


def until(is_so: Callable[[], bool]) -> None:
    """Waits for something that must come."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


class Running:
    """A listener in a thread."""

    def __init__(self, options: ListenOptions) -> None:
        self.lines: list[str] = []
        self.port = 0
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(options,))
        self._thread.start()
        until(lambda: bool(self.port) or not self._thread.is_alive())

    def _run(self, options: ListenOptions) -> None:
        def ready(port: int) -> None:
            self.port = port

        try:
            listen(options, stop=self._stop, log=self.lines.append, ready=ready)
        except InputError as error:
            self.error = error

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def store(self, *paths: Path, caller: str = "PACS") -> list[Dataset]:
        """Sends files as a PACS does: the answers."""
        entity = AE(ae_title=caller)
        syntaxes = [dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID for path in paths]
        entity.add_requested_context(DigitalMammographyXRayImageStorageForPresentation, sorted({*syntaxes}))
        association = entity.associate("127.0.0.1", self.port, ae_title="MMGKERAS")
        assert association.is_established
        try:
            return [association.send_c_store(path) for path in paths]
        finally:
            association.release()


@pytest.fixture
def start(tmp_path: Path, deep_model_path: Path, archive: Archive) -> Iterator[Callable[..., Running]]:
    """Starts a listener that sends to the archive and ends with the test."""
    started: list[Running] = []

    def begin(**changes: Any) -> Running:
        options = {
            "model": deep_model_path,
            "send_to": archive.peer,
            "port": 0,
            "spool": tmp_path / "spool",
            "threshold": 0.01,
        }
        started.append(Running(ListenOptions(**(options | changes))))
        return started[-1]

    yield begin
    for running in started:
        running.close()


def waiting(tmp_path: Path) -> list[str]:
    return sorted(path.name for folder in (tmp_path / "spool").iterdir() for path in folder.iterdir())


def test_a_finer_model_beside_the_model_is_asked_of_fine_images(
    start: Callable[..., Running],
    archive: Archive,
    tmp_path: Path,
    export_mean_model: Callable[..., Path],
    export_finer_model: Callable[[Path], Path],
) -> None:
    model = export_mean_model(tmp_path / "mean" / "1", changes={"pixel_type": "uint16"})
    source = write_source(tmp_path / "s.dcm", ImagerPixelSpacing=[0.1, 0.1])

    def numbers() -> list[float]:
        """All of the report, the probabilities among them."""
        before, running = len(archive.received), start(model=model)
        assert [answer.Status for answer in running.store(source)] == [0]
        until(lambda: len(archive.received) == before + 3)
        running.close()
        sequences = (
            element for element in archive.received[-1].iterall() if element.keyword == "MeasuredValueSequence"
        )
        return [float(value.NumericValue) for sequence in sequences for value in sequence.value]

    alone = numbers()
    assert numbers() == alone
    export_finer_model(model)
    assert numbers() != alone


def test_marks_of_an_image_arrive_at_the_archive_and_nothing_stays(
    start: Callable[..., Running], archive: Archive, tmp_path: Path
) -> None:
    running = start()
    source = write_source(tmp_path / "Doe_Jane.dcm", **SECRET)
    (answer,) = running.store(source)
    assert answer.Status == 0
    until(lambda: len(archive.received) == 3 and waiting(tmp_path) == [])
    assert [result.Modality for result in archive.received] == ["OT", "SEG", "SR"]
    assert {str(result.PatientName) for result in archive.received} == {"SECRET^NAME"}
    assert {result.StudyInstanceUID for result in archive.received} == {"1.2.3"}
    assert archive.callers == {"MMGKERAS"}
    key = image_key("1.2.3.4")
    until(lambda: f"{key}: SC, SEG, SR sent to {archive.peer}" in running.lines)
    for word in ("SECRET", "Doe", "Jane", "1.2.3", "19600102"):
        assert word not in running.log


def test_the_log_says_of_an_image_what_predict_prints(
    start: Callable[..., Running], tmp_path: Path, deep_model_path: Path
) -> None:
    source = write_source(tmp_path / "s.dcm", **SECRET, ImageLaterality="R", LossyImageCompression="01")
    running = start(kinds=["sr"])
    running.store(source)
    (image,) = (done := predict([source], out=tmp_path / "out", models=[deep_model_path], threshold=0.01)).images
    key = image_key("1.2.3.4")
    until(lambda: f"{key}: SR sent" in running.log)
    assert ", hanging mirrored; pixel size unknown" in image.line()
    assert f"{key}{image.line().removeprefix(str(source))}; " in running.log
    own = [note.removeprefix(f"{source}: ") for note in done.notes if note.startswith(str(source))]
    assert own == ["was compressed with loss"]
    assert [line for line in running.lines if "note" in line] == [f"{key}: note: {note}" for note in own]
    assert "SECRET" not in running.log


def test_the_results_are_those_of_predict(
    start: Callable[..., Running], archive: Archive, tmp_path: Path, deep_model_path: Path
) -> None:
    source = write_source(tmp_path / "source.dcm")
    start().store(source)
    predict([source], out=tmp_path / "out", models=[deep_model_path], threshold=0.01, dicom_out=tmp_path / "results")
    until(lambda: len(archive.received) == 3)
    for received in archive.received:
        kind = {"OT": "sc", "SEG": "seg", "SR": "sr"}[received.Modality]
        written = dcmread(tmp_path / "results" / f"source-{kind}.dcm")
        assert (received.SOPInstanceUID, received.SeriesInstanceUID) == (
            written.SOPInstanceUID,
            written.SeriesInstanceUID,
        )


def test_compressed_images_of_one_association_are_marked_one_after_the_other(
    start: Callable[..., Running], archive: Archive, tmp_path: Path
) -> None:
    running = start(kinds=["sr"])
    paths = []
    for number in range(3):
        path = write_source(tmp_path / f"{number}.dcm", SOPInstanceUID=f"1.2.3.{number}")
        dataset = dcmread(path)
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        dataset.save_as(path)
        paths.append(path)
    assert [answer.Status for answer in running.store(*paths)] == [0, 0, 0]
    until(lambda: len(archive.received) == 3)
    assert [result.Modality for result in archive.received] == ["SR"] * 3
    sources = [result.CurrentRequestedProcedureEvidenceSequence[0] for result in archive.received]
    uids = [item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in sources]
    assert uids == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]


@pytest.mark.parametrize(
    ("attributes", "comment"),
    [
        ({"Modality": "CR"}, "must be a mammogram"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "must be FOR PRESENTATION"),
        ({"Rows": 161}, "damaged or cut short"),
        ({"SeriesInstanceUID": None}, "has no SeriesInstanceUID"),
    ],
)
def test_an_image_that_cannot_be_marked_is_answered_with_the_reason(
    start: Callable[..., Running], tmp_path: Path, attributes: dict[str, Any], comment: str
) -> None:
    running = start()
    (answer,) = running.store(write_source(tmp_path / "source.dcm", **SECRET, **attributes))
    assert answer.Status == 0xC000
    assert comment in answer.ErrorComment
    assert f"{image_key('1.2.3.4')}: not taken: " in running.log
    assert "SECRET" not in running.log + answer.ErrorComment
    assert str(tmp_path) not in running.log
    assert waiting(tmp_path) == []


@UNCLOSED
def test_when_too_many_wait_the_next_is_refused_and_results_are_sent_when_the_archive_is_back(
    start: Callable[..., Running], make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    port = free_port()
    running = start(send_to=Peer(TITLE, "127.0.0.1", port), limit=1, kinds=["sr"])
    paths = [write_source(tmp_path / f"{number}.dcm", SOPInstanceUID=f"1.2.{number}") for number in (1, 2)]
    assert [answer.Status for answer in running.store(*paths)] == [0, 0xA700]
    until(lambda: "cannot be reached; next try" in running.log)
    assert running.store(paths[1])[0].Status == 0xA700
    archive = make_archive(port=port)
    until(lambda: len(archive.received) == 1)
    until(lambda: waiting(tmp_path) == [])
    assert running.store(paths[1])[0].Status == 0
    until(lambda: len(archive.received) == 2)


def test_a_kind_that_the_archive_does_not_take_is_told_and_dropped(
    start: Callable[..., Running], make_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    archive = make_archive(without=[SegmentationStorage])
    running = start(send_to=archive.peer)
    running.store(write_source(tmp_path / "source.dcm"))
    until(lambda: "SEG not taken by" in running.log)
    until(lambda: waiting(tmp_path) == [])
    assert [result.Modality for result in archive.received] == ["OT", "SR"]


def test_after_an_unforeseen_fault_the_next_image_is_marked_and_the_faults_words_are_not_told(
    start: Callable[..., Running], archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def score(prepared: Any) -> Any:
        calls.append(prepared.mammogram.record.image_id)
        if len(calls) == 1:
            raise ValueError("SECRET^NAME")
        return real(prepared)

    real = module.score
    monkeypatch.setattr(module, "score", score)
    running = start(kinds=["sr"])
    running.store(*(write_source(tmp_path / f"{n}.dcm", SOPInstanceUID=f"1.2.{n}") for n in (1, 2)))
    until(lambda: len(archive.received) == 1)
    assert f"{image_key('1.2.1')}: not marked: unforeseen ValueError at test_listener.py:" in running.log
    assert "SECRET" not in running.log


def test_an_unforeseen_fault_of_taking_is_a_processing_failure(
    start: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise KeyError("SECRET^NAME")

    monkeypatch.setattr(module, "read_source", fail)
    running = start()
    (answer,) = running.store(write_source(tmp_path / "source.dcm"))
    assert answer.Status == 0x0110
    assert "SECRET" not in running.log
    assert waiting(tmp_path) == []


def test_on_a_full_disk_an_image_is_not_taken_and_one_that_was_taken_is_not_lost(
    start: Callable[..., Running], archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_WAIT_S", 1.0)
    full = {"results"}
    real = files.sync

    def sync(path: Path) -> None:
        if path.parent.name in full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path)

    monkeypatch.setattr(files, "sync", sync)
    running = start()
    paths = [write_source(tmp_path / f"{n}.dcm", SOPInstanceUID=f"1.2.{n}") for n in (1, 2)]
    assert running.store(paths[0])[0].Status == 0
    why = "cannot be kept: No space left on device"
    until(lambda: f"{image_key('1.2.1')}: results {why}; next try in 1 s" in running.log)
    full.add("images")
    (answer,) = running.store(paths[1])
    assert (answer.Status, answer.ErrorComment) == (0xA700, "cannot be kept")
    assert f"{image_key('1.2.2')}: not taken: {why}" in running.log
    full.clear()
    until(lambda: len(archive.received) == 3 and waiting(tmp_path) == [])
    assert str(tmp_path) not in running.log


def test_the_next_start_goes_on_with_what_waits(
    start: Callable[..., Running], archive: Archive, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool", limit=9)
    data = write_source(tmp_path / "source.dcm").read_bytes()
    for key in ("1", "2"):
        spool.add(key, data, check=lambda path: None)
    assert spool.take() is not None  # and the process dies
    (tmp_path / "spool" / "images" / "3.last").write_bytes(data)
    running = start(kinds=["sr"])
    until(lambda: len(archive.received) == 2)
    until(lambda: waiting(tmp_path) == [])
    assert running.lines[0] == "3: left out: the listener died twice over it"


def test_told_to_end_it_leaves_what_is_not_sent_yet_to_the_next_start(
    start: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spool" / "results").mkdir(parents=True)
    for key in ("1", "2"):
        (tmp_path / "spool" / "results" / f"{key}-sr.dcm").touch()
    is_sending, is_told = threading.Event(), threading.Event()

    def slowly(paths: list[Path], *_: Any, **__: Any) -> dict[Path, tuple[str, str]]:
        is_sending.set()
        is_told.wait(PATIENCE_S)
        return dict.fromkeys(paths, ("sent", ""))

    monkeypatch.setattr(module, "send", slowly)
    running = start()
    is_sending.wait(PATIENCE_S)
    running.stop()
    is_told.set()
    running.close()
    assert waiting(tmp_path) == ["2-sr.dcm"]


def test_only_callers_that_are_named_may_send(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start(callers=["PACS"])
    assert running.store(write_source(tmp_path / "source.dcm"))[0].Status == 0
    entity = AE(ae_title="STRANGER")
    entity.add_requested_context(Verification)
    assert entity.associate("127.0.0.1", running.port, ae_title="MMGKERAS").is_rejected


def test_it_answers_an_echo_and_takes_no_results_of_its_own(start: Callable[..., Running]) -> None:
    running = start()
    entity = AE(ae_title="PACS")
    entity.add_requested_context(Verification)
    entity.add_requested_context(SegmentationStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", running.port, ae_title="MMGKERAS")
    assert association.send_c_echo().Status == 0
    assert [context.abstract_syntax for context in association.accepted_contexts] == [Verification]
    association.release()


def test_a_port_that_is_taken_is_one_line(start: Callable[..., Running], archive: Archive) -> None:
    running = start(port=archive.peer.port)
    assert str(running.error).startswith(f"127.0.0.1:{archive.peer.port}: cannot be listened at: ")
