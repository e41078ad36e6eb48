"""What errors call each of the texts or images of a call: by number, and by how it begins.

What is done with one after the other is done through `Names.each`, so that an error says which of
them it is about. Read next: reading.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

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
