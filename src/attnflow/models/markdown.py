"""Lines of a Markdown table.

The tables of families, of an evaluation and of a benchmark share them; `models` is the lowest
package of the three.
"""

from collections.abc import Sequence


def table_head(columns: Sequence[str]) -> str:
    """The first two lines of a table: its columns and the rule below them."""
    return f"{table_row(columns)}\n|{'---|' * len(columns)}"


def table_row(cells: Sequence[object]) -> str:
    """One line of a table."""
    return f"| {' | '.join(map(str, cells))} |"
