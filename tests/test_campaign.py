"""A small part of `make campaign`: two commands killed before each of their file-system calls."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def test_commands_that_are_killed_lose_nothing_and_can_be_given_again() -> None:
    parts = ("--part", "kills", "--part", "races", "--command", "split", "--command", "prepare --overwrite")
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.campaign", "--jobs", "1", *parts],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    last = [line for line in result.stdout.splitlines() if line.startswith("all ")]
    assert len(last) == 1
    tried, held, failed = (int(word) for word in last[0].split() if word.isdigit())
    assert failed == 0
    assert tried == held > 50
