"""What is wrong or odd in a data folder, as data; and what the pixels of one image say against its row and its regions.

Owns the severities, and the limits beyond which an image is odd. docs/check.md says how often they err.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.images import Breast, is_narrow
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.schema import ImageRecord, Pixels, Region, Side

Severity = Literal["fault", "warning", "note"]
SEVERITIES: Final = get_args(Severity)

_SAMPLES: Final = 1024
"""Pixels along the longer side that are looked at where every one would say the same."""
BLANK: Final = "blank image"
SWAPPED: Final = "rows and columns swapped"
_BLANK: Final = 0.02
"""The least part of its largest value over which an image's values spread."""
_DARKEST: Final = 0.15
"""Of the breast's median: a darker region is background. In mini-MIAS two have 0.02 and 0.09, all others over 0.7."""
_SATURATED: Final = 0.1
"""Of the breast; real mammograms have up to 0.007 and phantoms up to 0.023 of it at the largest value."""
_BORDER: Final = 0.01
"""Of the shorter side: so wide a strip at each edge is a border."""
_BRIGHT: Final = 0.7
"""Of the 99th percentile."""
_CORNER: Final = (0.12, 0.15)
"""Of the height and width of the breast: the corner at the chest wall where the pectoral muscle shows."""
_MUSCLE: Final = (1.12, 0.6)
"""Mean of the upper corner over that of the breast, and how far it lies above the lower corner's: it shows a muscle."""
_ALIKE: Final = (0.5, 0.95, 0.08)
"""The least and most of either corner, and the most between the two, where there is surely none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at.

    Attributes:
        severity: "fault" if an image, annotation or table cannot be used as it is, "warning" if something is probably
            wrong, "note" for what should be known.
        kind: what it is one of, in two or three words.
        what: in one line, with what was received and what is allowed; without the place.
        place: the file and, where there is one, the line, such as "data/images.csv:7"; "" for the folder as a whole.
        image_id: of the image concerned, if it is one.
    """

    severity: Severity
    kind: str
    what: str
    place: str = ""
    image_id: str | None = None

    def __str__(self) -> str:
        """One line with the place."""
        return f"{self.place}: {self.what}" if self.place else self.what


def check_pixels(pixels: Pixels, *, record: ImageRecord, breast: Breast, chest_wall: Side | None) -> Iterator[Finding]:
    """What is odd of pixels (H, W), their breast and its chest wall beside what images.csv says."""

    def warning(kind: str, what: str) -> Finding:
        return Finding("warning", kind, f"image {record.image_id}: {what}", image_id=record.image_id)

    low, high, full = int(pixels.min()), int(pixels.max()), int(np.iinfo(pixels.dtype).max)
    if high - low <= _BLANK * high:
        yield warning(BLANK, f"holds nothing, its values are from {low} to {high}")
        return
    if is_narrow(pixels):
        yield warning("narrow range", f"uses a quarter of its range or less, its largest value is {high} of {full}")
    if breast.looks_inverted:
        yield warning("inverted image", "looks inverted: most of it is nearly white; bright must be dense")
    elif _has_bright_border(pixels):
        yield warning("bright border", "has bright borders at opposite edges, which count as breast")
    else:
        if chest_wall is None:
            what = f"image {record.image_id}: the pixels do not tell at which edge the chest wall lies"
            yield Finding("note", "side unclear", what, image_id=record.image_id)
        elif chest_wall != record.chest_wall_side:
            source = "chest_wall" if record.chest_wall else f"standard hanging of laterality {record.laterality}"
            told = f"by the pixels the chest wall is {chest_wall}, by {source} {record.chest_wall_side}"
            yield warning("side", told)
        if not breast.blocks.any():
            return
        inside, num_px = _inside(pixels, breast)
        if (part := np.count_nonzero(inside == high) / num_px) > _SATURATED:
            yield warning("saturated image", f"is saturated, {part:.0%} of the breast have its largest value, {high}")
        if chest_wall and (seen := _view_against(record, inside, chest_wall=chest_wall)):
            yield warning("view", seen)


