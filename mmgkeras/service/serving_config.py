"""A folder that TensorFlow Serving serves as it is: both servables of each model, and every file that it is told by.

Owns the names of those files, which versions are served, and what the labels `stable` and `canary` stand for. A version
that is there is never changed; `mmgkeras serve` reads the same folder.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from jinja2 import Environment, PackageLoader, StrictUndefined
from tensorflow_serving.config import model_server_config_pb2

from mmgkeras.errors import InputError, shown
from mmgkeras.files import atomic_file, is_nobodys
from mmgkeras.locks import locks_output
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.detector import FINER, load_with_finer
from mmgkeras.savedmodel.servable import PATCHES_SUFFIX, load_servable, write_servables
from mmgkeras.service.rest_api import RestApi, ServedModel
from mmgkeras.service.warm_up import BATCH_SIZES, WARM_UP, write_warm_up

MODELS: Final = "models"
MODELS_CONFIG: Final = "models.config"
BATCHING_PARAMETERS: Final = "batching_params.pbtxt"
"""In a version's folder: how a server batches its requests. Without it each is run by itself."""
FILES: Final = (MODELS_CONFIG, "batching.config", "monitoring.config", "prometheus.yml", "compose.yaml")
STABLE, CANARY = "stable", "canary"
_BASE: Final = "/serving/models"
"""Where the folder of models is inside the container."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_FIRST_LINE: Final = "# Written by mmgkeras serve-config"


@dataclass(frozen=True, slots=True)
class ServedVersions:
    """Which versions of one name are served, and their labels."""

    versions: tuple[int, ...]
    labels: Mapping[str, int] = field(default_factory=dict)


@locks_output("out")
def write_serving_config(
    *, out: Path, classifier: Classifier | None = None, name: str = "", version: int = 0, stable: int | None = None
) -> dict[str, ServedVersions]:
    """Adds a model to the folder, or changes which version is stable, and writes all files anew.

    The first version of a model is stable. A later one is the canary, until it is made stable. Both are served, under
    their numbers and labels; older ones stay on the disk.

    Args:
        out: the folder, new or written by this.
        classifier: the model to add, its finer one with it as `<name>-finer`; None to add none.
        name: of that model, or of the one whose version is made stable; empty for the only one there is.
        version: of that model.
        stable: the version to label so, of the finer one too where it has it; None for the one that is, or the first.

    Returns:
        What is served, by name.

    Raises:
        InputError: if the folder is not this command's, there is no such model or version, or the version that is
            there is another model's.
    """
    served = _read_versions(out)
    if classifier is not None:
        if not _NAME.fullmatch(name):
            raise InputError(f"a model's name must be letters, digits, - _ and . alone. Received: {name!r}")
        if classifier.finer is not None:  # first, for without it fine images would go to the other
            _add(out, classifier.finer, name=f"{name}-{FINER}", version=version)
        _add(out, classifier, name=name, version=version)
    names = sorted(path.name for path in (out / MODELS).glob("*/"))
    if not names:
        raise InputError(f"{out}: serves no model yet; give one")
    asked = name or names[0]
    own, finer = ([one, f"{one}{PATCHES_SUFFIX}"] for one in (asked, f"{asked}-{FINER}"))
    if stable is not None and (asked not in names or (not name and not {*names} <= {*own, *finer})):
        raise InputError(f"{out}: name the model whose version is to be stable. Allowed: {', '.join(names)}")
    of_name = [*own, *(one for one in finer if (out / MODELS / one / str(stable)).is_dir())]
    chosen = {
        one: _choose(out / MODELS / one, served.get(one), stable=stable if one in of_name else None) for one in names
    }
    _write_files(out, chosen)
    return chosen


def read_serving_folder(folder: Path) -> tuple[RestApi, Classifier, str]:
    """The models of a folder that `write_serving_config` wrote, loaded.

    Returns:
        What answers, and for the page the stable version of the first model and its name; with its finer model, if the
        same version of that was added too.

    Raises:
        InputError: if it is none, or a model cannot be used.
    """
    versions = _read_versions(folder)
    models = {
        name: ServedModel(
            {number: load_servable(folder / MODELS / name / str(number)) for number in served.versions}, served.labels
        )
        for name, served in versions.items()
    }
    for name, served in versions.items():
        version = str(served.labels.get(STABLE, served.versions[0]))
        patches, finer = (folder / MODELS / f"{one}{PATCHES_SUFFIX}" / version for one in (name, f"{name}-{FINER}"))
        if patches.is_dir():
            return RestApi(models), load_with_finer(patches, is_folded=True, finer=finer), name
    raise InputError(f"{folder}: serves no model with its patches; add one with serve-config")


def _add(out: Path, classifier: Classifier, *, name: str, version: int) -> None:
    for path in write_servables(classifier, out / MODELS, name=name, version=version):
        servable = load_servable(path)
        if not (path / WARM_UP).exists():
            write_warm_up(path / WARM_UP, servable, classifier.metadata)
        if path.parent.name != name and not (path / BATCHING_PARAMETERS).exists():
            with atomic_file(path / BATCHING_PARAMETERS) as temporary:
                temporary.write_text(_template("batching_params.pbtxt", batch_sizes=BATCH_SIZES), encoding="utf-8")


def _choose(model: Path, before: ServedVersions | None, *, stable: int | None) -> ServedVersions:
    """The versions of a model's folder that are served."""
    there = sorted(int(path.name) for path in model.iterdir() if path.name.isdecimal())
    if stable is None:
        stable = there[0] if before is None else before.labels.get(STABLE, there[0])
    if stable not in there:
        raise InputError(f"{model}: has no version {stable}. Allowed: {', '.join(map(str, there))}")
    newest = there[-1]
    labels = {STABLE: stable} if newest <= stable else {STABLE: stable, CANARY: newest}
    return ServedVersions(tuple(sorted(set(labels.values()))), labels)


def _read_versions(out: Path) -> dict[str, ServedVersions]:
    """What models.config says; nothing where the folder is new."""
    path = out / MODELS_CONFIG
    if not path.is_file():
        if out.exists() and (
            not out.is_dir() or any(one.name != MODELS and not is_nobodys(one) for one in out.iterdir())
        ):
            raise InputError(f"{out}: holds no {MODELS_CONFIG} and is not empty; name another place")
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        raise InputError(f"{path}: is no model configuration: {str(error).splitlines()[0]}") from error
    served = {
        model.name: ServedVersions(
            tuple(model.model_version_policy.specific.versions), dict(sorted(model.version_labels.items()))
        )
        for model in config.model_config_list.config
    }
    for name, told in served.items():
        if not told.versions or not {*told.labels.values()} <= {*told.versions}:
            raise InputError(f"{path}: must name the versions of {shown(name)} that are served, and label no others")
    return served


def _write_files(out: Path, chosen: Mapping[str, ServedVersions]) -> None:
    for file in FILES:
        path = out / file
        if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(_FIRST_LINE):
            raise InputError(f"{path}: was not made by this command; name another place")
    for file in FILES:
        text = _template(file, served=chosen, base=_BASE)
        with atomic_file(out / file, overwrite=True) as temporary:
            temporary.write_text(f"{_FIRST_LINE}. For research use, never for diagnosis.\n{text}", encoding="utf-8")


def _template(name: str, **values: object) -> str:
    templates = Environment(
        loader=PackageLoader("mmgkeras.service", "templates"),
        autoescape=False,  # no HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return templates.get_template(name).render(**values)
