"""Text from outside that a spreadsheet, a browser, LaTeX or a terminal would obey; what is printed and written is read.

Every text is put into each field of a data folder that takes one, and the commands from `check` to `report` are given.
They refuse it in a line or go on; no cell may then be a formula, no page hold its tags, no table its LaTeX commands,
and no control character may come to the terminal.
"""

import csv
import re
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

from mmgkeras.cli import main
from mmgkeras.cli.check import WARNED

from benchmarks.campaign.scenarios import make_data
from benchmarks.campaign.trials import Ended, Trial, run_command
from mmgkeras.errors import MmgError
from mmgkeras.patches.store import PatchStore
from mmgkeras.report.report import write_report
from mmgkeras.tables import read_images, read_regions
from mmgkeras.tables.cells import from_cell
from mmgkeras.tables.data_tables import IMAGE_COLUMNS, REGION_COLUMNS, image_fields

FORMULAS = ("=1+1", "+1+cmd|' /C calc'!A0", "-2+3+x", "@SUM(A1)", "\t=1", '=HYPERLINK("http://x","y")', "'=1", "''+1x")
TAGS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</title><script>alert(1)</script>",
    "{{7*'7'}}{% raw %}",
    "javascript:alert(1)",
    "<!--",
    "&lt;script&gt;",
)
LATEX = ("\\input{/etc/passwd}", "$\\write18{id}$", "a_b^c%d&e#f~g{h}", "\\\\ \\hline }", "^^5cinput")
CONTROLS = (
    "a\x1b[2Jb",
    "a\x07b",
    "a\x9b31mb",
    "a\u202eb",
    "a\x08b",
    "a\x7fb",
    "a\rb",
    "a\x00b",
    "a\u2028b",
    "a\u200bb",
)
FIELDS = ("image_id", "patient_id", "path", "density", "pathology", "vendor", "region_id")
_NUMBER = re.compile(r"[-+.,eE0-9 ]+")
_COMMANDS = re.compile(r"(?<!\\)(?:\\\\)*\\(input|write|hline *\})|\^\^")


def injection_trials(scratch: Path) -> Iterator[Trial]:
    """Each text in each field, through the commands that need no model; and all of a kind through a report."""
    kinds = {"formula": FORMULAS, "HTML": TAGS, "LaTeX": LATEX, "control": CONTROLS}
    for kind, texts in kinds.items():
        for number, text in enumerate(texts):
            for field in FIELDS:
                run = partial(_through_commands, text, field=field, scratch=scratch)
                yield Trial(f"injection: {kind} {number} as {field}", run)
            yield Trial(f"injection: {kind} {number} in a report", partial(_through_report, text, scratch=scratch))


def _may_be_refused(text: str) -> bool:
    """Ids hold no control characters and begin with no blank; all other text they may hold."""
    return text in CONTROLS or text != text.strip()


def _through_commands(text: str, *, field: str, scratch: Path) -> str | None:
    with TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        data = make_data(folder / "data")
        _inject(data, text, fields=[field])
        commands = (
            ("check", "--data", "data"),
            ("prepare", "--data", "data", "--out", "store", "--set", "patches.patch_px=8", "--skip-bad"),
            ("split", "--store", "store", "--num-subsets", "2"),
        )
        for command in commands:
            ended = run_command(partial(main, list(command)), folder=folder)
            if fault := _fault_of_output(ended):
                return f"{command[0]}: {fault}"
            if ended.code not in (0, WARNED):
                return None if _may_be_refused(text) else f"{command[0]} refuses it: {ended.output[-500:]}"
        return _fault_of_files(folder / "store")


def _through_report(text: str, *, scratch: Path) -> str | None:
    """A report of a study in which patients, images, densities and vendors have such names; or the refusal of them."""
    from tests.report import conftest

    with TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        data = conftest.make_data(folder / "data", num_patients=12, num_images=24, height=48, width=32)
        _inject(data, text, fields=["image_id", "patient_id", "density", "pathology", "vendor"])
        try:
            store = conftest.make_store(data, folder / "store", patch_px=16, num_folds=3)
        except MmgError as error:
            return None if _may_be_refused(text) else f"is refused: {error}"
        conftest.make_crossval(folder / "study", PatchStore.open(store.path), data=data, networks={"net": "resnet18"})
        write_report(folder / "study", out=folder / "report", num_resamples=10)
        return _fault_of_files(folder / "store") or _fault_of_files(folder / "report")


def _inject(data: Path, text: str, *, fields: Sequence[str]) -> None:
    """Puts a text, with the row's own name where it must be unique, into the tables of a data folder as they are."""
    records, regions = read_images(data / "images.csv"), read_regions(data / "regions.csv")

    def named(field: str, name: str) -> str:
        return f"{text}{name}" if field in fields else name

    with (data / "images.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, IMAGE_COLUMNS)
        writer.writeheader()
        for record in records:
            values: dict[str, object] = dict(zip(IMAGE_COLUMNS, image_fields(record), strict=True))
            values |= {field: text for field in fields if field in ("density", "pathology", "vendor")}
            values |= {field: named(field, str(values[field])) for field in ("image_id", "patient_id")}
            if "path" in fields:
                values["path"] = f"{text.replace('/', '-')}{record.path}"
                if "\0" not in text:
                    shutil.copy(data / record.path, data / from_cell(str(values["path"])))
            writer.writerow(values)
    with (data / "regions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, REGION_COLUMNS)
        writer.writeheader()
        for region in regions:
            points = " ".join(f"{row:g},{col:g}" for row, col in region.points)
            names = {field: named(field, getattr(region, field)) for field in ("image_id", "region_id")}
            writer.writerow({**names, "kind": region.kind, "shape": region.shape, "points": points})


def _fault_of_output(ended: Ended) -> str | None:
    if ended.has_traceback:
        return ended.output[-1000:]
    bad = sorted({letter for letter in ended.output if not letter.isprintable() and letter != "\n"})
    return f"prints {bad!r}" if bad else None


def _fault_of_files(folder: Path) -> str | None:
    """What in the tables and pages of a folder would be run."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                cells = [cell for row in csv.reader(file) for cell in row]
            bad = [cell for cell in cells if cell[:1] in tuple("=+-@\t\r") and not _NUMBER.fullmatch(cell)]
            if bad:
                return f"{path.name}: a cell is {bad[0]!r}"
        elif path.suffix == ".tex" and (match := _COMMANDS.search(path.read_text(encoding="utf-8"))):
            return f"{path.name}: {match.group()!r} is left in it"
        elif path.suffix == ".html":
            page = _Page()
            page.feed(path.read_text(encoding="utf-8"))
            if page.faults:
                return f"{path.name}: {page.faults[0]}"
    return None


class _Page(HTMLParser):
    """What of a page would be run that is not its own."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self._element = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._element = tag
        for name, value in attrs:
            if name.startswith("on") and "alert" in (value or ""):
                self.faults.append(f"{tag} has {name}={value!r}")
            if name in ("src", "href") and ((value or "").startswith("javascript") or value == "x"):
                self.faults.append(f"{tag} has {name}={value!r}")

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - HTMLParser's signature
        self._element = ""

    def handle_data(self, data: str) -> None:
        if self._element == "script" and "alert(1)" in data:
            self.faults.append("a script is from outside")
