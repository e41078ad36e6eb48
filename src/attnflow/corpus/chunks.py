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

from attnflow.corpus.columns import Columns, SourceRow
from attnflow.corpus.formats import BadRow, RawRow
from attnflow.corpus.sources import Part
from attnflow.errors import shown

STEM = 40  # characters of a file's name in that of a shard
PART_DIGITS, ROWS_DIGITS = 8, 16
_NAME = re.compile(
    rf"(.+-[0-9a-f]{{{PART_DIGITS}}}-[0-9]{{10}})-[0-9a-f]{{{ROWS_DIGITS}}}\.parquet"
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
    for number, raw in enumerate(part.rows(columns.read)):
        rows.append(source_row(part.name, columns, number, raw))
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
        content = [row.id, dict(row.values), row.error]
        digest.update(json.dumps(content, sort_keys=True, default=str).encode())
    return f"{label_of(file)}-{rows[0].row:010d}-{digest.hexdigest()[:ROWS_DIGITS]}.parquet"


def source_row(file: str, columns: Columns, number: int, raw: RawRow) -> SourceRow:
    """Return a row of a source as it is explained.

    Args:
        file: The name of its part.
        columns: Which columns are read.
        number: Its index there.
        raw: The row as it was read.
    """
    made = f"{file}:{number}"
    if isinstance(raw, BadRow):
        return SourceRow(made, number, {}, raw.reason)
    values = {name: raw.get(name) for name in columns.read}
    if columns.text not in raw:
        have = shown(list(raw), 200)
        reason = f"the row has no column {shown(columns.text)}: it has {have}"
        return SourceRow(made, number, values, reason)
    if columns.id is None:
        return SourceRow(made, number, values)
    found = id_of(raw, columns.id)
    if found is None:
        return SourceRow(made, number, values, f"the id is missing (column {shown(columns.id)})")
    return SourceRow(found, number, values)


def id_of(raw: Mapping[str, Any], column: str) -> str | None:
    """Return a row's id as a string; None where it has none."""
    value = raw.get(column)
    return None if value is None or value == "" else str(value)
