"""The columns of a source, and the questions that its rows become."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from attnflow.checks import check_switch
from attnflow.errors import InputError, shown
from attnflow.explainer.each import Question
from attnflow.explainer.targets.decision import TargetOptions
from attnflow.files import parse_json
from attnflow.inputs.chat import is_chat
from attnflow.inputs.given import Given


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a source; None where there is none.

    Attributes:
        text: The texts; or chats, as lists of messages.
        id: Ids, which must differ.
        pair: Second texts, for models that read two.
        target: Classes or tokens to explain.
        continuation: Texts that a language model's prompts go on with; each is explained at once.
        label: The labels that the texts should have.
        segments: Parts of the texts: a list of strings in their order, or of objects with `name`
            and `text`, or with `name`, `start` and `end` (characters).
        keep: Further columns that are copied into the results.
        chats: True where the texts are chats, as lists of messages or as JSON of them. Without it
            such JSON is a text like any other: a log may have it, for a model that classifies.
    """

    text: str = "text"
    id: str | None = None
    pair: str | None = None
    target: str | None = None
    continuation: str | None = None
    label: str | None = None
    segments: str | None = None
    keep: Sequence[str] = ()
    chats: bool = False

    def __post_init__(self) -> None:
        check_switch("chats", self.chats)
        if isinstance(self.keep, str) or not isinstance(self.keep, Sequence):
            raise InputError(f"keep_columns must be a list of names, got {shown(self.keep)}.")
        object.__setattr__(self, "keep", tuple(self.keep))  # the caller's list may change
        given = [name for name in self._single if name is not None]
        for name in (*given, *self.keep):
            if not isinstance(name, str) or not name:
                raise InputError(f"the name of a column must be a string, got {shown(name)}.")
        if self.text is None:
            raise InputError("there is no column of texts: name it (text_column=, --text).")
        if len(set(self.keep)) < len(self.keep):
            raise InputError(f"keep_columns names a column twice: {shown(list(self.keep))}.")

    @property
    def read(self) -> list[str]:
        """The names of all columns that are read, each once."""
        named = (*self._single, *self.keep)
        return list(dict.fromkeys(name for name in named if name is not None))

    @property
    def _single(self) -> tuple[str | None, ...]:
        named = (self.text, self.id, self.pair, self.target, self.continuation, self.label)
        return (*named, self.segments)

    def check(self, columns: Sequence[str], file: str) -> None:
        """Check that a file has all of them.

        Raises:
            InputError: It lacks one.
        """
        for name in self.read:
            if columns.count(name) > 1:
                raise InputError(f"{file} has {columns.count(name)} columns {shown(name)}.")
            if name not in columns:
                raise InputError(
                    f"{file} has no column {shown(name)}: expected one of "
                    f"{shown(list(columns), 300)} ({self._option_of(name)})."
                )

    def _option_of(self, name: str) -> str:
        """The argument and the option that named a column."""
        roles = [each.name for each in fields(self) if getattr(self, each.name) == name]
        role = roles[0] if roles else "keep"
        option = "target-column" if role == "target" else role
        return f"{'keep_columns' if role == 'keep' else f'{role}_column'}=, --{option}"

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
        label: The label that the text should have, None where it has none.
        error: Why the row itself cannot be read; None where it can.
    """

    id: str
    row: int
    values: Mapping[str, Any]
    label: Any = None
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
    options["texts"] = _text(row, columns.text, is_chat_wanted=columns.chats)
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


def encodable(text: str) -> str:
    """Return a text that UTF-8 can encode: halves of surrogate pairs become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(row: SourceRow, name: str, *, is_chat_wanted: bool) -> Any:
    value = row.values.get(name)
    if isinstance(value, str):
        if not value.strip():
            raise InputError(f"the text is empty (column {shown(name)}).")
        return _chat_of(value, name) if is_chat_wanted else value
    if is_chat(value):
        return list(value)  # type: ignore[arg-type]
    if value is None:
        raise InputError(f"there is no text: column {shown(name)} is null.")
    raise InputError(
        f"column {shown(name)} must hold a text or a chat (a list of messages), got {shown(value)}."
    )


def _chat_of(text: str, name: str) -> list[Any]:
    """The messages of a chat that is written as JSON."""
    try:
        value = parse_json(text)
    except InputError:
        value = None
    if not is_chat(value):
        raise InputError(
            f"column {shown(name)} must hold chats, lists of messages or JSON of them, got "
            f"{shown(text)}."
        )
    return list(value)


def _string(row: SourceRow, name: str) -> str:
    value = row.values.get(name)
    if not isinstance(value, str) or not value:
        raise InputError(f"column {shown(name)} must hold a text, got {shown(value)}.")
    return value
