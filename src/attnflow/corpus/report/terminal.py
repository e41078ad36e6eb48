"""The report in lines for a terminal: what it is, and the first rows of each section."""

from collections.abc import Iterator, Sequence

from attnflow.attribution.views.sanitize import for_terminal
from attnflow.attribution.views.wording import format_bound, format_percent
from attnflow.corpus.report.data import ReportData
from attnflow.corpus.report.sections import WordEffect

FIRST = 8  # words of a line
LABELS = 8  # classes that have lines


def lines(report: ReportData) -> Iterator[str]:
    """Yield the lines of a report."""
    s = report.summary
    failed = f", {s.failed} failed" if s.failed else ""
    model = s.models or "no model"
    yield _clean(f"{s.folder}: {s.explained} texts explained{failed}, {s.words} words, {model}")
    yield from _certificates(report)
    yield from _accuracy(report)
    yield from _words(report)
    yield from _suspects(report)
    yield from _mistakes(report)
    yield from _drift(report)
    for segment in report.segments[:FIRST]:
        yield _clean(
            f"segment {segment.name}: mean share {format_percent(segment.share)} in "
            f"{segment.texts} texts"
        )
    for failure in report.failures:
        error = _clean(failure.error)
        yield f"{failure.kind}: {failure.rows} rows, such as {_clean(failure.id)}: {error}"


def _certificates(report: ReportData) -> Iterator[str]:
    c = report.certificates
    if c.worst_gap is None:
        return
    proved = "all flows certified" if not c.uncertified else f"{c.uncertified} flows uncertified"
    yield f"{proved}, at most {format_bound(c.worst_gap)} below the maximum"


def _accuracy(report: ReportData) -> Iterator[str]:
    a = report.accuracy
    if a is None:
        return
    if a.accuracy is not None and a.low is not None and a.high is not None:
        yield (
            f"accuracy {format_percent(a.accuracy)} ({format_percent(a.low)} to "
            f"{format_percent(a.high)}), labels matched by {a.matching}"
        )
    if a.unseen:
        yield f"{a.unseen} labels are of classes that are predicted for no text"
    if a.unmatched:
        yield _clean(f"{a.unmatched} labels are none of the model's, such as {a.example!r}")


def _words(report: ReportData) -> Iterator[str]:
    labels = list(dict.fromkeys(word.label for word in report.words if word.label is not None))
    for label in labels[:LABELS]:
        of_label = [w for w in report.words if w.label == label and w.length == 1]
        words = [w for w in of_label if not w.is_faint]
        yield from _named(f"{label} rests on", [w for w in words if w.is_for])
        yield from _named("  against it", [w for w in words if not w.is_for])


def _named(name: str, words: Sequence[WordEffect]) -> Iterator[str]:
    if words:
        listed = ", ".join(f"{w.phrase} {w.effect:+.2f} ({w.texts})" for w in words[:FIRST])
        yield _clean(f"{name}: {listed}")


def _suspects(report: ReportData) -> Iterator[str]:
    for each in report.suspects:
        if each.match is None and each.slice is None and each.label is None:
            yield (
                f"{each.rule}: in {each.matched} of {each.texts} texts, mean share there "
                f"{format_percent(each.share or 0)}, mean effect {each.effect:+.2f}"
            )


def _mistakes(report: ReportData) -> Iterator[str]:
    for label in list(dict.fromkeys(each.predicted for each in report.mistakes))[:LABELS]:
        found = [each for each in report.mistakes if each.predicted == label][:FIRST]
        listed = ", ".join(f"{m.phrase} {m.wrong:+.2f} ({m.wrong_texts})" for m in found)
        yield _clean(f"wrongly {label}: {listed}")


def _drift(report: ReportData) -> Iterator[str]:
    if report.drift is None:
        return
    d = report.drift
    yield _clean(
        f"against {d.before} ({d.models_before}): {d.flipped} of {d.same} same texts are predicted "
        "otherwise"
    )
    for each in report.label_drift[:LABELS]:
        yield _clean(
            f"  {each.label}: {format_percent(each.before)} before, {format_percent(each.now)} now"
        )


def _clean(text: str) -> str:
    return for_terminal(text)
