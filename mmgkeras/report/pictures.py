"""Patches and mammograms of a store as small pictures inside the page.

Owns their size, their window and their encoding. Nothing is read but the store: a mammogram is put together from its
patches.
"""

import base64
import io
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image

from mmgkeras.patches.region_masks import region_mask
from mmgkeras.patches.store import PatchStore
from mmgkeras.report.content import Frame, Picture
from mmgkeras.schema import Kind, Pixels, Region

PATCH_SHOWN_PX: Final = 150
MAP_SHOWN_PX: Final = 150
_MAP_PX: Final = 300
_FRAME_GAP_PX: Final = 3
_WINDOW: Final = (1.0, 99.8)
"""Percentiles of a picture's pixels that become black and white."""
_NARROWEST: Final = 1 / 16
"""Of the pixel type's range: a narrower window would show noise alone."""
_PATCH_QUALITY: Final = 90
_MAP_QUALITY: Final = 75

_Box = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels of the patch, bottom and right exclusive."""


class Pictures:
    """Pictures of one store and the findings annotated in it; those of a mammogram are made once."""

    def __init__(self, store: PatchStore, *, regions: Sequence[Region] = ()) -> None:
        self._store = store
        places = store.patches.reset_index(drop=True).groupby("image_id", sort=False).indices
        self._rows = {str(image_id): np.asarray(rows, dtype=np.int64) for image_id, rows in places.items()}
        self._regions: dict[str, list[Region]] = defaultdict(list)
        for region in regions:
            self._regions[region.image_id].append(region)
        self._map_uri = lru_cache(maxsize=None)(self._encoded_map)

    def patch(self, index: int, *, title: str) -> Picture:
        """The patch in a row of `store.patches`: all its pixels, windowed, findings framed.

        Raises:
            InputError: if a region cannot be drawn on its image.
        """
        edge = self._store.patch_px
        return Picture(
            uri=data_uri(window(self._store.gather(np.array([index]))[0, :, :, 0]), quality=_PATCH_QUALITY),
            title=title,
            width=edge,
            height=edge,
            shown_height=PATCH_SHOWN_PX,
            frames=self._frames(index),
        )

    def _frames(self, index: int) -> tuple[Frame, ...]:
        """Frames around the findings that meet the patch, a little outside them so that they cover nothing."""
        patch = self._store.patches.iloc[index]
        grid = self._store.grid(str(patch["image_id"]))
        top, left = grid.boxes()[int(patch["row"]), int(patch["col"]), :2].tolist()
        found: dict[Kind, list[_Box]] = defaultdict(list)
        for region in self._regions.get(str(patch["image_id"]), ()):
            covered = region_mask(region, height=grid.height, width=grid.width)
            tall, wide = covered.mask.shape
            down, across = covered.top - top, covered.left - left
            if -tall < down < grid.patch_px and -wide < across < grid.patch_px:
                ends = (down + tall + _FRAME_GAP_PX, across + wide + _FRAME_GAP_PX)
                found[region.kind].append((down - _FRAME_GAP_PX, across - _FRAME_GAP_PX, *ends))
        return tuple(
            Frame(left, top, right - left, bottom - top, kind)
            for kind, boxes in found.items()
            for top, left, bottom, right in _merged(boxes)
        )

    def place(self, index: int) -> Picture:
        """The patch's mammogram with a frame where the patch lies."""
        patch = self._store.patches.iloc[index]
        image_id = str(patch["image_id"])
        grid = self._store.grid(image_id)
        top, left, bottom, right = grid.boxes()[int(patch["row"]), int(patch["col"])].tolist()
        top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, grid.height), min(right, grid.width)
        return Picture(
            uri=self._map_uri(image_id),
            title=f"place on mammogram {image_id}",
            width=grid.width,
            height=grid.height,
            shown_height=MAP_SHOWN_PX,
            frames=(Frame(left, top, right - left, bottom - top, "place"),),
        )

    def _encoded_map(self, image_id: str) -> str:
        grid, rows = self._store.grid(image_id), self._rows[image_id]
        places = self._store.patches.iloc[rows]
        patches = np.zeros((grid.rows, grid.cols, grid.patch_px, grid.patch_px), dtype=self._store.pixel_type)
        patches[places["row"], places["col"]] = self._store.gather(rows)[..., 0]
        image = Image.fromarray(window(grid.join(patches)))
        return data_uri(np.asarray(image.reduce(max(1, image.height // _MAP_PX))), quality=_MAP_QUALITY)


def window(pixels: Pixels) -> Pixels:
    """(h, w) uint8 of pixels (h, w), stretched so that nearly the darkest are black and nearly the brightest white."""
    low, high = np.percentile(pixels, _WINDOW)
    width = max(high - low, _NARROWEST * np.iinfo(pixels.dtype).max)
    return np.asarray(np.clip(np.rint((pixels - low) / width * 255), 0, 255), dtype=np.uint8)


def _merged(boxes: Sequence[_Box]) -> list[_Box]:
    """Boxes that overlap, directly or through others, as one: frames that cross hide what they are around."""
    separate: list[_Box] = []
    for box in boxes:
        joined = box
        while met := [other for other in separate if _overlap(joined, other)]:
            separate = [other for other in separate if other not in met]
            tops, lefts, bottoms, rights = zip(joined, *met, strict=True)
            joined = (min(tops), min(lefts), max(bottoms), max(rights))
        separate.append(joined)
    return separate


def _overlap(box: _Box, other: _Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def data_uri(pixels: Pixels, *, quality: int) -> str:
    """A JPEG of pixels (h, w) uint8 as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
