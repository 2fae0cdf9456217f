"""`mmgkeras convert`: a model for machines without TensorFlow."""

from pathlib import Path

import click

from .console import PATH, echo, quiet_tensorflow

_EXAMPLES = """\b
Examples:
  mmgkeras convert --model saved_models/mine/1 --out mine-openvino
"""


@click.command(epilog=_EXAMPLES, short_help="Write a model in OpenVINO's format.")
@click.option("--model", type=PATH, required=True, help="A SavedModel's folder, NAME/VERSION, or detector.")
@click.option("--out", type=PATH, required=True, help="The folder to make.")
def convert(*, model: Path, out: Path) -> None:
    """Write the endpoint classify_patches of a model in OpenVINO's format, and check it against the model.

    What reads it needs OpenVINO alone, no TensorFlow. It takes and gives what the endpoint does.
    """
    quiet_tensorflow()
    from mmgkeras.savedmodel.classifier import load
    from mmgkeras.savedmodel.convert import OPENVINO_FILE
    from mmgkeras.savedmodel.convert import convert as convert_model
    from mmgkeras.savedmodel.detector import model_folder

    difference = convert_model(load(model_folder(model)), out)
    echo(out / OPENVINO_FILE)
    echo(f"note: its probabilities are the model's to {difference:.1e}", err=True)
