import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mmgkeras.errors import InputError
from mmgkeras.evaluation.operating_point import OperatingPoint
from mmgkeras.inference.evaluate import evaluate
from mmgkeras.inference.threshold import choose_operating_point
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.export import add_version
from mmgkeras.savedmodel.metadata import patients_digest, read_metadata, write_metadata
from mmgkeras.tables import write_folds, write_predictions

ExportModel = Callable[..., Path]
POINT = OperatingPoint(0.3, "sensitivity", 0.9, "patients held out")


@pytest.fixture
def model(tmp_path: Path, model_path: Path) -> Path:
    """Of fold 1, tested on p1 and p2, p3 and p4 held out, in a folder of its own."""
    folder = Path(shutil.copytree(model_path, tmp_path / "mean" / "1"))
    return with_digests(folder, held_out_patients_sha256=patients_digest(["p3", "p4"]))


def with_digests(model: Path, **changes: str | None) -> Path:
    write_metadata(read_metadata(model).model_copy(update=changes), model)
    return model


def written(path: Path, rows: list[tuple[int, str, int, float]]) -> Path:
    """predictions.csv of (fold, patient_id, label, probability), an image for each patient."""
    frame = pd.DataFrame(
        [(f"i-{patient}", patient, fold, 0, col, label, p, 1.0) for col, (fold, patient, label, p) in enumerate(rows)],
        columns=["image_id", "patient_id", "fold", "row", "col", "label", "probability", "tissue"],
    )
    write_predictions(path, frame)
    return path


OWN_TEST = [(1, "p1", 1, 0.9), (1, "p2", 0, 0.8)]
HELD_OUT = [(1, "p3", 1, 0.6), (1, "p4", 1, 0.4), (1, "p4", 0, 0.5)]
OTHERS = [(2, "p3", 1, 0.7), (2, "p3", 0, 0.1), (3, "p4", 1, 0.2), (3, "p5", -1, 0.9)]


def test_held_out_patients_of_its_own_fold_may_be_chosen_on(model: Path, tmp_path: Path) -> None:
    chosen = choose_operating_point(model, [written(tmp_path / "validation.csv", HELD_OUT)], sensitivity=1)
    point = chosen.operating_point
    assert (point.threshold, point.kind, point.target) == (0.4, "sensitivity", 1)
    assert point.fitted_on.startswith(
        "predictions of patients outside this model's test subset: 2 positive of 3 patches of 2 patients, "
        "from validation.csv (sha256 "
    )
    assert str(tmp_path) not in point.fitted_on
    assert chosen.reached.metrics.sensitivity == 1
    assert "sensitivity 1.000, specificity 0.000, 1.00 false positives an image" in chosen.text()
    assert chosen.notes == ()


def test_rows_of_its_own_fold_that_no_digest_tells_need_the_store(model: Path, tmp_path: Path) -> None:
    with_digests(model, test_patients_sha256=patients_digest(["p1", "p2", "p9"]))
    needed = r"\.csv: its rows of fold 1 may be of patients on whom .* is tested; give --store, the patch store"
    known = written(tmp_path / "predictions.csv", OWN_TEST)  # as evaluate leaves it: of p9 no patch is known
    for files in ([known], [known, written(tmp_path / "others.csv", OTHERS)]):
        with pytest.raises(InputError, match=needed):
            choose_operating_point(model, files, sensitivity=0.9)
    mixed = written(tmp_path / "mixed.csv", OWN_TEST + OTHERS)
    both = written(tmp_path / "both.csv", OWN_TEST + HELD_OUT)
    for path in (mixed, both, written(tmp_path / "part.csv", HELD_OUT[:1])):
        with pytest.raises(InputError, match=needed):
            choose_operating_point(model, [path], sensitivity=0.9)
    whole = written(tmp_path / "whole.csv", [*OWN_TEST, (1, "p9", -1, 0.5)])
    with pytest.raises(InputError, match="holds only the test subset of fold 1"):
        choose_operating_point(model, [whole], sensitivity=0.9)


def test_a_model_that_does_not_tell_whom_it_held_out_needs_the_store(model: Path, tmp_path: Path) -> None:
    with_digests(model, held_out_patients_sha256=None)
    held_out = written(tmp_path / "validation.csv", HELD_OUT)
    with pytest.raises(InputError, match=r"validation\.csv: its rows of fold 1 may be of patients .* give --store"):
        choose_operating_point(model, [held_out], sensitivity=1)


def test_patients_of_other_folds_are_noted_to_be_unchecked_without_the_store(model: Path, tmp_path: Path) -> None:
    chosen = choose_operating_point(model, [written(tmp_path / "predictions.csv", OTHERS)], sensitivity=1)
    (note,) = chosen.notes
    assert "with --store each patient is checked" in note


def test_of_all_folds_its_own_is_left_out(model: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "predictions.csv", OWN_TEST + OTHERS)
    chosen = choose_operating_point(model, [path], false_positives_per_image=0)
    assert chosen.operating_point.threshold == 0.2
    assert chosen.operating_point.fitted_on.startswith(
        "predictions of folds 2, 3: 2 positive of 3 patches of 2 patients"
    )
    (note,) = chosen.notes
    assert "test subset, of fold 1" in note


def test_the_test_subset_beside_held_out_patients_of_its_fold_is_left_out(model: Path, tmp_path: Path) -> None:
    files = [written(tmp_path / "validation.csv", HELD_OUT), written(tmp_path / "predictions.csv", OWN_TEST)]
    for order in (files, files[::-1]):
        chosen = choose_operating_point(model, order, false_positives_per_image=0)
        assert chosen.operating_point.threshold == 0.6  # 0.9 with the negative of p2, which scores 0.8
        assert "2 positive of 3 patches of 2 patients" in chosen.operating_point.fitted_on
        (note,) = chosen.notes
        assert "test subset, of fold 1" in note


