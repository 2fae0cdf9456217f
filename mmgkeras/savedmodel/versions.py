"""The versions of a model: numbered folders in `saved_models/<name>`, of which TF Serving takes the highest."""

import dataclasses
import shutil
from pathlib import Path

from mmgkeras.errors import InputError
from mmgkeras.evaluation.operating_point import OperatingPoint
from mmgkeras.files import atomic_folder
from mmgkeras.savedmodel.metadata import read_metadata, write_metadata
from mmgkeras.savedmodel.model_card import note_operating_point


def next_version(model: Path) -> int:
    """One more than the highest version in a model's folder; 1 for a new one."""
    names = [path.name for path in model.iterdir()] if model.is_dir() else []
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)


def add_version(model: Path, operating_point: OperatingPoint) -> Path:
    """Copies a model into the next free version with an operating point in metadata and card, whole or not at all.

    The network is copied as it is: scores do not change, only what is called by default.

    Returns:
        The new version's folder, beside the model's.

    Raises:
        InputError: if the folder is no SavedModel of ours or no numbered version, or cannot be copied.
    """
    metadata = read_metadata(model)
    if not model.name.isdecimal():
        raise InputError(f"{model}: must be a version's folder, saved_models/NAME/1. Received: {model.name!r} as last")
    path = model.with_name(str(next_version(model.parent)))
    with atomic_folder(path) as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
        write_metadata(dataclasses.replace(metadata, operating_point=operating_point), folder)
        note_operating_point(folder)
    return path
