"""Seconds of a call, and how seconds grow with size."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

PATIENCE = 30.0

Result = TypeVar("Result")


def timed(call: Callable[[], Result], repeat: int) -> tuple[Result, float]:
    """The last result of a call, and the seconds of its fastest run.

    The first run warms up and does not count. Repeating ends when `PATIENCE` seconds are spent; a
    call that spends them in its first run is not repeated, and that run counts.
    """
    result, first = _once(call)
    spent = first
    runs: list[float] = []
    while len(runs) < repeat and spent < PATIENCE:
        result, seconds = _once(call)
        runs.append(seconds)
        spent += seconds
    # The fastest, since other programs can only make a run slower.
    return result, min(runs, default=first)


def _once(call: Callable[[], Result]) -> tuple[Result, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """p of the power law size**p that fits best, by least squares on logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
