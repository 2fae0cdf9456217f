"""Who is in the phantom: patients, their breasts, and the exposures of them.

Owns how patients are drawn from the seed; knows nothing of pixels. Every patient, breast, image and part of an image
has a random stream of its own, so that none changes with the number of patients or the order of the work.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

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
