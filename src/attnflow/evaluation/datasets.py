"""Read labelled texts and images from files, folders or ids. Read next: `sampling`."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnflow.errors import InputError, MissingExtraError, shown
from attnflow.files import parse_json
from attnflow.methods import Scores

TABLES = (".tsv", ".csv", ".jsonl")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
Row = Mapping[str, object]
Messages = tuple[Mapping[str, str], ...]
LABELS = tuple(f"labels{suffix}" for suffix in TABLES)  # in a folder of images


@dataclass(frozen=True)
class Example:
    """A text, a chat or an image of a data set.

    Attributes:
        index: Position in the data set.
        content: The text, the chat's messages, or the image's file.
        label: Index of the class; None where the data have no labels.
        answer: The token that should come next, as text; None: the model's own prediction.
        evidence: Half-open characters of `text` on which the answer rests, or None.
        sentences: Half-open characters of the sentences of which one holds the evidence; () where
            they are not told apart.
        family: The kind of example, "" where there is one kind.
    """

    index: int
    content: str | Messages | Path
    label: int | None
    answer: str | None = None
    evidence: tuple[int, int] | None = None
    family: str = ""
    sentences: tuple[tuple[int, int], ...] = ()

    @property
    def text(self) -> str:
        """The text; of a chat the contents of its messages, each on a line."""
        return text_of(self.content)


def text_of(content: str | Messages | Path) -> str:
    """Return a content's text; of a chat the contents of its messages, each on a line."""
    if isinstance(content, tuple):
        return "\n".join(message["content"] for message in content)
    return str(content)


def read_examples(source: str, *, split: str = "test") -> list[Example]:
    """Read all texts of a file or a data set, or all images of a folder.

    Args:
        source: A .tsv or .csv file with a column `text` (or `sentence`) and perhaps `label`; a
            .jsonl file of such objects, which may have `messages`, a chat, instead of a text, and a
            known answer: `target`, the token that comes next, `span`, the half-open characters
            that it rests on, `sentences`, a list of such spans of which one holds it, and
            `family` (of a chat characters are those of its contents, each on a line); a .txt file
            with a text on each line; a folder of image files, perhaps with a table
            `labels.tsv`, `.csv` or `.jsonl` with columns `file` and `label`; or an id of the
            `datasets` library.
        split: Part of a data set given by id.

    Raises:
        InputError: The file or folder cannot be read that way.
        MissingExtraError: An id was given, and `datasets` is not installed.
    """
    path = Path(source)
    if path.is_dir():
        return _images(path)
    if path.suffix not in (*TABLES, ".txt"):
        return _from_datasets(source, split)
    return _examples(_rows(path), source)


def text_examples(lines: Sequence[str]) -> list[Example]:
    """Return each line as a text without a label."""
    return [Example(index, line.rstrip("\r"), None) for index, line in enumerate(lines)]


def _rows(path: Path) -> list[Row]:
    try:
        return list(_read(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}.") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        # A name with NUL, or with half of a surrogate pair.
        raise InputError(f"cannot read {shown(str(path))}: {error}.") from error


def _read(path: Path) -> Iterator[Row]:
    # `newline=""`, as `csv` asks for: else line breaks inside quotes would be changed.
    # A byte-order mark would become part of the first column's name.
    with open(path, encoding="utf-8-sig", newline="") as file, _long_fields():
        if path.suffix == ".txt":
            yield from ({"text": line.rstrip("\r\n")} for line in file)
        elif path.suffix == ".jsonl":
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _object(line, f"{path}, line {number}")
        elif path.suffix == ".tsv":
            # In a .tsv file quotes belong to the text, and often have no partner.
            yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            yield from csv.DictReader(file)


def _object(line: str, where: str) -> Row:
    try:
        row = parse_json(line)
    except InputError as error:
        raise InputError(f"cannot read {where}: it is not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object, got {shown(row)}.")
    return row


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let a field of a table have more than the 131,072 characters that `csv` allows."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _from_datasets(name: str, split: str) -> list[Example]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(
            f"{name!r} is not a folder of images or a .tsv, .csv, .jsonl or .txt file; to take it "
            "for an id of the datasets library: pip install datasets."
        ) from error
    return _examples([dict(row) for row in datasets.load_dataset(name, split=split)], name)


