"""Files of JSON lines that survive a kill and damage: all other lines are kept.

A line that a kill cut short has no end, and is passed over. A line that has an end and is damaged
all the same is named; what is done then is up to the caller.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnflow.errors import InputError
from attnflow.files import Growing, is_there, parse_json, read_bytes, write_whole

Record = dict[str, Any]
# Returns what is wrong with a record, None where nothing is.
Check = Callable[[Record], str | None]
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class DamagedLine:
    """A line that holds no record.

    Attributes:
        number: Its number in the file, from 1.
        content: Its bytes, with the line's end.
        reason: What is wrong with it: "is not JSON: ...".
    """

    number: int
    content: bytes
    reason: str


OnDamage = Callable[[Path, Sequence[DamagedLine]], None]


def refuse(path: Path, damaged: Sequence[DamagedLine]) -> None:
    """Raise an error about the first damaged line.

    Raises:
        InputError: Always.
    """
    raise InputError(f"{path}, line {damaged[0].number} {damaged[0].reason}.")


def sound(record: Record) -> str | None:
    """Find nothing wrong with any record."""
    return None


def read_records(path: Path, *, check: Check = sound, on_damage: OnDamage = refuse) -> list[Record]:
    """Return the records of all whole lines.

    Args:
        path: The file.
        check: What a record must pass; called in the order of the lines.
        on_damage: Called with the damaged lines, if there are any.

    Raises:
        InputError: A line is damaged, and `on_damage` refuses it.
        StorageError: The file cannot be read.
    """
    found = _read(path, check)
    if found.damaged:
        on_damage(path, found.damaged)
    return found.records


def resume_records(
    path: Path, *, check: Check = sound, on_damage: OnDamage = refuse
) -> list[Record]:
    """Return the records of a file, none if there is no file, and make it ready for more.

    Damaged lines that `on_damage` does not refuse are moved to a file next to this one, with
    `.damaged` in its name; half a line at the end is dropped.

    Raises:
        InputError, StorageError: As `read_records`.
    """
    if not is_there(path):
        return []
    found = _read(path, check)
    if found.damaged:
        on_damage(path, found.damaged)
        # Before they leave the file: a kill in between leaves them in both.
        with Growing(path.with_suffix(f".damaged{path.suffix}")) as aside:
            aside.append(b"".join(line.content for line in found.damaged))
    if found.damaged or found.is_cut:  # the next record must not be glued to half a line
        write_whole(path, b"".join(found.whole), overwrite=True)
    return found.records


def as_lines(records: Sequence[Record]) -> bytes:
    """Return each record as a line."""
    return "".join(json.dumps(record) + "\n" for record in records).encode("ascii")


@dataclass
class _Lines:
    """Records of a file, with the lines that they are on, and the damaged lines."""

    records: list[Record]
    whole: list[bytes]
    damaged: list[DamagedLine]
    is_cut: bool


def _read(path: Path, check: Check) -> _Lines:
    *lines, rest = read_bytes(path).split(b"\n")
    found = _Lines([], [], [], is_cut=bool(rest))
    for number, line in enumerate(lines, 1):
        content = line.removeprefix(BOM) if number == 1 else line
        if not content.strip():
            continue
        try:
            record = _record(content, check)
        except InputError as error:
            found.damaged.append(DamagedLine(number, content + b"\n", str(error)))
        else:
            found.records.append(record)
            found.whole.append(content + b"\n")
    return found


def _record(line: bytes, check: Check) -> Record:
    """The record of a line.

    Raises:
        InputError: There is none; the message says why.
    """
    try:
        record = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8: {error.reason} at byte {error.start}") from error
    except InputError as error:
        raise InputError(f"is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise InputError("is not a JSON object")
    fault = check(record)
    if fault is not None:
        raise InputError(fault)
    return record
