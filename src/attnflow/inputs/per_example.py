"""Options with one value for each example, and errors that name the example they are about."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnflow.errors import InputError

LONGEST = 40  # characters of an example that an error quotes


@dataclass(frozen=True)
class ExampleLabels:
    """Names of the examples of a call, for errors: a number, and how the example begins.

    Attributes:
        beginnings: The texts, or the names of image files; "" where there is none.
        kind: "text" or "image".
    """

    beginnings: Sequence[str]
    kind: str = "text"

    @contextmanager
    def about(self, number: int) -> Iterator[None]:
        """Name this example in an `InputError` that is raised inside; it is not named if alone.

        Raises:
            InputError: The same error, about this example.
        """
        try:
            yield
        except InputError as error:
            raise self.named(number, error) from None

    def named(self, number: int, error: InputError) -> InputError:
        """The error with the example's name in front; the error itself if there is only one."""
        count, beginning = len(self.beginnings), self.beginnings[number].strip()
        if count == 1:
            return error
        label = f"{self.kind} {number} (of {count})"
        if len(beginning) > LONGEST:
            beginning = f"{beginning[: LONGEST - 1]}…"
        return InputError(f"{label}, {beginning!r}: {error}" if beginning else f"{label}: {error}")


def one_for_each(value: Any, count: int, name: str) -> list[Any]:
    """Return `count` values of an option that is given once for all examples, or one for each.

    Raises:
        InputError: The option has another number of values.
    """
    if is_one(value):
        return [value] * count
    if len(value) != count:
        raise InputError(f"{name} must be one for all or {count}, like texts; got {len(value)}.")
    return list(value)


def is_one(value: Any) -> bool:
    """Return whether an option is one value for all examples, not a sequence of values."""
    return isinstance(value, str) or not isinstance(value, Sequence | np.ndarray)
