"""A folder of DICOM files, as a hospital sends it, turned into a data folder that names no patient.

The images are written as PNG, which keeps the pixels exactly: a DICOM file holds the patient's name, and often its path
does too. What identifies stays outside the data folder, in two files that only the user may read: the key, without
which no id leads back to a patient, and the table of which file is which row of import.csv.

Owns ids, what is left out besides what `images` refuses, and import.csv.
"""

import csv
import hmac
import json
import os
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image

from mmgkeras import __version__
from mmgkeras.errors import InputError, InputFaultsError, errors_of_writing
from mmgkeras.files import (
    atomic_file,
    atomic_folder,
    check_apart,
    check_outputs,
    files_below,
    give,
    note_on_links,
    write_whole,
)
from mmgkeras.images import find_breast, find_chest_wall, read_with_header
from mmgkeras.images.dicom_facts import HEAD_BYTES, Header, Kind, is_dicom
from mmgkeras.locks import output_lock, resumable_work, work_digest
from mmgkeras.patches.shards import pixel_sha256
from mmgkeras.processes import HERE, Workers, kept
from mmgkeras.progress import Track, untracked
from mmgkeras.schema import ImageRecord, Pixels
from mmgkeras.sources.dicomdir import read_dicomdir
from mmgkeras.tables import folded_id, says_nothing, without_zeros, write_images
from mmgkeras.tables.cells import to_cell
from mmgkeras.tables.rows import write_table

IMPORT_CSV: Final = "import.csv"
_TABLE_HEAD: Final = b"file,path\n"
COLUMNS: Final = ("file", "result", "image_id", "voi", "remark")
"""Of import.csv: `file` is the keyed hash of the path, `result` "taken" or "left out", `voi` as of `Header`."""
_OWNED: Final = ("import.json", IMPORT_CSV, "images.csv", "images/*.png")
_ID_CHARACTERS: Final = 16
_KEY_CHARACTERS: Final = 32
"""The least that a key must have."""


@dataclass(frozen=True, slots=True)
class DicomImport:
    """What an import wrote, and what it did not.

    Attributes:
        num_images, num_patients: written.
        left_out: how many files for each reason.
        num_damaged: files among them that are damaged or cannot be read.
        notes: what a reader must know besides, one line each.
        key, files: of the user alone.
    """

    num_images: int
    num_patients: int
    left_out: Counter[str]
    num_damaged: int
    notes: tuple[str, ...]
    key: Path
    files: Path


@dataclass(frozen=True, slots=True)
class _Found:
    """What came of one file: an image, or the reason why not.

    Attributes:
        file: keyed hash of its path, and name of the PNG until it has its own.
        instance: keyed hash of its SOP Instance UID.
        pixel_sha256: of its image.
        record: of the image; None where it is left out.
        remark: the reason, or notes on what was taken.
        voi: as of `Header`.
        alike: keyed hash of the Patient ID without leading zeros.
    """

    file: str
    instance: str
    record: ImageRecord | None
    remark: str
    voi: str = ""
    pixel_sha256: str = ""
    alike: str = ""


