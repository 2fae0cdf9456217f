"""The functions of `import mmgkeras as mg`: one for each step of the work, each takes a path or the object behind it.

Owns these signatures alone: a function calls one of the library's, which each docstring names and which has the rarer
options and the errors. Arguments mean the same everywhere: `config` is a TOML file or what `read_config` gave, None for
the defaults; `out` is the folder to make; `overwrite` replaces what an earlier call made. The imports stand in the
functions, so that reading a mammogram does not load TensorFlow.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmgkeras.config import Config
    from mmgkeras.inference.detection import Detected
    from mmgkeras.inference.evaluate import Evaluation
    from mmgkeras.patches.store import PatchStore
    from mmgkeras.savedmodel.classifier import Classifier
    from mmgkeras.schema import Laterality, Mammogram, ScoreMap, View
    from mmgkeras.study.read import Study

    ConfigLike: TypeAlias = Config | str | os.PathLike[str] | None
    StoreLike: TypeAlias = PatchStore | str | os.PathLike[str]
    ModelLike: TypeAlias = Classifier | str | os.PathLike[str]

PathLike = str | os.PathLike[str]


def read(
    image: "PathLike | Mammogram",
    *,
    image_id: str | None = None,
    laterality: "Laterality | None" = None,
    view: "View | None" = None,
    spacing_mm: float | None = None,
) -> "Mammogram":
    """A mammogram, its pixels (H, W) uint8 or uint16 as stored, display polarity.

    Args:
        image: an image file; or a data folder, whose images.csv says the rest; or a mammogram, which is given back, and
            beside which nothing may be given.
        image_id: which image of a data folder.
        laterality: the breast of an image file; None for what its DICOM header says, else its name
            (`p7_L_CC`), else its pixels.
        view: of an image file; None for what its DICOM header or name says.
        spacing_mm: edge of a pixel of an image file; None for what its DICOM header says, else unknown.

    Raises:
        InputError: if the image cannot be read or is not listed, neither header, name nor pixels tell the side, an
            argument has a value that is not allowed or is given beside what says it already, or a mammogram's pixels
            are not (H, W) uint8 or uint16.
    """
    from mmgkeras import images
    from mmgkeras.errors import InputError
    from mmgkeras.schema import Mammogram
    from mmgkeras.tables import read_images

    told = {"image_id": image_id, "laterality": laterality, "view": view, "spacing_mm": spacing_mm}
    given = [name for name, value in told.items() if value is not None]
    if isinstance(image, Mammogram):
        if given:
            raise InputError(f"{given[0]}: must not be given beside a mammogram, whose record says it")
        _check_pixels(image)
        return image
    path = Path(image)
    if path.exists() and path.is_dir() != (image_id is not None):
        raise InputError(f"{path}: image_id must be given for a data folder, and for that alone. Received: {image_id}")
    if image_id is not None:
        if given != ["image_id"]:
            raise InputError(f"{given[1]}: must not be given beside an image_id, whose row of images.csv says it")
        for record in read_images(path / "images.csv"):
            if record.image_id == image_id:
                return images.read(record, path)
        raise InputError(f"{path / 'images.csv'}: lists no image {image_id}")
    return images.read_single(path, laterality=laterality, view=view, spacing_mm=spacing_mm).mammogram


def prepare(
    data: PathLike, out: PathLike, *, config: "ConfigLike" = None, skip_bad: bool = False, overwrite: bool = False
) -> "PatchStore":
    """The patch store made of a data folder, which holds images.csv and regions.csv or labels.csv.

    `skip_bad` leaves out images that cannot be used; the store lists them. See `mmgkeras.patches.prepare.prepare`.
    """
    from mmgkeras.patches.prepare import prepare

    return prepare(Path(data), Path(out), _config(config).patches, skip_bad=skip_bad, overwrite=overwrite)


def split(
    store: "StoreLike", *, config: "ConfigLike" = None, folds: PathLike | None = None, overwrite: bool = False
) -> dict[str, str]:
    """The subset, A to E, of each patient of a store, also written into it as folds.csv.

    `folds` is a folds.csv of one's own, to take instead. See `mmgkeras.patches.split.split_store`.
    """
    from mmgkeras.patches.split import split_store
    from mmgkeras.patches.store import PatchStore

    chosen = None if folds is None else Path(folds)
    opened = PatchStore.open(Path(store)) if isinstance(store, str | os.PathLike) else store
    return split_store(opened, _config(config).split, folds=chosen, overwrite=overwrite)


def fit(
    store: "StoreLike",
    *,
    fold: int,
    run: PathLike,
    export: PathLike,
    config: "ConfigLike" = None,
    devices: str | None = None,
    overwrite: bool = False,
) -> "Classifier":
    """The model trained on every subset but the fold's own, exported and loaded; goes on where it was interrupted.

    Fold 1 leaves out subset A; the model is a version in the folder `export`, such as "saved_models/mine"; `devices`
    says how many GPUs or which, None all. See `mmgkeras.training.fit.fit`.
    """
    from mmgkeras.training.fit import fit

    settings, where = _config(config), Path(run)
    fitted = fit(
        _path(store), fold=fold, config=settings, run=where, export=Path(export), devices=devices, overwrite=overwrite
    )
    return load(fitted.model)


def load(model: "ModelLike") -> "Classifier":
    """The classifier of an exported model, `saved_models/<name>/<version>` or "detector", the package's own.

    It has `classify`, `score` and `localise`. See `mmgkeras.savedmodel.classifier.Classifier`.
    """
    from mmgkeras.savedmodel.classifier import Classifier
    from mmgkeras.savedmodel.detector import load_with_finer, model_folder

    return model if isinstance(model, Classifier) else load_with_finer(model_folder(Path(model)))


def detect(
    mammogram: "PathLike | Mammogram", model: "ModelLike" = "detector", *, threshold: float | None = None
) -> "Detected":
    """The marks of one mammogram as `mmgkeras predict` makes them, and the scores behind them.

    Each of `marks` has a probability of at least `threshold`; None is the model's operating point, else 0.5. Of a
    mammogram of unknown pixel size nothing is resampled: `read` takes `spacing_mm`. See
    `mmgkeras.inference.detection.detect`.
    """
    from mmgkeras.inference.detection import Detected, check_threshold, detect, find_marks

    check_threshold(threshold)
    seen, classifier = read(mammogram), load(model)
    threshold = classifier.metadata.threshold if threshold is None else threshold
    detection = detect([classifier], seen)
    marks = find_marks(detection, threshold=threshold, shape=(seen.pixels.shape[0], seen.pixels.shape[1]))
    return Detected(tuple(marks), threshold, detection)


def evaluate(
    models: "ModelLike | Iterable[ModelLike]",
    store: "StoreLike",
    *,
    out: PathLike,
    threshold: float = 0.5,
    overwrite: bool = False,
) -> "Evaluation":
    """The metrics of models on the patients that they were not trained on; predictions and metrics are written too.

    Takes an exported model, or one for each fold, and the store that they were trained on, or an external one. See
    `mmgkeras.inference.evaluate.evaluate`.
    """
    from mmgkeras.inference.evaluate import evaluate
    from mmgkeras.savedmodel.classifier import Classifier

    several = [models] if isinstance(models, str | os.PathLike | Classifier) else models
    paths = [_path(model) for model in several]
    return evaluate(paths, store=_path(store), out=Path(out), threshold=threshold, overwrite=overwrite)


def cross_validate(
    store: "StoreLike",
    configs: "PathLike | Iterable[PathLike] | Mapping[str, Config]",
    *,
    out: PathLike,
    folds: Sequence[int] | None = None,
    seeds: Sequence[int] = (0,),
    data: PathLike | None = None,
    overwrite: bool = False,
) -> Path:
    """The folder of a cross-validation: every fold of every network trained and scored; goes on where it was cut.

    `configs` are TOML files of different names, each a network that is called by its file's, or configurations by
    network name. See `mmgkeras.crossval.cross_validate.crossval`.
    """
    from mmgkeras.config import read_configs
    from mmgkeras.crossval.cross_validate import crossval

    if not isinstance(configs, Mapping):
        files = [configs] if isinstance(configs, str | os.PathLike) else configs
        configs = read_configs([Path(file) for file in files])
    source = None if data is None else Path(data)
    crossval(_path(store), configs=configs, out=Path(out), folds=folds, seeds=seeds, data=source, overwrite=overwrite)
    return Path(out)


def write_report(study: "PathLike | Study", *, out: PathLike, overwrite: bool = False) -> Path:
    """The page, `report.html`, of a finished cross-validation; its tables lie beside it as CSV and LaTeX.

    Takes the folder of a cross-validation or what `read_study` gave. See `mmgkeras.report.report.write_report`.
    """
    from mmgkeras.report.report import write_report

    folder = Path(study) if isinstance(study, str | os.PathLike) else study.folder
    return write_report(folder, out=Path(out), overwrite=overwrite)


def draw(
    mammogram: "PathLike | Mammogram", scores: "ModelLike | ScoreMap | Detected", *, threshold: float | None = None
) -> "Image":
    """The mammogram at native resolution with its calcified patches marked, and a legend below.

    Takes a model, which scores as in `mmgkeras overlay`, or what one said of this mammogram: what `score` or `detect`
    gave. Patches of at least `threshold` are marked; None is that of `detect` or the model's operating point, else
    0.5. See `mmgkeras.overlay.draw.draw`.

    Raises:
        InputError: if the scores are of another image, or as `read` and `load`.
    """
    from mmgkeras import images
    from mmgkeras.errors import InputError
    from mmgkeras.inference.detection import Detected, check_threshold, on_breast
    from mmgkeras.overlay.draw import DrawOptions, draw
    from mmgkeras.schema import ScoreMap

    check_threshold(threshold)
    shown, own, activation = read(mammogram), 0.5, None
    if isinstance(scores, Detected):
        own, activation, scores = scores.threshold, scores.detection.activation, scores.detection.score_map
    elif not isinstance(scores, ScoreMap):
        classifier = load(scores)
        own = classifier.metadata.threshold
        seen = images.at_spacing(shown, classifier.metadata.resamples_to_mm)
        scores = on_breast(classifier.score(seen), images.find_breast(seen.pixels))
    (height, width), grid, image_id = shown.pixels.shape, scores.grid, shown.record.image_id
    if scores.image_id != image_id:
        raise InputError(f"{image_id}: scores must be of this image. Received: of {scores.image_id}")
    if not images.is_resampled_shape((grid.height, grid.width), of=(height, width)):
        rule = f"scores must be of this image, {height} x {width} pixels, or of it resampled"
        raise InputError(f"{image_id}: {rule}. Received: of {grid.height} x {grid.width}")
    options = DrawOptions(threshold=own if threshold is None else threshold, activation=activation)
    return draw(shown, scores, options=options)


def _check_pixels(mammogram: "Mammogram") -> None:
    """Refuses pixels that are not (H, W) uint8 or uint16: those of a mammogram that was put together by hand."""
    import numpy as np

    from mmgkeras.errors import InputError

    pixels: Any = mammogram.pixels
    received = type(pixels).__name__
    if isinstance(pixels, np.ndarray):
        if pixels.ndim == 2 and pixels.size and pixels.dtype in (np.uint8, np.uint16):
            return
        received = f"{pixels.shape} {pixels.dtype}"
    raise InputError(
        f"{mammogram.record.image_id}: pixels must be an array (H, W) uint8 or uint16. Received: {received}"
    )


def _config(config: "ConfigLike") -> "Config":
    from mmgkeras.config import Config, read_config

    if isinstance(config, Config):
        return config
    return read_config(None if config is None else Path(config))


def _path(place: "StoreLike | ModelLike") -> Path:
    return Path(place) if isinstance(place, str | os.PathLike) else place.path
