"""Objectives: the number of a model's output whose gradient is taken.

An objective reads logits off the output, selects a class, and turns both into one scalar for each
example. The scalar is the logit, as in the paper, or a number that also falls where another class
rises. Read next: capture.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from attnflow.errors import InputError

LONGEST_ANSWER = 30  # tokens; runs that are longer are not considered as answers
NEVER = (
    -1e9
)  # logit of a run that is not an answer: of probability 0, but finite, as logits must be

Value = Callable[[Any], Any]  # from a model's output to `(batch,)` numbers
Scalar = Callable[[Tensor, Tensor], Tensor]  # from logits and target to `(batch,)` numbers
LogitsReader = Callable[[Any], Any]  # from a model's output to `(batch, classes)` logits


def class_logits(output: Any) -> Any:
    """`(batch, classes)` logits of a classifier's output; None where it has none."""
    return getattr(output, "logits", None)


@dataclass(frozen=True)
class LogitsAt:
    """Reads logits at some positions of each example, `(batch, vocabulary)` or what `then` makes.

    Attributes:
        positions: `(batch,)` integers, or `(batch, n)`; of the outputs, from 0.
        then: From the `(batch, n, vocabulary)` logits there to `(batch, classes)` ones; None: the
            logits are read as they are.
    """

    positions: Tensor
    then: Callable[[Tensor], Tensor] | None = None

    def __call__(self, output: Any) -> Any:
        logits = class_logits(output)
        if not isinstance(logits, Tensor) or logits.ndim != 3:
            return logits
        places = self.positions.to(logits.device)
        rows = torch.arange(len(logits), device=logits.device)
        logits = logits[rows.view(-1, *[1] * (places.ndim - 1)), places]
        return logits if self.then is None else self.then(logits)

    def among(self, kept: Tensor) -> "LogitsAt":
        """Return the reader of an output that has logits at the `kept` positions alone.

        Args:
            kept: Integers, ascending; all of `positions` are among them.
        """
        return replace(self, positions=torch.searchsorted(kept, self.positions.to(kept)))


def logits_at(positions: Tensor) -> LogitsAt:
    """Return a reader of the `(batch, vocabulary)` logits at one position of each example.

    Args:
        positions: `(batch,)` integers.
    """
    return LogitsAt(positions)


def number(value: Value) -> LogitsReader:
    """Return a reader of `(batch, 1)` logits, the numbers that `value` computes from the output."""

    def read(output: Any) -> Any:
        numbers = value(output)
        if not isinstance(numbers, Tensor) or numbers.ndim != 1 or not numbers.is_floating_point():
            is_tensor = isinstance(numbers, Tensor)
            kind = type(numbers).__name__
            came = f"{tuple(numbers.shape)} {numbers.dtype}" if is_tensor else kind
            raise InputError(
                "a target that is a function must return a tensor with one number for each text, "
                f"(batch,), from the model's output; got {came}."
            )
        if torch.is_grad_enabled() and not numbers.requires_grad:
            raise InputError(
                "a target that is a function must return numbers that depend on the model's output "
                "differentiably; these are detached, constant or counts."
            )
        return numbers[:, None]

    return read


def answers(allowed: Tensor) -> LogitsReader:
    """Return a reader of logits of answers: the start logit of a run of tokens plus its end logit.

    Answer `i * LONGEST_ANSWER + k` begins at token i and ends at token i + k.

    Args:
        allowed: `(batch, t)` bool, tokens that an answer may contain.
    """

    def read(output: Any) -> Any:
        starts, ends = (getattr(output, f"{side}_logits", None) for side in ("start", "end"))
        if starts is None or ends is None:
            return None
        tokens = allowed.to(starts.device)
        is_answer = tokens[:, :, None] & _following(tokens, False)
        return (starts[:, :, None] + _following(ends, 0.0)).where(is_answer, NEVER).flatten(1)

    return read


def _following(values: Tensor, fill: float) -> Tensor:
    """`(batch, t, LONGEST_ANSWER)` values of each token and the tokens after it, then `fill`."""
    padded = pad(values, (0, LONGEST_ANSWER - 1), value=fill)
    return torch.stack([padded[:, k : k + values.shape[1]] for k in range(LONGEST_ANSWER)], 2)


def similarity(others: Tensor, pool: Callable[[Any], Tensor], *, frozen: bool) -> LogitsReader:
    """Return a reader of `(batch, 1)` logits, the cosine of an embedding and another text's.

    Args:
        others: `(batch, d)` embeddings of length 1 of the other texts.
        pool: Computes the `(batch, d)` embeddings from the model's output.
        frozen: Hold the embedding's length constant, like every other scale. A cosine does not
            depend on it, so that without this all contributions would add up to 0.
    """

    def read(output: Any) -> Tensor:
        embeddings = pool(output)
        length = embeddings.norm(dim=1)
        length = length.detach() if frozen else length
        return ((embeddings * others.to(embeddings)).sum(1) / length)[:, None]

    return read


def versus(others: Tensor, scalar: Scalar) -> Scalar:
    """Return the scalar that is each target's logit less another class's.

    Args:
        others: `(batch,)` the other class; -1: the scalar is `scalar` instead.
        scalar: The scalar of examples without another class.
    """

    def difference_or_scalar(logits: Tensor, target: Tensor) -> Tensor:
        other = others.to(logits.device)
        difference = logit(logits, target) - logit(logits, other.clamp(min=0))
        return difference.where(other >= 0, scalar(logits, target))

    return difference_or_scalar


def logit(logits: Tensor, target: Tensor) -> Tensor:
    """`(batch,)` logit of each target, from `(batch, classes)` logits."""
    return logits.gather(1, target[:, None])[:, 0]


def contrast(logits: Tensor, target: Tensor) -> Tensor:
    """`(batch,)` log-odds of each target: its logit less the logsumexp of the others."""
    if logits.shape[1] == 1:
        return logit(logits, target)
    is_target = torch.zeros_like(logits, dtype=torch.bool).scatter(1, target[:, None], True)
    return logit(logits, target) - logits.masked_fill(is_target, -torch.inf).logsumexp(1)


SCALARS: dict[str, Scalar] = {"logit": logit, "contrast": contrast}


@dataclass(frozen=True)
class Objective:
    """The number of a model's output that is explained, for each example of a batch.

    Attributes:
        target: `(batch,)` integers, the class explained, -1 for the predicted one, -2 for the
            second most probable and so on; None: the predicted class of every example.
        scalar: `(batch,)` scalar whose gradient is taken, from the logits and the target: one of
            `SCALARS`, or another.
        read: Reads the `(batch, classes)` logits off the model's output.
        position: `(batch,)` integers, the readout position: the one node of the top row that the
            logits are read from. `(batch, n)` where several are, of which some may be the same.
            None where the model itself decides which it reads.
    """

    target: Tensor | None = None
    scalar: Scalar = logit
    read: LogitsReader = class_logits
    position: Tensor | None = None
