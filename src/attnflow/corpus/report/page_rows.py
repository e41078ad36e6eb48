"""The rows of the page's table, as blocks that a browser reads one by one.

A column is a few blocks of values; what opens with a row is in blocks of its own, so that a page
reads no more of it than is looked at. A block is JSON, compressed by gzip and written in base64.
Names, of which few differ, are indices of a list.
"""

import base64
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from attnflow.corpus.report.database import NOW, Database, Run, column
from attnflow.corpus.schema import SOURCE_PREFIX

COLUMN_ROWS = 10_000  # of a block of a column
DETAIL_ROWS = 200  # of a block of what opens: a block is read at once when one of them does
ROWS_AT_ONCE = 5_000  # of what opens, as DuckDB makes it: its lists have to fit in memory
MOST_NAMES = 1_000  # different values of a column that is written as indices
MOST_CHOICES = 60  # of a list to choose from; more are searched by typing
TEXT, NAME, NUMBER, PERCENT = "text", "name", "number", "percent"

# A finite number with four digits, which JSON has in full.
_BRIEF = """
CREATE MACRO brief(x) AS CASE WHEN isfinite(x) THEN format('{:.3e}', x::DOUBLE)::DOUBLE END
"""

_ROWS = f"""
CREATE TABLE page AS
WITH chosen AS (SELECT key FROM {NOW}.result ORDER BY hash(id), key LIMIT $most),
size AS (SELECT key, count(*) AS words FROM {NOW}.word GROUP BY key)
SELECT row_number() OVER (ORDER BY r.key) - 1 AS number, r.*, j.true_label AS matched,
    CASE WHEN correct IS NULL THEN NULL WHEN correct THEN 'right' ELSE 'wrong' END AS outcome,
    size.words AS size, 1 / (size.words * concentration) AS evenness
FROM {NOW}.result r JOIN chosen USING (key) JOIN {NOW}.judged j USING (key)
LEFT JOIN size USING (key)
"""

# Shares in thousandths, effects in parts of $scale: integers take half of the space.
_DETAILS = f"""
WITH word AS (
    SELECT key, list(first ORDER BY place) AS f, list(last - first ORDER BY place) AS n,
        list(round(1000 * share)::INT ORDER BY place) AS s,
        list(round($scale * effect)::INT ORDER BY place) AS c,
        list(round($scale * signed)::INT ORDER BY place) AS v
    FROM {NOW}.word WHERE key BETWEEN
        (SELECT min(key) FROM page WHERE number >= $first) AND
        (SELECT max(key) FROM page WHERE number < $last)
    GROUP BY key
)
SELECT number // {DETAIL_ROWS}, to_json(list({{
    file: file, row: row, words: CASE WHEN word.key IS NULL THEN NULL ELSE
        {{f: word.f, n: word.n, s: word.s, c: word.c, v: word.v}} END,
    explained: brief(explained),
    flow: brief(flow),
    special: round($scale * list_sum([each[1] for each in
        list_zip(contributions, page.words) if each[2] IS NULL]))::INT,
    status: certificate.status,
    gap: brief(certificate.gap),
    bound: brief(certificate.upper_bound),
    conservation: brief(certificate.conservation),
    centrality: brief(certificate.centrality),
    iterations: certificate.iterations, truncated: truncated, warnings: warnings,
    segments: segments, model: model, tensor: tensor
}} ORDER BY number))
FROM page LEFT JOIN word ON word.key = page.key WHERE number >= $first AND number < $last
GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: Its name in the results.
        title: Its heading.
        kind: "text", "name", "number" or "percent".
        values: The values of names, in the order of their indices.
        shown: False where it is only searched and filtered by.
    """

    name: str
    title: str
    kind: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """A block of a column or of what opens.

    Attributes:
        column: Number of the column; -1 of what opens.
        content: The compressed JSON in base64.
    """

    column: int
    content: str


@dataclass(frozen=True)
class Rows:
    """All rows of the table.

    Attributes:
        count: Number of rows.
        columns: Its columns.
        blocks: Their blocks, of each column in the order of the rows, then those of what opens.
    """

    count: int
    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]


