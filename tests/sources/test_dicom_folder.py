"""The importer of DICOM folders: what it takes, what it leaves out, and that no patient is named."""

import errno
import hmac
import os
import shutil
import stat
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pytest

from mmgkeras.errors import InputError
from mmgkeras.images import read, read_pixels, read_with_header
from mmgkeras.processes import Processes
from mmgkeras.ray_actors import RayActors
from mmgkeras.sources.dicom_folder import DicomImport, import_dicom
from mmgkeras.tables import read_images
from tests.images.dicom_files import file_of, mammogram
from tests.processes import KilledActor
from tests.sources.test_dicomdir import write_dicomdir

SECRET = "k" * 32
NAMES = ("Doe", "Jane", "4711", "0815", "1960", "20150929", "1.2.840.1")


def breast(seed: int, *, wall: str = "left") -> np.ndarray:
    """(90, 60) stored values of 12 bits: a half disc whose straight edge is at the wall."""
    rows, cols = np.ogrid[:90, :60]
    is_breast = (rows - 45) ** 2 + cols**2 < 38**2
    stored = np.where(is_breast, np.random.default_rng(seed).integers(1500, 2500, (90, 60)), 0)
    return stored if wall == "left" else stored[:, ::-1]


def put(path: Path, stored: np.ndarray, *, patient: str, side: str, view: str, number: int, **others: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes = {
        "PatientID": patient,
        "ImageLaterality": side,
        "ViewPosition": view,
        "SOPInstanceUID": f"1.2.840.1.{number}",
        "StudyDate": "20150929",
        "ImagerPixelSpacing": [0.1, 0.1],
        **others,
    }
    path.write_bytes(file_of(mammogram(stored, **attributes)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two patients of one name, a copy, a mirrored image, and what is no mammogram."""
    folder = tmp_path / "export" / "Doe^Jane 19600102"
    put(folder / "1.dcm", breast(1), patient="4711", side="L", view="CC", number=1)
    put(folder / "2", breast(2), patient=" 4711 ", side="R", view="MLO", number=2)
    put(folder / "more" / "3.dcm", breast(3), patient="0815", side="L", view="MLO", number=3, ImagerPixelSpacing=None)
    put(folder / "more" / "3 again.dcm", breast(3), patient="0815", side="L", view="MLO", number=3)
    put(folder / "tomo.dcm", breast(4), patient="0815", side="L", view="CC", number=4, NumberOfFrames=9)
    put(folder / "sideless.dcm", breast(5), patient="0815", side="", view="CC", number=5)
    put(folder / "nobody.dcm", breast(6), patient="", side="L", view="CC", number=6)
    (folder / "cut.dcm").write_bytes((folder / "1.dcm").read_bytes()[:-500])
    (folder / "letter.txt").write_text("Dear Mrs Doe")
    (tmp_path / "out.key").write_text(SECRET)
    return folder.parent


def imported(source: Path, **options: object) -> DicomImport:
    return import_dicom(source, source.parent / "out", **options)  # type: ignore[arg-type]


def test_what_is_taken_and_what_is_left_out(source: Path) -> None:
    done = imported(source)
    assert (done.num_images, done.num_patients, done.num_damaged) == (3, 2, 1)
    assert sorted(done.left_out.values()) == [1] * 6
    reasons = "\n".join(done.left_out)
    for part in ("9 frames", "damaged", "no DICOM file", "Patient ID", "which breast", "copy of another"):
        assert part in reasons
    table = pd.read_csv(source.parent / "out/import.csv", dtype=str, keep_default_na=False)
    assert list(table["result"].value_counts().items()) == [("left out", 6), ("taken", 3)]
    assert set(table.loc[table["result"] == "taken", "voi"]) == {"none"}
    assert set(table["image_id"]) - {""} == {
        record.image_id for record in read_images(source.parent / "out/images.csv")
    }


def test_the_table_reads_back_and_its_pixels_are_those_of_the_files(source: Path) -> None:
    imported(source)
    out = source.parent / "out"
    records = {(record.laterality, record.view): record for record in read_images(out / "images.csv")}
    assert sorted(records) == [("L", "CC"), ("L", "MLO"), ("R", "MLO")]
    first = records["L", "CC"]
    np.testing.assert_array_equal(read(first, out).pixels, read_pixels(source / "Doe^Jane 19600102/1.dcm"))
    assert (first.annotation, first.spacing_mm, first.chest_wall) == ("none", 0.1, None)
    assert records["R", "MLO"].chest_wall == "left"
    assert first.patient_id == records["R", "MLO"].patient_id != records["L", "MLO"].patient_id


def test_ids_are_the_keyed_hash_of_the_patient_id(source: Path) -> None:
    imported(source)
    expected = "p" + hmac.new(SECRET.encode(), b"patient\x004711", "sha256").hexdigest()[:16]
    ids = {record.patient_id for record in read_images(source.parent / "out/images.csv")}
    assert expected in ids


def test_links_that_are_not_followed_are_counted(source: Path) -> None:
    (source / "link").symlink_to(source / "Doe^Jane 19600102")
    line = "links to folders and broken links, which are not followed: 1"
    assert line in imported(source).notes[0]
    shutil.rmtree(source / "Doe^Jane 19600102")  # which leaves a broken link
    with pytest.raises(InputError, match=f"Received: no file\n.*{line}"):
        import_dicom(source, source.parent / "new")


@pytest.mark.parametrize("other", ["p 4711", "\uff30\u3000\uff14\uff17\uff11\uff11", "P\u200b 4711", "P\xa04711"])
def test_patient_ids_that_a_person_takes_for_one_are_one_patient(tmp_path: Path, other: str) -> None:
    for number, patient in enumerate(("P 4711", other)):
        charset = {"SpecificCharacterSet": "ISO_IR 192"}
        put(tmp_path / f"in/{number}", breast(number), patient=patient, side="L", view="CC", number=number, **charset)
    assert import_dicom(tmp_path / "in", tmp_path / "out").num_patients == 1


def test_images_that_share_a_uid_but_no_pixels_are_all_taken(tmp_path: Path) -> None:
    for name, seed, patient in (("1", 1, "P"), ("2", 2, "P"), ("3", 2, "P"), ("4", 3, "Q")):
        put(tmp_path / "in" / name, breast(seed), patient=patient, side="L", view="CC", number=1)
    done = import_dicom(tmp_path / "in", tmp_path / "out")
    assert (done.num_images, done.num_patients) == (3, 2)
    assert dict(done.left_out) == {"is a copy of another file's image": 1}
    remarks = pd.read_csv(tmp_path / "out/import.csv")["remark"].value_counts()
    assert remarks["another file has its SOP Instance UID and other pixels"] == 2
    pixels = [read(record, tmp_path / "out").pixels for record in read_images(tmp_path / "out/images.csv")]
    assert len({one.tobytes() for one in pixels}) == 3


def test_no_name_date_or_number_is_in_the_folder(source: Path) -> None:
    imported(source)
    files = [path for path in (source.parent / "out").rglob("*") if path.is_file()]
    assert len(files) == 6
    for path in files:
        content = path.read_bytes().decode("latin-1") if path.suffix != ".png" else ""
        assert not [name for name in NAMES if name in content or name in path.name]


def test_the_key_and_the_table_of_files_are_the_users_alone(source: Path) -> None:
    (source.parent / "out.key").unlink()
    done = imported(source)
    assert (done.key, done.files) == (source.parent / "out.key", source.parent / "out.files.csv")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (done.key, done.files)] == [0o600, 0o600]
    private = pd.read_csv(done.files, dtype=str)
    table = pd.read_csv(source.parent / "out/import.csv", dtype=str)
    assert sorted(private["file"]) == sorted(table["file"])
    letter = private.loc[private["path"].str.endswith("letter.txt"), "file"].item()
    assert "no DICOM file" in table.set_index("file")["remark"][letter]


def test_a_name_that_is_no_utf_8_and_one_with_a_return_are_in_the_table_of_files(source: Path) -> None:
    names = [os.fsencode(source) + b"/M\xfcller.dcm", os.fsencode(source) + b"/a\rb.dcm"]
    for number, name in enumerate(names, start=7):
        put(Path(os.fsdecode(name)), breast(number), patient="1", side="L", view="CC", number=number)
    private = pd.read_csv(imported(source).files, dtype=str)
    assert len(private) == 11
    assert {f"{source}/M\\udcfcller.dcm", f"{source}/a\rb.dcm"} <= set(private["path"])


def test_a_folder_that_may_not_be_read_ends_the_import(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(place: str) -> Any:
        if Path(place).name == "more":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="more: cannot be read: Permission denied"):
        imported(source)


def test_what_a_header_has_is_written_as_images_csv_can_hold_it(source: Path) -> None:
    shutil.rmtree(source / "Doe^Jane 19600102")
    odd = {"Manufacturer": "GE\x1b[31m\x00MED", "EstimatedRadiographicMagnificationFactor": "0.0001"}
    put(source / "1.dcm", breast(1), patient="1", side="L", view="CC", number=1, **odd)
    imported(source)
    (record,) = read_images(source.parent / "out/images.csv")
    assert (record.vendor, record.spacing_mm) == ("GE [31m MED", None)


def test_processes_and_runs_give_the_same_bytes(source: Path) -> None:
    imported(source)
    out = source.parent / "out"
    first = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    imported(source, workers=Processes(2), overwrite=True)
    assert first == {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("ray_cluster")
def test_ray_gives_the_same_bytes_although_an_actor_is_killed(source: Path) -> None:
    imported(source)
    out = source.parent / "out"
    first = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    killed = KilledActor(2)
    imported(source, workers=RayActors(), overwrite=True, track=killed)
    assert killed.killed
    assert first == {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_killed_call_goes_on_with_what_it_had(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = imported(source).num_images
    out = source.parent / "out"
    bytes_of = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    read: list[str] = []

    def until(path: Path, **options: Any) -> Any:
        if len(read) == 4:
            raise KeyboardInterrupt
        read.append(path.name)
        return read_with_header(path, **options)

    monkeypatch.setattr("mmgkeras.sources.dicom_folder.read_with_header", until)
    with pytest.raises(KeyboardInterrupt):
        imported(source, overwrite=True)
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == bytes_of
    monkeypatch.setattr("mmgkeras.sources.dicom_folder.read_with_header", read_with_header)
    again = [path.name for path in source.rglob("*") if path.is_file() and path.name not in read]
    seen: list[str] = []

    def counted(path: Path, **options: Any) -> Any:
        seen.append(path.name)
        return read_with_header(path, **options)

    monkeypatch.setattr("mmgkeras.sources.dicom_folder.read_with_header", counted)
    assert imported(source, overwrite=True).num_images == expected
    assert sorted(seen) == sorted(set(again) - {"letter.txt"})
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == bytes_of
    assert sorted(path.name for path in out.parent.iterdir()) == ["export", "out", "out.files.csv", "out.key"]


def test_a_dicomdir_names_the_files_that_count(source: Path) -> None:
    folder = source / "Doe^Jane 19600102"
    path = write_dicomdir(folder, "1.dcm", ["MORE", "3.DCM"], "gone.dcm")
    done = import_dicom(path, source.parent / "out")
    assert done.num_images == 2
    assert done.left_out == {"cannot be read: No such file or directory": 1}
    ids = {record.image_id for record in read_images(source.parent / "out/images.csv")}
    import_dicom(source, source.parent / "whole", key=source.parent / "out.key")
    assert ids < {record.image_id for record in read_images(source.parent / "whole/images.csv")}


def test_kinds_that_are_taken_when_asked_for(tmp_path: Path) -> None:
    put(tmp_path / "in/1", breast(1), patient="1", side="L", view="CC", number=1)
    secondary, raw = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, {"PresentationIntentType": "FOR PROCESSING"}
    put(tmp_path / "in/2", breast(2), patient="1", side="R", view="CC", number=2, **secondary)
    put(tmp_path / "in/3", breast(3), patient="1", side="R", view="MLO", number=3, **raw)
    assert import_dicom(tmp_path / "in", tmp_path / "none").num_images == 1
    done = import_dicom(tmp_path / "in", tmp_path / "all", take=["secondary-capture", "for-processing"])
    assert (done.num_images, done.left_out) == (3, {})
    table = pd.read_csv(tmp_path / "all/import.csv", dtype=str)
    assert sorted(table["voi"]) == ["log transform", "none", "none"]


def test_how_it_hangs_by_patient_orientation(tmp_path: Path) -> None:
    flat = np.full((90, 60), 2000)
    put(tmp_path / "in/1", flat, patient="1", side="L", view="CC", number=1, PatientOrientation=["P", "L"])
    put(tmp_path / "in/2", flat, patient="1", side="R", view="CC", number=2, PatientOrientation=["R", "A"])
    done = import_dicom(tmp_path / "in", tmp_path / "out")
    (record,) = read_images(tmp_path / "out/images.csv")
    assert record.chest_wall == "right"
    assert done.left_out == {"lies on its side: by Patient Orientation the chest wall is at the top edge": 1}


def test_another_key_gives_other_ids(source: Path) -> None:
    imported(source)
    import_dicom(source, source.parent / "other")
    ids = [
        {record.patient_id for record in read_images(source.parent / name / "images.csv")} for name in ("out", "other")
    ]
    assert ids[0].isdisjoint(ids[1])


def test_a_window_by_its_number(source: Path, tmp_path: Path) -> None:
    windows = {"WindowCenter": [1000, 3000], "WindowWidth": [100, 4000]}
    put(tmp_path / "one/a", breast(1), patient="1", side="L", view="CC", number=9, **windows)
    import_dicom(tmp_path / "one", tmp_path / "first")
    import_dicom(tmp_path / "one", tmp_path / "second", voi=2)
    (first,), (second,) = (read_images(tmp_path / name / "images.csv") for name in ("first", "second"))
    assert set(np.unique(read(first, tmp_path / "first").pixels)) == {0, 65535}
    assert len(np.unique(read(second, tmp_path / "second").pixels)) > 100


def test_patient_ids_that_name_images_are_noted(tmp_path: Path) -> None:
    for number in (1, 2):
        put(tmp_path / f"in/{number}", breast(number), patient=f"{number}_CC", side="L", view="CC", number=number)
    assert any("patients are not kept apart" in note for note in import_dicom(tmp_path / "in", tmp_path / "out").notes)


def test_patient_ids_that_differ_in_leading_zeros_are_noted(tmp_path: Path) -> None:
    for number, patient in enumerate(("0012", "12", "120")):
        for side in "LR":
            path = tmp_path / f"in/{number}{side}"
            put(
                path,
                breast(len(path.name) + number),
                patient=patient,
                side=side,
                view="CC",
                number=2 * number + (side == "R"),
            )
    done = import_dicom(tmp_path / "in", tmp_path / "out")
    (note,) = [note for note in done.notes if "leading zeros" in note]
    named = [one for one in {record.patient_id for record in read_images(tmp_path / "out/images.csv")} if one in note]
    assert (done.num_patients, len(named)) == (3, 2)


def test_patient_ids_that_say_nothing_are_remarked(tmp_path: Path) -> None:
    for number, patient in enumerate(("ANONYMIZED", "ANONYMIZED", "12")):
        put(tmp_path / f"in/{number}", breast(number), patient=patient, side="L", view="CC", number=number)
    import_dicom(tmp_path / "in", tmp_path / "out")
    remarks = pd.read_csv(tmp_path / "out/import.csv")["remark"].value_counts()
    assert dict(remarks) == {"its Patient ID stands for nobody, so that several patients may be one": 2}


class TestRefusals:
    def test_a_folder_without_mammograms_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in/a.txt").write_text("x")
        with pytest.raises(
            InputError, match=r"holds no mammogram that can be taken\. Received: 1 of 1 files: is no DICOM"
        ):
            import_dicom(tmp_path / "in", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.files.csv").exists()

    def test_a_source_that_is_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="must be a folder with DICOM files, or a DICOMDIR"):
            import_dicom(tmp_path / "in", tmp_path / "out")

    def test_a_key_that_is_too_short(self, source: Path) -> None:
        (source.parent / "out.key").write_text("secret")
        with pytest.raises(InputError, match=r"out.key: must hold a key of at least 32 characters. Received: 6"):
            imported(source)

    def test_results_that_are_there(self, source: Path) -> None:
        imported(source)
        with pytest.raises(InputError, match="already exists"):
            imported(source)
        (source.parent / "out/regions.csv").write_text("mine")
        with pytest.raises(InputError, match=r"holds regions.csv, which this command did not make"):
            imported(source, overwrite=True)

    def test_the_table_of_a_call_that_was_killed_before_its_folder_was_there_is_replaced(self, source: Path) -> None:
        table = imported(source).files
        shutil.rmtree(source.parent / "out")
        assert imported(source).num_images == 3
        shutil.rmtree(source.parent / "out")
        table.write_text("mine")
        with pytest.raises(InputError, match="already exists"):
            imported(source)
        assert table.read_text() == "mine"

    def test_a_result_within_the_source(self, source: Path) -> None:
        with pytest.raises(InputError, match="which is read"):
            import_dicom(source, source / "out")

    def test_a_file_that_may_not_be_read_is_listed(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = Path.open

        def refuse(path: Path, *arguments: str, **options: str) -> IO[Any]:
            if path.name == "1.dcm":
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return opened(path, *arguments, **options)  # type: ignore[call-overload]

        monkeypatch.setattr(Path, "open", refuse)
        done = imported(source)
        assert (done.left_out["cannot be read: Permission denied"], done.num_damaged) == (1, 2)
