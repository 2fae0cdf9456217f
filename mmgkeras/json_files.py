"""JSON files as pydantic models: their one reader, their one writer, and the one line that names a fault in them.

Owns the rules that hold for every such file: strict types, finite numbers, no control characters in a text, and no
folder of the machine: paths are relative to the file, so that both can be moved and nobody's home is named.
"""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from mmgkeras.errors import InputError, MmgError, counted, shown
from mmgkeras.files import atomic_file

MAX_BYTES: Final = 64 * 2**20
"""A larger JSON file is none of ours."""
_MAX_KEYS: Final = 500_000
_MAX_NAME_BYTES: Final = 255
_MAX_PATH: Final = 1000
_PathOrText = TypeVar("_PathOrText", str, Path)
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What no text holds: a terminal acts on it, and a file's name ends at it."""
_ABSOLUTE: Final = re.compile(r"(?<![\w.~-])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:'\",;]+[/\\])*(?=[^\s/\\:'\",;])")
_HALF: Final = re.compile(r"[\ud800-\udfff]")
"""Half of a character, which stands in a name for a byte that is no UTF-8."""
_BYTE: Final = re.compile(r"\\u(dc[89a-f][0-9a-f])")
"""How `in_unicode` writes it."""
_HOME: Final = "~"
_UP: Final = ".."


