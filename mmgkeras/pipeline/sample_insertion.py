"""Which negative patches of the training stream get calcifications of the phantom, and become positive.

Owns the choice. It depends on the seed and on a sample's number in the endless stream alone: the number of devices,
threads and restarts changes nothing. How marks are put into a patch is `sources.phantom.insertion`'s.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.evaluation.summary import TISSUE_FRACTION
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, Pixels
from mmgkeras.sources.phantom.insertion import insert_group

MAX_SPACING_RATIO: Final = 1.2
"""The marks are made for pixels of one size; the pixels of a store may differ by this much."""


@dataclass(frozen=True, eq=False)
class Insertion:
    """Puts marks into a part of the negative tissue patches that are drawn for training.

    Attributes:
        store: whose patches they are; its pixel size is known and nearly one.
        part: of these samples, 0 to 1.
        seed: of the marks, their places and the samples chosen.
    """

    store: PatchStore
    part: float
    seed: int

    def __post_init__(self) -> None:
        """Refuses a store whose pixels have no size, or several.

        Raises:
            InputError: if so.
        """
        spacing, path = self.store.manifest.spacing_mm, self.store.path
        if spacing.median is None or spacing.min is None or spacing.max is None:
            raise InputError(
                f"augmentation.insertion: needs the size of a pixel, and no image of {path} has one; give spacing_mm "
                "in images.csv and prepare the store again"
            )
        if spacing.max > MAX_SPACING_RATIO * spacing.min:
            raise InputError(
                f"augmentation.insertion: needs pixels of one size, and those of {path} have {spacing.min:g} to "
                f"{spacing.max:g} mm; prepare the store again with patches.spacing_mm"
            )

    def apply(
        self, pixels: Pixels, labels: NDArray[np.int32], *, patches: NDArray[np.int64], first_sample: int
    ) -> None:
        """Puts marks into the chosen ones of consecutive samples, and makes their labels 1, in place.

        Args:
            pixels: (n, P, P, 1) raw.
            labels: (n,).
            patches: (n,) their places in the store.
            first_sample: number of the first of them in the endless stream.
        """
        can_have = (labels == NO_CALCIFICATION) & (self._tissue[patches] >= TISSUE_FRACTION)
        for index in np.flatnonzero(can_have):
            rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, first_sample + int(index)]))
            if rng.random() < self.part:
                truth = insert_group(pixels[index, ..., 0], spacing_mm=self._spacing_mm, seed=self.seed, rng=rng)
                if truth is not None:
                    labels[index] = CALCIFICATION

    @cached_property
    def _tissue(self) -> NDArray[np.float32]:
        return self.store.patches["tissue"].to_numpy()

    @cached_property
    def _spacing_mm(self) -> float:
        return cast(float, self.store.spacing_mm)  # known, or there would be no insertion
