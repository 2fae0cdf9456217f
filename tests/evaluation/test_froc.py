import itertools

import numpy as np
import pandas as pd
import pytest

from mmgkeras.errors import InputError
from mmgkeras.evaluation.froc import Froc, froc, on_breast, reach_of
from mmgkeras.evaluation.targets import Targets, targets_from_labels, targets_from_regions
from mmgkeras.schema import Grid, Kind, Region, Shape

Row = tuple[str, str, int, int, int, int, float]


def predictions(rows: list[Row]) -> pd.DataFrame:
    """(image_id, patient_id, fold, row, col, label, probability)."""
    names = ["image_id", "patient_id", "fold", "row", "col", "label", "probability"]
    return pd.DataFrame(rows, columns=names).assign(tissue=1.0)


def pooled(result: Froc) -> dict[float, float | None]:
    """The sensitivity by false positives an image, all folds at one threshold."""
    return {rate: None if one is None else one.estimate for rate, one in result.pooled.items()}


FIRST_FOLD: list[Row] = [
    ("a", "p1", 1, 0, 0, 1, 0.9),  # touches the next by a corner: one target
    ("a", "p1", 1, 1, 1, 1, 0.3),
    ("a", "p1", 1, 0, 3, 1, 0.6),  # a target of its own
    ("a", "p1", 1, 2, 0, 0, 0.7),
    ("a", "p1", 1, 2, 1, 0, 0.2),
    ("a", "p1", 1, 0, 1, 0, 0.55),
    ("a", "p1", 1, 2, 3, -1, 0.99),
    ("b", "p2", 1, 0, 0, 0, 0.8),
    ("b", "p2", 1, 0, 1, 0, 0.65),
    ("b", "p2", 1, 0, 2, 1, 0.5),
    ("c", "p2", 1, 0, 0, -1, 0.95),  # nothing is known of this image
    ("d", "p3", 1, 0, 0, 0, 0.1),
]
SECOND_FOLD: list[Row] = [
    ("e", "p4", 2, 0, 0, 1, 0.2),
    ("e", "p4", 2, 3, 3, 0, 0.3),
    ("e", "p4", 2, 3, 4, 0, 0.1),
]


def region(region_id: str, kind: Kind, shape: Shape, points: tuple[tuple[float, float], ...]) -> Region:
    return Region("a", region_id, kind, shape, points)


def test_patches_that_touch_by_a_corner_are_one_target() -> None:
    targets = targets_from_labels(predictions(FIRST_FOLD))
    assert targets.kind == "component"
    assert [(target.image_id, target.patches) for target in targets.items] == [
        ("a", ((0, 0), (1, 1))),
        ("a", ((0, 3),)),
        ("b", ((0, 2),)),
    ]


def test_the_curve_of_a_case_by_hand() -> None:
    # Targets score 0.9, 0.6, 0.5. On a, b and d a false positive can be seen: 0.8 0.7 0.65 | 0.55 | 0.2 0.1. At 0.9
    # there is none, at 0.6 three on three images, at 0.5 four.
    frame = predictions(FIRST_FOLD)
    result = froc(frame, targets_from_labels(frame), reach=None)
    assert result.num_images == 3
    expected = ((0, 0), (0, 1 / 3), (1, 2 / 3), (4 / 3, 1))
    assert result.points == pytest.approx(np.array(expected))
    assert pooled(result) == pytest.approx({0.5: 1 / 3, 1: 2 / 3, 2: 1, 4: 1})
    for rate, mean in result.fold_mean.items():
        assert mean is not None
        assert mean.estimate == pooled(result)[rate]


