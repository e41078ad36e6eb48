"""The page of a report."""

from attnflow.corpus.report.data import ReportData


def render(report: ReportData, rows: int) -> str:
    """Return the page."""
    raise NotImplementedError
