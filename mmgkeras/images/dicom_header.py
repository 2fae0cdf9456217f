"""What a DICOM header says of a mammogram, and which DICOM files are none.

Owns which attribute is believed where several tell the same. References are to DICOM PS3.3 and PS3.16; codes are those
of SNOMED CT and, in older files, SNOMED RT. Nothing here repeats a name, date, number or free text of the header.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final, TypeVar

from pydicom import Dataset, uid
from pydicom.uid import UID

from mmgkeras.errors import InputError
from mmgkeras.images.dicom_facts import Edge, Header, Kind
from mmgkeras.images.samples import damaged, shown
from mmgkeras.json_files import CONTROL
from mmgkeras.schema import LATERALITIES, VIEWS, Laterality, View

_T = TypeVar("_T")

DCT: Final = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
LOSSY: Final = (*DCT, uid.JPEGLSNearLossless, uid.JPEG2000)
"""Transfer syntaxes: DCT always loses something, the others may."""
_MAMMOGRAM: Final = ("1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.5.1.4.1.1.1.2.1")
"""Digital Mammography X-Ray Image Storage, for presentation and processing."""
_PROCESSING: Final = ("1.2.840.10008.5.1.4.1.1.1.2.1", "1.2.840.10008.5.1.4.1.1.13.1.5")
_SECONDARY_CAPTURE: Final = ("1.2.840.10008.5.1.4.1.1.7", *(f"1.2.840.10008.5.1.4.1.1.7.{n}" for n in range(1, 5)))
_TOMOSYNTHESIS: Final = tuple(f"1.2.840.10008.5.1.4.1.1.13.1.{number}" for number in (3, 4, 5))
"""Breast Tomosynthesis Image Storage, and Breast Projection X-Ray Image Storage, for presentation and processing."""
_SYNTHESISED: Final = {"GENERATED_2D", "TOMO_2D"}
_VIEW_CODES: Final[dict[str, View]] = {
    **dict.fromkeys(("399162004", "R-10242"), "CC"),
    **dict.fromkeys(("399368009", "R-10226"), "MLO"),
    **dict.fromkeys(("399260004", "R-10224"), "ML"),
    **dict.fromkeys(("399352003", "R-10228"), "LM"),
    **dict.fromkeys(("399099002", "R-10230"), "LMO"),
    **dict.fromkeys(("399192008", "R-1024A"), "XCCL"),
    **dict.fromkeys(("399101009", "R-1024B"), "XCCM"),
}
"""PS3.16, CID 4014."""
_REFUSED_CODES: Final = {
    **dict.fromkeys(("399163009", "R-102D6"), "a magnification view"),
    **dict.fromkeys(("399055006", "R-102D7"), "a spot compression view"),
    **dict.fromkeys(("399209000", "R-102D5"), "an implant-displaced view"),
    **dict.fromkeys(("127457009", "G-8310"), "a specimen"),
}
"""PS3.16, CID 4015; the specimen is of CID 4014."""
_MODIFIERS: Final = {
    **dict.fromkeys(("399161006", "R-102D2"), "cleavage"),
    **dict.fromkeys(("399011000", "R-102D1"), "axillary tail"),
    **dict.fromkeys(("399197002", "R-102D3"), "rolled lateral"),
    **dict.fromkeys(("399226006", "R-102D4"), "rolled medial"),
    **dict.fromkeys(("414493004", "R-102CA"), "rolled inferior"),
    **dict.fromkeys(("415670009", "R-102C9"), "rolled superior"),
    **dict.fromkeys(("399110001", "R-102C2"), "tangential"),
    **dict.fromkeys(("442581004", "R-40AB3"), "nipple in profile"),
    **dict.fromkeys(("441752004", "P2-00161"), "anterior compression"),
    **dict.fromkeys(("442593008", "R-40ABE"), "infra-mammary fold"),
    **dict.fromkeys(("442580003", "R-40AB2"), "axillary tissue"),
}
"""The others of CID 4015: the breast is shown whole, or nearly, and otherwise than usual."""
_SIDE_CODES: Final[dict[str, Laterality]] = {
    **dict.fromkeys(("7771000", "G-A101"), "L"),
    **dict.fromkeys(("24028007", "G-A100"), "R"),
}
"""PS3.16, CID 244."""
_SIDED: Final[dict[str, tuple[Laterality, View]]] = {
    f"{side}{view}": (side, view) for side in LATERALITIES for view in VIEWS if f"{side}{view}" not in VIEWS
}
"""View Position where it has the side too."""
_SAME: Final = 0.01
"""Spacings that differ by less than this part are equal."""
_LARGEST_MM: Final = 100
"""Of a pixel; images.csv takes no larger one."""
_MAGNIFIED: Final = 1.3
"""A breast of 10 cm on the detector is magnified by 1.2 at its far side; magnification views are from 1.4 on."""


def read_header(dataset: Dataset, *, voi: int) -> Header:
    """What the header says, with the reason where its attributes disagree; `voi` is that of `decode_dicom`."""
    notes: list[str] = []
    vendor = CONTROL.sub(" ", _text(dataset, "Manufacturer")).strip()  # images.csv holds none of them
    return Header(
        laterality=_first(
            {
                "Image Laterality": _one_of(dataset, "ImageLaterality", {"L": "L", "R": "R"}),
                "Anatomic Region Modifier Sequence": _coded(
                    _SIDE_CODES, _items(dataset, "AnatomicRegionSequence", "AnatomicRegionModifierSequence")
                ),
                "Laterality": _one_of(dataset, "Laterality", {"L": "L", "R": "R"}),
                "View Position": _one_of(dataset, "ViewPosition", {name: side for name, (side, _) in _SIDED.items()}),
            },
            why="the other may be of more than the image, or free text",
            notes=notes,
        ),
        view=_view(dataset, notes),
        chest_wall=_chest_wall(dataset, notes),
        spacing_mm=_spacing(dataset, notes),
        vendor=shown(vendor) if vendor else None,
        voi=_voi(dataset, voi),
        is_lossy=_is_lossy(dataset),
        notes=(*notes, *_remarks(dataset)),
        patient=_text(dataset, "PatientID"),
        instance=_text(dataset, "SOPInstanceUID"),
    )


def check_is_mammogram(dataset: Dataset, *, take: Collection[Kind]) -> None:
    """Refuses what is no single 2D mammogram for presentation, but for what is in `take`.

    Raises:
        InputError: for a file without an image, another modality, Secondary Capture, tomosynthesis, several frames, FOR
            PROCESSING, and magnification, spot, specimen, implant-displaced and stereotactic views.
    """
    sop_class = _sop_class(dataset)
    name = shown(sop_class.name or "an object of an unknown class")
    # Data sets without names were sometimes left without Modality too; the class of a mammogram says it as well.
    modality = _text(dataset, "Modality") or ("MG" if sop_class in _MAMMOGRAM else "")
    if "PixelData" not in dataset:
        raise damaged("it has no pixels") if "Image" in name else InputError(f"holds no image, but {name}")
    if modality != "MG":
        raise InputError(f"must be a mammogram (modality MG). Received: {name}, modality {shown(modality or 'none')}")
    if sop_class in _SECONDARY_CAPTURE and "secondary-capture" not in take:
        raise InputError(f"must be the image of a mammography device, unless asked for. Received: {name}")
    kinds = {str(kind).upper() for kind in _values(dataset, "ImageType")}
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    is_slice = any(kind.startswith("TOMO") for kind in kinds) and not kinds & _SYNTHESISED
    if sop_class in _TOMOSYNTHESIS or num_frames > 1 or is_slice:
        what = f"{num_frames} frames" if num_frames > 1 else "tomosynthesis"
        raise InputError(f"must be one 2D image; of tomosynthesis, give the synthesised 2D image. Received: {what}")
    if is_for_processing(dataset) and "for-processing" not in take:
        raise InputError("must be FOR PRESENTATION. Received: FOR PROCESSING, the raw image of the same exposure")
    refused = _refused_view(dataset, kinds)
    if refused:
        raise InputError(f"must be a view of the whole breast. Received: {refused}")


def is_for_processing(dataset: Dataset) -> bool:
    """Whether it is the raw image of an exposure."""
    return _sop_class(dataset) in _PROCESSING or _text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING"


def _sop_class(dataset: Dataset) -> UID:
    return UID(str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) or _text(dataset, "SOPClassUID"))


def _refused_view(dataset: Dataset, kinds: set[str]) -> str | None:
    """What is shown instead of the whole breast."""
    refused = _coded(_REFUSED_CODES, [*_modifiers(dataset), *_items(dataset, "ViewCodeSequence")])
    if refused:
        return refused
    if any("STEREO" in word for word in (*kinds, _text(dataset, "PositionerType").upper())):
        return "a stereotactic view"
    if "SpecimenDescriptionSequence" in dataset or any("SPECIMEN" in kind for kind in kinds):
        return "a specimen"
    return None


def _modifiers(dataset: Dataset) -> Iterator[Dataset]:
    """The codes of the view's modifiers, which stand within those of the view; some writers have them beside it."""
    yield from _items(dataset, "ViewModifierCodeSequence")
    yield from _items(dataset, "ViewCodeSequence", "ViewModifierCodeSequence")


