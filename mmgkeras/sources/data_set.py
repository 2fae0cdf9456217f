"""What the importer of a public data set writes, and what it tells of it.

images.csv, regions.csv and import.json come together or not at all. --overwrite replaces no other tables, nor these
once they were edited: import.json has their digests.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmgkeras import __version__
from mmgkeras.files import atomic_files, check_apart, sha256_file
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.tables import write_images, write_regions

IMPORT_JSON: Final = "import.json"
_TABLES: Final = ("images.csv", "regions.csv")


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import wrote, and what it did not.

    Attributes:
        num_images, num_regions: written.
        skipped: one line for each row or image that should have been usable and was not.
        notes: one line for each known oddity of the data and how it was met.
    """

    num_images: int
    num_regions: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...]


@contextmanager
def import_files(out: Path, *, inputs: Iterable[Path], overwrite: bool) -> Iterator[Path]:
    """Yields the folder for `write_import`; its files go to `out` together when the block ends, or none does.

    Raises:
        InputError: if `out` is an input, lies in one or holds one, or the tables exist or cannot be written.
    """
    check_apart(out / IMPORT_JSON, inputs)
    names = (*_TABLES, IMPORT_JSON)
    with atomic_files(out, names, label="import", overwrite=overwrite, is_own=_is_as_imported) as folder:
        yield folder


def write_import(folder: Path, *, name: str, records: Sequence[ImageRecord], regions: Sequence[Region]) -> None:
    """Writes the two tables, and the data set's name and their digests as import.json."""
    write_regions(folder / _TABLES[1], regions)
    write_images(folder / _TABLES[0], records)
    digests = {table: sha256_file(folder / table) for table in _TABLES}
    values = {"source": name, "mmgkeras_version": __version__, "sha256": digests}
    (folder / IMPORT_JSON).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def relative_path(path: Path, out: Path) -> str:
    """The path of an image as images.csv in `out` writes it."""
    return Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()


def _is_as_imported(path: Path) -> bool:
    """Whether a table is what import.json beside it says, byte for byte."""
    try:
        digests = json.loads((path.parent / IMPORT_JSON).read_text(encoding="utf-8"))["sha256"]
        return path.name == IMPORT_JSON or bool(digests[path.name] == sha256_file(path))
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False
