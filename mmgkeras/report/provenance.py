"""Where the numbers come from: command, store, versions, hardware, configuration.

Owns the section. It repeats what was written down and checks nothing.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from mmgkeras import __version__
from mmgkeras.config import Config
from mmgkeras.evaluation.bootstrap import NUM_RESAMPLES
from mmgkeras.report.table import Section, Table
from mmgkeras.study.read import Study


def provenance_section(study: Study, *, num_resamples: int = NUM_RESAMPLES) -> Section:
    """The command, what it ran on, and every key of the configuration that is not the default."""
    body: list[str | Table] = [_facts(study, num_resamples=num_resamples), _keys(study)]
    for network in study.networks:
        text = json.dumps(network.config.model_dump(mode="json"), indent=1)
        summary = f"<summary>Whole configuration of {escape(network.name)}</summary>"
        body.append(f"<details>{summary}<pre>{escape(text)}</pre></details>")
    return Section(anchor="provenance", title="Provenance", body=tuple(body))


def _facts(study: Study, *, num_resamples: int) -> Table:
    crossval = study.crossval
    facts = {
        "command": _told(crossval["command"]),
        "begun": crossval.get("created"),
        "store": _told(crossval["store"].get("path")),
        "store checksum": crossval["store"].get("checksum"),
        "SHA-256 of its folds.csv": crossval["store"].get("folds_sha256"),
        "data folder": _told(crossval.get("data")),
        "folds": ", ".join(map(str, study.folds)),
        "seeds": ", ".join(map(str, sorted(crossval["seeds"]))),
        "hardware": crossval.get("hardware"),
        **{f"version of {name}": version for name, version in _versions(crossval).items()},
        "version of mmgkeras, this report": __version__,
        "resamples": f"{num_resamples:,} of patients, seed 0",
    }
    return Table(
        name="provenance_facts",
        title="How this came to be",
        columns=("What", "Value"),
        rows=tuple((name, None if value is None else str(value)) for name, value in facts.items()),
    )


def _told(command: str | None) -> str | None:
    """The words of a command, or a path, without the folders of absolute paths: those are nobody else's affair."""
    if command is None:
        return None
    words = shlex.split(command)
    return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in words)


def _versions(crossval: Mapping[str, Any]) -> Mapping[str, Any]:
    versions = crossval.get("versions")
    return versions if isinstance(versions, dict) else {}


def _keys(study: Study) -> Table:
    """Each key that any network sets otherwise than the default, and its value in each."""
    defaults = dict(_flat(Config().model_dump(mode="json")))
    values = {network.name: dict(_flat(network.config.model_dump(mode="json"))) for network in study.networks}
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


def _flat(config: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    for section, keys in config.items():
        for key, value in keys.items():
            yield f"{section}.{key}", value


def _text(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
