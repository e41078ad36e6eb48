"""Draw examples, and turn each into an instance: a content and the class to explain.

The class is the one that the model predicts, whatever the label is, unless the labels themselves
are explained. Of a language model the next token is explained, after the whole text or after a
random token. There the text is cut, so that the readout position is always the last token.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attnflow.checks import check_name
from attnflow.errors import InputError, shown
from attnflow.evaluation.datasets import Example
from attnflow.methods import Classifier, ImageClassifier, Instance, LanguageModel, ModelAdapter
from attnflow.methods.adapter import Nodes

TARGETS = ("predicted", "label")
POSITIONS = ("end", "random")  # after which token the next one is explained

Change = Callable[[Example], Example]


@dataclass(frozen=True)
class LengthBounds:
    """Bounds of a text's number of tokens, special ones included.

    Attributes:
        min_tokens: Fewest tokens.
        max_tokens: Most tokens.
        cut: True where a text is cut at a random length between them.
    """

    min_tokens: int
    max_tokens: int
    cut: bool


def sample_instances(
    examples: Sequence[Example],
    adapter: ModelAdapter,
    *,
    limit: int | None = None,
    min_tokens: int = 10,
    max_tokens: int = 256,
    seed: int = 0,
    target: str = "predicted",
    position: str = "end",
    change: Change | None = None,
) -> list[tuple[Example, Instance]]:
    """Draw at most `limit` examples at random, texts of a certain length, and their instances.

    The draw does not depend on the limit: the first n of a larger draw are the draw of n.

    Args:
        examples: To draw from.
        adapter: The model to explain.
        limit: Largest number of examples; all when None.
        min_tokens: Fewest tokens of a text, special ones included.
        max_tokens: Most tokens of a text.
        seed: Of the draw.
        target: The class explained: "predicted", or the example's "label".
        position: The token after which a language model's next token is explained: that at the
            "end", or one at "random" between `min_tokens` and `max_tokens`.
        change: Applied to the texts drawn, such as `noise.noisy`; it may make them longer.

    Raises:
        InputError: An option does not fit the adapter, no text can have or has that length, or a
            label is missing or no class of the model.
    """
    bounds = LengthBounds(min_tokens, max_tokens, position == "random")
    _check_options(examples, adapter, target, position, change, bounds)
    order = np.random.default_rng(seed).permutation(len(examples))
    drawn: list[tuple[Example, Instance]] = []
    for index in order.tolist():
        if limit is not None and len(drawn) == limit:
            break
        content = _content(examples[index], adapter, bounds, seed)
        if content is not None:
            # The class comes when all are drawn, so that the model predicts in batches.
            instance = Instance(adapter, content, target=0, seed=examples[index].index)
            drawn.append((examples[index], instance))
    if not drawn:
        raise InputError(f"no text has {min_tokens} to {max_tokens} tokens: choose other bounds.")
    if change is not None:
        # After the draw, so that clean and noisy runs have the same texts.
        drawn = [_changed(change(example), instance) for example, instance in drawn]
    if target == "label":
        return _with_labels(drawn)
    return _with_evidence(_with_answers(_with_predictions(drawn, adapter)))


def _check_options(
    examples: Iterable[Example],
    adapter: ModelAdapter,
    target: str,
    position: str,
    change: Change | None,
    bounds: LengthBounds,
) -> None:
    """Raise unless the examples and options fit the adapter's kind of model."""
    for option, given, known in (("target", target, TARGETS), ("position", position, POSITIONS)):
        check_name(option, given, known)
    if bounds.min_tokens > bounds.max_tokens:
        raise InputError(
            f"min_tokens {bounds.min_tokens} is more than max_tokens {bounds.max_tokens}: choose "
            "other bounds."
        )
    images = any(isinstance(example.content, Path) for example in examples)
    if images != isinstance(adapter, ImageClassifier):
        data, expected = ("images", "texts") if images else ("texts", "a folder of images")
        raise InputError(f"the model is {adapter.kind}, but the data are {data}: give {expected}.")
    if target == "label" and not adapter.labels:
        raise InputError(f"{adapter.kind} explains the token that it predicts: it has no labels.")
    if position != "end" and not isinstance(adapter, LanguageModel):
        raise InputError(
            f"position {shown(position)} is for language models, not for {adapter.kind}."
        )
    if position != "end" and any(example.evidence is not None for example in examples):
        raise InputError(
            "position 'random' cuts texts, and their spans would lie elsewhere: give --position "
            "end, or data without spans."
        )
    chats = any(isinstance(example.content, tuple) for example in examples)
    if chats and (position != "end" or change is not None):
        raise InputError(
            "a chat is taken as its template renders it: leave noise and position 'random' out."
        )
    if change is not None and not isinstance(adapter, Classifier):
        raise InputError(f"noise is for the texts of classifiers, not for {adapter.kind}.")


