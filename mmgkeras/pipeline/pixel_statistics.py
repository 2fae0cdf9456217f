"""Mean and standard deviation of the training set's pixels, exact, from one pass over the patches.

Owns how often the paper's augmentation shows each pixel, and at which brightness. Turning and flipping change neither
sum; darkening multiplies both. So no patch is augmented here.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.patches.store import PatchStore
from mmgkeras.pipeline.batches import even_batches
from mmgkeras.pipeline.epoch import EpochPlan
from mmgkeras.progress import Track, untracked

_CHUNK: Final = 64
"""Patches read at a time."""


def pixel_statistics(
    store: PatchStore, plan: EpochPlan, *, intensities: Sequence[float], track: Track = untracked
) -> tuple[float, float]:
    """Mean and standard deviation of all pixels of an epoch before it is cut to whole batches, white being 1.

    Where an epoch draws some of the negatives, all of them count, with the weight of those drawn. The sums are taken in
    whole numbers, so that the order of the patches does not matter.

    Args:
        store: where the pixels are.
        plan: what an epoch holds.
        intensities: factors on the pixels of a positive, each of them as often.
        track: shows progress over the parts of the work.

    Returns:
        Both as multiples of the pixel type's maximum; the deviation is that of the population.

    Raises:
        InputError: if all pixels are equal.
    """
    white = Fraction(int(np.iinfo(store.pixel_type).max))
    factors = [Fraction(factor) for factor in intensities]
    darkened = tuple(sum((factor**power for factor in factors), Fraction(0)) / len(factors) for power in (1, 2))
    plain = (Fraction(1), Fraction(1))
    num_pixels, total, squares = Fraction(0), Fraction(0), Fraction(0)
    parts = (
        (plan.positives, plan.num_positive_samples, darkened),
        (plan.negatives, plan.num_negative_samples, darkened if plan.scheme == "symmetric" else plain),
    )
    for indices, num_samples, (first, second) in parts:
        sums = _sums(store, indices, track=track)
        weight = Fraction(num_samples, len(indices))
        num_pixels += weight * len(indices) * store.patch_px**2
        total += weight * sums[0] * first / white
        squares += weight * sums[1] * second / white**2
    mean = total / num_pixels
    variance = squares / num_pixels - mean**2
    if variance <= 0:
        raise InputError('model.normalisation: "training" needs training patches of more than one gray value')
    return float(mean), math.sqrt(variance)


def _sums(store: PatchStore, indices: NDArray[np.int64], *, track: Track) -> tuple[int, int]:
    """The sum of the pixels of patches and of their squares, from their histogram."""
    num_levels = int(np.iinfo(store.pixel_type).max) + 1
    histogram = np.zeros(num_levels, np.int64)
    for chunk in track(even_batches(np.sort(indices), batch_size=_CHUNK), "pixel statistics"):
        histogram += np.bincount(store.gather(chunk).reshape(-1), minlength=num_levels)
    levels, counts = np.arange(num_levels).astype(object), histogram.astype(object)  # whole numbers of any size
    return int(counts @ levels), int(counts @ levels**2)
