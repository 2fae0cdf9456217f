"""Regions as VIA, the VGG Image Annotator, writes them."""

import json
from typing import Any, Final

import numpy as np

from mmgkeras.errors import InputError, shown
from mmgkeras.schema import Shape, fault_of_points

Points = tuple[tuple[float, float], ...]
_KEYS: Final = {
    "polygon": ("all_points_x", "all_points_y"),
    "polyline": ("all_points_x", "all_points_y"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "circle": ("cx", "cy", "r"),
    "point": ("cx", "cy"),
    "rect": ("x", "y", "width", "height"),
}


def via_shape(attributes: str | Any) -> tuple[Shape, Points]:
    """Shape and points, in (row, col) order, of VIA's region_shape_attributes; a polyline is taken as closed.

    Raises:
        InputError: for anything else than VIA's shapes with finite numbers.
    """
    received = shown(attributes)
    try:
        values: dict[str, Any] = dict(json.loads(attributes) if isinstance(attributes, str) else attributes)
        name = values.pop("name")
        numbers = [np.atleast_1d(np.asarray(values.pop(key), dtype=np.float64)) for key in _KEYS[name]]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        allowed = ", ".join(_KEYS)
        raise InputError(f"a shape must be one of {allowed}, with its numbers. Received: {received}") from error
    if not all(np.isfinite(number).all() and number.ndim == 1 for number in numbers):
        raise InputError(f"a shape must have finite numbers. Received: {received}")
    if values.pop("theta", 0):
        raise InputError(f"an ellipse must not be turned. Received: {received}")
    if len({number.size for number in numbers}) > 1:
        raise InputError(f"a {name} must have as many x as y. Received: {received}")
    cols, rows = numbers[0], numbers[1]
    if name in ("polygon", "polyline"):
        if fault := fault_of_points("polygon", rows.size):
            raise InputError(fault)
        return "polygon", tuple(zip(rows.tolist(), cols.tolist(), strict=True))
    row, col, *sizes = (float(number[0]) for number in (rows, cols, *numbers[2:]))
    if name == "rect":
        return "box", ((row, col), (row + sizes[1], col + sizes[0]))
    if name == "point":
        return "point", ((row, col),)
    return name, ((row, col), (sizes[-1], sizes[0]))
