"""The database of a report: DuckDB in a temporary file, with one or two runs as tables.

A run is a schema, `now` or `before`, of two tables:

    result   a row for each row of the shards, in their order, numbered by `key`
    word     a row for each word of each text: `key`, `place`, `first` and `last` character, `word`
             as it is counted, `effect`, `share` and `signed`

All aggregation is SQL. What does not fit in memory goes to the temporary file.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from attnflow.corpus.remote import is_local, told_in_one_line
from attnflow.corpus.schema import SCHEMA_VERSION, SOURCE_PREFIX
from attnflow.corpus.store import MANIFEST, SHARDS, Store
from attnflow.errors import InputError, StorageError, needs, shown

MEMORY = "1GB"  # of DuckDB; more goes to its temporary file
CONFIDENCE = 0.975  # of each end of an interval of 95 %
NOW, BEFORE = "now", "before"
WORDLIKE = r"[\p{L}\p{N}]"

# `half` is half the width of the interval of a mean of n values with the standard deviation s;
# `chance` the two-sided p-value of a mean of 0; `welch` half the width of the interval of a
# difference of two means, by the number and the variance of the values of each.
_MACROS = r"""
CREATE MACRO half(n, s) AS CASE WHEN n > 1 THEN t_quantile(n - 1.0) * s / sqrt(n) END;
CREATE MACRO chance(n, mean, s) AS CASE
    WHEN n < 2 THEN NULL
    WHEN s > 0 THEN 2 * t_below(n - 1.0, -abs(mean) / s * sqrt(n))
    ELSE (mean = 0)::DOUBLE
    END;
CREATE MACRO welch(n, v, m, w) AS CASE
    WHEN n < 2 OR m < 2 THEN NULL
    WHEN v / n + w / m <= 0 THEN 0.0
    ELSE sqrt(v / n + w / m) * t_quantile(
        (v / n + w / m) ** 2 / ((v / n) ** 2 / (n - 1) + (w / m) ** 2 / (m - 1)))
    END;
"""

_WORDS = """
CREATE TABLE {run}.word AS
WITH token AS (
    SELECT key, unnest(words) AS place, unnest(scores) AS score,
        unnest(contributions) AS contribution, unnest(signed_scores) AS signed
    FROM {run}.result WHERE error IS NULL
), summed AS (
    SELECT key, place, sum(score) AS score, sum(contribution) AS contribution,
        sum(signed) AS signed
    FROM token WHERE place IS NOT NULL GROUP BY key, place
), placed AS (
    SELECT s.*, r.word_starts[place + 1] AS first, r.word_ends[place + 1] AS last,
        score / nullif(sum(score) OVER (PARTITION BY key), 0) AS share,
        coalesce(trim(r.text[r.word_starts[place + 1] + 1:r.word_ends[place + 1]]), '') AS written
    FROM summed s JOIN {run}.result r USING (key)
)
SELECT key, place, first, last, {word} AS word, coalesce(contribution, share) AS effect, share,
    signed