def _view(dataset: Dataset, notes: list[str]) -> View | None:
    named: dict[str, View] = {view: view for view in VIEWS}
    orientation = _values(dataset, "PatientOrientation")
    # Programs that remove names may leave a code empty.
    codes = [item for item in _items(dataset, "ViewCodeSequence") if _code(item)]
    coded: View | None = _coded(_VIEW_CODES, codes) or ("other" if codes else None)
    position: View | None = _one_of(dataset, "ViewPosition", {name: view for name, (_, view) in _SIDED.items()} | named)
    if position is None and _text(dataset, "ViewPosition"):
        position = "other"
    return _first(
        {
            "View Code Sequence": coded,
            "View Position": position,
            # CBIS-DDSM has the view where the directions of rows and columns belong.
            "Patient Orientation": named.get(str(orientation[0])) if len(orientation) == 1 else None,
        },
        why="it is a code, and the other free text",
        notes=notes,
    )


def _chest_wall(dataset: Dataset, notes: list[str]) -> Edge | None:
    """Where the chest wall lies by Patient Orientation, the directions of rows and columns (PS3.3, C.7.6.1.1.1).

    Rows that run to anterior begin at it. Field of View Rotation and Horizontal Flip are relative to the detector, of
    which the standard does not say which edge is at the chest wall: only what turns the image on its side is noted.
    """
    directions = [str(value).strip().upper()[:1] for value in _values(dataset, "PatientOrientation")]
    if len(directions) == 2:
        rows: dict[str, Edge] = {"A": "left", "P": "right"}
        columns: dict[str, Edge] = {"A": "top", "P": "bottom"}
        return rows.get(directions[0]) or columns.get(directions[1])
    rotation = float(dataset.get("FieldOfViewRotation") or 0)
    if rotation in (90, 270):
        notes.append(f"Field of View Rotation is {rotation:g}, without Patient Orientation: it may lie on its side")
    return None


