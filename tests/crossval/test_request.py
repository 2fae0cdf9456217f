"""What is refused before anything is written, and what --overwrite removes and does anew."""

import json
import os
from pathlib import Path

import pytest

from mmgkeras.config import AugmentationConfig, Config, ModelConfig, TrainConfig, read_config
from mmgkeras.crossval.cross_validate import crossval
from mmgkeras.crossval.request import with_initial_models
from mmgkeras.errors import ConfigError, InputError, InputFaultsError
from mmgkeras.tables import write_folds

CONFIGS = {"small": Config(), "large": Config(train=TrainConfig(epochs=3))}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but those of timing, which never repeat."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "timing.csv")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_another_configuration_is_refused_and_with_overwrite_done_anew(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs=CONFIGS, out=out)
    before = contents(out)
    changed = {"small": read_config(overrides=["train.l2=0.1"])}
    rule = r"crossval.json: small was begun with train.l2 = 0.005. Received: 0.1; give another folder or --overwrite$"
    with pytest.raises(InputError, match=rule):
        crossval(quadrant_store, configs=changed, out=out)
    assert contents(out) == before
    crossval(quadrant_store, configs=changed, out=out, folds=(1,), overwrite=True)
    assert len(trained) == 5
    assert not (out / "small" / "seed0" / "fold2").exists()  # it was of the other configuration
    assert (out / "large" / "seed0" / "fold2" / "done.json").exists()


def test_overwrite_removes_nothing_but_what_a_job_made(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs=CONFIGS, out=out)
    notes = [out / "notes.txt", out / "small" / "notes.txt", out / "small" / "seed0" / "fold1" / "notes.txt"]
    for path in notes:
        path.write_text("years of work")
    changed = {"small": read_config(overrides=["train.l2=0.1"])}
    crossval(quadrant_store, configs=changed, out=out, folds=(1,), overwrite=True)
    assert [path.read_text() for path in notes] == ["years of work"] * 3
    assert not (out / "small" / "seed0" / "fold2").exists()


@pytest.mark.parametrize("name", ["../precious", "..", "/precious", "a/b", ".hidden", "summary.csv", "", "a\0b"])
def test_a_network_is_called_as_one_folder_is(quadrant_store, trained, tmp_path, name) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious"
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    precious.mkdir()
    values = json.loads((out / "crossval.json").read_text())
    values["networks"].append({"name": name, "config": {"train": {"epochs": 2}}})
    (out / "crossval.json").write_text(json.dumps(values))
    with pytest.raises(
        InputError, match=r"crossval.json: networks.1.name: a network's name must be that of one folder"
    ):
        crossval(quadrant_store, configs={"small": Config()}, out=out, overwrite=True)
    assert precious.exists()
    with pytest.raises(ConfigError, match="a network's name must be that of one folder"):
        crossval(quadrant_store, configs={name: Config()}, out=tmp_path / "new")


