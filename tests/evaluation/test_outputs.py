import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmgkeras.errors import InputError
from mmgkeras.evaluation.outputs import as_text, recompute_metrics, write_metrics
from mmgkeras.evaluation.summary import Timing
from mmgkeras.tables import write_predictions

FRAME = pd.DataFrame(
    {
        "image_id": ["a", "a", "a", "b", "b"],
        "patient_id": ["1", "1", "1", "2", "2"],
        "fold": [1, 1, 1, 1, 1],
        "row": 0,
        "col": [0, 1, 2, 0, 1],
        "label": [1, 0, 0, 1, -1],
        "probability": [0.9, 0.1, 0.2, 0.4, 0.6],
        "tissue": [1.0, 1.0, 0.2, 1.0, 1.0],
        "untrained_mean": [0.1, 0.2, 0.0, 0.3, 0.0],
        "untrained_top_hat": [0.5, 0.2, 0.0, 0.1, 0.0],
    }
)
TIMING = Timing(p50=0.072, p95=0.09, first=1.5, num_images=2, hardware="A processor, 2 threads")


def first_value(text: str, *, key: str) -> float:
    """The value of the first pair of this key in the text of a JSON file."""
    start = text.index(f'"{key}":') + len(key) + 3
    return float(text[start:].split(",", maxsplit=1)[0])


def test_metrics_json_gives_the_auc_of_tissue_patches_first(tmp_path: Path) -> None:
    # All patches would have more easy negatives; here a second selection must not come first.
    frame = FRAME.assign(probability=[0.9, 0.95, 0.2, 0.96, 0.6])
    write_metrics(tmp_path, frame)
    text = (tmp_path / "metrics.json").read_text()
    values = json.loads(text)
    assert values["tissue"]["auc"] == 0.5
    assert values["all"]["auc"] == 0.75
    assert first_value(text, key="auc") == 0.5


def test_metrics_json_gives_counts_always_no_and_baselines_beside_the_metrics(tmp_path: Path) -> None:
    write_metrics(tmp_path, FRAME, timing=TIMING)
    values = json.loads((tmp_path / "metrics.json").read_text())
    everything = values["all"]
    assert {name: everything[name] for name in everything if name.startswith("num_")} == {
        "num_folds": 1,
        "num_positives": 2,
        "num_negatives": 2,
        "num_unknown": 1,
        "num_images": 2,
        "num_patients": 2,
    }
    assert everything["always_no"]["accuracy"] == 0.5
    assert everything["always_no"]["ppv"] is None
    assert everything["untrained"] == {"mean": 0.75, "top_hat": 0.75}
    assert values["tissue"]["untrained"] == {"mean": 0.5, "top_hat": 0.5}
    assert values["tissue"]["best_untrained"] == {"name": "top_hat", "auc": 0.5}
    assert everything["folds"]["1"]["tp"] == everything["pooled"]["tp"] == 1
    assert values["seconds_per_mammogram"]["first"] == 1.5
    assert values["twins"] is None


