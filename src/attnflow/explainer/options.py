"""The options of a call, and what can be told of them without its model and texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from attnflow.capture import TENSORS as PASSES
from attnflow.capture.objectives import Value
from attnflow.errors import InputError
from attnflow.explainer import scores
from attnflow.explainer.coarsening import Coarsen, check_coarsen
from attnflow.explainer.targets.output_space import Target
from attnflow.explainer.targets.span import Span

TENSORS = (*PASSES, "bcf")


class Options(TypedDict, total=False):
    """Options of a call, see `Explainer.__call__`."""

    pair: str | Sequence[str] | None
    target: Target | Value | Sequence[Target]
    against: Target | Sequence[Target]
    position: int | Sequence[int] | None
    tensor: str
    readout: str
    gap: float
    mu: float | None
    edges: bool
    span: Span | Sequence[Span] | None
    attention_sink: str
    truncate: bool
    batch_size: int
    coarsen: Coarsen
    max_memory: float | str | None
    keep_unsolved: bool
    neutral: Any
    progress: Callable[[int], object] | None


@dataclass(frozen=True)
class FlowOptions:
    """Options of a call that say which flow is taken, and what is read from it."""

    tensor: str
    readout: str
    gap: float
    mu: float | None
    edges: bool
    attention_sink: str


def check_options(
    tensor: str, readout: str = "input", batch_size: int = 1, coarsen: Coarsen = None
) -> None:
    """What can be told of a call without its model and texts.

    Raises:
        InputError: An option is not what `Explainer.__call__` takes, or two do not fit.
    """
    if tensor not in TENSORS:
        raise InputError(f"tensor must be one of {', '.join(TENSORS)}, got {tensor!r}.")
    if readout not in scores.READOUTS:
        raise InputError(f"readout must be one of {', '.join(scores.READOUTS)}, got {readout!r}.")
    if readout == "throughput" and tensor not in ("bcf", "cf"):
        raise InputError(
            f"readout 'throughput' needs tensor 'bcf' or 'cf', got {tensor!r}: without residual "
            "edges a token's rows are not its own."
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size must be an integer of at least 1, got {batch_size!r}.")
    check_coarsen(coarsen)
