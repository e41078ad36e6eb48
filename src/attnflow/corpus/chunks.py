"""Chunks: consecutive rows of one part of a source, which become one shard of results.

A chunk's rows depend on its part alone, so that a run that goes on makes the same chunks. A
shard's name has the part, the first row and a digest of the rows: where a file of that name is
there, the chunk is done, and where its rows have changed since, the name differs.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnflow.checks import is_integer
from attnflow.corpus.columns import Columns, SourceRow, encodable
from attnflow.corpus.formats import BadRow, Head, RawRow
from attnflow.corpus.sources import Part
from attnflow.errors import shown

STEM = 40  # characters of a file's name in that of a shard
PART_DIGITS, ROWS_DIGITS = 16, 16
_NAME = re.compile(
    rf"((.+-[0-9a-f]{{{PART_DIGITS}}})-([0-9]{{10}}))-[0-9a-f]{{{ROWS_DIGITS}}}\.parquet"
)


@dataclass(frozen=True)
class Chunk:
    """Rows that are explained and written together.

    Attributes:
        file: The name of their part.
        start: Index of the first row in it.
        rows: The rows.
        shard: The name of the file of their results.
    """

    file: str
    start: int
    rows: tuple[SourceRow, ...]
    shard: str

    @property
    def place(self) -> str:
        """The shard's name without the digest: the same for changed rows at the same place."""
        return place_of(self.shard)


def place_of(shard: str) -> str:
    """Return the name of a shard without the digest of its rows."""
    found = _NAME.fullmatch(shard)
    return shard if found is None else found[1]


def label_and_start(shard: str) -> tuple[str, int]:
    """Return the label of the part of a shard, and the index of its first row there."""
    found = _NAME.fullmatch(shard)
    return (shard, 0) if found is None else (found[2], int(found[3]))


def label_of(file: str) -> str:
    """Return what the names of all shards of a part begin with.

    Args:
        file: The name of the part.
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "-", file).strip("-")[-STEM:] or "part"
    named = hashlib.sha256(file.encode("utf-8", "surrogatepass")).hexdigest()[:PART_DIGITS]
    return f"{stem}-{named}"


def is_shard(name: str) -> bool:
    """Return whether a file has the name of a shard."""
    return _NAME.fullmatch(name) is not None


def chunks_of(part: Part, columns: Columns, size: int) -> Iterator[Chunk]:
    """Yield the chunks of a part, as it is read.

    Args:
        part: The part.
        columns: Which columns are read.
        size: Rows of a chunk; the last has fewer.

    Raises:
        StorageError: The part cannot be read, or not to its end. The chunks before that were given.
    """
    rows: list[SourceRow] = []
    head = Head() if columns.label is None else part.head()
    for number, raw in enumerate(part.rows(columns.read)):
        rows.append(source_row(part.name, head, columns, number, raw))
        if len(rows) == size:
            yield _chunk(part, rows)
            rows = []
    if rows:
        yield _chunk(part, rows)


def is_longer(chunk: Chunk, shard: str, rows: int) -> bool:
    """Return whether a chunk begins with all rows of a shard, which had fewer: the file has grown.

    Args:
        chunk: The chunk.
        shard: The name of the shard.
        rows: Number of its rows.
    """
    return rows < len(chunk.rows) and _shard_name(chunk.file, chunk.rows[:rows]) == shard


def _chunk(part: Part, rows: Sequence[SourceRow]) -> Chunk:
    return Chunk(part.name, rows[0].row, tuple(rows), _shard_name(part.name, rows))


def _shard_name(file: str, rows: Sequence[SourceRow]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        content = [row.id, dict(row.values), row.label, row.error]
        digest.update(json.dumps(content, default=str).encode())
    return f"{label_of(file)}-{rows[0].row:010d}-{digest.hexdigest()[:ROWS_DIGITS]}.parquet"


def source_row(part: str, head: Head, columns: Columns, number: int, raw: RawRow) -> SourceRow:
    """Return a row of a source as it is explained.

    Args:
        part: The name of its part.
        head: What is known of the part, such as names of classes.
        columns: Which columns are read.
        number: Its index there.
        raw: The row as it was read.
    """
    told = raw.values if isinstance(raw, BadRow) else raw
    values = {name: told.get(name) for name in columns.read}
    label = None if columns.label is None else _label(told.get(columns.label), head, columns.label)
    id, error = id_of(part, number, told, columns.id), None
    if isinstance(raw, BadRow):
        error = raw.reason
    elif columns.text not in raw:
        have = shown(list(raw), 200)
        error = f"the row has no column {shown(columns.text)}: it has {have}"
    elif columns.id is not None and not _has_id(raw, columns.id):
        error = f"the id is missing (column {shown(columns.id)})"
    return SourceRow(id, number, values, label, error)


def _label(value: Any, head: Head, column: str) -> Any:
    """A row's label; of an integer that stands for a class, the class's name."""
    if isinstance(value, float) and value.is_integer():  # as pandas has integers beside nulls
        value = int(value)
    names = head.classes.get(column)
    if names is None or not is_integer(value):
        return value
    if value < 0:  # as the library datasets writes that there is none
        return None
    return names[value] if value < len(names) else value


def id_of(part: str, number: int, row: Mapping[str, Any], column: str | None) -> str:
    """Return a row's id: that of the column where it has one, else one of its part and number."""
    id = str(row[column]) if column is not None and _has_id(row, column) else f"{part}:{number}"
    return encodable(id)


def _has_id(row: Mapping[str, Any], column: str) -> bool:
    value = row.get(column)
    return value is not None and not (isinstance(value, str) and not value)
