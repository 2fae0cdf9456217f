import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.files import sha256_file
from mmgkeras.patches.store import PatchStore
from mmgkeras.study.read import natural_key, read_study

R18, R50 = "sakaida2023-resnet18", "sakaida2023-resnet50"


def change(path: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    edit(pd.read_csv(path)).to_csv(path, index=False)


def faults_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(InputFaultsError) as caught:
        read_study(folder)
    return caught.value.faults


def test_all_folds_of_all_networks_are_joined(crossval_folder: Path, report_store: PatchStore) -> None:
    study = read_study(crossval_folder)
    assert [network.name for network in study.networks] == [R18, R50]
    assert study.folds == (1, 2, 3, 4, 5)
    first = study.networks[0].first
    assert len(first.predictions) == len(report_store.patches)
    assert sorted(first.predictions["fold"].unique()) == [1, 2, 3, 4, 5]
    assert study.networks[1].config.model.network == "resnet50"
    assert study.store is not None
    assert study.store.checksum == report_store.checksum
    assert first.timing is not None
    assert first.timing["read_s"].isna().sum() == 5
    assert first.shortcut is not None
    assert first.pointing is not None
    assert list(first.histories[1]["epoch"]) == list(range(1, 11))
    assert first.environments[5].is_finished
    assert first.validation is None


def test_networks_are_ordered_by_their_depth() -> None:
    names = ["a-resnet101", "a-resnet18", "a-resnet50"]
    assert sorted(names, key=natural_key) == ["a-resnet18", "a-resnet50", "a-resnet101"]


def test_short_names_leave_out_what_all_share(crossval_folder: Path) -> None:
    assert read_study(crossval_folder).labels == {R18: "resnet18", R50: "resnet50"}


def test_the_lowest_seed_is_reported(new_crossval: Callable[..., Path]) -> None:
    study = read_study(new_crossval(seeds=(3, 1)))
    assert study.networks[0].first.seed == 1
    assert sorted(study.networks[0].seeds) == [1, 3]


def test_a_folder_of_something_else_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{tmp_path}: is not the folder of a cross-validation"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format_version", 2, "format_version: Input should be 1. Received: 2"),
        ("folds", [], r"folds: Tuple should have at least 1 item .*Received: \[\]"),
        ("folds", [0], r"folds.0: Input should be greater than or equal to 1. Received: 0"),
        ("folds", [1, 1], r"folds: must name each once. Received: \(1, 1\)"),
        ("seeds", [-1], r"seeds.0: Input should be greater than or equal to 0. Received: -1"),
    ],
)
def test_a_crossval_json_of_another_kind_is_one_line(
    new_crossval: Callable[..., Path], key: str, value: object, message: str
) -> None:
    folder = new_crossval()
    path = folder / "crossval.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=message):
        read_study(folder)


