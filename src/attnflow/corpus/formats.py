"""Rows of one file of a source, in its order: Parquet, Arrow, JSON lines, CSV, TSV or text.

PyArrow reads the binary formats. Lines are read by Python's own readers, since PyArrow's give up a
file at the first line that is not UTF-8 or not JSON: here such a line is a row with its error.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from attnflow.errors import InputError, shown
from attnflow.files import parse_json

ROWS_AT_ONCE = 1024
LONGEST_FIELD = 2**31 - 1
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, with the reason."""

    reason: str


RawRow = Mapping[str, Any] | BadRow


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        rows: Reads the rows of an open file; takes the file and the columns to read.
        columns: Reads the names of an open file's columns; None where lines differ.
        count: Reads the number of rows without the rows, where a file states it; else None.
    """

    rows: Callable[[IO[bytes], Sequence[str]], Iterator[RawRow]]
    columns: Callable[[IO[bytes]], list[str] | None]
    count: Callable[[IO[bytes]], int] | None = None


def format_of(name: str) -> Format | None:
    """Return the format of a file by the end of its name; None for a name that says nothing."""
    lower = name.lower()
    for ending in COMPRESSED:
        lower = lower.removesuffix(ending)
    return next((each for ending, each in FORMATS.items() if lower.endswith(ending)), None)


def _parquet_rows(file: IO[bytes], columns: Sequence[str]) -> Iterator[RawRow]:
    parquet = pq.ParquetFile(file)
    # Only what a row group needs is in memory, and of it so many rows as Python objects.
    for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=list(columns)):
        yield from batch.to_pylist()


def _parquet_columns(file: IO[bytes]) -> list[str]:
    return list(pq.ParquetFile(file).schema_arrow.names)


def _parquet_count(file: IO[bytes]) -> int:
    return int(pq.ParquetFile(file).metadata.num_rows)


def _arrow_rows(file: IO[bytes], columns: Sequence[str]) -> Iterator[RawRow]:
    for batch in _arrow_batches(file):
        yield from batch.select(list(columns)).to_pylist()


def _arrow_batches(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    if file.read(6) == b"ARROW1":
        reader = pa.ipc.open_file(file)
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
        return
    file.seek(0)
    yield from pa.ipc.open_stream(file)  # as the library datasets stores them


def _arrow_columns(file: IO[bytes]) -> list[str]:
    if file.read(6) == b"ARROW1":
        return list(pa.ipc.open_file(file).schema.names)
    file.seek(0)
    return list(pa.ipc.open_stream(file).schema.names)


def _json_rows(file: IO[bytes], columns: Sequence[str]) -> Iterator[RawRow]:
    for line in _lines(file):
        if isinstance(line, BadRow):
            yield line
        elif line.strip():
            yield _object(line)


def _object(line: str) -> RawRow:
    try:
        row = parse_json(line)
    except InputError as error:
        return BadRow(f"the line is not JSON: {error}")
    return row if isinstance(row, dict) else BadRow(f"expected a JSON object, got {shown(row)}")


def _csv_rows(file: IO[bytes], columns: Sequence[str], **dialect: Any) -> Iterator[RawRow]:
    csv.field_size_limit(LONGEST_FIELD)
    names: list[str] | None = None
    for fields in csv.reader(_decoded(file), **dialect):
        if names is None:
            names = fields
        elif len(fields) != len(names):
            if fields:  # an empty line is none
                yield BadRow(f"the line has {len(fields)} fields, the header {len(names)}")
        elif any(map(_is_broken, fields)):
            yield BadRow("the line is not UTF-8")
        else:
            yield dict(zip(names, fields, strict=True))


def _csv_columns(file: IO[bytes], **dialect: Any) -> list[str]:
    return next(csv.reader(_decoded(file), **dialect), [])


# In a .tsv file quotes belong to the text, and often have no partner.
_TABS: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}


def _tsv_rows(file: IO[bytes], columns: Sequence[str]) -> Iterator[RawRow]:
    return _csv_rows(file, columns, **_TABS)


def _tsv_columns(file: IO[bytes]) -> list[str]:
    return _csv_columns(file, **_TABS)


def _text_rows(file: IO[bytes], columns: Sequence[str]) -> Iterator[RawRow]:
    for line in _lines(file):
        yield line if isinstance(line, BadRow) else {"text": line}


def _text_columns(file: IO[bytes]) -> list[str]:
    return ["text"]


def _columns_of_lines(file: IO[bytes]) -> None:
    return None


def _lines(file: IO[bytes]) -> Iterator[str | BadRow]:
    """Lines without their ends; a byte-order mark is no part of the first."""
    for line in _raw_lines(file):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            yield BadRow(f"the line is not UTF-8 ({error.reason} at byte {error.start})")


def _decoded(file: IO[bytes]) -> Iterator[str]:
    """Lines with their ends, in which bytes that are not UTF-8 are halves of surrogate pairs."""
    return (line.decode("utf-8", "surrogateescape") for line in _raw_lines(file))


def _raw_lines(file: Iterable[bytes]) -> Iterator[bytes]:
    for number, line in enumerate(file):
        yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line


def _is_broken(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text)


FORMATS = {
    ".parquet": Format(_parquet_rows, _parquet_columns, _parquet_count),
    ".arrow": Format(_arrow_rows, _arrow_columns),
    ".feather": Format(_arrow_rows, _arrow_columns),
    ".jsonl": Format(_json_rows, _columns_of_lines),
    ".ndjson": Format(_json_rows, _columns_of_lines),
    ".json": Format(_json_rows, _columns_of_lines),
    ".csv": Format(_csv_rows, _csv_columns),
    ".tsv": Format(_tsv_rows, _tsv_columns),
    ".txt": Format(_text_rows, _text_columns),
}
