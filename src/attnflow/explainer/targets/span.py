"""Several tokens of a language model explained at once: a span, by the sum over its tokens.

The number is the sum of what would be explained of each token alone, its logit or its log-odds,
each read one position before its token. The positions read are the sources of one flow. A token of
the span can be a source, and also what later tokens of the span rest on: its score is that part.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.capture.objectives import Explained, Reading, class_logits
from attnflow.errors import InputError
from attnflow.explainer.targets.decision import Decision
from attnflow.inputs.per_example import one_for_each
from attnflow.inputs.text import EncodedText
from attnflow.models.tasks import Task

OTHERS = "(all others)"

Span = tuple[int, int] | bool


def spans_of(span: Any, count: int) -> list[Any]:
    """The span of each of `count` texts, given once for all or one for each."""
    if isinstance(span, Sequence) and len(span) == 2 and not isinstance(span[0], Sequence):
        return [span] * count
    return one_for_each(span, count, "span")


def decision_on(task: Task, text: EncodedText, span: Any, begins: int | None) -> Decision:
    """The decision on all tokens of a span.

    Args:
        task: One that writes.
        text: The text, and what an encoder-decoder has written behind it.
        span: `(start, stop)`, half-open indices of tokens; True is the continuation.
        begins: Index of the continuation's first token, None where there is none.

    Raises:
        InputError: There is no such span, or nothing before it.
    """
    ids = [*text.inputs["input_ids"], *text.inputs.get("decoder_input_ids", ())]
    first = 1 if task.reads == "last" else len(text.inputs["input_ids"]) + 1
    if span is True:
        if begins is None:
            raise InputError(
                "span=True is the whole continuation (--span all): give one (continuation=, "
                "--continuation or --write)."
            )
        span = (begins, len(ids))
    if not _is_pair(span):
        raise InputError(
            "span must be (start, stop), two indices of tokens, or True with a continuation; "
            f"got {span!r:.80}."
        )
    start, stop = span
    if not first <= start < stop <= len(ids):
        shown = " ".join(text.tokens[:12]) + " ..." * (len(ids) > 12)
        raise InputError(
            f"span ({start}, {stop}) is not in the text: expected {first} <= start < stop <= "
            f"{len(ids)}, since a token is decided on at the one before it ({shown})."
        )
    return Decision(start - 1, tokens=tuple(ids[start:stop]))


def _is_pair(span: Any) -> bool:
    return (
        isinstance(span, Sequence)
        and len(span) == 2
        and all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in span)
    )


def joint(positions: Tensor, tokens: Tensor, explained: Explained) -> Reading:
    """Reads of every example the sum over its span, and the span's log-probability, `(batch, 2)`.

    Args:
        positions: `(batch, n)`, where the logits of each token are.
        tokens: `(batch, n)`, -1 behind the end of a shorter span.
        explained: Of one token.
    """

    def read(output: Any) -> Any:
        logits = class_logits(output)
        if not isinstance(logits, Tensor) or logits.ndim != 3:
            return logits
        wanted, places = tokens.to(logits.device), positions.to(logits.device)
        rows = torch.arange(len(logits), device=logits.device)[:, None]
        each, own = logits[rows, places].flatten(0, 1), wanted.clamp(min=0).flatten()
        there = wanted >= 0
        summed = explained(each, own).view(wanted.shape).where(there, 0.0).sum(1)
        sure = each.detach().log_softmax(1).gather(1, own[:, None]).view(wanted.shape)
        return torch.stack([summed, sure.where(there, 0.0).sum(1)], dim=1)

    return read


def shown_span(
    tokenizer: Any, tokens: Sequence[int], read: NDArray[np.float64]
) -> tuple[tuple[str, ...], NDArray[np.float64], tuple[int]]:
    """Names and logits for a result, of what `joint` read: the span, and all others together."""
    name = " ".join(map(str, tokens)) if tokenizer is None else str(tokenizer.decode(tokens))
    sure = float(read[1])
    rest = np.log(max(-np.expm1(sure), np.finfo(np.float64).tiny))
    return (name, OTHERS), np.array([sure, rest]), (0,)
