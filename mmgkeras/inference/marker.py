"""One mammogram of `predict`: read, scored, drawn and put into results for a PACS, and what was found kept.

Owns what is kept of a mammogram, for a call that goes on where another was killed, and that the models are loaded once
in each process.
"""

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal

from mmgkeras.errors import InputError
from mmgkeras.files import write_whole
from mmgkeras.images import Input, Single
from mmgkeras.inference.detection import Detection, Mark, Prepared, ScoringModel, find_marks, prepare, score
from mmgkeras.inference.mark_files import MADE_BY
from mmgkeras.inference.marking import picture_bytes
from mmgkeras.overlay.draw import DrawOptions, draw_with_preview
from mmgkeras.pacs.algorithm import Algorithm
from mmgkeras.processes import kept
from mmgkeras.savedmodel.classifier import Classifier, compute_in_bfloat16
from mmgkeras.savedmodel.detector import load_with_finer, model_folder
from mmgkeras.savedmodel.openvino_engine import with_openvino
from mmgkeras.schema import Laterality

AT_ONCE: Final = 2
"""Mammograms that a server is sent at once, as many as it works on; and that OpenVINO scores at once, so that no core
waits while another finishes the last patches of one."""
SKIPPED: Final = "skipped"
"""The key of the reason why a mammogram has no marks."""
Engine = Literal["tensorflow", "openvino"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerSettings:
    """What decides the marks of a mammogram and which files are made of it; the names are those of `predict`."""

    models: tuple[Path, ...]
    engine: Engine
    in_bfloat16: bool
    laterality: Laterality | None
    spacing_mm: float | None
    threshold: float
    stride_px: int | None
    with_pictures: bool
    with_dicom: bool


class _SkippedError(Exception):
    """The mammogram is at fault, not the model."""


class Marker:
    """Marks one mammogram after another, in several threads if need be. A copy in another process loads its models."""

    def __init__(self, settings: MarkerSettings, work: Path, *, served: Sequence[ScoringModel] = ()) -> None:
        """Loads nothing yet.

        Args:
            settings: what is done.
            work: the folder for the files of each mammogram, by `kept_stem`.
            served: models on a server, instead of those in the settings.
        """
        self._settings, self._work = settings, work
        self._models = list(served)
        self._loading = threading.Lock()
        self.num_at_once = AT_ONCE if served or settings.engine == "openvino" else 1
        self._scoring = threading.Semaphore(self.num_at_once)

    def __reduce__(self) -> tuple[Any, ...]:
        """Its settings alone."""
        return Marker, (self._settings, self._work)

    def __call__(self, one: Input) -> dict[str, Any]:
        """What was found in a mammogram, as JSON holds it, its files being in the folder; or why it was skipped.

        Raises:
            InputError: if a model cannot be used.
        """

        def make() -> dict[str, Any]:
            models = self._loaded()
            try:
                return self._mark(one, models)
            except InputError as error:
                raise _SkippedError(one.reason(error)) from error

        try:
            found: dict[str, Any] = kept(self._work / f"{kept_stem(one)}.json", one.path, make)
        except _SkippedError as error:
            return {SKIPPED: str(error)}
        return found

    def _loaded(self) -> list[ScoringModel]:
        """The models."""
        with self._loading:
            if not self._models:
                if self._settings.in_bfloat16:
                    compute_in_bfloat16()
                self._models = [self._load(model) for model in self._settings.models]
            return self._models

    def _load(self, model: Path) -> Classifier:
        classifier = load_with_finer(model_folder(model), is_folded=True)
        if self._settings.engine == "openvino":
            return with_openvino(classifier, in_bfloat16=self._settings.in_bfloat16)
        return classifier

    def _mark(self, one: Input, models: Sequence[ScoringModel]) -> dict[str, Any]:
        settings = self._settings
        single = one.read(laterality=settings.laterality, spacing_mm=settings.spacing_mm)
        prepared = prepare(single.mammogram, models, stride_px=settings.stride_px, breast=single.breast)
        with self._scoring:
            detection = score(prepared)
        height, width = single.mammogram.pixels.shape
        marks = find_marks(detection, threshold=settings.threshold, shape=(height, width))
        if settings.with_dicom:
            self._write_dicom(one, single, detection, marks=marks, prepared=prepared)
        if settings.with_pictures:
            self._draw(one, single, detection)
        return {
            "record": asdict(single.mammogram.record),
            "side_from": single.side_from,
            "hangs_mirrored": single.hangs_mirrored,
            "resampled_to_mm": detection.resampled_to_mm,
            "marks": [asdict(mark) for mark in marks],
            "notes": list(single.notes),
        }

    def _draw(self, one: Input, single: Single, detection: Detection) -> None:
        options = DrawOptions(threshold=self._settings.threshold, activation=detection.activation)
        drawing = draw_with_preview(single.mammogram, detection.score_map, options=options)
        for kind, picture in (("native", drawing.native), ("preview", drawing.preview)):
            write_whole(self._work / f"{kept_stem(one)}-{kind}.png", picture_bytes(picture, made_by=MADE_BY))

    def _write_dicom(
        self, one: Input, single: Single, detection: Detection, *, marks: Sequence[Mark], prepared: Prepared
    ) -> None:
        from mmgkeras.pacs.dicom_results import Reading, build_results, read_source

        (model,) = prepared.models
        assert isinstance(model, Classifier)
        algorithm = Algorithm.of(model, threshold=self._settings.threshold, stride_px=prepared.stride_px)
        reading = Reading(read_source(one.path), single, detection, marks, algorithm)
        for kind, result in build_results(reading).items():
            content = BytesIO()
            result.save_as(content, enforce_file_format=True)
            write_whole(self._work / f"{kept_stem(one)}-{kind}.dcm", content.getvalue())


def kept_stem(one: Input) -> str:
    """The name, without ending, of what is kept of a mammogram."""
    return hashlib.sha256(f"{one.path.absolute()}\0{one.record}".encode(errors="surrogateescape")).hexdigest()[:32]