def table_rows(database: Database, run: Run, most: int, scale: int) -> Rows:
    """Return the rows of the table.

    Args:
        database: The database, with judged texts.
        run: The run that is shown.
        most: Most rows.
        scale: Parts of 1 that effects are rounded to.
    """
    database.run(_BRIEF)
    database.run(_ROWS, most=most)
    (count,) = database.one("SELECT count(*) FROM page")
    columns = _columns(database, run)
    blocks = [
        Block(number, content)
        for number, each in enumerate(columns)
        for content in _column_blocks(database, each)
    ]
    blocks += [
        Block(-1, content)
        for first in range(0, count, ROWS_AT_ONCE)
        for content in _packed_rows(
            database, _DETAILS, first=first, last=first + ROWS_AT_ONCE, scale=scale
        )
    ]
    return Rows(count, columns, tuple(blocks))


def _columns(database: Database, run: Run) -> tuple[Column, ...]:
    wanted = [
        ("id", "Id", TEXT),
        ("text", "Text", TEXT),
        ("label", "Explained", NAME),
        ("predicted", "Predicted", NAME),
        ("matched", "True label", NAME),
        ("outcome", "Outcome", NAME),
        ("confidence", "Confidence", PERCENT),
        ("probability", "Probability", PERCENT),
        ("evenness", "Evenness", NUMBER),
        ("size", "Words", NUMBER),
        ("truncated", "Cut off", NUMBER),
        ("error_kind", "Error", NAME),
        ("error", "Message", TEXT),
    ]
    wanted += [(f"{SOURCE_PREFIX}{name}", name, NAME) for name in run.sources]
    return tuple(
        _with_values(database, Column(*each)) for each in wanted if _is_told(database, each[0])
    )


def _is_told(database: Database, name: str) -> bool:
    """Return whether a column tells more than another: what is the same in all rows is left out."""
    if name in ("id", "text"):
        return True
    if name in ("label", "probability"):
        other = {"label": "predicted", "probability": "confidence"}[name]
        where = f"{name} IS DISTINCT FROM {other}"
    elif name == "truncated":
        where = "truncated > 0"
    else:
        where = f"{column(name)} IS NOT NULL"
    (count,) = database.one(f"SELECT count(*) FROM page WHERE {where}")
    return bool(count)


def _with_values(database: Database, each: Column) -> Column:
    if each.kind != NAME:
        return each
    found = database.run(
        f"SELECT {column(each.name)} AS value FROM page WHERE value IS NOT NULL GROUP BY value "
        f"ORDER BY value LIMIT {MOST_NAMES + 1}"
    ).fetchall()
    if len(found) > MOST_NAMES:
        return Column(each.name, each.title, TEXT)
    return Column(each.name, each.title, NAME, tuple(value for (value,) in found))


def _column_blocks(database: Database, each: Column) -> list[str]:
    name = column(each.name)
    values: dict[str, Any] = {}
    if each.kind == NAME:
        value, values = (
            f"coalesce(list_position($names::VARCHAR[], {name}), 0) - 1",
            {"names": list(each.values)},
        )
    elif each.kind == TEXT:
        value = name
    elif each.name in ("size", "truncated"):
        value = name
    else:
        value = f"CASE WHEN isfinite({name}) THEN round({name}, 5) END"
    sql = (
        f"SELECT number // {COLUMN_ROWS}, to_json(list({value} ORDER BY number)) FROM page "
        "GROUP BY 1 ORDER BY 1"
    )
    return list(_packed_rows(database, sql, **values))


def _packed_rows(database: Database, sql: str, **values: Any) -> Iterator[str]:
    """Yield the blocks of a query, whose second column is their JSON, one at a time."""
    result = database.run(sql, **values)
    while (row := result.fetchone()) is not None:
        yield _packed(row[1])


def _packed(json: str) -> str:
    # Without a time, so that the same results make the same page.
    return base64.b64encode(gzip.compress(json.encode("utf-8"), 6, mtime=0)).decode("ascii")
