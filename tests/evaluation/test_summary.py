import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from mmgkeras.errors import InputError
from mmgkeras.evaluation.outputs import standing
from mmgkeras.evaluation.summary import summarise, summarise_times

NAMES = ["image_id", "patient_id", "fold", "row", "col", "label", "probability", "tissue"]


def predictions(rows: list[tuple[int, str, int, float]], *, tissue: float = 1.0) -> pd.DataFrame:
    """(fold, image_id, label, probability), each in a column of its own; the patient is what precedes the dash."""
    return pd.DataFrame(
        [
            (image_id, image_id.split("-")[0], fold, 0, col, label, probability, tissue)
            for col, (fold, image_id, label, probability) in enumerate(rows)
        ],
        columns=NAMES,
    )


TWO_FOLDS = predictions(
    [
        (1, "p-1", 1, 0.9),
        (1, "p-1", 0, 0.1),
        (2, "q-1", 1, 0.3),
        (2, "q-1", 1, 0.2),
        (2, "q-2", 0, 0.25),
        (2, "q-2", 0, 0.8),
    ]
)


def test_the_mean_over_folds_and_the_pooled_metrics_differ_as_they_should() -> None:
    summary = summarise(TWO_FOLDS).all_patches
    assert list(summary.folds) == [1, 2]
    # Fold 1 wins its one pair; fold 2 wins 1 of 4 (0.3 over 0.25).
    assert summary.mean["auc"] == pytest.approx((1 + 1 / 4) / 2)
    assert summary.mean["sensitivity"] == pytest.approx((1 + 0) / 2)
    assert summary.pooled is not None
    # Pooled: 0.9 wins 3 of 3, 0.3 wins 2 (0.1, 0.25), 0.2 wins 1 (0.1).
    assert summary.pooled.auc == pytest.approx(6 / 9)
    assert summary.pooled.sensitivity == pytest.approx(1 / 3)
    assert (summary.counts.num_positives, summary.counts.num_negatives) == (3, 3)
    assert (summary.counts.num_images, summary.counts.num_patients) == (3, 2)


def test_the_classifier_that_always_says_no_stands_beside() -> None:
    always_no = summarise(TWO_FOLDS).all_patches.always_no
    assert always_no["accuracy"] == 0.5
    assert (always_no["sensitivity"], always_no["specificity"]) == (0, 1)
    assert always_no["auc"] == 0.5
    assert always_no["ppv"] is None
    assert always_no["average_precision"] == 0.5


def test_tissue_patches_are_those_with_breast_on_half_of_their_area() -> None:
    easy = predictions([(1, "p-9", 0, 0.0), (1, "p-9", 0, 0.6)], tissue=0.49)
    border = predictions([(1, "p-8", 0, 0.95)], tissue=0.5)
    summary = summarise(pd.concat([TWO_FOLDS[TWO_FOLDS["fold"] == 1], easy, border], ignore_index=True))
    assert (summary.tissue.counts.num_negatives, summary.all_patches.counts.num_negatives) == (2, 4)
    assert summary.tissue.mean["auc"] == 0.5
    assert summary.all_patches.mean["auc"] == pytest.approx(3 / 4)


def test_a_fold_without_tissue_patches_leaves_no_mean_rather_than_a_better_one() -> None:
    bare = predictions([(2, "q-1", 1, 0.9), (2, "q-1", 0, 0.1)], tissue=0.0)
    summary = summarise(pd.concat([TWO_FOLDS[TWO_FOLDS["fold"] == 1], bare], ignore_index=True))
    assert list(summary.tissue.folds) == [1, 2]
    assert summary.tissue.mean["auc"] is None
    assert summary.all_patches.mean["auc"] == 1


def test_the_mean_accuracy_of_mammograms_weighs_every_mammogram_the_same() -> None:
    # p-1: 2 of 2; q-1: 0 of 2; q-2: 1 of 2.
    assert summarise(TWO_FOLDS).all_patches.mammogram_accuracy == pytest.approx((1 + 0 + 1 / 2) / 3)


def test_mammograms_without_a_known_patch_have_no_accuracy() -> None:
    unknown = predictions([(1, "p-2", -1, 0.9)])
    both = pd.concat([TWO_FOLDS[TWO_FOLDS["fold"] == 1], unknown], ignore_index=True)
    assert summarise(both).all_patches.mammogram_accuracy == 1
    assert summarise(unknown).all_patches.mammogram_accuracy is None


