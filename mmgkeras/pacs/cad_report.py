"""The content of a Mammography CAD SR (PS3.16, TID 4000): what a mammography workstation draws as marks.

Owns the tree of content items, for one image. The header of the document is `dicom_results`'. What the templates take
from the image's header is there where the header has it; nothing is invented.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    DateContentItem,
    GraphicTypeValues,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    ScoordContentItem,
    TextContentItem,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from mmgkeras import __version__
from mmgkeras.inference.detection import Mark
from mmgkeras.pacs.algorithm import Algorithm
from mmgkeras.schema import Laterality

FINDING: Final = codes.SCT.CalcificationCluster
"""Of CID 6014. A mark is a part of the breast with calcification in it; workstations draw no smaller kind of it."""
_IMPRESSION: Final = Code("111034", "DCM", "Individual Impression/Recommendation")  # pydicom's has an invisible space
_ENGLISH: Final = Code("en", "RFC5646", "English")
_SIDES: Final = {"L": codes.SCT.LeftBreast, "R": codes.SCT.RightBreast}
_IMAGE: Final = [1, 2, 1]
"""The image's place in the tree: the first entry of the Image Library, which is the root's second child."""
_DIRECTION: Final = re.compile("[LRAPHF]{1,3}")
_DATE: Final = re.compile(r"[0-9]{8}")

_Is = RelationshipTypeValues


def report_content(
    source: Dataset, *, marks: Sequence[Mark], algorithm: Algorithm, laterality: Laterality | None
) -> Dataset:
    """The root of the tree, TID 4000.

    Args:
        source: the image's header.
        marks: on it.
        algorithm: that made them.
        laterality: as the header or the user says; None where neither does.
    """
    summary = codes.DCM.AllAlgorithmsSucceededWithFindings if marks else codes.DCM.AllAlgorithmsSucceededWithoutFindings
    return _nested(
        ContainerContentItem(codes.DCM.MammographyCADReport, is_content_continuous=False, template_id="4000"),
        CodeContentItem(codes.DCM.LanguageOfContentItemAndDescendants, _ENGLISH, _Is.HAS_CONCEPT_MOD),
        _container(codes.DCM.ImageLibrary, _Is.CONTAINS, _library_entry(source, laterality)),
        _nested(
            CodeContentItem(codes.DCM.CADProcessingAndFindingsSummary, summary, _Is.CONTAINS),
            *(_impression(mark, algorithm) for mark in marks),
        ),
        _detections(algorithm),
        CodeContentItem(codes.DCM.SummaryOfAnalyses, codes.DCM.NotAttempted, _Is.CONTAINS),
    )


def _nested(item: Dataset, *children: Dataset) -> Dataset:
    """The item with its children; highdicom's own sequence of them refuses references within the tree."""
    if children:
        item.add_new("ContentSequence", "SQ", list(children))
    return item


def _container(name: Code, relationship: RelationshipTypeValues, *children: Dataset) -> Dataset:
    item = ContainerContentItem(name, is_content_continuous=False, relationship_type=relationship)
    return _nested(item, *children)


def _image(relationship: RelationshipTypeValues) -> Dataset:
    """The image of the Image Library, by its place in the tree."""
    item = Dataset()
    item.RelationshipType = relationship.value
    item.ReferencedContentItemIdentifier = _IMAGE
    return item


def _library_entry(source: Dataset, laterality: Laterality | None) -> Dataset:
    """TID 4020: the image, which the template gives no name, and what its header tells."""
    item = ImageContentItem(
        codes.DCM.SourceImageForImageProcessingOperation,
        source.SOPClassUID,
        source.SOPInstanceUID,
        relationship_type=_Is.CONTAINS,
    )
    del item.ConceptNameCodeSequence
    return _nested(item, *_acquisition(source, laterality))


def _acquisition(source: Dataset, laterality: Laterality | None) -> Iterator[Dataset]:
    if laterality is not None:
        yield CodeContentItem(codes.DCM.ImageLaterality, _SIDES[laterality], _Is.HAS_ACQ_CONTEXT)
    for view in _coded(source, "ViewCodeSequence"):
        modifiers = [
            CodeContentItem(codes.DCM.ImageViewModifier, modifier, _Is.HAS_CONCEPT_MOD)
            for modifier in _coded(source.ViewCodeSequence[0], "ViewModifierCodeSequence")
        ]
        yield _nested(CodeContentItem(codes.DCM.ImageView, view, _Is.HAS_ACQ_CONTEXT), *modifiers)
        break
    directions = orientation(source)
    if directions is not None:
        yield TextContentItem(codes.DCM.PatientOrientationRow, directions[0], _Is.HAS_ACQ_CONTEXT)
        yield TextContentItem(codes.DCM.PatientOrientationColumn, directions[1], _Is.HAS_ACQ_CONTEXT)
    date = str(source.get("StudyDate") or "")
    if _DATE.fullmatch(date):
        yield DateContentItem(codes.DCM.StudyDate, date, _Is.HAS_ACQ_CONTEXT)


