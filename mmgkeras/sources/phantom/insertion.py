"""Calcifications of the phantom put into patches of real tissue, after Walsh and Tardy (the paper's reference 32).

Owns how a mark comes to look as the patch's own detector and display would have shown it, and which pixels are its
truth. Which patches get marks is the pipeline's affair.

A mark is log attenuation, as in the phantom. How much gray that is follows from the patch's noise: quantum noise has a
known size in log attenuation (`physics.noise_level`), so that its size in gray tells the slope of the tone curve there.
A mark thus has the ratio of signal to noise that it would have had. Noise that is correlated was blurred after it
arose, by a scanner, a film or by processing; the marks are blurred as much. Near white the phantom's shoulder
compresses them.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras.schema import Pixels
from mmgkeras.sources.phantom.calcifications import TRUTH_PART, VISIBLE_SNR, draw_mark
from mmgkeras.sources.phantom.cases import KINDS
from mmgkeras.sources.phantom.display import SHOULDER, with_shoulder
from mmgkeras.sources.phantom.physics import REFERENCE_PIXEL_MM, beam_at
from mmgkeras.sources.phantom.texture import Floats, Raster

NUM_GROUPS: Final = 1_000
"""Different groups of marks; where each is put, and into which patch, is drawn anew every time."""
NOISE_FRACTIONS: Final = (0.02, 0.04)
"""As of the phantom's images: the noise's deviation in log attenuation for a pixel of 0.1 mm."""
ENERGY_KEV: Final = (19.0, 21.0)
SLOPES: Final = (0.1, 4.0)
"""Gray of 0 to 1 for each unit of log attenuation that a tone curve can have; phantoms have about 0.5 to 2."""
PLAIN_BLUR_PX: Final = 0.35
"""The correlation of noise that a detector itself gives (`physics.unit_noise`): no blur of the image."""
MAX_BLUR_PX: Final = 1.5
BLUR_MM: Final = (0.0, 0.12)
"""Deviation of a further blur of the marks, drawn for each patch, as of randomised phantoms: film and scanner."""
EDGE_PX: Final = 3
"""The mark around which a group is put has its centre at least so far within the patch."""
TRIES: Final = 10
DARK_PART: Final = 0.4
"""Background is darker than this part of the patch's median gray; most of the patch is breast."""
BRIGHTEST: Final = 0.995
_MAX_SHAPE: Final = (4096, 4096)
_FURTHEST_MM: Final = 40.0


@dataclass(frozen=True, slots=True)
class Group:
    """Marks that belong together.

    Attributes:
        noise: standard deviation in log attenuation at which each of them can be seen.
        marks: (top, left) in pixels from any origin, and the signal (h, w) as log attenuation, blurred by the detector.
    """

    noise: float
    marks: tuple[tuple[int, int, Floats], ...]


@lru_cache(maxsize=NUM_GROUPS)
def draw_group(number: int, *, seed: int, spacing_mm: float) -> Group:
    """The group of a number at a pixel size: of the kinds, sizes and minerals of the phantom; it may have no mark."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    finding = KINDS[rng.choice(len(KINDS), p=[part for _, part in KINDS])][0](rng)
    noise = float(rng.uniform(*NOISE_FRACTIONS)) * REFERENCE_PIXEL_MM / spacing_mm
    beam = beam_at(float(rng.uniform(*ENERGY_KEV)))
    middle = np.array(_MAX_SHAPE) / 2
    marks = []
    for mark in finding.marks:
        if max(map(abs, mark.offset_mm)) > _FURTHEST_MM:
            continue
        centre = middle + np.array([mark.offset_mm[0], mark.offset_mm[2]]) / spacing_mm
        raster = Raster(_MAX_SHAPE, spacing_mm)
        drawn = draw_mark(mark, 1, (float(centre[0]), float(centre[1])), beam=beam, raster=raster, blur_mm=0.0)
        if drawn is not None and np.sqrt((drawn.signal**2).sum()) >= VISIBLE_SNR * noise:
            marks.append((drawn.top, drawn.left, drawn.signal))
    return Group(noise, tuple(marks))


def insert_group(pixels: Pixels, *, spacing_mm: float, seed: int, rng: np.random.Generator) -> NDArray[np.bool_] | None:
    """Puts a group of marks into a patch of tissue, in place.

    Args:
        pixels: (P, P) uint8 or full-range uint16, of which at least half is breast.
        spacing_mm: edge of a pixel.
        seed: of the groups that there are.
        rng: says which group, and where.

    Returns:
        (P, P) the pixels of the marks that can be seen; None if there are none, and the patch is as it was.
    """
    white = np.iinfo(pixels.dtype).max
    gray = np.asarray(pixels / np.float32(white), dtype=np.float32)
    is_tissue = ndimage.uniform_filter(gray, 3) > DARK_PART * np.median(gray)
    group = draw_group(int(rng.integers(NUM_GROUPS)), seed=seed, spacing_mm=spacing_mm)
    noise = measure_noise(gray, is_tissue)
    place = _place(group, is_tissue, rng)
    if place is None or not noise.observed:
        return None
    blur_px = float(np.hypot(noise.blur_px, rng.uniform(*BLUR_MM) / spacing_mm))
    windows = _windows(group, place, shape=gray.shape)
    signal = np.zeros_like(gray)
    for window, part, _ in windows:
        signal[window] += part
    signal = ndimage.gaussian_filter(signal * is_tissue, blur_px, truncate=3.0)
    slope = np.float32(np.clip(noise.before_blur / group.noise, *SLOPES))
    changed = with_shoulder(_without_shoulder(np.minimum(gray, BRIGHTEST)) + slope * signal)
    added = np.where(signal > 0, np.maximum(changed - gray, 0), 0)
    truth = np.zeros(gray.shape, np.bool_)
    hidden = np.hypot(noise.observed, 1 / white)  # what rounding hides is as invisible as noise
    for window, part, peak in windows:
        is_mark = is_tissue[window] & (part >= np.float32(TRUTH_PART) * peak)
        if np.sqrt((added[window][is_mark] ** 2).sum()) >= VISIBLE_SNR * hidden:
            truth[window] |= is_mark
    if not truth.any():
        return None
    pixels += np.rint(added * white).astype(pixels.dtype)
    return truth


class Noise(NamedTuple):
    """Of a patch: the noise's standard deviation in gray, what it was before it was blurred, and by how many pixels."""

    observed: float
    before_blur: float
    blur_px: float


