"""Objectives: the number of a model's output whose gradient is taken.

An objective reads logits off the output, selects a class, and turns both into one scalar for each
example. The scalar is the logit, as in the paper, or a number that also falls where another class
rises. Read next: capture.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from attnflow.errors import InputError

LONGEST_ANSWER = 30  # tokens of an answer that can be chosen
NEVER = -1e9  # logit of an answer that is none: finite, and of probability 0

Value = Callable[[Any], Any]  # from a model's output to `(batch,)` numbers
Scalar = Callable[[Tensor, Tensor], Tensor]  # from logits and target to `(batch,)` numbers
LogitsReader = Callable[[Any], Any]  # from a model's output to `(batch, classes)` logits


def class_logits(output: Any) -> Any:
    """`(batch, classes)` logits of what a classifier returned; None where there are none."""
    return getattr(output, "logits", None)


def logits_at(positions: Tensor) -> LogitsReader:
    """The `(batch, vocabulary)` logits at one position of every example, `(batch,)`."""

    def read(output: Any) -> Any:
        logits = class_logits(output)
        if not isinstance(logits, Tensor) or logits.ndim != 3:
            return logits
        return logits[torch.arange(len(logits), device=logits.device), positions.to(logits.device)]

    return read


def number(value: Value) -> LogitsReader:
    """What `value` makes of the model's output, `(batch,)`, as the logits of a single class."""

    def read(output: Any) -> Any:
        found = value(output)
        if not isinstance(found, Tensor) or found.ndim != 1 or not found.is_floating_point():
            is_tensor = isinstance(found, Tensor)
            came = f"{tuple(found.shape)} {found.dtype}" if is_tensor else type(found).__name__
            raise InputError(
                "a target that is a function must return a tensor with one number for each text, "
                f"(batch,), from the model's output; got {came}."
            )
        if torch.is_grad_enabled() and not found.requires_grad:
            raise InputError(
                "a target that is a function must return numbers that depend on the model's output "
                "differentiably; these are detached, constant or counts."
            )
        return found[:, None]

    return read


def answers(allowed: Tensor) -> LogitsReader:
    """Logits of the answers to a question: of a run of tokens, its first's and its last's together.

    Answer `i * LONGEST_ANSWER + k` begins at token i and ends at token i + k.

    Args:
        allowed: `(batch, t)` bool, tokens that an answer may have.
    """

    def read(output: Any) -> Any:
        starts, ends = (getattr(output, f"{side}_logits", None) for side in ("start", "end"))
        if starts is None or ends is None:
            return None
        there = allowed.to(starts.device)
        behind = there[:, :, None] & _following(there, False)
        return (starts[:, :, None] + _following(ends, 0.0)).where(behind, NEVER).flatten(1)

    return read


def _following(values: Tensor, beyond: float) -> Tensor:
    """`(batch, t, LONGEST_ANSWER)` each token's own value and those of the tokens after it."""
    longer = pad(values, (0, LONGEST_ANSWER - 1), value=beyond)
    return torch.stack([longer[:, k : k + values.shape[1]] for k in range(LONGEST_ANSWER)], 2)


def similarity(others: Tensor, pool: Callable[[Any], Tensor], *, frozen: bool) -> LogitsReader:
    """Cosine of an embedding and that of another text, as the logit of a single class.

    Args:
        others: `(batch, d)` embeddings of length 1.
        pool: The embeddings `(batch, d)`, from the model's output.
        frozen: Hold the embedding's length constant, as every other scale: a cosine does not depend
            on it, so that without this all contributions would add up to nothing.
    """

    def read(output: Any) -> Tensor:
        own = pool(output)
        length: Tensor = own.norm(dim=1)
        length = length.detach() if frozen else length
        return ((own * others.to(own)).sum(1) / length)[:, None]

    return read


def versus(others: Tensor, scalar: Scalar) -> Scalar:
    """Each target's logit less that of another class, `(batch,)`; where that is -1, `scalar`."""

    def read(logits: Tensor, target: Tensor) -> Tensor:
        other = others.to(logits.device)
        difference = logit(logits, target) - logit(logits, other.clamp(min=0))
        return difference.where(other >= 0, scalar(logits, target))

    return read


def logit(logits: Tensor, target: Tensor) -> Tensor:
    """`(batch,)` logit of each target, of `(batch, classes)` logits."""
    return logits.gather(1, target[:, None])[:, 0]


def contrast(logits: Tensor, target: Tensor) -> Tensor:
    """`(batch,)` log-odds of each target: its logit less the logsumexp of the others."""
    if logits.shape[1] == 1:
        return logit(logits, target)
    own = torch.zeros_like(logits, dtype=torch.bool).scatter(1, target[:, None], True)
    return logit(logits, target) - logits.masked_fill(own, -torch.inf).logsumexp(1)


SCALARS: dict[str, Scalar] = {"logit": logit, "contrast": contrast}


@dataclass(frozen=True)
class Objective:
    """The number of a model's output that is explained, for each example of a batch.

    Attributes:
        target: `(batch,)` integers, the class explained, -1 for the predicted one; None: the
            predicted class of every example.
        scalar: `(batch,)` scalar whose gradient is taken, from the logits and the target: one of
            `SCALARS`, or another.
        read: Reads the `(batch, classes)` logits off the model's output.
        position: `(batch,)` integers, the readout position: the one node of the top row that the
            logits are read from; `(batch, n)` where several are, of which some may be the same;
            None where the model itself decides which it reads.
    """

    target: Tensor | None = None
    scalar: Scalar = logit
    read: LogitsReader = class_logits
    position: Tensor | None = None
