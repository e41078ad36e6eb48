"""Labelled texts from files or the `datasets` library, and the questions they become.

The class explained is the one that the model predicts, whatever the label says, unless labels are
asked for.
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attnflow.errors import InputError, MissingExtraError
from attnflow.methods import Classifier, Question, Scores, Variant

TARGETS = ("predicted", "label")  # what may be explained


@dataclass(frozen=True)
class Example:
    """A text of a data set: its number there, and its label, None where there is none."""

    index: int
    text: str
    label: int | None


def read_examples(source: str, *, split: str = "test") -> list[Example]:
    """All texts of a file or a data set.

    Args:
        source: A .tsv or .csv file with a column `text` (or `sentence`) and perhaps `label`; a
            .jsonl file of such objects; or an id of the `datasets` library.
        split: Of a data set by id.

    Raises:
        InputError: The file cannot be read that way.
        MissingExtraError: An id was given, and `datasets` is not installed.
    """
    path = Path(source)
    if path.suffix not in (".tsv", ".csv", ".jsonl"):
        return _from_datasets(source, split)
    try:
        rows = list(_rows(path))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read {source}: {error}.") from error
    return _examples(rows, source)


def _rows(path: Path) -> Iterator[dict[str, object]]:
    with open(path, encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            yield from (json.loads(line) for line in file if line.strip())
        elif path.suffix == ".tsv":
            yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            yield from csv.DictReader(file)


def _from_datasets(name: str, split: str) -> list[Example]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(
            f"{name!r} is no .tsv, .csv or .jsonl file; to take it for an id of the datasets "
            "library: pip install datasets."
        ) from error
    return _examples([dict(row) for row in datasets.load_dataset(name, split=split)], name)


def _examples(rows: Sequence[dict[str, object]], source: str) -> list[Example]:
    column = next((c for c in ("text", "sentence") if rows and c in rows[0]), None)
    if column is None:
        raise InputError(f"{source} has no column 'text' or 'sentence', or no rows.")
    found = []
    for index, row in enumerate(rows):
        label = row.get("label")
        try:
            number = None if label in (None, "") else int(str(label))
        except ValueError:
            raise InputError(
                f"{source}, row {index}: label must be an integer, got {label!r}."
            ) from None
        found.append(Example(index, str(row[column]), number))
    return found


def chosen(
    examples: Sequence[Example],
    classifier: Classifier,
    *,
    limit: int | None = None,
    least: int = 10,
    most: int = 256,
    seed: int = 0,
    target: str = "predicted",
    change: Callable[[Example], Example] | None = None,
) -> list[tuple[Example, Question]]:
    """At most `limit` examples of `least` to `most` tokens, drawn at random, with their questions.

    The draw does not depend on the limit: the first n of a larger draw are the draw of n.

    Args:
        examples: To draw from.
        classifier: Asked.
        limit: Of the texts.
        least, most: Tokens of a text, special ones included.
        seed: Of the draw.
        target: The class explained: "predicted", or the text's "label".
        change: What is done to the texts drawn, `noise.noisy` say; they may grow longer by it.

    Raises:
        InputError: No text has that length, or a label is missing or none of the model's classes.
    """
    if target not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}, got {target!r}.")
    order = np.random.default_rng(seed).permutation(len(examples))
    found: list[tuple[Example, Question]] = []
    for index in order.tolist():
        if limit is not None and len(found) == limit:
            break
        if not examples[index].text.strip():
            continue
        text = classifier.encode(examples[index].text, truncate=True)
        if least <= len(text.tokens) <= most and not text.truncated:
            question = Question(classifier, text, target=0, seed=examples[index].index)
            found.append((examples[index], question))
    if not found:
        raise InputError(f"no text has {least} to {most} tokens: choose other bounds.")
    if change is not None:
        found = [_changed(change(example), question) for example, question in found]
    return _with_labels(found) if target == "label" else _with_predictions(found, classifier)


def _changed(example: Example, question: Question) -> tuple[Example, Question]:
    return example, replace(question, text=question.classifier.encode(example.text))


def _with_predictions(
    found: list[tuple[Example, Question]], classifier: Classifier
) -> list[tuple[Example, Question]]:
    whole = [Variant(q.ids, np.ones(len(q.ids), bool)) for _, q in found]
    predicted = classifier.log_probabilities(whole).argmax(1).tolist()
    return [
        (example, replace(question, target=target))
        for (example, question), target in zip(found, predicted, strict=True)
    ]


def _with_labels(found: list[tuple[Example, Question]]) -> list[tuple[Example, Question]]:
    labelled = []
    for example, question in found:
        classes = len(question.classifier.labels)
        if example.label is None or not 0 <= example.label < classes:
            raise InputError(
                f"example {example.index} has the label {example.label!r}, but labels are to be "
                f"explained: give each text one of 0 to {classes - 1}."
            )
        labelled.append((example, replace(question, target=example.label)))
    return labelled


def read_scores(item: str) -> tuple[str, dict[int, Scores]]:
    """Scores made elsewhere, from `NAME=FILE` with JSON lines of `example` and `scores`.

    Raises:
        InputError: The file is not like that.
    """
    name, _, file = item.partition("=")
    if not name or not file:
        raise InputError(f"scores must be given as NAME=FILE, got {item!r}.")
    try:
        rows = list(_rows(Path(file).with_suffix(".jsonl"))) if file.endswith(".jsonl") else None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}.") from error
    if rows is None:
        raise InputError(f"scores must be in a .jsonl file, got {file!r}.")
    try:
        return name, {int(str(r["example"])): np.array(r["scores"], dtype=float) for r in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f'{file} needs lines such as {{"example": 0, "scores": [0.1, 0.2]}}; got {error!r}.'
        ) from error
