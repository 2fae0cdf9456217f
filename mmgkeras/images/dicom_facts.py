"""What tells a DICOM file from others, and what its header says, as data.

Owns what can be known of DICOM without pydicom: loading that takes longer than reading a mammogram. The modules that
parse are loaded where a DICOM file is met.
"""

import struct
from dataclasses import dataclass, field
from typing import Final, Literal

from mmgkeras.schema import Laterality, View

Kind = Literal["secondary-capture", "for-processing"]
Edge = Literal["left", "right", "top", "bottom"]
NAMED: Final[tuple[Kind, ...]] = ("secondary-capture",)
"""What is taken of a file that a person or a table names: naming it is asking for it."""

HEAD_BYTES: Final = 140
"""So many bytes of a file tell whether it is DICOM."""
_GROUPS: Final = (0x0002, 0x0008)
"""Of the first attribute of a file without preamble, with file meta information or without."""
_LATEST_FIRST: Final = 0x0018
"""The first attribute of a data set is hardly later in its group than SOP Instance UID."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a mammogram says; None where it does not.

    Attributes:
        laterality: the breast.
        view: the projection, "other" for one that has no name here.
        chest_wall: the edge at which it lies by Patient Orientation.
        spacing_mm: edge of a pixel.
        vendor: of the device.
        voi: what made gray values of the stored ones: "VOI LUT 1 of 3" or "window 2 of 2, SIGMOID" and the like, "log
            transform" or "none".
        is_lossy: whether the pixels were compressed with loss.
        notes: where attributes disagree, which one was taken and why; what else a reader should know.
        patient: Patient ID, "" where there is none. Never to be shown.
        instance: SOP Instance UID. Never to be shown.
    """

    laterality: Laterality | None
    view: View | None
    chest_wall: Edge | None
    spacing_mm: float | None
    vendor: str | None
    voi: str
    is_lossy: bool
    notes: tuple[str, ...]
    patient: str = field(repr=False)
    instance: str = field(repr=False)


def is_dicom(head: bytes) -> bool:
    """Whether the first `HEAD_BYTES` of a file are those of DICOM, with its preamble or without."""
    return head[128:132] == b"DICM" or _begins_with_attribute(head)


def is_explicit(head: bytes) -> bool:
    """Whether two letters, the VR, follow the first attribute's number."""
    return head[4:6].isalpha() and head[4:6].isupper()


def _begins_with_attribute(head: bytes) -> bool:
    """Whether the first bytes are an early attribute: its group and number, then two letters or a short length."""
    if len(head) < 8:
        return False
    group, number = struct.unpack_from("<HH", head)
    return group in _GROUPS and number <= _LATEST_FIRST and (is_explicit(head) or head[6:8] == b"\x00\x00")
