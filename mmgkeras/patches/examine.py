"""One image of a data folder: read, divided, and held against its row of images.csv and its annotations.

Owns what is told of an image, and that it can be kept as JSON, for a process that goes on where another was killed.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmgkeras import images
from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError, counted, one_line
from mmgkeras.patches.findings import BLANK, SWAPPED, Finding, Severity, check_pixels, check_region_places
from mmgkeras.patches.labelling import Annotations, region_overlap
from mmgkeras.patches.likeness import image_hash
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.patches.shards import pixel_sha256
from mmgkeras.processes import kept
from mmgkeras.schema import CALCIFICATION, Grid, ImageRecord, Mammogram, Region, Side

_NOT_CALCIFIED: Final = re.compile(r"\b(no|non|not|without)[\s-]+(\w+[\s-]+)?calc|\bnoncalc")
"""Of a pathology in lower case: that there is no calcification."""


@dataclass(frozen=True, slots=True)
class ReadImage:
    """A mammogram at the pixel size asked for and how it divides.

    Attributes:
        mammogram: resampled, or as read.
        shape, native_mm: (height, width) and pixel size of the image as it is.
        grid: of the mammogram.
        breast: of the mammogram.
        chest_wall: by its pixels.
        pixel_sha256: of the image as it is.
    """

    mammogram: Mammogram
    shape: tuple[int, int]
    native_mm: float | None
    grid: Grid
    breast: images.Breast
    chest_wall: Side | None
    pixel_sha256: str


Use = Callable[[ReadImage, NDArray[np.int8]], Any]
"""What is made of an image without fault and of the labels of its patches: something that JSON can hold."""
Task = tuple[ImageRecord, Annotations]
"""An image, and its annotations alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What one image told.

    Attributes:
        record: of the image.
        findings: on it.
        is_lossy: whether it was compressed with loss.
        shape: (height, width); None if it could not be read, and all that follows is empty then.
        pixel_type: of the mammogram.
        side: where its chest wall is, by the pixels: "as told", "at the other edge" or "unclear".
        pixel_sha256, likeness: by which the same and nearly the same images are found.
        unplaced: ids of the cluster regions that lie in no positive patch.
        made: what `Use` gave; None if it was not called.
    """

    record: ImageRecord
    findings: tuple[Finding, ...]
    is_lossy: bool = False
    shape: tuple[int, int] | None = None
    pixel_type: str = ""
    side: str = ""
    pixel_sha256: str = ""
    likeness: str = ""
    unplaced: tuple[str, ...] = ()
    made: Any = None


def examine(task: Task, *, data: Path, config: PatchesConfig, use: Use | None) -> Examined:
    """What one image told; `use` is called if no annotation of it is at fault."""
    record, annotations = task
    is_lossy = images.is_lossy(data / record.path)
    try:
        native = images.read(record, data)
    except InputError as error:
        lines = str(error).splitlines()
        findings = [placed(line, "fault", "image", record, path=data / record.path) for line in lines]
        return Examined(record=record, findings=tuple(findings), is_lossy=is_lossy)
    try:
        image = _divided(native, config=config)
    except InputError as error:
        fault = on_image(record, "fault", "pixel size", str(error))
        return Examined(record=record, findings=(fault,), is_lossy=is_lossy)
    faults = annotations.faults(record.image_id, image.grid, shape=image.shape)
    findings = [placed(fault, "fault", "annotation", record, path=data) for fault in faults]
    findings += check_pixels(image.mammogram.pixels, record=record, breast=image.breast, chest_wall=image.chest_wall)
    off_breast = partial(
        check_region_places,
        pixels=image.mammogram.pixels,
        breast=image.breast,
        place_of=annotations.place_of,
    )
    fitting = annotations.fitting(record.image_id, shape=image.shape) if faults else annotations
    if faults and image.shape == image.mammogram.pixels.shape:
        fit = {region.region_id for region in fitting.regions[record.image_id]}
        astray = [region for region in annotations.regions.get(record.image_id, ()) if region.region_id not in fit]
        findings += [finding for finding in off_breast(astray) if finding.kind == SWAPPED]
    remarks = fitting.remarks(record.image_id, shape=image.shape)
    findings += [placed(remark, "note", "region beyond the image", record, path=data) for remark in remarks]
    regions = fitting.regions_on(record.image_id, image.grid, shape=image.shape)
    findings += off_breast(regions)
    findings += _of_pathology(record, annotations)
    unplaced, made = [], None
    if not faults:
        labels = annotations.labels(record, image.grid, shape=image.shape)
        for region, part in _unplaced(regions, image, labels):
            what = (
                f"cluster region {region.region_id} lies in no positive patch; a patch holds at most {part:.0%} of it"
            )
            finding = on_image(record, "note", "no positive patch", what)
            findings.append(replace(finding, place=annotations.place_of(region)))
            unplaced.append(region.region_id)
        made = None if use is None else use(image, labels)
    wall = image.chest_wall
    side = "unclear" if wall is None else "as told" if wall == record.chest_wall_side else "at the other edge"
    return Examined(
        record=record,
        findings=tuple(findings),
        shape=image.shape,
        pixel_type=str(native.pixels.dtype),
        is_lossy=is_lossy,
        side=side,
        pixel_sha256=image.pixel_sha256,
        likeness="" if any(finding.kind == BLANK for finding in findings) else image_hash(native.pixels),
        unplaced=tuple(unplaced),
        made=made,
    )


def _divided(native: Mammogram, *, config: PatchesConfig) -> ReadImage:
    record = native.record
    mammogram = images.at_spacing(native, config.spacing_mm)
    height, width = mammogram.pixels.shape
    breast = images.find_breast(mammogram.pixels)
    return ReadImage(
        mammogram=mammogram,
        shape=(native.pixels.shape[0], native.pixels.shape[1]),
        native_mm=record.spacing_mm,
        grid=Grid(height, width, config.patch_px, config.stride_px or config.patch_px, record.chest_wall_side),
        breast=breast,
        chest_wall=images.estimate_chest_wall(breast),
        pixel_sha256=pixel_sha256(native.pixels),
    )


def examine_kept(task: Task, *, data: Path, config: PatchesConfig, use: Use | None, keep: Path | None) -> Examined:
    """The same, kept in a folder as JSON: read from there where it is and the image has not changed since.

    The folder is of no use once the machine has gone down: nothing waits for the disk.
    """
    if keep is None:
        return examine(task, data=data, config=config, use=use)
    record = task[0]
    place = keep / f"{file_stem(record)}.json"

    def make() -> dict[str, Any]:
        told = examine(task, data=data, config=config, use=use)
        # asdict would copy thousands of numbers one by one.
        value = {name: getattr(told, name) for name in Examined.__slots__ if name != "record"}
        return {**value, "findings": [asdict(finding) for finding in told.findings]}

    value = kept(place, data / record.path, make, is_synced=False)
    return Examined(
        **{
            **value,
            "record": record,
            "findings": tuple(Finding(**finding) for finding in value["findings"]),
            "shape": value["shape"] and (value["shape"][0], value["shape"][1]),
            "unplaced": tuple(value["unplaced"]),
        }
    )


def file_stem(record: ImageRecord) -> str:
    """A file's name for what is kept of an image, whatever its id is made of."""
    return hashlib.sha256(record.image_id.encode()).hexdigest()[:32]


