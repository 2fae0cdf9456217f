"""`mmgkeras evaluate`: what models are worth on the patients that they have not seen."""

from pathlib import Path

import click

from .console import PATH, PROBABILITY, echo, quiet_tensorflow, track

_EXAMPLES = """\b
Examples:
  mmgkeras evaluate --model saved_models/resnet18-fold1/1 --store store --out evaluation
  mmgkeras evaluate --predictions evaluation/predictions.csv --threshold 0.3 --out at-0.3
"""


@click.command(epilog=_EXAMPLES, short_help="Score models on patients that they have not seen.")
@click.option(
    "--model",
    "models",
    type=PATH,
    multiple=True,
    help="A SavedModel's folder, NAME/VERSION. Repeat it with one model for each fold.",
)
@click.option(
    "--store",
    type=PATH,
    help="The patch store that the models were trained on, or one of the same folds.csv (their test subsets are "
    "scored), or an external one (all).",
)
@click.option(
    "--predictions",
    "files",
    type=PATH,
    multiple=True,
    help="Instead of --model and --store: predictions.csv of earlier runs, to take the metrics from again.",
)
@click.option(
    "--twins",
    type=PATH,
    help="A store of the same images without calcification; with --predictions, a twins.csv of an earlier run.",
)
@click.option("--out", type=PATH, required=True, help="The folder for the tables.")
@click.option(
    "--threshold",
    type=PROBABILITY,
    default=0.5,
    show_default=True,
    help="A probability of at least this says calcification.",
)
@click.option("--overwrite", is_flag=True, help="Replace the tables that are there.")
def evaluate(
    *,
    models: tuple[Path, ...],
    store: Path | None,
    files: tuple[Path, ...],
    twins: Path | None,
    out: Path,
    threshold: float,
    overwrite: bool,
) -> None:
    """Score a model's own test subset, or an external store, and tell what the scores are worth.

    Writes predictions.csv, metrics.json, metrics.csv and mammograms.csv into a folder, and prints the metrics.
    """
    from mmgkeras.evaluation.outputs import as_text

    if files and not models and store is None:
        from mmgkeras.evaluation.outputs import recompute_metrics

        summary = recompute_metrics(files, out=out, twins=twins, threshold=threshold, overwrite=overwrite)
        is_external = False
    elif models and store is not None and not files:
        quiet_tensorflow()
        from mmgkeras.inference.evaluate import evaluate as evaluate_models

        evaluation = evaluate_models(
            models, store=store, out=out, twins=twins, threshold=threshold, overwrite=overwrite, track=track
        )
        summary, is_external = evaluation.summary, evaluation.is_external
        for note in evaluation.notes:
            echo(f"note: {note}", err=True)
    else:
        raise click.UsageError("Give --model and --store, or --predictions alone.")
    echo(as_text(summary, is_external=is_external))
