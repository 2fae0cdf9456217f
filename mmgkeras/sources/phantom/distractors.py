"""What looks like calcification and is not: strands, vessels, folds, lymph nodes, clips, dust and lettering.

Owns how they are drawn and laid out; they are the same in an image and in its calcification-free twin.
"""

import string
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import special

from mmgkeras.sources.phantom.anatomy import Anatomy, Outline
from mmgkeras.sources.phantom.calcifications import Calcification
from mmgkeras.sources.phantom.cases import Exposure
from mmgkeras.sources.phantom.findings import Finding
from mmgkeras.sources.phantom.looks import PLAIN, Look
from mmgkeras.sources.phantom.physics import STEEL_PER_MM
from mmgkeras.sources.phantom.strands import draw_course, flowing_strands, laid, needles

Floats = NDArray[np.float32]

END_ON_PER_CM2: Final = 0.1
END_ON_WIDTHS_MM: Final = (0.18, 0.28, 0.45)


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


def draw_distractors(
    exposure: Exposure,
    outline: Outline,
    anatomy: Anatomy,
    findings: list[Finding],
    *,
    look: Look,
    spacing_mm: float,
) -> Distractors:
    """All distractors of one image; vessels with calcified walls are among them, their calcifications are not."""
    shape = anatomy.depth_mm.shape
    rng = exposure.image_rng("distractors")
    strand_rng, vessel_rng, node_rng, clip_rng, dust_rng, end_rng, fold_rng = rng.spawn(7)
    soft = needles(exposure, outline, anatomy, strand_rng, per_cm2=look.needles_per_cm2, spacing_mm=spacing_mm)
    if look.strands_per_cm2:
        flow_rng = exposure.image_rng("strands")
        soft += flowing_strands(exposure, outline, anatomy, flow_rng, look=look, spacing_mm=spacing_mm)
    soft += _vessels(outline, findings, vessel_rng, shape=shape, spacing_mm=spacing_mm)
    soft += _nodes(exposure, outline, node_rng, shape=shape, spacing_mm=spacing_mm)
    soft += _end_on(outline, anatomy, end_rng, spacing_mm=spacing_mm)
    soft += _folds(outline, fold_rng, shape=shape, spacing_mm=spacing_mm)
    soft *= np.clip(anatomy.depth_mm / 4.0, 0, 1)
    return Distractors(
        soft_mm=soft,
        metal=_clips(outline, clip_rng, shape=shape, spacing_mm=spacing_mm),
        dust=_dust(outline, dust_rng, look=look, shape=shape, spacing_mm=spacing_mm),
    )


def _end_on(outline: Outline, anatomy: Anatomy, rng: np.random.Generator, *, spacing_mm: float) -> Floats:
    """Ducts, small vessels and ligaments that run along the beam for some millimetres: soft bright spots."""
    shape = anatomy.depth_mm.shape
    area_cm2 = float((anatomy.depth_mm > 0).sum()) * spacing_mm**2 / 100
    total = np.zeros(shape, dtype=np.float32)
    for sigma_mm in END_ON_WIDTHS_MM:
        courses, amounts = [], []
        for _ in range(rng.poisson(END_ON_PER_CM2 * area_cm2 / len(END_ON_WIDTHS_MM))):
            start = outline.anywhere(rng)
            length = rng.uniform(0.8, 4.0) * sigma_mm
            course = draw_course(rng, start=start, length_mm=length, heading=rng.uniform(0, 6.3), bend=0.2)
            courses.append(course)
            # A stretch this short does not reach the height of a long ridge.
            height = min(rng.lognormal(np.log(9.0), 0.6), 25.0) / special.erf(length / sigma_mm / np.sqrt(8))
            amounts.append(np.full(len(course), height))
        total += laid(courses, amounts, sigma_mm=sigma_mm, shape=shape, spacing_mm=spacing_mm)
    return total


def _vessels(
    outline: Outline,
    findings: list[Finding],
    rng: np.random.Generator,
    *,
    shape: tuple[int, int],
    spacing_mm: float,
) -> Floats:
    """Veins and arteries of 1 to 3 mm, tortuous."""
    total = np.zeros(shape, dtype=np.float32)
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
        total += laid([course], [fade * 3.2 * width], sigma_mm=width, shape=shape, spacing_mm=spacing_mm)
    return total


