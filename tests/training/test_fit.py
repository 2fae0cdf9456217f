"""`mmgkeras fit` as a program: what it writes, from what it starts, one device against two."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mmgkeras.cli import main
from tensorflow.train import load_checkpoint

from mmgkeras.config import Config, ModelConfig, read_config
from mmgkeras.errors import InputError
from mmgkeras.models.network import build_network
from mmgkeras.patches.split import fold_patches, hold_out_patients
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.metadata import patients_digest, read_metadata
from mmgkeras.tables import write_folds
from mmgkeras.training.fit import _as_prepared, fit

from .fit_program import WIDTH, arguments, finished, refused, saved_weights, start

FIVE_STEPS = ("--set", "train.epochs=1", "--set", "model.synchronized_batch_norm=true")
"""One epoch of five steps, from random weights at the paper's rate."""


@pytest.fixture(scope="module")
def one_and_two(training_store, tmp_path_factory):
    """The same five steps on one device and on two halves of the processor: folder and output of each."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    processes = [
        start(training_store, folder, *FIVE_STEPS, *devices)
        for folder, devices in zip(folders, ([], ["--devices", "CPU:0,CPU:1"]), strict=True)
    ]
    return [(folder, *finished(process)) for folder, process in zip(folders, processes, strict=True)]


def test_five_steps_of_resnet18_on_two_devices_equal_one_in_every_weight(one_and_two):
    (one, *_), (two, *_) = one_and_two
    environment = json.loads((two / "run" / "environment.json").read_text())
    assert environment["starts"][0]["devices"] == ["CPU:0", "CPU:1"]
    assert environment["counts"]["steps_per_epoch"] == 5
    expected, found = saved_weights(one / "run"), saved_weights(two / "run")
    assert len(expected) == len(found) > 100
    # The last scale of each block begins at 0, so that a wrong scale of the gradient would show.
    variables = build_network(ModelConfig(weights="none", width=WIDTH), patch_px=32, pixel_type="uint8").variables
    arrays = list(expected.values())  # in the order of the variables
    scales = [arrays[place] for place, variable in enumerate(variables) if variable.path.endswith("_2_bn/gamma")]
    assert len(scales) == 8
    assert min(np.abs(scale).max() for scale in scales) > 1e-4
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5, err_msg=name)


def test_the_output_is_a_table_and_the_path_of_the_model(one_and_two):
    folder, stdout, stderr = one_and_two[0]
    header, row, last = stdout.splitlines()
    assert header.split() == ["epoch", "step", "loss", "auc", "sensitivity", "specificity", "patches_per_second"]
    assert row.split()[:2] == ["1", "5"]
    assert last == f"model: {folder / 'model' / '1'}"
    assert "Traceback" not in stderr
    assert [line.split(":")[0] for line in stderr.splitlines()] == ["epoch 1 of 1", "batch-norm recalibration"]


def test_the_run_folder_is_complete_and_names_no_patient(one_and_two):
    folder = one_and_two[0][0]
    run = folder / "run"
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoint.npz",
        "config.toml",
        "environment.json",
        "history.csv",
        "tensorboard",
    ]
    environment = json.loads((run / "environment.json").read_text())
    assert environment["is_finished"]
    assert environment["leak_guard"]["shared_patients"] == environment["leak_guard"]["shared_pixel_digests"] == 0
    assert {key: environment["counts"][key] for key in ("positives", "negatives")} == {"positives": 8, "negatives": 40}
    assert environment["counts"]["augmented_positives"] == 192
    for path in (*run.rglob("*"), *(folder / "model").rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            assert b"secret" not in content, path
            assert b"image1" not in content, path


def test_history_has_a_row_of_exact_metrics(one_and_two):
    with (one_and_two[0][0] / "run" / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["epoch"], row["step"], row["learning_rate"]) == ("1", "5", "0.001")
    assert 0 <= float(row["auc"]) <= 1
    # Of 270 samples drawn from 192 positives and 80 negatives at most two are left out.
    assert 0.3 < float(row["loss"]) < 3


def test_a_finished_run_says_so_and_does_nothing(one_and_two, training_store):
    folder = one_and_two[0][0]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = CliRunner().invoke(main, arguments(training_store, folder, *FIVE_STEPS))
    assert result.exit_code == 0
    assert str(folder / "run") in result.stderr
    assert result.stdout == f"model: {folder / 'model' / '1'}\n"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_another_setting_is_refused_where_a_run_was_begun(one_and_two, training_store):
    folder = one_and_two[0][0]
    line = refused(training_store, folder, *FIVE_STEPS, "--set", "train.epochs=7")
    assert "train.epochs = 1. Received: 7;" in line


def test_another_fold_is_refused_where_a_run_was_begun(one_and_two, training_store):
    folder = one_and_two[0][0]
    line = refused(training_store, folder, *FIVE_STEPS, "--fold", "2")
    assert "fold = 1. Received: 2;" in line


def test_a_run_starts_from_an_exported_model_whole(one_and_two, training_store, tmp_path):
    folder = one_and_two[0][0]
    still = ["--set", "train.learning_rate=1e-12", "--set", "train.epochs=1"]
    finished(start(training_store, tmp_path, *still, "--set", f"model.weights={folder / 'model' / '1'}"))
    trainable = build_network(ModelConfig(weights="none", width=WIDTH), patch_px=32, pixel_type="uint8").variables
    places = [place for place, variable in enumerate(trainable) if variable.trainable]
    # The exported model differs from the checkpoint in its batch-norm statistics alone.
    expected, found = (list(saved_weights(run / "run").values()) for run in (folder, tmp_path))
    for place in places:
        np.testing.assert_allclose(found[place], expected[place], rtol=0, atol=1e-8)


def test_a_share_of_the_initial_weights_is_averaged_in_without_training_again(one_and_two, training_store, tmp_path):
    initial = one_and_two[0][0] / "model" / "1"
    more = [
        "--set",
        "train.epochs=1",
        "--set",
        f"model.weights={initial}",
        "--set",
        "train.batch_norm_recalibration=false",
    ]
    finished(start(training_store, tmp_path, *more))
    before = (tmp_path / "run" / "checkpoint.npz").read_bytes()
    stdout, _ = finished(start(training_store, tmp_path, *more, "--set", "train.initial_share=0.25"))
    assert stdout == f"model: {tmp_path / 'model' / '2'}\n"
    assert (tmp_path / "run" / "checkpoint.npz").read_bytes() == before
    assert read_config(tmp_path / "run" / "config.toml").train.initial_share == 0.25
    stored = [
        load_checkpoint(str(path / "variables" / "variables"))
        for path in (initial, tmp_path / "model" / "1", tmp_path / "model" / "2")
    ]
    names = [name for name in stored[0].get_variable_to_shape_map() if name.startswith("weights/")]
    assert len(names) > 100
    for name in names:
        first, trained, averaged = (weights.get_tensor(name) for weights in stored)
        np.testing.assert_allclose(averaged, 0.25 * first + 0.75 * trained, rtol=0, atol=1e-6)
    again = CliRunner().invoke(main, arguments(training_store, tmp_path, *more, "--set", "train.initial_share=0.25"))
    assert "has finished; nothing to do" in again.stderr


def test_averages_over_the_steps_are_exported_and_the_same_on_two_devices(training_store, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    averaged = (*FIVE_STEPS, "--set", "train.ema_momentum=0.5")
    processes = [
        start(training_store, folder, *averaged, *devices)
        for folder, devices in zip(folders, ([], ["--devices", "CPU:0,CPU:1"]), strict=True)
    ]
    for process in processes:
        finished(process)
    models = [load_checkpoint(str(folder / "model" / "1" / "variables" / "variables")) for folder in folders]
    names = [name for name in models[0].get_variable_to_shape_map() if name.startswith("weights/")]
    for name in names:
        if "/moving_" not in name:
            one, two = (model.get_tensor(name) for model in models)
            np.testing.assert_allclose(two, one, rtol=0, atol=1e-5, err_msg=name)
    kernels = [value for value in map(models[0].get_tensor, names) if value.ndim == 4]
    assert len(kernels) == 20
    with np.load(folders[0] / "run" / "checkpoint.npz") as checkpoint:
        arrays = {name: checkpoint[name] for name in checkpoint.files}
    for kernel in kernels:
        holders = {name.split("/")[0] for name, array in arrays.items() if np.array_equal(array, kernel)}
        assert holders == {"optimizer"}


def test_a_model_trained_on_the_test_patients_is_one_line_and_leaves_no_run(one_and_two, training_store, tmp_path):
    model = one_and_two[0][0] / "model" / "1"
    line = refused(training_store, tmp_path, "--fold", "2", "--set", f"model.weights={model}")
    assert "fold 2" in line


def test_a_crossval_from_a_model_of_one_of_its_folds_is_one_line_and_leaves_nothing(
    one_and_two, training_store, tmp_path
):
    model, out = one_and_two[0][0] / "model" / "1", tmp_path / "crossval"
    config = tmp_path / "mine.toml"
    config.write_text(f"[model]\nwidth = {WIDTH}\nweights = {json.dumps(str(model))}\n")
    command = ["crossval", "--store", str(training_store), "--config", str(config), "--out", str(out)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "fold 2" in result.stderr
    assert not out.exists()


def test_a_run_begun_from_a_model_that_was_replaced_is_refused(one_and_two, training_store, tmp_path):
    folder = one_and_two[0][0]
    model = shutil.copytree(folder / "model", tmp_path / "start") / "1"
    more = ["--set", "train.epochs=1", "--set", f"model.weights={model}"]
    finished(start(training_store, tmp_path, *more))
    path = tmp_path / "run" / "environment.json"
    environment = json.loads(path.read_text())
    (origin,) = environment["started_from"]
    assert origin["store_checksum"] == environment["store_checksum"]
    metadata = json.loads((tmp_path / "model" / "1" / "assets.extra" / "mmgkeras.json").read_text())
    assert metadata["started_from"] == [origin]
    assert metadata["config"]["model"]["weights"] == "start/1"
    for name in ("assets.extra/mmgkeras.json", "MODEL_CARD.md", "../../run/environment.json"):
        assert str(tmp_path) not in (tmp_path / "model" / "1" / name).read_text()
    # As if killed before the first checkpoint, and the model then trained anew.
    (tmp_path / "run" / "checkpoint.npz").unlink()
    origin["variables_sha256"] = "0" * 64
    path.write_text(json.dumps({**environment, "is_finished": False, "started_from": [origin]}))
    result = CliRunner().invoke(main, arguments(training_store, tmp_path, *more))
    assert result.exit_code == 1
    assert str(model) in result.stderr


def test_two_devices_train_each_with_its_own_batch_statistics(training_store, tmp_path):
    finished(start(training_store, tmp_path, "--set", "train.epochs=1", "--devices", "CPU:0,CPU:1"))
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["is_finished"]
    assert environment["starts"][0]["devices"] == ["CPU:0", "CPU:1"]
    assert all(np.isfinite(array).all() for array in saved_weights(tmp_path / "run").values())


def test_held_out_patients_are_scored_each_epoch(training_store, tmp_path):
    more = ["--set", "train.epochs=2", "--set", "train.validation_patients=0.5", "--set", "train.batch_size=34"]
    finished(start(training_store, tmp_path, *more))
    with (Path(tmp_path) / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["4", "8"]  # two of four patients: 4 * 24 + 20 * 2 = 136 samples
    assert all(0 <= float(row[f"validation_{name}"]) <= 1 for row in rows for name in ("auc", "specificity"))
    counts = json.loads((tmp_path / "run" / "environment.json").read_text())["counts"]
    assert (counts["positives"], counts["negatives"], counts["validation"]) == (4, 20, 24)
    store = PatchStore.open(training_store)
    train = fold_patches(store, 1).train
    _, held_out = hold_out_patients(store, train, part=0.5, seed=0)  # as crossval does for validation.csv
    metadata = read_metadata(tmp_path / "model" / "1")
    assert metadata.held_out_patients_sha256 == patients_digest(store.patches["patient_id"].iloc[held_out])


def test_a_version_that_another_run_took_meanwhile_is_left_alone(one_and_two, training_store, tmp_path):
    shutil.copytree(one_and_two[0][0], tmp_path, dirs_exist_ok=True)
    environment_path = tmp_path / "run" / "environment.json"
    environment = json.loads(environment_path.read_text())
    changes = {"export": str(tmp_path / "model" / "1"), "is_finished": False}
    environment_path.write_text(json.dumps({**environment, **changes}))
    metadata_path = tmp_path / "model" / "1" / "assets.extra" / "mmgkeras.json"
    metadata_path.write_text(metadata_path.read_text().replace('"fold": 1', '"fold": 2'))
    before = metadata_path.read_bytes()
    stdout, _ = finished(start(training_store, tmp_path, *FIVE_STEPS))
    assert stdout == f"model: {tmp_path / 'model' / '2'}\n"
    assert metadata_path.read_bytes() == before
    for path in (one_and_two[0][0] / "model" / "1" / "variables").iterdir():
        assert (tmp_path / "model" / "2" / "variables" / path.name).read_bytes() == path.read_bytes()


def test_bfloat16_trains_and_exports_float32(training_store, tmp_path):
    more = [
        "--set",
        "train.epochs=1",
        "--set",
        "train.precision=bfloat16",
        "--set",
        "train.batch_norm_recalibration=false",
    ]
    finished(start(training_store, tmp_path, *more))
    weights = saved_weights(tmp_path / "run")
    assert {array.dtype.name for array in weights.values()} == {"float32"}
    graph = (tmp_path / "model" / "1" / "saved_model.pb").read_bytes()
    assert b"bfloat16" not in graph


def test_a_training_that_diverges_is_one_line_and_exports_nothing(training_store, tmp_path):
    more = ["learning_rate=1000.0", "learning_rate_drop_factor=1.0", "l2=1.0", "epochs=4"]  # times 10,000 a step
    process = start(training_store, tmp_path, *(part for key in more for part in ("--set", f"train.{key}")))
    stdout, stderr = process.communicate(timeout=3600)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: train.learning_rate: {tmp_path / 'run'} diverged by step ")
    assert line.endswith("give a lower rate and another folder or --overwrite. Received: 1000")
    assert "model: " not in stdout
    assert not list((tmp_path / "model").glob("*"))


def test_the_model_says_what_the_store_was_made_with_and_not_what_was_never_used(one_and_two):
    folder = one_and_two[0][0]
    metadata = json.loads((folder / "model" / "1" / "assets.extra" / "mmgkeras.json").read_text())
    assert metadata["config"]["patches"]["patch_px"] == metadata["patch_px"] == 32
    assert metadata["config"]["patches"]["stride_px"] == 32
    assert metadata["config"]["split"] == {"num_subsets": 3}
    assert sorted(metadata["config"]) == ["augmentation", "model", "patches", "split", "train"]
    assert "patch_px = 32" in (folder / "run" / "config.toml").read_text()


def test_every_key_that_the_store_was_labelled_by_goes_into_the_model(training_store):
    store = PatchStore.open(training_store)
    keys = {"cluster_fraction": 0.25, "min_marks": 3, "label_source": "assumed"}
    labels = store.manifest.labels.model_copy(update=keys)
    manifest = store.manifest.model_copy(update={"labels": labels})
    said = _as_prepared(Config(), replace(store, manifest=manifest)).patches
    assert {name: getattr(said, name) for name in keys} == keys


def test_a_run_goes_on_with_another_cadence_of_checkpoints(one_and_two, training_store):
    folder = one_and_two[0][0]
    more = ["--set", "train.checkpoint_steps=2", "--set", "train.checkpoint_minutes=60"]
    result = CliRunner().invoke(main, arguments(training_store, folder, *FIVE_STEPS, *more))
    assert result.exit_code == 0, result.output
    assert "has finished; nothing to do" in result.stderr


def test_a_fold_that_leaves_no_positives_to_train_on_is_named(quadrant_store, tmp_path):
    write_folds(quadrant_store / "folds.csv", {"p1": "A", "p2": "A", "p3": "A", "p4": "B"}, overwrite=True)
    rule = r"folds\.csv: fold 1 has no patch with calcification to train on; divide the patients anew"
    with pytest.raises(InputError, match=rule):
        fit(quadrant_store, fold=1, config=Config(), run=tmp_path / "run", export=tmp_path / "model")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_whose_model_is_gone_is_exported_from_its_checkpoint_or_refused_without(
    one_and_two, training_store, tmp_path
):
    shutil.copytree(one_and_two[0][0] / "run", tmp_path / "run")
    result = CliRunner().invoke(main, arguments(training_store, tmp_path, *FIVE_STEPS))
    assert result.exit_code == 0, result.output
    place = f"{tmp_path / 'run'}: "
    assert f"{place}is trained to its end; its model is exported from checkpoint.npz without training" in result.stderr
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["1"]
    (tmp_path / "run" / "history.csv").unlink()
    result = CliRunner().invoke(main, arguments(training_store, tmp_path, *FIVE_STEPS))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "history.csv").exists()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["1"]
    (tmp_path / "run" / "checkpoint.npz").unlink()
    (tmp_path / "model").rename(tmp_path / "moved")
    line = refused(training_store, tmp_path, *FIVE_STEPS)
    assert line.startswith(f"error: {place}has finished, but cannot be exported to {tmp_path / 'model'} without its ")
    assert line.endswith("checkpoint.npz, which is gone; --overwrite trains again")


def test_the_model_of_another_run_in_the_place_of_a_finished_one_is_not_taken_for_its_own(
    one_and_two, training_store, tmp_path
):
    for name in ("run", "model"):
        shutil.copytree(one_and_two[0][0] / name, tmp_path / name)
    path = tmp_path / "model" / "1" / "assets.extra" / "mmgkeras.json"
    values = json.loads(path.read_text())
    values["config"]["train"]["seed"] = 5
    path.write_text(json.dumps(values))
    result = CliRunner().invoke(main, arguments(training_store, tmp_path, *FIVE_STEPS))
    assert result.stdout == f"model: {tmp_path / 'model' / '2'}\n"
    assert read_metadata(tmp_path / "model" / "2").config["train"]["seed"] == 0
    again = CliRunner().invoke(main, arguments(training_store, tmp_path, *FIVE_STEPS))
    assert again.stdout == result.stdout
    assert "has finished; nothing to do" in again.stderr
