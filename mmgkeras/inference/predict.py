"""Mammograms marked from their files alone: no training, and no table where there is none.

Owns the order of the work: which files, which models, what is done with one that cannot be read. What is done with one
mammogram is `marker`'s, how a mark is found `detection`'s; the files of the results are `mark_files`'s.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mmgkeras.errors import InputError, extra_needed
from mmgkeras.files import atomic_files, check_apart, files_below, give
from mmgkeras.images import is_lossy
from mmgkeras.images.resampling import SAME_SPACING
from mmgkeras.inference.detection import Mark, ScoringMetadata, check_alike
from mmgkeras.inference.mark_files import (
    MADE_BY,
    MARKS_CSV,
    MARKS_JSON,
    MARKS_JSON_LINES,
    Predicted,
    Predictions,
    geojson_name,
    is_own_text,
    write_marks,
)
from mmgkeras.inference.marker import SKIPPED, Engine, Marker, MarkerSettings, kept_stem
from mmgkeras.inference.marking import PREVIEWS, file_stem, find_mammograms, is_overlay
from mmgkeras.inference.server_model import DEADLINE_S, ServerModel
from mmgkeras.json_files import home_path
from mmgkeras.locks import output_lock, resumable_work, work_digest
from mmgkeras.models.weights import DETECTOR
from mmgkeras.processes import Threads, Workers, file_state
from mmgkeras.progress import Track, untracked
from mmgkeras.savedmodel.classifier import check_stride
from mmgkeras.savedmodel.detector import finer_folder, finer_metadata, model_folder, read_detector
from mmgkeras.savedmodel.metadata import read_metadata
from mmgkeras.schema import ImageRecord, Laterality, probability_text

_WORK: Final = "marks"
"""The name, in the folder of the results, of the lock and of what a killed call had done."""
_BESIDES: Final = 2
"""Threads besides those that score: the next mammogram is read, the last one is drawn."""
_PICTURES: Final = ("{}.png", f"{PREVIEWS}/{{}}.png")
_FINE: Final = 0.75
"""Pixels of this part of the model's, or smaller, are averaged, and what compression did to them with them."""


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
    workers: Workers | None = None,
    with_pictures: bool = True,
    with_json_lines: bool = False,
    with_geojson: bool = False,
    dicom_out: Path | None = None,
    overwrite: bool = False,
    track: Track = untracked,
) -> Predictions:
    """Marks mammograms: `out/marks.csv`, `out/marks.json`, `out/<name>.png` at native resolution, `out/previews/`.

    If it is killed, the same call goes on after the last mammogram that it had finished.

    Args:
        paths: of image files, of folders of them, or of images.csv; one that several lead to is read once.
        out: the folder of the results; it may lie in a folder that is read, where results are passed over.
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
        workers: who marks the mammograms; None for threads of this process.
        with_pictures: draw them.
        with_json_lines: also write `out/marks.jsonl`, a line an image.
        with_geojson: also write `out/geojson/<name>.geojson`, which QuPath reads.
        dicom_out: the folder of results for a PACS, as `pacs.dicom_results` makes them; DICOM files alone have any, and
            one model that is here.
        overwrite: replace results that are there; those of an earlier call that are not made again go.
        track: called with the mammograms.

    Returns:
        The marks, and the files that could not be read or scored.

    Raises:
        InputError: if a model or the server cannot be used, or takes no such stride, or a result exists and `overwrite`
            is not set.
    """
    if marks_per_image is not None:
        if list(map(str, models)) != [DETECTOR] or threshold is not None or server is not None:
            raise InputError("a number of marks an image can be asked of the detector alone, and without a threshold")
        threshold = read_detector().threshold(marks_per_image)
    if server is not None and (in_bfloat16 or engine != "tensorflow" or workers is not None):
        raise InputError(
            "a server computes as it was told to when it was started: ask neither engine nor bfloat16 of it"
        )
    if dicom_out is not None and (server is not None or len(models) > 1):
        raise InputError("results for a PACS name one model and its file: give one --model, and no server")
    folders = [] if server is not None else [model_folder(model) for model in models]
    above = {os.path.realpath(folder) for folder in Path(os.path.realpath(out)).parents}
    check_apart(out, [*folders, *(path for path in paths if os.path.realpath(path) not in above)])
    inputs, passed_over = find_mammograms(paths)
    names = _names([one.path for one in inputs])
    check_apart(out, names)
    served = []
    if server is not None:
        served = [ServerModel.with_finer(server, name.as_posix(), deadline_s=deadline_s) for name in models]
    here = [read_metadata(folder) for folder in folders]
    for model, own in zip(models, here, strict=False):
        check_stride(stride_px, model=model, metadata=own)
    for there in served:
        there.check_stride(stride_px)
    metadata: list[ScoringMetadata] = [*here, *(model.metadata for model in served)]
    identities = [model.identity for model in served] or [_identity(folder) for folder in folders]
    check_alike(metadata)
    thresholds = [model.threshold for model in metadata]
    done = Predictions(sum(thresholds) / len(thresholds) if threshold is None else threshold)
    done.notes.extend(passed_over)
    if threshold is None and len(set(thresholds)) > 1:
        done.notes.append(f"the models' thresholds differ; marked at their mean, {probability_text(done.threshold)}")
    settings = MarkerSettings(
        models=() if server is not None else tuple(models),
        engine=engine,
        in_bfloat16=in_bfloat16,
        laterality=laterality,
        spacing_mm=spacing_mm,
        threshold=done.threshold,
        stride_px=stride_px,
        with_pictures=with_pictures,
        with_dicom=dicom_out is not None,
    )
    places = {_PICTURES: with_pictures, (MARKS_JSON_LINES,): with_json_lines, (geojson_name("{}"),): with_geojson}
    asked = [place for some, is_asked in places.items() if is_asked for place in some]
    written = _written(asked, names=list(names.values()))
    earlier = [*_earlier_names(out)]
    every = _written([place for some in places for place in some], names=[*names.values(), *earlier])
    former = sorted({*every} - {*written})
    work_place = out / _WORK
    with (
        output_lock(work_place),
        resumable_work(work_place, digest=_digest(settings, folders, identities)) as work,
        atomic_files(out, written, label="predict", overwrite=overwrite, is_own=_is_own, former=former) as folder,
        _dicom_folder(dicom_out, names, earlier=earlier, overwrite=overwrite) as dicom_folder,
    ):
        marker = Marker(settings, work, served=served)
        workers = workers or Threads(_BESIDES + marker.num_at_once)
        found = workers.map(marker, inputs, label="mark mammograms", track=track)
        for one, told in zip(inputs, found, strict=True):
            if SKIPPED in told:
                done.skipped[one.path] = told[SKIPPED]
                continue
            image = _predicted(one.path, told, name=names[one.path])
            _give_files(kept_stem(one), image.name, work=work, folder=folder, dicom_folder=dicom_folder)
            done.notes.extend(f"{home_path(one.path)}: {note}" for note in told["notes"])
            done.images.append(image)
        done.notes.extend(_notes(metadata[0], done))
        write_marks(done, folder, models=identities, names=written)
        return done