def test_the_mean_of_folds_has_a_threshold_for_each_and_the_pooled_curve_one_for_all() -> None:
    frame = predictions(FIRST_FOLD + SECOND_FOLD)
    result = froc(frame, targets_from_labels(frame), reach=None)
    # The second fold finds its target, 0.2, at one false positive on one image.
    means = {rate: one.estimate for rate, one in result.fold_mean.items() if one is not None}
    assert means == pytest.approx({0.5: (1 / 3 + 0) / 2, 1: (2 / 3 + 1) / 2, 2: 1, 4: 1})
    # Pooled on four images: 0 at 0.9, 3 / 4 at 0.6, 4 / 4 at 0.5, 6 / 4 at 0.2.
    assert result.points == pytest.approx(np.array([(0, 0), (0, 0.25), (0.75, 0.5), (1, 0.75), (1.5, 1)]))
    assert pooled(result) == pytest.approx({0.5: 0.25, 1: 0.75, 2: 1, 4: 1})


def test_a_negative_that_scores_as_the_target_does_is_a_false_positive() -> None:
    frame = predictions([("a", "p", 1, 0, 0, 1, 0.4), ("a", "p", 1, 5, 5, 0, 0.4)])
    assert pooled(froc(frame, targets_from_labels(frame), reach=None)) == {0.5: 0, 1: 1, 2: 1, 4: 1}


def test_an_image_scored_by_two_models_counts_in_each_fold() -> None:
    rows = [("a", "p", fold, 0, col, label, 0.5) for fold in (1, 2) for col, label in ((0, 1), (2, 0))]
    frame = predictions(rows)
    targets = targets_from_labels(frame)
    assert [target.fold for target in targets.items] == [1, 2]
    assert froc(frame, targets, reach=None).num_images == 2


def test_without_targets_or_without_negatives_there_is_no_curve() -> None:
    for label in (0, 1):
        frame = predictions([("a", "p", 1, 0, 0, label, 0.4)])
        result = froc(frame, targets_from_labels(frame), reach=None)
        assert result.points == ()
        assert set(result.pooled.values()) == set(result.fold_mean.values()) == {None}


def test_the_curve_is_what_every_threshold_in_turn_gives() -> None:
    rng = np.random.default_rng(5)
    places = itertools.product(range(6), range(5), range(5))
    frame = predictions(
        [
            (f"i{image}", f"p{image // 2}", 1, row, col, int(rng.integers(-1, 2)), round(float(rng.uniform()), 2))
            for image, row, col in places
        ]
    )
    targets = targets_from_labels(frame)
    score = {(image, row, col): p for image, _, _, row, col, _, p, _ in frame.itertuples(index=False)}
    peaks = [max(score[target.image_id, *patch] for patch in target.patches) for target in targets.items]
    negatives = frame.loc[frame["label"] == 0, "probability"].to_numpy()
    result = froc(frame, targets, reach=None)
    for rate, sensitivity in pooled(result).items():
        reached = [
            np.mean(np.array(peaks) >= threshold)
            for threshold in np.linspace(0, 1, 101)
            if (negatives >= threshold).sum() <= rate * 6
        ]
        assert sensitivity == pytest.approx(max(reached))


def test_marks_of_a_cluster_are_no_targets_of_their_own() -> None:
    # 16 x 16 px in four patches. The envelope lies on their corner, a quarter in each, and makes none positive; its
    # marks make two of them so. A mark outside is a target of its own; a finding of kind other is none.
    regions = [
        region("c", "cluster", "box", ((6, 6), (9, 9))),
        region("m1", "calcification", "point", ((7, 7),)),
        region("m2", "calcification", "box", ((9, 9), (9, 10))),  # half of it inside
        region("m3", "calcification", "point", ((2, 12),)),
        region("o", "other", "box", ((8, 0), (15, 7))),
    ]
    rows: list[Row] = [
        ("a", "p", 1, 0, 0, 1, 0.1),
        ("a", "p", 1, 0, 1, 1, 0.2),
        ("a", "p", 1, 1, 0, -1, 0.9),
        ("a", "p", 1, 1, 1, 1, 0.3),
    ]
    grids = {"a": Grid(16, 16, 8, 8, "left")}
    targets = targets_from_regions(predictions(rows), regions, grids)
    assert targets.kind == "region"
    assert [target.patches for target in targets.items] == [((0, 0), (1, 1)), ((0, 1),)]
    assert targets.num_left_out == 0
    alone = targets_from_regions(predictions(rows), regions[:1], grids)
    assert alone == Targets("region", (), num_left_out=1)
    whole = targets_from_regions(predictions(rows), regions[:1], grids, cluster_fraction=0.25)
    assert whole.items[0].patches == ((0, 0), (0, 1), (1, 1))