def _spacing(dataset: Dataset, notes: list[str]) -> float | None:
    """Edge of a pixel in mm, in the plane of the breast where the header tells it (PS3.3, 10.7.1.3)."""
    magnification = float(dataset.get("EstimatedRadiographicMagnificationFactor") or 1)
    at_detector = _edge(dataset, "ImagerPixelSpacing", notes)
    is_calibrated = _text(dataset, "PixelSpacingCalibrationType").upper() in ("GEOMETRY", "FIDUCIAL")
    pixel_spacing = _edge(dataset, "PixelSpacing", notes)
    imager = at_detector / magnification if at_detector and magnification > 0 else at_detector
    imager = imager if imager and 0 < imager < _LARGEST_MM else None
    by_imager = "Imager Pixel Spacing over Estimated Radiographic Magnification Factor"
    found = {
        "calibrated Pixel Spacing": pixel_spacing if is_calibrated else None,
        by_imager: imager,
        "uncalibrated Pixel Spacing": None if is_calibrated else pixel_spacing,
        "Nominal Scanned Pixel Spacing": _edge(dataset, "NominalScannedPixelSpacing", notes),
    }
    told = {name: edge for name, edge in found.items() if edge is not None}
    if not told:
        return None
    (taken, edge), *others = told.items()
    why = {"calibrated Pixel Spacing": "it was measured", by_imager: "it is of the detector"}.get(taken, "")
    notes.extend(
        f"{taken} is {edge:.4g} mm, {name} {other:.4g} mm: the first is taken, for {why}"
        for name, other in others
        if abs(other - edge) > _SAME * edge
        # Without calibration the two attributes may lawfully be copies of each other.
        and not (name.startswith("uncalibrated") and at_detector and abs(other - at_detector) <= _SAME * other)
    )
    return edge


