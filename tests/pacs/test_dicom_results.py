import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread

from mmgkeras.errors import InputError
from mmgkeras.images import read_pixels
from mmgkeras.inference.detection import mark_map
from mmgkeras.pacs.dicom_results import KINDS, build_results, dicom_files, read_source

from .readings import ALGORITHM, reading_of, write_source

TWO = {(4, 1): 0.97, (6, 2): 0.8}
TIMES = (
    "InstanceCreationDate",
    "InstanceCreationTime",
    "ContentDate",
    "ContentTime",
    "DateOfSecondaryCapture",
    "TimeOfSecondaryCapture",
    "ContributingEquipmentSequence",
)
PATIENT = {
    "PatientName": "Doe^Jane",
    "PatientID": "4711",
    "PatientBirthDate": "19600102",
    "PatientSex": "F",
    "PatientAge": "065Y",
    "StudyInstanceUID": "1.2.3",
    "StudyDate": "20250304",
    "StudyTime": "101112",
    "AccessionNumber": "A17",
    "StudyDescription": "Screening",
    "ReferringPhysicianName": "House^Gregory",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.dcm")


def saved(results: dict[Any, Dataset], folder: Path) -> dict[str, Dataset]:
    """The results as they are read back."""
    read = {}
    for kind, result in results.items():
        path = folder / f"result-{kind}.dcm"
        result.save_as(path, enforce_file_format=True)
        read[kind] = dcmread(path)
    return read


def referred(dataset: Dataset) -> set[str]:
    """All UIDs that a data set refers to, at any depth."""
    return {
        str(element.value)
        for element in dataset.iterall()
        if element.keyword in ("ReferencedSOPInstanceUID", "ReferencedSOPClassUID")
    }


class TestAllResults:
    def test_they_belong_to_the_patient_and_the_study_in_series_of_their_own(
        self, source: Path, tmp_path: Path
    ) -> None:
        before = source.read_bytes()
        results = saved(build_results(reading_of(source, patches=TWO)), tmp_path)
        assert list(results) == list(KINDS)
        for result in results.values():
            assert {keyword: str(result[keyword].value) for keyword in PATIENT} == PATIENT
            assert referred(result) == {"1.2.3.4", "1.2.840.10008.5.1.4.1.1.1.2"}
            assert "research use only" in result.SeriesDescription
            assert result.Manufacturer == "mmgkeras"
            assert result.InstanceNumber == 7
        assert [result.Modality for result in results.values()] == ["OT", "SEG", "SR"]
        uids = {uid for result in results.values() for uid in (result.SeriesInstanceUID, result.SOPInstanceUID)}
        assert len(uids) == 6
        assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
        assert source.read_bytes() == before

    def test_the_same_image_and_model_give_the_same_files_but_for_their_times(self, source: Path) -> None:
        first, second = (build_results(reading_of(source, patches=TWO)) for _ in range(2))
        for kind in KINDS:
            for result in (first[kind], second[kind]):
                for keyword in TIMES:
                    if keyword in result:
                        del result[keyword]
            assert first[kind] == second[kind]

    @pytest.mark.parametrize(
        "changes", [{"threshold": 0.6}, {"patches": TWO | {(4, 1): 0.96}}, {"patches": {(4, 1): 0.97}}]
    )
    def test_another_threshold_or_mark_gives_other_uids(self, source: Path, changes: dict[str, Any]) -> None:
        first = build_results(reading_of(source, patches=TWO))
        second = build_results(reading_of(source, **({"patches": TWO} | changes)))
        assert all(first[kind].SOPInstanceUID != second[kind].SOPInstanceUID for kind in KINDS)

    def test_images_of_a_study_share_series_where_they_share_a_frame_of_reference(self, tmp_path: Path) -> None:
        first, second, apart = (
            build_results(
                reading_of(
                    write_source(tmp_path / f"{uid}.dcm", SOPInstanceUID=uid, FrameOfReferenceUID=frame), patches=TWO
                )
            )
            for uid, frame in (("1.2.5", None), ("1.2.6", None), ("1.2.7", "1.2.99"))
        )
        for kind in KINDS:
            assert first[kind].SeriesInstanceUID == second[kind].SeriesInstanceUID != apart[kind].SeriesInstanceUID
            assert first[kind].SOPInstanceUID != second[kind].SOPInstanceUID

    @pytest.mark.parametrize(
        ("charset", "name"),
        [
            (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
            ("ISO_IR 100", "Müller^Jürgen"),
            ("ISO_IR 192", "Ιωάννου^Μαρία"),
        ],
    )
    def test_names_in_other_scripts_stay(self, tmp_path: Path, charset: object, name: str) -> None:
        path = write_source(tmp_path / "source.dcm", SpecificCharacterSet=charset, PatientName=name)
        for result in saved(build_results(reading_of(path, patches=TWO)), tmp_path).values():
            assert str(result.PatientName) == name

    def test_odd_headers_are_taken_as_they_are_and_nothing_of_them_is_logged(
        self,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("pydicom", "highdicom"):  # a command that ran before may have turned them off
            monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level(logging.DEBUG)
        path = write_source(
            tmp_path / "source.dcm",
            PatientName="SECRET",
            PatientSex="W",
            PatientBirthDate="00000000",
            PatientOrientation=["A", "FR"],
            AccessionNumber="SECRET number that is too long",
            StudyTime=None,
            StudyID=None,
            ReferringPhysicianName=None,
            InstanceNumber=-3,
        )
        results = saved(build_results(reading_of(path, patches=TWO)), tmp_path)
        assert results["sc"].PatientOrientation == results["seg"].PatientOrientation == ["A", "FR"]
        for result in results.values():
            assert (str(result.PatientName), result.PatientSex) == ("SECRET", "W")
            assert not result.PatientBirthDate
            assert not result.StudyTime
            assert result.InstanceNumber == 1
        assert "SECRET" not in caplog.text + "".join(capfd.readouterr())

    def test_a_header_that_tells_next_to_nothing_is_enough(self, tmp_path: Path) -> None:
        bare = dict.fromkeys(
            [*PATIENT, "StudyID", "PatientOrientation", "InstanceNumber", "BurnedInAnnotation", "ViewCodeSequence"]
        )
        path = write_source(tmp_path / "source.dcm", **(bare | {"StudyInstanceUID": "1.2.3"}))
        results = saved(build_results(reading_of(path, patches=TWO)), tmp_path)
        assert [str(result.PatientName) for result in results.values()] == [""] * 3

    @pytest.mark.parametrize(
        ("keyword", "value", "stays"),
        [
            ("StudyTime", "101112.123", True),
            ("StudyTime", "10", True),
            ("StudyTime", "10:11:12", False),
            ("StudyTime", "259999", False),
            ("StudyTime", "9", False),
            ("StudyDate", "20240229", True),
            ("StudyDate", "2024229", False),
            ("StudyDate", "2024.02.29", False),
            ("PatientBirthDate", "00000000", False),
        ],
    )
    def test_dates_and_times_that_are_none_are_left_empty(
        self, tmp_path: Path, keyword: str, value: str, stays: bool
    ) -> None:
        path = write_source(tmp_path / "source.dcm", **{keyword: value})
        for result in build_results(reading_of(path, patches=TWO)).values():
            assert str(result[keyword].value or "") == (value if stays else "")

    def test_the_header_of_the_source_is_not_changed(self, tmp_path: Path) -> None:
        reading = reading_of(write_source(tmp_path / "source.dcm", PatientBirthDate="00000000"), patches=TWO)
        before = reading.source.to_json()
        build_results(reading)
        assert reading.source.to_json() == before
        assert reading.source.PatientBirthDate == "00000000"

    @pytest.mark.parametrize(
        "lossy",
        [
            {
                "LossyImageCompression": "01",
                "LossyImageCompressionRatio": 7,
                "LossyImageCompressionMethod": "ISO_10918_1",
            },
            {"LossyImageCompression": "00"},
        ],
    )
    def test_images_say_that_their_source_was_compressed_with_loss(self, tmp_path: Path, lossy: dict[str, Any]) -> None:
        results = build_results(reading_of(write_source(tmp_path / "source.dcm", **lossy), patches=TWO))
        for kind in ("sc", "seg"):
            assert {keyword: results[kind][keyword].value for keyword in lossy} == lossy
        assert "LossyImageCompression" not in results["sr"]

    def test_an_instance_number_that_is_none_becomes_1(self, tmp_path: Path) -> None:
        path = write_source(tmp_path / "source.dcm", InstanceNumber=["3", "4"])
        assert [result.InstanceNumber for result in build_results(reading_of(path, patches=TWO)).values()] == [1] * 3

    def test_a_file_without_preamble_has_results_too(self, source: Path, tmp_path: Path) -> None:
        data = source.read_bytes()
        start = 144 + int.from_bytes(data[140:144], "little")
        bare = tmp_path / "bare.dcm"
        bare.write_bytes(data[start:])
        results = build_results(reading_of(bare, patches=TWO))
        assert {kind: result.SOPInstanceUID for kind, result in results.items()} == {
            kind: result.SOPInstanceUID for kind, result in build_results(reading_of(source, patches=TWO)).items()
        }

    @pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
    def test_a_header_without_a_uid_is_refused(self, tmp_path: Path, keyword: str) -> None:
        path = write_source(tmp_path / "source.dcm", **{keyword: None})
        with pytest.raises(InputError, match=f"has no {keyword}, which DICOM results refer to"):
            read_source(path)

    def test_other_formats_are_refused(self, tmp_path: Path) -> None:
        Image.new("L", (300, 300)).save(tmp_path / "my.png")
        with pytest.raises(InputError, match="must be DICOM"):
            read_source(tmp_path / "my.png")

    @pytest.mark.parametrize(
        "attributes",
        [
            {},
            {"is_right": True},
            {"PhotometricInterpretation": "MONOCHROME1"},
            {"ViewCodeSequence": None, "PatientOrientation": None},
            {"PatientOrientation": "CC"},
            {"FrameOfReferenceUID": "1.2.99", "PositionReferenceIndicator": ""},
            {"PatientBirthDate": "00000000", "PatientName": None, "PatientID": None, "StudyDate": None},
            {
                "LossyImageCompression": "01",
                "LossyImageCompressionRatio": 7,
                "LossyImageCompressionMethod": "ISO_10918_1",
            },
        ],
        ids=[
            "left",
            "right",
            "MONOCHROME1",
            "no view",
            "a view for directions",
            "frame of reference",
            "no patient",
            "lossy",
        ],
    )
    def test_dciodvfy_finds_no_error(
        self, tmp_path: Path, program: Callable[[str], str], attributes: dict[str, Any]
    ) -> None:
        validator = program("dciodvfy")
        path = write_source(tmp_path / "source.dcm", **attributes)
        names = {"sc": "SCImage", "seg": "Segmentation", "sr": "MammographyCADSR"}
        for patches in (TWO, {}):
            for kind in saved(build_results(reading_of(path, patches=patches)), tmp_path):
                command = [validator, tmp_path / f"result-{kind}.dcm"]
                report = subprocess.run(command, capture_output=True, text=True, check=False)
                lines = (report.stdout + report.stderr).splitlines()
                assert names[kind] in lines
                assert [line for line in lines if line.startswith("Error")] == []


class TestMarkedImage:
    def test_it_is_the_image_with_marks_and_a_legend_below(self, source: Path) -> None:
        reading = reading_of(source, patches=TWO)
        result = build_results(reading)["sc"]
        pixels = result.pixel_array
        gray = np.rint(reading.single.mammogram.pixels / 257).astype(np.uint8)
        height, width = gray.shape
        assert pixels.shape[1:] == (width, 3)
        is_marked = mark_map(reading.detection, threshold=0.5, shape=(height, width)) > 0
        image = pixels[:height]
        np.testing.assert_array_equal(image[~is_marked], np.repeat(gray[~is_marked][:, None], 3, axis=1))
        assert (image[is_marked].max(axis=1) > image[is_marked].min(axis=1)).any()
        assert len(np.unique(pixels[height:])) > 10
        told = result.DerivationDescription
        assert [
            part for part in ("not for diagnosis", "model mine 3", "threshold: 0.5", "a" * 64) if part not in told
        ] == []

    def test_the_legend_names_neither_the_file_nor_the_patient(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written: list[str] = []
        from mmgkeras.overlay import draw

        monkeypatch.setattr(
            draw,
            "add_legend",
            lambda picture, *, title, items: written.extend([title, *(item.text for item in items)]) or picture,
        )
        build_results(reading_of(write_source(tmp_path / "Doe_Jane_4711.dcm"), patches=TWO), kinds=["sc"])
        assert "mmgkeras" in written[0]
        assert ALGORITHM.name in written[0]
        assert [text for text in written if "Jane" in text or "4711" in text] == []

    def test_it_is_never_taken_for_a_mammogram(self, source: Path, tmp_path: Path) -> None:
        saved(build_results(reading_of(source, patches=TWO)), tmp_path)
        for kind in KINDS:
            with pytest.raises(InputError):
                read_pixels(tmp_path / f"result-{kind}.dcm")

    @pytest.mark.parametrize("told", ["YES", "NO", None])
    def test_it_says_whether_the_source_has_annotation_burned_in(self, tmp_path: Path, told: str | None) -> None:
        path = write_source(tmp_path / "source.dcm", BurnedInAnnotation=told)
        assert build_results(reading_of(path, patches=TWO), kinds=["sc"])["sc"].get("BurnedInAnnotation") == told


class TestSegmentation:
    def test_each_mark_is_a_segment_on_the_pixels_of_the_image(self, source: Path, tmp_path: Path) -> None:
        reading = reading_of(source, patches=TWO)
        result = saved(build_results(reading), tmp_path)["seg"]
        assert [str(segment.SegmentLabel) for segment in result.SegmentSequence] == [
            "mark 1, probability 0.970",
            "mark 2, probability 0.800",
        ]
        expected = mark_map(reading.detection, threshold=0.5, shape=reading.single.mammogram.pixels.shape)
        np.testing.assert_array_equal(result.pixel_array, np.stack([expected == 1, expected == 2]))
        assert expected.any()

    @pytest.mark.parametrize("frame", ["1.2.99", None])
    def test_it_has_the_images_frame_of_reference_if_there_is_one(self, tmp_path: Path, frame: str | None) -> None:
        path = write_source(tmp_path / "source.dcm", FrameOfReferenceUID=frame)
        assert build_results(reading_of(path, patches=TWO))["seg"].get("FrameOfReferenceUID") == frame

    def test_there_is_none_without_a_mark(self, source: Path) -> None:
        assert list(build_results(reading_of(source, patches={}))) == ["sc", "sr"]


class TestFiles:
    def test_they_replace_only_their_own(self, source: Path, tmp_path: Path) -> None:
        def write(patches: dict[tuple[int, int], float], *, overwrite: bool = False) -> None:
            reading = reading_of(source, patches=patches)
            with dicom_files(tmp_path / "out", ["a"], overwrite=overwrite) as made:
                for kind, result in build_results(reading).items():
                    result.save_as(made / f"a-{kind}.dcm")

        def names() -> list[str]:
            return sorted(path.name for path in (tmp_path / "out").iterdir())

        write(TWO)
        assert names() == ["a-sc.dcm", "a-seg.dcm", "a-sr.dcm"]
        with pytest.raises(InputError, match="already exists"):
            write(TWO)
        write({}, overwrite=True)
        assert names() == ["a-sc.dcm", "a-sr.dcm"]
        (tmp_path / "out" / "a-sr.dcm").write_bytes(source.read_bytes())
        with pytest.raises(InputError, match="was not made by this command"):
            write(TWO, overwrite=True)
