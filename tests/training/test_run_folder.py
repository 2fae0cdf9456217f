from pathlib import Path

import pytest

from mmgkeras.config import Config, TrainConfig
from mmgkeras.errors import InputError
from mmgkeras.patches.split import LeakProof
from mmgkeras.study.run_files import IDENTITY, Environment, RunCounts, read_environment, write_environment
from mmgkeras.training import run_folder

ENVIRONMENT = Environment(
    fold=1,
    test_subset="A",
    test_patients_sha256="a" * 64,
    store_checksum="b" * 64,
    training_patches_sha256="c" * 64,
    seed=0,
    leak_guard=LeakProof(1, 1, 0, 1, 1, 0),
    counts=RunCounts(**dict.fromkeys(RunCounts.model_fields, 0)),
    export=Path("model/1"),
)


def changed(**changes):
    return ENVIRONMENT.model_copy(update=changes)


def make_run(folder, **changes):
    run = folder / "run"
    run_folder.create_run(run, config=Config(), environment=changed(**changes))
    return run


def test_a_run_says_what_it_was_given(tmp_path):
    run = make_run(tmp_path)
    model = Path("model/1").absolute()
    assert read_environment(run) == changed(export=model)
    run_folder.check_same_run(run, ENVIRONMENT, config=Config(), asked=ENVIRONMENT)
    write_environment(run, changed(is_finished=True, export=tmp_path / "model" / "1"))
    assert read_environment(run) == changed(is_finished=True, export=tmp_path / "model" / "1")
    assert str(tmp_path) not in (run / "environment.json").read_text()


def test_no_folder_and_an_empty_folder_are_no_run(tmp_path):
    assert read_environment(tmp_path / "run") is None
    (tmp_path / "run").mkdir()
    assert read_environment(tmp_path / "run") is None


def test_a_new_run_replaces_an_earlier_one_whole(tmp_path):
    run = make_run(tmp_path)
    (run / "history.csv").write_text("old")
    make_run(tmp_path, fold=2)
    assert sorted(path.name for path in run.iterdir()) == ["config.toml", "environment.json"]


def test_a_run_from_before_a_key_came_is_the_same_run_with_its_default(tmp_path):
    run = make_run(tmp_path)
    lines = (run / "config.toml").read_text().splitlines()
    earlier = [line for line in lines if line.split(" = ")[0] not in ("scheme", "shuffle")]
    assert len(earlier) == len(lines) - 2
    (run / "config.toml").write_text("\n".join(earlier))
    run_folder.check_same_run(run, ENVIRONMENT, config=Config(), asked=ENVIRONMENT)
    with pytest.raises(InputError, match=r"was begun with train.shuffle = 'every_epoch'. Received: 'once'"):
        run_folder.check_same_run(run, ENVIRONMENT, config=Config(train=TrainConfig(shuffle="once")), asked=ENVIRONMENT)


@pytest.mark.parametrize("key", IDENTITY)
def test_another_identity_is_refused(tmp_path, key):
    run = make_run(tmp_path)
    with pytest.raises(InputError, match=rf"run: was begun with {key} = .* Received: 'other'; give another folder"):
        run_folder.check_same_run(run, ENVIRONMENT, config=Config(), asked=changed(**{key: "other"}))


def test_another_setting_is_refused(tmp_path):
    run = make_run(tmp_path)
    config = Config(train=TrainConfig(momentum=0.5))
    with pytest.raises(InputError, match=r"run: was begun with train.momentum = 0.9. Received: 0.5; give that value"):
        run_folder.check_same_run(run, ENVIRONMENT, config=config, asked=ENVIRONMENT)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not JSON"), ("[]", "Input should be an object"), ("{}", "fold is missing")]
)
def test_an_environment_that_cannot_be_read_is_named(tmp_path, content, message):
    run = make_run(tmp_path)
    (run / "environment.json").write_text(content)
    with pytest.raises(InputError, match=rf"environment.json: {message}"):
        read_environment(run)


def test_a_folder_of_something_else_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"is not a run folder, it has no environment.json; name another place"):
        read_environment(tmp_path)


def test_a_place_below_a_file_is_not_writable(tmp_path):
    (tmp_path / "file").write_text("")
    run_folder.check_writable(tmp_path / "new" / "run")
    with pytest.raises(InputError, match=r"run: cannot be written: .*file is not a writable folder"):
        run_folder.check_writable(tmp_path / "file" / "run")
