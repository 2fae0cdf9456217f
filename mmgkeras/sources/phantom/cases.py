"""Who is in the phantom: patients, the exposures of their breasts, and the calcifications in each.

Owns how patients are drawn from the seed, and what is found in a breast, how large and where in millimetres, the same
in both views: findings of several marks each. Knows nothing of pixels and contrast. Every patient, breast, image and
part of an image has a random stream of its own, so that none changes with the number of patients or the order of work.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mmgkeras.schema import Laterality

Density = Literal["A", "B", "C", "D"]
PhantomView = Literal["CC", "MLO"]

DENSITIES: Final[tuple[Density, ...]] = ("A", "B", "C", "D")
DENSITY_PARTS: Final = (0.10, 0.40, 0.40, 0.10)
"""BI-RADS density in a screening population."""
IMAGE_SETS: Final[tuple[tuple[tuple[int, PhantomView], ...], ...]] = (
    ((0, "CC"), (0, "MLO")),
    ((0, "CC"), (0, "MLO"), (1, "CC"), (1, "MLO")),
    ((0, "MLO"),),
    ((0, "CC"), (0, "MLO"), (1, "MLO")),
)
"""Which breast (first or second) is seen in which view."""
IMAGE_SET_PARTS: Final = (0.5, 0.3, 0.1, 0.1)
"""Gives 2.6 images a patient, as in the paper (3.1: 212 images, 81 patients)."""

_PATIENT, _BREAST, _IMAGE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Patient:
    """A woman: what her exposures have in common.

    Attributes:
        number: from 1.
        age: in years.
        density: of both breasts.
        nipple_distance_mm: from the chest wall, compressed.
        thickness_mm: of the compressed breast.
    """

    number: int
    age: float
    density: Density
    nipple_distance_mm: float
    thickness_mm: float

    @property
    def patient_id(self) -> str:
        """Such as "P0001"."""
        return f"P{self.number:04d}"


@dataclass(frozen=True, slots=True)
class Exposure:
    """One image to be made: of which patient, breast and view, with which seed."""

    patient: Patient
    laterality: Laterality
    view: PhantomView
    seed: int

    @property
    def image_id(self) -> str:
        """Such as "P0001_L_CC"."""
        return f"{self.patient.patient_id}_{self.laterality}_{self.view}"

    def breast_rng(self) -> np.random.Generator:
        """The stream of what both views of the breast share: its calcifications."""
        return _rng(self.seed, self.patient.number, _BREAST, self._breast)

    def image_rng(self, part: str) -> np.random.Generator:
        """The stream of one part of this image; parts are "anatomy", "texture" and so on."""
        return _rng(self.seed, self.patient.number, _IMAGE, self._breast, int(self.view == "MLO"), *part.encode())

    @property
    def _breast(self) -> int:
        return int(self.laterality == "R")


def plan_exposures(*, num_patients: int, seed: int) -> list[Exposure]:
    """Every image of patients 1 to `num_patients`, in order; the first patients are the same for any number."""
    return [exposure for number in range(1, num_patients + 1) for exposure in _exposures_of(number, seed=seed)]


def _exposures_of(number: int, *, seed: int) -> list[Exposure]:
    rng = _rng(seed, number, _PATIENT)
    density = DENSITIES[rng.choice(len(DENSITIES), p=DENSITY_PARTS)]
    distance = float(np.clip(rng.normal(95.0, 17.0), 65.0, 130.0))
    patient = Patient(
        number=number,
        age=round(float(np.clip(rng.normal(62.0 - 4.0 * DENSITIES.index(density), 9.0), 35.0, 85.0))),
        density=density,
        nipple_distance_mm=distance,
        thickness_mm=float(np.clip(rng.normal(52.0 + 0.15 * (distance - 95.0), 8.0), 32.0, 75.0)),
    )
    sides: tuple[Laterality, Laterality] = ("L", "R") if rng.random() < 0.5 else ("R", "L")
    views = IMAGE_SETS[rng.choice(len(IMAGE_SETS), p=IMAGE_SET_PARTS)]
    return [Exposure(patient, laterality=sides[breast], view=view, seed=seed) for breast, view in views]


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


Form = Literal["round", "linear", "coarse", "rim", "vascular"]
Pattern = Literal["clustered", "segmental", "linear", "regional", "diffuse", "single", "vascular"]

PATTERN_PARTS: Final[tuple[tuple[Pattern, float], ...]] = (
    ("clustered", 0.75),
    ("segmental", 0.12),
    ("linear", 0.06),
    ("regional", 0.05),
    ("diffuse", 0.02),
)
"""CBIS case lists: clustered 50, segmental 11, linear 6, regional 5, diffuse 2 %; the unstated 23 as clustered."""
SIZE_MEDIAN_MM: Final = 0.28
SIZE_SIGMA: Final = 0.45
SIZE_RANGE_MM: Final = (0.1, 1.0)
"""Lognormal size of a small calcification."""
COARSE_RANGE_MM: Final = (1.0, 4.0)
DENSITY_FACTOR_RANGE: Final = (0.2, 0.8)
"""Part of solid mineral in a calcification."""
OXALATE_PART: Final = 0.12


@dataclass(frozen=True, slots=True)
class Mark:
    """One calcification: place, size and make.

    Attributes:
        offset_mm: (3,) from the finding's place: down in CC, down in MLO, toward the nipple.
        form: how it is drawn.
        length_mm, width_mm: of its outline.
        chord_mm: greatest length of mineral in the beam.
        angle: of its length, in radians from the columns' axis.
        density_factor: part of solid mineral.
        is_oxalate: calcium oxalate instead of hydroxyapatite.
        outline: (4, 2) amplitude and phase of the roughness of its outline.
    """

    offset_mm: tuple[float, float, float]
    form: Form
    length_mm: float
    width_mm: float
    chord_mm: float
    angle: float
    density_factor: float
    is_oxalate: bool
    outline: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Finding:
    """Marks that belong together.

    Attributes:
        pattern: how they are spread.
        depth, height: the place in the breast as `Outline.at` takes it.
        marks: at least one.
        vessel: (K, 2) the course of the vessel they line, (down, toward the nipple) in mm from the place; else None.
    """

    pattern: Pattern
    depth: float
    height: float
    marks: tuple[Mark, ...]
    vessel: NDArray[np.float64] | None = None


def _placed(
    pattern: Pattern, marks: list[Mark], rng: np.random.Generator, *, vessel: NDArray[np.float64] | None = None
) -> Finding:
    """The finding at a place; calcifications lie where glandular tissue is more often than elsewhere."""
    return Finding(
        pattern=pattern,
        depth=float(rng.beta(1.7, 1.3)),
        height=float(np.clip(rng.normal(-0.15, 0.55), -1.1, 0.9)),
        marks=_with_mineral(marks, rng),
        vessel=vessel,
    )


def _mark(rng: np.random.Generator, *, form: Form, size_mm: float, offset_mm: NDArray[np.float64]) -> Mark:
    aspect = float(np.clip(rng.lognormal(0.0, 0.3), 0.5, 2.5))
    if form in ("linear", "vascular"):
        aspect = float(rng.uniform(2.0, 5.0))
    rough = 0.05 if form in ("coarse", "rim") else 0.12
    orders = np.arange(2, 6)
    return Mark(
        offset_mm=(float(offset_mm[0]), float(offset_mm[1]), float(offset_mm[2])),
        form=form,
        length_mm=size_mm * np.sqrt(aspect),
        width_mm=size_mm / np.sqrt(aspect),
        chord_mm=size_mm / np.sqrt(aspect) if aspect > 2.5 else size_mm * float(rng.uniform(0.7, 1.1)),
        angle=float(rng.uniform(0.0, np.pi)),
        density_factor=0.5,
        is_oxalate=False,
        outline=np.stack([rough * rng.normal(size=4) * 2.0 / orders, rng.uniform(0, 2 * np.pi, 4)], axis=-1),
    )


def _with_mineral(marks: list[Mark], rng: np.random.Generator) -> tuple[Mark, ...]:
    """The marks of a finding are of one mineral and of about one density."""
    is_oxalate = bool(rng.random() < OXALATE_PART)
    low, high = DENSITY_FACTOR_RANGE
    centre = low + (high - low) * rng.beta(1.7, 2.1)
    factors = np.clip(centre + rng.normal(0.0, 0.08, len(marks)), *DENSITY_FACTOR_RANGE)
    return tuple(
        replace(mark, density_factor=float(factor), is_oxalate=is_oxalate)
        for mark, factor in zip(marks, factors, strict=True)
    )


def _small_size(rng: np.random.Generator) -> float:
    """Lognormal, drawn again outside its range."""
    while True:
        size = float(SIZE_MEDIAN_MM * np.exp(rng.normal(0.0, SIZE_SIGMA)))
        if SIZE_RANGE_MM[0] <= size <= SIZE_RANGE_MM[1]:
            return size


def _micro(rng: np.random.Generator) -> Finding:
    """Small calcifications in one of the patterns of BI-RADS."""
    pattern = PATTERN_PARTS[rng.choice(len(PATTERN_PARTS), p=[part for _, part in PATTERN_PARTS])][0]
    offsets = _offsets(pattern, rng)
    is_casting = rng.random() < (0.5 if pattern in ("linear", "segmental") else 0.15)
    marks = []
    for offset in offsets:
        form: Form = "linear" if is_casting and rng.random() < 0.6 else "round"
        marks.append(_mark(rng, form=form, size_mm=_small_size(rng), offset_mm=offset))
    return _placed(pattern, marks, rng)


def _offsets(pattern: Pattern, rng: np.random.Generator) -> NDArray[np.float64]:
    """(K, 3) mm of the marks from the place of their finding."""
    if pattern == "clustered":
        return rng.normal(0.0, rng.uniform(1.0, 4.0), (int(rng.integers(5, 30)), 3))
    if pattern in ("regional", "diffuse"):
        wide = rng.uniform(8.0, 13.0) if pattern == "regional" else rng.uniform(25.0, 35.0)
        return rng.normal(0.0, wide, (int(rng.integers(15, 50)), 3))
    count = int(rng.integers(6, 20)) if pattern == "linear" else int(rng.integers(15, 50))
    along = rng.uniform(-0.5, 0.5, count) * rng.uniform(12.0, 35.0)
    # A segment is a wedge that narrows toward the nipple, a line a single duct.
    spread = 0.6 if pattern == "linear" else np.clip(5.0 - 0.2 * along, 1.0, 9.0)
    across = rng.normal(0.0, 1.0, (2, count)) * spread + rng.uniform(-0.3, 0.3, (2, 1)) * along
    return np.stack([across[0], across[1], along], axis=-1)


def _macro(rng: np.random.Generator) -> Finding:
    """One or a few benign calcifications: coarse, with a rim, or round."""
    count = int(1 + rng.poisson(0.5))
    offsets = rng.normal(0.0, 6.0, (count, 3))
    marks = []
    for offset in offsets:
        form: Form = ("coarse", "rim", "round")[rng.choice(3, p=(0.2, 0.15, 0.65))]
        size = float(rng.uniform(0.3, 0.9))
        if form != "round":
            size = float(np.exp(rng.uniform(*np.log(COARSE_RANGE_MM)) * (0.6 if form == "rim" else 1.0)))
        marks.append(_mark(rng, form=form, size_mm=size, offset_mm=offset))
    return _placed("single" if count == 1 else "regional", marks, rng)


def _skin(rng: np.random.Generator) -> Finding:
    """One to eight small rings close together, as calcified glands of the skin look."""
    offsets = rng.normal(0.0, rng.uniform(1.5, 6.0), (int(rng.integers(1, 9)), 3))
    marks = [_mark(rng, form="rim", size_mm=float(rng.uniform(0.4, 1.2)), offset_mm=offset) for offset in offsets]
    return _placed("single" if len(marks) == 1 else "regional", marks, rng)


def _vascular(rng: np.random.Generator) -> Finding:
    """Dashes along both walls of an artery."""
    length = rng.uniform(20.0, 55.0)
    steps = np.arange(0.0, length, 0.5)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0.0, 0.06, len(steps)))
    course = np.cumsum(0.5 * np.stack([np.sin(heading), np.cos(heading)], axis=-1), axis=0)
    course -= course.mean(axis=0)
    radius = rng.uniform(0.6, 1.4)
    coverage = rng.uniform(0.35, 0.8)
    marks = []
    for side in (-1.0, 1.0):
        at = float(rng.uniform(0.0, 2.0))
        while at < length - 1.0:
            size = float(rng.uniform(0.3, 0.6))
            index = int(at / 0.5)
            normal = np.array([np.cos(heading[index]), -np.sin(heading[index])])
            down, right = course[index] + side * radius * normal + rng.normal(0.0, 0.08, 2)
            mark = _mark(rng, form="vascular", size_mm=size, offset_mm=np.array([down, down, right]))
            marks.append(replace(mark, angle=float(heading[index] + rng.normal(0.0, 0.15))))
            at += mark.length_mm / coverage * float(rng.uniform(0.6, 1.4))
    return _placed("vascular", marks, rng, vessel=course)


KINDS: Final = ((_macro, 0.57), (_micro, 0.35), (_vascular, 0.08))
"""Mix of findings on the calcification images of CDD-CESM: macro 54, micro 33, vascular 8 %."""


def draw_findings(rng: np.random.Generator, *, mean: float, skin_mean: float = 0.0) -> list[Finding]:
    """All findings of one breast, of Poisson numbers of these means; some breasts have none."""
    kinds = rng.choice(len(KINDS), size=rng.poisson(mean), p=[part for _, part in KINDS])
    findings = [KINDS[kind][0](child) for kind, child in zip(kinds, rng.spawn(len(kinds)), strict=True)]
    if skin_mean:
        findings += [_skin(child) for child in rng.spawn(int(rng.poisson(skin_mean)))]
    return findings
