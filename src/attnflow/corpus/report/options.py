"""The arguments of a report, checked once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attnflow.checks import check_count, check_switch
from attnflow.errors import InputError, shown
from attnflow.files import as_path, read_bytes

MOST_WORDS = 10_000  # of a word list; each is looked for in every text


@dataclass(frozen=True)
class ReportOptions:
    """The way a report is made.

    Attributes:
        words: Words or phrases that the model should not rest on.
        pattern: A regular expression (RE2) of such characters.
        by: The column of the source by which texts are compared: one that was kept, or "file".
        compare: The folder of an earlier run.
        labels: The model's names of the source's labels, where the two differ.
        min_count: Texts that a word must occur in, at least 2.
        top: Words of each list, and texts.
        fold_case: Count *Good* and *good* as one word.
    """

    words: tuple[str, ...] = ()
    pattern: str | None = None
    by: str | None = None
    compare: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    min_count: int = 5
    top: int = 50
    fold_case: bool = True

    def __post_init__(self) -> None:
        check_count("min_count", self.min_count)
        if self.min_count < 2:
            raise InputError(
                "min_count (--min-count) must be at least 2: one text has no interval."
            )
        check_count("top", self.top)
        check_switch("fold_case", self.fold_case)
        for name in ("pattern", "by", "compare"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise InputError(f"{name} (--{name}) must be a string, got {shown(value)}.")


def checked_words(words: Sequence[str] | None) -> tuple[str, ...]:
    """Return a list of words without spaces around them, each once.

    Raises:
        InputError: It is no list of strings, is too long, or has an empty word.
    """
    if words is None:
        return ()
    is_list = isinstance(words, Sequence) and not isinstance(words, str)
    if not is_list or not all(isinstance(word, str) for word in words):
        raise InputError(
            f"words must be a list of strings, got {shown(words)} (--words names a file of them)."
        )
    stripped = tuple(dict.fromkeys(" ".join(word.split()) for word in words))
    if not stripped or "" in stripped:
        raise InputError("words (--words) has an empty word: leave it out.")
    if len(stripped) > MOST_WORDS:
        raise InputError(f"words (--words) has {len(stripped)} words: at most {MOST_WORDS}.")
    return stripped


def checked_labels(labels: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the names of labels.

    Raises:
        InputError: It is no mapping from strings to strings.
    """
    if labels is None:
        return {}
    is_mapping = isinstance(labels, Mapping)
    if not is_mapping or not all(isinstance(x, str) for pair in labels.items() for x in pair):
        raise InputError(
            "labels must map labels of the source to the model's names, both strings, got "
            f"{shown(labels)}."
        )
    return dict(labels)


def read_words(file: str | Path) -> tuple[str, ...]:
    """Return the words of a file, one a line; empty lines and those that begin with # are skipped.

    Args:
        file: A text file in UTF-8.

    Raises:
        InputError: It has no words, or is not UTF-8.
        StorageError: It cannot be read.
    """
    path = as_path(file)
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be a text file in UTF-8: {error.reason}.") from error
    words = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not words:
        raise InputError(f"{path} has no words: expected one a line.")
    return checked_words(words)
