"""Which class to explain, and which number of it.

Labels, in any case, and indices become indices. The number is the logit, as in the paper, or one
that also falls where another class rises.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from attnflow.errors import InputError

LONGEST_ANSWER = 30  # tokens of an answer that can be chosen
NEVER = -1e9  # logit of an answer that is none: finite, and of probability 0
Value = Callable[[Any], Any]


Explained = Callable[[Tensor, Tensor], Tensor]
Reading = Callable[[Any], Any]


def class_logits(output: Any) -> Any:
    """`(batch, classes)` logits of what a classifier returned; None where there are none."""
    return getattr(output, "logits", None)


def logits_at(positions: Tensor) -> Reading:
    """The `(batch, vocabulary)` logits at one position of every example, `(batch,)`."""

    def read(output: Any) -> Any:
        logits = class_logits(output)
        if not isinstance(logits, Tensor) or logits.ndim != 3:
            return logits
        return logits[torch.arange(len(logits), device=logits.device), positions.to(logits.device)]

    return read


def number(value: Value) -> Reading:
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


def answers(allowed: Tensor) -> Reading:
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


def similarity(others: Tensor, pool: Callable[[Any], Tensor], *, frozen: bool) -> Reading:
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


def versus(others: Tensor, explained: Explained) -> Explained:
    """Each target's logit less that of another class, `(batch,)`; where that is -1, `explained`."""

    def read(logits: Tensor, target: Tensor) -> Tensor:
        other = others.to(logits.device)
        difference = logit(logits, target) - logit(logits, other.clamp(min=0))
        return difference.where(other >= 0, explained(logits, target))

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


EXPLAINED: dict[str, Explained] = {"logit": logit, "contrast": contrast}
