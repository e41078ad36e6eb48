"""The matrix of a continuation: a row for each explained token and a column for each source.

A cell is the share of the row's token that rests on the column's, in whole percent. Its heat grows
with the root of the share, so that small ones show. Special tokens have no share and no column.
Where there is no space for numbers the cells are colours alone, and the page describes the cell
that is pointed at.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from math import sqrt
from typing import TYPE_CHECKING

from attnflow.attribution.data import ContinuationData
from attnflow.attribution.views.layout import VISIBLE, pieces_of
from attnflow.attribution.views.sanitize import as_name
from attnflow.attribution.views.templates import render

if TYPE_CHECKING:
    from markupsafe import Markup

ROOMY = 24  # columns that have space for numbers


@dataclass(frozen=True)
class _Part:
    """A run of columns under one heading."""

    name: str
    columns: list[int]


@dataclass(frozen=True)
class _Column:
    """A token that others can rest on; `begins` at the first one under a heading."""

    token: int
    name: str
    begins: bool


@dataclass(frozen=True)
class _Cell:
    """A share in whole percent and its heat; "" and None where it is too small to show."""

    percent: str
    heat: str | None
    begins: bool


@dataclass(frozen=True)
class _Row:
    """An explained token, the number of its article, and its cells."""

    article: int
    label: str
    cells: list[_Cell]


@dataclass(frozen=True)
class Matrix:
    """The table, as templates write it.

    Attributes:
        strongest: The largest share of the whole table, 0 to 1.
        size: "roomy" where cells have space for numbers, else "dense".
        parts: Runs of columns under one heading.
        columns: The sources.
        rows: The explained tokens.
    """

    strongest: float
    size: str
    parts: list[_Part]
    columns: list[_Column]
    rows: list[_Row]


def matrix(continuation: ContinuationData, first: int) -> "Markup":
    """Return the page's table; `first` is the number of the first token's article on the page."""
    made = matrix_of(continuation, sources(continuation), range(len(continuation)), first)
    return render("matrix.html", **vars(made))


def matrix_of(
    continuation: ContinuationData, tokens: list[int], rows: Iterable[int], first: int = 0
) -> Matrix:
    """Return some columns and rows of the table.

    Args:
        continuation: The explained tokens.
        tokens: Indices of the tokens that get a column, in the order of the text.
        rows: Indices of the explained tokens that get a row.
        first: Number of the first token's article on the page.
    """
    shares = continuation.matrix
    source = continuation[0]
    # Of the whole table, so that the colours of two rows can be compared.
    strongest = float(shares.max())
    names = [as_name(piece.name) for piece in pieces_of(source, "token")]
    parts = _parts(continuation, tokens)
    starts = {part.columns[0] for part in parts}
    return Matrix(
        strongest=strongest,
        size="roomy" if len(tokens) <= ROOMY else "dense",
        parts=parts,
        columns=[_Column(i, names[i], i in starts) for i in tokens],
        rows=[
            _Row(
                first + row,
                continuation[row].label,
                [_cell(float(shares[row, i]), strongest, i in starts) for i in tokens],
            )
            for row in rows
        ],
    )


def sources(continuation: ContinuationData) -> list[int]:
    """Return the ordinary tokens that an explained one can rest on, in the order of the text."""
    source = continuation[0]
    last = max(continuation.explained)
    # The last explained token is predicted at the one before it: nothing rests on later ones.
    return [i for i in range(min(last, len(source))) if not source.special[i]]


def _parts(continuation: ContinuationData, tokens: list[int]) -> list[_Part]:
    """Return runs of columns under one heading: given or written, or the role of a message."""
    source = continuation[0]
    given = "source" if source.task == "text2text-generation" else "given"

    def part(token: int) -> tuple[int, str]:
        message = source.message_ids[token] if source.roles else None
        if message is not None:
            return message, source.roles[message]
        # Negative, so that neither is the index of a message.
        return (-1, given) if token < continuation.begins else (-2, "written")

    return [_Part(name, list(run)) for (_, name), run in groupby(tokens, part)]


def _cell(share: float, strongest: float, begins: bool) -> _Cell:
    # An empty flow ends here too, before its shares are divided by 0.
    if share < VISIBLE:
        return _Cell("", None, begins)
    return _Cell(f"{100 * share:.0f}", f"{sqrt(share / strongest):.2f}", begins)
