"""Rows of a run: what each must hold, checked in one place.

A row is what `protocol.measure_faithfulness` made of a method and an example, or the reason why the
method failed. A file of rows may have been cut, edited or mixed with another run's: `RowCheck` says
what is wrong with a row.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attnflow.errors import shown
from attnflow.evaluation.json_lines import Record
from attnflow.methods import Instance

Row = Record


@dataclass(frozen=True)
class RowLayout:
    """The shape of the rows of a run, by its protocol.

    Attributes:
        operators: Names of the operators.
        steps: Number of shares.
        kept: True where what is kept alone was judged too.
    """

    operators: tuple[str, ...]
    steps: int
    kept: bool

    @classmethod
    def of(cls, protocol: Mapping[str, Any]) -> "RowLayout":
        """Return the layout of a protocol as `run.json` has it."""
        return cls(
            tuple(protocol["operators"]), len(protocol["shares"]), bool(protocol.get("kept", True))
        )

    def fault(self, row: Row) -> str | None:
        """Return what is wrong with a row, None where nothing is."""
        if not _is_index(row.get("example")):
            return "has no index of an example"
        if not isinstance(row.get("method"), str):
            return "has no name of a method"
        if "failed" in row:
            return None if isinstance(row["failed"], str) else "has no reason of the failure"
        for name in ("units", "tokens"):
            if name in row and not _is_index(row[name]):
                return f"has no number of {name}"
        for name in ("log_p", "ties"):
            if not is_finite(row.get(name)):
                return f"has no finite number {name}"
        if row.get("seconds") is not None and not is_finite(row["seconds"]):
            return "has no finite number seconds"
        return (
            self._fault_of_curves(row, "removed", self.operators)
            or self._fault_of_curves(row, "kept", self.operators if self.kept else ())
            or _fault_of_extras(row.get("extras", {}))
        )

    def _fault_of_curves(self, row: Row, name: str, operators: Sequence[str]) -> str | None:
        curves = row.get(name)
        if not isinstance(curves, dict) or set(curves) != set(operators):
            return f"has no numbers {name} of {', '.join(operators) or 'no operator'}"
        for operator, values in curves.items():
            if not isinstance(values, list) or not all(map(is_finite, values)):
                return f"has no finite numbers {name} of {operator}"
            if len(values) != self.steps:
                return f"has {len(values)} numbers {name} of {operator}, not {self.steps}"
        return None


@dataclass
class RowCheck:
    """Check of the rows of one file together: of one run, and one row for each pair.

    Attributes:
        layout: The shape of each row.
        known: The run's instances by the index of their example; rows of others pass.
        seen: The methods and examples of the rows so far.
    """

    layout: RowLayout
    known: Mapping[int, Instance] = field(default_factory=dict)
    seen: set[tuple[str, int]] = field(default_factory=set)

    def __call__(self, row: Row) -> str | None:
        """Return what is wrong with the next row, None where nothing is."""
        fault = self.layout.fault(row) or self._fault_of_example(row)
        if fault is not None:
            return fault
        key = row["method"], row["example"]
        if key in self.seen:
            return f"repeats the row of {shown(key[0])} and example {key[1]}"
        self.seen.add(key)
        return None

    def _fault_of_example(self, row: Row) -> str | None:
        if "failed" in row or row["example"] not in self.known:
            return None
        instance = self.known[row["example"]]
        for name, value in (("target", instance.target), ("tokens", instance.nodes)):
            if row.get(name, value) != value:
                return f"is of another run: its {name} is {shown(row.get(name))}, not {value!r}"
        return None


def _fault_of_extras(extras: object) -> str | None:
    if not isinstance(extras, dict):
        return "has no extras"
    wrong = [name for name, value in extras.items() if not is_finite(value)]
    return f"has no finite number {shown(wrong[0])}" if wrong else None


def _is_index(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def is_finite(value: object) -> bool:
    """Return whether a value of JSON is a number that a float holds."""
    if type(value) is int:
        return abs(value) < 2**63
    return type(value) is float and math.isfinite(value)
