"""mmgkeras: calcification detection in mammograms at full resolution. For research, never for diagnosis.

Owns the public face: `import mmgkeras as mg` loads nothing, and each name below loads what it needs when it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmgkeras.api import cross_validate, detect, draw, evaluate, fit, load, prepare, read, split, write_report

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "cross_validate",
    "detect",
    "draw",
    "evaluate",
    "fit",
    "load",
    "prepare",
    "read",
    "split",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """A function of `mmgkeras.api`, imported at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmgkeras import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
