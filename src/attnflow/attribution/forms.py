"""Forms of fields: what a value from a file must be, stated once next to the field it is for.

A dataclass states the form of each field in its metadata (`of`), and `read_fields` reads a record
by them: types, ranges, lengths that must agree, finite numbers. A length has a name, "tokens": the
field that gives it its value is read before those that are measured by it. What is read is of the
field's own type: lists become tuples, records their classes.

Read next: `data`, whose classes state their forms; `schema`, what fields state about each other.
"""

import reprlib
from collections.abc import Callable, Collection, Mapping, MutableMapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Protocol

import numpy as np

# Larger numbers would overflow in sums and ratios: every view adds and divides what it shows. The
# largest that a flow of float32 gradients reaches is far below.
LARGEST = 1e100
LARGEST_INTEGER = 2**53  # above it JSON's readers disagree

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 3
_SHORT.maxlevel = 2

Sizes = MutableMapping[str, int]


class Misfit(ValueError):
    """A value that has not the form of its field; the message is one short line.

    Args:
        where: The field: "offsets[3]".
        expected: The form in words: "an integer from 0 to 5".
        came: What came instead, in words.
    """

    def __init__(self, where: str, expected: str, came: str) -> None:
        super().__init__(f"{where}: expected {expected}, got {came}")


def described(value: object) -> str:
    """Return a value in at most a few words, without control characters."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    # `repr` writes control characters as escapes, `reprlib` reads no more of a value than it shows.
    return _SHORT.repr(value)


class Form(Protocol):
    """The form of a value, and the reading of it."""

    def read(self, value: Any, where: str, sizes: Sizes) -> Any:
        """Return the value in the type of its field.

        Args:
            value: A value of JSON, an array, or an `Unread` one.
            where: The field, for the error's message.
            sizes: The lengths that are known so far, by name.

        Raises:
            Misfit: The value has not this form.
        """


@dataclass(frozen=True)
class Unread:
    """An array of a file whose type and shape are known, and whose numbers are not read yet."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Any]


@dataclass(frozen=True)
class Text:
    """A string of any characters: views show controls and halves of surrogate pairs as signs.

    Attributes:
        length: Name of its number of characters, which other fields are measured by.
    """

    length: str | None = None

    def read(self, value: Any, where: str, sizes: Sizes) -> str:
        if not isinstance(value, str):
            raise Misfit(where, "a text", described(value))
        return value


@dataclass(frozen=True)
class OneOf:
    """One of a few strings."""

    names: Collection[str]

    def read(self, value: Any, where: str, sizes: Sizes) -> str:
        if not isinstance(value, str) or value not in self.names:
            names = ", ".join(map(repr, self.names))
            raise Misfit(where, f"one of {names}", described(value))
        return value


@dataclass(frozen=True)
class Integer:
    """An integer of at least 0.

    Attributes:
        below: Name of the length that it is an index of; None where there is none.
        end: True where it may be that length itself, as the end of a span.
    """

    below: str | None = None
    end: bool = False

    def read(self, value: Any, where: str, sizes: Sizes) -> int:
        highest = LARGEST_INTEGER
        if self.below is not None:
            highest = sizes[self.below] - (not self.end)
        # `True` is an integer of Python, and of nothing else.
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
            raise Misfit(where, f"an integer from 0 to {highest}", described(value))
        return value


@dataclass(frozen=True)
class Number:
    """A finite number."""

    low: float = -LARGEST
    high: float = LARGEST

    def read(self, value: Any, where: str, sizes: Sizes) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # NaN is in no range.
        if not is_number or not self.low <= value <= self.high:
            raise Misfit(where, f"a number from {self.low:g} to {self.high:g}", described(value))
        return float(value)


@dataclass(frozen=True)
class Either:
    """A value of the first form that fits it."""

    forms: tuple[Form, ...]
    words: str

    def read(self, value: Any, where: str, sizes: Sizes) -> Any:
        for form in self.forms:
            try:
                return form.read(value, where, sizes)
            except Misfit:
                continue  # the next form may fit
        raise Misfit(where, self.words, described(value))


@dataclass(frozen=True)
class Nullable:
    """A value of a form, or None."""

    form: Form

    def read(self, value: Any, where: str, sizes: Sizes) -> Any:
        return None if value is None else self.form.read(value, where, sizes)


@dataclass(frozen=True)
class Several:
    """A tuple of values of one form.

    Attributes:
        form: The form of each.
        count: How many, as a number or by name; None where any number is right.
        length: Name of their number, which other fields are measured by.
        least: The fewest there may be.
    """

    form: Form
    count: int | str | None = None
    length: str | None = None
    least: int = 0

    def read(self, value: Any, where: str, sizes: Sizes) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise Misfit(where, "a list", described(value))
        count = sizes[self.count] if isinstance(self.count, str) else self.count
        if count is not None and len(value) != count:
            noun = f" ({self.count})" if isinstance(self.count, str) else ""
            raise Misfit(where, f"a list of {count}{noun}", f"one of {len(value)}")
        if len(value) < self.least:
            raise Misfit(where, f"a list of at least {self.least}", f"one of {len(value)}")
        return tuple(self.form.read(v, f"{where}[{i}]", sizes) for i, v in enumerate(value))


