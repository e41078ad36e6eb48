"""What a model chooses from: its classes, or the tokens of its vocabulary.

Both turn what a user asks for into an index of the logits, and logits into what a result shows: all
classes, or of a vocabulary the likeliest tokens and one entry for all others, so that probabilities
are those of the model.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnflow.errors import InputError
from attnflow.targets import Target, class_index

LIKELIEST = 10  # tokens of a vocabulary that a result shows
REST = "(all other tokens)"

Logits = NDArray[np.float64]


class Choices(Protocol):
    """Classes or tokens, in the order of the logits."""

    def index(self, target: Target) -> int | None:
        """Index of a label, name or index; None for None.

        Raises:
            InputError: There is no such class or token.
        """

    def shown(self, logits: Logits, wanted: Sequence[int]) -> tuple[tuple[str, ...], Logits, Any]:
        """Names and logits for a result, and where the wanted indices are among them."""


class Classes:
    """The labels of a classifier."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)

    def index(self, target: Target) -> int | None:
        return class_index(target, self.labels)

    def shown(self, logits: Logits, wanted: Sequence[int]) -> tuple[tuple[str, ...], Logits, Any]:
        return self.labels, logits, tuple(wanted)


class Vocabulary:
    """The tokens of a language model, named by its tokenizer, or by number without one."""

    def __init__(self, tokenizer: Any, size: int) -> None:
        self.tokenizer, self.size = tokenizer, size

    def index(self, target: Target) -> int | None:
        if target is None:
            return None
        if isinstance(target, str):
            return self._of_text(target)
        if isinstance(target, int | np.integer) and not isinstance(target, bool):
            if 0 <= target < self.size:
                return int(target)
            raise InputError(
                f"token {target} is not in the vocabulary of this model, which ends at "
                f"{self.size - 1}."
            )
        raise InputError(f"a target must be a token, as text or id, got {target!r:.80}.")

    def _of_text(self, text: str) -> int:
        if self.tokenizer is None:
            raise InputError(
                f"target {text!r} is a text, and there is no tokenizer: give the token's id."
            )
        vocabulary = self.tokenizer.get_vocab()
        if text in vocabulary:
            return int(vocabulary[text])
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id:
            return int(ids[0])
        pieces = self.tokenizer.convert_ids_to_tokens(ids)
        raise InputError(
            f"target {text!r} is not one token of this model but {len(ids)} ({pieces}): give one "
            "of them, or explain them one by one (continuation=)."
        )

    def name(self, index: int) -> str:
        """The token as it would be written, or its name where that is nothing."""
        if self.tokenizer is None:
            return str(index)
        token = self.tokenizer.convert_ids_to_tokens(index)
        if token is None:  # a model may have more rows than its tokenizer has tokens
            return str(index)
        written = str(self.tokenizer.decode([index]))
        return written if written.strip() else str(token)

    def shown(self, logits: Logits, wanted: Sequence[int]) -> tuple[tuple[str, ...], Logits, Any]:
        best = np.argsort(-logits, kind="stable")[:LIKELIEST].tolist()
        kept = list(dict.fromkeys([*best, *wanted]))
        kept.sort(key=lambda i: -logits[i])
        names, values = [self.name(i) for i in kept], logits[kept]
        others = np.delete(logits, kept)
        if len(others):
            highest = others.max()
            rest = highest + np.log(np.exp(others - highest).sum())
            names, values = [*names, REST], np.append(values, rest)
        return tuple(names), values, tuple(kept.index(i) for i in wanted)
