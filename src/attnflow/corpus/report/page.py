"""The page: one HTML file with every section and a table of all texts, which fetches nothing.

Templates write the sections, so that they can be read without scripts. The table is made by
scripts, from the blocks of `page_rows`. The content security policy is that of the page of one
text: exactly these scripts, and nothing to load.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from attnflow.attribution.views import templates
from attnflow.corpus.report import labels
from attnflow.corpus.report.data import ReportData
from attnflow.corpus.report.database import NOW, opened
from attnflow.corpus.report.page_rows import DETAIL_ROWS, MOST_CHOICES, Rows, table_rows
from attnflow.corpus.report.sections import WordEffect

PACKAGE = "attnflow.corpus.report"
SCRIPTS = ("blocks.js", "rows.js", "opened.js", "report.js")
OPEN_LABELS = 4  # classes whose words are seen at once
ROOM = 1.4  # of the longest bar, which its scale has for intervals
FIRST = 12  # rows of a list; the others unfold


@dataclass(frozen=True)
class Bar:
    """A bar with its interval, in percent of the width of the longest.

    Attributes:
        width: Length of the bar.
        low: Begin of the interval's line.
        high: Its end.
        against: True where the number is below 0.
    """

    width: float
    low: float
    high: float
    against: bool


@dataclass(frozen=True)
class Barred:
    """A row of a section with its bar; without one where it has no mean."""

    row: Any
    bar: Bar | None


@dataclass(frozen=True)
class WordList:
    """Words or phrases of one class and one direction.

    Attributes:
        title: Its heading.
        rows: The words, the strongest first.
    """

    title: str
    rows: tuple[Barred, ...]


@dataclass(frozen=True)
class LabelWords:
    """All lists of one class.

    Attributes:
        label: The class; None for all together.
        lists: The lists that have words.
        is_open: True where they are seen at once.
    """

    label: str | None
    lists: tuple[WordList, ...]
    is_open: bool


def render(report: ReportData, rows: int) -> str:
    """Return the whole page.

    Args:
        report: The report.
        rows: Most rows of the table.

    Raises:
        StorageError: The results cannot be read.
    """
    digits = _digits(report)
    table = _table(report, rows, 10**digits)
    scripts = [templates.asset(name, PACKAGE) for name in SCRIPTS]
    page = templates.render(
        "report.html",
        PACKAGE,
        report=report,
        hashes=" ".join(map(_hash, scripts)),
        style=templates.verbatim("page.css") + templates.verbatim("report.css", PACKAGE),
        words=label_words(report.words),
        texts=_grouped(report.texts, "kind"),
        suspects=barred(report.suspects, "effect", "low", "high"),
        mistakes={
            label: barred(listed, "wrong", "wrong_low", "wrong_high")
            for label, listed in _grouped(report.mistakes, "predicted").items()
        },
        word_drift={
            label: barred(listed, "difference", "low", "high")
            for label, listed in _grouped(report.word_drift, "label").items()
        },
        segments=barred(report.segments, "share", "share_low", "share_high"),
        first=FIRST,
        decimals=digits,
        rows=table,
        data={
            "rows": table.count,
            "digits": digits,
            "choices": MOST_CHOICES,
            "block": DETAIL_ROWS,
            "columns": [vars(column) for column in table.columns],
        },
        scripts=[templates.verbatim(name, PACKAGE) for name in SCRIPTS],
    )
    return str(page)


def barred(rows: Sequence[Any], mean: str, low: str, high: str) -> list[Barred]:
    """Return rows with bars of one scale.

    Args:
        rows: The rows.
        mean: Name of the field that is drawn.
        low: Name of that of the lower end of its interval.
        high: Name of that of the upper end.
    """
    means = [getattr(row, mean) for row in rows]
    longest = max((abs(value) for value in means if value is not None), default=0.0) * ROOM
    return [
        Barred(
            row,
            None if value is None else bar(value, getattr(row, low), getattr(row, high), longest),
        )
        for row, value in zip(rows, means, strict=True)
    ]


def bar(mean: float, low: float | None, high: float | None, longest: float) -> Bar:
    """Return the bar of a mean; an interval is cut off at 0 and at `longest`."""
    sign = -1.0 if mean < 0 else 1.0
    low, high = sorted(sign * (mean if end is None else end) for end in (low, high))
    width, begin, end = (_percent(x, longest) for x in (abs(mean), low, high))
    return Bar(width, begin, end, against=mean < 0)


def _percent(x: float, longest: float) -> float:
    return round(100 * min(max(x / longest, 0.0), 1.0), 1) if longest else 0.0


def label_words(words: Sequence[WordEffect]) -> tuple[LabelWords, ...]:
    """Return the lists of each class, and those of all classes together last."""
    found = []
    labels = [label for label in dict.fromkeys(word.label for word in words) if label is not None]
    both = [*labels, None] if any(word.label is None for word in words) else labels
    for number, label in enumerate(both):
        of_label = [word for word in words if word.label == label]
        is_open = label is not None and number < OPEN_LABELS
        found.append(LabelWords(label, tuple(_lists(of_label)), is_open))
    return tuple(found)


def _lists(words: Sequence[WordEffect]) -> Iterable[WordList]:
    longest = ROOM * max(abs(word.effect) for word in words)
    for is_phrase, noun in ((False, "Words"), (True, "Phrases")):
        for is_for, direction in ((True, "for it"), (False, "against it")):
            chosen = [w for w in words if (w.length > 1) == is_phrase and w.is_for == is_for]
            rows = tuple(Barred(w, bar(w.effect, w.low, w.high, longest)) for w in chosen)
            if rows:
                yield WordList(f"{noun} {direction}", rows)


def _grouped(rows: Sequence[Any], name: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(getattr(row, name), []).append(row)
    return found


def _table(report: ReportData, rows: int, scale: int) -> Rows:
    with opened() as database:
        run = database.load(NOW, report.summary.folder, fold_case=report.options.fold_case)
        labels.judge(database, NOW, report.options)
        return table_rows(database, run, rows, scale)


def _digits(report: ReportData) -> int:
    """Return the decimals of effects: more where all are small, as shares and cosines are."""
    return 2 if any(abs(word.effect) >= 1 for word in report.words) else 3


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
