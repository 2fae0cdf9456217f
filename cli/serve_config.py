"""`mmgkeras serve-config`: a folder that TensorFlow Serving serves as it is."""

from pathlib import Path

import click

from .console import PATH, echo, quiet_tensorflow

_EXAMPLES = """\b
Examples:
  mmgkeras serve-config --model saved_models/mine/1 --out serving
  mmgkeras serve-config --model saved_models/mine/2 --out serving      adds a canary
  mmgkeras serve-config --stable 2 --out serving                       makes it stable
"""


@click.command("serve-config", epilog=_EXAMPLES, short_help="Write all that TensorFlow Serving reads.")
@click.option("--out", type=PATH, required=True, help="The folder: new, or written by this command.")
@click.option("--model", type=PATH, help="A model to add: a SavedModel's folder, NAME/VERSION, or detector.")
@click.option("--stable", type=click.IntRange(min=1), help="The version that the label stable stands for.")
@click.option("--name", default="", help="Whose version, where there are several.  [default: the model's]")
def serve_config(*, out: Path, model: Path | None, stable: int | None, name: str) -> None:
    """Write a folder that TensorFlow Serving serves as it is: models, configuration, warm-up, compose.yaml.

    A model is added as two: NAME, which takes whole encoded mammograms, and NAME-patches; so is NAME-finer, its finer
    model, where it has one. The first version is labelled stable, a later one canary until --stable makes it stable;
    --stable with an earlier one goes back to it.
    """
    if model is None and stable is None:
        raise click.UsageError("Give --model, --stable, or both.")
    quiet_tensorflow()
    from mmgkeras.service.serving import add_to_serving_folder

    models = add_to_serving_folder(out, model=model, name=name, stable=stable)
    for served, versions in models.items():
        labels = ", ".join(f"{label} {version}" for label, version in versions.labels.items())
        echo(f"{served}: {labels}")
    echo(f"note: docker compose --project-directory {out} --profile cpu up", err=True)
