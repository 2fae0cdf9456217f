from pathlib import Path

import pytest
from click.testing import CliRunner
from mmgkeras.cli import main

import mmgkeras.training.fit
from mmgkeras.study.run_files import EpochRow
from mmgkeras.training.fit import Fitted


@pytest.mark.parametrize(
    ("epochs", "batch_size", "told"),
    [(4, 128, ["epochs left: 3, about 6 min"]), (4, 16, []), (1, 128, [])],
)
def test_time_left_of_the_whole_training_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, batch_size: int, told: list[str]
) -> None:
    row = EpochRow(1, 120, learning_rate=0.1, loss=0.5, auc=0.5, sensitivity=0, specificity=1, patches_per_second=128)

    def fit(*_: object, **options: object) -> Fitted:
        options["report"](row)  # type: ignore[operator]
        return Fitted(tmp_path)

    monkeypatch.setattr(mmgkeras.training.fit, "fit", fit)
    settings = [f"--set=train.epochs={epochs}", f"--set=train.batch_size={batch_size}"]
    result = CliRunner().invoke(main, ["fit", "--store", str(tmp_path), "--fold", "1", "--run", "r", *settings])
    assert result.exit_code == 0, result.output
    assert [line for line in result.stderr.splitlines() if "left" in line] == told
