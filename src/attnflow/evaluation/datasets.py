"""Read labelled texts and images from files, folders or ids. Read next: `sampling`."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnflow.errors import InputError, MissingExtraError
from attnflow.methods import Scores

TABLES = (".tsv", ".csv", ".jsonl")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
Row = Mapping[str, object]
LABELS = tuple(f"labels{suffix}" for suffix in TABLES)  # in a folder of images


@dataclass(frozen=True)
class Example:
    """A text or an image of a data set.

    Attributes:
        index: Position in the data set.
        content: The text, or the image's file.
        label: Index of the class; None where the data have no labels.
        answer: The token that should come next, as text; None: the model's own prediction.
        evidence: Half-open characters of the text on which the answer rests, or None.
        family: The kind of example, "" where there is one kind.
    """

    index: int
    content: str | Path
    label: int | None
    answer: str | None = None
    evidence: tuple[int, int] | None = None
    family: str = ""


def read_examples(source: str, *, split: str = "test") -> list[Example]:
    """Read all texts of a file or a data set, or all images of a folder.

    Args:
        source: A .tsv or .csv file with a column `text` (or `sentence`) and perhaps `label`; a
            .jsonl file of such objects, which may have a known answer: `target`, the token that
            comes next, `span`, the half-open characters that it rests on, and `family`; a .txt
            file with a text on each line; a folder of image files, perhaps with a table
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
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}.") from error


def _read(path: Path) -> Iterator[Row]:
    # `newline=""`, as `csv` asks for: else line breaks inside quotes would be changed.
    with open(path, encoding="utf-8", newline="") as file:
        if path.suffix == ".txt":
            yield from ({"text": line.rstrip("\r\n")} for line in file)
        elif path.suffix == ".jsonl":
            yield from (json.loads(line) for line in file if line.strip())
        elif path.suffix == ".tsv":
            # In a .tsv file quotes belong to the text, and often have no partner.
            yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            yield from csv.DictReader(file)


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
    column = next((c for c in ("text", "sentence") if rows and c in rows[0]), None)
    if column is None:
        raise InputError(f"{source} has no column 'text' or 'sentence', or no rows.")
    examples = []
    for index, row in enumerate(rows):
        text, where = str(row[column]), f"{source}, row {index}"
        answer = row.get("target")
        examples.append(
            Example(
                index,
                text,
                _label(row, where),
                answer=None if answer in (None, "") else str(answer),
                evidence=_evidence(row, text, where),
                family=str(row.get("family") or ""),
            )
        )
    return examples


def _evidence(row: Row, text: str, where: str) -> tuple[int, int] | None:
    span = row.get("span")
    if span in (None, ""):
        return None
    if not isinstance(span, list) or [type(end) for end in span] != [int, int]:
        raise InputError(f"{where}: span must be two characters, [start, stop], got {span!r}.")
    start, stop = span
    if not 0 <= start < stop <= len(text):
        raise InputError(
            f"{where}: span {span} is not inside the text, which has {len(text)} characters."
        )
    return start, stop


def _label(row: Row, where: str) -> int | None:
    label = row.get("label")
    try:
        # A table has "" where a row has no label.
        return None if label in (None, "") else int(str(label))
    except ValueError:
        raise InputError(f"{where}: label must be an integer, got {label!r}.") from None


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
        raise InputError(f"scores must be given as NAME=FILE, got {item!r}.")
    if not file.endswith(".jsonl"):
        raise InputError(f"scores must be in a .jsonl file, got {file!r}.")
    rows = _rows(Path(file))
    try:
        return name, {int(str(r["example"])): np.array(r["scores"], dtype=float) for r in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f'{file} needs lines such as {{"example": 0, "scores": [0.1, 0.2]}}; got {error!r}.'
        ) from error