def _examples(rows: Sequence[Row], source: str) -> list[Example]:
    column = next((c for c in ("text", "sentence", "messages") if rows and c in rows[0]), None)
    if column is None:
        raise InputError(f"{source} has no column 'text' or 'sentence', or no rows.")
    examples = []
    for index, row in enumerate(rows):
        where = f"{source}, row {index}"
        content = _content(row, column, where)
        answer, text = row.get("target"), text_of(content)
        evidence = _span(row.get("span"), text, "span", where)
        examples.append(
            Example(
                index,
                content,
                _label(row, where),
                answer=None if answer in (None, "") else str(answer),
                evidence=evidence,
                family=str(row.get("family") or ""),
                sentences=_sentences(row, text, evidence, where),
            )
        )
    return examples


def _content(row: Row, column: str, where: str) -> str | Messages:
    messages = row.get("messages")
    if messages in (None, "") and column != "messages":
        text = row.get(column)
        if not isinstance(text, str):
            raise InputError(f"{where}: {column} must be a text, got {shown(text)}.")
        return text
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and isinstance(message.get("content"), str)
        for message in messages
    ):
        raise InputError(
            f"{where}: messages must be a list of objects with role and content, got "
            f"{shown(messages)}."
        )
    return tuple(messages)


def _span(span: object, text: str, name: str, where: str) -> tuple[int, int] | None:
    if span in (None, ""):
        return None
    if not isinstance(span, list) or [type(end) for end in span] != [int, int]:
        raise InputError(
            f"{where}: {name} must be two characters, [start, stop], got {shown(span)}."
        )
    start, stop = span
    if not 0 <= start < stop <= len(text):
        raise InputError(
            f"{where}: {name} {span} is not inside the text, which has {len(text)} characters."
        )
    return start, stop


def _sentences(
    row: Row, text: str, evidence: tuple[int, int] | None, where: str
) -> tuple[tuple[int, int], ...]:
    given = row.get("sentences")
    if given in (None, "", []):
        return ()
    if not isinstance(given, list):
        raise InputError(f"{where}: sentences must be a list of spans, got {shown(given)}.")
    spans = [_span(one, text, "a sentence", where) for one in given]
    sentences = tuple(span for span in spans if span is not None)
    if evidence is None or not any(
        start <= evidence[0] and evidence[1] <= stop for start, stop in sentences
    ):
        raise InputError(f"{where}: one of the sentences must hold the span.")
    return sentences


def _label(row: Row, where: str) -> int | None:
    label = row.get("label")
    try:
        # A table has "" where a row has no label.
        return None if label in (None, "") else int(str(label))
    except ValueError:
        raise InputError(f"{where}: label must be an integer, got {shown(label)}.") from None


def _images(folder: Path) -> list[Example]:
    """Return the images of a folder and its subfolders, in the order of their names."""
    # In one order on every file system: an example is known by its index.
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGES)
    if not files:
        raise InputError(f"{folder} has no image in it: expected files {', '.join(IMAGES)}.")
    labels: dict[Path, int | None] = dict.fromkeys(files)
    for table in (folder / name for name in LABELS):
        for row in _rows(table) if table.exists() else ():
            file = folder / str(row.get("file"))
            # Not passed over: a misspelt name would leave its image without a label.
            if file not in labels:
                raise InputError(f"{table} labels {row.get('file')!r}, and there is no such image.")
            labels[file] = _label(row, f"{table}, {row['file']}")
    return [Example(index, file, labels[file]) for index, file in enumerate(files)]


def read_scores(item: str) -> tuple[str, dict[int, Scores]]:
    """Read scores computed elsewhere, from `NAME=FILE` with JSON lines of `example` and `scores`.

    Raises:
        InputError: The item is not such a pair, or the file has other lines.
    """
    name, _, file = item.partition("=")
    if not name or not file:
        raise InputError(f"scores must be given as NAME=FILE, got {shown(item)}.")
    if not file.endswith(".jsonl"):
        raise InputError(f"scores must be in a .jsonl file, got {shown(file)}.")
    rows = _rows(Path(file))
    try:
        scores = {_index(r["example"]): np.array(r["scores"], dtype=float) for r in rows}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f'{file} needs lines such as {{"example": 0, "scores": [0.1, 0.2]}}; got '
            f"{shown(error, 200)}."
        ) from error
    return name, scores


def _index(value: object) -> int:
    """The index of an example, as a number or as its digits.

    Raises:
        ValueError: It is none.
    """
    digits = shown(value, 40) if type(value) is int else str(value)
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        raise ValueError(f"the example {shown(value)}")
    return int(digits)
