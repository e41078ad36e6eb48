"""Passes of a model that several methods share, computed once for one instance."""

from collections.abc import Callable
from typing import Any, TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class PassCache:
    """Results by the computation that gave them.

    A computation is its own key: a function, or an instance of a frozen dataclass that can be
    called. What it computes and the name under which it is kept can therefore never disagree. A
    cache belongs to one argument, an `Instance`, and knows nothing about other ones.
    """

    def __init__(self) -> None:
        self._results: dict[Callable[..., Any], Any] = {}

    def get(self, compute: Callable[[Argument], Result], argument: Argument) -> Result:
        """Return `compute(argument)`, computed on the first call and kept for later ones."""
        if compute not in self._results:
            self._results[compute] = compute(argument)
        result: Result = self._results[compute]
        return result
