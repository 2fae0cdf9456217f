"""`mmgkeras threshold`: a new version of a model that carries its own threshold."""

import math
from pathlib import Path

import click

from .console import PATH, PROBABILITY, echo, quiet_tensorflow

_EXAMPLES = """\b
Examples:
  mmgkeras threshold --model saved_models/mine-1/1 --operating-point sensitivity=0.9 --predictions validation.csv
  mmgkeras threshold --model saved_models/mine-1/1 --operating-point false-positives=0.5 \\
      --predictions crossval/resnet18/seed0/predictions.csv --store store
  mmgkeras threshold --model saved_models/mine-1/1 --threshold 0.3
"""
_TARGETS = {"sensitivity": "sensitivity", "false-positives": "false_positives_per_image"}


def _target(_context: click.Context, _option: click.Parameter, value: str | None) -> dict[str, float] | None:
    """`sensitivity=0.9` or `false-positives=0.5` as the keyword argument of the library and its value."""
    if value is None:
        return None
    name, _, text = value.partition("=")
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    is_right = 0 < number <= 1 if name == "sensitivity" else name in _TARGETS and 0 <= number < math.inf
    if not is_right:
        raise click.BadParameter(
            "must be sensitivity=S, S above 0 and at most 1, or false-positives=N, N an image, 0 or more. "
            f"Received: {value!r}"
        )
    return {_TARGETS[name]: number}


@click.command(epilog=_EXAMPLES, short_help="Give a model the threshold at which it decides.")
@click.option("--model", type=PATH, required=True, help="A SavedModel's folder, NAME/VERSION.")
@click.option(
    "--operating-point",
    "target",
    callback=_target,
    metavar="TARGET=NUMBER",
    help="What must be reached on --predictions: sensitivity=0.9, of patches, or false-positives=0.5, an image.",
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
@click.option("--threshold", "value", type=PROBABILITY, help="Instead of --operating-point: the threshold itself.")
def threshold(
    *, model: Path, target: dict[str, float] | None, files: tuple[Path, ...], store: Path | None, value: float | None
) -> None:
    """Copy a model into the next free version, with the threshold at which it decides.

    `mmgkeras overlay` then marks at that threshold. Scores do not change, and `mmgkeras evaluate` still reports at 0.5,
    as in the paper, unless told otherwise. The predictions to choose from must not be of the patients on whom the model
    is tested: of a file with all folds the model's own is left out, and that fold alone is refused. Without --store, a
    file's rows of the model's own fold must be of all patients of its test subset or of all in its validation.csv. The
    predictions.csv of `mmgkeras evaluate` lacks patients without a patch of known label: give --store with it. Of
    mammograms that the model has not learned from, that is the store that was evaluated.
    """
    is_chosen = target is not None and bool(files) and value is None
    is_given = value is not None and target is None and not files and store is None
    if not is_chosen and not is_given:
        raise click.UsageError("Give --operating-point and --predictions, or --threshold alone.")
    quiet_tensorflow()
    from mmgkeras.evaluation.operating_point import OperatingPoint
    from mmgkeras.inference.threshold import choose_operating_point
    from mmgkeras.savedmodel.detector import add_version_with_finer

    if value is not None:
        point = OperatingPoint(value, "given", None, "nothing")
    else:
        chosen = choose_operating_point(model, files, store=store, **(target or {}))
        point = chosen.operating_point
        for line in (*chosen.notes, f"threshold {point.threshold:.4f}, chosen from {point.fitted_on}", chosen.text()):
            echo(f"note: {line}", err=True)
    echo(add_version_with_finer(model, point))


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
