"""TensorBoard event files on disk: how those of an interrupted run are cut back to its checkpoint.

Owns the reading and rewriting of event files; what is written into new ones is `monitor`'s. The format is a sequence of
records: length (8 bytes), its checksum (4), an Event as a protocol buffer (length), its checksum (4).
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from mmgkeras.files import atomic_file

_HEADER = struct.Struct("<QI")
_FOOTER_BYTES = 4


def drop_later_events(folder: Path, *, last_step: int) -> None:
    """Removes from every event file of a folder the events after `last_step`, and a record cut off at the end.

    Each file is replaced whole. A file left with nothing but its version goes.
    """
    for path in sorted(folder.glob("*tfevents*")):
        records = list(read_records(path))
        events = [tf.compat.v1.Event.FromString(record[_HEADER.size : -_FOOTER_BYTES]) for record in records]
        kept = [record for record, event in zip(records, events, strict=True) if event.step <= last_step]
        if not any(event.HasField("summary") and event.step <= last_step for event in events):
            path.unlink()
        elif sum(map(len, kept)) != path.stat().st_size:
            with atomic_file(path, overwrite=True) as temporary:
                temporary.write_bytes(b"".join(kept))


def read_records(path: Path) -> Iterator[bytes]:
    """The whole records of an event file, their frames included; ends before a record that was cut off."""
    content = path.read_bytes()
    start = 0
    while start + _HEADER.size <= len(content):
        length, _ = _HEADER.unpack_from(content, start)
        end = start + _HEADER.size + length + _FOOTER_BYTES
        if end > len(content):
            return
        yield content[start:end]
        start = end
