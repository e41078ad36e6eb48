"""The table of results, a row for each token: what a data frame and a CSV file hold.

A column is a list of plain Python values, None where a token has none. Halves of surrogate pairs,
which neither pyarrow nor UTF-8 takes, become U+FFFD. All else in a text stays as it is.

Read next: `converters`, which hands it to pandas.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from attnflow.attribution.data import AttributionData, ContinuationData
from attnflow.errors import InputError
from attnflow.files import write_whole

Table = dict[str, list[Any]]

RESULT_COLUMNS = ("result", "label", "position")
TOKEN_COLUMNS = (
    "token",
    "text",
    "start",
    "end",
    "word",
    "role",
    "special",
    "rank",
    "score",
    "share",
    "contribution",
    "signed_score",
)
INTEGERS = ("position", "word", "rank")  # that may be None
_HALVES = re.compile("[\ud800-\udfff]")


def each_result(results: Any) -> Iterator[AttributionData]:
    """Yield the attributions in what an explainer returns, in its order: one, or lists of lists.

    Raises:
        InputError: There is something else in it.
    """
    for item in each_explained(results):
        yield from item if isinstance(item, ContinuationData) else [item]


def each_explained(results: Any) -> Iterator[AttributionData | ContinuationData]:
    """Yield as `each_result`, a continuation as a whole.

    Raises:
        InputError: There is something else in it.
    """
    waiting = [results]
    while waiting:
        item = waiting.pop()
        if isinstance(item, AttributionData | ContinuationData):
            yield item
        elif isinstance(item, list | tuple):
            waiting.extend(reversed(item))
        else:
            came = type(item).__name__
            raise InputError(f"results must be an Attribution or lists of them, got {came}.")


def table_of_tokens(data: AttributionData) -> Table:
    """Return a row for each token of one attribution, with the columns `TOKEN_COLUMNS`."""
    t = len(data)
    offsets = data.offsets
    roles = [None if i is None else _encodable(data.roles[i]) for i in data.message_ids]
    columns = (
        [_encodable(token) for token in data.tokens],
        [_encodable(data.surface(i)) for i in range(t)],
        [start for start, _ in offsets],
        [end for _, end in offsets],
        list(data.word_ids),
        roles or [None] * t,
        data.special.tolist(),
        _ranks(data),
        data.scores.tolist(),
        data.shares.tolist(),
        _signed(data.contributions, t),
        _signed(data.signed_scores, t),
    )
    return dict(zip(TOKEN_COLUMNS, columns, strict=True))


def table_of_results(results: Any) -> Table:
    """Return a row for each token of each attribution, `RESULT_COLUMNS` before the others.

    Raises:
        InputError: There is something other than attributions in it.
    """
    table: Table = {name: [] for name in (*RESULT_COLUMNS, *TOKEN_COLUMNS)}
    for number, data in enumerate(each_result(results)):
        for name, value in zip(
            RESULT_COLUMNS, (number, _encodable(data.label), data.position), strict=True
        ):
            table[name] += [value] * len(data)
        for name, column in table_of_tokens(data).items():
            table[name] += column
    return table


def csv_of(table: Mapping[str, list[Any]]) -> str:
    """Return a table as CSV with its header; None is an empty field, numbers have all digits."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return file.getvalue()


def write_csv(table: Mapping[str, list[Any]], path: Path, *, overwrite: bool) -> Path:
    """Write a table as a CSV file in UTF-8, and return `path`.

    Raises:
        StorageError: The file exists and `overwrite` is false, or cannot be written.
    """
    return write_whole(path, csv_of(table), overwrite=overwrite)


def _ranks(data: AttributionData) -> list[int | None]:
    """The place of each ordinary token by score, from 1; equal scores in the order of the text."""
    ordinary = np.flatnonzero(~data.special)
    best = ordinary[np.argsort(-data.scores[ordinary], kind="stable")]
    ranks: list[int | None] = [None] * len(data)
    for rank, token in enumerate(best, 1):
        ranks[token] = rank
    return ranks


def _signed(numbers: Any, t: int) -> list[float | None]:
    return [None] * t if numbers is None else numbers.tolist()


def _encodable(text: str) -> str:
    return _HALVES.sub("\N{REPLACEMENT CHARACTER}", text)
