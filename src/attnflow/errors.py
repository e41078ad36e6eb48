"""What can go wrong, each error saying what was expected, what came, and what to do.

AttnflowError
    InputError      an argument is not what it should be (also a ValueError)
    ModelError      the model cannot be explained, or gave numbers that cannot be used
    UnsolvedError   the solver could not certify an answer
    StorageError    a file could not be read or written (also an OSError)
    MissingExtraError   an optional package is not installed (also an ImportError)
"""

from collections.abc import Iterator
from contextlib import contextmanager


class AttnflowError(Exception):
    """Base of all errors that attnflow raises on purpose."""


class InputError(AttnflowError, ValueError):
    """An argument is not what it should be."""


class ModelError(AttnflowError):
    """The model cannot be explained, or gave numbers that cannot be used."""


class UnsolvedError(AttnflowError):
    """A flow has no certificate: the limit of iterations or of float64 was reached."""


class StorageError(AttnflowError, OSError):
    """A file could not be read or written."""


class MissingExtraError(AttnflowError, ImportError):
    """An optional package is not installed."""


@contextmanager
def needs(what: str, extra: str = "evaluation") -> Iterator[None]:
    """Import an optional package inside this.

    Args:
        what: Needs the package, as the beginning of a sentence: "tables need pandas".
        extra: Of attnflow, which brings it.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"{what}: pip install 'attnflow[{extra}]'.") from error
