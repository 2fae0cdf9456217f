"""What looks like calcification and is not: strands, vessels, folds, lymph nodes, clips, and dust.

Owns how they are drawn and laid out, and the curves in millimetres of which most are made; they are the same in an
image and in its calcification-free twin. Lettering is written on the finished picture, by `display`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from mmgkeras.sources.phantom.anatomy import ANGLE_OF_VIEW, Anatomy, Outline
from mmgkeras.sources.phantom.cases import Exposure, Finding
from mmgkeras.sources.phantom.display import PLAIN, Look
from mmgkeras.sources.phantom.physics import STEEL_PER_MM
from mmgkeras.sources.phantom.texture import Floats, Raster

END_ON_PER_CM2: Final = 0.1
END_ON_WIDTHS_MM: Final = (0.18, 0.28, 0.45)
STRAND_WIDTHS_MM: Final = (0.12, 0.22, 0.4)
"""Standard deviations of the profiles into which strands are sorted: strands of about 0.1 to 0.5 mm and wider ones."""
STEP_MM: Final = 0.1
FLOW_STEP_MM: Final = 0.2
FLOW_WIDTHS_MM: Final = (0.12, 0.22, 0.45)
NUM_WAVES: Final = 5
"""Waves whose sum turns the direction of strands from place to place."""


@dataclass(frozen=True, slots=True)
class Distractors:
    """Maps (H, W) float32 of one image.

    Attributes:
        soft_mm: glandular tissue in the beam, blurred by the detector like everything in the breast.
        metal: log attenuation, blurred too.
        dust: log attenuation on the detector itself, not blurred; negative where it is dark.
    """

    soft_mm: Floats
    metal: Floats
    dust: Floats


def draw_distractors(exposure: Exposure, anatomy: Anatomy, findings: list[Finding], *, look: Look) -> Distractors:
    """All distractors of one image; vessels with calcified walls are among them, their calcifications are not."""
    outline = anatomy.outline
    rng = exposure.image_rng("distractors")
    strand_rng, vessel_rng, node_rng, clip_rng, dust_rng, end_rng, fold_rng = rng.spawn(7)
    soft = _needles(anatomy, strand_rng, per_cm2=look.needles_per_cm2)
    if look.strands_per_cm2:
        soft += _flowing_strands(anatomy, exposure.image_rng("strands"), per_cm2=look.strands_per_cm2)
    soft += _vessels(outline, findings, vessel_rng)
    soft += _nodes(outline, node_rng)
    soft += _end_on(anatomy, end_rng)
    soft += _folds(outline, fold_rng)
    soft *= np.clip(anatomy.depth_mm / 4.0, 0, 1)
    return Distractors(soft_mm=soft, metal=_clips(outline, clip_rng), dust=_dust(outline, dust_rng, look=look))


def _end_on(anatomy: Anatomy, rng: np.random.Generator) -> Floats:
    """Ducts, small vessels and ligaments that run along the beam for some millimetres: soft bright spots."""
    outline = anatomy.outline
    total = np.zeros(outline.raster.shape, dtype=np.float32)
    for sigma_mm in END_ON_WIDTHS_MM:
        courses, amounts = [], []
        for _ in range(rng.poisson(END_ON_PER_CM2 * anatomy.area_cm2 / len(END_ON_WIDTHS_MM))):
            start = outline.anywhere(rng)
            length = rng.uniform(0.8, 4.0) * sigma_mm
            course = draw_course(rng, start=start, length_mm=length, heading=rng.uniform(0, 6.3), bend=0.2)
            courses.append(course)
            # A stretch this short does not reach the height of a long ridge.
            height = min(rng.lognormal(np.log(9.0), 0.6), 25.0) / special.erf(length / sigma_mm / np.sqrt(8))
            amounts.append(np.full(len(course), height))
        total += laid(courses, amounts, outline.raster, sigma_mm=sigma_mm)
    return total


def _vessels(outline: Outline, findings: list[Finding], rng: np.random.Generator) -> Floats:
    """Veins and arteries of 1 to 3 mm, tortuous."""
    total = np.zeros(outline.raster.shape, dtype=np.float32)
    courses: list[NDArray[np.float64]] = []
    for _ in range(int(rng.integers(2, 8))):
        start = outline.at(rng.uniform(0.0, 0.7), rng.uniform(-1.0, 0.9))
        courses.append(
            draw_course(rng, start=start, length_mm=rng.uniform(30.0, 100.0), heading=rng.normal(0.2, 0.7), bend=0.35)
        )
    for finding in findings:
        if finding.vessel is not None:
            courses.append(np.repeat(finding.vessel, 5, axis=0) + np.array(outline.at(finding.depth, finding.height)))
    for course in courses:
        width = rng.uniform(0.35, 0.9)
        fade = np.minimum(1, np.minimum(np.arange(len(course)), np.arange(len(course))[::-1]) / 60)
        total += laid([course], [fade * 3.2 * width], outline.raster, sigma_mm=width)
    return total


def _folds(outline: Outline, rng: np.random.Generator) -> Floats:
    """In one image of six a fold of skin near the chest wall, above or below: a pair of close bright lines."""
    if rng.random() >= 1 / 6:
        return np.zeros(outline.raster.shape, dtype=np.float32)
    start = outline.at(rng.uniform(0.0, 0.1), rng.choice([-1.0, 0.8]) + rng.normal(0.0, 0.1))
    heading = -0.5 * np.sign(start[0] - outline.nipple[0]) + rng.normal(0.0, 0.2)
    course = draw_course(rng, start=start, length_mm=rng.uniform(15.0, 45.0), heading=heading, bend=0.1)
    beside = course + np.array([rng.uniform(1.0, 2.5), 0.0])
    fade = 3.0 * np.sqrt(np.linspace(1, 0, len(course)))
    return laid([course, beside], [fade, fade], outline.raster, sigma_mm=0.5)


def _nodes(outline: Outline, rng: np.random.Generator) -> Floats:
    """Lymph nodes in the axilla and rarely in the breast, and small round densities such as cysts and moles."""
    shape, spacing_mm = outline.raster
    total = np.zeros(shape, dtype=np.float32)
    axilla = int(rng.poisson(0.8)) if outline.view == "MLO" else 0
    places = [
        (rng.uniform(0.02, 0.2) * outline.height_mm, rng.uniform(0.1, 0.5) * outline.nipple[1]) for _ in range(axilla)
    ]
    places += [outline.at(rng.uniform(0.3, 0.9), rng.uniform(-0.8, 0.8)) for _ in range(rng.poisson(1.0))]
    for row_mm, col_mm in places:
        radius = rng.uniform(1.5, 6.0)
        radii = (radius / spacing_mm, radius * rng.uniform(0.6, 1.0) / spacing_mm)
        centre = (row_mm / spacing_mm, col_mm / spacing_mm)
        _add_ellipsoid(total, centre=centre, radii=radii, peak=radius * rng.uniform(0.8, 1.6))
    return total


def _add_ellipsoid(image: Floats, *, centre: tuple[float, float], radii: tuple[float, float], peak: float) -> None:
    """Adds the chord of an ellipsoid, with a soft edge, in place."""
    reach = int(max(radii)) + 2
    top, left = max(0, int(centre[0]) - reach), max(0, int(centre[1]) - reach)
    part = image[top : int(centre[0]) + reach, left : int(centre[1]) + reach]
    if part.size == 0:
        return
    rows, cols = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
    squared = ((rows - centre[0]) / radii[0]) ** 2 + ((cols - centre[1]) / radii[1]) ** 2
    part += np.float32(peak) * np.clip(1 - squared, 0, None).astype(np.float32) ** np.float32(0.8)


def _clips(outline: Outline, rng: np.random.Generator) -> Floats:
    """Surgical clips in one of ten images: bent wires of 2 to 4 mm."""
    courses, amounts = [], []
    if rng.random() < 0.1:
        row_mm, col_mm = outline.at(rng.uniform(0.2, 0.8), rng.uniform(-0.7, 0.7))
        for _ in range(int(rng.integers(1, 5))):
            start = (row_mm + rng.normal(0.0, 8.0), col_mm + rng.normal(0.0, 8.0))
            length, heading = rng.uniform(2.0, 4.0), rng.uniform(0, 6.3)
            courses.append(draw_course(rng, start=start, length_mm=length, heading=heading, bend=0.5))
            amounts.append(np.full(len(courses[-1]), 0.15 * STEEL_PER_MM))
    return laid(courses, amounts, outline.raster, sigma_mm=0.12)


def _dust(outline: Outline, rng: np.random.Generator, *, look: Look) -> Floats:
    """Dust and fibres on the detector: sharp, as they lie where the image is formed; bright, a few dark."""
    shape = outline.raster.shape
    total = np.zeros(shape, dtype=np.float32)
    for _ in range(rng.poisson(look.dust_per_cm2 * outline.height_mm * outline.width_mm / 100)):
        row, col = int(rng.integers(1, shape[0] - 2)), int(rng.integers(1, shape[1] - 2))
        speck = np.zeros((3, 3), dtype=np.float32)
        speck.flat[rng.choice(9, int(rng.integers(1, 5)), replace=False)] = 1
        if look is PLAIN:
            sign = float(rng.choice([-1.0, 1.0, 1.0, 1.0]))
        else:
            sign = -1.0 if rng.random() < look.dark_dust else 1.0
        total[row - 1 : row + 2, col - 1 : col + 2] += speck * sign * rng.uniform(0.06, 0.5)
    courses, amounts = [], []
    for _ in range(rng.poisson(8.0)):
        start = (rng.uniform(0, outline.height_mm), rng.uniform(0, outline.width_mm))
        course = draw_course(rng, start=start, length_mm=rng.uniform(0.8, 6.0), heading=rng.uniform(0, 6.3), bend=0.6)
        courses.append(course)
        amounts.append(np.full(len(course), rng.uniform(0.05, 0.25)))
    return total + laid(courses, amounts, outline.raster, sigma_mm=0.06)


def _needles(anatomy: Anatomy, rng: np.random.Generator, *, per_cm2: float) -> Floats:
    """Connective tissue: septa seen on edge, thin and deep, mostly toward the nipple, crossing each other."""
    outline = anatomy.outline
    total = np.zeros(outline.raster.shape, dtype=np.float32)
    for sigma_mm, part in zip(STRAND_WIDTHS_MM, (0.5, 0.35, 0.15), strict=True):
        courses, amounts = [], []
        for _ in range(rng.poisson(per_cm2 * anatomy.area_cm2 * part)):
            start = outline.anywhere(rng)
            toward = np.arctan2(outline.nipple[0] - start[0], 1.2 * outline.nipple[1] - start[1])
            heading = 0.5 * toward + 0.5 * ANGLE_OF_VIEW[outline.view] + rng.normal(0.0, 0.55)
            course = draw_course(rng, start=start, length_mm=rng.uniform(6.0, 35.0), heading=heading, bend=0.14)
            fade = np.sin(np.linspace(0, np.pi, len(course))) ** 0.5 * (
                1 + 0.5 * np.sin(np.linspace(0, rng.uniform(3, 20), len(course)) + rng.uniform(0, 6))
            )
            courses.append(course)
            amounts.append(fade * min(rng.lognormal(np.log(1.4), 0.8), 5.0))
        total += laid(courses, amounts, outline.raster, sigma_mm=sigma_mm)
    return total


def _flowing_strands(anatomy: Anatomy, rng: np.random.Generator, *, per_cm2: float) -> Floats:
    """Ligaments that run together: soft, curved, along one smooth field of directions about the way to the nipple."""
    outline = anatomy.outline
    own = rng.uniform(0.05, 0.6)
    typical_mm = rng.uniform(0.2, 0.9)
    waves = _draw_waves(rng)
    total = np.zeros(outline.raster.shape, dtype=np.float32)
    for sigma_mm, part in zip(FLOW_WIDTHS_MM, (0.45, 0.35, 0.2), strict=True):
        count = int(rng.poisson(per_cm2 * anatomy.area_cm2 * part))
        if count == 0:
            continue
        starts = rng.uniform((0.0, 0.0), (outline.height_mm, outline.nipple[1]), (count, 2))
        courses = _flow(outline, starts, rng, waves=waves, own=own)
        lengths = rng.uniform(4.0, 40.0, count)
        at_mm = np.arange(courses.shape[1]) * FLOW_STEP_MM
        fade = np.sqrt(np.clip(np.sin(np.pi * np.minimum(at_mm / lengths[:, None], 1)), 0, 1))
        fade *= 1 + 0.5 * np.sin(at_mm * rng.uniform(0.1, 1.0, (count, 1)) + rng.uniform(0, 6, (count, 1)))
        height = np.minimum(typical_mm * rng.lognormal(0.0, 0.8, (count, 1)), 5.0)
        is_drawn = fade > 0
        amounts = (fade * height)[is_drawn] * (FLOW_STEP_MM / STEP_MM)
        total += laid([courses[is_drawn]], [amounts], outline.raster, sigma_mm=sigma_mm)
    return total


def _draw_waves(rng: np.random.Generator) -> NDArray[np.float64]:
    """(NUM_WAVES, 4) waves over the breast: two frequencies in radians per mm, phase, and height in radians."""
    frequency = rng.normal(0.0, 2 * np.pi / 60.0, (NUM_WAVES, 2))
    phase = rng.uniform(0, 2 * np.pi, (NUM_WAVES, 1))
    return np.concatenate([frequency, phase, np.full((NUM_WAVES, 1), rng.uniform(0.05, 0.35))], axis=1)


def _flow(
    outline: Outline, starts: NDArray[np.float64], rng: np.random.Generator, *, waves: NDArray[np.float64], own: float
) -> NDArray[np.float64]:
    """(N, K, 2) curves from starts (N, 2), each turned by `own` radians (deviation) against the field of directions."""
    places = starts.copy()
    turned = rng.normal(0.0, own, len(starts))
    bend = rng.normal(0.0, 0.004, len(starts))
    along = 0.4 * ANGLE_OF_VIEW[outline.view]
    steps = []
    for number in range(round(40.0 / FLOW_STEP_MM)):
        toward = np.arctan2(outline.nipple[0] - places[:, 0], np.maximum(1.3 * outline.nipple[1] - places[:, 1], 5.0))
        phases = places @ waves[:, :2].T + waves[:, 2]
        heading = 0.6 * toward + along + (np.sin(phases) * waves[:, 3]).sum(axis=1) + turned + bend * number
        places = places + FLOW_STEP_MM * np.stack([np.sin(heading), np.cos(heading)], axis=-1)
        steps.append(places)
    return np.stack(steps, axis=1)


def draw_course(
    rng: np.random.Generator, *, start: tuple[float, float], length_mm: float, heading: float, bend: float
) -> NDArray[np.float64]:
    """(K, 2) a smooth curve in mm, (row, col), one point each `STEP_MM`."""
    count = max(2, int(length_mm / STEP_MM))
    knots = rng.normal(0.0, bend, max(2, count // 40) + 1).cumsum()
    turns = np.interp(np.linspace(0, len(knots) - 1, count), np.arange(len(knots)), knots)
    headings = heading + turns - turns[0]
    steps = STEP_MM * np.stack([np.sin(headings), np.cos(headings)], axis=-1)
    return np.asarray(np.asarray(start) + steps.cumsum(axis=0), dtype=np.float64)


def laid(
    courses: list[NDArray[np.float64]], amounts: list[NDArray[np.float64]], raster: Raster, *, sigma_mm: float
) -> Floats:
    """(H, W) curves of Gaussian profile whose peak is `amounts` along each of them; crossing curves add."""
    shape, spacing_mm = raster
    if not courses:
        return np.zeros(shape, dtype=np.float32)
    points = np.concatenate(courses) / spacing_mm - 0.5
    # A row of deltas STEP_MM apart, blurred across, has a ridge of amount / (sqrt(2 pi) sigma) for unit weight per mm.
    weights = np.concatenate(amounts) * STEP_MM * np.sqrt(2 * np.pi) * sigma_mm / spacing_mm**2
    margin = int(np.ceil(4 * sigma_mm / spacing_mm)) + 2
    low = np.clip(np.floor(points.min(axis=0)).astype(np.int64) - margin, 0, shape)
    high = np.clip(np.ceil(points.max(axis=0)).astype(np.int64) + margin, low, shape)
    image = np.zeros(shape, dtype=np.float32)
    if np.any(high == low):
        return image
    part = _splatted(points - low, weights, shape=(int(high[0] - low[0]), int(high[1] - low[1])))
    image[low[0] : high[0], low[1] : high[1]] = ndimage.gaussian_filter(part, sigma_mm / spacing_mm)
    return image


def _splatted(points: NDArray[np.float64], weights: NDArray[np.float64], *, shape: tuple[int, int]) -> Floats:
    """(H, W) the weights of points (K, 2), each shared between its four nearest pixels; those outside are lost."""
    corner = np.floor(points).astype(np.int64)
    part = points - corner
    total = np.zeros(shape[0] * shape[1])
    for down in (0, 1):
        for right in (0, 1):
            row, col = corner[:, 0] + down, corner[:, 1] + right
            share = np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1]) * weights
            inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
            total += np.bincount(row[inside] * shape[1] + col[inside], weights=share[inside], minlength=total.size)
    return total.reshape(shape).astype(np.float32)