def _inside(pixels: Pixels, breast: Breast) -> tuple[Pixels, int]:
    """(h, w) samples of pixels (H, W) in the box around their breast, 0 beside it, and how many are on the breast."""
    step = max(1, max(pixels.shape) // _SAMPLES)
    tissue = breast.spread(breast.blocks, every=step)
    rows, cols = (np.flatnonzero(tissue.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    inside: Pixels = pixels[::step, ::step][box] * tissue[box]
    return inside, int(np.count_nonzero(tissue))


def check_region_places(
    regions: Sequence[Region], *, pixels: Pixels, breast: Breast, place_of: Callable[[Region], str]
) -> Iterator[Finding]:
    """Each region that lies off the breast of pixels (H, W): it meets none of it, or is as dark as background.

    Args:
        regions: in these pixels.
        pixels: of their image.
        breast: where it lies.
        place_of: the file and line of a region.
    """
    if not regions or not breast.blocks.any():
        return
    step, tissue = max(1, max(pixels.shape) // _SAMPLES), breast.mask
    darkest = _DARKEST * float(np.median(pixels[::step, ::step][tissue[::step, ::step]]))
    for region in regions:
        if _is_on(region, pixels, tissue=tissue, darkest=darkest):
            continue
        what = f"image {region.image_id}: region {region.region_id} lies off the breast"
        kind = "region off the breast"
        if region.shape != "mask" and _is_on(_swapped(region), pixels, tissue=tissue, darkest=darkest):
            what, kind = f"{what}; with rows and columns swapped it lies on it", SWAPPED
        yield Finding("warning", kind, what, place_of(region), region.image_id)


def _is_on(region: Region, pixels: Pixels, *, tissue: NDArray[np.bool_], darkest: float) -> bool:
    try:
        covered = region_mask(region, height=tissue.shape[0], width=tissue.shape[1])
    except InputError:
        return False
    meets = (tissue[covered.window] & covered.mask).any()
    return bool(meets and np.median(pixels[covered.window][covered.mask]) >= darkest)


def _swapped(region: Region) -> Region:
    return replace(region, points=tuple((col, row) for row, col in region.points))


def _has_bright_border(pixels: Pixels) -> bool:
    """Whether two opposite edges are bright over half of their length and more."""
    strip = max(1, round(_BORDER * min(pixels.shape)))

    def reach(least: float) -> bool:
        edges = (pixels[:strip], pixels[-strip:], pixels[:, :strip], pixels[:, -strip:])
        top, bottom, left, right = (np.count_nonzero(edge >= least) > edge.size / 2 for edge in edges)
        return bool((top and bottom) or (left and right))

    if not reach(1):  # as of all images with black beside the breast
        return False
    bright = _BRIGHT * float(np.percentile(pixels[:: max(1, strip // 2)], 99))
    return bool(bright) and reach(bright)


def _view_against(record: ImageRecord, inside: Pixels, *, chest_wall: Side) -> str | None:
    """What speaks against a view of CC or MLO: a muscle in the upper corner at the chest wall, or surely none."""
    if record.view not in ("CC", "MLO"):
        return None
    breast = inside if chest_wall == "left" else inside[:, ::-1]
    tall, wide = (max(1, int(part * edge)) for part, edge in zip(_CORNER, breast.shape, strict=True))
    mean = int(breast.sum()) / np.count_nonzero(breast)
    upper, lower = float(breast[:tall, :wide].mean()) / mean, float(breast[-tall:, :wide].mean()) / mean
    if record.view == "CC" and upper > _MUSCLE[0] and upper - lower > _MUSCLE[1]:
        return "view is CC, but the upper corner at the chest wall shows what looks like the muscle of an MLO"
    least, most, apart = _ALIKE
    if record.view == "MLO" and least < lower < most and least < upper < most and abs(upper - lower) < apart:
        return "view is MLO, but both corners at the chest wall are alike, without the muscle of an MLO"
    return None