def test_a_name_that_no_folder_of_a_model_may_have_is_refused(quadrant_store, trained, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"a network's name must be that of one folder.*Received: 'M\\udcfc'"):
        crossval(quadrant_store, configs={os.fsdecode(b"M\xfc"): Config()}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_overwrite_follows_no_symbolic_link(quadrant_store, trained, tmp_path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    (out / "small").rename(elsewhere)
    (out / "small").symlink_to(elsewhere)
    before = contents(elsewhere)
    with pytest.raises(InputError, match=r"out/small: is a symbolic link; remove it yourself"):
        crossval(quadrant_store, configs={"small": Config()}, out=out, overwrite=True)
    assert contents(elsewhere) == before


def test_overwrite_does_the_same_configuration_anew_in_the_folds_named(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs=CONFIGS, out=out)
    done = crossval(quadrant_store, configs={"small": Config()}, out=out, folds=(2,), overwrite=True)
    assert trained[4:] == [(str(out / "small" / "seed0" / "fold2"), 0)]
    assert done.num_done_before == 0
    assert (out / "small" / "seed0" / "predictions.csv").exists()


def test_a_store_that_was_split_anew_is_refused_and_with_overwrite_all_goes(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs=CONFIGS, out=out)
    write_folds(quadrant_store / "folds.csv", {"p1": "A", "p3": "A", "p2": "B", "p4": "B"}, overwrite=True)
    with pytest.raises(InputError, match=r"was begun on another folds.csv of the store than .* is now; give another"):
        crossval(quadrant_store, configs={"small": Config()}, out=out)
    crossval(quadrant_store, configs={"small": Config()}, out=out, overwrite=True)
    assert not (out / "large").exists()
    assert len(trained) == 6


def test_what_cannot_be_removed_is_said_and_does_not_count_as_done(
    quadrant_store, trained, tmp_path, monkeypatch
) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs={"small": Config()}, out=out)

    def refuse(folder, *args):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("mmgkeras.crossval.request.shutil.rmtree", refuse)
        with pytest.raises(InputError, match=r"small/seed0/fold1: cannot be removed: Permission denied$"):
            crossval(quadrant_store, configs={"small": Config()}, out=out, overwrite=True)
    assert not (out / "small" / "seed0" / "fold1" / "done.json").exists()
    assert (out / "small" / "seed0" / "fold2" / "done.json").exists()


def test_the_hardware_of_every_start_is_written_down(quadrant_store, trained, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    for name, fold in (("a GPU", 1), ("a laptop", 2), ("a GPU", 2)):
        monkeypatch.setattr("mmgkeras.crossval.request.hardware", lambda name=name: name)
        crossval(quadrant_store, configs={"small": Config()}, out=out, folds=(fold,))
    assert json.loads((out / "crossval.json").read_text())["hardware"] == "a GPU; then a laptop"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, r"out: is not the folder of a cross-validation: it has no crossval.json; name another place"),
        (
            '{"format_version": 2}',
            r"crossval.json: format_version: Input should be 1. Received: 2 .*; name another place",
        ),
        ('{"format_version": 1}', r"crossval.json: command is missing .and 9 more faults.; name another place"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_something_else_is_never_touched(
    quadrant_store, trained, tmp_path, content, rule, overwrite
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    if content is not None:
        (out / "crossval.json").write_text(content)
    before = contents(out)
    with pytest.raises(InputError, match=rule):
        crossval(quadrant_store, configs=CONFIGS, out=out, overwrite=overwrite)
    assert contents(out) == before


def test_a_network_that_crossval_json_cannot_have_held_is_refused(quadrant_store, trained, tmp_path) -> None:
    out = tmp_path / "out"
    crossval(quadrant_store, configs={"small": Config()}, out=out)
    values = json.loads((out / "crossval.json").read_text())
    values["networks"][0]["config"]["train"]["epochs"] = 0
    (out / "crossval.json").write_text(json.dumps(values))
    with pytest.raises(
        InputError, match=r"crossval.json: config of small: train.epochs: .*Received: 0; name another place"
    ):
        crossval(quadrant_store, configs={"small": Config()}, out=out)


@pytest.mark.parametrize(("fold", "side"), [(1, "training"), (2, "test")])
def test_a_fold_without_positives_is_refused_before_anything_is_written(
    quadrant_store, trained, tmp_path, fold, side
) -> None:
    write_folds(quadrant_store / "folds.csv", {"p1": "A", "p2": "A", "p3": "A", "p4": "B"}, overwrite=True)
    rule = rf"folds.csv: fold {fold} has no {side} patch with calcification; divide the patients anew"
    with pytest.raises(InputError, match=rule):
        crossval(quadrant_store, configs=CONFIGS, out=tmp_path / "out", folds=(fold,))
    assert not (tmp_path / "out").exists()


def test_every_training_that_cannot_be_is_named_before_the_first_begins(quadrant_store, tmp_path) -> None:
    configs = {
        "fits": Config(train=TrainConfig(batch_size=2)),
        "large": Config(train=TrainConfig(batch_size=128)),
        "watched": Config(train=TrainConfig(batch_size=2, validation_patients=0.5)),
        "inserted": Config(augmentation=AugmentationConfig(insertion=0.5), train=TrainConfig(batch_size=2)),
        "shared": Config(train=TrainConfig(batch_size=2, initial_share=0.5)),
    }
    with pytest.raises(InputFaultsError) as caught:
        crossval(quadrant_store, configs=configs, out=tmp_path / "out", launch=lambda job, devices: 1 / 0)
    assert [fault.split(": ")[:2] for fault in caught.value.faults] == [
        ["large/seed0/fold1", "train.batch_size"],
        ["large/seed0/fold2", "train.batch_size"],
        ["watched/seed0/fold1", "train.validation_patients"],
        ["shared/seed0/fold1", "train.initial_share"],
        ["shared/seed0/fold2", "train.initial_share"],
    ]
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_there_are_named_before_the_first_training(quadrant_store, tmp_path) -> None:
    (tmp_path / "other.safetensors").touch()
    train = TrainConfig(batch_size=2)
    configs = {
        "fits": Config(train=train),
        "other": Config(
            model=ModelConfig(network="resnet50", weights=str(tmp_path / "other.safetensors")), train=train
        ),
        "lost": Config(model=ModelConfig(weights=str(tmp_path / "lost.safetensors")), train=train),
    }
    with pytest.raises(InputFaultsError) as caught:
        crossval(quadrant_store, configs=configs, folds=(1,), out=tmp_path / "out", launch=lambda job, devices: 1 / 0)
    other, lost = caught.value.faults
    assert other.startswith("other/seed0/fold1: ")
    assert "resnet50 takes weights from a .h5 file" in other
    assert lost.startswith("lost/seed0/fold1: model.weights: no such file")
    assert not (tmp_path / "out").exists()


def test_every_fold_without_a_class_and_every_unusable_configuration_is_named(quadrant_store, tmp_path) -> None:
    write_folds(quadrant_store / "folds.csv", {"p1": "A", "p2": "A", "p3": "A", "p4": "B"}, overwrite=True)
    with pytest.raises(InputFaultsError) as caught:
        crossval(quadrant_store, configs={"small": Config()}, out=tmp_path / "out")
    assert [fault.split("; ")[0].split(": ")[1] for fault in caught.value.faults] == [
        "fold 1 has no training patch with calcification",
        "fold 2 has no test patch with calcification",
    ]
    configs = {
        "odd": Config(model=ModelConfig(network="resnet19")),
        "sown": Config(train=TrainConfig(seed=5)),
    }
    with pytest.raises(ConfigError, match=r"odd: model.network: no such network 'resnet19'.*\nsown: train.seed: "):
        crossval(quadrant_store, configs=configs, out=tmp_path / "out")


def test_a_fold_that_is_not_there_is_refused(quadrant_store, trained, tmp_path) -> None:
    with pytest.raises(InputError, match=r"fold must be from 1 to 2. Received: 3"):
        crossval(quadrant_store, configs=CONFIGS, out=tmp_path / "out", folds=(3,))
    with pytest.raises(InputError, match="no fold was asked for; allowed: 1 to 2"):
        crossval(quadrant_store, configs=CONFIGS, out=tmp_path / "out", folds=())


def test_configurations_that_do_not_go_with_the_rest_are_refused(quadrant_store, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="needs at least one configuration and one seed"):
        crossval(quadrant_store, configs={}, out=out)
    for seed in (-1, 2**32, 9_999_999_999):
        with pytest.raises(
            ConfigError, match=f"seeds: must be whole numbers from 0 to 4,294,967,295. Received: {seed}"
        ):
            crossval(quadrant_store, configs=CONFIGS, out=out, seeds=(0, seed))
    with pytest.raises(ConfigError, match=r"small: train.seed: .* takes its seeds from --seeds. Received: 5"):
        crossval(quadrant_store, configs={"small": Config(train=TrainConfig(seed=5))}, out=out)
    monkeypatch.setattr("mmgkeras.training.devices.choose_devices", lambda text: ["GPU:0", "GPU:1", "GPU:2"])
    with pytest.raises(ConfigError, match=r"small: train.batch_size: must be divisible .*, 3. Received: 128"):
        crossval(quadrant_store, configs={"small": Config()}, out=out)


def test_what_comes_with_initial_weights_is_said_with_the_networks_name() -> None:
    notes: list[str] = []
    configs = {
        "mine": Config(model=ModelConfig(weights="detector")),
        "plain": Config(model=ModelConfig(weights="none")),
    }
    resolved = with_initial_models(configs, note=notes.append)
    assert resolved["plain"] == configs["plain"]
    assert resolved["mine"].model.normalisation == "local"
    assert notes
    assert all(note.startswith("mine: model.") for note in notes)
