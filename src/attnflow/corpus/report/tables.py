"""The sections of a report as tables: columns of plain values, CSV, Parquet and data frames."""

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from attnflow.attribution.table import csv_of
from attnflow.corpus.report import sections
from attnflow.errors import needs
from attnflow.files import all_or_none, as_path, check_folder, make_folder, write_whole

Table = dict[str, list[Any]]

# Sections in the order of the page, with the type of their rows.
SECTIONS: Mapping[str, type[Any]] = {
    "summary": sections.Summary,
    "labels": sections.LabelCount,
    "words": sections.WordEffect,
    "texts": sections.ExtremeText,
    "suspects": sections.Suspect,
    "slices": sections.SliceDifference,
    "accuracy": sections.Accuracy,
    "confusion": sections.Confusion,
    "mistakes": sections.Mistake,
    "drift": sections.Drift,
    "label_drift": sections.LabelDrift,
    "flips": sections.Flip,
    "word_drift": sections.WordDrift,
    "segments": sections.SegmentShare,
    "failures": sections.Failure,
    "certificates": sections.Certificates,
}


def table_of(section: str, rows: Iterable[Any]) -> Table:
    """Return the rows of a section as columns, which are there without rows too.

    Args:
        section: Its name.
        rows: Its rows.
    """
    listed = list(rows)
    return {
        each.name: [getattr(row, each.name) for row in listed] for each in fields(SECTIONS[section])
    }


def csv_bytes(section: str, table: Table) -> bytes:
    """Return a table as CSV in UTF-8, with its header."""
    return csv_of(table).encode("utf-8")


def parquet_bytes(section: str, table: Table) -> bytes:
    """Return a table as a Parquet file, with the same types whatever its rows.

    Raises:
        MissingExtraError: PyArrow is not installed.
    """
    with needs("Parquet needs PyArrow", "corpus"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in _types(SECTIONS[section]).items()])
    content = io.BytesIO()
    pq.write_table(pa.table(table, schema=schema), content, compression="zstd")
    return content.getvalue()


def write_tables(
    folder: str | Path,
    tables: Mapping[str, Table],
    ending: str,
    content: Callable[[str, Table], bytes],
    *,
    overwrite: bool,
) -> list[Path]:
    """Write a file for each table, all of them or none, and return their paths.

    Args:
        folder: The folder, made where it is missing.
        tables: The tables by section.
        ending: The end of the files' names: ".csv".
        content: Makes a file's content of a section and its table.
        overwrite: Replace files that are there.

    Raises:
        StorageError: A file exists and `overwrite` is false, or the folder cannot be written.
    """
    place = as_path(folder)
    check_folder(place)
    files = {place / f"{name}{ending}": content(name, table) for name, table in tables.items()}
    make_folder(place)
    with all_or_none(files):
        return [write_whole(path, data, overwrite=overwrite) for path, data in files.items()]


def _types(kind: type[Any]) -> dict[str, type[Any]]:
    """Return the type of each field, of those that may be None without it."""
    hints = get_type_hints(kind)
    found = {}
    for each in fields(kind):
        hint = hints[each.name]
        found[each.name] = next((one for one in get_args(hint) if one is not type(None)), hint)
    return found