def _edge(dataset: Dataset, keyword: str, notes: list[str]) -> float | None:
    """The one number of two equal spacings, of rows and columns."""
    numbers = [float(value) for value in _values(dataset, keyword)]
    if len(numbers) != 2 or not all(0 < number < _LARGEST_MM for number in numbers):
        return None
    if abs(numbers[0] - numbers[1]) > _SAME * numbers[0]:
        notes.append(f"the pixels are not square by {keyword}, {numbers[0]:g} x {numbers[1]:g} mm: it is not taken")
        return None
    return numbers[0]


def _voi(dataset: Dataset, voi: int) -> str:
    if is_for_processing(dataset):
        return "log transform"
    num_luts, num_windows = len(_values(dataset, "VOILUTSequence")), len(_values(dataset, "WindowCenter"))
    if voi <= num_luts:
        return f"VOI LUT {voi} of {num_luts}"
    if not num_windows:
        return "none"
    function = _text(dataset, "VOILUTFunction") or "LINEAR"
    return f"window {voi - num_luts} of {num_windows}, {shown(function)}"


def _remarks(dataset: Dataset) -> Iterator[str]:
    modifiers = [_coded(_MODIFIERS, [item]) or "one that is not known here" for item in _modifiers(dataset)]
    if modifiers:
        yield f"the view is modified: {', '.join(dict.fromkeys(modifiers))}"
    if _text(dataset, "PartialView").upper() == "YES":
        yield "shows a part of the breast only (Partial View)"
    if (factor := float(dataset.get("EstimatedRadiographicMagnificationFactor") or 1)) >= _MAGNIFIED:
        yield f"is magnified {factor:g} times: it may show a part of the breast only"
    if _text(dataset, "BreastImplantPresent").upper() == "YES":
        yield "shows an implant"
    if _text(dataset, "BurnedInAnnotation").upper() == "YES":
        yield "annotation is burned into the pixels: it may name the patient"
    if _is_lossy(dataset):
        yield "was compressed with loss"
    if any((0x6000 + 2 * plane, 0x0010) in dataset for plane in range(16)):
        yield "overlays are not drawn"


def _is_lossy(dataset: Dataset) -> bool:
    """Whether the pixels lost something when they were compressed, now or before (PS3.3, C.7.6.1.1.5)."""
    told, syntax = _text(dataset, "LossyImageCompression"), dataset.file_meta.TransferSyntaxUID
    return told == "01" or syntax in DCT or (syntax in LOSSY and told != "00")


def _first(told: dict[str, _T | None], *, why: str, notes: list[str]) -> _T | None:
    """What the first attribute that tells it says; a note for each that says something else."""
    known = [(name, value) for name, value in told.items() if value is not None]
    if not known:
        return None
    (first, taken), *others = known
    notes.extend(
        f"{first} says {taken}, {name} {other}: the first is taken, for {why}"
        for name, other in others
        if other != taken
    )
    return taken


def _coded(meanings: dict[str, _T], items: Any) -> _T | None:
    """The meaning of the first code that has one; code schemes do not share values."""
    return next((meanings[code] for code in map(_code, items) if code in meanings), None)


def _code(item: Dataset) -> str:
    return _text(item, "CodeValue") or _text(item, "LongCodeValue")


def _items(dataset: Dataset, keyword: str, *inner: str) -> Iterator[Dataset]:
    """The items of a sequence, or of the sequences within its items."""
    for item in dataset.get(keyword) or ():
        if inner:
            yield from _items(item, *inner)
        else:
            yield item


def _one_of(dataset: Dataset, keyword: str, meanings: dict[str, _T]) -> _T | None:
    return meanings.get(_text(dataset, keyword).upper())


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]


def _text(dataset: Dataset, keyword: str) -> str:
    r"""The text of an attribute of one value, "" for none.

    pydicom takes a backslash in it for the end of a value; it is put back, for "A\1" and "A\2" are two patients.
    """
    return "\\".join(map(str, _values(dataset, keyword))).strip("\\ ")
