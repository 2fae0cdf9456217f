"""The results of one mammogram as DICOM: a picture with its marks (SC), the marks (SEG), and a report (CAD SR).

Owns what the three share, their UIDs, and their files. They go back to the PACS that holds the image, so they carry its
patient and its study, in series of their own; the image itself is never changed. The content of the report is
`cad_report`'s. Format: DICOM PS3.3, A.8, A.51 and A.35.5.
"""

import datetime
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
from highdicom import AlgorithmIdentificationSequence, SOPClass
from highdicom.sc import SCImage
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from highdicom.sr import CodedConcept
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MammographyCADSRStorage,
)

from mmgkeras import __version__
from mmgkeras.errors import InputError
from mmgkeras.files import atomic_files
from mmgkeras.images import Single
from mmgkeras.images.dicom_bytes import pydicom_faults
from mmgkeras.inference.detection import Detection, Mark, mark_map
from mmgkeras.overlay.draw import DISCLAIMER, DrawOptions, draw
from mmgkeras.pacs.algorithm import MANUFACTURER, Algorithm, is_dicom_result
from mmgkeras.pacs.cad_report import FINDING, orientation, percent, report_content
from mmgkeras.schema import probability_text

_D = TypeVar("_D", bound=SOPClass)
Kind = Literal["sc", "seg", "sr"]
KINDS: Final[tuple[Kind, ...]] = ("sc", "seg", "sr")
_SERIES: Final[dict[Kind, tuple[int, str]]] = {
    "sc": (9001, "marked image"),
    "seg": (9002, "marks"),
    "sr": (9003, "CAD report"),
}
"""Number and description of the series."""
_FORMATS: Final = {"DA": ["%Y%m%d"], "TM": ["%H", "%H%M", "%H%M%S", "%H%M%S.%f"]}
"""Of dates and times: PS3.5, 6.2."""
_LONGEST_TEXT: Final = 1024
"""Characters of a short text, ST."""
_NEEDED: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_LOSSY: Final = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
"""What stays true of everything that is derived from an image: PS3.3, C.7.6.1.1.5."""
_BLANK: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_NAMESPACE: Final = uuid.UUID("6a1c2f0e-5d0b-5c43-9d3c-2f6a3e1f7b90")
"""Of the names that our UIDs are made of."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model says of one mammogram that was read from DICOM.

    Attributes:
        source: the header of its file.
        single: the mammogram.
        detection, marks: what was found.
        algorithm: that found it.
    """

    source: Dataset
    single: Single
    detection: Detection
    marks: Sequence[Mark]
    algorithm: Algorithm

    def uid(self, *what: str) -> str:
        """A UID of something about the image that stays as long as image, model, settings and marks do.

        It is made of a name-based UUID (PS3.5, B.2), so it needs no registered root.
        """
        marks = [[percent(mark.probability), *list(asdict(mark).values())[1:]] for mark in self.marks]
        record = self.single.mammogram.record
        told = [
            __version__,
            asdict(self.algorithm),
            [record.laterality, record.chest_wall_side, record.spacing_mm],
            marks,
            *(str(self.source[keyword].value) for keyword in _NEEDED),
        ]
        return result_uid(*what, json.dumps(told))

    def series_uid(self, kind: Kind) -> str:
        """The same for all images of a study that the algorithm reads, and that share a frame of reference."""
        frame = str(self.source.get("FrameOfReferenceUID") or "")
        told = [__version__, asdict(self.algorithm), str(self.source.StudyInstanceUID), frame]
        return result_uid("series", kind, json.dumps(told))


