"""Spans: several tokens of a language model explained at once, by the sum over the tokens.

The number explained is the sum of what would be explained of each token alone, its logit or its
log-odds, each read one position before its token. The positions read are the sources of one flow. A
token of the span can be a source, and also something that later tokens of the span rest on: its
score is that part.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnflow.capture.objectives import LogitsAt, Scalar
from attnflow.checks import is_integer
from attnflow.errors import InputError, shown
from attnflow.explainer.targets.decision import Decision, first_tokens
from attnflow.explainer.targets.output_space import Logits, Target, TopChoices
from attnflow.inputs.per_example import one_for_each
from attnflow.inputs.text import EncodedText
from attnflow.inputs.tokenizing import decoded
from attnflow.models.tasks import Task

OTHERS = "(all others)"


def spans_of(span: Any, count: int) -> list[Any]:
    """Return the spans of `count` texts, given once for all or one for each."""
    # A list of two spans is as long as one span: what it holds tells them apart.
    if isinstance(span, Sequence) and len(span) == 2 and not isinstance(span[0], Sequence):
        return [span] * count
    return one_for_each(span, count, "span")


def decide_span(
    task: Task, text: EncodedText, span: Any, continuation_start: int | None
) -> Decision:
    """Return the decision on all tokens of a span.

    Args:
        task: A generative task.
        text: The text; of an encoder-decoder the source, and what was generated.
        span: `(start, stop)`, half-open indices of tokens; True is the continuation.
        continuation_start: Index of the continuation's first token, None where there is none.

    Raises:
        InputError: There is no such span, or nothing before it.
    """
    # The first token of a stack has no position before it at which it could be decided on.
    ids = [*text.inputs["input_ids"], *text.inputs.get("decoder_input_ids", ())]
    first = len(text.inputs["input_ids"]) + 1 if task.has_two_stacks else 1
    if span is True:
        if continuation_start is None:
            raise InputError(
                "span=True is the whole continuation (--span all): give one (continuation=, "
                "--continuation or --max-new-tokens)."
            )
        span = (continuation_start, len(ids))
    if not _is_pair(span):
        raise InputError(
            "span must be (start, stop), two indices of tokens, or True with a continuation; "
            f"got {shown(span)}."
        )
    start, stop = span
    if not first <= start < stop <= len(ids):
        raise InputError(
            f"span {shown((start, stop))} is not in the text: expected {first} <= start < stop <= "
            f"{len(ids)}, since a token is decided on at the one before it ({first_tokens(text)})."
        )
    return Decision(start - 1, tokens=tuple(ids[start:stop]))


def _is_pair(span: Any) -> bool:
    return isinstance(span, Sequence) and len(span) == 2 and all(map(is_integer, span))


def span_reading(positions: Tensor, tokens: Tensor, explained: Scalar) -> LogitsAt:
    """Return a reading: the sum over each example's span, and its log-probability, `(batch, 2)`.

    Args:
        positions: `(batch, n)`, where the logits of each token are.
        tokens: `(batch, n)`, -1 after the end of a shorter span.
        explained: The number that is explained of one token.
    """

    def summed(logits: Tensor) -> Tensor:
        targets, token_logits = tokens.to(logits.device), logits.flatten(0, 1)
        # The -1 after a shorter span is no index; what is read there becomes 0 below.
        ids, is_token = targets.clamp(min=0).flatten(), targets >= 0
        numbers = explained(token_logits, ids).view(targets.shape).where(is_token, 0.0)
        # The log-probability is shown, not explained, hence detached.
        log_probabilities = token_logits.detach().log_softmax(1).gather(1, ids[:, None])
        log_probability = log_probabilities.view(targets.shape).where(is_token, 0.0).sum(1)
        return torch.stack([numbers.sum(1), log_probability], dim=1)

    return LogitsAt(positions, summed)


class SpanSpace:
    """The output space of a span's decision: the span, and all other spans together."""

    def __init__(self, tokenizer: Any, tokens: Sequence[int]) -> None:
        self.name = " ".join(map(str, tokens)) if tokenizer is None else decoded(tokenizer, tokens)

    def index(self, target: Target) -> int | None:
        """0: the span is the one choice."""
        return 0

    @property
    def count(self) -> int:
        return 1

    def every(self) -> list[int]:
        """0 alone."""
        return [0]

    def top(self, logits: Logits, wanted: Sequence[int]) -> TopChoices:
        """The span and all others, from what `span_reading` read."""
        log_probability = float(logits[1])
        # log(1 - p), at most as small as the smallest number where p rounds to 1.
        rest = np.log(max(-np.expm1(log_probability), np.finfo(np.float64).tiny))
        return TopChoices((self.name, OTHERS), np.array([log_probability, rest]), (0,))
