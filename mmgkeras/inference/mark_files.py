"""The files of `predict`: marks.csv, marks.json, and on request marks.jsonl and a GeoJSON file for each image.

Owns their formats. A mark's numbers are in pixels of the image file; paths below the home folder begin with ~/, and
bytes of them that are no UTF-8 stand as `in_unicode` writes them.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from mmgkeras import __version__
from mmgkeras.inference.detection import Mark
from mmgkeras.json_files import home_path, in_unicode, values_in_unicode
from mmgkeras.schema import ImageRecord, probability_text
from mmgkeras.tables.cells import to_cell

MARKS_CSV: Final = "marks.csv"
MARKS_JSON: Final = "marks.json"
MARKS_JSON_LINES: Final = "marks.jsonl"
GEOJSON_FOLDER: Final = "geojson"
MARK_COLUMNS: Final = ("image", "mark", "probability", "row", "col", "top", "left", "bottom", "right", "area_px")
"""Of marks.csv; `image` is the path as it was given (~/... below the home folder), the rest are `Mark`'s, from 1."""
MADE_BY: Final = "mmgkeras predict"
_COLOUR: Final = [255, 80, 0]


@dataclass(frozen=True, slots=True)
class Predicted:
    """One mammogram.

    Attributes:
        path: as given.
        record: of the mammogram.
        side_from, hangs_mirrored: as of `Single`.
        resampled_to_mm: the model's pixel size where the mammogram had another; None where it was taken as it is.
        marks: the most probable first.
        name: of its files, without suffix.
    """

    path: Path
    record: ImageRecord
    side_from: str
    hangs_mirrored: bool
    resampled_to_mm: float | None
    marks: Sequence[Mark]
    name: str

    def line(self) -> str:
        """What was found, and what was taken for granted, in one line."""
        highest = probability_text(self.marks[0].probability, decimals=2) if self.marks else ""
        first = f", the first with probability {highest}" if self.marks else ""
        number = f"{len(self.marks)} mark{'' if len(self.marks) == 1 else 's'}{first}"
        hanging = ", hanging mirrored" if self.hangs_mirrored else ""
        size = "pixel size unknown" if self.record.spacing_mm is None else f"{self.record.spacing_mm:g} mm a pixel"
        resampled = "" if self.resampled_to_mm is None else f", resampled to {self.resampled_to_mm:.3g}"
        side = {"L": "left", "R": "right"}[self.record.laterality]
        return f"{self.path}: {number}; {side} breast by {self.side_from}{hanging}; {size}{resampled}"


@dataclass(frozen=True, slots=True)
class Predictions:
    """What came of a call.

    Attributes:
        threshold: of the marks.
        images: in the order given.
        skipped: why other files have no marks.
        notes: what a reader must know besides, one line each.
    """

    threshold: float
    images: list[Predicted] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def write_marks(done: Predictions, folder: Path, *, models: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Writes those of the files that are among `names`, paths relative to `folder`.

    Args:
        done: what came of the call.
        folder: that they go to.
        models: which models scored.
        names: of all files that the call makes.
    """
    _write_csv(folder / MARKS_CSV, done)
    _write_json(folder / MARKS_JSON, done, models)
    if MARKS_JSON_LINES in names:
        lines = [json.dumps(values_in_unicode(_described(image)), ensure_ascii=False) for image in done.images]
        _write_text(folder / MARKS_JSON_LINES, "".join(f"{line}\n" for line in lines))
    for image in done.images:
        path = geojson_name(image.name)
        if path in names:
            (folder / path).parent.mkdir(exist_ok=True)
            _write_text(folder / path, json.dumps(geojson(image), indent=1) + "\n")


def geojson_name(name: str) -> str:
    """Where the GeoJSON of an image goes."""
    return f"{GEOJSON_FOLDER}/{name}.geojson"


def geojson(image: Predicted) -> dict[str, Any]:
    """The boxes of the marks as annotations that QuPath imports: (x, y) from the top left corner of the image."""
    features = []
    for number, mark in enumerate(image.marks, start=1):
        top, left, bottom, right = mark.top, mark.left, mark.bottom, mark.right
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        properties = {
            "objectType": "annotation",
            "name": f"mark {number}",
            "classification": {"name": "calcification?", "color": _COLOUR},
            "measurements": {"probability": mark.probability, "row": mark.row, "col": mark.col},
            "made_by": MADE_BY,
        }
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "made_by": MADE_BY, "features": features}


def is_own_text(path: Path) -> bool:
    """Whether a file of that name, no picture, was made here."""
    with path.open("rb") as file:
        head = file.read(2000)
    if path.name == MARKS_JSON_LINES:
        return head.startswith(b'{"path": ') or not head
    return head.startswith(",".join(MARK_COLUMNS).encode()) or f'"made_by": "{MADE_BY}"'.encode() in head


def _write_csv(path: Path, done: Predictions) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(MARK_COLUMNS)
        for image in done.images:
            for number, mark in enumerate(image.marks, start=1):
                writer.writerow([to_cell(in_unicode(str(home_path(image.path)))), number, *asdict(mark).values()])


def _write_json(path: Path, done: Predictions, models: Sequence[Mapping[str, Any]]) -> None:
    content = {
        "made_by": MADE_BY,
        "mmgkeras_version": __version__,
        **({"model": models[0]} if len(models) == 1 else {"models": list(models)}),
        "threshold": done.threshold,
        "images": [_described(image) for image in done.images],
        "skipped": [{"path": str(home_path(name)), "reason": reason} for name, reason in done.skipped.items()],
        "notes": done.notes,
    }
    _write_text(path, json.dumps(values_in_unicode(content), indent=2, ensure_ascii=False) + "\n")


def _described(image: Predicted) -> dict[str, Any]:
    return {
        "path": str(home_path(image.path)),
        "laterality": image.record.laterality,
        "laterality_from": image.side_from,
        "view": image.record.view,
        "chest_wall": image.record.chest_wall_side,
        "spacing_mm": image.record.spacing_mm,
        "resampled_to_mm": image.resampled_to_mm,
        "marks": [asdict(mark) for mark in image.marks],
    }


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
