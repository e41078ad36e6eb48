"""Engines: what brings chunks to workers. Each yields a `Done` for every chunk, in any order."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from attnflow.corpus.chunks import Chunk
from attnflow.corpus.work import Done


class Engine(Protocol):
    """Brings chunks to workers that have loaded the model."""

    def describe(self) -> dict[str, Any]:
        """Return what `Worker.describe` does, of one of the workers.

        Raises:
            AttnflowError: The model cannot be loaded or explained.
        """

    def run(self, chunks: Iterable[Chunk]) -> Iterator[Done]:
        """Yield each chunk when it is done; chunks are read as workers ask for them.

        Raises:
            AttnflowError: Something fails that is no text's own fault.
        """

    def close(self) -> None:
        """End the workers, those too that have not finished."""
