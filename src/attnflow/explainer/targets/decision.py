"""Which of a model's decisions about a text to explain: where it is read, for what, against what.

A classifier decides once. A language model decides after every token which comes next; a model
that fills masks decides at the mask, one that labels tokens at each of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnflow.capture.objectives import Value
from attnflow.errors import InputError
from attnflow.explainer.targets.output_space import Choices, answering
from attnflow.inputs.image import EncodedImage
from attnflow.inputs.per_example import Names, is_one, one_for_each
from attnflow.inputs.text import EncodedText
from attnflow.models.tasks import Task


@dataclass(frozen=True)
class Decision:
    """One decision about one text.

    Attributes:
        position: The token whose output is read: the one before the token decided on, or itself;
            None where the model reads what it wants.
        target: Index of what is explained, None for what the model predicts.
        against: Index of what it is contrasted with, or None.
        value: The number explained, from the model's output, instead of a class or token.
        tokens: Of a span explained at once, the tokens that follow the position.
    """

    position: int | None = None
    target: int | None = None
    against: int | None = None
    value: Value | None = None
    tokens: tuple[int, ...] = ()

    @property
    def span(self) -> tuple[int, int] | None:
        """Half-open indices of the tokens explained at once."""
        if self.position is None or not self.tokens:
            return None
        return self.position + 1, self.position + 1 + len(self.tokens)


def decisions(
    task: Task,
    choosing: Callable[[Any], Choices],
    texts: Sequence[EncodedText | EncodedImage],
    tokenizer: Any,
    names: Names,
    *,
    target: Any = None,
    against: Any = None,
    position: Any = None,
) -> list[Decision]:
    """One decision about each text or image; options for all of them, or one for each.

    Args:
        task: The model's.
        choosing: What there is to choose from, of each text.
        texts: What is decided about.
        tokenizer: The model's, or None.
        names: What errors call the texts.
        target, against, position: Options of `Explainer.__call__`.

    Raises:
        InputError: A class or token that the model does not have, a contrast with itself, a
            position that is not in the text, or no second text where the model needs one; of
            several texts it says which.
    """
    if callable(target):
        if against is not None or position is not None:
            raise InputError(
                "a target that is a function reads the model's output by itself: leave against and "
                "position out."
            )
        return [Decision(value=target)] * len(texts)
    asked = {"target": target, "against": against, "position": position}
    each = {name: one_for_each(value, len(texts), name) for name, value in asked.items()}

    if task.chooses != "answer" and is_one(target) and is_one(against):
        _indices(choosing(texts[0]), target, against)  # what is wrong with them is so for all texts

    def decided(i: int) -> Decision:
        own, other = _indices(choosing(texts[i]), each["target"][i], each["against"][i])
        return Decision(_read(task, texts[i], each["position"][i], tokenizer), own, other)

    return names.each(decided)


def _indices(choices: Choices, target: Any, against: Any) -> tuple[int | None, int | None]:
    """Of the target and of what it is contrasted with."""
    own, other = choices.index(target), choices.index(against)
    if own is not None and own == other:
        raise with_itself(against)
    return own, other


def _read(
    task: Task, example: EncodedText | EncodedImage, position: Any, tokenizer: Any
) -> int | None:
    """Where the decision is read, None where the model reads what it wants."""
    read = None
    if isinstance(example, EncodedText):
        _check_second(task, example)
        read = _position(task, example, position, tokenizer)
    if read is None and position is not None:
        raise InputError(
            f"position {position!r}: a model for {task.name} decides about the whole {task.reads}; "
            "leave position out."
        )
    return read


def _check_second(task: Task, text: EncodedText) -> None:
    """A text to compare with, or to answer from, is there where the model needs one."""
    if task.chooses == "answer":
        answering(text)
    if task.chooses == "nothing" and text.compared is None:
        raise InputError(
            "this model gives embeddings and decides nothing: give a text to compare with "
            "(pair=, --pair), or a target that is a function of the model's output."
        )


def continued(start: int, ids: Sequence[int]) -> list[Decision]:
    """Each token of a continuation that begins at index `start` of its text."""
    return [Decision(start + i - 1, token) for i, token in enumerate(ids)]


def check_writes(task: Task, asked: str, **options: Any) -> None:
    """The model writes, and nothing else is asked for than what is written.

    Raises:
        InputError: It does not, or something is.
    """
    if not task.writes:
        raise InputError(f"{asked} is for models that write; this one is for {task.name}.")
    given = [name for name, value in options.items() if value is not None]
    if given:
        advice = (
            f" To contrast two {asked}s, explain them one after the other, each in a call of its "
            "own; against is for single tokens (target=, position=)."
        )
        raise InputError(
            f"{given[0]} and {asked} exclude each other: a {asked}'s own tokens are what is "
            f"explained.{advice * ('against' in given)}"
        )


def with_itself(against: Any) -> InputError:
    """The error where what is explained is what it is contrasted with."""
    return InputError(
        f"against {against!r} is what is explained: there is no contrast with itself. Give another "
        "target or another one to contrast it with."
    )


def _position(task: Task, text: EncodedText, position: Any, tokenizer: Any) -> int | None:
    """Where the decision is read, checked; from the end where it is negative."""
    t = len(text.tokens)
    if task.reads == "text":
        return None
    if position is None:
        return _default_position(task, text, tokenizer)
    if isinstance(position, bool) or not isinstance(position, int | np.integer):
        raise InputError(f"position must be the index of a token, got {position!r:.80}.")
    if not -t <= position < t:
        raise InputError(
            f"position {position} is outside the text: it has {t} tokens, 0 to {t - 1} "
            f"({' '.join(text.tokens[:12])}{' ...' * (t > 12)})."
        )
    place, source = int(position) % t, len(text.inputs["input_ids"])
    if task.reads == "prefix" and place < source:
        raise InputError(
            f"position {place} is in the source: what is written begins at position {source}, "
            f"and ends at {t - 1}."
        )
    return place


def _default_position(task: Task, text: EncodedText, tokenizer: Any) -> int:
    if task.writes:
        return len(text.tokens) - 1
    if task.reads == "mask":
        masks = [
            i for i, id in enumerate(text.inputs["input_ids"]) if id == tokenizer.mask_token_id
        ]
        if len(masks) == 1:
            return masks[0]
        raise InputError(
            f"the text has {len(masks)} tokens {tokenizer.mask_token!r}: expected one, or the "
            "position of the one to explain (position=, --position)."
        )
    named = ", ".join(f"{i} {token}" for i, token in enumerate(text.tokens[:12]))
    raise InputError(
        f"a model for {task.name} decides about every token: say which one (position=, "
        f"--position): {named}{', ...' if len(text.tokens) > 12 else ''}."
    )
