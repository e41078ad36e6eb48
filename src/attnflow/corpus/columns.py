"""The columns of a source, and the questions that its rows become."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from attnflow.errors import InputError, shown
from attnflow.explainer.each import Question
from attnflow.explainer.targets.decision import TargetOptions
from attnflow.inputs.chat import is_chat
from attnflow.inputs.given import Given


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a source; None where there is none.

    Attributes:
        text: The texts; or chats, as lists of messages or as JSON of them.
        id: Ids, which must differ.
        pair: Second texts, for models that read two.
        target: Classes or tokens to explain.
        continuation: Texts that a language model's prompts go on with; each is explained at once.
        label: The labels that the texts should have.
        segments: Parts of the texts: a list of strings in their order, or of objects with `name`
            and `text`, or with `name`, `start` and `end` (characters).
        keep: Further columns that are copied into the results.
    """

    text: str = "text"
    id: str | None = None
    pair: str | None = None
    target: str | None = None
    continuation: str | None = None
    label: str | None = None
    segments: str | None = None
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            names = value if each.name == "keep" else (value,)
            if not all(isinstance(name, str) and name for name in names if name is not None):
                raise InputError(f"the name of a column must be a string, got {shown(value)}.")
        if self.text is None:
            raise InputError("there is no column of texts: name it (text_column=, --text).")
        if len(set(self.keep)) < len(self.keep):
            raise InputError(f"keep_columns names a column twice: {shown(list(self.keep))}.")

    @property
    def read(self) -> list[str]:
        """The names of all columns that are read, each once."""
        named = [getattr(self, each.name) for each in fields(self) if each.name != "keep"]
        return list(dict.fromkeys(name for name in (*named, *self.keep) if name is not None))

    def check(self, columns: Sequence[str], file: str) -> None:
        """Check that a file has all of them.

        Raises:
            InputError: It lacks one.
        """
        for name in self.read:
            if name not in columns:
                raise InputError(
                    f"{file} has no column {shown(name)}: expected one of "
                    f"{shown(list(columns), 300)} (text_column=, id_column= ...; --text, --id ...)."
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the names for JSON."""
        return {**asdict(self), "keep": list(self.keep)}


@dataclass(frozen=True)
class SourceRow:
    """One row of a source.

    Attributes:
        id: Its id.
        row: Its index in its file, from 0.
        values: The values of the columns that are read, by name.
        error: Why the row itself cannot be read; None where it can.
    """

    id: str
    row: int
    values: Mapping[str, Any]
    error: str | None = None


def question(
    row: SourceRow, columns: Columns, given: Mapping[str, Any], explained: TargetOptions
) -> Question:
    """Return the question that a row asks.

    Args:
        row: The row.
        columns: Which column is what.
        given: Options of all rows that concern reading: `pair`, `continuation`, `truncate`, `bos`.
        explained: What is explained of all rows; a column replaces its target.

    Raises:
        InputError: A value cannot be used; the row fails by it.
    """
    if row.error is not None:
        raise InputError(row.error)
    options = dict(given)
    options["texts"] = _text(row, columns.text)
    if columns.pair is not None:
        options["pair"] = _string(row, columns.pair)
    if columns.continuation is not None:
        options["continuation"] = _string(row, columns.continuation)
    target, span = explained.target, explained.span
    if columns.target is not None:
        target = row.values.get(columns.target)
    if options.get("continuation") is not None:
        span = True  # one decision a row: the continuation as a whole
    return Question(
        Given(**options),
        TargetOptions(target, explained.against, explained.position, span),
    )


def _text(row: SourceRow, name: str) -> Any:
    value = row.values.get(name)
    if isinstance(value, str):
        chat = _chat_of(value)
        if chat is not None:
            return chat
        if not value.strip():
            raise InputError(f"the text is empty (column {shown(name)}).")
        return value
    if is_chat(value):
        return list(value)  # type: ignore[arg-type]
    if value is None:
        raise InputError(f"there is no text: column {shown(name)} is null.")
    raise InputError(
        f"column {shown(name)} must hold a text or a chat (a list of messages), got {shown(value)}."
    )


def _chat_of(text: str) -> list[Any] | None:
    """The messages of a chat that is written as JSON; None for any other text."""
    if not text.lstrip().startswith("[{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    is_messages = is_chat(value) and all(isinstance(m, dict) and "role" in m for m in value)
    return value if is_messages else None


def _string(row: SourceRow, name: str) -> str:
    value = row.values.get(name)
    if not isinstance(value, str) or not value:
        raise InputError(f"column {shown(name)} must hold a text, got {shown(value)}.")
    return value
