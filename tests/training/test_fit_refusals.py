"""What `mmgkeras fit` refuses before it begins, each in one line, and a store that is changed while it trains."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from mmgkeras.cli import main

from mmgkeras.training import fit, loop

from .fit_program import arguments, refused


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_folder_that_holds_something_else_is_never_replaced(training_store, tmp_path, overwrite):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    assert "environment.json" in refused(training_store, tmp_path, *overwrite)


def test_a_misspelt_key_is_one_line(training_store, tmp_path):
    line = refused(training_store, tmp_path, "--set", "train.epoch=3")
    assert line == "error: configuration: train.epoch: no such key; did you mean epochs?"


def test_a_batch_that_the_devices_cannot_share_is_one_line(training_store, tmp_path, monkeypatch):
    monkeypatch.setattr("mmgkeras.training.devices.choose_devices", lambda text: ["GPU:0", "GPU:1", "GPU:2", "GPU:3"])
    line = refused(training_store, tmp_path)
    assert line == "error: train.batch_size: must be divisible by the number of devices, 4. Received: 54"


def test_a_batch_larger_than_an_epoch_is_one_line(training_store, tmp_path):
    line = refused(training_store, tmp_path, "--set", "train.batch_size=273")
    assert line.startswith("error: train.batch_size: ")
    assert "Received: 273;" in line


@pytest.mark.parametrize("place", ["--run", "--export"])
def test_a_place_that_cannot_be_written_is_one_line(training_store, tmp_path, place):
    (tmp_path / "file").write_text("")
    line = refused(training_store, tmp_path, place, str(tmp_path / "file" / "below"))
    assert line.startswith(f"error: {tmp_path / 'file' / 'below'}: ")


def test_insertion_into_a_store_without_pixel_size_is_one_line(training_store, tmp_path):
    line = refused(training_store, tmp_path, "--set", "augmentation.insertion=0.2")
    assert line.startswith("error: augmentation.insertion: needs the size of a pixel")


def test_a_patient_in_two_subsets_is_one_line(training_store, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    for path in training_store.iterdir():
        (store / path.name).write_bytes(path.read_bytes())
    rows = (store / "folds.csv").read_text().splitlines()
    patient, subset = rows[1].split(",")
    other = "B" if subset == "A" else "A"
    (store / "folds.csv").write_text("\n".join([*rows, f"{patient},{other}"]) + "\n")
    line = refused(store, tmp_path)
    assert line.startswith(f"error: {store / 'folds.csv'}:")
    assert patient in line


def test_weights_that_are_not_there_are_one_line_and_leave_no_run(training_store, tmp_path):
    line = refused(training_store, tmp_path, "--set", f"model.weights={tmp_path / 'none.safetensors'}")
    assert str(tmp_path / "none.safetensors") in line


def test_a_run_that_has_not_begun_cannot_be_stopped(training_store, tmp_path):
    line = refused(training_store, tmp_path, "--stop")
    assert line == f"error: {tmp_path / 'run'}: has no checkpoint yet, so that there is nothing to export"
    result = CliRunner().invoke(main, arguments(training_store, tmp_path, "--stop", "--overwrite"))
    assert result.exit_code == 2


def test_a_share_of_weights_that_are_of_no_whole_network_is_one_line(training_store, tmp_path):
    line = refused(training_store, tmp_path, "--set", "train.initial_share=0.5")
    assert line.startswith("error: train.initial_share: needs model.weights of a whole network")


def turn_a_bit(shard):
    with shard.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))


def cut(shard):
    with shard.open("r+b") as file:
        file.truncate(5000)


CHANGES = {"bit": (turn_a_bit, "is not as it was written"), "cut": (cut, "must have"), "gone": (Path.unlink, "No such")}


@pytest.mark.parametrize(
    ("name", "when"),
    [
        ("bit", "after the last"),
        ("cut", "before the first step"),
        ("cut", "after the last"),
        ("gone", "before the first step"),
    ],
)
def test_a_store_that_is_changed_while_it_is_trained_on_gives_no_model(
    training_store, tmp_path, monkeypatch, name, when
):
    change, reason = CHANGES[name]
    store = Path(shutil.copytree(training_store, tmp_path / "store"))
    (shard,) = store.glob("patches-*.npy")
    module, function = (loop, "_augmented_sample") if when == "before the first step" else (fit, "run_epochs")
    before = getattr(module, function)

    def changed(*args, **kwargs):
        result = before(*args, **kwargs)
        change(shard)
        return result

    monkeypatch.setattr(module, function, changed)
    settings = ["train.epochs=1", "train.batch_size=128", "train.deterministic=false"]
    settings += ["train.batch_norm_recalibration=false"] if name == "bit" else []
    more = [part for setting in settings for part in ("--set", setting)]
    result = CliRunner().invoke(main, arguments(store, tmp_path, *more))
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {store}: was changed while it was trained on, nothing is exported: {shard}: ")
    assert reason in line
    assert not list((tmp_path / "model").glob("*"))
