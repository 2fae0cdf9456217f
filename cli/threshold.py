"""`mmgkeras threshold`: a new version of a model that carries its own threshold."""

import math
from pathlib import Path

import click

from .console import PATH, PROBABILITY, NumberRange, echo, quiet_tensorflow, track

_EXAMPLES = """\b
Examples:
  mmgkeras threshold --model saved_models/mine-1/1 --operating-point sensitivity=0.9 --predictions validation.csv
  mmgkeras threshold --model saved_models/mine-1/1 --operating-point false-positives=0.5 \\
      --predictions crossval/resnet18/seed0/predictions.csv --store store
  mmgkeras threshold --model saved_models/mine-1/1 --threshold 0.3
  mmgkeras threshold --model detector --operating-point marks=0.5 --images screening/ --export saved_models/clinic
"""
_MARKS = "marks"
_LEAST_MARKS = 0.001
_TARGETS = {"sensitivity": "sensitivity", "false-positives": "false_positives_per_image", _MARKS: _MARKS}


def _target(_context: click.Context, _option: click.Parameter, value: str | None) -> dict[str, float] | None:
    """`sensitivity=0.9` or `false-positives=0.5` as the keyword argument of the library and its value; `marks=0.5`."""
    if value is None:
        return None
    name, _, text = value.partition("=")
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    least = _LEAST_MARKS if name == _MARKS else 0
    is_right = 0 < number <= 1 if name == "sensitivity" else name in _TARGETS and least <= number < math.inf
    if not is_right:
        raise click.BadParameter(
            "must be sensitivity=S, S above 0 and at most 1, false-positives=N, N an image, 0 or more, or marks=N, "
            f"N an image, {_LEAST_MARKS:g} or more. Received: {value!r}"
        )
    return {_TARGETS[name]: number}


@click.command(epilog=_EXAMPLES, short_help="Give a model the threshold at which it decides.")
@click.option("--model", type=PATH, required=True, help="A SavedModel's folder, NAME/VERSION, or detector.")
@click.option(
    "--operating-point",
    "target",
    callback=_target,
    metavar="TARGET=NUMBER",
    help="What must be reached: on --predictions sensitivity=0.9, of patches, or false-positives=0.5, an image; on "
    "--images marks=0.5, an image.",
)
@click.option(
    "--predictions",
    "files",
    type=PATH,
    multiple=True,
    help="What to choose it from; repeatable: the fold's validation.csv, or predictions.csv of the other folds.",
)
@click.option(
    "--store",
    type=PATH,
    help="The patch store that the model was trained on, to check each patient against its test subset; or another "
    "one, of your own mammograms, that all predictions are of.",
)
@click.option(
    "--images",
    type=PATH,
    multiple=True,
    help="What to choose it from instead: your own mammograms without calcification; repeatable: files, folders, or an "
    "images.csv.",
)
@click.option(
    "--spacing-mm",
    type=NumberRange(0, 100, min_open=True),
    help="The edge of a pixel of --images.  [default: by images.csv or DICOM header]",
)
@click.option("--threshold", "value", type=PROBABILITY, help="Instead of --operating-point: the threshold itself.")
@click.option("--export", "place", type=PATH, help="Folder of the new version.  [default: the model's own]")
@click.pass_context
def threshold(
    ctx: click.Context,
    *,
    model: Path,
    target: dict[str, float] | None,
    files: tuple[Path, ...],
    store: Path | None,
    images: tuple[Path, ...],
    spacing_mm: float | None,
    value: float | None,
    place: Path | None,
) -> None:
    """Copy a model into the next free version, with the threshold at which it decides.

    `mmgkeras predict` and `overlay` then mark at that threshold. Scores do not change, and `mmgkeras evaluate` still
    reports at 0.5, as in the paper, unless told otherwise.

    A number of marks an image is chosen on mammograms that show no calcification, some hundred of your own device;
    nobody needs to annotate them. The detector's own threshold is one for phantoms. Files that cannot be read are
    listed, and the exit code is 1 then.

    Predictions to choose from must not be of the patients on whom the model is tested: of a file with all folds the
    model's own is left out, and that fold alone is refused. Without --store, a file's rows of the model's own fold must
    be of all patients of its test subset or of all in its validation.csv. The predictions.csv of `mmgkeras evaluate`
    lacks patients without a patch of known label: give --store with it. Of mammograms that the model has not learned
    from, that is the store that was evaluated.
    """
    of_marks = target is not None and _MARKS in target
    given = {"predictions": bool(files), "images": bool(images), "value": value is not None}
    needed = "value" if target is None else "images" if of_marks else "predictions"
    is_alone = (store is None or bool(files)) and (spacing_mm is None or bool(images))
    if [name for name, is_given in given.items() if is_given] != [needed] or not is_alone:
        raise click.UsageError(
            "Give --operating-point and --predictions, --operating-point marks=N and --images, or --threshold alone."
        )
    quiet_tensorflow()
    from mmgkeras.evaluation.operating_point import OperatingPoint
    from mmgkeras.inference.mark_rate import choose_for_marks
    from mmgkeras.inference.threshold import choose_operating_point
    from mmgkeras.savedmodel.detector import add_version_with_finer, check_new_version
    from mmgkeras.schema import probability_text

    folder = check_new_version(model, export=place)
    skipped: dict[Path, str] = {}
    if value is not None:
        point, notes = OperatingPoint(value, "given", None, "nothing"), []
    elif target is not None and of_marks:
        marked = choose_for_marks(folder, images, per_image=target[_MARKS], spacing_mm=spacing_mm, track=track)
        point, notes, skipped = marked.operating_point, [*marked.notes, marked.text()], marked.skipped
    else:
        chosen = choose_operating_point(folder, files, store=store, **(target or {}))
        point, notes = chosen.operating_point, [*chosen.notes, chosen.text()]
    if point.kind != "given":
        notes.insert(-1, f"threshold {probability_text(point.threshold, decimals=4)}, chosen from {point.fitted_on}")
    for note in notes:
        echo(f"note: {note}", err=True)
    echo(add_version_with_finer(folder, point, export=place))
    for path, reason in skipped.items():
        echo(f"error: {path}: {reason}", err=True)
    if skipped:
        ctx.exit(1)


export = click.Command(
    name="export",
    params=threshold.params,
    callback=threshold.callback,
    help=threshold.help,
    epilog=threshold.epilog,
    hidden=True,
    deprecated="It exports nothing: use mmgkeras threshold.",
)
"""The command's earlier name, which answers for one release."""
