"""Mammograms of a data folder scored by a model and drawn, many in one call.

Owns the names of the pictures and what becomes of an image that cannot be read. How a picture looks is `overlay`'s.
"""

import hashlib
import os
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import imagecodecs
import numpy as np
from PIL import Image

from mmgkeras import images
from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.files import atomic_files, check_apart
from mmgkeras.images.samples import pillow_faults
from mmgkeras.inference.detection import check_threshold, on_breast
from mmgkeras.inference.mark_files import MADE_BY
from mmgkeras.overlay.draw import DrawOptions, draw_with_preview
from mmgkeras.overlay.marks import Truth
from mmgkeras.pacs.algorithm import is_dicom_result
from mmgkeras.patches.labelling import Annotations, read_annotations
from mmgkeras.progress import Track, untracked
from mmgkeras.savedmodel.classifier import SPACING_TOLERANCE, Classifier, check_stride, load
from mmgkeras.savedmodel.detector import model_folder
from mmgkeras.schema import ImageRecord, Mammogram, ScoreMap
from mmgkeras.tables import read_images

PREVIEWS: Final = "previews"
_COMPRESSION: Final = 2
"""Of libdeflate: files of mammograms are as small as Pillow's, and written in a quarter of the time."""
_EIGHT_BITS_OF_COLOUR: Final = bytes((8, 2, 0, 0, 0))
_ABOVE: Final = 2
"""PNG's filter that takes from each row the one above."""
_MADE_BY: Final = "Software"
"""The key of the text in every picture that tells it from a mammogram, or another command's picture, of its name."""
OVERLAY: Final = "mmgkeras overlay"
_MAX_NAME: Final = 150
_SAFE: Final = " +,=@"


@dataclass(frozen=True, slots=True)
class Marked:
    """What came of a call.

    Attributes:
        threshold: that the pictures show.
        pictures: by image_id.
        skipped: why other images have none.
        notes: what a reader of the pictures must know besides, one line each.
    """

    threshold: float
    pictures: dict[str, Path] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def mark_folder(
    model: Path,
    data: Path,
    *,
    out: Path,
    image_ids: Sequence[str] = (),
    threshold: float | None = None,
    stride_px: int | None = None,
    truth: PatchesConfig | None = None,
    with_activation: bool = False,
    overwrite: bool = False,
    track: Track = untracked,
) -> Marked:
    """Draws what a model says of mammograms: `out/<name>.png` at native resolution and `out/previews/<name>.png`.

    Args:
        model: a SavedModel's folder, or "detector".
        data: folder with images.csv, and regions.csv or labels.csv where the truth is drawn.
        out: folder of the pictures.
        image_ids: which to draw; all if empty.
        threshold: patches of at least this probability are marked; None for the model's operating point, else 0.5.
        stride_px: distance between patches; None for the model's.
        truth: the label rule by which the truth is drawn too; None to leave it out.
        with_activation: draw the class activation inside the marked patches.
        overwrite: replace pictures that are there.
        track: called with the records.

    Returns:
        The pictures that were written, and the images that were skipped because they could not be read, scored or
        drawn.

    Raises:
        InputError: if a table or the model cannot be used, an image_id is not listed, or a picture exists and
            `overwrite` is not set, or activation is to be drawn and the model cannot localise, or the threshold is not
            above 0 and at most 1.
    """
    check_threshold(threshold)
    named, model = model, model_folder(model)
    records = _chosen(read_images(data / "images.csv"), image_ids=image_ids, path=data / "images.csv")
    places = {record.image_id: _places(record.image_id) for record in records}
    names = [name for both in places.values() for name in both]
    by_id = {record.image_id: record for record in records}
    check_apart(out / PREVIEWS, [model, data])
    with atomic_files(out, names, label="overlay", overwrite=overwrite, is_own=is_overlay) as folder:
        classifier = load(model)
        check_stride(stride_px, model=named, metadata=classifier.metadata)
        marked = Marked(threshold=classifier.metadata.threshold if threshold is None else threshold)
        if with_activation:
            marked.notes.extend(_cell_notes(classifier))
        annotations = None if truth is None else _annotations(data, truth, classifier=classifier, stride_px=stride_px)
        for record in track(records, "draw mammograms"):
            try:
                mammogram = images.read(record, data)
                seen = images.at_spacing(mammogram, classifier.metadata.resamples_to_mm)
                if with_activation:
                    score_map, activation = classifier.localise_mammogram(seen, stride_px=stride_px)
                else:
                    score_map, activation = classifier.score(seen, stride_px=stride_px), None
                score_map = on_breast(score_map, images.find_breast(seen.pixels))
                options = DrawOptions(
                    threshold=marked.threshold,
                    truth=None if annotations is None else _truth(annotations, mammogram, score_map),
                    activation=activation,
                )
                drawing = draw_with_preview(mammogram, score_map, options=options)
            except InputError as error:
                marked.skipped[record.image_id] = "; ".join(str(error).splitlines())
                continue
            native, preview = places[record.image_id]
            save_picture(drawing.preview, folder / preview)
            save_picture(drawing.native, folder / native)
            marked.pictures[record.image_id] = out / native
        marked.notes.extend(_spacing_notes(classifier, [by_id[image_id] for image_id in marked.pictures]))
        return marked


def file_stem(image_id: str) -> str:
    """A file's name without suffix for any image_id: different for different ones, harmless in every file system.

    Letters, digits and -_.~ +,=@ stay; the rest is percent-encoded, byte by byte; a long one ends in a digest.
    """
    stem = quote(image_id, safe=_SAFE, errors="surrogateescape")
    if stem.startswith((".", " ")):
        stem = f"%{ord(stem[0]):02X}{stem[1:]}"
    if len(stem) > _MAX_NAME:
        stem = f"{stem[:_MAX_NAME]}-{hashlib.sha256(os.fsencode(image_id)).hexdigest()[:16]}"
    return stem