def measure_noise(gray: Floats, is_tissue: NDArray[np.bool_]) -> Noise:
    """The noise of the tissue of a patch (P, P); 0 where it has none.

    Second differences of neighbours, and of every other pixel, along rows and columns: their medians leave out edges
    and marks. Where the second are larger than white noise would make them, the noise is correlated; the Gaussian that
    correlates it so is the blur. Fine texture counts as blurred noise.
    """
    found = []
    for lag in (1, 2):
        kernel = np.zeros(2 * lag + 1, np.float32)
        kernel[[0, lag, -1]] = 1, -2, 1
        differences = ndimage.convolve1d(ndimage.convolve1d(gray, kernel, axis=0), kernel, axis=1)
        chosen = np.abs(differences[2:-2, 2:-2][is_tissue[2:-2, 2:-2]])
        found.append(float(np.median(chosen)) / 0.6745 if chosen.size else 0.0)
    if not all(found):
        return Noise(0.0, 0.0, 0.0)
    table = _noise_table()
    blur_px = float(np.interp(-found[0] / found[1], -table[1], table[0]))
    of_observed, kept = (float(np.interp(blur_px, table[0], row)) for row in table[2:])
    observed = found[0] / of_observed
    excess_px = float(np.sqrt(max(blur_px**2 - PLAIN_BLUR_PX**2, 0.0)))
    return Noise(observed, observed / kept, excess_px)


@lru_cache(maxsize=1)
def _noise_table() -> NDArray[np.float64]:
    """(4, n) blur in pixels; the ratio of both differences; the first for noise of deviation 1; what blur leaves of it.

    Second differences with lag d have 6 - 8 r(d) + 2 r(2 d) times the noise's variance along each axis, r being its
    correlation, which is that of the blur's kernel with itself.
    """
    blur_px, distance = np.linspace(0.1, MAX_BLUR_PX, 100), np.arange(-12, 13)
    kernels = np.exp(-(distance**2) / (2 * blur_px[:, None] ** 2))
    kernels /= kernels.sum(axis=1, keepdims=True)
    products = [(kernels[:, lag:] * kernels[:, : len(distance) - lag]).sum(axis=1) for lag in range(5)]
    of_lag = [6 - (8 * products[lag] - 2 * products[2 * lag]) / products[0] for lag in (1, 2)]
    kept = products[0] / np.interp(PLAIN_BLUR_PX, blur_px, products[0])  # of the deviation, by both axes
    return np.stack([blur_px, of_lag[0] / of_lag[1], of_lag[0], np.minimum(kept, 1)])


def _place(group: Group, is_tissue: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int] | None:
    """Where in the patch the group's origin comes to lie, so that one of its marks is on tissue; None for nowhere."""
    if not group.marks:
        return None
    size = len(is_tissue)
    for _ in range(TRIES):
        row, col = rng.integers(EDGE_PX, size - EDGE_PX, 2)
        top, left, signal = group.marks[int(rng.integers(len(group.marks)))]
        if is_tissue[row, col]:
            return int(row) - top - signal.shape[0] // 2, int(col) - left - signal.shape[1] // 2
    return None


def _windows(
    group: Group, place: tuple[int, int], *, shape: tuple[int, ...]
) -> list[tuple[tuple[slice, slice], Floats, float]]:
    """Where marks of a group lie in a patch, the part of each that does, and the greatest signal of the whole."""
    found = []
    for top, left, mark in group.marks:
        first_row, first_col = top + place[0], left + place[1]
        rows = slice(max(first_row, 0), min(first_row + mark.shape[0], shape[0]))
        cols = slice(max(first_col, 0), min(first_col + mark.shape[1], shape[1]))
        if rows.start < rows.stop and cols.start < cols.stop:
            part = mark[rows.start - first_row : rows.stop - first_row, cols.start - first_col : cols.stop - first_col]
            found.append(((rows, cols), part, float(mark.max())))
    return found


def _without_shoulder(gray: Floats) -> Floats:
    """The gray that a window without a shoulder would have shown."""
    room = 1 - SHOULDER
    above = SHOULDER - room * np.log1p(-np.clip(gray - SHOULDER, 0, None) / room)
    return np.asarray(np.where(gray < SHOULDER, gray, above), dtype=np.float32)
