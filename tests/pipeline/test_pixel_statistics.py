"""Mean and deviation of the training set's pixels, against the augmented patches themselves."""

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.models.augmentation import NEGATIVE_OPS, Augment
from mmgkeras.pipeline.epoch import EpochPlan
from mmgkeras.pipeline.pixel_statistics import pixel_statistics

INTENSITIES = (1.0, 0.5, 0.75)


class Patches:
    patch_px = 4

    def __init__(self, pixels):
        self.pixels = pixels
        self.pixel_type = str(pixels.dtype)

    def gather(self, indices, *, out=None):
        return self.pixels[indices]


def plan_of(**changes):
    values = {
        "positives": np.array([3, 70]),
        "negatives": np.delete(np.arange(200), [3, 70, 100]),  # one patch is in no class
        "num_positive_ops": 24,
        "negative_ops": NEGATIVE_OPS,
        "batch_size": 8,
        "seed": 0,
    }
    return EpochPlan(**(values | changes))


def patches(dtype="uint16"):
    high = np.iinfo(dtype).max
    return Patches(np.random.default_rng(5).integers(0, high, (200, 4, 4, 1), dtype=dtype, endpoint=True))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_statistics_are_those_of_every_augmented_patch_of_an_epoch(dtype):
    store, plan = patches(dtype), plan_of()
    indices, ops, _ = plan.locate(np.arange(plan.num_samples))
    shown = np.asarray(Augment(intensities=INTENSITIES)(store.gather(indices), ops), np.float64)
    shown /= np.iinfo(dtype).max
    mean, deviation = pixel_statistics(store, plan, intensities=INTENSITIES)
    assert mean == pytest.approx(shown.mean(), rel=1e-12)
    assert deviation == pytest.approx(shown.std(), rel=1e-12)


def test_darkened_negatives_count_as_such_in_the_symmetric_scheme():
    store, plan = patches(), plan_of(scheme="symmetric")
    positives, negatives = (store.pixels[part].astype(np.float64) / 65535 for part in (plan.positives, plan.negatives))
    # Every intensity as often in either class; 48 positives and 394 negatives an epoch.
    mean = 0.75 * (48 * positives.mean() + 394 * negatives.mean()) / 442
    square = (1 + 0.25 + 0.5625) / 3 * (48 * (positives**2).mean() + 394 * (negatives**2).mean()) / 442
    assert pixel_statistics(store, plan, intensities=INTENSITIES) == pytest.approx((mean, np.sqrt(square - mean**2)))


def test_all_negatives_count_with_the_weight_of_those_drawn():
    store, plan = patches(), plan_of(num_drawn_negatives=24)
    positives, negatives = (store.pixels[part].astype(np.float64) / 65535 for part in (plan.positives, plan.negatives))
    mean, _ = pixel_statistics(store, plan, intensities=(1.0,))
    assert mean == pytest.approx((48 * positives.mean() + 48 * negatives.mean()) / 96)


def test_the_same_set_in_another_order_has_the_very_same_statistics():
    store, plan = patches(), plan_of()
    turned = plan_of(positives=plan.positives[::-1], negatives=plan.negatives[::-1])
    assert pixel_statistics(store, plan, intensities=INTENSITIES) == pixel_statistics(
        store, turned, intensities=INTENSITIES
    )


def test_patches_of_one_gray_have_no_deviation_to_divide_by():
    store = Patches(np.full((200, 4, 4, 1), 7, np.uint8))
    with pytest.raises(InputError, match="needs training patches of more than one gray value"):
        pixel_statistics(store, plan_of(), intensities=(1.0,))
