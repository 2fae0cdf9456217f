"""What a study says of itself, in sentences for checklists, each with the places of the page that have more.

Owns the sentences. All come from the study, its store and its configurations; nothing is claimed that they do not hold.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mmgkeras import __version__
from mmgkeras.config import Config
from mmgkeras.evaluation.metrics import THRESHOLD
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION, UNKNOWN
from mmgkeras.study.read import Study


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence, as text, and the ids of what shows it in the page; ids that the page lacks are not linked."""

    text: str
    anchors: tuple[str, ...] = ()


def study_facts(study: Study, *, places: Collection[str] = ()) -> dict[str, Fact]:
    """The facts by the names that checklist items use; the same names for every study.

    Args:
        study: that is told of.
        places: ids of the page, which show what else was done.
    """
    return {**_RESULTS, **_data_facts(study), **_model_facts(study), **_further_facts(study, places=places)}


_RESULTS: Final[Mapping[str, Fact]] = {
    "goal": Fact(
        "Development and internal validation of a classifier of patches, after Sakaida et al. 2023.", ("paper",)
    ),
    "threshold": Fact(
        f"A probability of {THRESHOLD:g}, the paper's; others were chosen on patients that they are not tested on.",
        ("operating-points",),
    ),
    "input": Fact("The network sees the pixels of one patch and nothing else; nobody reads or rates them for it."),
    "output": Fact(
        "A probability of calcification for each patch, from the exported model, the same that is deployed.",
        ("headline",),
    ),
    "metrics": Fact(
        "AUC, precision-recall AUC, sensitivity, specificity, F1, predictive values, accuracy by patch and by "
        "mammogram, FROC, calibration, seconds per mammogram.",
        ("headline", "roc", "precision-recall", "froc", "calibration", "timing"),
    ),
    "paper": Fact("Compared with the published figures table by table.", ("paper",)),
    "uncertainty": Fact(
        "95 % intervals by resampling patients: within folds for the figures of performance and FROC, over all folds "
        "for subgroups, errors, the shortcut test and localisation. None for calibration and operating points.",
        ("headline",),
    ),
    "internal": Fact(
        "Cross-validation: every patch is scored by the model that did not see its patient.", ("headline",)
    ),
    "performance": Fact(
        "The paper's figures, AUC and precision-recall AUC with intervals, on tissue patches and on all.",
        ("headline", "paper"),
    ),
    "roc": Fact("ROC of every fold and their mean.", ("roc",)),
    "calibration": Fact("As trained, shifted to the field's prevalence, and recalibrated.", ("calibration",)),
    "spread": Fact("Over folds, and over seeds where there are several.", ("spread",)),
    "confusion": Fact("Confusion matrices of every network.", ("confusion",)),
    "protocol": Fact("The command, every setting and docs/protocol.md of mmgkeras.", ("provenance",)),
    "audit": Fact(
        "Of each fold, predictions.csv holds the score of every test patch, done.json the model's checksum.",
        ("provenance",),
    ),
    "ensemble": Fact("None: one model for each fold and seed."),
}
"""What the sections of every report show."""


def _data_facts(study: Study) -> dict[str, Fact]:
    predictions = study.networks[0].first.predictions
    labels = predictions["label"]
    num_positive, num_negative = (int((labels == label).sum()) for label in (CALCIFICATION, NO_CALCIFICATION))
    num_unknown = int((labels == UNKNOWN).sum())
    num_patients, num_images = int(predictions["patient_id"].nunique()), int(predictions["image_id"].nunique())
    part = num_positive / max(1, num_positive + num_negative)
    facts = {
        "patches": Fact(
            f"{num_positive:,} patches with and {num_negative:,} without calcification, of {num_images:,} mammograms "
            f"of {num_patients:,} patients.",
            ("subsets",),
        ),
        "size": Fact(
            f"Every patient is tested once: {num_patients:,} patients, {num_positive:,} positive patches. The report "
            "calculates no size in advance.",
            ("subsets", "headline"),
        ),
        "prevalence": Fact(f"{part:.1%} of the scored patches hold calcification.", ("demographics", "subsets")),
        "indeterminate": Fact(
            f"{num_unknown:,} patches of unknown label are neither trained on nor scored; the networks always decide.",
            ("data-inclusion",),
        ),
        "partition": Fact(
            f"{len(study.folds)} {'fold' if len(study.folds) == 1 else 'folds'}; the patients of one subset test, all "
            "others train.",
            ("subsets",),
        ),
        "disjoint": Fact(
            "By patient: no patient and no image with identical pixels is on both sides of a fold.", ("subsets",)
        ),
    }
    return {**facts, **(_store_facts(study.store) if study.store is not None else _UNTOLD)}