def import_dicom(
    source: Path,
    out: Path,
    *,
    key: Path | None = None,
    voi: int = 1,
    take: Collection[Kind] = (),
    workers: Workers = HERE,
    overwrite: bool = False,
    track: Track = untracked,
) -> DicomImport:
    """Writes `out`/images.csv, `out`/images/*.png and `out`/import.csv for all DICOM files of a folder or a DICOMDIR.

    If it is killed, the same call goes on after the last image that it had finished.

    Args:
        source: the folder, of which other files are left out, or a DICOMDIR, of which the files that it names count.
        out: the data folder; its images have the annotation "none".
        key: file with the secret of the ids, made where there is none; None for the name of `out` with .key. The same
            key gives the same patients the same ids. Beside it is written, as the name of `out` with .files.csv, which
            file is which row of import.csv.
        voi: which VOI LUT or window is applied where a file has several, from 1.
        take: what is taken besides mammograms for presentation.
        workers: who reads the files and writes the images.
        overwrite: replace a folder that this function made.
        track: called with the files.

    Raises:
        InputError: if the source is no folder and no DICOMDIR, or holds no mammogram that can be taken, the key cannot
            be used, or `out` or the table exists and `overwrite` is not set, or cannot be written.
    """
    if not source.exists():
        raise InputError(f"{source}: must be a folder with DICOM files, or a DICOMDIR")
    key = key or out.parent / f"{out.name}.key"
    table = key.parent / f"{out.name}.files.csv"
    check_apart(key, [source])
    root = source if source.is_dir() else source.parent
    paths, links = (files_below(source), note_on_links(source)) if root == source else (read_dicomdir(source), [])
    # Not of the secret, on which the names of all that is kept depend.
    digest = work_digest("import dicom", source.resolve(), voi, sorted(take))
    with output_lock(out), resumable_work(out, digest=digest) as work:
        check_outputs([out], overwrite=overwrite, inputs=[source, key])
        # A table without its folder is of a call that was killed before the folder was there.
        replaces = overwrite or (not out.exists() and _is_table(table))
        check_outputs([table], overwrite=replaces, inputs=[source, out, key])
        secret = _read_or_make_key(key)
        with atomic_folder(out, overwrite=overwrite, owned=_OWNED) as temporary:
            convert = partial(_convert, root=root, work=work, secret=secret, voi=voi, take=tuple(take))
            found = _without_copies(workers.map(convert, paths, label="read DICOM files", track=track))
            records = sorted((one.record for one in found if one.record), key=lambda record: record.image_id)
            if not records:
                fault = f"{source}: holds no mammogram that can be taken. Received: {_listed(found)}"
                raise InputFaultsError([fault, *links])
            (temporary / "images").mkdir()
            for one in found:
                if one.record:
                    give(work / f"{one.file}.png", temporary / one.record.path)
            write_images(temporary / "images.csv", records)
            write_table(temporary / IMPORT_CSV, columns=COLUMNS, rows=_rows(found))
            values = {"source": "DICOM", "mmgkeras_version": __version__, "voi": voi, "take": sorted(take)}
            (temporary / "import.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
            _write_private_table(table, zip((one.file for one in found), paths, strict=True), overwrite=replaces)
    reasons = Counter(one.remark for one in found if not one.record)
    num_patients = len({record.patient_id for record in records})
    return DicomImport(
        num_images=len(records),
        num_patients=num_patients,
        left_out=reasons,
        num_damaged=sum(n for reason, n in reasons.items() if reason.startswith(("is damaged", "cannot be read"))),
        notes=(*links, *_notes(found, num_patients=num_patients, num_images=len(records))),
        key=key,
        files=table,
    )


def _listed(found: Sequence[_Found]) -> str:
    reasons = Counter(one.remark for one in found).most_common(5)
    return "; ".join(f"{number} of {len(found)} files: {reason}" for reason, number in reasons) or "no file"


def _convert(path: Path, *, root: Path, work: Path, secret: bytes, voi: int, take: Collection[Kind]) -> _Found:
    """Puts the image of one file into the folder of the work, under the hash of its path, or finds it there."""
    file = _hashed(secret, "file", os.path.relpath(path, root))

    def make() -> dict[str, Any]:
        found, pixels = _read(path, file=file, secret=secret, voi=voi, take=take)
        if pixels is not None:
            png = BytesIO()
            Image.fromarray(pixels).save(png, format="PNG", compress_level=3)
            write_whole(work / f"{file}.png", png.getvalue())
        return asdict(found)

    values = kept(work / f"{file}.json", path, make)
    record = values["record"]
    return _Found(**{**values, "record": record and ImageRecord(**record)})


def _read(path: Path, *, file: str, secret: bytes, voi: int, take: Collection[Kind]) -> tuple[_Found, Pixels | None]:
    """What comes of one file, and its pixels where it is taken."""

    def left_out(reason: object) -> tuple[_Found, None]:
        return _Found(file, "", None, str(reason)), None

    try:
        with path.open("rb") as opened:
            if not is_dicom(opened.read(HEAD_BYTES)):
                return left_out("is no DICOM file")
        pixels, header = read_with_header(path, voi=voi, take=take)
    except OSError as error:
        return left_out(f"cannot be read: {error.strerror or type(error).__name__}")
    except InputError as error:
        return left_out(error.__cause__)  # without the file's name
    if header is None or (reason := _useless(header)) or header.laterality is None:
        return left_out(reason if header else "was changed while it was read")
    instance = _hashed(secret, "image", header.instance or file)
    patient = _hashed(secret, "patient", folded_id(header.patient))
    image_id = f"{patient}_{header.laterality}_{header.view or 'other'}_{instance[1:9]}"
    record = ImageRecord(
        image_id=image_id,
        path=f"images/{image_id}.png",
        patient_id=patient,
        laterality=header.laterality,
        view=header.view or "other",
        annotation="none",
        spacing_mm=header.spacing_mm,
        vendor=header.vendor,
    )
    wall, notes = find_chest_wall(find_breast(pixels), header)
    if wall not in (None, record.chest_wall_side):
        notes = (*notes, f"the chest wall lies at the {wall} edge: it hangs mirrored, or the side is wrong")
        record = replace(record, chest_wall=wall)
    if says_nothing(header.patient):
        notes = (*notes, "its Patient ID stands for nobody, so that several patients may be one")
    remark = "; ".join((*header.notes, *notes))
    alike = _hashed(secret, "patient", without_zeros(folded_id(header.patient)))
    return _Found(file, instance, record, remark, header.voi, pixel_sha256(pixels), alike), pixels


def _useless(header: Header) -> str | None:
    """Why an image cannot be taken that can be read."""
    if not folded_id(header.patient):
        return "has no Patient ID, so that its patient cannot be told from others"
    if header.laterality is None:
        return "does not tell which breast it shows"
    if header.chest_wall in ("top", "bottom"):
        return f"lies on its side: by Patient Orientation the chest wall is at the {header.chest_wall} edge"
    return None


def _hashed(secret: bytes, kind: str, text: str) -> str:
    """The kind's letter, for no program may take an id for a number, and the first characters of HMAC-SHA256."""
    message = f"{kind}\0{text}".encode(errors="surrogateescape")
    return kind[0] + hmac.new(secret, message, "sha256").hexdigest()[:_ID_CHARACTERS]


def _without_copies(found: Iterable[_Found]) -> list[_Found]:
    """The same, with each image but once: the first file of each SOP Instance UID and pixels.

    One that has the UID of an earlier file and other pixels, as where a program that removes names gave all the same,
    has its file in its id instead.
    """
    seen: dict[str, set[str]] = {}
    kept = []
    for one in found:
        others = seen.setdefault(one.instance, set()) if one.record else set()
        if one.record and one.pixel_sha256 in others:
            kept.append(replace(one, record=None, remark="is a copy of another file's image", voi=""))
            continue
        kept.append(_told_apart(one, one.record) if one.record and others else one)
        others.add(one.pixel_sha256)
    return kept


def _told_apart(one: _Found, record: ImageRecord) -> _Found:
    image_id = f"{record.image_id.rpartition('_')[0]}_{one.file[1:9]}"
    remark = "another file has its SOP Instance UID and other pixels"
    return replace(
        one,
        record=replace(record, image_id=image_id, path=f"images/{image_id}.png"),
        remark=f"{one.remark}; {remark}" if one.remark else remark,
    )


def _rows(found: Sequence[_Found]) -> list[tuple[str, ...]]:
    """Of import.csv, in the order of the hashes, which says nothing of the files."""
    return sorted(
        (one.file, "taken", one.record.image_id, one.voi, one.remark)
        if one.record
        else (one.file, "left out", "", "", one.remark)
        for one in found
    )


def _notes(found: Sequence[_Found], *, num_patients: int, num_images: int) -> tuple[str, ...]:
    notes = []
    remarked = sum(bool(one.remark) for one in found if one.record)
    if remarked:
        notes.append(f"{remarked} of the images have a remark in {IMPORT_CSV}")
    unknown = sum(one.record.spacing_mm is None for one in found if one.record)
    if unknown:
        notes.append(f"the pixel size of {unknown} of the images is not known")
    if num_images == num_patients > 1:
        notes.append("each image has a Patient ID of its own: where that names the image, patients are not kept apart")
    patients: dict[str, set[str]] = {}
    for one in found:
        if one.record:
            patients.setdefault(one.alike, set()).add(one.record.patient_id)
    if alike := sorted(" and ".join(sorted(ids)) for ids in patients.values() if len(ids) > 1):
        text = "patients whose Patient IDs differ in leading zeros alone, and who may be one"
        notes.append(f"{text}: {', '.join(alike)}; give them one patient_id in images.csv if so")
    return tuple(notes)


def _read_or_make_key(path: Path) -> bytes:
    with errors_of_writing(path):
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
                file.write(f"{secrets.token_hex(32)}\n")
        except FileExistsError:
            pass
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(secret) < _KEY_CHARACTERS:
        raise InputError(f"{path}: must hold a key of at least {_KEY_CHARACTERS} characters. Received: {len(secret)}")
    return secret


def _is_table(path: Path) -> bool:
    """Whether a file is such a table as is written here."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(_TABLE_HEAD)) == _TABLE_HEAD
    return False


def _write_private_table(path: Path, rows: Iterable[tuple[str, Path]], *, overwrite: bool) -> None:
    """Which hash is which file; for the owner's eyes. Bytes of a name that are no UTF-8 are as in marks.csv."""
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.chmod(0o600)
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(_TABLE_HEAD.decode())
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)  # a name may hold a carriage return
            writer.writerows((name, to_cell(str(place))) for name, place in rows)
