import pytest
from pydicom import uid
from pydicom.dataset import FileMetaDataset
from pydicom.uid import SecondaryCaptureImageStorage

from mmgkeras.errors import InputError
from mmgkeras.images.dicom import decode_dicom
from mmgkeras.images.dicom_header import read_header

from .dicom_files import code, file_of, item, lut, mammogram, ramp

RAMP = ramp()


def header_of(**attributes: object):
    return decode_dicom(file_of(mammogram(RAMP, **attributes)))[1]


class TestHeader:
    @pytest.mark.parametrize(
        ("attributes", "side", "num_notes"),
        [
            ({}, None, 0),
            ({"ImageLaterality": "L"}, "L", 0),
            ({"Laterality": "R"}, "R", 0),
            ({"ImageLaterality": "B", "Laterality": "R"}, "R", 0),
            ({"ImageLaterality": "L\\R"}, None, 0),
            ({"ImageLaterality": "L", "Laterality": "R"}, "L", 1),
            ({"ViewPosition": "RMLO"}, "R", 0),
            ({"ViewPosition": "LM"}, None, 0),
            ({"ImageLaterality": "R", "ViewPosition": "RMLO"}, "R", 0),
            ({"ImageLaterality": "L", "ViewPosition": "RMLO"}, "L", 1),
            ({"AnatomicRegionSequence": [item(AnatomicRegionModifierSequence=[code("24028007")])]}, "R", 0),
            ({"AnatomicRegionSequence": [item(AnatomicRegionModifierSequence=[code("G-A101")])]}, "L", 0),
        ],
    )
    def test_side(self, attributes: dict[str, object], side: str | None, num_notes: int) -> None:
        header = header_of(**attributes)
        assert (header.laterality, len(header.notes)) == (side, num_notes)

    @pytest.mark.parametrize(
        ("attributes", "view", "num_notes"),
        [
            ({}, None, 0),
            ({"ViewPosition": "MLO"}, "MLO", 0),
            ({"ViewPosition": "ABC"}, "other", 0),
            ({"ViewPosition": "CC\\MLO"}, "other", 0),
            ({"ViewPosition": "LCC"}, "CC", 0),
            ({"ViewPosition": "RMLO"}, "MLO", 0),
            ({"ViewPosition": "LM"}, "LM", 0),
            ({"ViewCodeSequence": [code("399162004")]}, "CC", 0),
            ({"ViewCodeSequence": [code("R-10226")], "ViewPosition": "MLO"}, "MLO", 0),
            ({"ViewCodeSequence": [code("R-1024A")], "ViewPosition": "CC"}, "XCCL", 1),
            ({"ViewCodeSequence": [code("R-10244")]}, "other", 0),
            ({"ViewCodeSequence": [code("")], "ViewPosition": "CC"}, "CC", 0),
            ({"ViewCodeSequence": [item()]}, None, 0),
            ({"PatientOrientation": "MLO"}, "MLO", 0),
            ({"PatientOrientation": ["P", "L"]}, None, 0),
        ],
    )
    def test_view(self, attributes: dict[str, object], view: str | None, num_notes: int) -> None:
        header = header_of(**attributes)
        assert (header.view, len(header.notes)) == (view, num_notes)

    @pytest.mark.parametrize(
        ("attributes", "spacing_mm", "note"),
        [
            ({}, None, ""),
            ({"ImagerPixelSpacing": [0.1, 0.1]}, 0.1, ""),
            ({"ImagerPixelSpacing": [0.1, 0.1], "EstimatedRadiographicMagnificationFactor": 1.25}, 0.08, ""),
            ({"PixelSpacing": [0.07, 0.07]}, 0.07, ""),
            ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.1, 0.1]}, 0.1, ""),
            (
                {
                    "PixelSpacing": [0.1, 0.1],
                    "ImagerPixelSpacing": [0.1, 0.1],
                    "EstimatedRadiographicMagnificationFactor": 1.25,
                },
                0.08,
                "",
            ),
            ({"PixelSpacing": [0.07, 0.07], "ImagerPixelSpacing": [0.1, 0.1]}, 0.1, "uncalibrated Pixel Spacing 0.07"),
            (
                {
                    "PixelSpacing": [0.07, 0.07],
                    "PixelSpacingCalibrationType": "FIDUCIAL",
                    "ImagerPixelSpacing": [0.1, 0.1],
                },
                0.07,
                "for it was measured",
            ),
            ({"NominalScannedPixelSpacing": [0.05, 0.05]}, 0.05, ""),
            ({"ImagerPixelSpacing": [0.1, 0.2]}, None, "not square by ImagerPixelSpacing"),
            ({"ImagerPixelSpacing": [0, 0]}, None, ""),
        ],
    )
    def test_spacing(self, attributes: dict[str, object], spacing_mm: float | None, note: str) -> None:
        header = header_of(**attributes)
        assert header.spacing_mm == (None if spacing_mm is None else pytest.approx(spacing_mm))
        assert bool(note) == bool(header.notes)
        assert note in "".join(header.notes)

    @pytest.mark.parametrize(
        ("attributes", "edge", "num_notes"),
        [
            ({}, None, 0),
            ({"PatientOrientation": ["A", "R"]}, "left", 0),
            ({"PatientOrientation": ["P", "FL"]}, "right", 0),
            ({"PatientOrientation": ["R", "A"]}, "top", 0),
            ({"PatientOrientation": ["F", "P"]}, "bottom", 0),
            ({"PatientOrientation": ["L", "F"]}, None, 0),
            ({"PatientOrientation": "CC"}, None, 0),
            ({"FieldOfViewRotation": 180, "FieldOfViewHorizontalFlip": "YES"}, None, 0),
            ({"FieldOfViewRotation": 90}, None, 1),
            ({"FieldOfViewRotation": 270, "PatientOrientation": ["A", "R"]}, "left", 0),
        ],
    )
    def test_chest_wall(self, attributes: dict[str, object], edge: str | None, num_notes: int) -> None:
        header = header_of(**attributes)
        assert (header.chest_wall, len(header.notes)) == (edge, num_notes)

    @pytest.mark.parametrize(
        ("attributes", "note"),
        [
            ({"ViewCodeSequence": [code("399162004", "399197002", "R-40AB3")]}, "rolled lateral, nipple in profile"),
            ({"ViewModifierCodeSequence": [code("399161006")]}, "the view is modified: cleavage"),
            ({"ViewCodeSequence": [code("399162004", "1")]}, "the view is modified: one that is not known here"),
            ({"PartialView": "YES"}, "shows a part of the breast only"),
            ({"EstimatedRadiographicMagnificationFactor": "1.8"}, "is magnified 1.8 times"),
            ({"BreastImplantPresent": "YES"}, "shows an implant"),
            ({"LossyImageCompression": "01"}, "was compressed with loss"),
        ],
    )
    def test_what_else_a_reader_should_know(self, attributes: dict[str, object], note: str) -> None:
        assert [found for found in header_of(**attributes).notes if note in found]

    def test_burned_in_annotation_and_overlays_are_noted(self) -> None:
        dataset = mammogram(RAMP, BurnedInAnnotation="YES")
        dataset.add_new((0x6002, 0x0010), "US", 40)
        assert len(decode_dicom(file_of(dataset))[1].notes) == 2

    @pytest.mark.parametrize(
        ("voi", "name"),
        [(1, "VOI LUT 1 of 1"), (2, "window 1 of 2, SIGMOID"), (3, "window 2 of 2, SIGMOID")],
    )
    def test_what_made_the_gray_values(self, voi: int, name: str) -> None:
        luts = [lut([0] * 2, first=0, bits=12)]
        windows = {"WindowCenter": [1, 2], "WindowWidth": [3, 4], "VOILUTFunction": "SIGMOID"}
        data = file_of(mammogram(RAMP, VOILUTSequence=luts, **windows))
        assert decode_dicom(data, voi=voi)[1].voi == name
        assert header_of().voi == "none"
        assert header_of(WindowCenter=1, WindowWidth=2).voi == "window 1 of 1, LINEAR"

    def test_it_does_not_show_the_patient(self) -> None:
        header = header_of()
        assert header.patient == "4711"
        assert header_of(PatientID="").patient == ""
        assert header_of(PatientID="\\").patient == ""
        assert not any(secret in repr(header) for secret in ("4711", "Doe", "1960", "1.2.3.4"))

    @pytest.mark.parametrize(
        ("syntax", "told", "is_lossy"),
        [
            (uid.ExplicitVRLittleEndian, "01", True),
            (uid.ExplicitVRLittleEndian, "00", False),
            (uid.ExplicitVRLittleEndian, None, False),
            (uid.JPEG2000, None, True),
            (uid.JPEG2000, "00", False),
            (uid.JPEG2000Lossless, None, False),
            (uid.JPEGBaseline8Bit, "00", True),
        ],
    )
    def test_compression_with_loss(self, syntax: uid.UID, told: str | None, is_lossy: bool) -> None:
        dataset = mammogram(RAMP, LossyImageCompression=told)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        header = read_header(dataset, voi=1)
        assert header.is_lossy == is_lossy == ("was compressed with loss" in header.notes)

    def test_a_backslash_in_the_patient_id_stays(self) -> None:
        assert header_of(PatientID="A\\1 ").patient == "A\\1"
        assert header_of(PatientID="A\\\\1").patient == "A\\\\1"

    def test_the_class_of_a_mammogram_stands_for_a_modality_that_was_removed(self) -> None:
        assert header_of(Modality=None, ImageLaterality="L").laterality == "L"
        with pytest.raises(InputError, match="modality none"):
            header_of(Modality=None, SOPClassUID=SecondaryCaptureImageStorage)
