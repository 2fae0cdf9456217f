"""Mammograms marked from their files alone: no table, no training. Owns `predict`'s files: marks.csv, marks.json, PNGs.

How a mark is found is `detection`'s; how a picture looks is `overlay`'s.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from mmgkeras import __version__
from mmgkeras.errors import InputError, extra_needed
from mmgkeras.files import atomic_files, check_apart
from mmgkeras.images import Single, read_single
from mmgkeras.inference.detection import Detection, Mark, detect, find_marks
from mmgkeras.inference.marking import PREVIEWS, file_stem, is_overlay, save_picture
from mmgkeras.json_files import home_path
from mmgkeras.models.weights import DETECTOR
from mmgkeras.overlay.draw import DrawOptions, draw_with_preview
from mmgkeras.pacs.algorithm import Algorithm
from mmgkeras.progress import Track, untracked
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.detector import model_folder, read_detector
from mmgkeras.savedmodel.metadata import ModelMetadata
from mmgkeras.schema import ImageRecord, Laterality
from mmgkeras.tables.cells import to_cell

MARKS_CSV: Final = "marks.csv"
MARKS_JSON: Final = "marks.json"
MARK_COLUMNS: Final = ("image", "mark", "probability", "row", "col", "top", "left", "bottom", "right", "area_px")
"""Of marks.csv; `image` is the path as it was given (~/... below the home folder), the rest are `Mark`'s, from 1."""
_MADE_BY: Final = "mmgkeras predict"


@dataclass(frozen=True, slots=True)
class Predicted:
    """One mammogram.

    Attributes:
        path: as given.
        record: of the mammogram.
        side_from, hangs_mirrored: as of `Single`.
        resampled_to_mm: the model's pixel size where the mammogram had another; None where it was taken as it is.
        marks: the most probable first.
        picture: that was drawn.
    """

    path: Path
    record: ImageRecord
    side_from: str
    hangs_mirrored: bool
    resampled_to_mm: float | None
    marks: Sequence[Mark]
    picture: Path

    def line(self) -> str:
        """What was found, and what was taken for granted, in one line."""
        first = f", the first with probability {self.marks[0].probability:.2f}" if self.marks else ""
        number = f"{len(self.marks)} mark{'' if len(self.marks) == 1 else 's'}{first}"
        hanging = ", hanging mirrored" if self.hangs_mirrored else ""
        size = "pixel size unknown" if self.record.spacing_mm is None else f"{self.record.spacing_mm:g} mm a pixel"
        resampled = "" if self.resampled_to_mm is None else f", resampled to {self.resampled_to_mm:g}"
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


def predict(
    paths: Sequence[Path],
    *,
    out: Path,
    model: Path = Path(DETECTOR),
    laterality: Laterality | None = None,
    spacing_mm: float | None = None,
    threshold: float | None = None,
    marks_per_image: float | None = None,
    stride_px: int | None = None,
    dicom_out: Path | None = None,
    overwrite: bool = False,
    track: Track = untracked,
) -> Predictions:
    """Marks mammograms: `out/marks.csv`, `out/marks.json`, `out/<name>.png` at native resolution, `out/previews/`.

    Args:
        paths: of image files; one that is named twice is read once.
        out: the folder of the results.
        model: a SavedModel's folder, or "detector".
        laterality: of all of them; None for what a DICOM header says, else the file's name, else the pixels.
        spacing_mm: edge of a pixel of all of them; None for what a DICOM header says, else unknown.
        threshold: where the mean probability of the patches is at least this, there is a mark; None for the model's.
        marks_per_image: instead of a threshold, of the detector alone: the one with so many false marks an image on
            phantoms.
        stride_px: distance between patches in pixels of the model; None for the model's.
        dicom_out: the folder of results for a PACS, as `pacs.dicom_results` makes them; DICOM files alone have any.
        overwrite: replace results that are there.
        track: called with the paths.

    Returns:
        The marks, and the files that could not be read or scored.

    Raises:
        InputError: if the model cannot be used, or a result exists and `overwrite` is not set.
    """
    if marks_per_image is not None:
        if str(model) != DETECTOR or threshold is not None:
            raise InputError("a number of marks an image can be asked of the detector alone, and without a threshold")
        threshold = read_detector().threshold(marks_per_image)
    model = model_folder(model)
    paths = list(dict.fromkeys(paths))
    names = _names(paths)
    check_apart(out, [model, *paths])
    written = [MARKS_CSV, MARKS_JSON, *(place for name in names.values() for place in (name, f"{PREVIEWS}/{name}"))]
    with (
        atomic_files(out, written, label="predict", overwrite=overwrite, is_own=_is_own) as folder,
        _dicom_writer(dicom_out, names, overwrite=overwrite) as write_dicom,
    ):
        classifier = load(model)
        done = Predictions(classifier.metadata.threshold if threshold is None else threshold)
        algorithm = dicom_out and Algorithm.of(classifier, threshold=done.threshold, stride_px=stride_px)
        for path in track(paths, "mark mammograms"):
            try:
                single = read_single(path, laterality=laterality, spacing_mm=spacing_mm)
                detection = detect(classifier, single.mammogram, stride_px=stride_px)
                height, width = single.mammogram.pixels.shape
                marks = find_marks(detection, threshold=done.threshold, shape=(height, width))
                write_dicom(path, single=single, detection=detection, marks=marks, algorithm=algorithm)
                _draw(detection, single, folder / names[path], threshold=done.threshold)
            except InputError as error:
                done.skipped[path] = "; ".join(str(error).splitlines()).removeprefix(f"{path}: ")
                continue
            done.notes.extend(f"{home_path(path)}: {note}" for note in single.notes)
            done.images.append(
                Predicted(
                    path=path,
                    record=single.mammogram.record,
                    side_from=single.side_from,
                    hangs_mirrored=single.hangs_mirrored,
                    resampled_to_mm=detection.resampled_to_mm,
                    marks=marks,
                    picture=out / names[path],
                )
            )
        done.notes.extend(_notes(classifier, done))
        _write_csv(folder / MARKS_CSV, done)
        _write_json(folder / MARKS_JSON, done, classifier.metadata)
        return done


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """A picture's name for each file; files of one name in several folders get numbers."""
    names: dict[Path, str] = {}
    for path in paths:
        stem, number = file_stem(path.stem), 1
        while f"{stem if number == 1 else f'{stem}-{number}'}.png".casefold() in map(str.casefold, names.values()):
            number += 1
        names[path] = f"{stem}.png" if number == 1 else f"{stem}-{number}.png"
    return names