def orientation(source: Dataset) -> tuple[str, str] | None:
    """The directions of rows and columns (PS3.3, C.7.6.1.1.1); None where the attribute is empty or holds others."""
    value = source.get("PatientOrientation")
    told = [value] if isinstance(value, str) else list(value or ())
    if len(told) != 2 or not all(_DIRECTION.fullmatch(str(direction)) for direction in told):
        return None
    return str(told[0]), str(told[1])


def _coded(dataset: Dataset, keyword: str) -> Iterator[Code]:
    """The codes of a sequence as they are; items that are no whole code are left out."""
    for item in dataset.get(keyword) or ():
        parts = [str(item.get(part) or "") for part in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")]
        if all(parts):
            yield Code(*parts)


def _impression(mark: Mark, algorithm: Algorithm) -> Dataset:
    """TID 4003 around TID 4006: one mark."""
    finding = _nested(
        CodeContentItem(codes.DCM.SingleImageFinding, FINDING, _Is.CONTAINS),
        _shown(),
        *_identification(algorithm),
        NumContentItem(
            codes.DCM.CertaintyOfFinding,
            percent(mark.probability),
            codes.UCUM.Percent,
            relationship_type=_Is.HAS_PROPERTIES,
        ),
        _coordinates(codes.DCM.Center, GraphicTypeValues.POINT, [centre(mark)]),
        _coordinates(codes.DCM.Outline, GraphicTypeValues.POLYLINE, outline(mark)),
    )
    return _container(_IMPRESSION, _Is.INFERRED_FROM, _shown(), finding)


def _shown() -> Dataset:
    required = codes.DCM.PresentationRequiredRenderingDeviceIsExpectedToPresent
    return CodeContentItem(codes.DCM.RenderingIntent, required, _Is.HAS_CONCEPT_MOD)


def percent(probability: float) -> float:
    """A probability in percent, as the report writes it."""
    return round(100 * probability, 2)


def centre(mark: Mark) -> tuple[float, float]:
    """The (column, row) of a mark's most suspicious place, where the top left corner of the image is (0, 0)."""
    return mark.col + 0.5, mark.row + 0.5


def outline(mark: Mark) -> list[tuple[float, float]]:
    """The box around a mark as a closed line of (column, row), as in `centre`."""
    left, right, top, bottom = (float(edge) for edge in (mark.left, mark.right, mark.top, mark.bottom))
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def _coordinates(name: Code, kind: GraphicTypeValues, points: Sequence[tuple[float, float]]) -> Dataset:
    """A row of TID 4021."""
    item = ScoordContentItem(name, kind, np.array(points), relationship_type=_Is.HAS_PROPERTIES)
    return _nested(item, _image(_Is.SELECTED_FROM))


def _detections(algorithm: Algorithm) -> Dataset:
    """TID 4000, rows 6 and 7, with TID 4015 and TID 4017."""
    performed = _nested(
        CodeContentItem(codes.DCM.DetectionPerformed, FINDING, _Is.CONTAINS),
        *_identification(algorithm),
        _image(_Is.HAS_PROPERTIES),
    )
    return _nested(
        CodeContentItem(codes.DCM.SummaryOfDetections, codes.DCM.Succeeded, _Is.CONTAINS),
        _container(codes.DCM.SuccessfulDetections, _Is.INFERRED_FROM, performed),
    )


def _identification(algorithm: Algorithm) -> list[Dataset]:
    """TID 4019."""
    told = [
        (codes.DCM.AlgorithmName, f"mmgkeras {algorithm.name}"),
        (codes.DCM.AlgorithmVersion, f"{algorithm.version} (mmgkeras {__version__})"),
        *((codes.DCM.AlgorithmParameters, f"{name}: {value}") for name, value in algorithm.parameters.items()),
    ]
    return [TextContentItem(name, text, _Is.HAS_PROPERTIES) for name, text in told]
