"""Curves of connective tissue: how they run and how they are laid into an image.

Owns curves in millimetres and their profiles; which other things are drawn with them is the distractors' affair.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras.sources.phantom.anatomy import ANGLE_OF_VIEW, Anatomy, Outline
from mmgkeras.sources.phantom.cases import Exposure
from mmgkeras.sources.phantom.looks import Look

Floats = NDArray[np.float32]

STRAND_WIDTHS_MM: Final = (0.12, 0.22, 0.4)
"""Standard deviations of the profiles into which strands are sorted: strands of about 0.1 to 0.5 mm and wider ones."""
STEP_MM: Final = 0.1
FLOW_STEP_MM: Final = 0.2
FLOW_WIDTHS_MM: Final = (0.12, 0.22, 0.45)
NUM_WAVES: Final = 5
"""Waves whose sum turns the direction of strands from place to place."""


def needles(
    exposure: Exposure,
    outline: Outline,
    anatomy: Anatomy,
    rng: np.random.Generator,
    *,
    per_cm2: float,
    spacing_mm: float,
) -> Floats:
    """Connective tissue: septa seen on edge, thin and deep, mostly toward the nipple, crossing each other."""
    shape = anatomy.depth_mm.shape
    area_cm2 = float((anatomy.depth_mm > 0).sum()) * spacing_mm**2 / 100
    total = np.zeros(shape, dtype=np.float32)
    for sigma_mm, part in zip(STRAND_WIDTHS_MM, (0.5, 0.35, 0.15), strict=True):
        courses, amounts = [], []
        for _ in range(rng.poisson(per_cm2 * area_cm2 * part)):
            start = outline.anywhere(rng)
            toward = np.arctan2(outline.nipple[0] - start[0], 1.2 * outline.nipple[1] - start[1])
            heading = 0.5 * toward + 0.5 * ANGLE_OF_VIEW[exposure.view] + rng.normal(0.0, 0.55)
            course = draw_course(rng, start=start, length_mm=rng.uniform(6.0, 35.0), heading=heading, bend=0.14)
            fade = np.sin(np.linspace(0, np.pi, len(course))) ** 0.5 * (
                1 + 0.5 * np.sin(np.linspace(0, rng.uniform(3, 20), len(course)) + rng.uniform(0, 6))
            )
            courses.append(course)
            amounts.append(fade * min(rng.lognormal(np.log(1.4), 0.8), 5.0))
        total += laid(courses, amounts, sigma_mm=sigma_mm, shape=shape, spacing_mm=spacing_mm)
    return total


def flowing_strands(
    exposure: Exposure, outline: Outline, anatomy: Anatomy, rng: np.random.Generator, *, look: Look, spacing_mm: float
) -> Floats:
    """Ligaments that run together: soft, curved, along one smooth field of directions about the way to the nipple."""
    shape = anatomy.depth_mm.shape
    area_cm2 = float((anatomy.depth_mm > 0).sum()) * spacing_mm**2 / 100
    own = rng.uniform(0.05, 0.6)
    typical_mm = rng.uniform(0.2, 0.9)
    waves = _draw_waves(rng)
    total = np.zeros(shape, dtype=np.float32)
    for sigma_mm, part in zip(FLOW_WIDTHS_MM, (0.45, 0.35, 0.2), strict=True):
        count = int(rng.poisson(look.strands_per_cm2 * area_cm2 * part))
        if count == 0:
            continue
        starts = rng.uniform((0.0, 0.0), (outline.height_mm, outline.nipple[1]), (count, 2))
        courses = _flow(outline, starts, rng, waves=waves, own=own, angle=ANGLE_OF_VIEW[exposure.view])
        lengths = rng.uniform(4.0, 40.0, count)
        at_mm = np.arange(courses.shape[1]) * FLOW_STEP_MM
        fade = np.sqrt(np.clip(np.sin(np.pi * np.minimum(at_mm / lengths[:, None], 1)), 0, 1))
        fade *= 1 + 0.5 * np.sin(at_mm * rng.uniform(0.1, 1.0, (count, 1)) + rng.uniform(0, 6, (count, 1)))
        height = np.minimum(typical_mm * rng.lognormal(0.0, 0.8, (count, 1)), 5.0)
        is_drawn = fade > 0
        amounts = (fade * height)[is_drawn] * (FLOW_STEP_MM / STEP_MM)
        total += laid([courses[is_drawn]], [amounts], sigma_mm=sigma_mm, shape=shape, spacing_mm=spacing_mm)
    return total


def _draw_waves(rng: np.random.Generator) -> NDArray[np.float64]:
    """(NUM_WAVES, 4) waves over the breast: two frequencies in radians per mm, phase, and height in radians."""
    frequency = rng.normal(0.0, 2 * np.pi / 60.0, (NUM_WAVES, 2))
    phase = rng.uniform(0, 2 * np.pi, (NUM_WAVES, 1))
    return np.concatenate([frequency, phase, np.full((NUM_WAVES, 1), rng.uniform(0.05, 0.35))], axis=1)


def _flow(
    outline: Outline,
    starts: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    waves: NDArray[np.float64],
    own: float,
    angle: float,
) -> NDArray[np.float64]:
    """(N, K, 2) curves from starts (N, 2), each turned by `own` radians (deviation) against the field of directions."""
    places = starts.copy()
    turned = rng.normal(0.0, own, len(starts))
    bend = rng.normal(0.0, 0.004, len(starts))
    steps = []
    for number in range(round(40.0 / FLOW_STEP_MM)):
        toward = np.arctan2(outline.nipple[0] - places[:, 0], np.maximum(1.3 * outline.nipple[1] - places[:, 1], 5.0))
        phases = places @ waves[:, :2].T + waves[:, 2]
        heading = 0.6 * toward + 0.4 * angle + (np.sin(phases) * waves[:, 3]).sum(axis=1) + turned + bend * number
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
    courses: list[NDArray[np.float64]],
    amounts: list[NDArray[np.float64]],
    *,
    sigma_mm: float,
    shape: tuple[int, int],
    spacing_mm: float,
) -> Floats:
    """(H, W) curves of Gaussian profile whose peak is `amounts` along each of them; crossing curves add."""
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
