"""The versions of a model: numbered folders in `saved_models/<name>`, of which TF Serving takes the highest."""

from pathlib import Path


def next_version(model: Path) -> int:
    """One more than the highest version in a model's folder; 1 for a new one."""
    names = [path.name for path in model.iterdir()] if model.is_dir() else []
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)