def result_uid(*names: str) -> str:
    """The UID of these names, below 2.25."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(names)).int}"


def read_source(path: Path) -> Dataset:
    """The header of a DICOM file, as far as its results need it.

    Raises:
        InputError: if it lacks a UID that they refer to.
    """
    with pydicom_faults():
        source = dcmread(path, stop_before_pixels=True, force=True)
        missing = [keyword for keyword in _NEEDED if not source.get(keyword)]
    if missing == list(_NEEDED):
        raise InputError("must be DICOM, for its results go to the study that it belongs to")
    if missing:
        raise InputError(f"has no {', '.join(missing)}, which DICOM results refer to")
    return source


def build_results(reading: Reading, *, kinds: Sequence[Kind] = KINDS) -> dict[Kind, Dataset]:
    """The results by kind; without a mark there is no SEG, which may not be empty."""
    builders: dict[Kind, Callable[[Reading], Dataset]] = {"sc": _picture, "seg": _segmentation, "sr": _report}
    with pydicom_faults():
        return {kind: builders[kind](reading) for kind in kinds if kind != "seg" or reading.marks}


@contextmanager
def dicom_files(folder: Path, stems: Iterable[str], *, overwrite: bool, former: Iterable[str] = ()) -> Iterator[Path]:
    """Yields a folder whose `<stem>-sc.dcm`, `-seg.dcm` and `-sr.dcm` go to `folder` together when the block ends.

    Args:
        folder: of the results.
        stems: of all mammograms.
        overwrite: replace results that are there.
        former: stems of an earlier call: where this one overwrites, their results go unless they are made again.

    Raises:
        InputError: as `atomic_files`.
    """
    names, before = ([f"{stem}-{kind}.dcm" for stem in some for kind in KINDS] for some in (stems, former))
    left = sorted({*before} - {*names})
    with atomic_files(folder, names, label="dicom", overwrite=overwrite, is_own=is_dicom_result, former=left) as made:
        yield made


def _picture(reading: Reading) -> SCImage:
    """The mammogram at native resolution with its marks and the legend, whose text is within the pixels."""
    mammogram = reading.single.mammogram
    untold = replace(mammogram, record=replace(mammogram.record, image_id=reading.algorithm.title))
    options = DrawOptions(threshold=reading.algorithm.threshold, activation=reading.detection.activation)
    picture = np.asarray(draw(untold, reading.detection.score_map, options=options))
    made = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("A", "F"),  # replaced below: highdicom knows no oblique ones
        study_instance_uid=reading.source.StudyInstanceUID,
        **_common(reading, "sc"),
    )
    made.ConversionType = "WSD"
    made.ImageLaterality = mammogram.record.laterality
    if reading.source.get("BurnedInAnnotation"):  # whether the pixels name the patient; our own text does not
        made.BurnedInAnnotation = reading.source.BurnedInAnnotation
    told = "; ".join(f"{name}: {value}" for name, value in reading.algorithm.parameters.items())
    made.DerivationDescription = f"{reading.algorithm.title}; {told}"[:_LONGEST_TEXT]
    made.SourceImageSequence = [_reference(reading.source, purpose=True)]
    return _told(made, reading.source)


def _segmentation(reading: Reading) -> Segmentation:
    """A segment for each mark, on the image's own pixels."""
    pixels = reading.single.mammogram.pixels
    numbers = mark_map(
        reading.detection, threshold=reading.algorithm.threshold, shape=(pixels.shape[0], pixels.shape[1])
    )
    identification = AlgorithmIdentificationSequence(
        name=f"mmgkeras {reading.algorithm.name}",
        family=codes.DCM.ArtificialIntelligence,
        version=f"{reading.algorithm.version} (mmgkeras {__version__})",
        source=MANUFACTURER,
        parameters=reading.algorithm.parameters,
    )
    made = Segmentation(
        source_images=[_plain(reading.source)],
        pixel_array=numbers,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            SegmentDescription(
                segment_number=number,
                segment_label=f"mark {number}, probability {probability_text(mark.probability)}",
                segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                segmented_property_type=FINDING,
                algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=identification,
                tracking_uid=reading.uid("mark", str(number)),
                tracking_id=f"mark {number}",
            )
            for number, mark in enumerate(reading.marks, start=1)
        ],
        content_description=DISCLAIMER,
        content_label="MARKS",
        **_common(reading, "seg"),
    )
    organization = reading.uid("dimensions")  # highdicom's own is another one at every call
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return _told(made, reading.source)


