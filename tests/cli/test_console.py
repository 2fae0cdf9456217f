"""Faults that are the user's or the system's leave as lines, and nothing that is printed commands a terminal."""

import errno
import logging
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from mmgkeras.cli import main
from mmgkeras.cli.console import UserErrorGroup, echo, printable, track

from mmgkeras.errors import InputError

CLI = Path(__file__).parents[2] / "cli"


def fail(error: BaseException) -> Result:
    """What comes of a command that raises an error."""

    @click.command()
    def command() -> None:
        raise error

    return CliRunner().invoke(UserErrorGroup(commands={"command": command}), ["command"])


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (InputError("a.csv:2: is wrong\nb.csv:3: too"), "error: a.csv:2: is wrong\nerror: b.csv:3: too\n"),
        (MemoryError("Unable to allocate 9 TiB"), "error: too little memory: Unable to allocate 9 TiB\n"),
        (MemoryError(), "error: too little memory: the system gave no more\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "error: a/b: No space left on device\n"),
        (OSError(errno.EROFS, "Read-only file system"), "error: Read-only file system\n"),
        (PermissionError(errno.EACCES, "Permission denied", b"a"), "error: a: Permission denied\n"),
        (
            UnicodeEncodeError("utf-8", "a/M\udcfc.png", 3, 4, "surrogates not allowed"),
            "error: the name of a file or folder must be UTF-8; rename it. Received: 'a/M\\udcfc.png'\n",
        ),
        (InputError("image \x1b[31mp1: is wrong"), "error: image \\x1b[31mp1: is wrong\n"),
    ],
    ids=repr,
)
def test_faults_of_user_and_system_are_lines(error: Exception, lines: str) -> None:
    result = fail(error)
    assert result.exit_code == 1
    assert result.stderr == lines
    assert result.stdout == ""


OTHER = UnicodeEncodeError("ascii", "\u00fc", 0, 1, "ordinal not in range(128)")


@pytest.mark.parametrize("error", [ValueError("ours"), OSError("no number"), OTHER], ids=repr)
def test_bugs_of_ours_are_not_hidden(error: Exception) -> None:
    assert fail(error).exception is error


def test_printed_text_keeps_its_lines_and_letters_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    echo("Brüste\t\x1b]0;title\x07\nnext\rline \u202e\u200b\udcff")
    assert capsys.readouterr().out == "Brüste\\t\\x1b]0;title\\x07\nnext\\rline \\u202e\\u200b\\udcff\n"
    assert printable("1\xa0mm µ 語") == "1\xa0mm µ 語"


def test_commands_print_in_no_other_way() -> None:
    others = [path for path in CLI.glob("*.py") if path.name != "console.py"]
    assert [path.name for path in others if re.search(r"click\.echo\(|(?<![.\w])print\(", path.read_text())] == []


def test_memory_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    program = """
import re, resource, sys
from pathlib import Path
import mmgkeras.patches.prepare
used = 1024 * int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), used + (64 << 20)))
from mmgkeras.cli import main
main(sys.argv[1:])
"""
    (tmp_path / "data").mkdir()
    from PIL import Image

    Image.new("L", (9_900, 9_900)).save(tmp_path / "data" / "a.png")
    header = "image_id,path,patient_id,laterality,view,annotation\n"
    (tmp_path / "data" / "images.csv").write_text(header + "a,a.png,p,L,CC,complete\n")
    arguments = ["prepare", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "store")]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: too little memory: ")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "store").exists()


def test_commands_are_listed_in_the_order_of_the_work() -> None:
    assert list(main.commands)[:4] == ["predict", "phantom", "import", "check"]


def test_off_a_terminal_progress_is_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter(range(0, 10_000, 25))
    monkeypatch.setattr("mmgkeras.cli.console.time.monotonic", lambda: next(seconds))
    assert list(track(range(10), "reading images")) == list(range(10))
    assert capsys.readouterr().err == (
        "reading images: 2 of 10, about 5 min left\n"
        "reading images: 5 of 10, about 2 min left\n"
        "reading images: 8 of 10, about 1 min left\n"
        "reading images: 10\n"
    )


@pytest.mark.parametrize("name", ["pydicom", "pynetdicom.transport", "highdicom.base"])
def test_logs_of_the_dicom_packages_are_not_printed_even_where_the_root_has_a_handler(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger(name.partition(".")[0])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])
    printed = StringIO()
    handler = logging.StreamHandler(printed)

    @click.command()
    def command() -> None:
        logging.getLogger().addHandler(handler)
        logging.getLogger(name).error("Invalid value for VR DA: '19600102'")
        logging.getLogger("another").error("is printed")

    try:
        result = CliRunner().invoke(UserErrorGroup(commands={"command": command}), ["command"])
    finally:
        logging.getLogger().removeHandler(handler)
    assert printed.getvalue() == "is printed\n"
    assert "1960" not in result.output
