"""The compressed breast: its outline, thickness, skin, glandular tissue and pectoral muscle.

Owns the shape of a breast in millimetres and its maps in pixels; knows nothing of calcifications, distractors and the
detector. Here every breast has its chest wall at the left edge; right breasts are mirrored at the end. Positions are
(row, col) in millimetres from the top left corner.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import special
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from mmgkeras.sources.phantom.cases import Density, Exposure, PhantomView
from mmgkeras.sources.phantom.display import Look
from mmgkeras.sources.phantom.texture import Floats, Raster, band_field, power_law_field

SKIN_MM: Final = 1.5
ANGLE_OF_VIEW: Final = {"CC": np.deg2rad(5.0), "MLO": np.deg2rad(22.5)}
"""Mean direction of the tissue against the normal of the chest wall (PMC3189972)."""
TEXTURE_BETA: Final = {"CC": 3.2, "MLO": 3.3}
"""Slope that is put in; what comes out of the whole image is measured in docs/phantom.md."""
TEXTURE_STRETCH: Final = 1.7
GLAND_LEVEL: Final[dict[Density, float]] = {"A": -1.9, "B": -0.8, "C": 0.35, "D": 1.5}
"""Offset of the glandular field, in its standard deviations: how much of the breast is glandular."""
NODE_MM: Final = 1.0
"""Distance of the coarse grid on which smooth maps are computed before they are enlarged."""


@dataclass(frozen=True, slots=True)
class Outline:
    """Where one breast ends: the field of view and the skin, in mm.

    Attributes:
        view: in which it is seen.
        spacing_mm: edge of a pixel.
        height_mm, width_mm: of the image.
        nipple: (row, col).
        half_height_mm: of the breast proper above and below the nipple.
        skin: (K, 2) points along the skin, ordered by row, reaching beyond the image.
        pectoral: (row on the chest wall, col at the top) where the muscle's edge leaves the image; None without it.
    """

    view: PhantomView
    spacing_mm: float
    height_mm: float
    width_mm: float
    nipple: tuple[float, float]
    half_height_mm: float
    skin: NDArray[np.float64]
    pectoral: tuple[float, float] | None

    @property
    def raster(self) -> Raster:
        """The pixels of the image."""
        shape = round(self.height_mm / self.spacing_mm), round(self.width_mm / self.spacing_mm)
        return Raster(shape, self.spacing_mm)

    @property
    def nodes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and cols in mm (h, w) of the coarse grid, whose nodes are centres of cells of `NODE_MM`."""
        rows = (np.arange(int(np.ceil(self.height_mm / NODE_MM))) + 0.5) * NODE_MM
        cols = (np.arange(int(np.ceil(self.width_mm / NODE_MM))) + 0.5) * NODE_MM
        down, right = np.meshgrid(rows, cols, indexing="ij")
        return down, right

    def col_of_skin(self, rows_mm: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Distance of the skin from the chest wall at rows; negative where the breast does not reach."""
        front = self.skin[self.skin[:, 1] > 0]
        return np.asarray(np.interp(rows_mm, front[:, 0], front[:, 1], left=-1.0, right=-1.0))

    def at(self, depth: float, height: float) -> tuple[float, float]:
        """(row, col) of a place in the breast: `depth` 0 at the chest wall to 1 at the skin, `height` -1 to 1."""
        row = self.nipple[0] + height * self.half_height_mm
        return row, max(0.0, depth * float(self.col_of_skin(row)))

    def anywhere(self, rng: np.random.Generator) -> tuple[float, float]:
        """(row, col) of a place in the image's breast, muscle and axilla included, all places being as likely."""
        while True:
            row, col = rng.uniform(0.0, self.height_mm), rng.uniform(0.0, self.width_mm)
            if col < float(self.col_of_skin(row)):
                return row, col


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One breast: its outline, and maps (H, W) float32.

    Attributes:
        outline: of the breast.
        depth_mm: distance from the skin, negative outside the breast.
        thickness_mm: of everything in the beam.
        soft_mm: of glandular tissue, skin and muscle in the beam; the rest is fat.
    """

    outline: Outline
    depth_mm: Floats
    thickness_mm: Floats
    soft_mm: Floats

    @property
    def area_cm2(self) -> float:
        """Of the breast in the image."""
        return float((self.depth_mm > 0).sum()) * self.outline.spacing_mm**2 / 100


def draw_anatomy(exposure: Exposure, *, look: Look, spacing_mm: float) -> Anatomy:
    """The breast in this view at a pixel size."""
    draw_outline = _outline_cc if exposure.view == "CC" else _outline_mlo
    outline = draw_outline(exposure.patient.nipple_distance_mm, exposure.image_rng("outline"), spacing_mm=spacing_mm)
    rng, raster, patient = exposure.image_rng("anatomy"), outline.raster, exposure.patient
    depth = _enlarged(_signed_depth(outline), raster)
    thickness, skin = _thickness_and_skin(depth, patient.thickness_mm, radius_mm=rng.uniform(0.35, 0.6))
    level = np.float32(GLAND_LEVEL[patient.density] + rng.normal(0.0, 0.25))
    smooth = _enlarged(_envelope(outline, rng), raster)
    subcutaneous = np.clip((depth - 3.0) / np.float32(rng.uniform(5.0, 11.0)), 0, 1)
    muscle = np.zeros(raster.shape, dtype=np.float32)
    if outline.pectoral is not None:
        bottom, width = outline.pectoral
        muscle = _enlarged(_muscle(outline, rng, bottom=bottom, width=width), raster)
        along_edge = float(np.arctan2(bottom, -width))
        fibres = power_law_field(raster, exposure.image_rng("muscle"), beta=2.8, angle=along_edge, stretch=4.0)
        muscle *= 1 + np.float32(0.10) * fibres
    texture = _oriented_texture(exposure, outline)
    gland = special.expit(1.5 * (texture + smooth + level - 1.3 * (1 - subcutaneous)))
    gland *= subcutaneous * (1 - 0.85 * np.clip(muscle / 4.0, 0, 1))
    webs = _webs(exposure, raster) * np.clip(depth / 6.0, 0, 1) * (0.35 + gland)
    amount = np.float32(rng.uniform(0.30, 0.42))
    fine, lines = np.float32(0.22 * look.texture), np.float32(0.045 * look.texture)
    soft = thickness * (amount * gland * (1 + fine * texture) + lines * webs + 0.05)
    soft += np.float32(0.6) * np.clip(depth / 6.0, 0, 1) * texture + np.float32(look.muscle) * muscle
    return Anatomy(outline, depth, thickness, np.maximum(soft, 0) * (depth > 0) + np.float32(look.skin) * skin)


def _outline_cc(nipple_mm: float, rng: np.random.Generator, *, spacing_mm: float) -> Outline:
    reach = nipple_mm * rng.uniform(0.92, 1.0)
    half = min(reach * rng.uniform(0.85, 1.05), 135.0)
    height = 229.0 if half < 106.0 else 287.0
    middle = height / 2 + rng.normal(0.0, 4.0)
    power = rng.uniform(2.0, 2.4)
    angle = np.linspace(-np.pi * 0.75, np.pi * 0.75, 1500)
    sine, cosine = np.sin(angle), np.cos(angle)
    rows = middle + half * np.sign(sine) * np.abs(sine) ** (2 / power)
    cols = reach * np.sign(cosine) * np.abs(cosine) ** (2 / power)
    nipple_row = middle + rng.normal(0.0, 0.06) * half
    skin = _with_nipple(np.stack([rows, cols], axis=-1), nipple_row, rng)
    width = float(np.round(reach + rng.uniform(12.0, 45.0)))
    return Outline("CC", spacing_mm, height, width, (nipple_row, reach), 0.9 * half, skin, None)


def _outline_mlo(nipple_mm: float, rng: np.random.Generator, *, spacing_mm: float) -> Outline:
    reach = nipple_mm * rng.uniform(0.95, 1.08)
    height = 229.0 if reach < 112.0 else 287.0
    nipple_row = height * rng.uniform(0.52, 0.64)
    fold = min(nipple_row + reach * rng.uniform(0.72, 0.85), 0.97 * height)
    below = fold - nipple_row
    top = rng.uniform(0.30, 0.62)
    knots = [
        (-25.0, top - 0.08),
        (0.0, top),
        (0.5 * nipple_row, top + (1 - top) * rng.uniform(0.5, 0.68)),
        (nipple_row - 0.16 * height, 0.955),
        (nipple_row, 1.0),
        (nipple_row + 0.35 * below, 0.90),
        (nipple_row + 0.70 * below, 0.62),
        (fold - 0.04 * below, 0.22),
        (fold + 6.0, 0.09),
        (height + 30.0, rng.uniform(0.03, 0.10)),
    ]
    rows = np.arange(-25.0, height + 30.0, 0.25)
    cols = PchipInterpolator(*np.array(knots).T)(rows) * reach
    cols = gaussian_filter1d(cols, 24.0, mode="nearest")
    skin = _with_nipple(np.stack([rows, cols], axis=-1), nipple_row, rng)
    pectoral = (nipple_row * rng.uniform(0.55, 1.05), reach * rng.uniform(0.32, min(0.62, top + 0.12)))
    width = float(np.round(reach + rng.uniform(12.0, 45.0)))
    return Outline("MLO", spacing_mm, height, width, (nipple_row, reach), 0.85 * below, skin, pectoral)


def _with_nipple(skin: NDArray[np.float64], row: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """The skin with a nipple in profile, more or less seen."""
    bump = rng.uniform(0.0, 7.0) * np.exp(-(((skin[:, 0] - row) / rng.uniform(4.0, 5.5)) ** 2))
    return np.stack([skin[:, 0], skin[:, 1] + bump * (skin[:, 1] > 0)], axis=-1)


def _enlarged(coarse: NDArray[np.float64], raster: Raster) -> Floats:
    """The coarse map at the size of the image, bicubic."""
    height, width = raster.shape
    right = min(width * raster.spacing_mm / NODE_MM, coarse.shape[1])
    bottom = min(height * raster.spacing_mm / NODE_MM, coarse.shape[0])
    image = Image.fromarray(coarse.astype(np.float32))
    enlarged = image.resize((width, height), Image.Resampling.BICUBIC, box=(0.0, 0.0, right, bottom))
    return np.array(enlarged, dtype=np.float32)


def _signed_depth(outline: Outline) -> NDArray[np.float64]:
    """Distance to the skin at the nodes in mm, negative outside."""
    rows, cols = outline.nodes
    distance, _ = cKDTree(outline.skin).query(np.stack([rows.ravel(), cols.ravel()], axis=-1))
    inside = cols < outline.col_of_skin(rows)
    return np.asarray(np.where(inside, 1.0, -1.0) * distance.reshape(rows.shape), dtype=np.float64)


def _thickness_and_skin(depth: Floats, full_mm: float, *, radius_mm: float) -> tuple[Floats, Floats]:
    """Thickness of the breast, rounded at its edge, and of the skin in the beam, in mm; the edge is an ellipse."""
    radius = np.float32(full_mm * radius_mm)

    def rounded(distance: Floats, reach: float) -> Floats:
        part = 1 - np.clip(distance / np.float32(reach), 0, 1)
        return np.asarray(np.sqrt(1 - part * part), dtype=np.float32)

    outer = np.float32(full_mm) * rounded(depth, float(radius))
    inner = np.float32(full_mm - 2 * SKIN_MM) * rounded(depth - np.float32(SKIN_MM), float(radius - SKIN_MM))
    return outer, np.asarray(0.55 * (outer - inner), dtype=np.float32)


def _envelope(outline: Outline, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where glandular tissue is likely: high in a cone behind the nipple, low at the chest wall and the rim."""
    rows, cols = outline.nodes
    depth = np.clip(cols / outline.nipple[1], 0, 1)
    across = (rows - outline.nipple[0] + rng.normal(6.0, 6.0)) / outline.half_height_mm
    middle = rng.uniform(0.52, 0.68)
    return 1.0 - 1.5 * (across / rng.uniform(0.6, 0.85)) ** 2 - 1.3 * ((depth - middle) / 0.42) ** 2


def _muscle(outline: Outline, rng: np.random.Generator, *, bottom: float, width: float) -> NDArray[np.float64]:
    """Thickness of the pectoral muscle in mm: a wedge at the top of the chest wall with a slightly bulging edge."""
    rows, cols = outline.nodes
    along = np.clip(rows / bottom, 0, None)
    edge = width * (1 - along) + rng.uniform(-2.0, 7.0) * np.sin(np.pi * np.clip(along, 0, 1))
    inside = (edge - cols) * bottom / np.hypot(bottom, width)
    step = special.expit(inside / rng.uniform(0.8, 1.8))
    grown = step * (rng.uniform(5.0, 9.0) + rng.uniform(6.0, 12.0) * (1 - np.exp(-np.clip(inside, 0, None) / 18.0)))
    return np.asarray(grown, dtype=np.float64)


def _oriented_texture(exposure: Exposure, outline: Outline) -> Floats:
    """(H, W) texture of variance 1 whose structures point at the nipple: three directions, faded into each other."""
    rng, raster = exposure.image_rng("texture"), outline.raster
    beta = TEXTURE_BETA[exposure.view] + rng.normal(0.0, 0.2)
    height = raster.shape[0]
    rows = (np.arange(height, dtype=np.float32) + 0.5) * np.float32(raster.spacing_mm)
    across = (rows - np.float32(outline.nipple[0])) / np.float32(outline.half_height_mm)
    total = np.zeros(raster.shape, dtype=np.float32)
    power = np.zeros((height, 1), dtype=np.float32)
    for place in (-0.8, 0.0, 0.8):
        weight = np.exp(-(((np.clip(across, -1.2, 1.2) - np.float32(place)) / np.float32(0.55)) ** 2))[:, None]
        angle = float(ANGLE_OF_VIEW[exposure.view] - place * np.deg2rad(32.0))
        total += weight * power_law_field(raster, rng, beta=beta, angle=angle, stretch=TEXTURE_STRETCH)
        power += weight * weight
    return np.asarray(total / np.sqrt(power), dtype=np.float32)


def _webs(exposure: Exposure, raster: Raster) -> Floats:
    """(H, W) fine connective tissue, 0 to about 2: thin lines of two sizes that come and go."""
    rng, angle = exposure.image_rng("webs"), float(ANGLE_OF_VIEW[exposure.view])
    total = np.zeros(raster.shape, dtype=np.float32)
    for length_mm, width in ((14.0, 0.10), (6.0, 0.16)):
        field = band_field(raster, rng, length_mm=length_mm, angle=angle, stretch=4.0)
        lines = np.exp(-((field / np.float32(width)) ** 2))  # where the field passes through zero
        total += lines * np.clip(band_field(raster, rng, length_mm=1.5 * length_mm), 0, 2)
    return total
