"""Decisions: which output of a model to explain, read at which position, and against which other.

A classifier decides once. A language model decides after every token which comes next; a model
that fills masks decides at the mask, one that labels tokens at each of them. Read next: span.py for
several tokens at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from attnflow.capture.contexts import with_new_tensors_on
from attnflow.capture.objectives import Value
from attnflow.checks import is_integer
from attnflow.errors import AttnflowError, InputError, shown
from attnflow.explainer.targets.output_space import (
    EVERY,
    TOP,
    OutputSpace,
    SpaceOf,
    Span,
    Target,
    Vocabulary,
    answer_tokens,
)
from attnflow.inputs.example import Example, ReadExamples
from attnflow.inputs.per_example import is_one, one_for_each
from attnflow.models.tasks import Task

SHOWN_TOKENS = 12  # that an error lists


@dataclass(frozen=True)
class Rank:
    """A choice by its place among the most probable: 0 is the predicted one."""

    place: int


@dataclass(frozen=True)
class Top:
    """So many of the most probable choices, or all where there are fewer."""

    count: int


# How a call and the command ask for generated tokens, for errors.
_OPTIONS = {
    "continuation": "continuation=, --continuation or --max-new-tokens",
    "span": "span=, --span",
}


@dataclass(frozen=True)
class TargetOptions:
    """The arguments of a call that select what is explained.

    Attributes:
        target: A class, token or answer, one for each example, several of each, or a function of
            the output.
        against: A class or token, or one for each example.
        position: Index of a token, or one for each example.
        span: Half-open indices of tokens, True for a whole continuation, or one for each example.
    """

    target: Target | Value | Top | Sequence[Target] | Sequence[Sequence[Target]] = None
    against: Target | Sequence[Target] = None
    position: int | Sequence[int] | None = None
    span: Span | Sequence[Span] | None = None


@dataclass(frozen=True)
class Decision:
    """One decision about one example.

    Attributes:
        position: The token whose output is read: the one before the token decided on, or itself;
            None where the model reads what it wants.
        target: Index of the explained class or token, None for the one at that rank.
        against: Index of the class or token that it is contrasted with, or None.
        value: A number of the model's output, explained instead of a class or token.
        tokens: Ids of the tokens after the position that are explained at once, of a span.
        rank: Place of the explained one among the most probable, 0 for the predicted one.
    """

    position: int | None = None
    target: int | None = None
    against: int | None = None
    value: Value | None = None
    tokens: tuple[int, ...] = ()
    rank: int = 0


def decide(
    task: Task, space_of: SpaceOf, read: ReadExamples[Any], tokenizer: Any, options: TargetOptions
) -> list[Decision]:
    """Return one decision about each example; options are one for all, or one for each.

    Args:
        task: The task of the model.
        space_of: The output space of an example.
        read: The examples.
        tokenizer: The model's, or None.
        options: The call's target, contrast and position.

    Raises:
        InputError: A class or token that the model does not have, a contrast with itself, a
            position that is not in the text, or no second text where the model needs one. The
            error names the example where there are several.
    """
    examples = read.examples
    if callable(options.target):
        if options.against is not None or options.position is not None:
            raise InputError(
                "a target that is a function reads the model's output by itself: leave against and "
                "position out."
            )
        return [
            Decision(value=_naming_its_errors(options.target, read, i))
            for i in range(len(read.examples))
        ]
    # One value for all examples is repeated, so that each decision is made in the same way.
    targets, contrasts, positions = (
        one_for_each(getattr(options, name), len(examples), name)
        for name in ("target", "against", "position")
    )
    if task.output_kind != "answer" and is_one(options.target) and is_one(options.against):
        # An error in them concerns all examples, so that it is raised before any is named.
        _indices(space_of(examples[0]), options.target, options.against)
    decisions = []
    for i, example in enumerate(examples):
        with read.labels.about(i):
            target, against = _indices(space_of(example), targets[i], contrasts[i])
            position = _readout_position(task, example, positions[i], tokenizer)
            decisions.append(Decision(position, target, against))
    return decisions


def several_targets(
    space_of: SpaceOf, read: ReadExamples[Any], options: TargetOptions
) -> list[list[Target | Rank]] | None:
    """Return the targets of each example, where several of one are to be explained; else None.

    That is `EVERY` class, the `TOP` ones, a sequence of targets for one example by itself, or a
    sequence of them for each example.

    Raises:
        InputError: There are too many choices to explain every one, or another number of sequences
            than of examples.
    """
    target, examples = options.target, read.examples
    if isinstance(target, str | Top):
        top = _top(target)
        if top is None and target != EVERY:
            return None
        spaces = [space_of(example) for example in examples]
        # A class of this name is meant by it.
        if isinstance(target, str) and any(_is_choice(space, target) for space in spaces):
            return None
        if top is None:
            return [list(space.every()) for space in spaces]
        counts = [min(top.count, space.count) for space in spaces]
        return [[Rank(place) for place in range(count)] for count in counts]
    if callable(target) or is_one(target):
        return None
    given: list[Any] = list(cast(Sequence[Any], target))
    if read.is_single and len(given) > 1:
        return [given]
    if not any(isinstance(part, Sequence) and not isinstance(part, str) for part in given):
        return None
    parts = one_for_each(given, len(examples), "target")
    if any(not is_one(part) and len(part) == 0 for part in parts):
        raise InputError("target has an empty list for an example: name what to explain, or None.")
    return [[part] if is_one(part) else list(part) for part in parts]


def _top(target: str | Top) -> Top | None:
    """Return what "top3" asks for; None for other names."""
    if isinstance(target, Top):
        return target
    found = TOP.fullmatch(target)
    return None if found is None else Top(int(found[1]))


def _is_choice(space: OutputSpace, target: str) -> bool:
    """Return whether a space has a class or answer of that name.

    A token of that name is never meant: "all" begins no word, and " all" is another name.
    """
    if isinstance(space, Vocabulary):
        return False
    try:
        space.index(target)
    except InputError:
        return False
    return True


def _indices(space: OutputSpace, target: Any, against: Any) -> tuple[int | None, int | None]:
    """Index of the target, and of its contrast."""
    index, other = space.index(target), space.index(against)
    if index is not None and index == other:
        raise self_contrast(against)
    return index, other


def _readout_position(task: Task, example: Any, position: Any, tokenizer: Any) -> int | None:
    """The token whose output is read; None where the model reads what it wants."""
    _check_second_text(task, example)
    if task.readout_position != "model":
        return _token_position(task, example, position, tokenizer)
    if position is not None:
        raise InputError(
            f"position {shown(position)}: a model for {task.name} decides about the whole "
            f"{task.modality}; leave position out (position=, --position)."
        )
    return None


def _check_second_text(task: Task, example: Any) -> None:
    """Check that a text to compare with, or to answer from, is given where the model needs one."""
    if task.output_kind == "answer":
        answer_tokens(example)
    if task.embeds_texts and example.compared is None:
        raise InputError(
            "this model gives embeddings and decides nothing: give a text to compare with "
            "(pair=, --pair), or a target that is a function of the model's output."
        )


def decide_continuation(start: int, ids: Sequence[int]) -> list[Decision]:
    """Return a decision for each token of a continuation that begins at index `start`."""
    return [Decision(start + i - 1, token) for i, token in enumerate(ids)]


def check_generative(task: Task, what: str, options: TargetOptions) -> None:
    """Check that the model generates, and that nothing but the generated tokens is explained.

    Raises:
        InputError: The model does not generate, or a target, contrast or position is given.
    """
    if not task.is_generative:
        raise InputError(
            f"{what} is for models that write; this one is for {task.name}: leave it out "
            f"({_OPTIONS[what]})."
        )
    names = ("target", "against", "position")
    given = [name for name in names if getattr(options, name) is not None]
    if not given:
        return
    advice = (
        f" To contrast two {what}s, explain them one after the other, each in a call of its "
        "own; against is for single tokens (target=, position=)."
    )
    raise InputError(
        f"{given[0]} and {what} exclude each other: a {what}'s own tokens are what is "
        f"explained. Leave one of them out ({given[0]}=, --{given[0]}; {_OPTIONS[what]})."
        f"{advice if 'against' in given else ''}"
    )


def self_contrast(against: Any) -> InputError:
    """The error about a target that is contrasted with itself."""
    return InputError(
        f"against {shown(against)} is what is explained: there is no contrast with itself. Give "
        "another target or another one to contrast it with."
    )


def _token_position(task: Task, text: Any, position: Any, tokenizer: Any) -> int:
    """The index of a token, counted from the end where it is negative."""
    t = len(text.tokens)
    if position is None:
        return _default_position(task, text, tokenizer)
    if not is_integer(position):  # True would be token 1
        raise InputError(f"position must be the index of a token, got {shown(position)}.")
    if not -t <= position < t:
        raise InputError(
            f"position {shown(position)} is outside the text: it has {t} tokens, 0 to {t - 1} "
            f"({first_tokens(text)})."
        )
    index, source = int(position) % t, text.sides[0]
    if task.has_two_stacks and index < source:
        raise InputError(
            f"position {index} is in the source: what is written begins at position {source}, "
            f"and ends at {t - 1}."
        )
    return index


def first_tokens(text: Example) -> str:
    """The first tokens of a text, for an error."""
    shown = " ".join(text.tokens[:SHOWN_TOKENS])
    return f"{shown} ..." if len(text.tokens) > SHOWN_TOKENS else shown


def _default_position(task: Task, text: Any, tokenizer: Any) -> int:
    if task.is_generative:
        return len(text.tokens) - 1
    if task.readout_position == "mask":
        if tokenizer is None:
            raise InputError(
                "token ids without a tokenizer, which would name the mask: say which position is "
                "explained (position=)."
            )
        masks = [
            i for i, id in enumerate(text.inputs["input_ids"]) if id == tokenizer.mask_token_id
        ]
        # Not the first of several, since nobody asked for that one.
        if len(masks) == 1:
            return masks[0]
        raise InputError(
            f"the text has {len(masks)} tokens {tokenizer.mask_token!r}: expected one, or the "
            "position of the one to explain (position=, --position)."
        )
    named = ", ".join(f"{i} {token}" for i, token in enumerate(text.tokens[:SHOWN_TOKENS]))
    raise InputError(
        f"a model for {task.name} decides about every token: say which one (position=, "
        f"--position): {named}{', ...' if len(text.tokens) > SHOWN_TOKENS else ''}."
    )


def _naming_its_errors(value: Value, read: ReadExamples[Any], index: int) -> Value:
    """The function itself, whose error becomes the cause of one that names its example."""

    def named(output: Any) -> Any:
        try:
            with with_new_tensors_on():
                return value(output)
        except AttnflowError:
            raise
        except Exception as error:
            failure = f"target, a function, raised {type(error).__name__}: {error!s:.200}."
            raise read.labels.named(index, InputError(failure)) from error

    return named
