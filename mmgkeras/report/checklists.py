"""Reporting checklists as tables: what the report answers, and blanks for what only the group knows.

Owns the values that fill the answers. Items and answers are data: a file for each checklist in `checklist_items/`, and
answers.toml, whose entries the items name.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from mmgkeras import __version__
from mmgkeras.config import Config, ModelConfig
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.json_files import without_folders
from mmgkeras.report.content import Answer, Block, Checklist, Heading, Section, Table, Text
from mmgkeras.report.dataset import native, resampling
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN
from mmgkeras.study.read import NetworkStudy, Study

CHECKLISTS: Final = ("claim", "tripod_ai", "stard_ai")
_INTRO: Final = (
    "Items are paraphrased and were not held against the journals' own tables. What the study says is filled in, with "
    "a link to where this page shows it; what only the group knows is left blank. For a submission the official "
    "checklists must be used, with page and line of the manuscript."
)
_NO_STORE: Final = "The patch store was not there when the report was made."
_FROM_NORMAL: Final = ", and negatives also from mammograms called normal"
_ASSUMED: Final = "Unmarked patches of mammograms called normal are assumed to be free of calcification"
_LABELS_FROM: Final = {"regions.csv": "marked findings", "labels.csv": "readers' labels of patches"}


def checklists_section(study: Study, *, sections: Sequence[Section]) -> Section:
    """CLAIM, TRIPOD+AI and STARD-AI, filled from a study, with links to the other sections of its page."""
    titles = _titles(sections)
    answers = study_answers(study, titles=titles)
    body: list[Block] = [Text(_INTRO)]
    for name in CHECKLISTS:
        checklist = read_items(name)
        items = [item for part in checklist["parts"] for item in part["items"]]
        count = f"{sum('wanted' not in item for item in items)} of {len(items)} items and parts are answered here"
        body.append(Heading(checklist["name"], checklist["anchor"]))
        body.append(Text(f"{checklist['source']} {count}; the others need the group.", "note"))
        body.append(Checklist(checklist["parts"], answers))
    return Section(anchor="checklists", title="Reporting checklists", body=tuple(body))


def read_items(name: str) -> dict[str, Any]:
    """A file of `checklist_items/`, as it is written there."""
    return tomllib.loads((files(__package__) / "checklist_items" / f"{name}.toml").read_text(encoding="utf-8"))


def study_answers(study: Study, *, titles: Mapping[str, str]) -> dict[str, Answer]:
    """What a study says, by the names that items use; `titles` are of the parts of the page that can be linked to."""
    firsts = [network.first for network in study.networks]
    there = {
        "store": study.store is not None,
        "shortcut": any(first.shortcut is not None for first in firsts),
        "pointing": any(first.pointing is not None for first in firsts),
        "networks": len(study.networks) > 1,
        "external": "external" in titles,
    }
    values = {**_data_values(study), **_store_values(study), **_model_values(study)}
    answers = {}
    for name, entry in read_items("answers").items():
        if there.get(entry.get("needs"), True):
            links = tuple((anchor, titles[anchor]) for anchor in entry.get("shown", ()) if anchor in titles)
            texts = (entry["text"].format(**values, train=network.config.train) for network in study.networks)
            answers[name] = Answer(" Or: ".join(dict.fromkeys(texts)), links)
        else:
            answers[name] = Answer(entry.get("otherwise", _NO_STORE))
    return answers


def _titles(sections: Sequence[Section]) -> dict[str, str]:
    """The title of each part of the page that can be linked to, by its id."""
    titles: dict[str, str] = {}
    for section in sections:
        titles[section.anchor] = section.title
        for block in section.body:
            if isinstance(block, Table):
                titles.setdefault(block.name, block.title)
            elif isinstance(block, Heading) and block.anchor:
                titles.setdefault(block.anchor, block.text)
    return titles


def _data_values(study: Study) -> dict[str, Any]:
    predictions = study.networks[0].first.predictions
    counts = {label: int((predictions["label"] == label).sum()) for label in (CALCIFICATION, NO_CALCIFICATION, UNKNOWN)}
    return {
        "threshold": THRESHOLD,
        "num_positive": counts[CALCIFICATION],
        "num_negative": counts[NO_CALCIFICATION],
        "num_unknown": counts[UNKNOWN],
        "num_images": int(predictions["image_id"].nunique()),
        "num_patients": int(predictions["patient_id"].nunique()),
        "prevalence": counts[CALCIFICATION] / max(1, counts[CALCIFICATION] + counts[NO_CALCIFICATION]),
        "num_folds": len(study.folds),
    }


def _store_values(study: Study) -> dict[str, Any]:
    store = study.store
    if store is None:
        return {}
    spacing, labels = native(store, "spacing_mm"), store.manifest.labels
    is_assumed = labels.label_source == "assumed"
    return {
        "num_left_out": len({image.image_id for image in store.manifest.skipped_images}),
        "patch_px": store.patch_px,
        "pixel_type": store.pixel_type,
        "resampling": resampling(store),
        "spacing": f"of {spacing.median():g} mm at the median" if spacing.notna().any() else "of unknown size",
        "vendors": ", ".join(sorted(map(str, store.images["vendor"].dropna().unique()))) or "not in the data",
        "labels_from": _LABELS_FROM.get(labels.read_from, "no annotation") + (_FROM_NORMAL if is_assumed else ""),
        "imputed": _ASSUMED if is_assumed else "Nothing is imputed",
    }


def _model_values(study: Study) -> dict[str, Any]:
    configs = [network.config for network in study.networks]
    versions = study.crossval.versions or {"mmgkeras": __version__}
    return {
        "networks": _either(_network(config.model) for config in configs),
        "normalisation": _either(config.model.normalisation for config in configs),
        "weights": _either(map(_weights, study.networks)),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "version": __version__,
        "augmentation": _either(map(_augmentation, configs)),
        "selection": _either(map(_selection, configs)),
        "training_side": _either(map(_training_side, configs)),
    }


def _network(config: ModelConfig) -> str:
    width = "" if config.width == 1 else f" of width {config.width:g}"
    return f"{config.network}{width}" + ("" if config.pooling == "average" else f" with {config.pooling} pooling")


def _weights(network: NetworkStudy) -> str:
    """What a network began with; of a model that others may have trained, also what is known of its patients."""
    text = without_folders(network.config.model.weights)
    if any(environment.started_from for environment in network.first.environments.values()):
        text += ", a trained model; whether it knew test patients was told by store and division alone"
    return text


def _augmentation(config: Config) -> str:
    settings = config.augmentation
    factors = ", ".join(f"{factor:g}" for factor in settings.intensities)
    is_paper = settings.scheme == "paper"
    text = f"{'positives' if is_paper else 'both classes'} turned by quarters and flipped"
    text += f", darkened ({factors})" if len(settings.intensities) > 1 else ""
    text += ", negatives flipped" if is_paper else ""
    if settings.insertion:
        text += f", phantom calcifications put into {settings.insertion:.0%} of the negatives on tissue"
        text += ", which are positives then"
    if settings.negatives_per_positive is not None:
        text += f", at most {settings.negatives_per_positive:g} negatives an epoch for each positive"
    if settings.min_negative_tissue:
        text += f", no negatives with breast on less than {settings.min_negative_tissue:.0%} of the patch"
    return text


def _selection(config: Config) -> str:
    train = config.train
    taken = (
        "moving averages of the weights over the steps" if train.ema_momentum else "the weights after the last epoch"
    )
    if share := train.initial_share:
        taken = f"{1 - share:.0%} of {taken} and {share:.0%} of the initial weights"
    held = f"{train.validation_patients:.0%} of the training patients are held out and watched"
    return f"{taken} are exported; {held if train.validation_patients else 'no patient is held out'}"


def _training_side(config: Config) -> str:
    return "all others train" + (" but for those held out" if config.train.validation_patients else "")


def _either(texts: Iterable[str]) -> str:
    return "; or ".join(dict.fromkeys(texts))
