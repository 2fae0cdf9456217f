"""Anyone's images and annotations, by an `image_mapping` that says what their names and words mean.

Owns how it makes rows of images.csv; how regions are written in the formats of annotation tools is
`annotation_formats`', which image they mean `image_names`'.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Final

from mmgkeras.errors import InputError, counted, shown
from mmgkeras.files import files_below, is_nobodys
from mmgkeras.images import ImageFacts, is_dicom_file, is_image_file
from mmgkeras.progress import Track
from mmgkeras.schema import ANNOTATIONS, LATERALITIES, SIDES, VIEWS, ImageRecord, Region
from mmgkeras.sources.annotation_formats import CLASS_FILES, FORMATS, Annotation, read_class_names
from mmgkeras.sources.annotation_tables import Row, read_rows
from mmgkeras.sources.data_set import ImportReport, image_files, read_all_facts
from mmgkeras.sources.image_mapping import OF_FILES, OF_HEADERS, CsvColumns, ImageMapping
from mmgkeras.sources.image_names import ImageNames, full_name, without_ending
from mmgkeras.tables.rows import finite

_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "laterality": LATERALITIES,
    "view": VIEWS,
    "annotation": ANNOTATIONS,
    "chest_wall": SIDES,
}
_NUMBERS: Final = ("spacing_mm", "age")
_DEFAULTS: Final = {
    "image_id": "{file}",
    "laterality": "{dicom_laterality}",
    "view": "{dicom_view}",
    "spacing_mm": "{dicom_spacing_mm}",
    "vendor": "{dicom_vendor}",
}
_NEEDED: Final = ("image_id", "patient_id", "laterality", "view", "annotation")
_ANY: Final = ""
"""The full name of what does not tell its image: a region of any image may have been skipped."""
_WORD: Final = re.compile(r"\{(\w+)\}")


def read_mapped_table(source: Path, report: ImportReport, track: Track, *, mapping: ImageMapping) -> None:
    """Takes the images below `source` that a mapping names, and their regions.

    Raises:
        InputError: if a file is missing or cannot be read, or no image is found.
    """
    files = _find_images(source, mapping, report)
    facts = read_all_facts(files, report, track)
    rows = _read_table(source, mapping, files, report)
    _check_words(mapping, rows, report)
    ids: dict[str, str] = {}
    taken: set[str] = set()
    for name, fact in facts.items():
        with report.skipping(str(files[name])):
            if mapping.table is not None and name not in rows:
                raise InputError(f"has no row in {mapping.table}")
            fields = _fields(name, path=files[name], facts=fact, mapping=mapping, row=rows.get(name))
            record = _record(files[name], fields, mapping)
            if record.image_id in taken:
                raise InputError(f"image_id must be unique. Received: {shown(record.image_id)} again")
            ids[name] = record.image_id
            taken.add(record.image_id)
            report.records.append(record)
    _place_regions(source, mapping, files=files, facts=facts, ids=ids, report=report)
    report.count("images", report.images_of())
    for kind in ("calcification", "cluster", "other"):
        report.count(f"regions of kind {kind}", f"{report.num_of_kind(kind):,}")


def _find_images(source: Path, mapping: ImageMapping, report: ImportReport) -> dict[str, Path]:
    """The images by their path below the folder: files that are called so, and DICOM files whatever they are called."""
    wanted, called = set(source.glob(_any_case(mapping.images))), set(image_files(source))
    files: dict[str, Path] = {}
    others = []
    for path in files_below(source):
        if path not in wanted or path.name.upper() == "DICOMDIR":
            continue
        if path in called or is_dicom_file(path):
            files[path.relative_to(source).as_posix()] = path
        elif is_image_file(path):
            others.append(path)
    if not files:
        raise InputError(f"{source}: must hold images {mapping.images}. Received: none")
    if others:
        text = f"images by their first bytes and not by their ending, passed over: {len(others):,}, such as {others[0]}"
        report.notes.append(f"{text}; rename them to use them")
    return files


def _any_case(pattern: str) -> str:
    """The same pattern of paths with the ending in capitals too, where it is one of several files."""
    name, dot, ending = pattern.rpartition(".")
    if not (dot and ending.isalnum() and re.search(r"[*?\[]", name.rpartition("/")[2])):
        return pattern
    return f"{name}.{''.join(f'[{one.lower()}{one.upper()}]' if one.isalpha() else one for one in ending)}"


def _read_table(source: Path, mapping: ImageMapping, files: Mapping[str, Path], report: ImportReport) -> dict[str, Row]:
    """The row of each image."""
    if mapping.table is None or mapping.table_image is None:
        return {}
    words = set(_used_words(mapping)) - set(OF_FILES)
    table, is_used = source / mapping.table, lambda name: _word(name) in words
    found = read_rows(table, [mapping.table_image], report=report, is_used=is_used)
    called = [(full_name(row[mapping.table_image]), row) for row in found]
    names = ImageNames(files, pattern=mapping.images, called=(name for name, _ in called))

    def used(row: Row) -> dict[str, str]:
        return {key: value for key, value in row.values.items() if _word(key) in words}

    rows: dict[str, Row] = {}
    for name, row in called:
        with report.skipping(row.place):
            image = names.image_of(name)
            if used(rows.setdefault(image, row)) != used(row):
                raise InputError(f"{image} must have one row, or rows that say the same of it; the first is taken")
    return rows


def _fields(name: str, *, path: Path, facts: ImageFacts, mapping: ImageMapping, row: Row | None) -> dict[str, str]:
    """What may stand in {} for an image."""
    header = facts.header
    fields = {"file": without_ending(path.name).strip(), "folder": path.parent.name}
    for key in OF_HEADERS:
        value = getattr(header, key) if header else None
        fields[f"dicom_{key}"] = "" if value is None else str(value)
    if mapping.pattern:
        match = re.search(mapping.pattern, name)
        if match is None:
            raise InputError(f"the pattern must be found in its path. Received: {shown(name)}")
        fields = fields | {key: value or "" for key, value in match.groupdict().items()} | fields
    if row is not None:
        fields = fields | {_word(key): value for key, value in row.values.items()} | fields
    return fields


def _word(column: str) -> str:
    """What stands for a column of a table in {}."""
    return re.sub(r"\W", "_", column)


def _used_words(mapping: ImageMapping) -> list[str]:
    """What stands in {} in the mapping, each once."""
    return list(dict.fromkeys(name for text in mapping.image.values() for name in _WORD.findall(text)))


def _check_words(mapping: ImageMapping, rows: Mapping[str, Row], report: ImportReport) -> None:
    """Notes where {file} and the like are no column of that name.

    Raises:
        InputError: if a {name} of the mapping may mean two things: two columns, or a column and a group of the pattern.
    """
    columns = next((list(row.values) for row in rows.values()), [])
    for name in _used_words(mapping):
        told = [f"column {shown(column)} of {mapping.table}" for column in columns if _word(column) == name]
        if name in OF_FILES:
            report.notes.extend(f"{{{name}}} is of the image file, not {one}: rename it to use it" for one in told)
            continue
        told += ["a group of the pattern"] * (name in re.compile(mapping.pattern).groupindex)
        if len(told) > 1:
            raise InputError(f"{{{name}}} must have one meaning; rename the other. Received: {' and '.join(told)}")


def _record(path: Path, fields: Mapping[str, str], mapping: ImageMapping) -> ImageRecord:
    values: dict[str, object] = {"path": str(path)}
    for column, template in {**_DEFAULTS, **mapping.image}.items():
        text = _filled(template, fields)
        text = mapping.words.get(column, {}).get(text, text).strip()
        if not text and column in _NEEDED:
            raise InputError(f"{column} must not be empty; image.{column} is {shown(template)}")
        if text and column in _CHOICES and text not in _CHOICES[column]:
            hint = f"[words.{column}] may translate it"
            raise InputError(f"{column} must be one of {', '.join(_CHOICES[column])}; {hint}. Received: {shown(text)}")
        number = finite(text) if column in _NUMBERS else None
        if column in _NUMBERS and text and (number is None or number <= 0):
            raise InputError(f"{column} must be a number above 0. Received: {shown(text)}")
        values[column] = number if column in _NUMBERS else text or None
    return ImageRecord(**values)  # type: ignore[arg-type]


def _filled(template: str, fields: Mapping[str, str]) -> str:
    unknown = [name for name in _WORD.findall(template) if name not in fields]
    if unknown:
        raise InputError(f"{{{unknown[0]}}} must be one of {', '.join(fields)}")
    return _WORD.sub(lambda match: fields[match[1]], template)


def _place_regions(
    source: Path,
    mapping: ImageMapping,
    *,
    files: Mapping[str, Path],
    facts: Mapping[str, ImageFacts],
    ids: Mapping[str, str],
    report: ImportReport,
) -> None:
    """Takes the regions of all annotation files; images of which one may be missing are not complete."""
    annotations, doubted = _annotations(source, mapping, report)
    names = ImageNames(files, pattern=mapping.images, called=(one.image for one in annotations))
    numbers = dict.fromkeys(ids, 0)
    for one in annotations:
        before = len(report.skipped)
        with report.skipping(one.source):
            kind = mapping.kinds.get(one.label) or mapping.kinds.get("*")
            if kind is None:
                raise InputError(f"[kinds] must name the label, or *. Received: {shown(one.label)}")
            name = names.image_of(one.image)
            if name not in ids:
                raise InputError(f"its image {name} was not taken")
            if one.size not in (None, facts[name][:2]):
                rule = f"must be of the image's size, {facts[name][:2]} rows and columns"
                raise InputError(f"{rule}. Received: {one.size}")
            numbers[name] += 1
            points = one.points
            if one.is_relative:
                height, width = facts[name][:2]
                points = tuple((row * height - 0.5, col * width - 0.5) for row, col in points)
            region = Region(ids[name], f"r{numbers[name]}", kind, one.shape, points)
            report.place(region, facts[name], source=one.source)
        if len(report.skipped) > before:
            doubted.add(one.image)
    doubtful = set(ids) if _ANY in doubted else {image for called in doubted for image in names.candidates(called)}
    _make_partial({ids[name] for name in doubtful if name in ids}, report)


def _make_partial(image_ids: Set[str], report: ImportReport) -> None:
    """Takes back that these images are complete, and tells how many are so without a region."""
    complete = {one.image_id for one in report.records if one.annotation == "complete"}
    if lowered := complete & image_ids:
        text = "annotations that may be theirs are listed as skipped"
        report.notes.append(f"annotation of {counted(len(lowered), 'image')} is partial instead of complete: {text}")
        report.records[:] = [
            replace(one, annotation="partial") if one.image_id in lowered else one for one in report.records
        ]
    if free := complete - lowered - {region.image_id for region in report.regions}:
        report.notes.append(f"{len(free):,} complete images have no region: all their patches are negative")


def _annotations(source: Path, mapping: ImageMapping, report: ImportReport) -> tuple[list[Annotation], set[str]]:
    """The regions of all annotation files, and the images of which some were skipped; both by full name."""
    taken: list[Annotation] = []
    doubted: set[str] = set()
    if mapping.annotations is None or mapping.format is None:
        return taken, doubted
    others = CLASS_FILES if mapping.format == "yolo" else ()
    paths = sorted(
        path
        for path in source.glob(_any_case(mapping.annotations))
        if path.is_file() and not is_nobodys(path) and path.name not in others
    )
    if not paths:
        raise InputError(f"{source}: must hold annotations {mapping.annotations}. Received: none")
    classes = _class_names(source, {path.parent for path in paths} if mapping.format == "yolo" else (), report)
    for path in paths:
        file = path.relative_to(source).as_posix()
        of_file, names = ImportReport(), classes.get(path.parent, {})
        try:
            if mapping.format == "csv" and mapping.csv is not None:
                found = _csv_annotations(path, mapping.csv, of_file)
            else:
                found = FORMATS[mapping.format](path, of_file)
            for one in found:
                label = one.label if one.label in mapping.kinds else names.get(one.label, one.label)
                image = full_name(one.image, file=file, pattern=mapping.annotations)
                taken.append(one._replace(image=image, label=label))
        except InputError as error:
            of_file.skipped.append(str(error))
            of_file.doubted.add(path.stem if mapping.format == "yolo" else _ANY)
        report.skipped += of_file.skipped
        doubted |= {full_name(called, file=file, pattern=mapping.annotations) for called in of_file.doubted}
    return taken, doubted


def _class_names(source: Path, folders: Iterable[Path], report: ImportReport) -> dict[Path, dict[str, str]]:
    """The names of YOLO's classes by number, by the folder of the files; notes where they stand."""
    found = {folder: read_class_names(folder, source=source) for folder in folders}
    told = sorted({path for path, _ in found.values() if path is not None})
    report.notes.extend(f"{path}: names the classes of YOLO's files" for path in told)
    return {folder: names for folder, (_, names) in found.items()}


def _csv_annotations(path: Path, columns: CsvColumns, report: ImportReport) -> Iterator[Annotation]:
    """The regions of a CSV file or workbook; rows without numbers are of images without a region."""
    ((shape, names),) = columns.shapes.items()
    needed = [columns.image, *filter(None, [columns.label]), *names]
    for row in read_rows(path, needed, report=report):
        if not any(row[name] for name in names):
            continue
        with report.skipping(row.place, image=row[columns.image]):
            first, second, *others = (row.number(name) for name in names)
            points = [(second, first)]
            if shape == "box":
                points.append((others[1], others[0]))
            elif shape == "circle":
                points.append((others[0], others[0]))
            label = row[columns.label] if columns.label else ""
            yield Annotation(row.place, row[columns.image], label, shape, tuple(points))
