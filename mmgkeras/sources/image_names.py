"""Which image is meant by what a table or an annotation calls it: its path, its name, or its name without ending.

Owns when a name is enough. The folders count wherever they may tell two images apart: in many data sets each patient
has a folder, and in it the same few names.
"""

import posixpath
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from mmgkeras.errors import InputError, shown

_ENDINGS: Final = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm", ".bmp", ".gif", ".jp2")
"""Of images before they were converted, as annotations may still name them."""


def full_name(called: str, *, file: str = "", pattern: str = "") -> str:
    """The path by which an annotation calls its image, with slashes, from the folder of its file where that may count.

    Args:
        called: by the annotation.
        file: path of the annotation file. What begins with .. starts at its folder, any other relative path at those
            of its folders that the pattern does not spell out.
        pattern: that found the file.
    """
    path = called.strip().replace("\\", "/")
    if not path:
        return ""
    if not path.startswith("/") and path[1:3] != ":/":
        folders = _folders(file)
        path = "/".join([*(folders if path.startswith("..") else _left_open(folders, pattern)), path])
    return "/".join(part for part in posixpath.normpath(path).split("/") if part not in ("", ".", ".."))


class ImageNames:
    """The images of a folder by what annotations call them.

    An annotation means an image if one of their paths is the end of the other: `P1/cc.png` is `scans/P1/cc.png`. Where
    one has no folder, or none but what the pattern spells out (`scans` of `scans/*.png`), the name is enough if one
    image alone has it. Annotations that name different folders mean different images.
    """

    def __init__(self, paths: Iterable[str], *, pattern: str, called: Iterable[str]) -> None:
        """Takes the paths of the images, the pattern that found them, and all full names that they are called by."""
        self._pattern = pattern
        self._named: dict[str, list[str]] = {}
        self._lying_in: dict[tuple[str, str], list[str]] = {}
        for path in paths:
            name, folders, left_open = path.rpartition("/")[2], _folders(path), _left_open(_folders(path), pattern)
            for key in {name, without_ending(name)}:
                self._named.setdefault(key, []).append(path)
                for last in {*folders[-1:], *(left_open[-1:] or [""])}:
                    self._lying_in.setdefault((key, last), []).append(path)
        self._callers: dict[str, list[str]] = {}
        for one in set(called):
            with suppress(InputError):
                self._callers.setdefault(self._only(one), []).append(one)

    def image_of(self, called: str) -> str:
        """The path of the image that a full name means.

        Raises:
            InputError: if there is none, or it cannot be told from others.
        """
        path = self._only(called)
        folders, own = _folders(called), _folders(path)
        if folders and folders != own:
            callers = [(one, _folders(one)) for one in self._callers.get(path, ())]
            if others := [one for one, theirs in callers if theirs != folders and (theirs or not own)]:
                received = f"{shown(called)} and {shown(min(others))}"
                raise InputError(f"the image {path} must be named with one folder. Received: {received}")
        return path

    def candidates(self, called: str) -> Sequence[str]:
        """The images that a full name may mean, several if it does not tell which."""
        *folders, name = called.split("/")
        for key in (name, without_ending(name)):
            if key not in self._named:
                continue
            if not folders:
                return self._named[key]
            near = [path for path in self._lying_in.get((key, folders[-1]), ()) if self._is_near(path, folders)]
            if exact := [path for path in near if _folders(path) == folders]:
                return exact
            if (key, "") in self._lying_in:
                return self._named[key]
            if near:
                return near
        return []

    def _is_near(self, path: str, folders: list[str]) -> bool:
        theirs = _folders(path)
        return _end_alike(folders, theirs) or _end_alike(folders, _left_open(theirs, self._pattern))

    def _only(self, called: str) -> str:
        found = self.candidates(called)
        if len(found) == 1:
            return found[0]
        name = called.rpartition("/")[2]
        named = self._named.get(name) or self._named.get(without_ending(name)) or []
        hint = f"; by its name alone it may be {' or '.join(named[:2])}" if named else ""
        raise InputError(f"the image must be one of the folder's, and one alone. Received: {shown(called)}{hint}")


def without_ending(name: str) -> str:
    """The name of an image without its ending: `1.2.840` has none."""
    stem, dot, ending = name.rpartition(".")
    return stem if f"{dot}{ending.lower()}" in _ENDINGS else name


def _folders(path: str) -> list[str]:
    return path.split("/")[:-1]


def _left_open(folders: Sequence[str], pattern: str) -> list[str]:
    """The folders that a pattern does not spell out."""
    return [folder for folder in folders if folder not in pattern.split("/")]


def _end_alike(one: list[str], other: list[str]) -> bool:
    """Whether one is the end of the other."""
    number = min(len(one), len(other))
    return one[len(one) - number :] == other[len(other) - number :]
