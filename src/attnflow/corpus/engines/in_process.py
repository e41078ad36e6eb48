"""The engine without other processes: one worker, with an explainer that is there."""

from collections.abc import Iterable, Iterator
from typing import Any

from attnflow.corpus.chunks import Chunk
from attnflow.corpus.work import Done, Work, Worker
from attnflow.explainer.explainer import Explainer


class InProcess:
    """Explains chunks one after the other in this process."""

    def __init__(self, explainer: Explainer, work: Work) -> None:
        self._worker = Worker(explainer, work)

    def describe(self) -> dict[str, Any]:
        """Return what `Worker.describe` does."""
        return self._worker.describe()

    def run(self, chunks: Iterable[Chunk]) -> Iterator[Done]:
        """Yield each chunk when it is done."""
        yield from map(self._worker.do, chunks)

    def close(self) -> None:
        """Do nothing: there is no process to end."""