def test_baselines_are_measured_on_the_same_patches_and_the_best_is_named() -> None:
    scored = TWO_FOLDS.assign(untrained_mean=[1, 2, 3, 3, 1, 1], untrained_top_hat=[2, 1, 1, 5, 2, 2])
    summary = summarise(scored).all_patches
    assert summary.baselines == {"mean": 0.5, "top_hat": pytest.approx((1 + 1 / 2) / 2)}
    assert summary.best_baseline == ("top_hat", pytest.approx(0.75))
    assert summarise(TWO_FOLDS).all_patches.best_baseline is None


def test_patches_that_several_models_scored_are_not_pooled() -> None:
    first = TWO_FOLDS[TWO_FOLDS["fold"] == 1]
    second = first.assign(fold=2, probability=[0.2, 0.4])
    summary = summarise(pd.concat([first, second], ignore_index=True)).all_patches
    assert summary.pooled is None
    assert (summary.counts.num_positives, summary.counts.num_negatives) == (1, 1)
    assert summary.mean["auc"] == 0.5


def test_positives_are_held_against_their_twins_fold_by_fold() -> None:
    twins = TWO_FOLDS[TWO_FOLDS["label"] == 1].assign(label=0, probability=[0.1, 0.25, 0.1])
    summary = summarise(TWO_FOLDS, twins=twins).twins
    assert summary is not None
    assert summary.num_pairs == 3
    # Fold 1: 0.9 over 0.1. Fold 2: 0.3 over both, 0.2 over 0.1.
    assert summary.auc == pytest.approx((1 + 3 / 4) / 2)


def test_a_positive_without_a_twin_is_named() -> None:
    twins = TWO_FOLDS[TWO_FOLDS["label"] == 1].assign(label=0).iloc[:2]
    with pytest.raises(InputError, match=r"twins: row 0, col 3 of image q-1 is positive and has no twin"):
        summarise(TWO_FOLDS, twins=twins)


def test_a_twin_with_calcification_is_named() -> None:
    with pytest.raises(InputError, match=r"row 0, col 0 of image p-1 is positive in the twin store too"):
        summarise(TWO_FOLDS, twins=TWO_FOLDS)


def test_times_are_of_a_running_model_and_the_first_is_apart() -> None:
    timing = summarise_times([2.0, 3.0], [0.1, 0.2, 0.3], hardware="a box")
    assert timing is not None
    assert (timing.first, timing.p50, timing.num_images) == (3.0, pytest.approx(0.2), 3)
    assert timing.p95 == pytest.approx(0.29)
    assert summarise_times([], [], hardware="a box") is None


def scored(shift: float) -> pd.DataFrame:
    """Three patches of each of 40 patients, tissue alone; one baseline, whose scores are those of a shift of 1."""
    random = np.random.default_rng(4)
    patient = np.repeat(np.arange(40), 3)
    label = np.tile([1, 0, 0], 40)
    noise, own = random.normal(size=40)[patient], random.normal(size=(2, 120))
    return pd.DataFrame(
        {
            "image_id": [f"i{number}" for number in patient],
            "patient_id": [f"p{number}" for number in patient],
            "fold": 1 + patient % 2,
            "row": 0,
            "col": np.arange(120),
            "label": label,
            "probability": expit(shift * label + noise + own[0]),
            "tissue": 1.0,
            "untrained_mean": label + noise + own[1],
        }
    )


def test_the_paired_test_decides_whether_the_auc_is_above_the_best_baseline() -> None:
    clear, doubtful = (summarise(scored(shift)).tissue for shift in (4.0, 0.8))
    for selection, is_different in ((clear, True), (doubtful, False)):
        assert selection.above_best is not None
        assert selection.best_baseline is not None
        difference = (selection.mean["auc"] or 0) - selection.best_baseline[1]
        assert selection.above_best.interval.estimate == pytest.approx(difference)
        assert difference > 0
        assert selection.above_best.is_different is is_different
    assert standing(clear).startswith("above the best baseline (mean, AUC 0.")
    assert standing(doubtful).startswith("not shown to differ from the best baseline (mean, AUC 0.")


def test_without_a_baseline_nothing_is_said_of_one() -> None:
    bare = summarise(scored(2.0).drop(columns="untrained_mean")).tissue
    assert bare.above_best is None
    assert standing(bare) == ""


def test_a_baseline_that_the_file_of_a_fold_lacks_has_no_mean() -> None:
    frame = TWO_FOLDS.assign(untrained_mean=0.5, untrained_top_hat=[0.9, 0.1, np.nan, np.nan, np.nan, np.nan])
    summary = summarise(frame).all_patches
    assert summary.baselines == {"mean": 0.5, "top_hat": None}
    assert summary.best_baseline == ("mean", 0.5)
    twins = summarise(frame, twins=TWO_FOLDS[TWO_FOLDS["label"] == 1].assign(label=0)).twins
    assert twins is not None
    assert twins.baselines == {"mean": None, "top_hat": None}
