"""Files of JSON lines that survive a kill: only the line that it cut short is lost."""

import json
from pathlib import Path
from typing import IO, Any

from attnflow.errors import InputError
from attnflow.files import write_whole

Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    """Return the records of all whole lines.

    Raises:
        InputError: A line is not JSON.
    """
    return _parsed(_whole_lines(path), path)


def resume_records(path: Path) -> list[Record]:
    """Return the records of a file, none if there is no file, and make it ready for more.

    Raises:
        InputError: A line is not JSON.
    """
    if not path.exists():
        return []
    lines = _whole_lines(path)
    # The next record must not be glued to half a line.
    if len(lines) < path.stat().st_size:
        write_whole(path, lines, overwrite=True)
    return _parsed(lines, path)


def append_record(file: IO[str], record: Record) -> None:
    """Write a record as one line."""
    # In ASCII, so that a record holds no other line break that `splitlines` would find.
    file.write(json.dumps(record) + "\n")


def _whole_lines(path: Path) -> bytes:
    """Return the file up to the end of its last line that was not cut short."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def _parsed(lines: bytes, path: Path) -> list[Record]:
    records = []
    for number, line in enumerate(lines.decode("utf-8").splitlines(), 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number} is not JSON: {error}.") from error
    return records