def _report(reading: Reading) -> SOPClass:
    """A Mammography CAD SR."""
    record = reading.single.mammogram.record
    is_told = reading.single.side_from not in ("the name", "the pixels")
    made = SOPClass(
        study_instance_uid=reading.source.StudyInstanceUID,
        sop_class_uid=MammographyCADSRStorage,
        modality="SR",
        **_common(reading, "sr"),
    )
    made.update(
        report_content(
            reading.source,
            marks=reading.marks,
            algorithm=reading.algorithm,
            laterality=record.laterality if is_told else None,
        )
    )
    made.CompletionFlag = "COMPLETE"
    made.VerificationFlag = "UNVERIFIED"
    made.PerformedProcedureCodeSequence = []
    made.ReferencedPerformedProcedureStepSequence = []
    series, study = Dataset(), Dataset()
    series.ReferencedSOPSequence = [_reference(reading.source)]
    series.SeriesInstanceUID = reading.source.SeriesInstanceUID
    study.ReferencedSeriesSequence = [series]
    study.StudyInstanceUID = reading.source.StudyInstanceUID
    made.CurrentRequestedProcedureEvidenceSequence = [study]
    return _told(made, reading.source)


def _common(reading: Reading, kind: Kind) -> dict[str, Any]:
    """What the constructors of all three are given alike."""
    number, words = _SERIES[kind]
    return {
        "series_instance_uid": reading.series_uid(kind),
        "series_number": number,
        "series_description": f"mmgkeras {words}, research use only",
        "sop_instance_uid": reading.uid(kind),
        "instance_number": _instance_number(reading.source),
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": f"mmgkeras {reading.algorithm.name}"[:64],
        "software_versions": __version__,
        "device_serial_number": reading.algorithm.model_sha256[:16],
        "transfer_syntax_uid": ExplicitVRLittleEndian,
    }


def _reference(source: Dataset, *, purpose: bool = False) -> Dataset:
    """An item that refers to the image."""
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if purpose:
        item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def _plain(source: Dataset) -> Dataset:
    """What a SEG takes from the image, without the patient: highdicom's log repeats a name that it finds odd."""
    plain = Dataset()
    for keyword in (*_NEEDED, "Rows", "Columns", "FrameOfReferenceUID", "PositionReferenceIndicator"):
        if keyword in source:
            plain[keyword] = source[keyword]
    for keyword in _BLANK:
        setattr(plain, keyword, None)
    return plain


def _told(made: _D, source: Dataset) -> _D:
    """The result with the image's patient, study and orientation, but for dates and times that are none."""
    known = Dataset()
    known.update(source)
    known.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation  # by which highdicom knows the modules
    made.copy_patient_and_study_information(known)
    for element in list(made):
        if element.VR in _FORMATS and element.value and not _is_valid(str(element.value), _FORMATS[element.VR]):
            made.add_new(element.tag, element.VR, None)  # its own: the other is the source's too
    if "SpecificCharacterSet" in source:
        made["SpecificCharacterSet"] = source["SpecificCharacterSet"]
    if "Rows" in made:
        directions = orientation(source)
        made.PatientOrientation = None if directions is None else list(directions)
        for keyword in _LOSSY:
            if source.get(keyword):
                made[keyword] = source[keyword]
    return made


def _is_valid(text: str, formats: Sequence[str]) -> bool:
    """Whether a text is of one of the formats, digit for digit; a fraction of a second may have fewer than six."""
    text = text.strip()
    for form in formats:
        with suppress(ValueError):
            if datetime.datetime.strptime(text, form).strftime(form).startswith(text):
                return True
    return False


def _instance_number(source: Dataset) -> int:
    """That of the image, or 1 where it has none that can be one."""
    with suppress(TypeError, ValueError):
        return max(1, int(source.get("InstanceNumber") or 1))
    return 1
