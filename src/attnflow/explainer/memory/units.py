"""Bytes as people read and write them."""

import sys
from typing import Any

from attnflow.errors import InputError, shown

UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(value: float | str | None) -> float | None:
    """Return the bytes of a number, or of a text such as "8GB" or "512 MiB"; None for None.

    Raises:
        InputError: The value is neither, or not above 0.
    """
    if value is None:
        return None
    number: Any = value
    if isinstance(value, str):
        digits = value.strip().upper().rstrip("BIKMGT ")
        unit = value.strip().upper()[len(digits) :].strip() or "B"
        factor = UNITS.get(unit, 1.0 if unit == "B" else None)
        try:
            number = float(digits) * factor if factor else None
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not number > 0:
        raise InputError(
            "max_memory must be bytes > 0, as a number or as in '8GB' (--max-memory 8GB), got "
            f"{shown(value)}."
        )
    return float(min(number, sys.float_info.max))  # of integers beyond it too


def format_bytes(size: float) -> str:
    """Return bytes in the largest unit of a thousand that fits: "1.2 GB"."""
    for unit in ("GB", "MB"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.1f} {unit}"
    return f"{size / 1e3:.1f} KB"
