"""Rows of one file of a source, in its order: Parquet, Arrow, JSON lines, CSV, TSV or text.

PyArrow reads the binary formats. Lines are read by Python's own readers, since PyArrow's give up a
file at the first line that is not UTF-8 or not JSON: here such a line is a row with its error.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from attnflow.errors import InputError, shown
from attnflow.files import parse_json

ROWS_AT_ONCE = 256
PIECE = 1 << 20  # bytes of a Parquet column that are read at once
LONGEST_FIELD = 1 << 24  # characters of a CSV field: a quote that is never closed ends there
MARK = b"\xef\xbb\xbf"  # of the order of bytes
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read.

    Attributes:
        reason: The reason.
        values: The values of those of its columns that can.
    """

    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)


RawRow = Mapping[str, Any] | BadRow


@dataclass(frozen=True)
class Head:
    """The head of a part of a source: all that it tells before its rows are read.

    Attributes:
        columns: The names of its columns; None where rows may differ.
        rows: The number of its rows; None where only reading them tells.
        classes: Names that integers from 0 stand for, by column, as the library datasets notes
            them.
    """

    columns: list[str] | None = None
    rows: int | None = None
    classes: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        rows: Reads the rows of an open file; takes the file and the columns to read.
        head: Reads the head of an open file.

    Both raise an `InputError`, which goes on after "cannot read", where a file is of another form
    than its name says; PyArrow's errors pass through.
    """

    rows: Callable[[IO[bytes], Sequence[str]], Iterator[RawRow]]
    head: Callable[[IO[bytes]], Head]


def format_of(name: str) -> Format | None:
    """Return the format of a file by the end of its name; None for a name that says nothing."""
    lower = name.lower()
    for ending in COMPRESSED:
        lower = lower.removesuffix(ending)
    return next((each for ending, each in FORMATS.items() if lower.endswith(ending)), None)


def arrow_rows(batch: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> Iterator[RawRow]:
    """Yield the rows of an Arrow batch or table, with a few at once as Python objects."""
    some = batch.select(list(columns))
    for start in range(0, some.num_rows, ROWS_AT_ONCE):
        piece = some.slice(start, ROWS_AT_ONCE)
        try:
            rows = piece.to_pylist()
        except UnicodeDecodeError:  # Arrow does not check the strings of a file
            rows = [_one_row(piece, i) for i in range(piece.num_rows)]
        yield from rows


def _one_row(batch: pa.RecordBatch | pa.Table, index: int) -> RawRow:
    values, broken = {}, []
    for name in batch.schema.names:
        try:
            values[name] = batch[name][index].as_py()
        except UnicodeDecodeError:
            broken.append(name)
    return BadRow(f"column {shown(broken[0])} is not UTF-8", values) if broken else values


def arrow_head(schema: pa.Schema, rows: int | None) -> Head:
    """Return what an Arrow schema tells."""
    return Head(list(schema.names), rows, _classes(schema))


def _classes(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of classes, which the library datasets writes into a schema's metadata."""
    note = (schema.metadata or {}).get(b"huggingface", b"")
    try:
        features = parse_json(note.decode("utf-8"))["info"]["features"].items()
    except (InputError, UnicodeDecodeError, AttributeError, TypeError, KeyError):
        return {}  # another's note, or none
    return {
        name: feature["names"]
        for name, feature in features
        if isinstance(feature, dict)
        and feature.get("_type") == "ClassLabel"
        and isinstance(feature.get("names"), list)
    }


def _parquet_rows(file: IO[bytes], columns: Sequence[str]) -> Iterator[RawRow]:
    # Otherwise the columns of a whole row group are read before its first row.
    parquet = pq.ParquetFile(
        file, buffer_size=PIECE, pre_buffer=False, page_checksum_verification=True
    )
    for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=list(columns)):
        yield from arrow_rows(batch, columns)


def _parquet_head(file: IO[bytes]) -> Head:
    parquet = pq.ParquetFile(file)
    return arrow_head(parquet.schema_arrow, int(parquet.metadata.num_rows))


def _arrow_rows(file: IO[bytes], columns: Sequence[str]) -> Iterator[RawRow]:
    for batch in _batches(_arrow_reader(file)):
        yield from arrow_rows(batch, columns)


def _arrow_reader(file: IO[bytes]) -> Any:
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    # The library datasets stores a stream, Feather a file.
    return pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchStreamReader):
        return iter(reader)
    return (reader.get_batch(i) for i in range(reader.num_record_batches))


def _arrow_head(file: IO[bytes]) -> Head:
    reader = _arrow_reader(file)
    return arrow_head(reader.schema, sum(batch.num_rows for batch in _batches(reader)))


