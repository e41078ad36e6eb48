"""Errors that a model's own code raises, as errors of the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from attnflow.errors import AttnflowError, ModelError

# Of a missing or wrong input. A RuntimeError is not among them: it may be about memory.
_OF_INPUTS = (TypeError, ValueError, AttributeError, LookupError)


@contextmanager
def as_model_errors(model: Any) -> Iterator[None]:
    """Raise what the forward method of a model raises about its inputs as an error of the model.

    An error that comes by way of code of this package stays what it is: it would be a bug.

    Raises:
        ModelError: The model does not take the inputs.
    """
    try:
        yield
    except AttnflowError:
        raise
    except _OF_INPUTS as error:
        _, *called = walk_tb(error.__traceback__)  # the first is this function
        inner = called[1:]  # the caller's
        if any(f.f_globals.get("__name__", "").startswith("attnflow.") for f, _ in inner):
            raise
        said = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"{type(model).__name__} does not run on these inputs: {type(error).__name__}: "
            f"{said:.200}. Its forward method may need inputs besides token ids and mask, or pixel "
            "values, which are not explained: give a model that runs on these alone."
        ) from error
