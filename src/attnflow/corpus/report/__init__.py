"""The report of a corpus run: DuckDB aggregates its shards, a page shows it.

Read first: `report.py`; the meaning of each number is in `sections.py`.
"""

from attnflow.corpus.report.options import read_words
from attnflow.corpus.report.report import CorpusReport, corpus_report

__all__ = ["CorpusReport", "corpus_report", "read_words"]
