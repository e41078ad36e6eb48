"""Sources in small, and what is read of them and of results."""

from pathlib import Path

import pyarrow.parquet as pq

from attnflow.corpus.formats import BadRow
from attnflow.corpus.sources import open_source

SENTENCES = ["the film is good", "a dull dog", "it was never bad", "the smart film was not dull"]


def read(source, *columns, **options):
    """The rows of each part, by its name; a row that cannot be read is its reason."""
    return {
        part.name: [
            row.reason if isinstance(row, BadRow) else {name: row.get(name) for name in columns}
            for row in part.rows(columns)
        ]
        for part in open_source(source, **options)
    }


def texts(source, column="text", **options):
    """The texts of a source of one part."""
    (rows,) = read(source, column, **options).values()
    return [row if isinstance(row, str) else row[column] for row in rows]


def results(out):
    """The rows of a folder of results, by id, without the seconds that they took."""
    table = pq.ParquetDataset(Path(out) / "shards").read().drop_columns("seconds")
    rows = table.to_pylist()
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows), "an id is there twice"
    return found


def errors(out):
    """The errors of a folder of results, by id; None where there is none."""
    return {id: row["error"] for id, row in results(out).items()}
