"""Engines: what brings chunks to workers. Each yields a `Done` for every chunk, in any order."""

from collections.abc import Iterator
from typing import Any, Protocol

from attnflow.corpus.reader import Reader
from attnflow.corpus.work import Done


class Engine(Protocol):
    """Brings chunks to workers that have loaded the model."""

    def describe(self) -> dict[str, Any]:
        """Return what `Worker.describe` does, of one of the workers.

        Raises:
            AttnflowError: The model cannot be loaded or explained.
        """

    def run(self, chunks: Reader) -> Iterator[Done]:
        """Yield each chunk when it is done; chunks are read as workers ask for them.

        An engine goes through the reader, or shares it out and takes over what its parts note.

        Raises:
            AttnflowError: Something fails that is no text's own fault.
        """

    def close(self) -> None:
        """End the workers, those too that have not finished."""
