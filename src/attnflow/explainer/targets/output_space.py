"""Output spaces: what a model chooses from, its classes, the tokens of its vocabulary, or answers.

Each turns what a user asks for into an index of the logits, and logits into what a result shows.
That is all classes, or the likeliest tokens or answers and one entry for all others, so that
probabilities are those of the model. Read next: decision.py.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnflow.capture.objectives import LONGEST_ANSWER, NEVER
from attnflow.errors import InputError, ModelError, shown, warn
from attnflow.inputs.example import Example
from attnflow.inputs.text import EncodedText, check_unicode
from attnflow.inputs.tokenizing import decoded, encoded
from attnflow.models.tasks import Task, labels_of

LISTED = 20  # labels that a message lists
LONGEST_TYPED = 100  # characters of a label that a slip of the pen is looked for in
LIKELIEST = 10  # tokens or answers that a result shows
REST = "(all other {})"
EVERY = "all"  # as a target: every class, unless a class has this name
TOP = re.compile(r"top([1-9][0-9]?)")  # as a target: so many of the most probable choices

Logits = NDArray[np.float64]
Target = int | str | None
Span = tuple[int, int] | bool


@dataclass(frozen=True)
class TopChoices:
    """The choices that a result shows.

    Attributes:
        names: Their names; of many choices the last is the rest.
        logits: `(choices,)` float64; of the rest the logsumexp.
        wanted: Index among them of each wanted choice.
    """

    names: tuple[str, ...]
    logits: Logits
    wanted: tuple[int, ...]


class OutputSpace(Protocol):
    """Classes, tokens or answers, in the order of the logits."""

    def index(self, target: Target) -> int | None:
        """Index of a label, name or index; None for None.

        Raises:
            InputError: There is no such class, token or answer.
        """

    @property
    def count(self) -> int:
        """Number of choices; of answers, a number that there are at least."""

    def every(self) -> list[int]:
        """Index of every choice.

        Raises:
            InputError: They are too many to explain each.
        """

    def top(self, logits: Logits, wanted: Sequence[int]) -> TopChoices:
        """The choices to show, with the wanted ones, given by index, among them."""


def class_index(target: Target, labels: Sequence[str]) -> int | None:
    """Index of the class with that label, in any case, or with that index; None for None.

    Raises:
        InputError: The model has no such class.
    """
    if target is None:
        return None
    if isinstance(target, str):
        # An exact label wins over one that differs in case, and a label over an index.
        folded = target.casefold()
        alike = [i for i, label in enumerate(labels) if label.casefold() == folded]
        if target in labels:
            return labels.index(target)
        if len(alike) == 1:
            return alike[0]
        # More digits than the largest index has are no index; Python refuses some thousands.
        if target.isdecimal() and len(target) <= len(str(len(labels))):
            return class_index(int(target), labels)
    elif isinstance(target, int | np.integer) and not isinstance(target, bool):
        if 0 <= target < len(labels):
            return int(target)
    raise InputError(
        f"target {shown(target)} is not a class of this model: expected one of "
        f"{_listed(labels)}, or an index from 0 to {len(labels) - 1}.{_closest(target, labels)}"
    )


def _closest(target: Any, labels: Sequence[str]) -> str:
    """A question that names the label most like the target, in any case; or nothing."""
    if not isinstance(target, str) or len(target) > LONGEST_TYPED:
        return ""
    folded = {label.casefold(): label for label in labels if len(label) <= LONGEST_TYPED}
    close = get_close_matches(target.casefold(), folded, n=1)
    return f" Did you mean {shown(folded[close[0]])}?" if close else ""


def _listed(labels: Sequence[str]) -> str:
    """The first labels, with the number of the others: a model may have 100,000 of them."""
    first = ", ".join(shown(label) for label in labels[:LISTED])
    more = len(labels) - LISTED
    return f"{first} and {more} more" if more > 0 else first


class Classes:
    """The labels of a classifier."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)

    def index(self, target: Target) -> int | None:
        """Index of a class, as `class_index`."""
        return class_index(target, self.labels)

    @property
    def count(self) -> int:
        return len(self.labels)

    def every(self) -> list[int]:
        """Index of every class."""
        return list(range(len(self.labels)))

    def top(self, logits: Logits, wanted: Sequence[int]) -> TopChoices:
        """All classes.

        Raises:
            ModelError: The model gives another number of logits.
        """
        if len(logits) != len(self.labels):
            raise ModelError(
                f"the model gives {len(logits)} logits and its config names {len(self.labels)} "
                "classes: expected a label for each; mend id2label in its config.json."
            )
        return TopChoices(self.labels, logits, tuple(wanted))


