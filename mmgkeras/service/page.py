"""The page at `/` of `mmgkeras serve`: its files, and what it asks for a mammogram that is dropped on it.

Owns that answer's format; how the page shows it is `page_files`' own. The mammogram is read and scored as `predict`
does, from a file of a temporary folder that is gone when the answer is.
"""

import json
import struct
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import parse_qs

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError, one_line
from mmgkeras.images import Single, read_single
from mmgkeras.inference.detection import Detection, detect
from mmgkeras.inference.marking import file_stem
from mmgkeras.overlay.pixel_runs import stitch_cells
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.schema import LATERALITIES
from mmgkeras.service.rest_api import Answer, refused

MARK: Final = "/page/mark"
_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/view.js": ("view.js", "text/javascript; charset=utf-8"),
    "/page/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page/page.css": ("page.css", "text/css; charset=utf-8"),
}
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_ALIGNED: Final = 8
_MAX_SPACING_MM: Final = 100.0


class Page:
    """Answers the page's requests with one model."""

    def __init__(self, classifier: Classifier, *, name: str) -> None:
        """Takes the model, and the name by which it is served."""
        self._classifier = classifier
        self._name = name
        folder = files("mmgkeras.service") / "page_files"
        self._files = {
            path: Answer(200, (folder / file).read_bytes(), content_type=kind, headers=_HEADERS)
            for path, (file, kind) in _FILES.items()
        }

    def file(self, path: str) -> Answer | None:
        """The file at a path, if there is one."""
        return self._files.get(path)

    def mark(self, body: bytes, *, query: str) -> Answer:
        """What is shown of an image file: a JSON text with its length before it, and arrays behind it.

        The length is of 4 bytes, little-endian, like all numbers; the text is filled up with blanks so that the arrays
        begin at a multiple of 8. They are the pixels (height, width) as uint8 or uint16; the mean probability of each
        pixel of the image as it was scored (seen_height, seen_width), as uint16 of 65535; and, where the model has it,
        the class activation of the same as a probability, as uint8 of 255.

        Args:
            body: the bytes of the file.
            query: `name`, and on request `laterality` (L, R) and `spacing_mm`.
        """
        try:
            asked = {key: values[0] for key, values in parse_qs(query).items()}
            single, detection = self._scored(body, asked)
        except InputError as error:
            return refused(400, str(error))
        described, arrays = self._described(single, detection)
        text = json.dumps(described).encode()
        text += b" " * (-(4 + len(text)) % _ALIGNED)
        parts = [struct.pack("<I", len(text)), text]
        for array in arrays:
            raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
            parts.append(raw + bytes(-len(raw) % _ALIGNED))
        return Answer(200, b"".join(parts), content_type="application/octet-stream")

    def _scored(self, body: bytes, asked: Mapping[str, str]) -> tuple[Single, Detection]:
        name = PurePosixPath(asked.get("name", "").replace("\\", "/")).name or "image"
        laterality = asked.get("laterality") or None
        if laterality is not None and laterality not in LATERALITIES:
            raise InputError(f"laterality must be one of {LATERALITIES}. Received: {laterality[:20]!r}")
        with tempfile.TemporaryDirectory(prefix="mmgkeras-page-") as folder:
            path = Path(folder) / f"{file_stem(PurePosixPath(name).stem)}.image"
            path.write_bytes(body)
            try:
                single = read_single(path, laterality=laterality, spacing_mm=_spacing(asked.get("spacing_mm")))  # type: ignore[arg-type]
            except InputError as error:
                raise InputError(str(error).replace(one_line(f"{path}: "), "")) from error
        return single, detect([self._classifier], single.mammogram)

    def _described(self, single: Single, detection: Detection) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        pixels, record = single.mammogram.pixels, single.mammogram.record
        score_map = detection.score_map
        mean = np.rint(score_map.stitch() * 65535).astype(np.uint16)
        arrays: list[NDArray[Any]] = [pixels, mean]
        if detection.activation is not None:
            odds = np.clip(stitch_cells(score_map.grid, detection.activation), -30, 30)
            activation = np.rint(255 / (1 + np.exp(-odds))).astype(np.uint8)
            arrays.append(
                activation if score_map.breast is None else np.where(score_map.breast, activation, np.uint8(0))
            )
        described = {
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "bits": 8 * pixels.itemsize,
            "seen_height": mean.shape[0],
            "seen_width": mean.shape[1],
            "has_activation": detection.activation is not None,
            "threshold": self._classifier.metadata.threshold,
            "laterality": record.laterality,
            "laterality_from": single.side_from,
            "hangs_mirrored": single.hangs_mirrored,
            "view": record.view,
            "spacing_mm": record.spacing_mm,
            "resampled_to_mm": detection.resampled_to_mm,
            "model_spacing_mm": self._classifier.metadata.spacing_mm,
            "model": self._name,
            "notes": list(single.notes),
        }
        return described, arrays


def _spacing(text: str | None) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= _MAX_SPACING_MM:
        raise InputError(f"spacing_mm must be above 0 and at most {_MAX_SPACING_MM:g}. Received: {text[:20]!r}")
    return value
