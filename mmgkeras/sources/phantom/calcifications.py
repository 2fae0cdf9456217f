"""Calcifications as the detector sees them, and their exact truth.

Owns how a mark becomes log attenuation in pixels and which pixels are its truth; what marks there are is in `cases`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial import ConvexHull

from mmgkeras.patches.region_masks import mask_region
from mmgkeras.schema import Region
from mmgkeras.sources.phantom.anatomy import Anatomy
from mmgkeras.sources.phantom.cases import Finding, Mark
from mmgkeras.sources.phantom.physics import SCATTER_FACTOR, Beam, detector_blur
from mmgkeras.sources.phantom.texture import Floats, Raster

VISIBLE_SNR: Final = 5.0
"""A mark whose blurred signal, matched against the quantum noise, has a lower ratio is left out of image and truth.

This is Rose's criterion. It leaves out most grains of 0.1 to 0.2 mm, of which readers see about half (IJBC
2011:701054).
"""
TRUTH_PART: Final = 0.5
"""A pixel belongs to a mark if the mark alone, blurred and without noise, adds this part of its own greatest signal."""
SUBPIXEL_MM: Final = 0.025
CLUSTER_MM: Final = 20.0
"""No envelope is wider than this."""
CLUSTER_MARKS: Final = 5
MARGIN_PX: Final = 4
"""Room for the blur around a mark."""


@dataclass(frozen=True, slots=True)
class Calcification:
    """One mark in one image.

    Attributes:
        finding: number of its finding, from 1.
        mark: what it is.
        centre: (row, col) in pixels.
        top, left: of `signal` in the image, which lies wholly inside.
        signal: (h, w) log attenuation that it adds, blurred, without noise.
    """

    finding: int
    mark: Mark
    centre: tuple[float, float]
    top: int
    left: int
    signal: Floats

    @property
    def place(self) -> tuple[slice, slice]:
        """Where `signal` lies in the image."""
        height, width = self.signal.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def mirrored(self, width_px: int) -> "Calcification":
        """The same mark in the image turned left to right."""
        return replace(
            self,
            centre=(self.centre[0], width_px - 1 - self.centre[1]),
            left=width_px - self.left - self.signal.shape[1],
            signal=np.ascontiguousarray(self.signal[:, ::-1]),
        )

    @property
    def truth(self) -> NDArray[np.bool_]:
        """(h, w) the pixels of `signal` that belong to the calcification."""
        return np.asarray(self.signal >= np.float32(TRUTH_PART) * self.signal.max())


def project(findings: Sequence[Finding], anatomy: Anatomy, *, beam: Beam, blur_mm: float) -> list[Calcification]:
    """The marks that lie at least 2 mm within the breast as this view shows it, each on its own window."""
    outline, depth_mm, marks = anatomy.outline, anatomy.depth_mm, []
    spacing_mm = outline.spacing_mm
    for number, finding in enumerate(findings, start=1):
        row_mm, col_mm = outline.at(finding.depth, finding.height)
        for mark in finding.marks:
            across = mark.offset_mm[0]
            if finding.vessel is None and outline.view == "MLO":
                across = 0.7 * (mark.offset_mm[0] + mark.offset_mm[1])
            centre = ((row_mm + across) / spacing_mm - 0.5, (col_mm + mark.offset_mm[2]) / spacing_mm - 0.5)
            drawn = draw_mark(mark, number, centre, beam=beam, raster=outline.raster, blur_mm=blur_mm)
            if drawn is not None and depth_mm[round(centre[0]), round(centre[1])] > 2.0:
                marks.append(drawn)
    return marks


def signal_to_noise(mark: Calcification, noise: Floats) -> float:
    """Root of the sum of squares of the mark's signal over the noise's standard deviation, the noise taken as white."""
    return float(np.sqrt(((mark.signal / noise[mark.place]) ** 2).sum()))


def regions_of(
    marks: Sequence[Calcification], *, image_id: str, findings: Sequence[Finding], spacing_mm: float
) -> list[Region]:
    """A mask for every mark, and an envelope for every group of five or more within 20 mm.

    region_id tells finding, number, form and size: "f2-c07-round-0.31mm", and for an envelope finding, pattern and
    greatest width: "f2-e1-clustered-9.8mm".
    """
    regions = []
    for number, group in groupby(marks, key=lambda mark: mark.finding):
        members = list(group)
        for index, mark in enumerate(members, start=1):
            size = float(np.sqrt(mark.mark.length_mm * mark.mark.width_mm))
            name = f"f{number}-c{index:02d}-{mark.mark.form}-{size:.2f}mm"
            truth = partial(mask_region, top=mark.top, left=mark.left, mask=mark.truth)
            regions.append(truth(image_id=image_id, region_id=name, kind="calcification"))
        pattern = findings[number - 1].pattern
        for index, points in enumerate(_envelopes(members, spacing_mm=spacing_mm), start=1):
            corners = np.array(points)
            width = float(np.linalg.norm(corners[:, None] - corners[None, :], axis=-1).max()) * spacing_mm
            regions.append(
                Region(image_id, f"f{number}-e{index}-{pattern}-{width:.1f}mm", "cluster", "polygon", points)
            )
    return regions


def draw_mark(
    mark: Mark, finding: int, centre: tuple[float, float], *, beam: Beam, raster: Raster, blur_mm: float
) -> Calcification | None:
    """The mark on a window around it; None where the window does not lie wholly in the image."""
    shape, spacing_mm = raster
    reach = int(np.ceil((0.75 * mark.length_mm + 3 * blur_mm) / spacing_mm)) + MARGIN_PX
    top, left = round(centre[0]) - reach, round(centre[1]) - reach
    size = 2 * reach + 1
    if top < 0 or left < 0 or top + size > shape[0] or left + size > shape[1]:
        return None
    chord = _chord_mm(mark, size=size, centre=(centre[0] - top, centre[1] - left), spacing_mm=spacing_mm)
    mineral = beam.oxalate_minus_gland if mark.is_oxalate else beam.apatite_minus_gland
    contrast = np.float32(mineral * mark.density_factor / SCATTER_FACTOR)
    signal = detector_blur(contrast * chord, spacing_mm=spacing_mm, blur_mm=blur_mm)
    return Calcification(finding, mark, centre, top, left, signal)


def _chord_mm(mark: Mark, *, size: int, centre: tuple[float, float], spacing_mm: float) -> Floats:
    """(size, size) length of mineral in the beam, the mean over each pixel."""
    fine = max(1, min(int(np.ceil(spacing_mm / SUBPIXEL_MM)), 600 // size))
    at = (np.arange(size * fine) + 0.5) / fine - 0.5
    down = (at[:, None] - centre[0]) * spacing_mm
    right = (at[None, :] - centre[1]) * spacing_mm
    along = np.cos(mark.angle) * right + np.sin(mark.angle) * down
    across = np.cos(mark.angle) * down - np.sin(mark.angle) * right
    radius = np.hypot(2 * along / mark.length_mm, 2 * across / mark.width_mm)
    turn = np.arctan2(across, along)
    edge = np.ones_like(radius)
    for order, (amplitude, phase) in enumerate(mark.outline, start=2):
        edge += amplitude * np.cos(order * turn + phase)
    inside = np.clip(1 - (radius / np.maximum(edge, 0.4)) ** 2, 0, None)
    chord = mark.chord_mm * np.sqrt(inside)
    if mark.form == "rim":
        hollow = 0.8
        chord -= mark.chord_mm * np.sqrt(np.clip(hollow**2 - (radius / np.maximum(edge, 0.4)) ** 2, 0, None))
    if mark.form == "coarse":
        lumps = np.cos(3.1 * along / mark.width_mm + mark.outline[0, 1]) * np.cos(4.3 * across / mark.width_mm)
        chord *= 0.5 * (0.8 + 0.3 * lumps)
    return np.asarray(chord.reshape(size, fine, size, fine).mean(axis=(1, 3)), dtype=np.float32)


def _envelopes(marks: Sequence[Calcification], *, spacing_mm: float) -> list[tuple[tuple[float, float], ...]]:
    """Convex outlines around groups of marks that are no wider than 20 mm, by complete linkage."""
    if len(marks) < CLUSTER_MARKS:
        return []
    centres = np.array([mark.centre for mark in marks])
    groups = fcluster(linkage(centres, method="complete"), CLUSTER_MM / spacing_mm, criterion="distance")
    outlines = []
    for group in np.unique(groups):
        members = centres[groups == group]
        if len(members) < CLUSTER_MARKS:
            continue
        hull = members[ConvexHull(members).vertices]
        outlines.append(tuple((round(float(row), 2), round(float(col), 2)) for row, col in hull))
    return outlines
