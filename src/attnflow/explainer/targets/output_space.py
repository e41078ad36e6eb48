"""What a model chooses from: its classes, the tokens of its vocabulary, or answers in a text.

All turn what a user asks for into an index of the logits, and logits into what a result shows: all
classes, or the likeliest tokens or answers and one entry for all others, so that probabilities are
those of the model.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnflow.capture.objectives import LONGEST_ANSWER, NEVER
from attnflow.errors import InputError
from attnflow.inputs.text import EncodedText
from attnflow.models.tasks import Task, labels_of

Target = int | str | None


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


LIKELIEST = 10  # tokens or answers that a result shows
REST = "(all other {})"

Logits = NDArray[np.float64]


class Choices(Protocol):
    """Classes, tokens or answers, in the order of the logits."""

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


def similarities(text: EncodedText) -> Classes:
    """The one number of a text whose embedding is compared with another's."""
    other = "" if text.compared is None else text.compared.text
    shown = other if len(other) <= 60 else f"{other[:59]}…"
    return Classes([f"similarity to “{shown}”"])


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
        if len(ids) < 2:
            raise InputError(
                f"target {text!r:.80} is no token that this model knows: its tokenizer makes "
                f"{pieces} of it. Give another, or a token's id."
            )
        raise InputError(
            f"target {text!r:.80} is not one token of this model but {len(ids)} ({pieces}): give "
            "one of them, or explain them one by one (continuation=, --continuation)."
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
        return _likeliest(logits, wanted, self.name, "tokens")


class Answers:
    """Runs of the second text's tokens, in the order of `targets.answers`."""

    def __init__(self, text: EncodedText) -> None:
        self.text = text

    def index(self, target: Target) -> int | None:
        if target is None:
            return None
        if not isinstance(target, str) or not target.strip():
            raise InputError(f"a target must be an answer, as text, got {target!r:.80}.")
        places = re.finditer(re.escape(target.strip()), self.text.text[self.text.second :])
        for place in places:
            own = self._tokens(*(self.text.second + end for end in place.span()))
            if own and own[-1] - own[0] < LONGEST_ANSWER:
                return own[0] * LONGEST_ANSWER + own[-1] - own[0]
        raise InputError(
            f"target {target!r:.80} is no answer: expected 1 to {LONGEST_ANSWER} whole tokens of "
            "what the model reads of the second text."
        )

    def _tokens(self, start: int, end: int) -> list[int]:
        """The tokens that spell just these characters; none where others do too."""
        offsets = self.text.offsets
        own = [i for i in answering(self.text) if offsets[i][0] < end and offsets[i][1] > start]
        spelt = self.text.text[offsets[own[0]][0] : offsets[own[-1]][1]].strip() if own else ""
        return own if spelt == self.text.text[start:end] else []

    def name(self, index: int) -> str:
        """The answer as it stands in the text."""
        first, more = divmod(index, LONGEST_ANSWER)
        offsets = self.text.offsets[first : first + more + 1]
        return self.text.text[offsets[0][0] : offsets[-1][1]]

    def shown(self, logits: Logits, wanted: Sequence[int]) -> tuple[tuple[str, ...], Logits, Any]:
        return _likeliest(logits, wanted, self.name, "answers")


def _likeliest(
    logits: Logits, wanted: Sequence[int], name: Callable[[int], str], kind: str
) -> tuple[tuple[str, ...], Logits, Any]:
    """The likeliest of many choices and the wanted ones, and the rest of that kind together."""
    best = np.argsort(-logits, kind="stable")[:LIKELIEST].tolist()
    best = [i for i in best if logits[i] > NEVER]
    kept = list(dict.fromkeys([*best, *wanted]))
    kept.sort(key=lambda i: -logits[i])
    names, values = [name(i) for i in kept], logits[kept]
    others = np.delete(logits, kept)
    others = others[others > NEVER]
    if len(others):
        highest = others.max()
        rest = highest + np.log(np.exp(others - highest).sum())
        names, values = [*names, REST.format(kind)], np.append(values, rest)
    return tuple(names), values, tuple(kept.index(i) for i in wanted)


def answering(text: EncodedText) -> list[int]:
    """The tokens of a pair's second text.

    Raises:
        InputError: There is no second text, or nothing is left of it.
    """
    found = [i for i, (start, end) in enumerate(text.offsets) if end > start >= text.second]
    if not text.second or not found:
        raise InputError(
            "a question is answered from a second text: give both as texts (pair=, --pair), and "
            "room for the second."
        )
    return found


def choosing_of(task: Task, model: Any, tokenizer: Any, target: Any) -> Callable[[Any], Choices]:
    """What there is to choose from, of each example.

    Raises:
        InputError: Nothing, and no function says what to explain.
    """
    if callable(target):
        always: Choices = Classes([_name(target)])
    elif task.chooses == "answer":
        return Answers
    elif task.chooses == "token":
        always = Vocabulary(tokenizer, model.config.get_text_config().vocab_size)
    elif task.chooses == "nothing" and task.reads == "image":
        raise InputError(
            f"{type(model).__name__} gives no classes to explain: give target=, a function that "
            "makes a number for each image of its output."
        )
    elif task.chooses == "nothing":
        return similarities
    else:
        always = Classes(labels_of(model))
    return lambda example: always


def _name(target: Callable[..., Any]) -> str:
    """What results call a number that a function makes."""
    name = getattr(target, "__name__", type(target).__name__)
    return "target" if name == "<lambda>" else name
