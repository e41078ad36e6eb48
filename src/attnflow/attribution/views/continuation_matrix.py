"""Who rests on whom: a table with a row for each written token and a column for each source.

A cell is the share of the row's token that rests on the column's, in whole percent. Its heat grows
with the root of the share, so that small ones show. Special tokens have no share and no column.
Where there is no room for numbers the cells are colours alone, and the page says in words what is
pointed at.
"""

from itertools import groupby
from math import sqrt

from attnflow.attribution.data import ContinuationData
from attnflow.attribution.views.layout import VISIBLE, pieces
from attnflow.attribution.views.sanitize import as_name
from attnflow.attribution.views.text_heatmap import escape
from attnflow.attribution.views.wording import percent

ROOMY = 24  # columns that have room for numbers


def matrix(found: ContinuationData, first: int) -> str:
    """The table; `first` is the number of the first token's article on the page."""
    shares = found.matrix
    last = max(found.explained)
    columns = [i for i in range(min(last, len(found[0]))) if not found[0].special[i]]
    strongest = float(shares.max())
    names = [escape(as_name(piece.name)) for piece in pieces(found[0], "token")]
    parts = _parts(found, columns)
    begins = {run[0] for _, run in parts}
    rows = "".join(
        f'<tr data-row="{first + row}"><th scope="row"><a href="#text-{first + row}"><bdi>'
        f"{escape(as_name(attribution.label))}</bdi></a></th>"
        f"{''.join(_cell(float(shares[row, i]), strongest, i in begins) for i in columns)}</tr>"
        for row, attribution in enumerate(found)
    )
    over = "".join(
        f'<th scope="colgroup" colspan="{len(run)}" class="part"><span>{escape(name)}</span></th>'
        for name, run in parts
    )
    heads = "".join(
        f'<th scope="col" data-column="{i}"{" class=b" * (i in begins)}><span><bdi>{names[i]}</bdi>'
        "</span></th>"
        for i in columns
    )
    size = "roomy" if len(columns) <= ROOMY else "dense"
    return (
        '<section class="matrix"><h2>Which token rests on which</h2>'
        '<div class="bar"><p class="quiet">A row for each explained token, a column for each that '
        'it can rest on; in percent of the row.</p><p class="legend"><span>0</span>'
        f'<i aria-hidden="true"></i><span>{percent(strongest / 4)}</span>'
        f'<i aria-hidden="true"></i><span>{percent(strongest)}</span></p></div>'
        '<p class="about script" data-cell></p>'
        f'<div class="sheet {size}" role="region" tabindex="0" aria-label="Table of shares; it '
        f'scrolls"><table><thead><tr><td class="corner"></td>{over}</tr>'
        f'<tr><td class="corner"></td>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        "</section>"
    )


def _parts(found: ContinuationData, columns: list[int]) -> list[tuple[str, list[int]]]:
    """Runs of columns under one heading: what was given and what was written, or whose words."""
    attribution = found[0]
    given = "source" if attribution.task == "text2text-generation" else "given"

    def part(index: int) -> tuple[int, str]:
        message = attribution.message_ids[index] if attribution.roles else None
        if message is not None:
            return message, attribution.roles[message]
        return (-1, given) if index < found.begins else (-2, "written")

    return [(name, list(run)) for (_, name), run in groupby(columns, part)]


def _cell(share: float, strongest: float, begins: bool) -> str:
    style = "" if share < VISIBLE else f' style="--h:{sqrt(share / strongest):.2f}"'
    number = "" if share < VISIBLE else f"{100 * share:.0f}"
    return f"<td{' class=b' * begins}{style}>{number}</td>"
