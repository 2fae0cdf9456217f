"""How the networks were made: training curves, time, and where the numbers come from.

Owns these sections. They repeat what runs, models and the store wrote down and check nothing. What a store was made
with is told by the store; the keys of a configuration that a cross-validation does not use are not shown.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from mmgkeras import __version__
from mmgkeras.config import Config
from mmgkeras.evaluation.behaviour import inference_seconds, part_seconds
from mmgkeras.evaluation.bootstrap import NUM_RESAMPLES
from mmgkeras.evaluation.metrics import known
from mmgkeras.json_files import command_without_folders, without_folders
from mmgkeras.patches.split import read_store_folds
from mmgkeras.report.charts import Series, line_chart
from mmgkeras.report.content import Block, Cell, Charts, Folded, Section, Table, Text, missing
from mmgkeras.report.dataset import resampling
from mmgkeras.study.read import NetworkStudy, Study
from mmgkeras.study.run_files import SECONDS

_TRAINING: Final = (
    "One line for each fold. Metrics but those of held-out patients are of the augmented training samples, each scored "
    "while the network learned from it: they tell how the training went, not what the network is worth."
)
_CURVES: Final = (
    ("loss", "cross-entropy"),
    ("auc", "AUC, training batches"),
    ("validation_auc", "AUC, held-out patients"),
)
"""Columns of history.csv that are drawn, where they are there."""
_USED: Final = ("augmentation", "model", "train")
"""The sections of a configuration that a cross-validation uses; a store is divided and split before it."""


def training_section(study: Study) -> Section:
    """Loss and AUC of every epoch, fold and network."""
    body: list[Block] = [Text(_TRAINING)]
    pictures = []
    for network in study.networks:
        lacking = [fold for fold in study.folds if fold not in network.first.histories]
        if lacking:
            body.append(missing(f"{network.name}: no history.csv of fold {', '.join(map(str, lacking))}."))
        for column, label in _CURVES:
            series = _series(network, column)
            if not series:
                continue
            title = f"{study.labels[network.name]}: {label} by epoch"
            epochs = (0.5, max(float(np.max(one.x)) for one in series) + 0.5)
            pictures.append(
                line_chart(
                    series,
                    title=title,
                    caption=f"{title}.",
                    x_label="epoch",
                    y_label=label,
                    x_range=epochs,
                    x_ticks="whole",
                    height=270,
                )
            )
    body.append(Charts(tuple(pictures)))
    if any(network.first.histories for network in study.networks):
        body.append(_last_epochs_table(study))
    return Section(anchor="training", title="Training", body=tuple(body))


def timing_section(study: Study) -> Section:
    """Seconds for a mammogram by network: median and 95th percentile, the parts, the cold run, and the hardware."""
    title, anchor = "Time for a mammogram", "timing"
    timed = [(network, timing) for network in study.networks if (timing := network.first.timing) is not None]
    if not timed:
        return Section(anchor=anchor, title=title, body=(missing("No time was measured (there is no timing.csv)."),))
    hardware = study.crossval.hardware
    body: list[Block] = [
        Text(
            "As in the paper's 3.4.2: the inference of all patches of a mammogram, of every test mammogram. "
            "The first inference after loading is cold and stands apart."
        ),
        Text(f"Hardware: {without_folders(hardware)}.") if hardware else missing("The hardware was not written down."),
    ]
    body += [
        Table(
            name="timing_seconds",
            title="Seconds to classify all patches of one mammogram",
            columns=("Network", "Median", "95th percentile", "Mean", "Cold, median of folds", "Mammograms", "Patches"),
            rows=tuple((network.name, *inference_seconds(timing)) for network, timing in timed),
            note="Patches: median of a mammogram.",
        ),
        Table(
            name="timing_parts",
            title="Median seconds of each part",
            columns=("Network", "Read", "Divide", "Infer", "Draw", "All parts"),
            rows=tuple((network.name, *part_seconds(timing, SECONDS)) for network, timing in timed),
            note="Draw: the marked mammogram at its own resolution. n/a: not measured.",
        ),
    ]
    others = [network.name for network in study.networks if network.first.timing is None]
    if others:
        body.append(missing(f"Not timed: {', '.join(others)}."))
    return Section(anchor=anchor, title=title, body=tuple(body))


def provenance_section(study: Study, *, num_resamples: int = NUM_RESAMPLES) -> Section:
    """The command, what it ran on, the store, and every used key of the configuration that is not the default."""
    body: list[Block] = [_facts(study, num_resamples=num_resamples), _store_facts(study), _keys(study)]
    for network in study.networks:
        used = network.config.model_dump(mode="json", include=set(_USED))
        text = without_folders(json.dumps(used, indent=1))
        body.append(Folded(f"Whole configuration of {network.name}", text))
    return Section(anchor="provenance", title="Provenance", body=tuple(body))


def _facts(study: Study, *, num_resamples: int) -> Table:
    crossval = study.crossval
    facts = {
        "command": command_without_folders(crossval.command),
        "begun": crossval.created,
        "folds": ", ".join(map(str, study.folds)),
        "seeds": ", ".join(map(str, sorted(crossval.seeds))),
        "hardware": crossval.hardware,
        **{f"version of {name}": version for name, version in crossval.versions.items()},
        "version of mmgkeras, this report": __version__,
        "resamples": f"{num_resamples:,} of patients, seed 0",
    }
    return _facts_table("provenance_facts", "How this came to be", facts)


def _store_facts(study: Study) -> Table:
    stored, store = study.crossval.store, study.store
    facts: dict[str, Any] = {
        "store": _name(stored.path),
        "checksum": stored.checksum,
        "SHA-256 of its folds.csv": stored.folds_sha256,
        "data folder": None if study.crossval.data is None else _name(study.crossval.data),
    }
    if store is not None:
        labels = store.manifest.labels
        facts |= {
            "made by mmgkeras": store.manifest.mmgkeras_version,
            "made on": store.manifest.created,
            "patch size (px)": store.patch_px,
            "stride (px)": store.stride_px,
            "pixel type": store.pixel_type,
            "images": resampling(store),
            "labels read from": labels.read_from,
            "label source": labels.label_source,
            "fraction of a cluster region that makes a patch positive": labels.cluster_fraction,
            "marks that make a patch positive": labels.min_marks,
            "subsets of patients": len(set(read_store_folds(store).values())),
        }
    note = "" if store is not None else "The store was not there: what it was made with is not known."
    return _facts_table("provenance_store", "The patch store", facts, note=note)


def _facts_table(name: str, title: str, facts: Mapping[str, Any], *, note: str = "") -> Table:
    rows = tuple((what, None if value is None else without_folders(str(value))) for what, value in facts.items())
    return Table(name=name, title=title, columns=("What", "Value"), rows=rows, note=note)


def _name(path: Path) -> str:
    return path.name if path.is_absolute() else str(path)


def _keys(study: Study) -> Table:
    """Each used key that any network sets otherwise than the default, and its value in each."""
    defaults = dict(_flat(Config()))
    values = {network.name: dict(_flat(network.config)) for network in study.networks}
    # The seed of the configuration is replaced by those of the cross-validation.
    changed = [
        key
        for key in defaults
        if key != "train.seed" and any(of_network[key] != defaults[key] for of_network in values.values())
    ]
    return Table(
        name="configuration",
        title="Settings that differ from the defaults",
        columns=("Key", "Default", *values),
        rows=tuple(
            (key, _text(defaults[key]), *(_text(of_network[key]) for of_network in values.values())) for key in changed
        ),
        note="Every other key has its default: the paper's value, or ours where the paper is silent; docs/protocol.md "
        "says which.",
    )


def _flat(config: Config) -> Iterator[tuple[str, Any]]:
    for section, keys in config.model_dump(mode="json", include=set(_USED)).items():
        for key, value in keys.items():
            yield f"{section}.{key}", value


def _text(value: Any) -> str:
    return "none" if value is None else without_folders(value) if isinstance(value, str) else json.dumps(value)


def _series(network: NetworkStudy, column: str) -> list[Series]:
    return [
        Series(label=f"fold {fold}", x=history["epoch"], y=history[column], style=place, form="marked")
        for place, (fold, history) in enumerate(network.first.histories.items())
        if column in history.columns and history[column].notna().any()
    ]


def _last_epochs_table(study: Study) -> Table:
    named = {"loss": "Loss", "auc": "AUC, training", "validation_auc": "AUC, held out"}
    histories = [
        (network.name, fold, history)
        for network in study.networks
        for fold, history in network.first.histories.items()
        if len(history)
    ]
    shown = [name for name in named if any(name in history.columns for _, _, history in histories)]
    rows: list[tuple[Cell, ...]] = []
    for network, fold, history in histories:
        last = history.iloc[-1]
        speed = known(last.get("patches_per_second"))
        values = [known(last.get(name)) for name in shown]
        rows.append((network, f"fold {fold}", len(history), *values, None if speed is None else round(speed)))
    return Table(
        name="last_epoch",
        title="The last epoch of each training",
        columns=("Network", "Fold", "Epochs", *(named[name] for name in shown), "Patches per second"),
        rows=tuple(rows),
    )
