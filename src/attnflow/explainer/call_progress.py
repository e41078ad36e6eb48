"""Progress of a call, in the unit that tells most: texts, tokens of a continuation, or stages."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from attnflow.explainer.options import CallOptions
from attnflow.explainer.request import Requests
from attnflow.models.tasks import Task
from attnflow.progress import Advance, bar

Progress = Callable[[int], object] | bool | None
Unit = Literal["text", "image", "token", "target", "stage"]


@dataclass
class CallProgress:
    """The progress of one call.

    Attributes:
        unit: The unit of the bar.
        advance: Takes the number of units done, for the bar.
        tell: Takes the number of texts or images done, of the caller; None without one.
        example_of: The index of each request's example.
    """

    unit: Unit
    advance: Advance
    tell: Callable[[int], object] | None
    example_of: Sequence[int]

    def __post_init__(self) -> None:
        self._left = Counter(self.example_of)

    def of_stages(self, stages: Iterable[Any]) -> Iterator[Any]:
        """Yield the stages of a batch, each of which is done when the next one is asked for."""
        for stage in stages:
            yield stage
            if self.unit == "stage":
                self.advance(1)

    def batch_done(self, indices: Sequence[int]) -> None:
        """Count the requests of a batch as done, and texts whose last request is among them."""
        read = [self.example_of[i] for i in indices]
        self._left.subtract(read)
        done = sum(self._left[example] == 0 for example in set(read))
        if self.unit in ("text", "image"):
            self.advance(done)
        elif self.unit != "stage":
            self.advance(len(indices))
        if self.tell is not None:
            self.tell(done)


@contextmanager
def call_progress(
    requests: Requests, options: CallOptions, task: Task, progress: Progress
) -> Iterator[CallProgress]:
    """Show the bar of a call while it runs.

    Args:
        requests: All that is explained.
        options: The options of the call.
        task: The task of the model.
        progress: The option of the call: a function to tell, a bar always or never, or None.
    """
    example_of = requests.example_indices
    texts, decisions = len(set(example_of)), len(example_of)
    unit: Unit = "stage"
    total = options.networks
    if texts > 1:
        unit, total = task.modality, texts
    elif decisions > 1:
        unit, total = "token" if task.is_generative else "target", decisions
    tell = progress if callable(progress) else None
    show = progress if isinstance(progress, bool) else None if tell is None else False
    with bar(total, unit=unit, show=show) as advance:
        yield CallProgress(unit, advance, tell, example_of)