def test_a_damaged_crossval_json_is_one_line(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    (folder / "crossval.json").write_text("{")
    with pytest.raises(InputError, match=r"crossval.json: is not JSON"):
        read_study(folder)
    (folder / "crossval.json").write_text("{}")
    with pytest.raises(InputError, match=r"crossval.json: command is missing .and \d+ more faults"):
        read_study(folder)


def test_a_configuration_that_breaks_a_rule_is_one_line(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    values = json.loads((folder / "crossval.json").read_text())
    values["networks"][1]["config"]["train"]["epochs"] = 0
    (folder / "crossval.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=rf"config of {R50}: train.epochs: .* Received: 0"):
        read_study(folder)


def test_a_network_that_lacks_a_fold_is_one_line(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    (folder / R50 / "seed0" / "fold3" / "predictions.csv").unlink()
    (folder / R50 / "seed0" / "fold5" / "done.json").unlink()
    place = f"{folder}/{R50}/seed0"
    assert faults_of(folder) == (
        f"{place}/fold3: fold 3 of {R50}, seed 0, is missing: it has no predictions.csv; run crossval again",
        f"{place}/fold5: fold 5 of {R50}, seed 0, is missing: it has no done.json; run crossval again",
    )


def test_a_table_that_was_cut_or_is_gone_is_one_line(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    place = folder / R50 / "seed0" / "fold3"
    digests = {name: sha256_file(place / name) for name in ("timing.csv", "shortcut.csv")}
    done = json.loads((place / "done.json").read_text())
    (place / "done.json").write_text(json.dumps(done | {"tables_sha256": digests}))
    read_study(folder)
    change(place / "timing.csv", lambda frame: frame.iloc[:-1])
    (place / "shortcut.csv").unlink()
    assert faults_of(folder) == (
        f"{place}/timing.csv: is not as it was when the fold was done, its digest differs; remove it, and crossval "
        "makes it again",
        f"{place}/shortcut.csv: is missing, though the fold is done; run crossval again",
    )


def test_a_fold_without_positives_is_one_line(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    path = folder / R18 / "seed0" / "fold2" / "predictions.csv"
    change(path, lambda frame: frame.assign(label=frame["label"].clip(upper=0)))
    (fault,) = faults_of(folder)
    assert fault.startswith(f"{path}: fold 2 must have positive patches")
    assert "none positive" in fault


def test_nan_and_repeated_rows_are_one_line_each(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    path = folder / R18 / "seed0" / "fold1" / "predictions.csv"
    lines = path.read_text().splitlines()
    fields = lines[1].split(",")
    place = lines[0].split(",").index("probability")
    fields[place] = "nan"
    path.write_text("\n".join([lines[0], ",".join(fields), *lines[2:], lines[2]]) + "\n")
    first, second = faults_of(folder)
    assert first == f"{path}:2: probability must be a finite number. Received: 'nan'"
    assert second.startswith(f"{path}:{len(lines) + 1}: a patch (fold, image_id, row, col) must appear once; line 3")


def test_predictions_of_another_fold_are_one_line(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    path = folder / R18 / "seed0" / "fold1" / "predictions.csv"
    change(path, lambda frame: frame.assign(fold=4))
    assert faults_of(folder) == (f"{path}: must hold fold 1 alone. Received: fold 4",)


def test_networks_of_other_patches_are_one_line(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    change(folder / R50 / "seed0" / "fold1" / "predictions.csv", lambda frame: frame.iloc[1:])
    (fault,) = faults_of(folder)
    assert fault.startswith(f"{folder}/{R50}/seed0: must hold the same 800 patches and labels as {folder}/{R18}/seed0")
    assert "Received: 799 patches" in fault


@pytest.mark.parametrize(
    "edit", [lambda frame: frame[:-1], lambda frame: frame.assign(label=frame["label"].where(frame.index > 0, -1))]
)
def test_predictions_that_are_not_those_of_the_store_are_one_line(
    new_crossval: Callable[..., Path], edit: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    folder = new_crossval(networks={R18: "resnet18"})
    change(folder / R18 / "seed0" / "fold2" / "predictions.csv", edit)
    with pytest.raises(InputError, match=r"fold2.predictions\.csv: must hold the .* patches of .* that its fold tests"):
        read_study(folder)


def test_a_field_that_is_no_number_is_one_line(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    path = folder / R18 / "seed0" / "fold1" / "timing.csv"
    change(path, lambda frame: frame.astype({"infer_s": object}).assign(infer_s="fast"))
    assert faults_of(folder)[0] == f"{path}:2: infer_s must be a finite number or empty. Received: 'fast'"


def test_a_history_that_is_no_table_of_numbers_is_one_line(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    path = folder / R18 / "seed0" / "fold1" / "run" / "history.csv"
    path.write_text("epoch,loss\n1,small\n")
    assert faults_of(folder)[0] == f"{path}:1: column step is missing. Received: epoch, loss"
    rows = path.with_name("rows.csv")
    rows.write_text("epoch,step,learning_rate,loss,auc,sensitivity,specificity,patches_per_second\n1,2,0,inf,,,,9\n")
    rows.replace(path)
    assert faults_of(folder) == (f"{path}:2: loss must be a finite number or empty. Received: 'inf'",)


def test_what_was_not_measured_is_none(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    for name in ("timing", "shortcut", "pointing"):
        for path in folder.rglob(f"{name}.csv"):
            path.unlink()
    first = read_study(folder).networks[0].first
    assert (first.timing, first.shortcut, first.pointing) == (None, None, None)


def test_a_store_that_moved_is_found_where_it_is_named(
    new_crossval: Callable[..., Path], report_store: PatchStore
) -> None:
    folder = new_crossval()
    values = json.loads((folder / "crossval.json").read_text())
    values["store"]["path"] = "no-such-store"
    values["data"] = "no-such-data"
    (folder / "crossval.json").write_text(json.dumps(values))
    study = read_study(folder)
    assert (study.store, study.data_path) == (None, None)
    assert read_study(folder, store=report_store.path).store is not None
    for other in (Path("no-such-data"), folder):
        with pytest.raises(InputError, match=f"{other.name}: is no data folder, it has no images.csv"):
            read_study(folder, data=other)


@pytest.mark.parametrize("is_named", [True, False])
def test_data_folder_of_other_patients_is_refused(
    new_crossval: Callable[..., Path], report_data: Path, tmp_path: Path, is_named: bool
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    table = pd.read_csv(report_data / "images.csv", dtype=str)
    table["path"] = [str(report_data / path) for path in table["path"]]
    kept = new_crossval(data=report_data if is_named else other)
    table.to_csv(other / "images.csv", index=False)
    assert read_study(kept, data=other if is_named else None).data_path == other
    image_id, patient_id = table.loc[3, ["image_id", "patient_id"]]
    rule = f"images.csv: must be of the data that was scored, in which image '{image_id}' is of patient '{patient_id}'"
    table.loc[3, "patient_id"] = "P99"
    for rows, found in ((table, "patient 'P99'"), (table.drop(index=3), "no such image")):
        rows.to_csv(other / "images.csv", index=False)
        with pytest.raises(InputError, match=re.escape(f"{rule}. Received: {found}")):
            read_study(kept, data=other if is_named else None)


def test_another_store_is_refused(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    values = json.loads((folder / "crossval.json").read_text())
    values["store"]["checksum"] = "0" * 64
    (folder / "crossval.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"is not the store of .*: its checksum must be 0000"):
        read_study(folder)


def test_a_store_that_was_divided_anew_is_refused(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval()
    crossval = json.loads((folder / "crossval.json").read_text())
    crossval["store"]["folds_sha256"] = "0" * 64
    (folder / "crossval.json").write_text(json.dumps(crossval))
    with pytest.raises(InputError, match=r"folds\.csv: is not the division into subsets .* must be 000"):
        read_study(folder)
