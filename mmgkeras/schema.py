"""The vocabulary: what a mammogram, a region, a grid, a patch label and a score map are.

Array axes are (row, col). Coordinates are in pixels of the image as stored, an integer coordinate being the centre of
that pixel, row 0 at the top and column 0 at the left. This module reads no file and imports nothing of ours.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

Laterality = Literal["L", "R"]
Side = Literal["left", "right"]
View = Literal["CC", "MLO", "ML", "LM", "LMO", "XCCL", "XCCM", "other"]
Annotation = Literal["complete", "partial", "none"]
Kind = Literal["calcification", "cluster", "other"]
Shape = Literal["box", "circle", "ellipse", "polygon", "point", "mask"]
PixelType = Literal["uint8", "uint16"]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_T = TypeVar("_T", bound=np.generic)

LATERALITIES: Final = get_args(Laterality)
SIDES: Final = get_args(Side)
VIEWS: Final = get_args(View)
ANNOTATIONS: Final = get_args(Annotation)
KINDS: Final = get_args(Kind)
SHAPES: Final = get_args(Shape)

CALCIFICATION: Final = 1
NO_CALCIFICATION: Final = 0
UNKNOWN: Final = -1
"""Patch labels. Unknown patches are neither trained on nor scored, but drawn."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One row of images.csv: which image, whose, of which breast, and how completely it was annotated.

    Attributes:
        image_id: unique in its data set.
        path: of the image file, relative to the folder of images.csv or absolute.
        patient_id: whose breast it is; folds never separate one patient.
        laterality: the breast, "L" or "R".
        view: the projection.
        annotation: "complete" if every calcification, benign too, was sought and marked; "partial" if marked
            ones are calcifications but others may be unmarked; "none" if nobody looked.
        chest_wall: the edge of the stored image at which the chest wall lies, where it differs from the standard
            hanging (right edge for a right breast, left edge for a left one); None for standard hanging.
        spacing_mm: length of a pixel's edge at the detector in millimetres, None if unknown.
        density: BI-RADS density, "A" to "D", or the data set's own word; None if unknown.
        birads: assessment as the data set writes it; None if unknown.
        age: of the patient, in years; None if unknown.
        pathology: as the data set writes it, "normal" for an image on which the reader found nothing at all; None if
            unknown.
        vendor: of the device; None if unknown.
        own: name and text of each further column of images.csv, which go along to predictions.csv.
    """

    image_id: str
    path: str
    patient_id: str
    laterality: Laterality
    view: View
    annotation: Annotation
    chest_wall: Side | None = None
    spacing_mm: float | None = None
    density: str | None = None
    birads: str | None = None
    age: float | None = None
    pathology: str | None = None
    vendor: str | None = None
    own: tuple[tuple[str, str], ...] = ()

    @property
    def chest_wall_side(self) -> Side:
        """The edge at which the grid is anchored: `chest_wall`, else that of the standard hanging (paper, 3.2)."""
        return self.chest_wall or ("right" if self.laterality == "R" else "left")

    @property
    def is_called_normal(self) -> bool:
        """Whether the reader found nothing on the whole image: its pathology says "normal", in any case of letters."""
        return self.pathology is not None and self.pathology.strip().casefold() == "normal"


@dataclass(frozen=True, slots=True)
class Mammogram:
    """An image as read: pixels (H, W), uint8 or full-range uint16, display polarity (bright is dense)."""

    pixels: Pixels
    record: ImageRecord


@dataclass(frozen=True, slots=True)
class Region:
    """One annotated finding. A pixel belongs to it if the pixel's centre lies inside or on its outline.

    Attributes:
        image_id: the image it was drawn on.
        region_id: unique within its image.
        kind: "calcification", one individual mark; "cluster", an envelope around several; "other", anything else.
        shape: how `points` is read.
        points: pairs of numbers in (row, col) order.
            box: two opposite corners, both inside. polygon: three or more vertices. point: its one pixel.
            circle and ellipse: the centre, then the semi-axes (along rows, along columns), equal for a circle.
            mask: (top, left), (height, width), then runs (start, length) counted row by row from 0 in that box.
    """

    image_id: str
    region_id: str
    kind: Kind
    shape: Shape
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """How one image divides into patches, anchored at the bottom corner of the chest-wall edge (paper, 3.2).

    The image is extended by `pad_top` rows above and `pad_left` or `pad_right` columns away from the chest wall, so
    that every pixel lies in a patch; the added pixels are 0. Patch (0, 0) is at the top left of the extended image.

    Attributes:
        height, width: of the image in pixels, at least 1.
        patch_px: edge of a patch in pixels.
        stride_px: distance between neighbouring patches in pixels, 1 to `patch_px`; below it patches overlap.
        chest_wall: the edge to which the grid is aligned.
    """

    height: int
    width: int
    patch_px: int
    stride_px: int
    chest_wall: Side

    def __post_init__(self) -> None:
        """Refuses a grid that leaves pixels out."""
        if min(self.height, self.width, self.patch_px) < 1 or not 1 <= self.stride_px <= self.patch_px:
            raise ValueError(f"A grid needs sizes of at least 1 and 1 <= stride_px <= patch_px. Received: {self}")
        if self.chest_wall not in SIDES:
            raise ValueError(f"chest_wall must be one of {SIDES}. Received: {self.chest_wall!r}")

    @property
    def rows(self) -> int:
        """Number of patches from top to bottom: one, and one more for each begun stride beyond the first patch."""
        return 1 + max(0, -(-(self.height - self.patch_px) // self.stride_px))

    @property
    def cols(self) -> int:
        """Number of patches from left to right."""
        return 1 + max(0, -(-(self.width - self.patch_px) // self.stride_px))

    @property
    def pad_top(self) -> int:
        """Rows of zeros added above the image."""
        return (self.rows - 1) * self.stride_px + self.patch_px - self.height

    @property
    def pad_left(self) -> int:
        """Columns of zeros added to the left of the image: 0 if the chest wall is there."""
        return 0 if self.chest_wall == "left" else self._pad_cols

    @property
    def pad_right(self) -> int:
        """Columns of zeros added to the right of the image: 0 if the chest wall is there."""
        return 0 if self.chest_wall == "right" else self._pad_cols

    @property
    def _pad_cols(self) -> int:
        return (self.cols - 1) * self.stride_px + self.patch_px - self.width

    def boxes(self) -> NDArray[np.int64]:
        """(rows, cols, 4) top, left, bottom, right of each patch in image pixels, bottom and right exclusive.

        Values below 0 and beyond the image belong to the padding.
        """
        tops = np.arange(self.rows) * self.stride_px - self.pad_top
        lefts = np.arange(self.cols) * self.stride_px - self.pad_left
        top, left = np.meshgrid(tops, lefts, indexing="ij")
        return np.stack([top, left, top + self.patch_px, left + self.patch_px], axis=-1)

    def cut(self, pixels: NDArray[_T]) -> NDArray[_T]:
        """(rows, cols, patch_px, patch_px) the patches of pixels (height, width), of the same type."""
        self._check_shape(pixels, expected=(self.height, self.width))
        # Row by row of patches, whose pixels stay in the processor's cache.
        strip = np.zeros((self.patch_px, self.pad_left + self.width + self.pad_right), dtype=pixels.dtype)
        windows = np.lib.stride_tricks.sliding_window_view(strip, (self.patch_px, self.patch_px))[0, :: self.stride_px]
        patches = np.empty((self.rows, *windows.shape), dtype=pixels.dtype)
        for row, top in enumerate(self.boxes()[:, 0, 0].tolist()):
            first = max(top, 0)
            strip[first - top :, self.pad_left : self.pad_left + self.width] = pixels[first : top + self.patch_px]
            patches[row] = windows
        return patches

    def cut_chosen(self, pixels: NDArray[_T], chosen: NDArray[np.bool_]) -> NDArray[_T]:
        """(N, patch_px, patch_px) those patches of pixels (height, width) that are chosen (rows, cols)."""
        self._check_shape(pixels, expected=(self.height, self.width))
        boxes = self.boxes()[chosen]
        patches = np.zeros((len(boxes), self.patch_px, self.patch_px), dtype=pixels.dtype)
        for patch, (top, left, bottom, right) in zip(patches, boxes, strict=True):
            part = pixels[max(top, 0) : bottom, max(left, 0) : right]
            row, col = max(-top, 0), max(-left, 0)
            patch[row : row + part.shape[0], col : col + part.shape[1]] = part
        return patches

    def join(self, patches: NDArray[_T]) -> NDArray[_T]:
        """(height, width) the image whose `cut` gives these patches (rows, cols, patch_px, patch_px)."""
        self._check_shape(patches, expected=(self.rows, self.cols, self.patch_px, self.patch_px))
        image = np.zeros((self.height + self.pad_top, self.width + self._pad_cols), dtype=patches.dtype)
        for row in range(self.rows):
            for col in range(self.cols):
                top, left = row * self.stride_px, col * self.stride_px
                image[top : top + self.patch_px, left : left + self.patch_px] = patches[row, col]
        return image[self.pad_top :, self.pad_left : self.pad_left + self.width]

    def stitch(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """(height, width) each pixel's mean over the patches that cover it, of scores (rows, cols)."""
        rows, cols = self.runs()
        mean = self.stitch_at(scores, rows, cols)
        return mean.repeat(np.diff(cols, append=self.width), axis=1).repeat(np.diff(rows, append=self.height), axis=0)

    def stitch_at(
        self, scores: NDArray[np.floating], rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """(n, m) what `stitch` has at some rows (n,) and columns (m,) of pixels."""
        self._check_shape(scores, expected=(self.rows, self.cols))
        total = np.zeros((len(rows), len(cols)), dtype=np.float64)
        count = np.zeros_like(total)
        for row, col, is_there in self.covering(rows, cols):
            total += np.where(is_there, scores[row, col], 0)
            count += is_there
        return (total / count).astype(np.float32)

    def runs(self, *, parts_px: Collection[int] = (0,)) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(n,) and (m,) the first of each run of rows, and of columns, of pixels in the same parts of the same patches.

        Args:
            parts_px: where the parts of a patch begin, along rows and columns, the first at 0.
        """
        begins = np.array([*parts_px, self.patch_px])

        def firsts(length: int, *, count: int, pad: int) -> NDArray[np.int64]:
            places = np.arange(count)[:, None] * self.stride_px - pad + begins
            return np.union1d(0, places[(places > 0) & (places < length)])

        return (
            firsts(self.height, count=self.rows, pad=self.pad_top),
            firsts(self.width, count=self.cols, pad=self.pad_left),
        )

    def covering(
        self, rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
        """The patches that cover pixels of some rows (n,) and columns (m,), each pixel's in the order of patches.

        Yields:
            The row (n, 1) and the column (1, m) of a patch, and (n, m) for which pixels there is one.
        """
        sides = (rows + self.pad_top, self.rows), (cols + self.pad_left, self.cols)
        (first_row, last_row), (first_col, last_col) = (
            (
                np.maximum((place - self.patch_px) // self.stride_px + 1, 0),
                np.minimum(place // self.stride_px, count - 1),
            )
            for place, count in sides
        )
        for down in range(int((last_row - first_row).max()) + 1):
            for across in range(int((last_col - first_col).max()) + 1):
                row, col = first_row + down, first_col + across
                is_there = (row <= last_row)[:, None] & (col <= last_col)
                yield np.minimum(row, last_row)[:, None], np.minimum(col, last_col)[None, :], is_there

    @staticmethod
    def _check_shape(array: NDArray[np.generic], *, expected: tuple[int, ...]) -> None:
        if array.shape != expected:
            raise ValueError(f"The grid needs an array of shape {expected}. Received: {array.shape}")


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """What a model says of one mammogram.

    Attributes:
        image_id: of the mammogram.
        grid: of the mammogram, or of it at the model's own pixel size.
        probabilities: (rows, cols) float32, of calcification.
        seconds: that the inference of all its patches took, None where it was not measured.
        breast: (height, width) of the grid, where marks may lie; None for everywhere.
    """

    image_id: str
    grid: Grid
    probabilities: NDArray[np.float32]
    seconds: float | None = None
    breast: NDArray[np.bool_] | None = None

    def stitch(self) -> NDArray[np.float32]:
        """(height, width) of the grid: each pixel's mean over the patches that cover it; 0 off the breast."""
        mean = self.grid.stitch(self.probabilities)
        return mean if self.breast is None else np.where(self.breast, mean, np.float32(0))


@dataclass(frozen=True, slots=True)
class ActivationMap:
    """Where in each patch of a mammogram a model sees calcification: the class activation of the cells of a patch.

    Attributes:
        values: (rows, cols, h, w) float32; pooled over its cells, by the mean where the model says no other
            pooling, it is the log odds of a patch's probability.
        centres_px: (h,) where the cells lie in a patch, along rows and columns: the centres of the fields they look
            at, in pixels of the patch, the first pixel's centre being 0. h and w are equal.
    """

    values: NDArray[np.float32]
    centres_px: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a classifier is worth on one set of patches: the paper's six metrics, AUC, and what they stand on.

    A metric without meaning, such as the positive predictive value of a classifier that never says yes, is None.

    Attributes:
        auc: area under the ROC curve.
        average_precision: area under the precision-recall curve, as the mean precision weighted by the gain in recall.
        sensitivity, specificity, f1, ppv, npv, accuracy: 0 to 1, of the decisions (paper, 3.4.1).
        tp, fp, tn, fn: number of patches decided rightly and wrongly.
        num_images, num_patients: with a labelled patch.
        num_unknown: patches whose label is unknown; they are in no other number.
    """

    auc: float | None
    average_precision: float | None
    sensitivity: float | None
    specificity: float | None
    f1: float | None
    ppv: float | None
    npv: float | None
    accuracy: float | None
    tp: int
    fp: int
    tn: int
    fn: int
    num_images: int
    num_patients: int
    num_unknown: int

    @property
    def num_positives(self) -> int:
        """Number of patches with calcification."""
        return self.tp + self.fn

    @property
    def num_negatives(self) -> int:
        """Number of patches without."""
        return self.tn + self.fp


def fault_of_points(shape: Shape, count: int) -> str | None:
    """What is wrong with a number of points of a shape, if anything."""
    least = {"point": 1, "polygon": 3, "mask": 3}.get(shape, 2)
    has_more = shape in ("polygon", "mask")
    if count == least or (count > least and has_more):
        return None
    return f"a {shape} must have {least}{' or more' if has_more else ''} points. Received: {count}"


def probability_text(probability: float, *, decimals: int = 3) -> str:
    """A probability with at least so many decimals, and with two figures of what it lacks to 0 or 1: 0.9996 is no 1."""
    lacking = min(probability, 1 - probability)
    needed = 1 - math.floor(math.log10(lacking)) if lacking > 0 else 0
    return f"{probability:.{max(decimals, needed)}f}"
