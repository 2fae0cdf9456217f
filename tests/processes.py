"""Code in a process of its own, that may be killed."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def run(code: str, root: Path, *, kill_at: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs code in a new process, killed before its file-system call with that number; prints how many there were."""
    program = f"""
import sys
from pathlib import Path
from benchmarks.campaign.interrupt import Calls, die
from mmgkeras.files import atomic_file, atomic_files, atomic_folder
from mmgkeras.locks import output_lock, resumable_work
root = Path({str(root)!r})
calls = Calls(root, at={kill_at}, act=die)
{code}
print(calls.num)
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
