"""Which class to explain, and which number of it.

Labels, in any case, and indices become indices. The number is the logit, as in the paper, or one
that also falls where another class rises.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnflow.errors import InputError

Target = int | str | None
Value = Callable[[Any], Any]


def one_for_each(value: Any, count: int, name: str) -> list[Any]:
    """An option of each of `count` texts, given once for all or one for each.

    Raises:
        InputError: There is another number of them.
    """
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        return [value] * count
    if len(value) != count:
        raise InputError(f"{name} must be one for all or {count}, like texts; got {len(value)}.")
    return list(value)


def class_index(target: Target, labels: Sequence[str]) -> int | None:
    """The class of that label, in any case, or index; None for None.

    Raises:
        InputError: The model has no such class.
    """
    if target is None:
        return None
    if isinstance(target, str):
        alike = [i for i, label in enumerate(labels) if label.casefold() == target.casefold()]
        if target in labels:
            return labels.index(target)
        if len(alike) == 1:
            return alike[0]
        if target.isdecimal():
            return class_index(int(target), labels)
    elif isinstance(target, int | np.integer) and not isinstance(target, bool):
        if 0 <= target < len(labels):
            return int(target)
    raise InputError(
        f"target {target!r} is no class of this model: expected one of "
        f"{', '.join(map(repr, labels))}, or an index from 0 to {len(labels) - 1}."
    )


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


def number(value: Callable[[Any], Any]) -> Reading:
    """What `value` makes of the model's output, `(batch,)`, as the logits of a single class."""

    def read(output: Any) -> Any:
        found = value(output)
        if not isinstance(found, Tensor) or found.ndim != 1:
            came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                "a target that is a function must return a tensor with one number for each text, "
                f"(batch,), from the model's output; got {came}."
            )
        return found[:, None]

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
