import platform
import re

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.training.tensorboard_log import Monitor, confusion_picture, drop_later_events, patch_sheet


def write_events(folder, steps):
    with Monitor(folder) as monitor:
        for step in steps:
            monitor.scalars({"loss": step / 2}, step=step)
    return max(folder.glob("*tfevents*"))


def steps_in(folder):
    """Steps of all values, by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return [
        event.step
        for path in sorted(folder.glob("*tfevents*"))
        for event in EventFileLoader(str(path)).Load()
        if event.HasField("summary")
    ]


def test_events_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"^\S+/file/events: cannot be written: [^\n{]+$"),
        Monitor(tmp_path / "file" / "events") as monitor,
    ):
        monitor.flush()


def test_events_after_the_checkpoint_are_dropped(tmp_path):
    write_events(tmp_path, [0, 10, 20, 30])
    drop_later_events(tmp_path, last_step=20)
    assert steps_in(tmp_path) == [0, 10, 20]


def test_a_file_that_needs_no_change_is_left_alone(tmp_path):
    path = write_events(tmp_path, [0, 10])
    before = path.read_bytes(), path.stat().st_ino
    drop_later_events(tmp_path, last_step=10)
    assert (path.read_bytes(), path.stat().st_ino) == before


def test_a_record_cut_off_at_the_end_is_dropped(tmp_path):
    path = write_events(tmp_path, [0, 10, 20])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    drop_later_events(tmp_path, last_step=100)
    assert steps_in(tmp_path) == [0, 10]
    assert whole.startswith(path.read_bytes())


@pytest.mark.parametrize("kept_bytes", [0, 5, 11])
def test_a_file_cut_off_in_its_first_record_goes(tmp_path, kept_bytes):
    path = write_events(tmp_path, [0])
    path.write_bytes(path.read_bytes()[:kept_bytes])
    drop_later_events(tmp_path, last_step=100)
    assert list(tmp_path.iterdir()) == []


def test_without_a_checkpoint_all_events_go(tmp_path):
    write_events(tmp_path, [0, 10])
    drop_later_events(tmp_path, last_step=-1)
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_named_after_the_machine(tmp_path):
    write_events(tmp_path, [0, 10])
    begun = f"events.out.tfevents.1700000000.{platform.node()}.site.7.0.v2"  # as a killed process leaves it
    (tmp_path / begun).write_bytes(write_events(tmp_path, [20]).read_bytes())
    (tmp_path / f".{begun}.0123456789abcdef.partial").write_bytes(b"half")
    drop_later_events(tmp_path, last_step=100)
    names = [path.name for path in tmp_path.iterdir()]
    assert "events.out.tfevents.1700000000.7-0.v2" in names
    assert all(re.fullmatch(r"events\.out\.tfevents\.\d+\.\d+-\d+\.v2", name) for name in names)
    assert sorted(steps_in(tmp_path)) == [0, 10, 20, 20]


def test_a_folder_that_is_not_there_is_no_error(tmp_path):
    drop_later_events(tmp_path / "tensorboard", last_step=0)


def test_values_that_are_not_finite_are_left_out(tmp_path):
    with Monitor(tmp_path) as monitor:
        monitor.scalars({"auc": float("nan")}, step=1)
        monitor.scalars({"auc": 0.5}, step=2)
    assert steps_in(tmp_path) == [2]


def test_a_sheet_of_patches_by_hand():
    patches = np.stack([np.full((2, 2, 1), 65535.0), np.full((2, 2, 1), 32767.5)]).astype(np.float32)
    sheet = patch_sheet(patches, maximum=65535)
    assert sheet.shape == (4 * 4 - 2, 8 * 4 - 2)
    assert sheet[:2, :2].tolist() == [[255, 255], [255, 255]]
    assert sheet[:2, 4:6].tolist() == [[128, 128], [128, 128]]
    assert sheet[0, 2] == 255


def test_the_confusion_picture_is_darker_where_more_of_the_row_lies():
    picture = confusion_picture(np.array([[3, 1], [0, 4]]))
    assert picture.dtype == np.uint8
    brightness = [picture[24 + 96 * truth + 90, 24 + 96 * answer + 90] for truth in (0, 1) for answer in (0, 1)]
    assert brightness == [105, 205, 255, 55]