def test_the_test_subset_alone_is_refused(model: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "predictions.csv", OWN_TEST)
    with pytest.raises(InputError, match=r"predictions.csv: holds only the test subset of fold 1, on which .* nothing"):
        choose_operating_point(model, [path], sensitivity=0.9)


def test_a_test_patient_held_out_in_another_fold_is_refused(model: Path, tmp_path: Path) -> None:
    test = written(tmp_path / "predictions.csv", OWN_TEST)
    others = written(tmp_path / "validation.csv", [(2, "p2", 1, 0.9), (2, "p3", 0, 0.1)])
    with pytest.raises(InputError, match=r"nothing may be chosen on a patient on whom .* is tested. Received: 'p2'"):
        choose_operating_point(model, [test, others], sensitivity=0.9)


def test_the_test_subset_under_another_folds_number_is_refused(model: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "predictions.csv", [(2, "p1", 1, 0.9), (2, "p2", 0, 0.8)])
    with pytest.raises(InputError, match=r"nothing may be chosen on a patient on whom .* is tested. Received: 'p1'"):
        choose_operating_point(model, [path], sensitivity=0.9)


def test_a_patient_of_two_folds_is_refused(model: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "validation.csv", [(2, "p3", 1, 0.9), (3, "p3", 0, 0.1)])
    with pytest.raises(InputError, match=r"a patient must be in one fold. Received: 'p3' in 2"):
        choose_operating_point(model, [path], sensitivity=0.9)


def test_a_patch_given_twice_is_refused(model: Path, tmp_path: Path) -> None:
    files = [written(tmp_path / name, OTHERS) for name in ("one.csv", "two.csv")]
    with pytest.raises(InputError, match="a patch must be given once"):
        choose_operating_point(model, files, sensitivity=0.9)


@pytest.fixture
def trained(tmp_path: Path, quadrant_store: Path, export_mean_model: ExportModel) -> Path:
    """A model of 8 px patches that was trained on the store."""
    checksum = PatchStore.open(quadrant_store).checksum
    return export_mean_model(tmp_path / "trained" / "1", changes={"store_checksum": checksum})


def test_with_the_store_a_part_of_the_test_subset_is_known_too(
    trained: Path, quadrant_store: Path, tmp_path: Path
) -> None:
    part = written(tmp_path / "part.csv", OWN_TEST[:1])
    with pytest.raises(InputError, match="holds only the test subset of fold 1"):
        choose_operating_point(trained, [part], sensitivity=0.9, store=quadrant_store)
    held_out = written(tmp_path / "validation.csv", HELD_OUT)
    assert choose_operating_point(trained, [held_out], sensitivity=0.9, store=quadrant_store).notes == ()


def test_a_store_that_was_prepared_anew_tells_the_test_subset_too(
    model: Path, quadrant_store: Path, tmp_path: Path
) -> None:
    part = written(tmp_path / "part.csv", OWN_TEST[:1])
    with pytest.raises(InputError, match="holds only the test subset of fold 1"):
        choose_operating_point(model, [part], sensitivity=0.9, store=quadrant_store)


def test_the_store_must_be_that_of_the_training_split_as_it_was_then(
    trained: Path, model: Path, quadrant_store: Path, tmp_path: Path
) -> None:
    held_out = written(tmp_path / "validation.csv", HELD_OUT)
    subsets = {"p1": "A", "p2": "B", "p3": "B", "p4": "B"}
    write_folds(quadrant_store / "folds.csv", subsets, overwrite=True)
    with pytest.raises(InputError, match="was split anew since"):
        choose_operating_point(trained, [held_out], sensitivity=0.9, store=quadrant_store)


def test_evaluation_stays_at_one_half_and_says_that_there_is_another_threshold(
    trained: Path, quadrant_store: Path, tmp_path: Path
) -> None:
    new = add_version(trained, POINT)
    evaluation = evaluate([new], store=quadrant_store, out=tmp_path / "out")
    assert evaluation.summary.threshold == 0.5
    assert any(
        "carries an operating point of 0.3; the decisions counted here are at 0.5" in n for n in evaluation.notes
    )
    again = evaluate([new], store=quadrant_store, out=tmp_path / "again", threshold=0.3)
    assert not any("operating point" in note for note in again.notes)


def test_predictions_of_another_store_are_taken_with_that_store(
    model: Path, quadrant_store: Path, tmp_path: Path
) -> None:
    (quadrant_store / "folds.csv").unlink()
    rows = [row for row in HELD_OUT if row[1] == "p4"]  # not all of the held-out patients
    own = written(tmp_path / "own.csv", rows)
    with pytest.raises(InputError, match="give --store"):
        choose_operating_point(model, [own], sensitivity=1)
    chosen = choose_operating_point(model, [own], sensitivity=1, store=quadrant_store)
    assert chosen.operating_point.threshold == 0.4
    assert ["cannot be told" in note for note in chosen.notes] == [True]
    with pytest.raises(InputError, match="holds only the test subset"):
        choose_operating_point(model, [written(tmp_path / "test.csv", OWN_TEST)], sensitivity=1, store=quadrant_store)
    stranger = written(tmp_path / "stranger.csv", [*rows, (1, "p9", 0, 0.1)])
    with pytest.raises(InputError, match=r"all predictions[.] Received: patient 'p9' in"):
        choose_operating_point(model, [stranger], sensitivity=1, store=quadrant_store)
