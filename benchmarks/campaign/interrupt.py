"""What is done at the n-th file-system call of a process that changes something: it dies, or the call fails.

The calls are counted by an audit hook, which Python calls before each of them, and by wrappers around the few of
`os` that it does not audit. Compiled code that writes for itself (TensorFlow's SavedModel and event files) is not seen:
it is cut between Python's calls only.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGES = frozenset(
    {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
)
_UNAUDITED = ("fsync", "write")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
KILLED = 137
"""The exit code of a process that died as it was told."""


class Calls:
    """The calls so far that change something below a folder, and what happens at one of them.

    There is no way to take an audit hook out of a process again: use it in one that ends soon.
    """

    def __init__(self, root: Path, *, at: int | None, act: Callable[[], None]) -> None:
        """Begins to count; `act` is called before the call number `at`, from 0, is made; None for never."""
        self.num = 0
        self._root, self._at, self._act = os.path.realpath(root), at, act
        sys.addaudithook(self._hook)
        for name in _UNAUDITED:
            setattr(os, name, self._counted(getattr(os, name)))

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        is_change = event in _CHANGES or (event == "open" and isinstance(args[2], int) and bool(args[2] & _WRITING))
        if is_change and self._is_inside(args[0]):
            self._count()

    def _is_inside(self, path: object) -> bool:
        if isinstance(path, int) or path is None:
            return True
        place = Path(os.fsdecode(path))  # type: ignore[arg-type]
        # shutil.rmtree names files relative to the folder that it is in
        return not place.is_absolute() or os.path.realpath(place.parent).startswith(self._root)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(descriptor: int, *args: Any) -> Any:
            if descriptor > 2:
                self._count()
            return function(descriptor, *args)

        return counted

    def _count(self) -> None:
        number, self.num = self.num, self.num + 1
        if number == self._at:
            self._act()


def die() -> None:
    """Ends the process at once; what is in Python's own buffers is lost, as in a kill."""
    os._exit(KILLED)


def failing(code: int) -> Callable[[], None]:
    """An act that lets the call fail with an error of the system."""

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    return fail
