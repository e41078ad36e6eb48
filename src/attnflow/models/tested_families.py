"""The families of models that the tests run, with what they measured.

The rows are in `tested_families.json`, which `benchmarks/tested_families.py` writes from the models
that the tests run, and which a test compares with them. The outcomes of other families are in
`other_families.json`. Nothing here needs torch or transformers.
Read next: support.py, for any other model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from attnflow.models.markdown import table_head, table_row

TABLE = Path(__file__).with_name("tested_families.json")
OTHERS = TABLE.with_name("other_families.json")
FORMATS = ("text", "json", "markdown")


@dataclass(frozen=True)
class SupportedFamily:
    """One row of the table.

    Attributes:
        name: The name by which users know the family.
        model_type: Its name in a config of transformers.
        kind: "encoder", "decoder", "encoder-decoder" or "vision".
        tasks: The pipelines of transformers that such models can be explained for.
        tensors: Information tensors that work.
        back_ends: Back ends of attention with which the model gives the same answer.
        padding: Sides on which padding leaves the answer as it is; the others are refused.
        error: The largest difference of a capacity, alone and in a padded batch, in units of the
            largest capacity.
        bfloat16: The sum of all differences of `agf` or `cf` between a model in bfloat16 and the
            same weights in float32, in units of the sum of capacities.
        float16: The same in float16.
    """

    name: str
    model_type: str
    kind: str
    tasks: tuple[str, ...]
    tensors: tuple[str, ...]
    back_ends: tuple[str, ...]
    padding: tuple[str, ...]
    error: float
    bfloat16: float
    float16: float


@dataclass(frozen=True)
class OtherFamily:
    """The outcome of looking for the entry of a family that nobody has entered.

    Attributes:
        model_type: Its name in a config of transformers.
        reason: Why none was found in a tiny random model; "" where one was.
    """

    model_type: str
    reason: str

    @property
    def is_found(self) -> bool:
        return not self.reason


_COLUMNS = {
    "name": "family",
    "model_type": "model_type",
    "kind": "kind",
    "tensors": "tensors",
    "padding": "padding",
    "error": "error",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "back_ends": "back ends",
    "tasks": "tasks",
}
_LEGEND = (
    "padding: the sides on which padding leaves an answer as it is",
    "error: largest difference of a capacity, alone and in a padded batch, of the largest one",
    "bfloat16, float16: sum of differences from the same weights in float32, of the sum",
)


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def supported_families() -> tuple[SupportedFamily, ...]:
    """Return the rows, by kind and name."""
    lists = ("tasks", "tensors", "back_ends", "padding")
    rows: list[dict[str, Any]] = _table()["families"]
    return tuple(
        SupportedFamily(**row | {name: tuple(row[name]) for name in lists}) for row in rows
    )


@cache
def other_families() -> Mapping[str, OtherFamily]:
    """Return the outcomes by model type, as `benchmarks/other_families.py` has written them."""
    reasons: dict[str, str] = json.loads(OTHERS.read_text(encoding="utf-8"))["families"]
    return {name: OtherFamily(name, reason) for name, reason in reasons.items()}


def table(form: str) -> str:
    """Return the rows as text, Markdown or JSON (one of FORMATS)."""
    if form == "json":
        return json.dumps(_table(), indent=1)
    rows = [[_cell(getattr(family, name)) for name in _COLUMNS] for family in supported_families()]
    return _markdown(rows) if form == "markdown" else _text(rows)


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join([table_head(list(_COLUMNS.values())), *map(table_row, rows)])


def _text(rows: list[list[str]]) -> str:
    """Columns side by side; a column that is the same in all rows becomes a line below them."""
    columns = {
        title: [title, *cells]
        for title, *cells in zip(_COLUMNS.values(), *rows, strict=True)  # transposed
    }
    common = {title: cells[1] for title, cells in columns.items() if len(set(cells[1:])) == 1}
    shown = [
        [cell.ljust(max(map(len, cells))) for cell in cells]
        for title, cells in columns.items()
        if title not in common
    ]
    lines = ["  ".join(line).rstrip() for line in zip(*shown, strict=True)]
    notes = [f"{title} of all: {cell}" for title, cell in common.items()]
    return "\n".join([*lines, "", *notes, *_LEGEND, f"measured in {_table()['measured']}"])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0e}"
    return value if isinstance(value, str) else " ".join(value) or "none"
