"""What errors call each of the texts or images of a call: by number, and by how it begins.

What is done with one after the other is done through `Names.each`, so that an error says which of
them it is about. Read next: reading.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from attnflow.errors import InputError

LONGEST = 40  # characters that are shown

Made = TypeVar("Made")


@dataclass(frozen=True)
class Names:
    """The examples of a call.

    beginnings  of their texts, or names of their files; "" where there is none
    kind        "text" or "image"
    """

    beginnings: Sequence[str]
    kind: str = "text"

    def each(self, make: Callable[[int], Made]) -> list[Made]:
        """What `make` makes of each number.

        Raises:
            InputError: One cannot be made: which one, and why.
        """
        return [self._made(make, number) for number in range(len(self.beginnings))]

    def _made(self, make: Callable[[int], Made], number: int) -> Made:
        try:
            return make(number)
        except InputError as error:
            raise self.about(number, error) from None

    def about(self, number: int, error: InputError) -> InputError:
        """The error, saying of which it is; as it is where there is one alone."""
        count, own = len(self.beginnings), self.beginnings[number].strip()
        if count == 1:
            return error
        shown = own if len(own) <= LONGEST else f"{own[: LONGEST - 1]}…"
        named = f"{self.kind} {number} (of {count})"
        return InputError(f"{named}, {shown!r}: {error}" if shown else f"{named}: {error}")


def one_for_each(value: Any, count: int, name: str) -> list[Any]:
    """An option of each of `count` texts, given once for all or one for each.

    Raises:
        InputError: There is another number of them.
    """
    if is_one(value):
        return [value] * count
    if len(value) != count:
        raise InputError(f"{name} must be one for all or {count}, like texts; got {len(value)}.")
    return list(value)


def is_one(value: Any) -> bool:
    """Whether an option is one for all texts, and not a sequence with one for each."""
    return isinstance(value, str) or not isinstance(value, Sequence | np.ndarray)