def similarity_of(text: EncodedText) -> Classes:
    """The single number of a text whose embedding is compared with another's."""
    other = "" if text.compared is None else text.compared.text
    shortened = other if len(other) <= 60 else f"{other[:59]}…"
    return Classes([f"similarity to “{shortened}”"])


class Vocabulary:
    """The tokens of a language model, named by its tokenizer, or by number without one."""

    def __init__(self, tokenizer: Any, size: int) -> None:
        self.tokenizer, self.size = tokenizer, size

    def index(self, target: Target) -> int | None:
        """Id of a token, by its text, its name or its id; None for None.

        Raises:
            InputError: It is not one token of the vocabulary.
        """
        if target is None:
            return None
        if isinstance(target, str):
            return self._id_of(target)
        if isinstance(target, int | np.integer) and not isinstance(target, bool):
            if 0 <= target < self.size:
                return int(target)
            raise InputError(
                f"token {shown(target)} is not in the vocabulary of this model, which ends at "
                f"{self.size - 1}."
            )
        raise InputError(f"a target must be a token, as text or id, got {shown(target)}.")

    def _id_of(self, text: str) -> int:
        if self.tokenizer is None:
            raise InputError(
                f"target {shown(text)} is a text, and there is no tokenizer: give the token's id."
            )
        ids, spaced = self._tokenized(text), self._spaced(text)
        found = self._one_token(text, ids)
        if found is not None:
            if spaced not in (None, found):
                warn(
                    f"target {text!r} is the token without a space in front, which begins no new "
                    f"word; {' ' + text!r} is another token: give that one if you mean the word."
                )
            return found
        hint = "" if spaced is None else f" Did you mean {' ' + text!r}, with a space?"
        pieces = self.tokenizer.convert_ids_to_tokens(ids)
        if len(ids) < 2:
            raise InputError(
                f"target {shown(text)} is not a token that this model knows: its tokenizer makes "
                f"{pieces} of it.{hint} Give another, or a token's id."
            )
        raise InputError(
            f"target {shown(text)} is not one token of this model but {len(ids)} ({pieces}): give "
            f"one of them, or explain them one by one (continuation=, --continuation).{hint}"
        )

    def _one_token(self, text: str, ids: Sequence[int]) -> int | None:
        """Id of the token that a text of these ids is, or else names; None where it is neither."""
        is_one = len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id
        # The text wins over the name: a byte-level tokenizer names half of a character "é".
        if is_one and decoded(self.tokenizer, ids) == text:
            return int(ids[0])
        named = self.tokenizer.get_vocab().get(text)  # "Ġdog"
        if named is not None:
            return int(named)
        return int(ids[0]) if is_one else None

    def _spaced(self, text: str) -> int | None:
        """Id of the token that is the text with a space in front, where there is such a token."""
        if not text or text[0].isspace():
            return None
        ids = self._tokenized(" " + text)
        is_spaced = len(ids) == 1 and decoded(self.tokenizer, ids).startswith(" ")
        return int(ids[0]) if is_spaced else None

    def _tokenized(self, text: str) -> list[int]:
        check_unicode(text, "target")
        ids: list[int] = encoded(self.tokenizer, text, add_special_tokens=False)["input_ids"]
        return ids

    def name(self, index: int) -> str:
        """The token's text, white space too; its name where it has none."""
        if self.tokenizer is None:
            return str(index)
        token = self.tokenizer.convert_ids_to_tokens(index)
        if token is None:  # a model may have more rows than its tokenizer has tokens
            return str(index)
        text = decoded(self.tokenizer, [index])
        return text or str(token)

    @property
    def count(self) -> int:
        return self.size

    def every(self) -> list[int]:
        raise InputError(
            f"target {EVERY!r} explains every class of a classifier, and this model has "
            f'{self.size} tokens: give the tokens that you want, target=[...], or "top3".'
        )

    def top(self, logits: Logits, wanted: Sequence[int]) -> TopChoices:
        """The likeliest tokens, and all others together."""
        return _likeliest(logits, wanted, self.name, "tokens")