def _plain(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("must hold no control character")
    return text


def possible_path(path: _PathOrText) -> _PathOrText:
    """The same path, or text that may be one, as it was before `in_unicode`.

    Raises:
        ValueError: if the system would refuse even to look there.
    """
    path = type(path)(_BYTE.sub(lambda found: chr(int(found[1], 16)), str(path)))
    if "\0" in str(path):
        raise ValueError("must hold no NUL")
    if any(len(part.encode(errors="surrogateescape")) > _MAX_NAME_BYTES for part in Path(path).parts):
        raise ValueError(f"must hold no name of over {_MAX_NAME_BYTES} bytes")
    if len(str(path)) > _MAX_PATH:
        raise ValueError(f"must have at most {_MAX_PATH:,} characters")
    return path


def is_unicode(text: str) -> bool:
    """Whether a text can be written: the name of a file may hold bytes that are no UTF-8."""
    return _HALF.search(text) is None


def in_unicode(text: str) -> str:
    r"""The text with bytes of a name that are no UTF-8, such as ff, as \udcff, as messages have them."""
    return text.encode(errors="backslashreplace").decode()


def values_in_unicode(values: Any) -> Any:
    """What a JSON file is to hold, each text as `in_unicode` has it: a reader need not take halves of characters."""
    if isinstance(values, dict):
        return {values_in_unicode(key): values_in_unicode(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [values_in_unicode(value) for value in values]
    return in_unicode(values) if isinstance(values, str) else values


def written_path(path: Path, folder: Path) -> Path:
    """The path as a file in `folder` names it: ../..., or ~/... where the way from there leads into the home folder."""
    place, base = path.parent.resolve() / path.name, folder.resolve()
    from_home = home_path(place)
    if from_home != place and home_path(base / place.name) == base / place.name:
        return from_home
    relative = Path(os.path.relpath(place, base))
    return relative if relative.parts[:1] == (_UP,) else Path(_UP, base.name, relative)


def read_path(written: Path, folder: Path) -> Path:
    """The inverse of `written_path`, absolute; what earlier versions wrote, with neither .. nor ~, stays as it is."""
    if written.parts[:1] == (_UP,):
        return Path(os.path.normpath(folder.resolve() / written))
    return expanded(written)


def home_path(path: Path) -> Path:
    """An absolute path below the home folder as ~/..., which does not say whose that is; any other as it is."""
    home = _home()
    for place in () if home is None else (home, home.resolve()):
        if place in path.parents:
            return Path(_HOME) / path.relative_to(place)
    return path


def expanded(path: Path) -> Path:
    """The inverse of `home_path`."""
    home = _home()
    return home.joinpath(*path.parts[1:]) if path.parts[:1] == (_HOME,) and home is not None else path


def without_folders(text: str) -> str:
    """Text from outside without the folders of absolute paths: those are nobody else's affair."""
    return _ABSOLUTE.sub("", text)


def command_without_folders(command: str) -> str:
    """A command with the last part of each absolute path in it."""
    try:
        words = shlex.split(command)
    except ValueError:  # quotation marks that are not closed
        words = command.split()
    return shlex.join(without_folders(Path(word).name if Path(word).is_absolute() else word) for word in words)


def _home() -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:  # the system knows of none
        return None
    return home if home != Path(home.anchor) else None


Text = Annotated[str, AfterValidator(_plain)]
FilePath = Annotated[Path, AfterValidator(possible_path)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=10**12)]
FoldNumber = Annotated[int, Field(ge=1, le=26)]
"""A fold tests one subset, and subsets are called A to Z."""
MAX_SEED: Final = 2**32 - 1
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
PatchPx = Annotated[int, Field(ge=1, le=4096)]
SpacingMm = Annotated[float, Field(gt=0, le=100)]


class JsonModel(BaseModel):
    """An object of a JSON file; keys of later versions are passed over."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, validate_by_name=True)


_Model = TypeVar("_Model", bound=BaseModel)


def read_json(path: Path, model: type[_Model], *, hint: str = "") -> _Model:
    """The object in a JSON file.

    Args:
        path: of the file.
        model: what it must be.
        hint: ends the message of a damaged file: what the user can do.

    Raises:
        InputError: if the file cannot be read, is not JSON, or breaks a rule of the model.
    """
    data = read_limited(path, max_bytes=MAX_BYTES)
    if data.count(b'":') > _MAX_KEYS:
        raise InputError(f"{path}: must have at most {_MAX_KEYS:,} keys{hint and '; '}{hint}")
    return validated(model, data, place=str(path), hint=hint)


def read_limited(path: Path, *, max_bytes: int, kind: type[MmgError] = InputError) -> bytes:
    """The bytes of a file that is expected to be small.

    Raises:
        MmgError: of this kind, if it cannot be read or is larger.
    """
    try:
        if path.exists() and not path.is_file():
            raise kind(f"{path}: cannot be read: it is not a file")
        if path.stat().st_size > max_bytes:
            raise kind(f"{path}: must have at most {max_bytes:,} bytes. Received: {path.stat().st_size:,}")
        return path.read_bytes()
    except OSError as error:
        raise kind(f"{path}: cannot be read: {error.strerror or error}") from error


def validated(model: type[_Model], values: object, *, place: str, hint: str = "") -> _Model:
    """The model of plain values, or of the bytes of JSON; `place` begins the message of a fault, `hint` ends it.

    Raises:
        InputError: if they are not JSON or break a rule of the model.
    """
    try:
        return model.model_validate_json(values) if isinstance(values, bytes) else model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{place}: {fault_line(error)}{hint and '; '}{hint}") from error


def write_json(path: Path, model: BaseModel) -> None:
    """Replaces a JSON file by a model's values.

    Raises:
        InputError: if the file cannot be written.
    """
    values = values_in_unicode(model.model_dump(mode="json", by_alias=True))
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def fault_line(error: ValidationError) -> str:
    """The first fault that pydantic found: key, rule, what was received; further ones are counted."""
    faults = error.errors(include_url=False)
    more = f" (and {counted(len(faults) - 1, 'more fault')})" if len(faults) > 1 else ""
    return f"{describe_fault(faults[0])}{more}"


def describe_fault(fault: ErrorDetails) -> str:
    """One fault that pydantic found: key, rule, what was received."""
    key = ".".join(str(part) for part in fault["loc"])
    place = f"{key}: " if key else ""
    if fault["type"] == "json_invalid":
        return f"is not JSON: {fault['msg'].removeprefix('Invalid JSON: ')}"
    if fault["type"] == "missing":
        return f"{key} is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{place}{message}" if "Received" in message else f"{place}{message}. Received: {shown(fault['input'])}"
