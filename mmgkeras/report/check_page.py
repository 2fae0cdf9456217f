"""What `check` found in a data folder, as one page with pictures of the images concerned, and as a table.

Owns how many pictures there are, and what is said of each kind of finding. Images are read again for their pictures.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from mmgkeras import __version__, images
from mmgkeras.errors import InputError, counted, one_line
from mmgkeras.files import atomic_folder, check_apart
from mmgkeras.json_files import without_folders
from mmgkeras.locks import output_lock
from mmgkeras.patches.check import DataReport
from mmgkeras.patches.findings import SEVERITIES, Finding
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.progress import Track, untracked
from mmgkeras.report.content import Bullets, Card, Frame, Gallery, Picture, Section, Table, Text
from mmgkeras.report.html_page import TABLE_FILES, TABLES, page, tables_of, write_tables
from mmgkeras.report.pictures import data_uri, window
from mmgkeras.schema import ImageRecord
from mmgkeras.tables.repair import repair_tables

CHECK_HTML: Final = "check.html"
FIXED: Final = "fixed"
_OWNED: Final = (CHECK_HTML, *TABLE_FILES, f"{FIXED}/*.csv")
_PICTURES: Final = 24
"""Of a kind of finding; the table has all."""
_LINES: Final = 30
_PICTURE_PX: Final = 400
_SHOWN_PX: Final = 220
_QUALITY: Final = 80


def write_check(
    report: DataReport, out: Path, *, fix: bool = False, overwrite: bool = False, track: Track = untracked
) -> list[str]:
    """Writes check.html and tables/findings.csv into a folder that is whole or not there.

    Args:
        report: what was found.
        out: the folder to make.
        fix: write corrected copies of the tables too, into its folder `fixed`; gives one line for each change.
        overwrite: replace an earlier folder of this function.
        track: called with the images of which there are pictures.

    Raises:
        InputError: if the folder exists and `overwrite` is not set, or cannot be written; with `fix`, if a table cannot
            be read as text.
    """
    check_apart(out, [report.folder.data])
    with output_lock(out), atomic_folder(out, overwrite=overwrite, owned=_OWNED) as folder:
        changes = []
        if fix:
            (folder / FIXED).mkdir()
            changes = repair_tables(report.folder.data, folder / FIXED)
        sections = _sections(report, changes, fix=fix, track=track)
        data = report.folder.data
        facts = (
            f"{counted(len(report.records), 'image')} of {counted(report.num_patients, 'patient')} in {data.name}, "
            f"{report.num_read:,} readable; regions or patch labels: {report.num_annotations:,}.",
        )
        footer = f"mmgkeras {__version__}. All findings are also in {TABLES}/findings.csv."
        text = page(sections, title="Check of a data folder", facts=facts, footer=footer)
        (folder / CHECK_HTML).write_text(text, encoding="utf-8")
        write_tables(folder / TABLES, tables_of(sections))
    return changes


def _sections(report: DataReport, changes: Sequence[str], *, fix: bool, track: Track) -> list[Section]:
    findings = [_without_folder(finding, report.folder.data) for finding in report.findings]
    by_kind: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault((finding.severity, finding.kind), []).append(finding)
    wanted = {
        finding.image_id: None
        for found in by_kind.values()
        for finding in [one for one in found if one.image_id is not None][:_PICTURES]
    }
    records = {record.image_id: record for record in report.records}
    cards = {
        image_id: card
        for image_id in track(list(wanted), "drawing images")
        if image_id in records and (card := _card(records[image_id], report)) is not None
    }
    sections = [_summary(report)]
    for number, ((severity, kind), found) in enumerate(by_kind.items()):
        lines = tuple(Text(str(finding)) for finding in found[:_LINES])
        more = (Text(f"and {len(found) - _LINES:,} more, see the table of all findings"),) * (len(found) > _LINES)
        shown = [cards[one.image_id] for one in found[:_PICTURES] if one.image_id in cards]
        gallery = (Gallery(tuple(dict.fromkeys(shown))),) * bool(shown)
        title = f"{severity.capitalize()}: {kind} ({len(found):,})"
        sections.append(Section(anchor=f"kind{number}", title=title, body=(Bullets(lines), *more, *gallery)))
    if fix:
        told = (change.removeprefix(f"{report.folder.data}/") for change in changes)
        body = Bullets(tuple(map(Text, told))) if changes else Text("nothing was certain enough to be changed")
        sections.append(Section(anchor="fixed", title="Changes in the corrected copies", body=(body,)))
    rows = tuple((one.severity, one.kind, one.place, one.image_id or "", one.what) for one in findings)
    columns = ("severity", "kind", "place", "image_id", "what")
    table = Table(name="findings", title="All findings", columns=columns, rows=rows, is_folded=True)
    return [*sections, Section(anchor="all", title="All findings", body=(table,))]


def _without_folder(finding: Finding, data: Path) -> Finding:
    """The same without where the folder lies, which is nobody's but the user's."""
    told = one_line(f"{data}/")
    place = finding.place.removeprefix(f"{data}/").removeprefix(told)
    return replace(finding, place=place, what=without_folders(finding.what.replace(told, "")))


def _summary(report: DataReport) -> Section:
    counts = Counter(finding.severity for finding in report.findings)
    heights, widths = zip(*report.sizes, strict=True) if report.sizes else ((0,), (0,))
    facts = {
        **{f"{severity}s": f"{counts[severity]:,}" for severity in SEVERITIES},
        "rows": f"{min(heights)} to {max(heights)}",
        "columns": f"{min(widths)} to {max(widths)}",
        "pixel type": ", ".join(f"{name} {number:,}" for name, number in sorted(report.pixel_types.items())),
        "chest wall by the pixels": ", ".join(f"{name} {number:,}" for name, number in sorted(report.sides.items())),
    }
    table = Table(name="summary", title="The folder", columns=("", "of all images"), rows=tuple(facts.items()))
    lead = Text("Nothing to look at." if not report.findings else "What to look at, the gravest first.", "lead")
    return Section(anchor="summary", title="Summary", body=(lead, table))


def _card(record: ImageRecord, report: DataReport) -> Card | None:
    """The image with its regions; None if it cannot be read."""
    try:
        pixels = images.read(record, report.folder.data).pixels
    except InputError:
        return None
    height, width = pixels.shape
    frames = []
    for region in report.annotations.regions.get(record.image_id, ()):
        try:
            covered = region_mask(region, height=height, width=width)
        except InputError:
            continue
        tall, wide = covered.mask.shape
        frames.append(Frame(covered.left - 3, covered.top - 3, wide + 6, tall + 6, region.kind))
    small = Image.fromarray(window(pixels))
    small = small.reduce(max(1, max(small.size) // _PICTURE_PX))
    picture = Picture(
        uri=data_uri(np.asarray(small), quality=_QUALITY),
        title=f"image {record.image_id}",
        width=width,
        height=height,
        shown_height=_SHOWN_PX,
        frames=tuple(frames),
    )
    lines = (f"{record.laterality} {record.view}, patient {record.patient_id}",)
    return Card(value=record.image_id, lines=lines, pictures=(picture,))