class Answers:
    """Runs of the second text's tokens, in the order of `objectives.answers`."""

    def __init__(self, text: EncodedText) -> None:
        self.text = text

    def index(self, target: Target) -> int | None:
        """Index of the first run of tokens that spells this answer; None for None.

        Raises:
            InputError: The second text has no such run.
        """
        if target is None:
            return None
        if not isinstance(target, str) or not target.strip():
            raise InputError(f"a target must be an answer, as text, got {shown(target)}.")
        # The first occurrence that is whole tokens and not too long, as a reader would find it.
        matches = re.finditer(re.escape(target.strip()), self.text.text[self.text.second :])
        for match in matches:
            tokens = self._tokens(*(self.text.second + end for end in match.span()))
            if tokens and tokens[-1] - tokens[0] < LONGEST_ANSWER:
                return tokens[0] * LONGEST_ANSWER + tokens[-1] - tokens[0]
        raise InputError(
            f"target {shown(target)} is not an answer: expected 1 to {LONGEST_ANSWER} whole tokens "
            "of what the model reads of the second text."
        )

    def _tokens(self, start: int, end: int) -> list[int]:
        """The tokens that spell just these characters; none where they spell others too."""
        text, offsets = self.text.text, self.text.offsets
        tokens = [
            i for i in answer_tokens(self.text) if offsets[i][0] < end and offsets[i][1] > start
        ]
        if not tokens:
            return []
        spelt = text[offsets[tokens[0]][0] : offsets[tokens[-1]][1]].strip()
        return tokens if spelt == text[start:end] else []

    def name(self, index: int) -> str:
        """The answer as it stands in the text."""
        first, more = divmod(index, LONGEST_ANSWER)
        offsets = self.text.offsets[first : first + more + 1]
        return self.text.text[offsets[0][0] : offsets[-1][1]]

    @property
    def count(self) -> int:
        # Each token of the second text is an answer by itself.
        return len(answer_tokens(self.text))

    def every(self) -> list[int]:
        raise InputError(
            f"target {EVERY!r} explains every class of a classifier: give the answers that you "
            'want, target=[...], or "top3".'
        )

    def top(self, logits: Logits, wanted: Sequence[int]) -> TopChoices:
        """The likeliest answers, and all others together."""
        return _likeliest(logits, wanted, self.name, "answers")


def _likeliest(
    logits: Logits, wanted: Sequence[int], name: Callable[[int], str], kind: str
) -> TopChoices:
    """The likeliest of many choices and the wanted ones, and all others of that kind together."""
    # Stable, so that equal logits keep the order of the vocabulary.
    best = np.argsort(-logits, kind="stable")[:LIKELIEST].tolist()
    best = [i for i in best if logits[i] > NEVER]
    shown = list(dict.fromkeys([*best, *wanted]))
    shown.sort(key=lambda i: -logits[i])
    names, values = [name(i) for i in shown], logits[shown]
    others = np.delete(logits, shown)
    others = others[others > NEVER]
    if len(others):
        # The logsumexp leaves the probabilities of the choices shown as the model has them.
        highest = others.max()
        rest = highest + np.log(np.exp(others - highest).sum())
        names, values = [*names, REST.format(kind)], np.append(values, rest)
    return TopChoices(tuple(names), values, tuple(shown.index(i) for i in wanted))


def answer_tokens(text: EncodedText) -> list[int]:
    """The tokens of a pair's second text.

    Raises:
        InputError: There is no second text, or nothing is left of it.
    """
    tokens = [i for i, (start, end) in enumerate(text.offsets) if end > start >= text.second]
    if not text.second or not tokens:
        raise InputError(
            "a question is answered from a second text: give both as texts (pair=, --pair), and "
            "leave tokens for the second where texts are cut."
        )
    return tokens


SpaceOf = Callable[[Any], OutputSpace]


def output_spaces(task: Task, model: Any, tokenizer: Any, target: Any) -> SpaceOf:
    """Return a function that gives the output space of each example.

    Raises:
        InputError: The model makes no choice, and no function says what to explain.
    """
    if callable(target):
        return _always(Classes([_function_name(target)]))
    if task.output_kind == "answer":
        return Answers
    if task.output_kind == "token":
        return _always(Vocabulary(tokenizer, model.config.get_text_config().vocab_size))
    if task.embeds_texts:
        return similarity_of
    if task.output_kind == "embedding":
        raise InputError(
            f"{type(model).__name__} gives no classes to explain: give target=, a function that "
            "makes a number for each image of its output."
        )
    return _always(Classes(labels_of(model)))


def _always(space: OutputSpace) -> SpaceOf:
    def space_of(example: Example) -> OutputSpace:
        return space

    return space_of


def _function_name(target: Callable[..., Any]) -> str:
    """The name that results give to a number that a function computes."""
    name = getattr(target, "__name__", type(target).__name__)
    return "target" if name == "<lambda>" else name
