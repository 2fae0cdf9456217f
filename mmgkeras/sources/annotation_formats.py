"""Regions as annotation tools and detectors write them: COCO, YOLO, Pascal VOC, LabelMe and VIA.

Owns each format's layout and where its pixels begin. COCO, YOLO and LabelMe measure from the upper left corner of the
first pixel, so that half a pixel is taken off; VOC counts pixels from 1. Which image and which kind of region is meant
is the mapping's, in `mapped_table`.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree

import numpy as np

from mmgkeras.errors import InputError, counted, shown
from mmgkeras.schema import Shape, fault_of_points
from mmgkeras.sources.annotation_tables import read_rows
from mmgkeras.sources.data_set import ImportReport
from mmgkeras.sources.via import Points, via_shape

_FAULTS: Final = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_VIA_REGION: Final = {"shape_attributes": "region_shape_attributes", "region_attributes": "region_attributes"}
"""What a region has in VIA's JSON, and the columns of it in the CSV."""


CLASS_FILES: Final = ("classes.txt", "obj.names")
"""Of LabelImg and of Darknet: the names of the classes, which YOLO's files number."""


class Annotation(NamedTuple):
    """A region of an annotation file.

    Attributes:
        source: the file and the place in it.
        image: the image, as the file names it.
        label: its class; "" for none.
        shape, points: as of `Region`.
        is_relative: `points` are parts of the image's height and width, from its upper left corner.
        size: (height, width) of the image that was annotated, where the file tells it.
    """

    source: str
    image: str
    label: str
    shape: Shape
    points: Points
    is_relative: bool = False
    size: tuple[int, int] | None = None


