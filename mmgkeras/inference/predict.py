"""Mammograms marked from their files alone: no training, and no table where there is none.

Owns the order of the work: which files, which models, what is done with one that cannot be read. How a mark is found is
`detection`'s, the files of the results are `mark_files`'s; how a picture looks is `overlay`'s.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeVar

from mmgkeras.errors import InputError, extra_needed
from mmgkeras.files import atomic_files, check_apart
from mmgkeras.images import Input, Single, find_inputs
from mmgkeras.inference.detection import Detection, Prepared, ScoringModel, check_alike, find_marks, prepare, score
from mmgkeras.inference.mark_files import (
    MARKS_CSV,
    MARKS_JSON,
    MARKS_JSON_LINES,
    Predicted,
    Predictions,
    geojson_name,
    is_own_text,
    write_marks,
)
from mmgkeras.inference.marking import PREVIEWS, file_stem, is_overlay, save_picture
from mmgkeras.inference.server_model import DEADLINE_S, ServerModel
from mmgkeras.json_files import home_path
from mmgkeras.models.weights import DETECTOR
from mmgkeras.overlay.draw import DrawOptions, draw_with_preview
from mmgkeras.pacs.algorithm import Algorithm
from mmgkeras.progress import Track, untracked
from mmgkeras.savedmodel.classifier import Classifier, compute_in_bfloat16, load
from mmgkeras.savedmodel.detector import model_folder, read_detector
from mmgkeras.savedmodel.openvino_engine import with_openvino
from mmgkeras.schema import Laterality

_AT_ONCE: Final = 2
"""Mammograms that a server is sent at once; as many it works on."""
_PICTURES: Final = ("{}.png", f"{PREVIEWS}/{{}}.png")
Engine = Literal["tensorflow", "openvino"]
_T = TypeVar("_T")
_R = TypeVar("_R")


def predict(
    paths: Sequence[Path],
    *,
    out: Path,
    models: Sequence[Path] = (Path(DETECTOR),),
    server: str | None = None,
    deadline_s: float = DEADLINE_S,
    laterality: Laterality | None = None,
    spacing_mm: float | None = None,
    threshold: float | None = None,
    marks_per_image: float | None = None,
    stride_px: int | None = None,
    engine: Engine = "tensorflow",
    in_bfloat16: bool = False,
    with_pictures: bool = True,
    with_json_lines: bool = False,
    with_geojson: bool = False,
    dicom_out: Path | None = None,
    overwrite: bool = False,
    track: Track = untracked,
) -> Predictions:
    """Marks mammograms: `out/marks.csv`, `out/marks.json`, `out/<name>.png` at native resolution, `out/previews/`.

    Args:
        paths: of image files, of folders of them, or of images.csv; one that is named twice is read once.
        out: the folder of the results.
        models: SavedModels' folders, or "detector"; names on a server. The probabilities of several are averaged.
        server: where the models are served, `http://HOST:PORT` or `grpc://HOST:PORT`; None for here.
        deadline_s: how long a server may take for a mammogram, all tries together.
        laterality: of all of them; None for what a DICOM header says, else the file's name, else the pixels.
        spacing_mm: edge of a pixel of all of them; None for what a DICOM header says, else unknown.
        threshold: where the mean probability of the patches is at least this, there is a mark; None for the model's,
            the mean of several models'.
        marks_per_image: instead of a threshold, of the detector alone: the one with so many false marks an image on
            phantoms.
        stride_px: distance between patches in pixels of the model; None for the model's.
        engine: what runs models that are here.
        in_bfloat16: compute in bfloat16 on processors that can, this and all that follows in the process.
        with_pictures: draw them.
        with_json_lines: also write `out/marks.jsonl`, a line an image.
        with_geojson: also write `out/geojson/<name>.geojson`, which QuPath reads.
        dicom_out: the folder of results for a PACS, as `pacs.dicom_results` makes them; DICOM files alone have any, and
            one model that is here.
        overwrite: replace results that are there.
        track: called with the mammograms.

    Returns:
        The marks, and the files that could not be read or scored.

    Raises:
        InputError: if a model or the server cannot be used, or a result exists and `overwrite` is not set.
    """
    if marks_per_image is not None:
        if list(map(str, models)) != [DETECTOR] or threshold is not None or server is not None:
            raise InputError("a number of marks an image can be asked of the detector alone, and without a threshold")
        threshold = read_detector().threshold(marks_per_image)
    if server is not None and (in_bfloat16 or engine != "tensorflow"):
        raise InputError(
            "a server computes as it was told to when it was started: ask neither engine nor bfloat16 of it"
        )
    folders = [] if server is not None else [model_folder(model) for model in models]
    inputs, passed_over = find_inputs(paths)
    names = _names([one.path for one in inputs])
    check_apart(out, [*folders, *paths, *(one.path for one in inputs)])
    places = {_PICTURES: with_pictures, (MARKS_JSON_LINES,): with_json_lines, (geojson_name("{}"),): with_geojson}
    asked = [place for some, is_asked in places.items() if is_asked for place in some]
    written = _written(asked, names=list(names.values()))
    with (
        atomic_files(out, written, label="predict", overwrite=overwrite, is_own=_is_own) as folder,
        _dicom_writer(dicom_out, names, overwrite=overwrite) as write_dicom,
    ):
        if server is None:
            scoring = _models_here(folders, engine=engine, in_bfloat16=in_bfloat16)
        else:
            scoring = [ServerModel(server, name.as_posix(), deadline_s=deadline_s) for name in models]
        check_alike(scoring)
        thresholds = [model.metadata.threshold for model in scoring]
        done = Predictions(sum(thresholds) / len(thresholds) if threshold is None else threshold)
        algorithm = dicom_out and _algorithm(scoring, threshold=done.threshold, stride_px=stride_px)
        done.notes.extend(passed_over)
        if threshold is None and len(set(thresholds)) > 1:
            done.notes.append(f"the models' thresholds differ; marked at their mean, {done.threshold:.4g}")

        def read(one: Input) -> tuple[Single, Prepared]:
            single = one.read(laterality=laterality, spacing_mm=spacing_mm)
            return single, prepare(single.mammogram, scoring[0].metadata, stride_px=stride_px, breast=single.breast)

        def scored(reading: Callable[[], tuple[Single, Prepared]]) -> tuple[Single, Detection]:
            single, prepared = reading()
            return single, score(scoring, prepared)

        readings = ahead(read, inputs, num_threads=1)
        answers = ahead(scored, readings, num_threads=1 if server is None else _AT_ONCE)
        for one, answer in zip(track(inputs, "mark mammograms"), answers, strict=True):
            try:
                single, detection = answer()
                found = _predicted(one.path, single, detection, threshold=done.threshold, name=names[one.path])
                write_dicom(one.path, single=single, detection=detection, marks=found.marks, algorithm=algorithm)
                if with_pictures:
                    _draw(detection, single, folder / f"{names[one.path]}.png", threshold=done.threshold)
            except InputError as error:
                done.skipped[one.path] = "; ".join(str(error).splitlines()).removeprefix(f"{one.path}: ")
                continue
            done.notes.extend(f"{home_path(one.path)}: {note}" for note in single.notes)
            done.images.append(found)
        done.notes.extend(_notes(scoring[0], done))
        write_marks(done, folder, models=[model.identity for model in scoring], names=written)
        return done


def _models_here(folders: Sequence[Path], *, engine: Engine, in_bfloat16: bool) -> list[ScoringModel]:
    """The models of these folders."""
    if in_bfloat16:
        compute_in_bfloat16()
    loaded = [load(folder, is_folded=True) for folder in folders]
    if engine == "openvino":
        loaded = [with_openvino(classifier, in_bfloat16=in_bfloat16) for classifier in loaded]
    return list(loaded)


def _written(places: Sequence[str], *, names: Sequence[str]) -> list[str]:
    """The paths of all files of a call: of those places that hold {} one for each name."""
    paths = [MARKS_CSV, MARKS_JSON]
    for place in places:
        paths += [place.replace("{}", name) for name in names] if "{}" in place else [place]
    return paths


def ahead(work: Callable[[_T], _R], items: Iterable[_T], *, num_threads: int) -> Iterator[Callable[[], _R]]:
    """The result of each item, in order, or its error when it is called for; the next ones are worked on meanwhile."""
    pending: deque[Future[_R]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > num_threads:
                    yield pending.popleft().result
            while pending:
                yield pending.popleft().result
        finally:
            for future in pending:
                future.cancel()


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for the results of each file; files of one name in several folders get numbers."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        stem = name = file_stem(path.stem)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names[path] = name
    return names


def _algorithm(models: Sequence[ScoringModel], *, threshold: float, stride_px: int | None) -> Algorithm:
    """What DICOM results say of the model.

    Raises:
        InputError: for a server's, or for several.
    """
    (model, *others) = models
    if others or not isinstance(model, Classifier):
        raise InputError("results for a PACS name one model and its file: give one --model, and no server")
    return Algorithm.of(model, threshold=threshold, stride_px=stride_px)


@contextmanager
def _dicom_writer(folder: Path | None, names: Mapping[Path, str], *, overwrite: bool) -> Iterator[Callable[..., None]]:
    """Yields what writes the DICOM results of one mammogram; nothing is written where no folder is given."""
    if folder is None:
        yield lambda *_, **__: None
        return
    with extra_needed("pacs", to="--dicom-out"):
        from mmgkeras.pacs.dicom_results import dicom_files
    check_apart(folder, names)
    with dicom_files(folder, names, overwrite=overwrite) as write:
        yield write


def _draw(detection: Detection, single: Single, path: Path, *, threshold: float) -> None:
    options = DrawOptions(threshold=threshold, activation=detection.activation)
    drawing = draw_with_preview(single.mammogram, detection.score_map, options=options)
    save_picture(drawing.native, path)
    save_picture(drawing.preview, path.parent / PREVIEWS / path.name)


def _predicted(path: Path, single: Single, detection: Detection, *, threshold: float, name: str) -> Predicted:
    height, width = single.mammogram.pixels.shape
    return Predicted(
        path=path,
        record=single.mammogram.record,
        side_from=single.side_from,
        hangs_mirrored=single.hangs_mirrored,
        resampled_to_mm=detection.resampled_to_mm,
        marks=find_marks(detection, threshold=threshold, shape=(height, width)),
        name=name,
    )


def _notes(model: ScoringModel, done: Predictions) -> list[str]:
    own_mm = model.metadata.spacing_mm
    unknown = sum(image.record.spacing_mm is None for image in done.images)
    if not unknown or own_mm is None:
        return []
    return [
        f"the pixel size of {unknown} image{'s is' if unknown > 1 else ' is'} not known, and taken for the model's, "
        f"{own_mm:g} mm; where it differs, give it"
    ]


def _is_own(path: Path) -> bool:
    """Whether a result of that name was made here."""
    return is_overlay(path) if path.suffix == ".png" else is_own_text(path)
