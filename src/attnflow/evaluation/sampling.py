"""Which examples are asked about, and the instances that they become.

The class explained is the one that the model predicts, whatever the label says, unless labels are
asked for. A language model is asked for the token behind the whole text, or behind one that is
drawn: the text is cut there, so that the last token is always the one that is read.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attnflow.errors import InputError
from attnflow.evaluation.datasets import Example
from attnflow.methods import Classifier, ImageClassifier, Instance, LanguageModel, ModelAdapter

TARGETS = ("predicted", "label")  # what may be explained
POSITIONS = ("end", "random")  # where a language model may be asked

Change = Callable[[Example], Example]


@dataclass(frozen=True)
class LengthBounds:
    """Of a text's tokens, special ones included; and whether it may be cut to fit."""

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
    """At most `limit` examples drawn at random, with their instances; texts of a certain length.

    The draw does not depend on the limit: the first n of a larger draw are the draw of n.

    Args:
        examples: To draw from.
        adapter: The model that reads the examples.
        limit: Of the examples.
        min_tokens, max_tokens: Tokens of a text, special ones included.
        seed: Of the draw.
        target: The class explained: "predicted", or the example's "label".
        position: Behind which token a language model is asked for the next one: that at the "end",
            or one at "random", between `min_tokens` and `max_tokens`.
        change: What is done to the texts drawn, `noise.noisy` say; they may grow longer by it.

    Raises:
        InputError: An option that makes no sense for the adapter, no text of that length, or a
            label that is missing or none of the model's classes.
    """
    _check(examples, adapter, target, position, change)
    bounds = LengthBounds(min_tokens, max_tokens, position == "random")
    order = np.random.default_rng(seed).permutation(len(examples))
    found: list[tuple[Example, Instance]] = []
    for index in order.tolist():
        if limit is not None and len(found) == limit:
            break
        content = _content(examples[index], adapter, bounds, seed)
        if content is not None:
            instance = Instance(adapter, content, target=0, seed=examples[index].index)
            found.append((examples[index], instance))
    if not found:
        raise InputError(f"no text has {min_tokens} to {max_tokens} tokens: choose other bounds.")
    if change is not None:
        found = [_changed(change(example), instance) for example, instance in found]
    return _with_labels(found) if target == "label" else _with_predictions(found, adapter)


def _check(
    examples: Iterable[Example],
    adapter: ModelAdapter,
    target: str,
    position: str,
    change: Change | None,
) -> None:
    """Examples and options that the kind of adapter has a use for."""
    for what, given, known in (("target", target, TARGETS), ("position", position, POSITIONS)):
        if given not in known:
            raise InputError(f"{what} must be one of {', '.join(known)}, got {given!r}.")
    images = any(isinstance(example.content, Path) for example in examples)
    if images != isinstance(adapter, ImageClassifier):
        came, wanted = ("images", "texts") if images else ("texts", "a folder of images")
        raise InputError(f"the model is {adapter.kind}, but the data are {came}: give {wanted}.")
    if target == "label" and not adapter.labels:
        raise InputError(f"{adapter.kind} explains the token that it predicts: it has no labels.")
    if position != "end" and not isinstance(adapter, LanguageModel):
        raise InputError(f"position {position!r} is for language models, not for {adapter.kind}.")
    if change is not None and not isinstance(adapter, Classifier):
        raise InputError(f"noise is for the texts of classifiers, not for {adapter.kind}.")


def _content(example: Example, adapter: Any, bounds: LengthBounds, seed: int) -> Any:
    """The example as the adapter reads it, None where its length does not fit."""
    if isinstance(adapter, ImageClassifier):
        return adapter.encode(example.content)
    if not str(example.content).strip():
        return None
    text = adapter.encode(example.content, truncate=True)
    count = len(text.tokens)
    if bounds.cut and count >= bounds.min_tokens:
        rng = np.random.default_rng([seed, example.index])
        count = int(rng.integers(bounds.min_tokens, min(bounds.max_tokens, count), endpoint=True))
        text = adapter.cut(text, count)
    fits = bounds.min_tokens <= count <= bounds.max_tokens and not text.truncated
    return text if fits and adapter.ordinary(text).any() else None


def _changed(example: Example, instance: Instance) -> tuple[Example, Instance]:
    adapter: Any = instance.adapter
    return example, replace(instance, content=adapter.encode(example.content))


def _with_predictions(
    found: list[tuple[Example, Instance]], adapter: ModelAdapter
) -> list[tuple[Example, Instance]]:
    whole = [adapter.whole_variant(instance.content) for _, instance in found]
    predicted = adapter.predicted(whole)
    return [
        (example, replace(instance, target=target))
        for (example, instance), target in zip(found, predicted, strict=True)
    ]


def _with_labels(found: list[tuple[Example, Instance]]) -> list[tuple[Example, Instance]]:
    labelled = []
    for example, instance in found:
        classes = len(instance.adapter.labels)
        if example.label is None or not 0 <= example.label < classes:
            raise InputError(
                f"example {example.index} has the label {example.label!r}, but labels are to be "
                f"explained: give each one of 0 to {classes - 1}."
            )
        labelled.append((example, replace(instance, target=example.label)))
    return labelled