def _json_rows(file: IO[bytes], columns: Sequence[str]) -> Iterator[RawRow]:
    for line in _decoded(file):
        if line.strip():
            yield _object(line)


def _object(line: str) -> RawRow:
    try:
        row = parse_json(line)
    except InputError as error:
        return _not_utf8({}) if _is_broken(line) else BadRow(f"the line is not JSON: {error}")
    if not isinstance(row, dict):
        return BadRow(f"expected a JSON object, got {shown(row)}")
    return _not_utf8(row) if _is_broken(line) else row


def _not_utf8(row: Mapping[str, Any]) -> BadRow:
    whole = {k: v for k, v in row.items() if not _is_broken(json.dumps(v, ensure_ascii=False))}
    return BadRow("the line is not UTF-8", whole)


def _json_head(file: IO[bytes]) -> Head:
    """The head of a .json file, which may hold something else than a line for each object."""
    first = next((line for line in file if line.strip()), b"").removeprefix(MARK).strip()
    if first.startswith(b"[") or first == b"{":
        raise InputError(
            "the file holds one JSON value over several lines or one array, and not an object on "
            "each line (JSON lines), which can be read row by row"
        )
    return Head()


def _csv_rows(file: IO[bytes], columns: Sequence[str], **dialect: Any) -> Iterator[RawRow]:
    records = _records(file, dialect)
    names = _header(records)
    for fields in records:
        if isinstance(fields, BadRow):
            yield fields
        elif len(fields) != len(names):
            if fields:  # an empty line is none
                yield BadRow(f"the line has {len(fields)} fields, the header {len(names)}")
        elif any(map(_is_broken, fields)):
            yield _not_utf8(dict(zip(names, fields, strict=True)))
        else:
            yield dict(zip(names, fields, strict=True))


def _records(file: IO[bytes], dialect: Mapping[str, Any]) -> Iterator[list[str] | BadRow]:
    """The lines of a file of values; one that cannot be read does not end the others."""
    reader = csv.reader(_decoded(file), strict=True, **dialect)
    while True:
        before = csv.field_size_limit(LONGEST_FIELD)  # of the whole process
        try:
            record: list[str] | BadRow | None = next(reader, None)
        except csv.Error as error:
            record = BadRow(f"the line is not CSV: {error} (line {reader.line_num})")
        finally:
            csv.field_size_limit(before)
        if record is None:
            return
        yield record


def _header(records: Iterator[list[str] | BadRow]) -> list[str]:
    names = next(records, [])
    if isinstance(names, BadRow):
        raise InputError(f"the header cannot be read: {names.reason}")
    return names


def _csv_head(file: IO[bytes], **dialect: Any) -> Head:
    names = _header(_records(file, dialect))
    return Head(names) if names else Head(rows=0)  # a file without a line


# In a .tsv file quotes belong to the text, and often have no partner.
_TABS: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}


def _tsv_rows(file: IO[bytes], columns: Sequence[str]) -> Iterator[RawRow]:
    return _csv_rows(file, columns, **_TABS)


def _tsv_head(file: IO[bytes]) -> Head:
    return _csv_head(file, **_TABS)


def _text_rows(file: IO[bytes], columns: Sequence[str]) -> Iterator[RawRow]:
    for line in _decoded(file):
        text = line.rstrip("\r\n")
        if text.strip():
            yield BadRow("the line is not UTF-8") if _is_broken(text) else {"text": text}


def _text_head(file: IO[bytes]) -> Head:
    return Head(["text"])


def _lines_head(file: IO[bytes]) -> Head:
    return Head()


def _decoded(file: Iterable[bytes]) -> Iterator[str]:
    """Lines with their ends; bytes that are not UTF-8 become halves of surrogate pairs.

    A byte-order mark is no part of the first.
    """
    for number, line in enumerate(file):
        whole = line.removeprefix(MARK) if number == 0 else line
        yield whole.decode("utf-8", "surrogateescape")


def _is_broken(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text)


FORMATS = {
    ".parquet": Format(_parquet_rows, _parquet_head),
    ".arrow": Format(_arrow_rows, _arrow_head),
    ".feather": Format(_arrow_rows, _arrow_head),
    ".jsonl": Format(_json_rows, _lines_head),
    ".ndjson": Format(_json_rows, _lines_head),
    ".json": Format(_json_rows, _json_head),
    ".csv": Format(_csv_rows, _csv_head),
    ".tsv": Format(_tsv_rows, _tsv_head),
    ".txt": Format(_text_rows, _text_head),
}
