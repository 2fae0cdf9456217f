"""TensorBoard's log of a run: scalars, a sample of augmented patches, confusion matrices. It names no patient.

Owns the event files: what is written into them, and how those of an interrupted run are cut back to its checkpoint.
Every event of a step is on disk before the checkpoint of that step is.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

from mmgkeras.files import atomic_file
from mmgkeras.locks import remove
from mmgkeras.savedmodel.export import errors_of_tensorflow

SAMPLE_ROWS: Final = 4
SAMPLE_COLS: Final = 8
_CELL_PX: Final = 96
_GAP_PX: Final = 2
_FRAME_BYTES: Final = 16
"""Of a record in an event file, around its event: the event's length and two checksums."""
_NAMED_BY_HOST: Final = re.compile(
    r"(?P<begun>events\.out\.tfevents\.\d+)\..+\.(?P<process>\d+)\.(?P<number>\d+)\.v2", re.DOTALL
)


class Monitor:
    """Writes events into a folder, or says in one line why not; nothing is on disk for certain before `flush`."""

    def __init__(self, folder: Path) -> None:
        """Begins a new event file."""
        self._folder = folder
        with errors_of_tensorflow(folder):
            self._writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closes the file, and takes the machine's name out of the file's."""
        with errors_of_tensorflow(self._folder) if kind is None else suppress(tf.errors.OpError):
            self._writer.close()
        _drop_host_names(self._folder)

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Writes values by tag at a step; those that are not finite are left out."""
        with errors_of_tensorflow(self._folder), self._writer.as_default(step=step):
            for tag, value in values.items():
                if np.isfinite(value):
                    tf.summary.scalar(tag, value)

    def picture(self, tag: str, pixels: NDArray[np.uint8], *, step: int) -> None:
        """Writes one gray picture (H, W) at a step."""
        with errors_of_tensorflow(self._folder), self._writer.as_default(step=step):
            tf.summary.image(tag, pixels[np.newaxis, :, :, np.newaxis])

    def flush(self) -> None:
        """Returns when everything so far is in the file."""
        with errors_of_tensorflow(self._folder):
            self._writer.flush()


def patch_sheet(patches: NDArray[np.float32], *, maximum: int) -> NDArray[np.uint8]:
    """A sheet (H, W) of the first 32 patches (n, P, P, 1) in raw units, row by row, with white gaps between."""
    patch_px = patches.shape[1]
    pitch = patch_px + _GAP_PX
    sheet = np.full((SAMPLE_ROWS * pitch - _GAP_PX, SAMPLE_COLS * pitch - _GAP_PX), 255, np.uint8)
    for number, patch in enumerate(patches[: SAMPLE_ROWS * SAMPLE_COLS]):
        top, left = (place * pitch for place in divmod(number, SAMPLE_COLS))
        sheet[top : top + patch_px, left : left + patch_px] = np.rint(patch[:, :, 0] * (255 / maximum))
    return sheet


def confusion_picture(confusion: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A picture (H, W) of a (2, 2) confusion matrix: the darker, the larger the part of its row; counts inside."""
    title_px = _CELL_PX // 4
    size = 2 * _CELL_PX + title_px
    image = Image.new("L", (size, size), 255)
    draw = ImageDraw.Draw(image)
    draw.text((title_px, 4), "answer: no          answer: yes", fill=0)
    for truth in (0, 1):
        total = max(1, int(confusion[truth].sum()))
        draw.text((2, title_px + truth * _CELL_PX + _CELL_PX // 2), ("no", "yes")[truth], fill=0)
        for answer in (0, 1):
            part = int(confusion[truth, answer]) / total
            left, top = title_px + answer * _CELL_PX, title_px + truth * _CELL_PX
            draw.rectangle(
                (left, top, left + _CELL_PX - 1, top + _CELL_PX - 1), fill=round(255 - 200 * part), outline=0
            )
            text = f"{confusion[truth, answer]}\n{100 * part:.1f} %"
            draw.text((left + 12, top + _CELL_PX // 3), text, fill=255 if part > 0.5 else 0)
    return np.asarray(image)


def drop_later_events(folder: Path, *, last_step: int) -> None:
    """Removes from every event file of a folder the events after `last_step`, and a record cut off at the end.

    Each file is replaced whole. A file left with nothing but its version goes.
    """
    _drop_host_names(folder)
    for left in folder.glob(".*tfevents*"):  # of a kill in the loop below
        remove(left)
    for path in sorted(folder.glob("*tfevents*")):
        num_bytes, has_values = 0, False
        for record in RawEventFileLoader(str(path)).Load():  # ends before a record that was cut off
            event = tf.compat.v1.Event.FromString(record)
            if event.step > last_step:  # and so is every later one
                break
            num_bytes += len(record) + _FRAME_BYTES
            has_values |= event.HasField("summary")
        if not has_values:
            path.unlink()
        elif num_bytes != path.stat().st_size:
            with atomic_file(path, overwrite=True) as temporary:
                temporary.write_bytes(path.read_bytes()[:num_bytes])


def _drop_host_names(folder: Path) -> None:
    """Renames event files that TensorFlow named after the machine: a run is shared, the machine's name is not."""
    for path in folder.glob("events.out.tfevents.*"):
        if match := _NAMED_BY_HOST.fullmatch(path.name):
            path.rename(path.with_name(f"{match['begun']}.{match['process']}-{match['number']}.v2"))
