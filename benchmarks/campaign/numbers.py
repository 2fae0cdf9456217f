"""Odd numbers in every key of a configuration, every number of a JSON file and every one of a table."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.campaign.files import KEPT, Target, faults_of_message, make_targets
from benchmarks.campaign.trials import Trial
from mmgkeras.config import Config, read_config
from mmgkeras.errors import MmgError

NONE = ("nan", "inf", "-inf", "1e400", '"1_0"', '"\uff11"', '"nan"', "9" * 400)
"""TOML that is no number, or none that a computer can take."""
JSON_NONE = ("NaN", "Infinity", "-Infinity", "1e400", '"1_0"', '"\uff11"', "9" * 400, "9" * 5000)
CSV_NONE = ("nan", "inf", "-inf", "1e400", "1_0", "\uff11", "\u0661", "0x10", "1,5", "9" * 400, "1e", "--1", "1 0")
ODD = ("0", "-1", "-0.0", "1e-400", "1e300", "4294967296", "-9223372036854775809", "0.1")
"""Numbers that may be allowed or not: they are taken or refused in a line."""
_FREE = ("config", "versions")
"""Keys of JSON whose values are kept as they are and not computed with."""


def number_trials(scratch: Path) -> Iterator[Trial]:
    """A trial for each key, each JSON file and each table, with all odd numbers in it."""
    for section, values in Config().model_dump().items():
        for key, value in values.items():
            if isinstance(value, int | float | tuple) or value is None:
                yield Trial(
                    f"numbers: {section}.{key}", partial(_try_key, section, key, is_list=isinstance(value, tuple))
                )
    with TemporaryDirectory(dir=scratch) as name:
        targets = [(place, target) for place, target in enumerate(make_targets(KEPT, Path(name)))]
    for place, target in targets:
        if target.path.suffix in (".csv", ".json") and not (
            target.forge is None and target.path.parent.name == "store"
        ):
            yield Trial(f"numbers: {target.name}", partial(_try_file, place, scratch=scratch))


def _try_key(section: str, key: str, *, is_list: bool) -> str | None:
    for text in (*NONE, *ODD):
        shown = f"[{text}, {text}]" if is_list else text
        fault = _read(lambda shown=shown: read_config(overrides=[f"{section}.{key}={shown}"]), must_refuse=text in NONE)
        if fault:
            return f"{shown[:40]}: {fault}"
    return None


def _try_file(place: int, *, scratch: Path) -> str | None:
    with TemporaryDirectory(dir=scratch) as name:
        os.chdir(name)
        target = make_targets(KEPT, Path(name))[place]
        variants = _of_table if target.path.suffix == ".csv" else _of_json
        redone = target.redone.read_bytes() if target.redone else b""
        for what, content, must_refuse in variants(target):
            target.path.write_bytes(content)
            if target.forge:
                target.forge()
            fault = _read(target.read, must_refuse=must_refuse)
            if target.redone:
                target.redone.write_bytes(redone)
            if fault:
                return f"{what}: {fault}"
    return None


def _of_json(target: Target) -> Iterator[tuple[str, bytes, bool]]:
    values = json.loads(target.path.read_bytes())
    redone = ("files", "checksum") if target.forge else ()
    for path, value in [(path, value) for path, value in _numbers(values) if path[0] not in redone]:
        for text in (*JSON_NONE, *ODD):
            *parents, last = path
            holder: Any = values
            for key in parents:
                holder = holder[key]
            holder[last] = "a number stands here"
            content = json.dumps(values).replace('"a number stands here"', text).encode()
            holder[last] = value
            is_free = any(key in _FREE for key in path)
            yield f"{'.'.join(map(str, path))} = {text[:20]}", content, text in JSON_NONE and not is_free


def _of_table(target: Target) -> Iterator[tuple[str, bytes, bool]]:
    rows = list(csv.reader(io.StringIO(target.path.read_text(encoding="utf-8"), newline="")))
    for col, name in ((col, name) for col, name in enumerate(rows[0]) if not name.endswith("_id")):
        column = [row[col] for row in rows[1:]]
        if not all(_is_number(field) for field in column if field) or not any(column):
            continue
        row = 1 + next(place for place, field in enumerate(column) if field)
        for text in (*CSV_NONE, *ODD):
            changed = [[*fields] for fields in rows]
            changed[row][col] = text
            buffer = io.StringIO(newline="")
            csv.writer(buffer, lineterminator="\n").writerows(changed)
            yield f"row {row}, {name} = {text[:20]}", buffer.getvalue().encode(), text in CSV_NONE


def _read(read: Callable[[], object], *, must_refuse: bool) -> str | None:
    try:
        read()
    except MmgError as error:
        return "; ".join(faults_of_message(str(error))) or None
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "is taken" if must_refuse else None


def _numbers(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every number in a JSON value with the keys that lead to it."""
    if isinstance(values, dict | list):
        for key in list(values.keys() if isinstance(values, dict) else range(len(values))):
            yield from _numbers(values[key], (*path, key))
    elif isinstance(values, int | float) and not isinstance(values, bool):
        yield path, values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