def _chosen(records: Sequence[ImageRecord], *, image_ids: Sequence[str], path: Path) -> list[ImageRecord]:
    """The records asked for, in the order asked for, each once."""
    if not image_ids:
        return list(records)
    by_id = {record.image_id: record for record in records}
    unknown = [image_id for image_id in image_ids if image_id not in by_id]
    if unknown:
        raise InputError(f"{path}: lists no image {', '.join(unknown)}")
    return [by_id[image_id] for image_id in dict.fromkeys(image_ids)]


def _places(image_id: str) -> tuple[str, str]:
    """Of the picture at native resolution and of its preview, in the folder of the pictures."""
    name = f"{file_stem(image_id)}.png"
    return name, f"{PREVIEWS}/{name}"


def _cell_notes(classifier: Classifier) -> list[str]:
    """A line where the class activation of a patch is one number.

    Raises:
        InputError: if the model gives none.
    """
    if len(classifier.cell_centres_px) > 1:
        return []
    edge = classifier.metadata.patch_px
    return [
        f"{classifier.path}: its class activation has one cell for a patch of {edge} px: it says which patches are "
        "marked, and nothing of where in them"
    ]


def _spacing_notes(classifier: Classifier, records: Sequence[ImageRecord]) -> list[str]:
    """A line for each size of pixel that is not the model's, and is not resampled to it."""
    if classifier.metadata.resamples_to_mm is not None:
        unknown = sum(record.spacing_mm is None for record in records)
        own_mm = classifier.metadata.resamples_to_mm
        line = (
            f"{unknown} of the images have no spacing_mm and were taken as they are, {classifier.path} has {own_mm:g}"
        )
        return [line] if unknown else []
    counts = Counter(record.spacing_mm for record in records if classifier.differs_in_spacing(record.spacing_mm))
    return [
        f"{classifier.path} was trained at {classifier.metadata.spacing_mm:g} mm a pixel and {count} of the images "
        f"have {spacing_mm:g}: over {SPACING_TOLERANCE:.0%} apart, the marks say little"
        for spacing_mm, count in counts.items()
    ]


def _annotations(data: Path, config: PatchesConfig, *, classifier: Classifier, stride_px: int | None) -> Annotations:
    """What is known of the images; the patches of labels.csv are taken to be those of the model."""
    annotations = read_annotations(data, config)
    own_px = classifier.metadata.stride_px
    if annotations.read_from == "labels.csv" and stride_px not in (None, own_px):
        raise InputError(
            f"{data / 'labels.csv'}: its labels are of the model's patches, every {own_px} px. "
            f"Received: a stride of {stride_px} px"
        )
    return annotations


def _truth(annotations: Annotations, mammogram: Mammogram, score_map: ScoreMap) -> Truth:
    record, grid = mammogram.record, score_map.grid
    shape = (mammogram.pixels.shape[0], mammogram.pixels.shape[1])
    faults = annotations.faults(record.image_id, grid, shape=shape)
    if faults:
        raise InputError("; ".join(faults))
    labels = annotations.labels(record, grid, shape=shape)
    return Truth(annotations.regions.get(record.image_id, ()), labels)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Writes `picture_bytes` of `overlay`; makes the folder."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture_bytes(picture, made_by=OVERLAY))


def picture_bytes(picture: Image.Image, *, made_by: str) -> bytes:
    """Of a picture in RGB a PNG that says by which command it was made."""
    rows = np.frombuffer(picture.tobytes(), np.uint8).reshape(picture.height, -1)
    filtered = np.full((picture.height, 1 + rows.shape[1]), _ABOVE, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    content: Any = filtered.data  # imagecodecs' types do not know that it takes them
    chunks = (
        b"IHDR" + struct.pack(">II", picture.width, picture.height) + _EIGHT_BITS_OF_COLOUR,
        b"tEXt" + f"{_MADE_BY}\0{made_by}".encode(),
        b"IDAT" + imagecodecs.deflate_encode(content, level=_COMPRESSION),
        b"IEND",
    )
    parts = (
        (struct.pack(">I", len(chunk) - 4), chunk, struct.pack(">I", imagecodecs.deflate_crc32(chunk)))
        for chunk in chunks
    )
    return b"".join([b"\x89PNG\r\n\x1a\n", *chain.from_iterable(parts)])


def is_overlay(path: Path, *, made_by: str = OVERLAY) -> bool:
    """Whether a picture says that it was made by this command: any other of that name is not to be replaced."""
    try:
        with pillow_faults(), Image.open(path, formats=["PNG"]) as picture:
            return bool(picture.info.get(_MADE_BY) == made_by)
    except (InputError, OSError, Image.DecompressionBombError):
        return False


def find_mammograms(paths: Iterable[Path]) -> tuple[list[images.Input], list[str]]:
    """As `images.find_inputs`, without results of ours, and a file that is reached by several paths once, by the first.

    Raises:
        InputError: as `images.find_inputs`.
    """
    inputs, passed_over = images.find_inputs(paths, is_result=is_result)
    first = {os.path.realpath(one.path): one for one in reversed(inputs)}
    return [one for one in inputs if first[os.path.realpath(one.path)] is one], passed_over


def is_result(path: Path) -> bool:
    """Whether a file in a folder of mammograms is none: a picture or a DICOM result of ours."""
    return is_overlay(path) or is_overlay(path, made_by=MADE_BY) or is_dicom_result(path)
