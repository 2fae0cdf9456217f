"""Mutations of files, drawn from a seed: damaged bytes, odd fields of tables, odd values in JSON and TOML.

A mutation of bytes is what a disk does; one of fields or values is what an editor, or somebody who means harm, does. A
store's tables and manifest are also forged: the checksums are redone, so that only the checks of the fields are left.
"""

import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmgkeras.files import sha256_file
from mmgkeras.patches.manifest import MANIFEST, manifest_checksum

NESTED = "[" * 900 + "]" * 900
ODD_FIELDS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1_0",
        "\uff11",
        "+1",
        "01",
        "1.0",
        "1e400",
        "-inf",
        "nan",
        "NaN",
        "9" * 5000,
        "1e-400",
        "0x10",
    ),
    *("a\0b", "\x1b[2J", "a\nb", '"', "=1+1", "../precious", "/etc/passwd", "é" * 300, "None", "true", "\ufeff"),
)
ODD_VALUES = (
    *('""', "null", "true", "[]", "{}", "0", "-1", "1.5", "-0.0", "1e400", "NaN", "-Infinity", "9" * 5000, "9" * 30),
    *('"1"', '"../precious"', '"/"', '"a\\u0000b"', '"\\u001b[2J"', '"\\ud800"', f'"{"x" * 5000}"', NESTED, "[[]]"),
)


def mutations(data: bytes, *, suffix: str, seed: int, number: int) -> Iterator[bytes]:
    """So many changed contents of a file; half are of its bytes, half of its fields or values where it has some.

    Args:
        data: its content.
        suffix: of its name: .csv, .json, .toml, or another one for bytes alone.
        seed: of the draws.
        number: of mutations.
    """
    drawn = random.Random(seed)
    inner = {".csv": mutated_table, ".json": mutated_json, ".toml": mutated_toml}.get(suffix)
    for count in range(number):
        yield inner(data, drawn) if inner is not None and count % 2 else mutated_bytes(data, drawn)


def mutated_bytes(data: bytes, drawn: random.Random) -> bytes:
    """A bit turned over, a part cut out, doubled, blanked or replaced by noise."""
    if not data:
        return drawn.randbytes(8)
    start = drawn.randrange(len(data))
    end = min(len(data), start + drawn.choice((1, 1, 2, 16, 200)))
    part = data[start:end]
    changes: tuple[Callable[[], bytes], ...] = (
        lambda: data[:start] + bytes([data[start] ^ (1 << drawn.randrange(8))]) + data[start + 1 :],
        lambda: data[:start],
        lambda: data[:start] + data[end:],
        lambda: data[:end] + part * drawn.choice((1, 50)) + data[end:],
        lambda: data[:start] + bytes(len(part)) + data[end:],
        lambda: data[:start] + drawn.randbytes(len(part)) + data[end:],
        lambda: b"",
    )
    return drawn.choice(changes)()


def mutated_table(data: bytes, drawn: random.Random) -> bytes:
    """A field of a CSV file replaced by an odd one or by another's, or a row or column dropped, doubled or moved."""
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    row = drawn.randrange(len(rows))
    col = drawn.randrange(len(rows[row]))
    kind = drawn.randrange(8)
    if kind < 4:
        rows[row][col] = drawn.choice(ODD_FIELDS)
    elif kind == 4:
        other = drawn.choice(rows)
        rows[row][col] = other[drawn.randrange(len(other))]
    elif kind == 5:
        rows.insert(drawn.randrange(len(rows)), rows[row])
    elif kind == 6:
        del rows[row]
    else:
        rows = [[*fields[:col], *fields[col + 1 :]] if drawn.random() < 0.99 else fields for fields in rows]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="replace")


def mutated_json(data: bytes, drawn: random.Random) -> bytes:
    """A value somewhere in a JSON file replaced by an odd one, or its key dropped or renamed."""
    values = json.loads(data)
    holder, key = drawn.choice(list(_places(values)))
    if drawn.random() < 0.8:
        holder[key] = _MARK
        return json.dumps(values).replace(f'"{_MARK}"', drawn.choice(ODD_VALUES)).encode()
    value = holder.pop(key)
    if isinstance(holder, dict) and drawn.random() < 0.5:
        holder[drawn.choice(ODD_FIELDS[:-1])] = value
    return json.dumps(values).encode()


def mutated_toml(data: bytes, drawn: random.Random) -> bytes:
    """A value of a TOML file of one key a line replaced by an odd one, or its key by another."""
    lines = data.decode().splitlines()
    numbers = [number for number, line in enumerate(lines) if " = " in line]
    number = drawn.choice(numbers)
    key, _, value = lines[number].partition(" = ")
    if drawn.random() < 0.8:
        value = drawn.choice((*ODD_VALUES, "inf", "nan", "-inf", "0x10", "1979-05-27", "'''\n'''"))
    else:
        key = drawn.choice(("seed", "a" + ".a" * 50_000, "[x", '"\\u0000"', f"{key}.a", key.upper()))
    lines[number] = f"{key} = {value}"
    return "\n".join(lines).encode()


def forge(store: Path) -> None:
    """Redoes the sizes and checksums in a store's manifest, where it can still be read."""
    path = store / MANIFEST
    try:
        values = json.loads(path.read_bytes())
        for name, file in values["files"].items():
            if (store / name).is_file():
                file.update({"bytes": (store / name).stat().st_size, "sha256": sha256_file(store / name)})
        values["checksum"] = manifest_checksum(values)
        path.write_text(json.dumps(values))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return  # not a manifest any more; it is left as it is


_MARK = "a value stands here"


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    """Every object or list in a JSON value with each of its keys or indices."""
    keys = values.keys() if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()
    for key in list(keys):
        yield values, key
        yield from _places(values[key])