def read_coco(path: Path, report: ImportReport) -> Iterator[Annotation]:
    """Boxes, or polygons where there are any; a region of several polygons is one of each."""
    values = _json(path)
    try:
        images = _by_id((image["id"], str(image["file_name"])) for image in values["images"])
        sizes = {image["id"]: _size(image.get("height"), image.get("width")) for image in values["images"]}
        labels = _by_id((category["id"], str(category["name"])) for category in values["categories"])
        annotations = list(values["annotations"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except _FAULTS as error:
        raise InputError(f"{path}: must hold images, categories and annotations, as COCO has them") from error
    for number, one in enumerate(annotations, start=1):
        place = f"{path}: annotation {number}"
        named = ""
        with suppress(*_FAULTS):
            named = images[one["image_id"]]
        with report.skipping(place, image=named), _named("image_id, category_id and bbox or segmentation", one):
            polygons = one.get("segmentation") or []
            if isinstance(polygons, dict):
                raise InputError("a segmentation must be of polygons. Received: run lengths")
            image, label = images[one["image_id"]], labels[one["category_id"]]
            size = sizes[one["image_id"]]
            for polygon in polygons:
                yield Annotation(place, image, label, "polygon", _polygon(_pairs(polygon)), size=size)
            if not polygons:
                left, top, width, height = map(float, one["bbox"])
                corners = _corners(left, top, left + width, top + height)
                yield Annotation(place, image, label, "box", corners, size=size)


def _by_id(pairs: Iterable[tuple[Any, str]]) -> dict[Any, str]:
    """The names by id, as merged files may have one twice: which is meant then cannot be told."""
    names: dict[Any, str] = {}
    for key, name in pairs:
        if names.setdefault(key, name) != name:
            raise InputError(f"an id must be of one image or category. Received: {shown(key)} of {shown(name)} too")
    return names


def read_yolo(path: Path, report: ImportReport) -> Iterator[Annotation]:
    """Boxes (class, centre, width, height) or polygons (class, x, y, ...) of the image of the file's name."""
    for number, line in enumerate(_text(path).splitlines(), start=1):
        label, *texts = line.split() or [""]
        place = f"{path}:{number}"
        if not label:
            continue
        with report.skipping(place, image=path.stem), _named("a class and 4 numbers, or 6 and more", line):
            numbers = list(map(float, texts))
            if len(numbers) == 4:
                x, y, width, height = numbers
                box = ((y - height / 2, x - width / 2), (y + height / 2, x + width / 2))
                yield Annotation(place, path.stem, label, "box", box, is_relative=True)
            else:
                points = tuple((row, col) for col, row in _pairs(numbers))
                yield Annotation(place, path.stem, label, "polygon", _checked(points), is_relative=True)


def read_class_names(folder: Path, *, source: Path) -> tuple[Path | None, dict[str, str]]:
    """The file that names the classes of YOLO files in `folder`, and the names by number, from 0; None where none is.

    It is the first of `CLASS_FILES` in the folder, else in the folders above up to `source`: a name a line.

    Raises:
        InputError: if it cannot be read.
    """
    for place in (folder, *folder.parents):
        for path in (place / name for name in CLASS_FILES):
            if path.is_file():
                names = (line.strip() for line in _text(path).splitlines())
                return path, {str(number): name for number, name in enumerate(names) if name}
        if place == source:
            break
    return None, {}


def read_voc(path: Path, report: ImportReport) -> Iterator[Annotation]:
    """The boxes of one image."""
    try:
        root = ElementTree.fromstring(path.read_bytes())  # which says its encoding itself
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise InputError(f"{path}: is not XML: {shown(str(error))}") from error
    image = root.findtext("filename") or path.stem
    size = _size(root.findtext("size/height"), root.findtext("size/width"))
    for number, one in enumerate(root.iter("object"), start=1):
        place = f"{path}: object {number}"
        with report.skipping(place, image=image), _named("name and bndbox", one.findtext("name")):
            sides = [float(one.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax")]
            left, top, right, bottom = (side - 1 for side in sides)
            corners = ((top, left), (bottom, right))
            yield Annotation(place, image, one.findtext("name") or "", "box", corners, size=size)


def read_labelme(path: Path, report: ImportReport) -> Iterator[Annotation]:
    """The shapes of one image; lines of three points and more are taken as closed."""
    values = _json(path)
    try:
        image, shapes = str(values.get("imagePath") or path.stem), list(values["shapes"])
    except _FAULTS as error:
        raise InputError(f"{path}: must hold shapes, as LabelMe has them") from error
    size = _size(values.get("imageHeight"), values.get("imageWidth"))
    for number, one in enumerate(shapes, start=1):
        place = f"{path}: shape {number}"
        with report.skipping(place, image=image), _named("label, points and shape_type", one):
            points = [(float(x), float(y)) for x, y in one["points"]]
            kind = str(one.get("shape_type") or "polygon")
            yield Annotation(place, image, str(one["label"]), *_labelme_shape(kind, points), size=size)


def _labelme_shape(kind: str, points: Sequence[tuple[float, float]]) -> tuple[Shape, Points]:
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        return "box", _corners(min(left, right), min(top, bottom), max(left, right), max(top, bottom))
    if kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        return "circle", (*_moved(points[:1]), (radius, radius))
    if kind == "point" and len(points) == 1:
        return "point", _moved(points)
    if kind in ("polygon", "linestrip") or (kind in ("rectangle", "rotation") and len(points) == 4):
        return "polygon", _polygon(points)  # X-AnyLabeling has rectangles by their corners
    rule = "a shape must be a polygon, rectangle, circle, point or linestrip, with its points"
    raise InputError(f"{rule}. Received: {shown(kind)} of {counted(len(points), 'point')}")


def read_via(path: Path, report: ImportReport) -> Iterator[Annotation]:
    """The regions of VIA's CSV or JSON; their label is the one attribute that they have."""
    found: list[tuple[str, str, Any]]
    if path.suffix.lower() == ".csv":
        found = [
            (row.place, row["#filename"], {key: row[column] for key, column in _VIA_REGION.items()})
            for row in read_rows(path, ("#filename", *_VIA_REGION.values()), report=report)
        ]
    else:
        values = _json(path)
        try:
            files = values.get("_via_img_metadata", values).values()
            found = [
                (f"{path}: {one['filename']}", str(one["filename"]), region)
                for one in files
                for region in (one["regions"].values() if isinstance(one["regions"], dict) else one["regions"])
            ]
        except _FAULTS as error:
            raise InputError(f"{path}: must hold files with regions, as VIA has them") from error
    for place, image, region in found:
        with report.skipping(place, image=image), _named(" and ".join(_VIA_REGION), region):
            shape, attributes = (region[key] for key in _VIA_REGION)
            if shape in ("{}", {}):
                continue
            told = json.loads(attributes) if isinstance(attributes, str) else attributes
            label = next(iter(told.values()), "") if len(told) < 2 else told["label"]
            yield Annotation(place, image, str(label), *via_shape(shape))


FORMATS: Final[dict[str, Callable[[Path, ImportReport], Iterator[Annotation]]]] = {
    "coco": read_coco,
    "yolo": read_yolo,
    "voc": read_voc,
    "labelme": read_labelme,
    "via": read_via,
}


@contextmanager
def _named(what: str, received: object) -> Iterator[None]:
    """Turns what a malformed entry raises into one line that names what it must have."""
    try:
        yield
    except _FAULTS as error:
        raise InputError(f"must have {what}. Received: {shown(received)}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'is not UTF-8'}") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {shown(str(error))}") from error


def _size(height: Any, width: Any) -> tuple[int, int] | None:
    """Of the image that was annotated; None where a file does not tell it, or has 0."""
    with suppress(*_FAULTS):
        size = int(height), int(width)
        return size if min(size) > 0 else None
    return None


def _pairs(numbers: Sequence[Any]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.asarray(numbers, dtype=np.float64).reshape(-1, 2)]


def _moved(points: Sequence[tuple[float, float]]) -> Points:
    """(row, col) of pixels' centres, of x and y from the corner of the first pixel."""
    return tuple((y - 0.5, x - 0.5) for x, y in points)


def _corners(left: float, top: float, right: float, bottom: float) -> Points:
    return _moved([(left, top), (right, bottom)])


def _polygon(points: Sequence[tuple[float, float]]) -> Points:
    return _checked(_moved(points))


def _checked(points: Points) -> Points:
    if fault := fault_of_points("polygon", len(points)):
        raise InputError(fault)
    return points