def _folds(outline: Outline, rng: np.random.Generator, *, shape: tuple[int, int], spacing_mm: float) -> Floats:
    """In one image of six a fold of skin near the chest wall, above or below: a pair of close bright lines."""
    if rng.random() >= 1 / 6:
        return np.zeros(shape, dtype=np.float32)
    start = outline.at(rng.uniform(0.0, 0.1), rng.choice([-1.0, 0.8]) + rng.normal(0.0, 0.1))
    heading = -0.5 * np.sign(start[0] - outline.nipple[0]) + rng.normal(0.0, 0.2)
    course = draw_course(rng, start=start, length_mm=rng.uniform(15.0, 45.0), heading=heading, bend=0.1)
    beside = course + np.array([rng.uniform(1.0, 2.5), 0.0])
    fade = 3.0 * np.sqrt(np.linspace(1, 0, len(course)))
    return laid([course, beside], [fade, fade], sigma_mm=0.5, shape=shape, spacing_mm=spacing_mm)


def _nodes(
    exposure: Exposure, outline: Outline, rng: np.random.Generator, *, shape: tuple[int, int], spacing_mm: float
) -> Floats:
    """Lymph nodes in the axilla and rarely in the breast, and small round densities such as cysts and moles."""
    total = np.zeros(shape, dtype=np.float32)
    axilla = int(rng.poisson(0.8)) if exposure.view == "MLO" else 0
    places = [
        (rng.uniform(0.02, 0.2) * outline.height_mm, rng.uniform(0.1, 0.5) * outline.nipple[1]) for _ in range(axilla)
    ]
    places += [outline.at(rng.uniform(0.3, 0.9), rng.uniform(-0.8, 0.8)) for _ in range(rng.poisson(1.0))]
    for row_mm, col_mm in places:
        radius = rng.uniform(1.5, 6.0)
        _add_ellipsoid(
            total,
            centre=(row_mm / spacing_mm, col_mm / spacing_mm),
            radii=(radius / spacing_mm, radius * rng.uniform(0.6, 1.0) / spacing_mm),
            peak=radius * rng.uniform(0.8, 1.6),
        )
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


def _clips(outline: Outline, rng: np.random.Generator, *, shape: tuple[int, int], spacing_mm: float) -> Floats:
    """Surgical clips in one of ten images: bent wires of 2 to 4 mm."""
    courses, amounts = [], []
    if rng.random() < 0.1:
        row_mm, col_mm = outline.at(rng.uniform(0.2, 0.8), rng.uniform(-0.7, 0.7))
        for _ in range(int(rng.integers(1, 5))):
            start = (row_mm + rng.normal(0.0, 8.0), col_mm + rng.normal(0.0, 8.0))
            course = draw_course(
                rng, start=start, length_mm=rng.uniform(2.0, 4.0), heading=rng.uniform(0, 6.3), bend=0.5
            )
            courses.append(course)
            amounts.append(np.full(len(course), 0.15 * STEEL_PER_MM))
    return laid(courses, amounts, sigma_mm=0.12, shape=shape, spacing_mm=spacing_mm)


def _dust(
    outline: Outline, rng: np.random.Generator, *, look: Look, shape: tuple[int, int], spacing_mm: float
) -> Floats:
    """Dust and fibres on the detector: sharp, as they lie where the image is formed; bright, a few dark."""
    total = np.zeros(shape, dtype=np.float32)
    for _ in range(rng.poisson(look.dust_per_cm2 * outline.height_mm * outline.width_mm / 100)):
        row, col = int(rng.integers(1, shape[0] - 2)), int(rng.integers(1, shape[1] - 2))
        speck = np.zeros((3, 3), dtype=np.float32)
        speck.flat[rng.choice(9, int(rng.integers(1, 5)), replace=False)] = 1
        total[row - 1 : row + 2, col - 1 : col + 2] += speck * _sign(rng, look) * rng.uniform(0.06, 0.5)
    courses, amounts = [], []
    for _ in range(rng.poisson(8.0)):
        start = (rng.uniform(0, outline.height_mm), rng.uniform(0, outline.width_mm))
        course = draw_course(rng, start=start, length_mm=rng.uniform(0.8, 6.0), heading=rng.uniform(0, 6.3), bend=0.6)
        courses.append(course)
        amounts.append(np.full(len(course), rng.uniform(0.05, 0.25)))
    return total + laid(courses, amounts, sigma_mm=0.06, shape=shape, spacing_mm=spacing_mm)


def _sign(rng: np.random.Generator, look: Look) -> float:
    """-1 for a dark speck, else 1."""
    if look is PLAIN:
        return float(rng.choice([-1.0, 1.0, 1.0, 1.0]))
    return -1.0 if rng.random() < look.dark_dust else 1.0


LETTERS: Final = string.ascii_uppercase + string.digits + "  .:/-+*"
TRIES: Final = 12
SIZES_MM: Final = (1.6, 9.0)


