import keras
import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.study.run_files import EpochRow
from mmgkeras.training.checkpoint import SAMPLE, Progress, is_finite, load_checkpoint, save_checkpoint, snapshot


def make_variables(value):
    kernel = keras.Variable(np.full((2, 3), value, np.float32))
    count = keras.Variable(int(value), dtype="int64")
    return [kernel], [count]


def make_progress():
    samples = np.array([(0.5, 0.25, 0), (1.5, 0.75, 1)], SAMPLE)
    row = EpochRow(1, 6, 0.1, 1 / 3, 0.7, 0.5, 1.0, 9.0)
    return Progress(step=7, samples=samples, history=[row])


def save(path, *, value=3):
    model, optimizer = make_variables(value)
    save_checkpoint(path, snapshot(make_progress(), model=model, optimizer=optimizer))


def test_a_checkpoint_gives_everything_back(tmp_path):
    save(tmp_path / "checkpoint.npz")
    model, optimizer = make_variables(0)
    progress = load_checkpoint(tmp_path / "checkpoint.npz", model=model, optimizer=optimizer)
    np.testing.assert_array_equal(model[0], np.full((2, 3), 3, np.float32))
    assert int(optimizer[0]) == 3
    expected = make_progress()
    assert progress.step == 7
    assert repr(progress.history) == repr(expected.history)  # NaN, which equals nothing, is part of it
    np.testing.assert_array_equal(progress.samples, expected.samples)
    assert progress.samples.dtype == SAMPLE


def test_without_a_file_the_start_is_fresh(tmp_path):
    model, optimizer = make_variables(4)
    progress = load_checkpoint(tmp_path / "checkpoint.npz", model=model, optimizer=optimizer)
    assert (progress.step, len(progress.samples), progress.history) == (0, 0, [])
    assert int(optimizer[0]) == 4


def test_a_save_that_fails_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.npz"
    save(path)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(InputError, match=r"checkpoint.npz: cannot be written: No space left on device"):
        save(path, value=5)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.npz"]


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "checkpoint.npz"
    np.savez(path, step=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="is no checkpoint or is damaged: Object arrays cannot be loaded"):
        load_checkpoint(path, model=[], optimizer=[])


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "checkpoint.npz"
    save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"is no checkpoint or is damaged: .*; start again with --overwrite"):
        load_checkpoint(path, model=[], optimizer=[])


def test_another_network_is_refused(tmp_path):
    path = tmp_path / "checkpoint.npz"
    save(path)
    model, optimizer = make_variables(0)
    with pytest.raises(InputError, match="another network: 1 model variables, needed 2"):
        load_checkpoint(path, model=model * 2, optimizer=optimizer)
    other = [keras.Variable(np.zeros((3, 2), np.float32))]
    with pytest.raises(InputError, match=r"another network: .* has shape \(2, 3\), needed \(3, 2\)"):
        load_checkpoint(path, model=other, optimizer=optimizer)


def test_a_snapshot_does_not_change_with_the_variables(tmp_path):
    model, optimizer = make_variables(3)
    taken = snapshot(make_progress(), model=model, optimizer=optimizer)
    model[0].assign(np.full((2, 3), 9, np.float32))
    save_checkpoint(tmp_path / "checkpoint.npz", taken)
    load_checkpoint(tmp_path / "checkpoint.npz", model=model, optimizer=optimizer)
    np.testing.assert_array_equal(model[0], np.full((2, 3), 3, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_and_change_nothing(tmp_path, value):
    path = tmp_path / "checkpoint.npz"
    model, optimizer = make_variables(3)
    model[0].assign(np.full((2, 3), value, np.float32))
    taken = snapshot(make_progress(), model=model, optimizer=optimizer)
    assert not is_finite(taken)
    save_checkpoint(path, taken)
    model, optimizer = make_variables(4)
    with pytest.raises(InputError, match=r"checkpoint.npz: .* must hold finite numbers"):
        load_checkpoint(path, model=model, optimizer=optimizer)
    np.testing.assert_array_equal(model[0], np.full((2, 3), 4, np.float32))
    assert int(optimizer[0]) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"step": None},
        {"history": None},
        {"losses": None},
        {"model/0": None},
        {"step": np.int64(-1)},
        {"step": np.zeros(2, np.int64)},
        {"history": np.zeros((1, 3))},
        {"history": np.full((1, 11), np.nan)},
        {"labels": np.zeros(3, np.int8)},
        {"losses": np.zeros(2, np.float64)},
        {"model/0": np.full((2, 3), "x")},
        {"model/7": np.zeros(1)},
    ],
    ids=str,
)
def test_a_forged_checkpoint_is_one_line(tmp_path, changes):
    path = tmp_path / "checkpoint.npz"
    save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    model, optimizer = make_variables(0)
    with pytest.raises(InputError, match=r"checkpoint.npz: ") as fault:
        load_checkpoint(path, model=model, optimizer=optimizer)
    assert "\n" not in str(fault.value)
    np.testing.assert_array_equal(model[0], np.zeros((2, 3), np.float32))
