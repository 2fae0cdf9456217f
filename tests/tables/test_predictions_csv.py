"""predictions.csv: what it holds comes back equal, and every fault is named with its line and rule."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmgkeras.errors import InputFaultsError
from mmgkeras.tables import read_predictions, write_predictions

HEADER = "image_id,patient_id,fold,row,col,label,probability,tissue\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode())
    return path


def predictions() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": ["001", "001", "NA"],
            "patient_id": ["007", "007", "8"],
            "fold": [1, 1, 2],
            "row": [0, 0, 3],
            "col": [0, 1, 0],
            "label": np.array([1, 0, -1], dtype=np.int8),
            "probability": np.array([0.1, 1 / 3, 1.0]),
            "tissue": [0.0, 0.25, 1.0],
            "untrained_mean": [-1e300, 2.5, 3.0],
        }
    )


class TestPredictions:
    def test_round_trip_keeps_values_and_types(self, tmp_path: Path) -> None:
        write_predictions(tmp_path / "p.csv", predictions())
        pd.testing.assert_frame_equal(read_predictions(tmp_path / "p.csv"), predictions(), check_exact=True)

    def test_single_precision_probabilities_come_back_as_they_were(self, tmp_path: Path) -> None:
        probability = np.array([0.1, 1 / 3, 1e-30], dtype=np.float32)
        write_predictions(tmp_path / "p.csv", predictions().assign(probability=probability))
        back = read_predictions(tmp_path / "p.csv")["probability"].to_numpy()
        assert np.array_equal(back.astype(np.float32), probability)

    def test_every_fault_is_listed(self, tmp_path: Path) -> None:
        path = written(
            tmp_path,
            HEADER + "i,p,1,0,0,1,0.5,1\n"
            "i,p,1,0,1,1,nan,1\n"
            "i,p,1,0,2,1,1.5,1\n"
            "i,p,1,0,0,1,0.5,1\n"
            "i,q,1,0,4,1,0.5,\n"
            "i,p,0,0,5,3,0.5,1\n"
            "i,p,2,0,0,1,0.5,1\n",
        )
        with pytest.raises(InputFaultsError) as caught:
            read_predictions(path)
        rule = "a patch (fold, image_id, row, col) must appear once"
        assert sorted(caught.value.faults) == [
            f"{path}:3: probability must be a finite number. Received: 'nan'",
            f"{path}:4: probability must be from 0 to 1. Received: 1.5",
            f"{path}:5: {rule}; line 2 has it too. Received: (1, 'i', 0, 0)",
            f"{path}:6: image 'i' must have one patient. Received: 'p' and 'q'",
            f"{path}:6: tissue must be a finite number. Received: ''",
            f"{path}:7: fold must be from 1 to 26. Received: 0",
            f"{path}:7: label must be from -1 to 1. Received: 3",
        ]

    def test_columns_of_the_user_are_kept_as_text(self, tmp_path: Path) -> None:
        frame = predictions().assign(site=["=1", "", "007"])
        write_predictions(tmp_path / "p.csv", frame)
        pd.testing.assert_frame_equal(read_predictions(tmp_path / "p.csv"), frame.astype({"site": "str"}))

    def test_nearly_known_columns_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputFaultsError, match=r"column tissue is missing \(is it 'tisue'\?\)\. Received"):
            read_predictions(written(tmp_path, HEADER.strip().replace("tissue", "tisue") + "\n"))

    def test_frames_with_other_columns_or_nan_are_not_written(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="Predictions need the columns"):
            write_predictions(tmp_path / "p.csv", predictions().drop(columns="fold"))
        with pytest.raises(ValueError, match=r"must hold no NaN. Received: some in \['tissue'\]"):
            write_predictions(tmp_path / "p.csv", predictions().assign(tissue=np.nan))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["1_0", "\uff11", "inf", "1e400", "nan", "0x1", "9" * 5000])
def test_a_probability_is_an_ascii_and_finite_number(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, HEADER + f"i,p,1,0,0,1,{text},1\n")
    with pytest.raises(InputFaultsError, match=r"^\S+:2: probability must be a finite number. Received: "):
        read_predictions(path)
