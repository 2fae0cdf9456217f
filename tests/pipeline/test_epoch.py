import dataclasses

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.pipeline.epoch import EpochPlan

# Steps 0 and 40 of `make_plan(seed=5)` as they were when the first runs were trained, by num_drawn_negatives.
PAPER_IDS = {
    None: [[49, 105, 6, 84, 66, 80, 16, 9], [0, 33, 45, 1, 34, 36, 65, 98]],
    5: [[49, 0, 6, 67, 66, 82, 16, 9], [92, 30, 1, 97, 81, 44, 70, 40]],
}


def make_plan(*, positives=3, negatives=17, batch_size=8, seed=5):
    places = np.random.default_rng(0).permutation(100)[: positives + negatives]
    return EpochPlan(
        positives=places[:positives],
        negatives=places[positives:],
        num_positive_ops=24,
        negative_ops=(0, 4),
        batch_size=batch_size,
        seed=seed,
    )


def whole_epoch(plan, epoch):
    """The ids of one epoch, batch by batch."""
    first = epoch * plan.steps_per_epoch
    return np.concatenate([plan.ids(first + step).numpy() for step in range(plan.steps_per_epoch)])


# Training positives and negatives of each fold in the paper's Table 5, and in its Table 6.
PAPER_COUNTS = [
    ((835, 10668), (20040, 21336)),
    ((898, 11019), (21552, 22038)),
    ((791, 11691), (18984, 23382)),
    ((833, 11031), (19992, 22062)),
    ((759, 11671), (18216, 23342)),
]


@pytest.mark.parametrize(("counts", "samples"), PAPER_COUNTS)
def test_table_6_follows_from_table_5(counts, samples):
    places = {"positives": np.arange(counts[0]), "negatives": np.arange(counts[1])}
    plan = dataclasses.replace(make_plan(batch_size=2), **places, batch_size=128)
    assert (plan.num_positive_samples, plan.num_negative_samples) == samples
    assert plan.num_samples == sum(samples)
    assert plan.steps_per_epoch == sum(samples) // 128


def test_ids_stand_for_patch_operation_and_label_by_hand():
    plan = EpochPlan(
        positives=np.array([70, 50]),
        negatives=np.array([8, 9, 3]),
        num_positive_ops=24,
        negative_ops=(0, 4),
        batch_size=2,
        seed=0,
    )
    patches, ops, labels = plan.locate(np.array([0, 23, 24, 47, 48, 49, 50, 53]))
    assert patches.tolist() == [70, 70, 50, 50, 8, 8, 9, 3]
    assert ops.tolist() == [0, 23, 0, 23, 0, 4, 0, 4]
    assert labels.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert (patches.dtype, ops.dtype, labels.dtype) == (np.int64, np.int32, np.int32)


def test_an_epoch_that_fills_its_batches_holds_every_id_once():
    plan = make_plan(batch_size=2)
    assert plan.num_samples == 24 * 3 + 2 * 17
    for epoch in (0, 1):
        np.testing.assert_array_equal(np.sort(whole_epoch(plan, epoch)), np.arange(plan.num_samples))


def test_an_epoch_is_cut_to_whole_batches_and_repeats_no_id():
    plan = make_plan(batch_size=16)
    ids = whole_epoch(plan, 0)
    assert len(ids) == plan.num_samples // 16 * 16 == 96
    assert len(set(ids.tolist())) == 96


def test_each_epoch_has_another_permutation_and_leaves_out_others():
    plan = make_plan(batch_size=16)
    first, second = whole_epoch(plan, 0), whole_epoch(plan, 1)
    assert not np.array_equal(first, second)
    assert set(first.tolist()) != set(second.tolist())


def test_the_seed_decides_the_permutation():
    np.testing.assert_array_equal(whole_epoch(make_plan(seed=1), 0), whole_epoch(make_plan(seed=1), 0))
    assert not np.array_equal(whole_epoch(make_plan(seed=1), 0), whole_epoch(make_plan(seed=2), 0))


def test_the_pieces_of_a_batch_follow_one_another():
    plan = make_plan(batch_size=8)
    for step in (0, plan.steps_per_epoch - 1, plan.steps_per_epoch):
        pieces = [plan.ids(step * 4 + piece, pieces_per_batch=4).numpy() for piece in range(4)]
        np.testing.assert_array_equal(np.concatenate(pieces), plan.ids(step).numpy())


@pytest.mark.parametrize(("positives", "negatives"), [(0, 5), (5, 0)])
def test_a_class_without_patches_is_refused(positives, negatives):
    with pytest.raises(InputError, match=f"Received: {positives} with, {negatives} without"):
        make_plan(positives=positives, negatives=negatives)


def test_a_batch_larger_than_an_epoch_is_refused():
    with pytest.raises(InputError, match=r"train.batch_size: .* Received: 27; allowed: up to 26"):
        make_plan(positives=1, negatives=1, batch_size=27)


def test_an_epoch_draws_some_negatives_each_with_all_its_operations_and_others_next_time():
    plan = dataclasses.replace(make_plan(batch_size=2), num_drawn_negatives=5)
    assert plan.num_samples == 24 * 3 + 2 * 5
    drawn = []
    for epoch in (0, 1):
        ids = np.sort(whole_epoch(plan, epoch))
        np.testing.assert_array_equal(ids[: 24 * 3], np.arange(24 * 3))
        negative, op = np.divmod(ids[24 * 3 :] - 24 * 3, 2)
        np.testing.assert_array_equal(op, [0, 1] * 5)
        np.testing.assert_array_equal(negative[::2], negative[1::2])
        drawn.append(set(negative.tolist()))
        assert len(drawn[-1]) == 5
    assert drawn[0] != drawn[1]


