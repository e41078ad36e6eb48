"""Explanations of a batch of columns: the function that `map` of the library datasets calls."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from attnflow.attribution import Attribution
from attnflow.errors import InputError, shown
from attnflow.explainer.explainer import Explainer

Batch = Mapping[str, Any]
Columns = dict[str, list[Any]]

NEW_COLUMNS = (
    "tokens",
    "starts",
    "ends",
    "special",
    "scores",
    "contributions",
    "signed_scores",
    "explained_label",
    "probability",
    "flow",
    "gap",
)


def batch_function(
    explainer: Explainer,
    text_column: str = "text",
    *,
    pair_column: str | None = None,
    target_column: str | None = None,
    prefix: str = "",
    **options: Any,
) -> Callable[[Batch], Columns]:
    """Return a function that explains the texts of a batch, for `dataset.map(..., batched=True)`.

    It takes any dictionary of columns and returns new ones, a value for each text: `tokens`,
    `starts`, `ends` (characters), `special` and `scores`, a list each; `contributions` and
    `signed_scores`, None where the tensor's effects have no signs; `explained_label` with its
    `probability` (0 to 1), `flow` (its value) and `gap` (its relative distance below the maximum,
    at most).

    Args:
        explainer: Explains them.
        text_column: Name of the column of texts.
        pair_column: Name of the column of second texts, for models that read two.
        target_column: Name of the column of classes or tokens to explain, one for each text.
        prefix: Put in front of the names of the new columns.
        options: Keywords of `Explainer.__call__`, the same for all texts, such as `target`.

    Raises:
        InputError: There is no explainer, a name is no string, or an option has a column too. The
            function raises it where a column is missing, or has the name of a new one, or where a
            text has several results; and all that `Explainer.__call__` raises.
    """
    if not isinstance(explainer, Explainer):
        raise InputError(f"expected an Explainer, got {shown(explainer)}.")
    columns = {"texts": text_column, "pair": pair_column, "target": target_column}
    for argument, name in columns.items():
        if not isinstance(name, str) and (name is not None or argument == "texts"):
            raise InputError(f"the name of a column must be a string, got {shown(name)}.")
        if name is not None and argument in options:
            raise InputError(f"{argument} is the column {shown(name)}: leave out {argument}=.")
    if not isinstance(prefix, str):
        raise InputError(f"prefix must be a string, got {shown(prefix)}.")
    named = {argument: name for argument, name in columns.items() if name is not None}
    return partial(_explain, explainer=explainer, columns=named, prefix=prefix, options=options)


def _explain(
    batch: Batch,
    explainer: Explainer,
    columns: Mapping[str, str],
    prefix: str,
    options: Mapping[str, Any],
) -> Columns:
    for name in columns.values():
        if name not in batch:
            have = shown(list(batch), 300)
            raise InputError(
                f"there is no column {shown(name)} in the batch: expected one of {have}."
            )
    for name in NEW_COLUMNS:
        if prefix + name in batch:
            raise InputError(
                f"the batch has a column {shown(prefix + name)} already: name the new ones by "
                "prefix=."
            )
    given: dict[str, Any] = {argument: list(batch[name]) for argument, name in columns.items()}
    results = explainer(**given, **options)
    return {prefix + name: values for name, values in _columns_of(results).items()}


def _columns_of(results: list[Any]) -> Columns:
    if any(not isinstance(a, Attribution) for a in results):
        raise InputError(
            "a text can have one result in a column, and several were asked for: give one target "
            "for each text, and no continuation=."
        )
    values = (
        [list(a.tokens) for a in results],
        [[start for start, _ in a.offsets] for a in results],
        [[end for _, end in a.offsets] for a in results],
        [a.special.tolist() for a in results],
        [a.scores.tolist() for a in results],
        [None if a.contributions is None else a.contributions.tolist() for a in results],
        [None if a.signed_scores is None else a.signed_scores.tolist() for a in results],
        [a.label for a in results],
        [float(a.probabilities[a.target]) for a in results],
        [a.certificate.value for a in results],
        [a.certificate.gap for a in results],
    )
    return dict(zip(NEW_COLUMNS, values, strict=True))
