"""Patches and mammograms of a store as small pictures inside the page.

Owns the encoding and the size of pictures. Nothing is read but the store: a mammogram is put together from its patches.
"""

import base64
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Final

import numpy as np
from PIL import Image

from mmgkeras.overlay.marks import to_eight_bits
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import Kind, Pixels, Region

MAP_HEIGHT_PX: Final = 150
PATCH_SHOWN_PX: Final = 224
"""Smaller patches are enlarged to about this, pixel by pixel."""
_FRAME_GAP_PX: Final = 3
_DASHES: Final[Mapping[Kind, str]] = {
    "calcification": "",
    "cluster": ' stroke-dasharray="6 4"',
    "other": ' stroke-dasharray="2 3"',
}
_PATCH_QUALITY: Final = 95
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

    def patch(self, index: int, *, title: str) -> str:
        """HTML of the patch in a row of `store.patches`: all its pixels, grey as stored, findings framed.

        Raises:
            InputError: if a region cannot be drawn on its image.
        """
        edge = self._store.patch_px
        shown = edge * max(1, PATCH_SHOWN_PX // edge)
        pixels = to_eight_bits(self._store.gather(np.array([index]))[0, :, :, 0])
        return (
            f'<svg viewBox="0 0 {edge} {edge}" width="{shown}" height="{shown}" role="img" '
            f'aria-label="{escape(title)}">'
            f'<image href="{_data_uri(pixels, quality=_PATCH_QUALITY)}" width="{edge}" height="{edge}" '
            f'style="image-rendering:pixelated"/>{self._frames(index)}</svg>'
        )

    def _frames(self, index: int) -> str:
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
        frames = "".join(
            f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"{_DASHES[kind]} '
            'vector-effect="non-scaling-stroke"/>'
            for kind, boxes in found.items()
            for top, left, bottom, right in _merged(boxes)
        )
        return f'<g fill="none" stroke="#46beff">{frames}</g>' if frames else ""

    def place(self, index: int) -> str:
        """HTML of the patch's mammogram, `MAP_HEIGHT_PX` high, with a frame where the patch lies."""
        patch = self._store.patches.iloc[index]
        image_id = str(patch["image_id"])
        grid = self._store.grid(image_id)
        top, left, bottom, right = grid.boxes()[int(patch["row"]), int(patch["col"])].tolist()
        top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, grid.height), min(right, grid.width)
        width = round(MAP_HEIGHT_PX * grid.width / grid.height)
        return (
            f'<svg viewBox="0 0 {grid.width} {grid.height}" width="{width}" height="{MAP_HEIGHT_PX}" role="img" '
            f'aria-label="place on mammogram {escape(image_id)}">'
            f'<image href="{self._map_uri(image_id)}" width="{grid.width}" height="{grid.height}" '
            f'preserveAspectRatio="none"/><rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" '
            'fill="none" stroke="#ffd400" stroke-width="1.5" vector-effect="non-scaling-stroke"/></svg>'
        )

    def _encoded_map(self, image_id: str) -> str:
        grid, rows = self._store.grid(image_id), self._rows[image_id]
        places = self._store.patches.iloc[rows]
        patches = np.zeros((grid.rows, grid.cols, grid.patch_px, grid.patch_px), dtype=self._store.pixel_type)
        patches[places["row"], places["col"]] = self._store.gather(rows)[..., 0]
        image = Image.fromarray(to_eight_bits(grid.join(patches)))
        factor = max(1, image.height // (2 * MAP_HEIGHT_PX))
        return _data_uri(np.asarray(image.reduce(factor)), quality=_MAP_QUALITY)


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


def _data_uri(pixels: Pixels, *, quality: int) -> str:
    """A JPEG of pixels (h, w) uint8 as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
