"""The way of every importer: how a data set's files are found and read, and what comes of them is written and told.

images.csv, regions.csv and import.json come together or not at all. --overwrite replaces no other tables, nor these
once they were edited: import.json has their digests. What the files mean stands in the module of each data set.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import chain
from math import isclose
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmgkeras import __version__
from mmgkeras.errors import InputError, InputFaultsError, counted, shown
from mmgkeras.files import atomic_files, check_apart, files_below, note_on_links, sha256_file
from mmgkeras.images import ImageFacts, read_facts
from mmgkeras.images.dicom_facts import Header
from mmgkeras.json_files import CONTROL, is_unicode
from mmgkeras.patches.region_masks import BEYOND, check_region, reaches_beyond
from mmgkeras.processes import Processes
from mmgkeras.progress import Track, untracked
from mmgkeras.schema import ImageRecord, Kind, Region
from mmgkeras.tables import write_images, write_regions
from mmgkeras.tables.data_tables import MAX_AGE, MAX_SPACING_MM, image_fields

IMPORT_JSON: Final = "import.json"
_TABLES: Final = ("images.csv", "regions.csv")
_IMAGES: Final = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm")
_SAME: Final = 0.01
"""Pixel sizes that differ by less than this part are equal."""
_NUMBER: Final = re.compile(r"\d[\d.e-]*")
_In = TypeVar("_In")
_Out = TypeVar("_Out")
_FEW: Final = 500
"""Headers of fewer files are read before other processes have started."""


class Count(NamedTuple):
    """A number of the data set: what is counted, ours, and the one that its makers print ("" for none)."""

    what: str
    here: str
    printed: str = ""


@dataclass(slots=True)
class ImportReport:
    """What an importer takes of a data set, filled while it reads, and what it does not.

    Attributes:
        records: the images; a path is where the file lies.
        regions: their regions.
        skipped: one line for each row or image that should have been usable and was not.
        doubted: the images that skipped annotations are of, as their file names them; "" for one that does not tell.
        notes: one line for each known oddity of the data and how it was met.
        counts: what the data set's paper counts too.
        headers: of the DICOM files, by path.
    """

    records: list[ImageRecord] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    doubted: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    headers: dict[str, Header] = field(default_factory=dict)

    @contextmanager
    def skipping(self, place: str, *, image: str | None = None) -> Iterator[None]:
        """Lists what is wrong with an entry at this place; the block ends where it is found.

        Args:
            place: its file and line.
            image: whose annotation it is, as of `doubted`; None where it is none.
        """
        try:
            yield
        except InputError as error:
            self.doubted |= set() if image is None else {image}
            self.skipped += [f"{place}: {line}" for line in str(error).splitlines()]

    def place(self, region: Region, facts: ImageFacts, *, source: str) -> None:
        """Takes a region that lies on its image, at least in part; lists another as skipped.

        Args:
            region: in pixels of the image.
            facts: of the image.
            source: the file and line that the region is from.
        """
        with self.skipping(source):
            check_region(region, height=facts.height, width=facts.width)
            self.regions.append(region)
            if reaches_beyond(region, height=facts.height, width=facts.width):
                self.notes.append(f"{source}: image {region.image_id}, region {region.region_id}: {BEYOND}")

    def leave_out_unusable(self, out: Path) -> None:
        """Lists images as skipped whose patient is not told, or which no images.csv in the folder `out` can hold.

        They and their regions are left out, and so are the regions of images that were listed as skipped before.
        """
        numbers = Counter(one.image_id for one in self.records)
        reasons = {
            one.image_id: reason
            for one in self.records
            if (reason := _why_unusable(one, out, is_unique=numbers[one.image_id] == 1))
        }
        self.skipped += [f"{one.path}: {reasons[one.image_id]}" for one in self.records if one.image_id in reasons]
        self.records = [record for record in self.records if record.image_id not in reasons]
        taken = {record.image_id for record in self.records}
        self.regions = [region for region in self.regions if region.image_id in taken]

    def note_against_headers(self) -> None:
        """Notes where side, view or pixel size of images are not what their DICOM headers say."""
        for name in ("laterality", "view", "spacing_mm"):
            lines = []
            for record in self.records:
                taken, told = getattr(record, name), getattr(self.headers.get(record.path), name, None)
                if taken is None or told in (None, "other", taken):
                    continue
                if isinstance(told, float) and isclose(taken, told, rel_tol=_SAME):
                    continue
                lines.append(f"{record.path}: its {name} is {taken}, by its DICOM header {told}")
            self.notes += _first_of(lines)

    def count(self, what: str, here: str, printed: str = "") -> None:
        """Adds a number to `counts`."""
        self.counts.append(Count(what, here, printed))

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.records)

    @property
    def num_regions(self) -> int:
        """Number of regions."""
        return len(self.regions)

    @property
    def num_normal(self) -> int:
        """Number of images that are called normal."""
        return sum(record.is_called_normal for record in self.records)

    def num_of_kind(self, kind: Kind) -> int:
        """Number of regions of a kind."""
        return sum(region.kind == kind for region in self.regions)

    def images_with(self, *kinds: Kind) -> set[str]:
        """The images that have regions of these kinds."""
        return {region.image_id for region in self.regions if region.kind in kinds}

    def images_of(self, image_ids: Iterable[str] | None = None, *, patient: str = "patient") -> str:
        """How many images of how many patients: of all that were taken, or of these."""
        patient_of = {record.image_id: record.patient_id for record in self.records}
        ids = patient_of.keys() if image_ids is None else set(image_ids)
        num_patients = len({patient_of[image_id] for image_id in ids})
        return f"{counted(len(ids), 'image')} of {counted(num_patients, patient)}"


Reader = Callable[[Path, ImportReport, Track], None]
"""What an importer does: it reads the folder of its data set and fills the report."""


def import_data_set(
    name: str,
    read: Reader,
    source: Path,
    out: Path,
    *,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    track: Track = untracked,
) -> ImportReport:
    """Writes `out`/images.csv and `out`/regions.csv for what an importer takes; images stay where they are.

    Args:
        name: of the data set.
        read: its importer.
        source: its folder, which is only read.
        out: the data folder; the paths of images are written relative to it.
        inputs: other files that are read.
        overwrite: replace the tables if they are there as an import made them.
        track: shows progress.

    Raises:
        InputError: if `source` is no folder, `out` is an input, lies in one or holds one, the tables exist or cannot
            be written, a file of the data set is missing or cannot be read, or no image can be taken.
    """
    if not source.is_dir():
        raise InputError(f"{source}: must be the folder of {name}")
    check_apart(out / IMPORT_JSON, [source, *inputs])
    names = (*_TABLES, IMPORT_JSON)
    with atomic_files(out, names, label="import", overwrite=overwrite, is_own=_is_as_imported) as folder:
        links = note_on_links(source)
        report = ImportReport(notes=[*links])
        try:
            read(source, report, track)
            report.leave_out_unusable(out)
            report.note_against_headers()
            if not report.records:
                raise InputFaultsError([f"{source}: holds no image of {name} that can be taken", *report.skipped])
        except InputError as error:
            if not links:
                raise
            first, *others = str(error).splitlines()
            raise InputFaultsError([first, *links, *others]) from error
        records = [replace(one, path=_relative(Path(one.path), out)) for one in report.records]
        write_regions(folder / _TABLES[1], report.regions)
        write_images(folder / _TABLES[0], records)
        digests = {table: sha256_file(folder / table) for table in _TABLES}
        values = {"source": name, "mmgkeras_version": __version__, "sha256": digests}
        (folder / IMPORT_JSON).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return report


def _why_unusable(record: ImageRecord, out: Path, *, is_unique: bool) -> str | None:
    if not is_unique:
        return f"its image_id must be its own. Received: {shown(record.image_id)} of another image too; neither is used"
    if not record.patient_id.strip():
        return "its patient is not told"
    if reason := _why_not_held(record, out):
        return reason
    fields = (*image_fields(replace(record, path=_relative(Path(record.path), out))), *chain(*record.own))
    return None if is_unicode(" ".join(map(str, fields))) else "its path is not UTF-8, as images.csv is; rename it"


def _why_not_held(record: ImageRecord, out: Path) -> str | None:
    """What of a record the reader of images.csv would refuse, but for text that is not UTF-8."""
    for name, most in (("spacing_mm", MAX_SPACING_MM), ("age", MAX_AGE)):
        if (value := getattr(record, name)) is not None and not 0 < value <= most:
            return f"its {name} must be above 0 and at most {most}. Received: {value}"
    ids = {"image_id": record.image_id, "path": _relative(Path(record.path), out), "patient_id": record.patient_id}
    for name, text in ids.items():
        if CONTROL.search(text) or text != text.strip():
            return f"its {name} must have no control character, and no blank at its ends. Received: {shown(text)}"
    texts = {name: getattr(record, name) or "" for name in ("density", "birads", "pathology", "vendor")}
    for name, text in (*texts.items(), *record.own):
        if CONTROL.search(re.sub(r"[\t\n\r]", "", text)):
            return f"its {name} must have no control character. Received: {shown(text)}"
    return None


def _relative(path: Path, out: Path) -> str:
    """The path of an image as images.csv in `out` writes it."""
    return Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()


def _is_as_imported(path: Path) -> bool:
    """Whether a table is what import.json beside it says, byte for byte."""
    try:
        digests = json.loads((path.parent / IMPORT_JSON).read_text(encoding="utf-8"))["sha256"]
        return path.name == IMPORT_JSON or bool(digests[path.name] == sha256_file(path))
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False


def only_file(source: Path, *patterns: str) -> Path:
    """The one file below `source` whose name matches the first of these patterns that any does.

    Raises:
        InputError: if there is none, or several.
    """
    for pattern in patterns:
        found = files_named(source, pattern)
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{source}: must hold one file {pattern}. Received: {len(found)}")
    raise InputError(f"{source}: must hold one file {' or '.join(patterns)}. Received: none")


def files_named(source: Path, pattern: str) -> list[Path]:
    """All files below `source` whose name matches a pattern, whatever the case of its letters, in order."""
    return [path for path in files_below(source) if fnmatchcase(path.name.lower(), pattern.lower())]


def image_files(source: Path) -> list[Path]:
    """All files below `source` that are called as images are, in order."""
    return [path for path in files_below(source) if path.suffix.lower() in _IMAGES]


def find_images(
    source: Path, report: ImportReport, *, name_of: Callable[[Path], str | None], example: str
) -> dict[str, Path]:
    """The image files below `source` by the name that `name_of` gives them, None for files that are none of them.

    Two files of one name are listed as skipped, and neither is used.

    Raises:
        InputError: if there is none.
    """
    found: dict[str, list[Path]] = {}
    for path in image_files(source):
        if name := name_of(path):
            found.setdefault(name, []).append(path)
    if not found:
        raise InputError(f"{source}: must hold images such as {example}. Received: none")
    for name, paths in found.items():
        if len(paths) > 1:
            rule = f"{name} must be there once. Received: {paths[0]} too; neither is used"
            report.skipped += [f"{path}: {rule}" for path in paths[1:]]
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}


def read_all_facts(files: Mapping[str, Path], report: ImportReport, track: Track) -> dict[str, ImageFacts]:
    """Size and header of each file that can be read; the others are listed as skipped.

    What a reader should know of the headers is noted, once for all that say the same but for its numbers.
    """
    results = in_all_processes(_facts, list(files.values()), label="reading headers", few=_FEW, track=track)
    report.skipped += [result for result in results if isinstance(result, str)]
    facts = {name: result for name, result in zip(files, results, strict=True) if not isinstance(result, str)}
    told: dict[str, list[str]] = {}
    for name, one in facts.items():
        for note in one.header.notes if one.header else ():
            told.setdefault(_NUMBER.sub("", note), []).append(f"{files[name]}: {note}")
        if one.header:
            report.headers[str(files[name])] = one.header
    report.notes += chain(*map(_first_of, told.values()))
    return facts


def _first_of(lines: Sequence[str]) -> list[str]:
    """The first of lines that say the same of one image each, with how many there are."""
    return [f"{one}; alike of {counted(len(lines) - 1, 'more image')}" if lines[1:] else one for one in lines[:1]]


def in_all_processes(
    work: Callable[[_In], _Out], items: Sequence[_In], *, label: str, few: int, track: Track
) -> list[_Out]:
    """What `work` gives for each item, in order, by as many processes as there are cores; by this one for a few."""
    return list(Processes(os.cpu_count() or 1).map(work, items, label=label, track=track, few=few))


def at_size(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) of `size`: the pixel of a mask that lies under the middle of each of its pixels."""
    rows, cols = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, mask.shape, strict=True))
    return mask[np.ix_(rows, cols)]


def with_rows(
    files: Mapping[str, Path], places: Mapping[str, str], report: ImportReport, *, table: Path
) -> dict[str, Path]:
    """The files of which a table has a row; rows without a file, and files without a row, are listed as skipped.

    Args:
        files: by name.
        places: file and line of each name's row.
        report: gets what is skipped.
        table: with the rows.
    """
    report.skipped += [f"{place}: there is no image {name}" for name, place in places.items() if name not in files]
    report.skipped += [f"{path}: has no row in {table.name}" for name, path in files.items() if name not in places]
    return {name: path for name, path in files.items() if name in places}


def _facts(path: Path) -> ImageFacts | str:
    try:
        return read_facts(path)
    except InputError as error:
        return str(error)