def _store_facts(store: PatchStore) -> dict[str, Fact]:
    manifest = store.manifest
    num_left_out = len({image["image_id"] for image in manifest["skipped_images"]})
    images = "image" if num_left_out == 1 else "images"
    left_out = (
        f"{num_left_out:,} {images} left out, each with its reason" if num_left_out else "No listed image left out"
    )
    spacing = "of unknown size" if store.spacing_mm is None else f"of {store.spacing_mm:g} mm at the median"
    vendors = sorted(store.images["vendor"].dropna().unique())
    devices = f"devices of {', '.join(map(str, vendors))}" if vendors else "devices not in the data"
    source = {"regions.csv": "marked findings", "labels.csv": "readers' labels of patches"}
    read_from = source.get(manifest["labels"]["read_from"], "no annotation")
    return {
        "left_out": Fact(f"{left_out}.", ("data-inclusion",)),
        "missing": Fact(
            f"{left_out}; {manifest['counts']['unknown']:,} patches of unknown label. Nothing is imputed.",
            ("data-inclusion", "demographics"),
        ),
        "preprocessing": Fact(
            f"Patches of {store.patch_px} x {store.patch_px} pixels from the bottom corner at the chest wall, outside "
            "the image 0, never resampled; pixels divided by their type's maximum.",
            ("data",),
        ),
        "acquisition": Fact(f"{store.pixel_type} pixels {spacing}; {devices}.", ("data", "demographics")),
        "reference": Fact(f"Labels of patches from {read_from}, by a fixed rule.", ("data-reference-standard",)),
        "flow": Fact("From listed images to scored patches.", ("data-inclusion",)),
        "demographics": Fact("By subset, what is unknown counted.", ("demographics",)),
        "subsets": Fact("Patients, mammograms and patches of every subset.", ("subsets",)),
        "severity": Fact("BI-RADS and pathology, as far as the data tell them.", ("demographics",)),
        "subgroups": Fact(
            "By vendor, density, view, breast and type of finding, as far as the data tell them.", ("subgroups",)
        ),
        "failures": Fact("Errors with pictures, and their rates by what may cause them.", ("errors", "confusion")),
    }


_UNTOLD: Final[Mapping[str, Fact]] = dict.fromkeys(
    (
        *("left_out", "missing", "preprocessing", "acquisition", "reference", "flow", "demographics", "subsets"),
        *("severity", "subgroups", "failures"),
    ),
    Fact("The patch store was not there when the report was made."),
)


def _model_facts(study: Study) -> dict[str, Fact]:
    configs = [network.config for network in study.networks]
    names = _either(config.model.network for config in configs)
    versions = study.crossval.get("versions") or {}
    programs = ", ".join(f"{name} {version}" for name, version in versions.items()) or f"mmgkeras {__version__}"
    return {
        "technology": Fact(f"Deep learning, convolutional networks: {names}.", ("provenance",)),
        "model": Fact(
            f"{names}, one channel repeated to three, two outputs; the exported SavedModel holds it whole. "
            f"model.normalisation: {_either(config.model.normalisation for config in configs)}.",
            ("provenance",),
        ),
        "software": Fact(f"{programs}.", ("provenance",)),
        "initial": Fact(f"Weights: {_either(config.model.weights for config in configs)}.", ("provenance",)),
        "training": Fact(f"{_either(map(_training, configs))}.", ("training", "provenance")),
        "augmentation": Fact(f"Augmentation: {_either(map(_augmentation, configs))}.", ("shortcut", "provenance")),
        "imbalance": Fact(f"Classes balanced: {_either(map(_augmentation, configs))}.", ("calibration", "provenance")),
        "selection": Fact(f"{_either(map(_selection, configs))}.", ("training",)),
        "availability": Fact(
            f"mmgkeras {__version__} is open source, Apache-2.0; models are SavedModels with a model card.",
            ("provenance",),
        ),
    }


def _further_facts(study: Study, *, places: Collection[str]) -> dict[str, Fact]:
    """What some studies do and others do not."""
    seeds = [network.first for network in study.networks]
    changed = Fact("Negatives scored darkened, turned and flipped.", ("shortcut",))
    pointed = Fact("Class activation at the last feature map, tested by the pointing game.", ("localisation",))
    compared = Fact(
        "Networks compared by the paired patient bootstrap and clustered variance, corrected by Holm.", ("differences",)
    )
    outside = Fact("The models were scored on another store.", ("external",))
    return {
        "robustness": changed if any(seed.shortcut is not None for seed in seeds) else Fact("Not tested."),
        "explanation": pointed if any(seed.pointing is not None for seed in seeds) else Fact("None was made."),
        "differences": compared if len(study.networks) > 1 else Fact("One network, so none are compared."),
        "external": outside if "external" in places else Fact("No model was scored on another store."),
    }


def _training(config: Config) -> str:
    train = config.train
    period = train.learning_rate_drop_period
    every = "every epoch" if period == 1 else f"every {period} epochs"
    epochs = "epoch" if train.epochs == 1 else "epochs"
    return (
        f"{train.epochs} {epochs} of batches of {train.batch_size}, SGD with momentum {train.momentum:g}, rate "
        f"{train.learning_rate:g} times {train.learning_rate_drop_factor:g} {every}, L2 {train.l2:g}"
    )


def _augmentation(config: Config) -> str:
    settings = config.augmentation
    factors = ", ".join(f"{factor:g}" for factor in settings.intensities)
    text = f"positives turned by quarters, flipped and darkened ({factors}), negatives flipped"
    if settings.scheme == "symmetric":
        text = f"both classes turned, flipped and darkened ({factors})"
    if settings.negatives_per_positive is not None:
        text += f", at most {settings.negatives_per_positive:g} negatives an epoch for each positive"
    if settings.min_negative_tissue:
        text += f", no negatives with breast on less than {settings.min_negative_tissue:.0%} of the patch"
    return text


def _selection(config: Config) -> str:
    held = config.train.validation_patients
    watched = f"{held:.0%} of the training patients are held out and watched" if held else "no patient is held out"
    return f"The weights after the last epoch are taken, none are chosen; {watched}"


def _either(texts: Iterable[Any]) -> str:
    """The different texts, once each."""
    different: Sequence[str] = list(dict.fromkeys(str(text) for text in texts))
    return "; or ".join(different) if any(" " in text for text in different) else ", ".join(different)
