"""`mmgkeras convert`: a model for machines without TensorFlow."""

from pathlib import Path

import click

from .console import PATH, echo, quiet_tensorflow

_EXAMPLES = """\b
Examples:
  mmgkeras convert --model saved_models/mine/1 --out mine-openvino
  mmgkeras convert --model saved_models/mine/1 --to onnx --out mine-onnx
  mmgkeras convert --model saved_models/mine/1 --int8 store --out mine-int8
"""


@click.command(epilog=_EXAMPLES, short_help="Write a model in OpenVINO's format or ONNX.")
@click.option("--model", type=PATH, required=True, help="A SavedModel's folder, NAME/VERSION, or detector.")
@click.option("--out", type=PATH, required=True, help="The folder to make.")
@click.option(
    "--to", type=click.Choice(["openvino", "onnx"]), default="openvino", show_default=True, help="The format."
)
@click.option(
    "--int8",
    "store",
    type=PATH,
    help="A patch store: quantise to 8-bit integers, if the AUC on it stays within 0.002. OpenVINO's format alone.",
)
def convert(*, model: Path, out: Path, to: str, store: Path | None) -> None:
    """Write the endpoint classify_patches of a model in another format, and check it against the model.

    What reads it needs OpenVINO or an ONNX runtime alone, no TensorFlow. It takes and gives what the endpoint does.
    """
    if store is not None and to != "openvino":
        raise click.UsageError("--int8 is for OpenVINO's format alone: leave out --to")
    quiet_tensorflow()
    from mmgkeras.savedmodel.classifier import load
    from mmgkeras.savedmodel.convert import FILES
    from mmgkeras.savedmodel.convert import convert as convert_model
    from mmgkeras.savedmodel.detector import model_folder

    classifier = load(model_folder(model))
    if store is None:
        difference = convert_model(classifier, out, to=to)  # type: ignore[arg-type]
        told = f"its probabilities are the model's to {difference:.1e}"
    else:
        from mmgkeras.inference.quantise import quantise
        from mmgkeras.patches.store import PatchStore

        told = str(quantise(classifier, PatchStore.open(store), out))
    echo(out / FILES[to])  # type: ignore[index]
    echo(f"note: {told}", err=True)
