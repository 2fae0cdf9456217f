"""A model's card: what it is, what it was trained on, its metrics and what it is not for, beside the model itself.

Owns MODEL_CARD.md in a SavedModel's folder, in the sections of Mitchell et al. 2019, doi 10.1145/3287560.3287596; the
template beside this module has its words. All of it follows from the model's metadata and its metrics; it names no
patient. What only its makers know is left blank.
"""

from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from mmgkeras.errors import counted
from mmgkeras.evaluation.metrics import METRIC_NAMES, METRICS
from mmgkeras.evaluation.outputs import standing
from mmgkeras.evaluation.summary import Summary
from mmgkeras.files import atomic_file
from mmgkeras.savedmodel.metadata import ModelMetadata, read_metadata

MODEL_CARD: Final = "MODEL_CARD.md"
BLANK: Final = "_to be filled in by those who trained it_"
_OPERATING_POINT: Final = "\n## Operating point"
_SHOWN: Final = {
    "model": ("network", "weights"),
    "augmentation": (),
    "train": (
        "epochs",
        "batch_size",
        "learning_rate",
        "l2",
        "head_rate_factor",
        "ema_momentum",
        "initial_share",
        "seed",
    ),
}
"""Sections of the configuration and the keys of them that are shown; all where none is named."""


def write_model_card(model: Path, *, metrics: Summary | None = None) -> Path:
    """Writes or replaces MODEL_CARD.md in a SavedModel's folder; its path.

    Args:
        model: the folder, `<name>/<version>`.
        metrics: of the model's own test subset; None if it was not evaluated.

    Raises:
        InputError: if the folder is no SavedModel of ours, or cannot be written.
    """
    text = model_card(read_metadata(model), metrics=metrics)
    with atomic_file(model / MODEL_CARD, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return model / MODEL_CARD


def model_card(metadata: ModelMetadata, *, metrics: Summary | None = None) -> str:
    """The card as Markdown."""
    templates = Environment(
        loader=PackageLoader("mmgkeras.savedmodel", ""),
        autoescape=False,  # Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["counted"] = counted
    templates.filters["metric"] = lambda value: "n/a" if value is None else f"{value:.3f}"
    settings = [
        (f"{section}.{key}", value)
        for section, keys in _SHOWN.items()
        for key, value in metadata.config.get(section, {}).items()
        if not keys or key in keys
    ]
    return templates.get_template("model_card.md").render(
        model=metadata,
        settings=settings,
        metrics=metrics,
        names={name: METRIC_NAMES[name] for name in METRICS},
        standing=None if metrics is None else standing(metrics.tissue),
        blank=BLANK,
    )


def note_operating_point(model: Path) -> None:
    """Puts the operating point of a model's metadata into its card, in place of another; a model without card gets one.

    Raises:
        InputError: if the folder is no SavedModel of ours, or cannot be written.
    """
    path = model / MODEL_CARD
    if not path.is_file():
        write_model_card(model)
        return
    text = path.read_text(encoding="utf-8").partition(_OPERATING_POINT)[0]
    section = "".join(model_card(read_metadata(model)).partition(_OPERATING_POINT)[1:])
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_text(text + section, encoding="utf-8")
