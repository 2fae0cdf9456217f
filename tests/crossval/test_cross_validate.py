"""A cross-validation with a training that takes no time: what is done, skipped, gone on with, refused."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from mmgkeras.config import Config, TrainConfig, read_config
from mmgkeras.crossval import job as job_module
from mmgkeras.crossval.cross_validate import crossval
from mmgkeras.crossval.job import run_job
from mmgkeras.crossval.summary_table import as_table
from mmgkeras.errors import InputError
from mmgkeras.patches.store import PatchStore
from mmgkeras.study.layout import FoldJob, all_jobs
from mmgkeras.study.read import read_study
from mmgkeras.tables import read_predictions, write_folds, write_predictions
from mmgkeras.training.fit import Fitted

CONFIGS = {"small": Config(), "large": Config(train=TrainConfig(epochs=3))}
FILES = {"done.json", "model", "pointing.csv", "predictions.csv", "run", "shortcut.csv", "timing.csv"}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but those of timing, which never repeat."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "timing.csv")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_every_fold_of_every_network_and_seed_is_done(quadrant_store, trained, tmp_path) -> None:
    out, reports = tmp_path / "out", []
    done = crossval(quadrant_store, configs=CONFIGS, out=out, seeds=(0, 3), command="as typed", report=reports.append)
    jobs = list(all_jobs(CONFIGS, seeds=(0, 3), folds=(1, 2)))
    assert [row.job for row in done.rows] == jobs
    assert done.num_done_before == 0
    assert trained == [(str(job.folder(out)), job.seed) for job in jobs]
    assert [len(rows) for rows in reports] == list(range(1, 9))
    for job in jobs:
        assert {path.name for path in job.folder(out).iterdir()} == FILES
    values = json.loads((out / "crossval.json").read_text())
    assert (values["command"], values["folds"], values["seeds"]) == ("as typed", [1, 2], [0, 3])
    assert values["store"]["checksum"] == PatchStore.open(quadrant_store).checksum
    assert [network["name"] for network in values["networks"]] == ["small", "large"]
    assert values["networks"][1]["config"]["train"]["epochs"] == 3
    assert {"python", "tensorflow", "keras", "numpy"} < values["versions"].keys()
    whole = read_predictions(out / "small" / "seed0" / "predictions.csv")
    assert whole.groupby("fold")["image_id"].unique().map(list).to_dict() == {1: ["a", "b"], 2: ["c", "d"]}


def test_the_summary_has_the_metrics_and_the_minutes_of_each_fold(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    rows = crossval(quadrant_store, configs={"small": Config()}, out=out).rows
    summary = pd.read_csv(out / "summary.csv")
    # Fold 1, grays 200 and 110 against 50 100 20 220 60 30: 5 + 5 of 12 pairs. Fold 2, 250: 7 of 7.
    assert summary["all_auc"].to_list() == pytest.approx([10 / 12, 1])
    assert summary["all_tp"].to_list() == [1, 1]
    # 60 steps of 128 patches at 128 a second, then 60 at 64 a second.
    assert summary["training_minutes"].to_list() == [3.0, 3.0]
    lines = as_table(rows).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["network", "seed", "fold", "AUC", "AUC", "all", "sens", "spec", "minutes"]
    assert [line.split()[:3] for line in lines[1:4]] == [["small", "0", kind] for kind in ("1", "2", "mean")]
    assert lines[3].split()[4] == f"{(10 / 12 + 1) / 2:.3f}"


def test_what_is_done_is_skipped(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs=CONFIGS, out=out)
    before = contents(out)
    done = crossval(quadrant_store, configs=CONFIGS, out=out)
    assert (len(trained), done.num_done_before) == (4, 4)
    changed = {name for name, content in contents(out).items() if content != before[name]}
    assert changed <= {"crossval.json"}


STEPS = ("fit", "predict_store", "write_predictions", "shortcut_scores", "point", "write_model_card", "write_done")


@pytest.mark.parametrize("step", STEPS)
def test_a_queue_cut_in_any_step_of_a_job_goes_on_to_the_same_files(
    quadrant_store, trained, tmp_path, monkeypatch, step
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    crossval(quadrant_store, configs={"small": Config()}, out=whole)
    original = getattr(job_module, step)
    calls = []

    def fails_in_the_second_fold(*args, **values):
        calls.append(step)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **values)

    monkeypatch.setattr(job_module, step, fails_in_the_second_fold)
    with pytest.raises(KeyboardInterrupt):
        crossval(quadrant_store, configs={"small": Config()}, out=cut)
    assert (cut / "small" / "seed0" / "fold1" / "done.json").exists()
    assert not (cut / "small" / "seed0" / "fold2" / "done.json").exists()
    assert not (cut / "small" / "seed0" / "predictions.csv").exists()
    kept = cut / "small" / "seed0" / "fold2" / "timing.csv"
    is_whole = kept.with_name("predictions.csv").exists()  # timing.csv is of the same pass
    time_before = kept.stat().st_mtime_ns if is_whole else None
    crossval(quadrant_store, configs={"small": Config()}, out=cut)
    assert time_before in (None, kept.stat().st_mtime_ns)
    assert len(trained) == 4
    left, right = contents(whole), contents(cut)
    assert left.keys() == right.keys()
    differing = {Path(name).name for name in left if left[name] != right[name]}
    assert differing <= {"crossval.json", "done.json"}  # the time of its beginning, the digest of timing.csv


def test_networks_folds_and_seeds_can_be_added(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs={"small": Config()}, out=out, folds=(2,))
    assert read_predictions(out / "small" / "seed0" / "predictions.csv")["fold"].unique().tolist() == [2]
    crossval(quadrant_store, configs={"large": CONFIGS["large"]}, out=out, folds=(1, 2), seeds=(1,))
    values = json.loads((out / "crossval.json").read_text())
    assert (values["folds"], values["seeds"]) == ([1, 2], [0, 1])
    assert [network["name"] for network in values["networks"]] == ["small", "large"]
    assert not (out / "small" / "seed0" / "predictions.csv").exists()  # fold 1 is asked for now
    assert pd.read_csv(out / "summary.csv")["network"].to_list() == ["small", "large", "large"]


def test_a_file_that_is_missing_is_made_again(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    (out / "small" / "seed0" / "fold1" / "shortcut.csv").unlink()
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    assert (out / "small" / "seed0" / "fold1" / "shortcut.csv").exists()
    assert len(trained) == 2


def test_a_store_that_is_split_anew_while_the_queue_runs_is_refused(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"

    def launch(job: FoldJob, devices: str) -> None:
        run_job(out, job)
        write_folds(quadrant_store / "folds.csv", {"p1": "A", "p3": "A", "p2": "B", "p4": "B"}, overwrite=True)

    rule = r"the store or its folds.csv was changed since the cross-validation was started"
    with pytest.raises(InputError, match=rule):
        crossval(quadrant_store, configs={"small": Config()}, out=out, launch=launch)
    assert not (out / "small" / "seed0" / "fold2").exists()
    (quadrant_store / "folds.csv").unlink()
    with pytest.raises(InputError, match=rule):
        run_job(out, FoldJob("small", 0, 2))


def test_predictions_that_were_cut_are_refused_and_made_again_when_removed(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    path = out / "small" / "seed0" / "fold1" / "predictions.csv"
    whole = path.read_text()
    for changed in (whole[: whole.rindex("\n", 0, -1) + 1], whole.replace("p1,1,0,0,1,", "p1,1,0,0,0,")):
        path.write_text(changed)
        rule = "predictions.csv: must hold the 8 patches of .* that its fold tests, with their labels"
        with pytest.raises(InputError, match=f"{rule}.*; remove it, and crossval scores the fold again"):
            crossval(quadrant_store, configs={"small": Config()}, out=out)
    path.unlink()
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    assert path.read_text() == whole
    assert len(trained) == 2


def test_a_column_of_the_users_in_one_fold_alone_is_left_out_of_the_joined_predictions(
    quadrant_store, trained, tmp_path
) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    place = out / "small" / "seed0"
    before = read_predictions(place / "predictions.csv")
    frame = read_predictions(place / "fold1" / "predictions.csv")
    write_predictions(place / "fold1" / "predictions.csv", frame.assign(reader="anna"), overwrite=True)
    (place / "predictions.csv").unlink()
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    pd.testing.assert_frame_equal(read_predictions(place / "predictions.csv"), before)


def test_a_data_folder_that_lacks_an_image_of_the_store_is_refused_before_any_training(
    quadrant_data, quadrant_store, trained, tmp_path
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    lines = (data / "images.csv").read_text().splitlines(keepends=True)
    (data / "images.csv").write_text("".join(line for line in lines if not line.startswith("d,")))
    with pytest.raises(InputError, match=r"images.csv: lists no image d; give the data folder that the store was"):
        crossval(quadrant_store, configs={"small": Config()}, out=tmp_path / "out", data=data)
    assert not trained
    assert not (tmp_path / "out").exists()


def test_a_history_that_is_missing_is_made_again_where_the_checkpoint_is_there(
    quadrant_store, trained, tmp_path
) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    history = out / "small" / "seed0" / "fold1" / "run" / "history.csv"
    history.unlink()
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    assert history.exists()
    history.unlink()
    history.with_name("checkpoint.npz").unlink()
    rule = (
        r"fold1/run/history.csv: is missing, though the fold is done, and so is checkpoint.npz to make it of; give --o"
    )
    with pytest.raises(InputError, match=rule):
        crossval(quadrant_store, configs={"small": Config()}, out=out)


@pytest.mark.parametrize("name", ["validation.csv", "timing.csv", "shortcut.csv", "pointing.csv", "run/history.csv"])
def test_a_table_that_was_cut_is_refused_and_made_again_when_removed(quadrant_store, trained, tmp_path, name) -> None:
    out, configs = tmp_path / "out", {"small": Config(train=TrainConfig(batch_size=2, validation_patients=0.5))}
    crossval(quadrant_store, configs=configs, out=out, folds=(2,))
    path = out / "small" / "seed0" / "fold2" / name
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    rule = rf"fold2/{name}: is not as it was when the fold was done, .*; remove it, and crossval makes it again$"
    with pytest.raises(InputError, match=rule):
        crossval(quadrant_store, configs=configs, out=out, folds=(2,))
    with pytest.raises(InputError, match=rule):
        read_study(out)
    path.unlink()
    crossval(quadrant_store, configs=configs, out=out, folds=(2,))
    assert len(path.read_text().splitlines()) == len(lines)


def test_a_table_made_again_in_a_job_that_was_cut_is_not_taken_for_a_changed_one(
    quadrant_store, trained, tmp_path, monkeypatch
) -> None:
    out, folder = tmp_path / "out", tmp_path / "out" / "small" / "seed0" / "fold1"
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    (folder / "predictions.csv").unlink()  # timing.csv is of the same pass
    with monkeypatch.context() as patched:
        patched.setattr(job_module, "write_model_card", lambda *args, **values: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            crossval(quadrant_store, configs={"small": Config()}, out=out)
    assert crossval(quadrant_store, configs={"small": Config()}, out=out).num_done_before == 1


def test_a_model_that_was_changed_since_is_refused(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    model = out / "small" / "seed0" / "fold1" / "model" / "1"
    (model / "MODEL_CARD.md").write_text("a better card")
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    (model / "saved_model.pb").write_bytes(b"another")
    with pytest.raises(InputError, match=r"model/1: is not the model that the fold was done with, its digest differs"):
        crossval(quadrant_store, configs={"small": Config()}, out=out)


def test_a_job_done_with_another_configuration_is_refused(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    path = out / "small" / "seed0" / "fold1" / "done.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "config_sha256": "f" * 64}))
    with pytest.raises(InputError, match=r"done.json: was done with another config_sha256: ffff.* Received: "):
        crossval(quadrant_store, configs={"small": Config()}, out=out)


@pytest.mark.parametrize(("content", "rule"), [("{", "is not JSON"), ("[]", "Input should be an object")])
def test_a_damaged_done_json_is_refused(quadrant_store, trained, tmp_path, content, rule) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    (out / "small" / "seed0" / "fold1" / "done.json").write_text(content)
    with pytest.raises(InputError, match=rf"done.json: {rule}.*; give --overwrite to do it again"):
        crossval(quadrant_store, configs={"small": Config()}, out=out)


def test_without_the_data_folder_inference_alone_is_timed_and_that_is_said(
    quadrant_data, quadrant_store, trained, tmp_path
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "data")
    manifest = quadrant_store / "store.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "source": str(tmp_path / "gone")}))
    notes: list[str] = []
    sized = Config.model_validate({"patches": {"patch_px": 224}})
    crossval(quadrant_store, configs={"small": sized}, out=tmp_path / "sized", folds=(1,), note=notes.append)
    size, line = notes
    notes.clear()
    crossval(quadrant_store, configs={"small": Config()}, out=tmp_path / "out", folds=(1,), note=notes.append)
    assert notes == [line]  # nobody gave a size
    assert all(said in size for said in ("small: patches.patch_px = 224", str(quadrant_store), "8 px"))
    assert str(quadrant_store) in line
    assert "--data" in line
    folder = tmp_path / "out" / "small" / "seed0" / "fold1"
    assert not (folder / "pointing.csv").exists()
    timing = pd.read_csv(folder / "timing.csv")
    assert timing["infer_s"].notna().all()
    assert timing["read_s"].isna().all()
    regions = (data / "regions.csv").rename(tmp_path / "regions.csv")
    for _ in range(2):
        crossval(quadrant_store, configs={"small": Config()}, out=tmp_path / "out", folds=(1,), data=data)
        assert pd.read_csv(folder / "timing.csv")["read_s"].notna().all()
    assert not (folder / "pointing.csv").exists()
    regions.rename(data / "regions.csv")
    crossval(quadrant_store, configs={"small": Config()}, out=tmp_path / "out", folds=(1,), data=data)
    assert (folder / "pointing.csv").exists()
    assert json.loads((tmp_path / "out" / "crossval.json").read_text())["data"] == "../data"
    with pytest.raises(InputError, match=r"gone: is no data folder, it has no images.csv"):
        crossval(quadrant_store, configs={"small": Config()}, out=tmp_path / "out", data=tmp_path / "gone")


def test_an_activation_of_one_cell_a_patch_is_not_pointed_with(
    quadrant_store, trained, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmgkeras.crossval import job

    monkeypatch.setattr(job.load, "cell_centres_px", (3.5,))
    crossval(quadrant_store, configs={"small": Config()}, out=tmp_path / "out", folds=(1,))
    folder = tmp_path / "out" / "small" / "seed0" / "fold1"
    assert not (folder / "pointing.csv").exists()
    assert "one cell for a whole patch" in json.loads((folder / "done.json").read_text())["skipped"]["pointing.csv"]


def test_patients_held_out_are_scored_too(quadrant_store, trained, tmp_path) -> None:
    write_folds(quadrant_store / "folds.csv", {"p1": "A", "p2": "A", "p3": "B", "p4": "C"}, overwrite=True)
    config = read_config(overrides=["train.validation_patients=0.5"])
    crossval(quadrant_store, configs={"small": config}, out=tmp_path / "out", folds=(2,))
    folder = tmp_path / "out" / "small" / "seed0" / "fold2"
    test, held_out = (read_predictions(folder / name) for name in ("predictions.csv", "validation.csv"))
    assert set(test["patient_id"]) == {"p3"}
    # Of p1 and p2 with calcification one, of p4 alone without none: half of one rounds to 0.
    assert len(set(held_out["patient_id"])) == 1
    assert set(held_out["patient_id"]) < {"p1", "p2"}


def test_a_job_that_is_not_asked_for_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="is not the folder of a cross-validation with the job small/seed0/fold1"):
        run_job(tmp_path, FoldJob("small", 0, 1))


def test_a_model_that_is_not_the_runs_is_refused(quadrant_store, trained, tmp_path, monkeypatch) -> None:
    original = job_module.fit
    monkeypatch.setattr(job_module, "fit", lambda *args, **values: Fitted(original(*args, **values).model / "2", False))
    with pytest.raises(InputError, match=r"model/1: is there, but is not the run's; remove .*model and start again"):
        crossval(quadrant_store, configs={"small": Config()}, out=tmp_path / "out")


def test_the_name_of_a_job_is_read_back() -> None:
    job = FoldJob("seed2 of fold3", 10, 2)
    assert FoldJob.of_name(job.name) == job