def test_regions_need_the_grid_of_their_image_and_only_of_images_that_were_scored() -> None:
    regions = [region("m", "calcification", "point", ((1, 1),))]
    elsewhere = predictions([("b", "p", 1, 0, 0, 0, 0.5)])
    assert targets_from_regions(elsewhere, regions, {}).items == ()
    with pytest.raises(InputError, match="image a: has regions and predictions, but no grid"):
        targets_from_regions(predictions([("a", "p", 1, 0, 0, 1, 0.5)]), regions, {})


def test_intervals_that_span_nearly_everything_are_not_given() -> None:
    # Two patients: p's target is found without a false positive, q's behind all of its 100. A draw holds both, or one
    # of them twice.
    rows: list[Row] = [("a", "p", 1, 0, 0, 1, 0.9), ("a", "p", 1, 5, 0, 0, 0.1), ("b", "q", 1, 0, 0, 1, 0.2)]
    rows += [("b", "q", 1, 2, col, 0, 0.5) for col in range(100)]
    frame = predictions(rows)
    targets = targets_from_labels(frame)
    result = froc(frame, targets, reach=None, num_resamples=200)
    for interval in (result.fold_mean[1.0], result.pooled[1.0]):
        assert interval is not None
        assert interval.estimate == 0.5
        assert (interval.low, interval.high) == (None, None)
    assert froc(frame, targets, reach=None, num_resamples=200) == result


def test_a_draw_without_a_target_is_made_again() -> None:
    # In each fold two of seven patients have a target: (5/7)^7 = 9 % of the draws would leave both out.
    rows: list[Row] = []
    for fold in range(1, 9):
        rows += [(f"{fold}a", f"{fold}p", fold, 0, 0, 1, 0.9), (f"{fold}b", f"{fold}q", fold, 0, 0, 1, 0.1)]
        rows += [(f"{fold}{number}", f"{fold}{number}", fold, 0, 0, 0, 0.5) for number in range(5)]
    frame = predictions(rows)
    interval = froc(frame, targets_from_labels(frame), reach=None, num_resamples=100).fold_mean[0.5]
    assert interval is not None
    assert interval.estimate == 0.5
    assert interval.low is not None
    assert 0 < interval.low < 0.5


def test_one_patient_alone_has_no_interval() -> None:
    frame = predictions([("a", "p", 1, 0, 0, 1, 0.9), ("a", "p", 1, 5, 0, 0, 0.1)])
    interval = froc(frame, targets_from_labels(frame), reach=None, num_resamples=10).pooled[1.0]
    assert interval is not None
    assert (interval.low, interval.estimate, interval.high) == (None, 1, None)


def grid(scores: list[list[float]], labels: list[list[int]], *, image: str = "a") -> pd.DataFrame:
    """Every patch of one image of patient p, fold 1."""
    rows = [
        (image, "p", 1, row, col, labels[row][col], score)
        for row, of_row in enumerate(scores)
        for col, score in enumerate(of_row)
    ]
    return predictions(rows)


def test_a_connected_set_of_patches_is_one_mark() -> None:
    # From 0.9 down: a mark at 0.9, one at 0.8; they meet by a corner at 0.7. The target is hit at 0.6.
    frame = grid([[0.9, 0.1, 0.1, 0.6], [0.1, 0.7, 0.1, 0.1], [0.8, 0.1, 0.1, 0.1]], [[0, 0, 0, 1], [0] * 4, [0] * 4])
    targets = targets_from_labels(frame)
    # At 0.8 there were two false marks, and two they remain.
    assert pooled(froc(frame, targets)) == {0.5: 0, 1: 0, 2: 1, 4: 1}
    assert pooled(froc(frame, targets, reach=None)) == {0.5: 0, 1: 0, 2: 0, 4: 1}


