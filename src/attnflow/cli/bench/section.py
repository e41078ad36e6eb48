"""Settings of a benchmark, and its sections, each of which is printed as one table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from attnflow.cli.bench import SECTIONS


class Skipped(Exception):
    """A row that was not measured; the message says why."""


@dataclass(frozen=True)
class Settings:
    """The options of `attnflow bench solver`.

    Attributes:
        sections: Names from `SECTIONS`, in the order of the output.
        lengths: Tokens of a text, instead of each section's own lengths.
        repeat: Most runs of a call, after one to warm up; the fastest counts.
        tensor: Information tensor: "af", "gf", "agf" or "cf".
        time_limit: Seconds that a competitor may take for one network.
        threads: Threads of torch and of the solver; torch's own number when None.
        quick: Only small sizes.
    """

    sections: Sequence[str] = SECTIONS
    lengths: Sequence[int] | None = None
    repeat: int = 3
    tensor: str = "cf"
    time_limit: float = 120.0
    threads: int | None = None
    quick: bool = False

    def choose(self, full: Sequence[int], quick: Sequence[int]) -> Sequence[int]:
        """The lengths of a section: the user's, or else its own."""
        if self.lengths is not None:
            return self.lengths
        return quick if self.quick else full


@dataclass(frozen=True)
class Section:
    """A table.

    Attributes:
        title: One line.
        note: What is compared, and what is timed.
        columns: Headers, those of a size first.
        sizes: The first cells of each row, which are the arguments of `measure`.
        measure: Measures the other cells of a row, or raises `Skipped`.
        closing: Returns a line to print once all rows are measured, empty for none.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    sizes: Sequence[tuple[object, ...]]
    measure: Callable[..., Sequence[object]]
    closing: Callable[[], str] = str


def require(*modules: str) -> None:
    """Raise `Skipped` if a module is not installed, and say how to get it."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise Skipped(f"{' and '.join(missing)} not installed: pip install 'attnflow[bench]'")