@dataclass(frozen=True)
class Span:
    """A half-open pair of indices, start and end.

    Attributes:
        within: Name of the length that both are indices of; None where there is none.
        least: The fewest things in it.
    """

    within: str | None = None
    least: int = 0

    def read(self, value: Any, where: str, sizes: Sizes) -> tuple[int, int]:
        pair = Several(Integer(self.within, end=True), 2).read(value, where, sizes)
        if pair[1] - pair[0] < self.least:
            expected = f"an end of at least start + {self.least}" if self.least else "start <= end"
            raise Misfit(where, expected, described(pair))
        return pair[0], pair[1]


_DTYPES: dict[str, type[np.generic]] = {"F64": np.float64, "BOOL": np.bool_, "U8": np.uint8}


@dataclass(frozen=True)
class Array:
    """An array of one type and shape, of finite numbers.

    Attributes:
        dtype: The name that safetensors gives to the type of its numbers.
        shape: A number, or the name of a length, for each axis. A length that no field before has
            given is taken from the array; it is at least 1.
        low: No number is less.
        high: No number is more.
        large: True where dictionaries leave it out.
    """

    dtype: str
    shape: tuple[int | str, ...]
    low: float = -LARGEST
    high: float = LARGEST
    large: bool = False

    def read(self, value: Any, where: str, sizes: Sizes) -> np.ndarray[Any, Any]:
        # Before any number is read: of these alone it is known here how to read them.
        if isinstance(value, Unread):
            dtype = value.dtype
        elif isinstance(value, np.ndarray):
            dtype = next((n for n, t in _DTYPES.items() if value.dtype == t), str(value.dtype))
        else:
            raise Misfit(where, f"an array of {self.dtype}", described(value))
        if dtype != self.dtype:
            raise Misfit(where, f"an array of {self.dtype}", f"one of {dtype}")
        self._check_shape(tuple(value.shape), where, sizes)
        array = value.read() if isinstance(value, Unread) else value
        if self.dtype == "F64":
            self._check_range(array, where)
        if self.dtype == "BOOL" and (array.view(np.uint8) > 1).any():
            raise Misfit(where, "truth values, bytes of 0 and 1", "a byte above 1")
        return array

    def _check_shape(self, shape: tuple[int, ...], where: str, sizes: Sizes) -> None:
        named = dict(sizes)
        expected = ", ".join(f"{named[n]} {n}" if n in named else str(n) for n in self.shape)
        fits = len(shape) == len(self.shape)
        for length, wanted in zip(shape, self.shape, strict=False):
            if isinstance(wanted, str):
                wanted = named.setdefault(wanted, max(length, 1))
            fits = fits and length == wanted
        if not fits:
            raise Misfit(where, f"the shape ({expected})", str(shape)[:80])
        sizes.update(named)

    def _check_range(self, array: np.ndarray[Any, Any], where: str) -> None:
        # NaN is the least and the largest of any array that has one, and compares as false.
        low, high = float(array.min()), float(array.max())
        if not (self.low <= low and high <= self.high):
            came = f"numbers from {low:g} to {high:g}"
            raise Misfit(where, f"finite numbers from {self.low:g} to {self.high:g}", came)


@dataclass(frozen=True)
class Record:
    """A dataclass whose fields have forms of their own."""

    made: type[Any]

    def read(self, value: Any, where: str, sizes: Sizes) -> Any:
        if not isinstance(value, Mapping):
            raise Misfit(where, "a record", described(value))
        return self.made(**read_fields(self.made, value, sizes, f"{where}."))


def of(form: Form, **options: Any) -> Any:
    """Return a dataclass field of a form; `options` are those of `dataclasses.field`."""
    return field(metadata={"form": form}, **options)


def form_of(each: "Field[Any]") -> Form:
    """Return the form that a field states."""
    form: Form = each.metadata["form"]
    return form


def read_fields(
    made: type[Any], record: Mapping[str, Any], sizes: Sizes, prefix: str = ""
) -> dict[str, Any]:
    """Return the arguments of a dataclass from a record of its fields.

    Fields that are missing and have a default stay missing: files of older versions have fewer.

    Raises:
        Misfit: A value has not the form of its field, a field is missing, or has no such name.
    """
    stated = {each.name: each for each in fields(made)}
    for name in record:
        if name not in stated:
            raise Misfit(f"{prefix}{described(name)[1:-1]}", "no field of this name", "one")
    for name, each in stated.items():
        needed = each.default is MISSING and each.default_factory is MISSING
        if needed and name not in record:
            raise Misfit(f"{prefix}{name}", "a value", "none")
    # In the order of the class, so that the first fault of a record is always the one that is told.
    forms = {name: form_of(each) for name, each in stated.items() if name in record}
    arguments = {}
    # A length is known before the fields that it measures are read.
    for name, form in sorted(forms.items(), key=lambda item: _length(item[1]) is None):
        arguments[name] = form.read(record[name], f"{prefix}{name}", sizes)
        length = _length(form)
        if length is not None:
            sizes[length] = len(arguments[name])
    return arguments


def _length(form: Form) -> str | None:
    """Return the name of the length that a form gives its value; None where it gives none."""
    return form.length if isinstance(form, Text | Several) else None