@contextmanager
def _dicom_writer(folder: Path | None, names: Mapping[Path, str], *, overwrite: bool) -> Iterator[Callable[..., None]]:
    """Yields what writes the DICOM results of one mammogram; nothing is written where no folder is given."""
    if folder is None:
        yield lambda *_, **__: None
        return
    with extra_needed("pacs", to="--dicom-out"):
        from mmgkeras.pacs.dicom_results import dicom_files
    check_apart(folder, names)
    with dicom_files(folder, {path: Path(name).stem for path, name in names.items()}, overwrite=overwrite) as write:
        yield write


def _draw(detection: Detection, single: Single, path: Path, *, threshold: float) -> None:
    options = DrawOptions(threshold=threshold, activation=detection.activation)
    drawing = draw_with_preview(single.mammogram, detection.score_map, options=options)
    save_picture(drawing.native, path)
    save_picture(drawing.preview, path.parent / PREVIEWS / path.name)


def _notes(classifier: Classifier, done: Predictions) -> list[str]:
    own_mm = classifier.metadata.spacing_mm
    unknown = sum(image.record.spacing_mm is None for image in done.images)
    if not unknown or own_mm is None:
        return []
    return [
        f"the pixel size of {unknown} image{'s is' if unknown > 1 else ' is'} not known, and taken for the model's, "
        f"{own_mm:g} mm; where it differs, give it"
    ]


def _write_csv(path: Path, done: Predictions) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(MARK_COLUMNS)
        for image in done.images:
            for number, mark in enumerate(image.marks, start=1):
                writer.writerow([to_cell(str(home_path(image.path))), number, *asdict(mark).values()])


def _write_json(path: Path, done: Predictions, metadata: ModelMetadata) -> None:
    content = {
        "made_by": _MADE_BY,
        "mmgkeras_version": __version__,
        "model": {"network": metadata.network, "store_checksum": metadata.store_checksum},
        "threshold": done.threshold,
        "images": [
            {
                "path": str(home_path(image.path)),
                "laterality": image.record.laterality,
                "laterality_from": image.side_from,
                "view": image.record.view,
                "chest_wall": image.record.chest_wall_side,
                "spacing_mm": image.record.spacing_mm,
                "resampled_to_mm": image.resampled_to_mm,
                "marks": [asdict(mark) for mark in image.marks],
            }
            for image in done.images
        ],
        "skipped": [{"path": str(home_path(name)), "reason": reason} for name, reason in done.skipped.items()],
        "notes": done.notes,
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="replace")


def _is_own(path: Path) -> bool:
    """Whether a result of that name was made here."""
    if path.suffix == ".png":
        return is_overlay(path)
    with path.open("rb") as file:
        head = file.read(200)
    return head.startswith(",".join(MARK_COLUMNS).encode()) or f'"made_by": "{_MADE_BY}"'.encode() in head