def draw_marker(pixels: NDArray[np.floating], exposure: Exposure, *, spacing_mm: float) -> None:
    """Writes the side and view into the dark upper corner away from the chest wall; the image is hung already."""
    size = max(7, round(4.5 / spacing_mm))
    text = f"{exposure.laterality} {exposure.view}"
    stamp = Image.new("L", (6 * size, 2 * size), 0)
    ImageDraw.Draw(stamp).text((size // 2, size // 4), text, fill=255, font=ImageFont.load_default(size))
    ink = np.asarray(stamp, dtype=np.float32) / 255
    rows, cols = np.nonzero(ink)
    ink = ink[: rows.max() + 1, cols.min() : cols.max() + 1]
    top, margin = round(6.0 / spacing_mm), round(3.0 / spacing_mm)
    left = margin if exposure.laterality == "R" else pixels.shape[1] - margin - ink.shape[1]
    place = pixels[top : top + ink.shape[0], left : left + ink.shape[1]]
    if left > 0 and place.shape == ink.shape and place.max() < 0.08:
        np.maximum(place, 0.9 * ink, out=place)


def draw_lettering(
    images: tuple[Floats, ...],
    exposure: Exposure,
    marks: list[Calcification],
    *,
    depth_mm: Floats,
    look: Look,
    spacing_mm: float,
) -> None:
    """Writes what the look asks for into images of one exposure, alike, where no calcification lies.

    Args:
        images: (H, W) each, changed in place.
        exposure: whose random stream is taken.
        marks: as they lie in the images.
        depth_mm: (H, W) distance from the skin, to tell the breast from the background.
        look: how many words there are, and whether they may lie on the breast.
        spacing_mm: of a pixel.
    """
    rng = exposure.image_rng("lettering")
    is_taken = np.zeros(depth_mm.shape, dtype=bool)
    for mark in marks:
        is_taken[mark.place] = True
    if not look.is_lettered_on_breast:
        is_taken |= depth_mm > 2.0
    for _ in range(look.lettering):
        ink, is_box = _draw_ink(rng, spacing_mm=spacing_mm)
        brightness = np.float32(rng.uniform(0.3, 1.0))
        place = _free_place(is_taken, ink.shape, rng)
        if place is None:
            continue
        for image in images:
            covered = ink * brightness
            image[place] = covered if is_box else np.maximum(image[place], covered)


def _free_place(
    is_taken: NDArray[np.bool_], shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[slice, slice] | None:
    """Somewhere in the image where nothing is taken; None if none was found."""
    room = is_taken.shape[0] - shape[0], is_taken.shape[1] - shape[1]
    if min(room) <= 0:
        return None
    for _ in range(TRIES):
        top, left = int(rng.integers(room[0])), int(rng.integers(room[1]))
        place = slice(top, top + shape[0]), slice(left, left + shape[1])
        if not is_taken[place].any():
            return place
    return None


def _draw_ink(rng: np.random.Generator, *, spacing_mm: float) -> tuple[Floats, bool]:
    """(h, w) 0 to 1: a word, a label with dark letters or an arrow, any way round; whether it hides what is below."""
    size = max(6, round(float(np.exp(rng.uniform(*np.log(SIZES_MM)))) / spacing_mm))
    if rng.random() < 0.25:
        return _arrow(rng, size=2 * size), False
    text = "".join(rng.choice(list(LETTERS), int(rng.integers(1, 11))))
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    pad = size // 3
    stamp = Image.new("L", (int(right - left) + 2 * pad, int(bottom - top) + 2 * pad), 0)
    ImageDraw.Draw(stamp).text((pad - left, pad - top), text, fill=255, font=font)
    ink = np.asarray(stamp, dtype=np.float32) / 255
    is_box = bool(rng.random() < 0.3)
    if is_box:
        ink = 1 - np.float32(0.9) * ink
    if rng.random() < 0.3:
        ink = ink[:, ::-1]
    if rng.random() < 0.3:
        ink = np.rot90(ink, int(rng.integers(1, 4)))
    return np.ascontiguousarray(ink), is_box


def _arrow(rng: np.random.Generator, *, size: int) -> Floats:
    """(size, size) an arrow or a ring of a pen."""
    stamp = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(stamp)
    width = max(1, size // 16)
    if rng.random() < 0.5:
        draw.ellipse((1, 1, size - 2, size - 2), outline=255, width=width)
    else:
        middle, tip = size // 2, size - 2
        draw.line((1, middle, tip, middle), fill=255, width=width)
        draw.line((tip - size // 4, middle - size // 5, tip, middle), fill=255, width=width)
        draw.line((tip - size // 4, middle + size // 5, tip, middle), fill=255, width=width)
    return np.asarray(stamp.rotate(float(rng.uniform(0, 360))), dtype=np.float32) / np.float32(255)
