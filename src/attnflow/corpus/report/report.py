"""The report of a corpus run: what it rests on, as Python objects, tables and one page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from attnflow.checks import check_count, check_name
from attnflow.corpus.report import drift as drifts
from attnflow.corpus.report import labels as labelled
from attnflow.corpus.report import overview, page
from attnflow.corpus.report.data import ReportData
from attnflow.corpus.report.database import BEFORE, NOW, Database, Run, opened
from attnflow.corpus.report.options import ReportOptions, checked_labels, checked_words
from attnflow.corpus.report.sections import Summary
from attnflow.corpus.report.suspects import suspects
from attnflow.corpus.report.tables import (
    SECTIONS,
    Table,
    csv_bytes,
    parquet_bytes,
    table_of,
    write_tables,
)
from attnflow.corpus.report.terminal import lines
from attnflow.corpus.report.words import word_drift, word_effects
from attnflow.errors import needs
from attnflow.files import as_path, check_writable, write_whole

TABLE_ROWS = 100_000


@dataclass(frozen=True, repr=False)
class CorpusReport(ReportData):
    """A report that can write itself: as a page, as tables, as lines for a terminal."""

    def table(self, section: str) -> Table:
        """Return a section as columns of plain values.

        Args:
            section: Its name, that of the field.

        Raises:
            InputError: There is no such section.
        """
        check_name("section", section, SECTIONS)
        rows = getattr(self, section)
        listed = rows if isinstance(rows, tuple) else [] if rows is None else [rows]
        return table_of(section, listed)

    def to_dataframe(self, section: str) -> Any:
        """Return a section as a data frame of pandas.

        Raises:
            InputError: There is no such section.
            MissingExtraError: pandas is not installed.
        """
        with needs("data frames need pandas", "corpus"):
            import pandas
        return pandas.DataFrame(self.table(section))

    def to_csv(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write a CSV file for each section into a folder, and return their paths.

        Raises:
            StorageError: A file exists and `overwrite` is false, or the folder cannot be written.
        """
        return write_tables(folder, self._tables(), ".csv", csv_bytes, overwrite=overwrite)

    def to_parquet(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write a Parquet file for each section into a folder, and return their paths.

        Raises:
            StorageError: A file exists and `overwrite` is false, or the folder cannot be written.
        """
        return write_tables(folder, self._tables(), ".parquet", parquet_bytes, overwrite=overwrite)

    def to_html(self, file: str | Path, *, overwrite: bool = False, rows: int = TABLE_ROWS) -> Path:
        """Write the page, and return its path. The results are read again for its table.

        Args:
            file: The file.
            overwrite: Replace a file that is there.
            rows: Most rows of the table; of a larger run it has so many, drawn by their ids.

        Raises:
            InputError: `rows` is no count.
            StorageError: The file exists and `overwrite` is false, or cannot be written; or the
                results cannot be read.
        """
        check_count("rows", rows)
        path = as_path(file)
        check_writable(path, overwrite=overwrite)
        return write_whole(path, page.render(self, rows), overwrite=overwrite)

    def __str__(self) -> str:
        """Return the report in lines for a terminal."""
        return "\n".join(lines(self))

    def __repr__(self) -> str:
        """Return the run and its number of texts."""
        return f"CorpusReport({self.summary.folder!r}, {self.summary.explained} texts)"

    def _repr_html_(self) -> str:
        """Return what notebooks show: the lines of `str`."""
        return f"<pre>{escape(str(self))}</pre>"

    def _tables(self) -> dict[str, Table]:
        return {section: self.table(section) for section in SECTIONS}


def corpus_report(
    folder: str | Path,
    *,
    words: Sequence[str] | None = None,
    pattern: str | None = None,
    by: str | None = None,
    compare: str | Path | None = None,
    labels: Mapping[str, str] | None = None,
    min_count: int = 5,
    top: int = 50,
    fold_case: bool = True,
) -> CorpusReport:
    """Aggregate the results of a corpus run.

    Args:
        folder: The folder that `explain_corpus` wrote, or its address.
        words: Words or phrases that the model should not rest on; `read_words` reads a file.
        pattern: A regular expression (RE2) of such characters.
        by: A column that the run kept of its source, or "file": texts are compared by its values.
        compare: The folder of an earlier run, for what has changed since.
        labels: The model's names of the source's labels, where they differ: `{"1": "World"}`.
        min_count: Texts that a word must occur in, at least 2.
        top: Words of each list, for and against each class, and texts of each list.
        fold_case: Count *Good* and *good* as one word.

    Raises:
        InputError: An argument is invalid, or the folder is no run's.
        StorageError: The results cannot be read.
        MissingExtraError: A package is not installed (extra `corpus`).
    """
    options = ReportOptions(
        checked_words(words), pattern, by, None if compare is None else str(compare),
        checked_labels(labels), min_count, top, fold_case,
    )  # fmt: skip
    with opened() as database:
        return _report(database, str(folder), options)


def _report(database: Database, folder: str, options: ReportOptions) -> CorpusReport:
    run = database.load(NOW, folder, fold_case=options.fold_case)
    matching = labelled.judge(database, NOW, options)
    accuracy = labelled.accuracy(database, matching)
    found, slices = suspects(database, run, options)
    summary = overview.summary(database, run)
    return CorpusReport(
        summary=summary,
        labels=overview.label_counts(database, options),
        words=word_effects(database, run, options),
        texts=overview.extreme_texts(database, options),
        suspects=found,
        slices=slices,
        accuracy=accuracy if accuracy.labelled or accuracy.unmatched else None,
        confusion=labelled.confusion(database),
        mistakes=labelled.mistakes(database, options),
        segments=overview.segment_shares(database, options),
        failures=overview.failures(database),
        certificates=overview.certificates(database, run),
        options=options,
        **_compared(database, run, summary, options),
    )


def _compared(
    database: Database, run: Run, summary: Summary, options: ReportOptions
) -> dict[str, Any]:
    """Return the fields of two runs."""
    if options.compare is None:
        return {"drift": None, "label_drift": (), "flips": (), "word_drift": ()}
    before = database.load(BEFORE, options.compare, fold_case=options.fold_case)
    earlier = overview.summary(database, before)
    return {
        "drift": drifts.drift(database, earlier, summary),
        "label_drift": drifts.label_drift(database, options),
        "flips": drifts.flips(database, options),
        "word_drift": word_drift(database, options) if run.is_signed == before.is_signed else (),
    }