def _content(example: Example, adapter: Any, bounds: LengthBounds, seed: int) -> Any:
    """Encode an example as the adapter reads it; None where its length does not fit."""
    if isinstance(adapter, ImageClassifier):
        return adapter.encode(example.content)
    if not example.text.strip():
        return None
    text = adapter.encode(example.content, truncate=True)
    count = len(text.tokens)
    if bounds.cut and count >= bounds.min_tokens:
        # A generator of its own, so that the cut does not depend on the other texts.
        rng = np.random.default_rng([seed, example.index])
        count = int(rng.integers(bounds.min_tokens, min(bounds.max_tokens, count), endpoint=True))
        text = adapter.cut(text, count)
    fits = bounds.min_tokens <= count <= bounds.max_tokens and not text.truncated
    # A text of special tokens alone has nothing to rank.
    return text if fits and adapter.ordinary(text).any() else None


def _changed(example: Example, instance: Instance) -> tuple[Example, Instance]:
    adapter: Any = instance.adapter
    return example, replace(instance, content=adapter.encode(example.content))


def _with_predictions(
    drawn: list[tuple[Example, Instance]], adapter: ModelAdapter
) -> list[tuple[Example, Instance]]:
    whole = [adapter.whole_variant(instance.content) for _, instance in drawn]
    predicted = adapter.predicted(whole)
    return [
        (example, replace(instance, target=target))
        for (example, instance), target in zip(drawn, predicted, strict=True)
    ]


def _with_answers(drawn: list[tuple[Example, Instance]]) -> list[tuple[Example, Instance]]:
    """Leave out examples whose known answer is not what the model says.

    What a model did not answer does not rest on the evidence, so there is nothing to find.
    """
    right = []
    for example, instance in drawn:
        if example.answer is not None:
            adapter: Any = instance.adapter
            if not isinstance(adapter, LanguageModel):
                raise InputError(
                    f"example {example.index} has a target, the next token, and the model is "
                    f"{adapter.kind}: expected a language model, or data without targets."
                )
            if adapter.first_token_of(example.answer) != instance.target:
                continue
        right.append((example, instance))
    if not right:
        raise InputError("the model predicts the target of no example: there is nothing to judge.")
    return right


def _with_evidence(drawn: list[tuple[Example, Instance]]) -> list[tuple[Example, Instance]]:
    """Tell each instance the nodes of its example's evidence and sentences, by their characters."""
    found = []
    for example, instance in drawn:
        if example.evidence is not None:
            if isinstance(example.content, tuple) and example.text != instance.content.text:
                raise InputError(
                    f"example {example.index}: the chat template changes the messages, so that "
                    "the span would lie elsewhere; give them as the template leaves them."
                )
            evidence = _overlapping(instance, example.evidence)
            if not evidence.any():
                raise InputError(
                    f"example {example.index}: no token that the model reads overlaps with the "
                    f"span {list(example.evidence)}; is the text cut before it?"
                )
            sentences = [_overlapping(instance, sentence) for sentence in example.sentences]
            instance = replace(
                instance, evidence=evidence, sentences=np.array(sentences) if sentences else None
            )
        found.append((example, instance))
    return found


def _overlapping(instance: Instance, span: tuple[int, int]) -> Nodes:
    """`(t,)` bool, true at tokens that have characters in a half-open span."""
    start, stop = span
    offsets = np.array(instance.content.offsets)
    overlaps: Nodes = (offsets[:, 0] < stop) & (offsets[:, 1] > start)
    return overlaps & (offsets[:, 0] < offsets[:, 1])


def _with_labels(drawn: list[tuple[Example, Instance]]) -> list[tuple[Example, Instance]]:
    labelled = []
    for example, instance in drawn:
        classes = len(instance.adapter.labels)
        if example.label is None or not 0 <= example.label < classes:
            raise InputError(
                f"example {example.index} has the label {example.label!r}, but labels are to be "
                f"explained: give each one of 0 to {classes - 1}."
            )
        labelled.append((example, replace(instance, target=example.label)))
    return labelled