def _of_pathology(record: ImageRecord, annotations: Annotations) -> Iterator[Finding]:
    """Whether what is said of an image agrees with whether anything is marked on it."""
    listed = annotations.patch_labels.get(record.image_id)
    num_marks = sum(region.kind != "other" for region in annotations.regions.get(record.image_id, ()))
    num_marks += 0 if listed is None else int((listed["label"] == CALCIFICATION).sum())
    if record.is_called_normal and num_marks:
        what = (
            f"is called normal, but has calcification in {counted(num_marks, 'region or patch', 'regions or patches')}"
        )
        yield on_image(record, "warning", "called normal", what)
    told = _NOT_CALCIFIED.sub("", (record.pathology or "").casefold())
    if "calc" in told and not num_marks and annotations.read_from != "nothing":
        what = f"pathology is {record.pathology!a}, but no calcification is marked"
        yield on_image(record, "warning", "called calcified", what)


def _unplaced(regions: Sequence[Region], image: ReadImage, labels: NDArray[np.int8]) -> Iterator[tuple[Region, float]]:
    """Each cluster region that touches no positive patch, and the largest part of it in one: on the corner of four."""
    for region in regions:
        if region.kind != "cluster":  # an individual mark is told by its own pixels, and "other" is no calcification
            continue
        covered = region_mask(region, height=image.grid.height, width=image.grid.width)
        rows, cols, overlap_px = region_overlap(image.grid, covered)
        if not (labels[np.ix_(rows, cols)][overlap_px > 0] == CALCIFICATION).any():
            yield region, float(overlap_px.max() / covered.mask.sum())


def placed(line: str, severity: Severity, kind: str, record: ImageRecord | None = None, *, path: Path) -> Finding:
    """The finding of a line that begins with its place: a file, which is `path` or lies below it, or a line of one."""
    line, begin = one_line(line), one_line(str(path))
    begin = begin if line.startswith(begin) else ""  # which may hold ": " too
    rest, _, what = line.removeprefix(begin).partition(": ")
    return Finding(severity, kind, what, f"{begin}{rest}", None if record is None else record.image_id)


def on_image(record: ImageRecord, severity: Severity, kind: str, what: str) -> Finding:
    """A finding on an image, which its place in images.csv will be put to."""
    return Finding(severity, kind, f"image {record.image_id}: {what}", image_id=record.image_id)