def _identity(folder: Path) -> dict[str, Any]:
    """Of a model, with that of the finer one beside it."""
    own = read_metadata(folder)
    finer = finer_metadata(folder, own)
    return own.identity | ({} if finer is None else {"finer": finer.identity})


def _digest(settings: MarkerSettings, folders: Sequence[Path], identities: Sequence[Mapping[str, Any]]) -> str:
    """Of all that the marks of a mammogram depend on, itself apart."""
    places = [place for folder in folders for place in (folder, finer_folder(folder)) if place.is_dir()]
    files = [file for place in places for file in files_below(place)]
    return work_digest("predict", settings, identities, [(file, file_state(file)) for file in files])


def _give_files(stem: str, name: str, *, work: Path, folder: Path, dicom_folder: Path | None) -> None:
    """Gives the pictures and DICOM results of a mammogram their names."""
    for kind, place in (("native", _PICTURES[0]), ("preview", _PICTURES[1])):
        picture = work / f"{stem}-{kind}.png"
        if picture.exists():
            target = folder / place.format(name)
            target.parent.mkdir(exist_ok=True)
            give(picture, target)
    if dicom_folder is not None:
        for result in work.glob(f"{stem}-*.dcm"):
            give(result, dicom_folder / f"{name}{result.name.removeprefix(stem)}")


def _written(places: Sequence[str], *, names: Sequence[str]) -> list[str]:
    """The paths of all files of a call: of those places that hold {} one for each name."""
    paths = [MARKS_CSV, MARKS_JSON]
    for place in places:
        paths += [place.replace("{}", name) for name in names] if "{}" in place else [place]
    return paths


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


def _earlier_names(out: Path) -> Iterable[str]:
    """For the results of an earlier call, as far as its marks.json tells."""
    try:
        told = json.loads((out / MARKS_JSON).read_bytes())
        # One that was skipped took a name too: the set of names is the same in any order.
        return _names([Path(one["path"]) for one in [*told["images"], *told["skipped"]]]).values()
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ()


@contextmanager
def _dicom_folder(
    folder: Path | None, names: Mapping[Path, str], *, earlier: Sequence[str], overwrite: bool
) -> Iterator[Path | None]:
    """Yields the folder that gets the DICOM results; None where none are asked for."""
    if folder is None:
        yield None
        return
    with extra_needed("pacs", to="--dicom-out"):
        from mmgkeras.pacs.dicom_results import dicom_files
    check_apart(folder, names)
    with dicom_files(folder, names.values(), overwrite=overwrite, former=earlier) as made:
        yield made


def _predicted(path: Path, told: Mapping[str, Any], *, name: str) -> Predicted:
    own = tuple((name, text) for name, text in told["record"]["own"])  # which JSON makes lists of
    return Predicted(
        path=path,
        record=ImageRecord(**{**told["record"], "own": own}),
        side_from=told["side_from"],
        hangs_mirrored=told["hangs_mirrored"],
        resampled_to_mm=told["resampled_to_mm"],
        marks=[Mark(**mark) for mark in told["marks"]],
        name=name,
    )


def _notes(model: ScoringMetadata, done: Predictions) -> list[str]:
    own_mm = model.spacing_mm
    if own_mm is None:
        return []
    notes = []
    if unknown := sum(image.record.spacing_mm is None for image in done.images):
        notes.append(
            f"the pixel size of {unknown} image{'s is' if unknown > 1 else ' is'} not known, and taken for the "
            f"model's, {own_mm:g} mm; where it differs, give it"
        )
    if compressed := sum(_is_coarse(image) and is_lossy(image.path) for image in done.images):
        notes.append(
            f"{compressed} image{'s' if compressed > 1 else ''} hardly finer than the model's pixels "
            f"{'were' if compressed > 1 else 'was'} compressed with loss: that may have hidden small calcifications"
        )
    return notes


def _is_coarse(image: Predicted) -> bool:
    """Whether its pixels are hardly smaller than those of the model that was asked, the finer one or its model."""
    asked_mm, own_mm = image.resampled_to_mm, image.record.spacing_mm
    return asked_mm is None or own_mm is None or own_mm > (1 + SAME_SPACING) * _FINE * asked_mm


def _is_own(path: Path) -> bool:
    """Whether a result of that name was made here."""
    return is_overlay(path, made_by=MADE_BY) if path.suffix == ".png" else is_own_text(path)