def test_metrics_csv_has_a_row_for_each_classifier_and_na_for_what_has_no_meaning(tmp_path: Path) -> None:
    write_metrics(tmp_path, FRAME)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = {(row["patches"], row["classifier"], row["fold"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * 6
    assert rows["tissue", "model", "1"]["sensitivity"] == "0.5"
    assert rows["all", "model", "mean"]["accuracy"] == "0.75"
    assert rows["all", "model", "mean"]["tp"] == "n/a"
    assert rows["all", "model", "pooled"]["tp"] == "1"
    assert rows["all", "always_no", "mean"]["ppv"] == "n/a"
    assert rows["all", "top_hat", "mean"]["auc"] == "0.75"
    assert rows["all", "top_hat", "mean"]["num_positives"] == "2"


def test_mammograms_csv_has_seconds_where_they_are_known(tmp_path: Path) -> None:
    write_metrics(tmp_path, FRAME, seconds={(1, "a"): 0.5})
    assert (tmp_path / "mammograms.csv").read_text().splitlines() == [
        "image_id,patient_id,fold,num_patches,num_unknown,tp,fp,tn,fn,accuracy,seconds",
        "a,1,1,3,0,1,0,2,0,1.0,0.5",
        "b,2,1,2,1,0,0,0,1,0.0,n/a",
    ]


def test_existing_tables_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "mammograms.csv").write_text("mine")
    with pytest.raises(InputError, match=r"mammograms.csv: already exists"):
        write_metrics(tmp_path, FRAME)
    assert [path.name for path in tmp_path.iterdir()] == ["mammograms.csv"]
    write_metrics(tmp_path, FRAME, overwrite=True)
    assert (tmp_path / "mammograms.csv").read_text() != "mine"


def test_metrics_taken_again_from_the_file_of_predictions_are_the_same(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions.csv", FRAME)
    summary = write_metrics(tmp_path / "first", FRAME)
    assert recompute_metrics([tmp_path / "predictions.csv"], out=tmp_path / "again") == summary
    for name in ("metrics.json", "metrics.csv", "mammograms.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_folds_in_several_files_are_put_together(tmp_path: Path) -> None:
    write_predictions(tmp_path / "1.csv", FRAME)
    write_predictions(tmp_path / "2.csv", FRAME.assign(fold=2, image_id=["c", "c", "c", "d", "d"]))
    summary = recompute_metrics([tmp_path / "1.csv", tmp_path / "2.csv"], out=tmp_path / "both")
    assert list(summary.all_patches.folds) == [1, 2]
    assert summary.all_patches.counts.num_images == 4


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"patient_id": "9"}, "image 'a' has patient_id '9' in fold 2, and '1' in fold 1 of .*1.csv"),
        ({"label": 0}, "image 'a', row 0, col 0, has label '0' in fold 2, and '1' in fold 1 of .*1.csv"),
    ],
)
def test_files_of_two_stores_with_the_same_names_are_refused(
    tmp_path: Path, changes: dict[str, object], rule: str
) -> None:
    write_predictions(tmp_path / "1.csv", FRAME)
    write_predictions(tmp_path / "2.csv", FRAME.assign(fold=2, **changes))
    with pytest.raises(InputError, match=f"2.csv: {rule}; give predictions of one store"):
        recompute_metrics([tmp_path / "1.csv", tmp_path / "2.csv"], out=tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_fold_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("1.csv", "2.csv"):
        write_predictions(tmp_path / name, FRAME)
    with pytest.raises(InputError, match=r"2.csv: holds fold 1, as does .*1.csv; give each fold once"):
        recompute_metrics([tmp_path / "1.csv", tmp_path / "2.csv"], out=tmp_path / "both")


@pytest.mark.parametrize("out", ["store", "store/x"])
def test_an_output_among_the_files_of_a_store_is_refused(tmp_path: Path, out: str) -> None:
    write_predictions(tmp_path / "1.csv", FRAME)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").touch()
    with pytest.raises(InputError, match="store: is a patch store, and nothing else goes there; name another place"):
        recompute_metrics([tmp_path / "1.csv"], out=tmp_path / out)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["store.json"]


def test_a_file_without_predictions_is_refused(tmp_path: Path) -> None:
    write_predictions(tmp_path / "none.csv", FRAME.iloc[:0])
    with pytest.raises(InputError, match=r"none.csv:2: at least one patch must be listed"):
        recompute_metrics([tmp_path / "none.csv"], out=tmp_path / "out")


def test_the_text_fits_a_terminal_and_names_what_has_no_meaning(tmp_path: Path) -> None:
    two_folds = pd.concat([FRAME, FRAME.assign(fold=2, image_id=["c", "c", "c", "d", "d"])], ignore_index=True)
    twins = two_folds[two_folds["label"] == 1].assign(label=0, probability=0.1)
    text = as_text(write_metrics(tmp_path, two_folds, timing=TIMING, twins=twins))
    assert max(len(line) for line in text.splitlines()) <= 80
    for part in (
        "4 positive and 4 negative patches of 4 images of 2 patients",
        "patches of unknown label, left out: 2",
        "mean of folds",
        "pooled",
        "always no",
        "best: top_hat 0.750",
        "n/a",
        "AUC of 4 positives against their calcification-free twins: 1.000",
        "median 0.072",
        "not for diagnosis",
    ):
        assert part in text


def test_the_sensitivity_at_98_percent_specificity_has_an_interval_by_patient(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    label = np.tile([1, 0, 0, 0], 60).astype(np.int8)
    frame = pd.DataFrame(
        {
            "image_id": np.repeat([f"i{number}" for number in range(12)], 20),
            "patient_id": np.repeat([f"p{number}" for number in range(12)], 20),
            "fold": 1,
            "row": np.tile(np.arange(20), 12),
            "col": 0,
            "label": label,
            "probability": np.clip(0.3 + 0.3 * label + generator.normal(0, 0.15, 240), 0, 1),
            "tissue": 1.0,
        }
    )
    text = as_text(write_metrics(tmp_path, frame))
    tissue = json.loads((tmp_path / "metrics.json").read_text())["tissue"]
    low, high = tissue["sensitivity_at_98_specificity_interval"]
    assert 0 < low < tissue["sensitivity_at_98_specificity"] < high < 1
    told = f"{tissue['sensitivity_at_98_specificity']:.3f} (95 % interval {low:.3f} to {high:.3f})"
    assert f"Sensitivity at a specificity of 98%: {told}" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_of_an_external_store_rows_are_models_and_not_folds(tmp_path: Path) -> None:
    one = as_text(write_metrics(tmp_path / "one", FRAME), is_external=True)
    assert "whole store" in one
    both = pd.concat([FRAME, FRAME.assign(fold=2)], ignore_index=True)
    two = as_text(write_metrics(tmp_path / "two", both), is_external=True)
    assert "model fold 2" in two
    for text in (one, two):
        assert "mean of folds" not in text
        assert "\n  fold " not in text