def test_drawing_more_negatives_than_there_are_takes_each_once():
    plan, limited = make_plan(), dataclasses.replace(make_plan(), num_drawn_negatives=99)
    np.testing.assert_array_equal(whole_epoch(limited, 1), whole_epoch(plan, 1))


def symmetric_plan(**changes):
    return dataclasses.replace(make_plan(**changes), scheme="symmetric")


def negatives_of(plan, epoch):
    """(places, operations) of the negatives of an epoch, in the order of the places."""
    patches, ops, labels = plan.locate(whole_epoch(plan, epoch))
    places = patches[labels == 0]
    order = np.argsort(places, kind="stable")
    return places[order], ops[labels == 0][order]


def test_symmetric_ids_stand_for_patch_operation_and_label_by_hand():
    plan = EpochPlan(
        positives=np.array([70]),
        negatives=np.array([8, 9]),
        num_positive_ops=8,
        negative_ops=(0, 4),
        batch_size=2,
        seed=0,
        scheme="symmetric",
    )
    patches, ops, labels = plan.locate(np.array([0, 7, 8, 15, 16, 23, 24, 39]))
    assert patches.tolist() == [70, 70, 8, 8, 8, 8, 9, 9]
    assert ops.tolist() == [0, 7, 0, 7, 0, 7, 0, 7]
    assert labels.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_symmetric_negatives_take_part_twice_and_positives_as_in_the_paper():
    plan = symmetric_plan(batch_size=2)
    like = make_plan(batch_size=2)
    assert plan.num_positive_samples == like.num_positive_samples
    assert plan.num_negative_samples == like.num_negative_samples
    for epoch in (0, 1):
        ids = whole_epoch(plan, epoch)
        np.testing.assert_array_equal(np.sort(ids[ids < 24 * 3]), np.arange(24 * 3))
        places, _ = negatives_of(plan, epoch)
        np.testing.assert_array_equal(places, np.repeat(np.sort(plan.negatives), 2))


def test_symmetric_negatives_have_every_operation_equally_often_and_others_each_epoch():
    plan = symmetric_plan(positives=2, negatives=96, batch_size=2)
    drawn = [negatives_of(plan, epoch)[1] for epoch in (0, 1)]
    for ops in drawn:
        assert np.bincount(ops, minlength=24).tolist() == [8] * 24
    assert 0 < (drawn[0] == drawn[1]).mean() < 0.15  # by chance 1 of 24
    both = drawn[0].reshape(-1, 2)
    assert (both[:, 0] == both[:, 1]).mean() < 0.15


def test_symmetric_operations_do_not_follow_the_order_of_the_epoch():
    plan = symmetric_plan(positives=2, negatives=96, batch_size=2)
    ids = whole_epoch(plan, 0)
    _, ops, labels = plan.locate(ids)
    place = np.flatnonzero(labels == 0)
    assert abs(np.corrcoef(place, ops[labels == 0])[0, 1]) < 0.15


def test_symmetric_batches_depend_on_seed_and_step_alone():
    first, again, other = (symmetric_plan(seed=seed) for seed in (1, 1, 2))
    step = first.steps_per_epoch + 1
    np.testing.assert_array_equal(first.ids(step), again.ids(step))
    assert not np.array_equal(first.ids(step), other.ids(step))
    pieces = [first.ids(step * 4 + piece, pieces_per_batch=4).numpy() for piece in range(4)]
    np.testing.assert_array_equal(np.concatenate(pieces), first.ids(step).numpy())


def test_symmetric_negatives_can_be_drawn_too():
    plan = dataclasses.replace(symmetric_plan(batch_size=2), num_drawn_negatives=5)
    drawn = [negatives_of(plan, epoch)[0] for epoch in (0, 1)]
    for places in drawn:
        assert len(places) == 10
        np.testing.assert_array_equal(places[::2], places[1::2])
        assert len(set(places.tolist())) == 5
    assert set(drawn[0].tolist()) != set(drawn[1].tolist())


@pytest.mark.parametrize("num_drawn_negatives", [None, 5])
def test_the_papers_order_is_what_it_has_always_been(num_drawn_negatives):
    plan = dataclasses.replace(make_plan(seed=5), num_drawn_negatives=num_drawn_negatives)
    assert [plan.ids(step).numpy().tolist() for step in (0, 40)] == PAPER_IDS[num_drawn_negatives]


def test_shuffling_once_repeats_the_first_order():
    plan = dataclasses.replace(make_plan(batch_size=16), shuffle="once")
    np.testing.assert_array_equal(whole_epoch(plan, 0), whole_epoch(make_plan(batch_size=16), 0))
    np.testing.assert_array_equal(whole_epoch(plan, 3), whole_epoch(plan, 0))


def test_shuffling_once_still_draws_operations_anew():
    plan = dataclasses.replace(symmetric_plan(batch_size=2), shuffle="once")
    (places, ops), (later_places, later_ops) = (plan.locate(whole_epoch(plan, epoch))[:2] for epoch in (0, 1))
    np.testing.assert_array_equal(places, later_places)
    assert not np.array_equal(ops, later_ops)