def test_a_mark_that_meets_a_target_is_no_false_one() -> None:
    # The negative joins the mark on the target that is higher; in the second row it was a false mark of its own first.
    for scores, expected in (([0.8, 0.9, 0.1], 1), ([0.9, 0.8, 0.1], 0)):
        frame = grid([scores], [[0, 1, 0]])
        assert pooled(froc(frame, targets_from_labels(frame)))[0.5] == expected


def test_unknown_patches_connect_and_count_nowhere() -> None:
    # Alone at 0.9, no false mark; at 0.8 it brings the negative beside it to the target.
    frame = grid([[0.8, 0.9, 0.85, 0.1, 0.95]], [[0, -1, 1, 0, -1]])
    assert pooled(froc(frame, targets_from_labels(frame)))[0.5] == 1


def test_calling_everything_does_not_undo_false_positives() -> None:
    # At 0.1 all is one mark with both targets in it; at 0.5 and 0.4 there were two false marks.
    frame = grid([[0.9, 0.1, 0.5, 0.1, 0.4, 0.1, 0.2]], [[1, 0, 0, 0, 0, 0, 1]])
    assert pooled(froc(frame, targets_from_labels(frame))) == {0.5: 0.5, 1: 0.5, 2: 1, 4: 1}


def test_overlapping_and_touching_patches_are_connected() -> None:
    assert [reach_of(patch_px=32, stride_px=stride) for stride in (32, 16, 12, 64)] == [1, 2, 2, 1]
    # Above the target's 0.5 there are three patches, 2 and 3 columns apart: three marks, two, one.
    frame = grid([[0.9, 0.1, 0.9, 0.1, 0.1, 0.9, *[0.1] * 4, 0.5]], [[0] * 10 + [1]])
    targets = targets_from_labels(frame)
    points = [froc(frame, targets, reach=reach).points for reach in (1, 2, 3)]
    assert points == [((0, 0), (num_marks, 1)) for num_marks in (3, 2, 1)]


def test_the_breast_is_where_any_tissue_is() -> None:
    frame = grid([[0.9, 0.8, 0.7]], [[0, 0, 1]]).assign(tissue=[0.0, 0.01, 1.0])
    assert on_breast(frame)["col"].tolist() == [1, 2]


@pytest.mark.parametrize("reach", [1, 2])
def test_the_curve_by_marks_is_what_every_threshold_in_turn_gives(reach: int) -> None:
    rng = np.random.default_rng(8)
    frame = pd.concat(
        [
            grid(rng.permutation(30).reshape(5, 6) / 30, rng.choice([-1, 0, 0, 0, 1], size=(5, 6)), image=f"i{number}")
            for number in range(4)
        ],
        ignore_index=True,
    )
    targets = targets_from_labels(frame)
    result = froc(frame, targets, reach=reach)
    score = {(image, row, col): p for image, _, _, row, col, _, p, _ in frame.itertuples(index=False)}
    most = dict.fromkeys(frame["image_id"].unique(), 0)
    reached = []
    for threshold in np.arange(30, -1, -1) / 30:
        for image, patches in frame[frame["probability"] >= threshold].groupby("image_id"):
            most[image] = max(most[image], _num_false(patches, reach=reach))
        peaks = [max(score[one.image_id, *place] for place in one.patches) for one in targets.items]
        reached.append((sum(most.values()) / 4, np.mean(np.array(peaks) >= threshold)))
    for rate, sensitivity in pooled(result).items():
        assert sensitivity == pytest.approx(max(hit for false, hit in reached if false <= rate))


def _num_false(patches: pd.DataFrame, *, reach: int) -> int:
    """The marks of one image with a patch labelled 0 and none labelled 1, each grown from one of its patches."""
    left = {(row, col): label for row, col, label in zip(patches["row"], patches["col"], patches["label"], strict=True)}
    count = 0
    while left:
        labels, found = set(), [next(iter(left))]
        while found:
            row, col = found.pop()
            labels.add(left.pop((row, col)))
            found += [p for p in left if max(abs(p[0] - row), abs(p[1] - col)) <= reach and p not in found]
        count += 0 in labels and 1 not in labels
    return count