FROM placed ORDER BY key, place
"""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Run:
    """A run in the database.

    Attributes:
        name: The schema of its tables.
        folder: The folder of its results.
        manifest: Its manifest.
        sources: Columns that were kept of the source, without their prefix.
        is_signed: True where it has contributions.
    """

    name: str
    folder: str
    manifest: Any
    sources: tuple[str, ...]
    is_signed: bool


class Database:
    """DuckDB with the runs of a report."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def run(self, sql: str, **values: Any) -> Any:
        """Run a statement and return its result.

        Raises:
            StorageError: DuckDB refuses, as for a full disk.
        """
        with told_in_one_line("aggregate", "the results"):
            return self.connection.execute(sql, values or None)

    def rows(self, kind: type[Row], sql: str, **values: Any) -> tuple[Row, ...]:
        """Return the rows of a query as dataclasses, whose fields are its columns in their order.

        Raises:
            StorageError: DuckDB refuses.
        """
        result = self.run(sql, **values)
        with told_in_one_line("aggregate", "the results"):
            return tuple(kind(*row) for row in result.fetchall())

    def one(self, sql: str, **values: Any) -> tuple[Any, ...]:
        """Return the first row of a query.

        Raises:
            StorageError: DuckDB refuses.
        """
        result = self.run(sql, **values)
        with told_in_one_line("aggregate", "the results"):
            return tuple(result.fetchone())

    def load(self, name: str, folder: str, *, fold_case: bool) -> Run:
        """Read a run into the schema of a name.

        Args:
            name: `NOW` or `BEFORE`.
            folder: The folder of its results, or its address.
            fold_case: Count *Good* and *good* as one word.

        Raises:
            InputError: It is not the folder of a run, or of another version.
            StorageError: It cannot be read.
        """
        store = Store(folder)
        manifest = store.read_json(MANIFEST)
        shards = store.shards()
        _check_run(folder, manifest, shards)
        paths = [store.shard_path(shard) for shard in shards]
        if not is_local(store.system):
            with told_in_one_line("read", folder):
                self.connection.register_filesystem(store.system)
            paths = [store.system.unstrip_protocol(path) for path in paths]
        with told_in_one_line("read", f"{folder}/{SHARDS}"):
            self.connection.execute(f"CREATE SCHEMA {name}")
            # Not in the order of a column: shards are named in the order of their rows.
            self.connection.execute(
                f"CREATE TABLE {name}.result AS SELECT row_number() OVER () - 1 AS key, "
                "* EXCLUDE (tokens, starts, ends, special) FROM read_parquet($paths, "
                # A folder such as label=x is part of an address here, and no column.
                "hive_partitioning := false)",
                {"paths": paths},
            )
            self.connection.execute(f"CREATE TABLE {name}.class (target BIGINT, label VARCHAR)")
            for target, label in enumerate(manifest.get("labels") or ()):
                self.connection.execute(
                    f"INSERT INTO {name}.class VALUES ($target, $label)",
                    {"target": target, "label": str(label)},
                )
            word = "lower(written)" if fold_case else "written"
            self.connection.execute(_WORDS.format(run=name, word=word))
        names = [row[0] for row in self.run(f"DESCRIBE {name}.result").fetchall()]
        sources = tuple(
            each.removeprefix(SOURCE_PREFIX) for each in names if each.startswith(SOURCE_PREFIX)
        )
        (unsigned,) = self.one(
            f"SELECT count(*) FROM {name}.result WHERE error IS NULL AND contributions IS NULL"
        )
        return Run(name, folder, manifest, sources, unsigned == 0)


@contextmanager
def opened() -> Iterator[Database]:
    """Open a database for a while.

    Raises:
        MissingExtraError: DuckDB or SciPy is not installed.
        StorageError: The temporary folder cannot be written.
    """
    with needs("a report needs DuckDB", "corpus"):
        import duckdb
    with tempfile.TemporaryDirectory(prefix="attnflow-report-") as folder:
        with told_in_one_line("open a database in", folder):
            connection = duckdb.connect(str(Path(folder) / "report.duckdb"))
        try:
            with told_in_one_line("open a database in", folder):
                connection.execute(f"SET memory_limit = '{MEMORY}'")
                connection.execute("SET autoinstall_known_extensions = false")
                _add_student(connection)
                connection.execute(_MACROS)
            yield Database(connection)
        finally:
            connection.close()


def column(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _add_student(connection: Any) -> None:
    """Add Student's t to SQL: `t_quantile(freedom)` of 97.5 %, and `t_below(freedom, t)`."""
    with needs("intervals need SciPy", "corpus"):
        from scipy.special import stdtr, stdtrit
    import pyarrow as pa

    def quantile(freedom: Any) -> Any:
        return pa.array(stdtrit(freedom.to_numpy(zero_copy_only=False), CONFIDENCE))

    def below(freedom: Any, t: Any) -> Any:
        return pa.array(stdtr(*(x.to_numpy(zero_copy_only=False) for x in (freedom, t))))

    connection.create_function("t_quantile", quantile, ["DOUBLE"], "DOUBLE", type="arrow")
    connection.create_function("t_below", below, ["DOUBLE", "DOUBLE"], "DOUBLE", type="arrow")


def _check_run(folder: str, manifest: Any, shards: list[str]) -> None:
    fingerprint = manifest.get("fingerprint") if isinstance(manifest, dict) else None
    if not isinstance(fingerprint, dict):
        raise InputError(
            f"{folder} has no {MANIFEST} of a run: name the folder that `attnflow corpus` or "
            "explain_corpus wrote (out=, --out)."
        )
    version = fingerprint.get("schema")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{folder} has results of schema {shown(version)}, expected {SCHEMA_VERSION}: explain "
            "the corpus again with this version."
        )
    if not shards:
        raise StorageError(f"{folder}/{SHARDS} has no shards yet: let the run write some first.")
