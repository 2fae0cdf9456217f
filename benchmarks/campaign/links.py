"""Symbolic links where a command writes: it must not write, or remove, what lies behind them and is not its own."""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.campaign.scenarios import OUT, Scenario
from benchmarks.campaign.trials import Trial, run_command

PRECIOUS = "precious"
MOVED = "moved"
FOREIGN = "work.txt"


def link_trials(scenario: Scenario, *, scratch: Path) -> Iterator[Trial]:
    """The command with links in place of its output, of each file of an earlier one, and of its temporary files."""
    for name, plant in _PLANTS.items():
        yield Trial(f"{scenario.name}: {name}", partial(_try, scenario, plant, scratch=scratch))


def _try(scenario: Scenario, plant: Callable[[Path], None], *, scratch: Path) -> str | None:
    with TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        shutil.copytree(scenario.folder, folder, dirs_exist_ok=True, symlinks=True)
        _make_precious(folder / PRECIOUS)
        plant(folder)
        before = _content(folder / PRECIOUS)
        ended = run_command(scenario.run, folder=folder)
        if ended.has_traceback or ended.code not in (0, 1):
            return f"ended with {ended.code}: {ended.output[-2000:]}"
        after = _content(folder / PRECIOUS)
        lost = [name for name, data in before.items() if after.get(name) != data]
        return f"{lost[0]} of somebody else is lost or changed: {ended.output[-500:]}" if lost else None


def _content(folder: Path) -> dict[str, bytes]:
    """What is in the folder, but for the command's own files in folders that were moved there."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        str(name): path.read_bytes()
        for name, path in files.items()
        if not name.parts[0].startswith(MOVED) or path.name == FOREIGN
    }


def _make_precious(folder: Path) -> None:
    (folder / "inner").mkdir(parents=True)
    for name in (FOREIGN, "inner/notes.csv", "data.json"):
        (folder / name).write_text("somebody else's\n")


def _output_leads_to_precious(folder: Path) -> None:
    _remove(folder / OUT)
    (folder / OUT).symlink_to(folder / PRECIOUS)


def _output_leads_nowhere(folder: Path) -> None:
    _remove(folder / OUT)
    (folder / OUT).symlink_to(folder / PRECIOUS / "nowhere")


def _output_leads_to_itself(folder: Path) -> None:
    _remove(folder / OUT)
    (folder / OUT).symlink_to(folder / OUT)


def _files_are_links(folder: Path) -> None:
    """Each file of the earlier output lies in the precious folder, and a link to it in its place."""
    for number, path in enumerate(sorted(path for path in (folder / OUT).rglob("*") if path.is_file())):
        target = folder / PRECIOUS / f"file{number}"
        shutil.copy(path, target)
        path.unlink()
        path.symlink_to(target)


def _folders_are_links(folder: Path) -> None:
    """Each folder of the earlier output lies elsewhere, with a file of somebody else; the rest is the command's own."""
    for number, path in enumerate(sorted(path for path in (folder / OUT).glob("*") if path.is_dir())):
        target = folder / PRECIOUS / f"{MOVED}{number}"
        path.rename(target)
        (target / FOREIGN).write_text("somebody else's\n")
        path.symlink_to(target)


def _temporary_names_are_links(folder: Path) -> None:
    digits = "0123456789abcdef"
    for ending in (*(f"{digits}.{kind}" for kind in ("partial", "old", "commit")), "lock"):
        target = folder / PRECIOUS / (FOREIGN if ending == "lock" else "inner")
        (folder / f".{OUT}.{ending}").symlink_to(target)
        if (folder / OUT).is_dir():
            for stem in ("evaluation", "overlay", "import", "folds.csv"):
                (folder / OUT / f".{stem}.{ending}").symlink_to(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _hard_links(folder: Path) -> None:
    for number, path in enumerate(sorted(path for path in (folder / OUT).rglob("*") if path.is_file())):
        os.link(path, folder / PRECIOUS / f"hard{number}")


_PLANTS: dict[str, Callable[[Path], None]] = {
    "its output is a link to a folder of somebody else": _output_leads_to_precious,
    "its output is a link to nothing": _output_leads_nowhere,
    "its output is a link to itself": _output_leads_to_itself,
    "its old files are links": _files_are_links,
    "its old folders are links": _folders_are_links,
    "its old files have other names elsewhere": _hard_links,
    "its temporary names are links": _temporary_names_are_links,
}
