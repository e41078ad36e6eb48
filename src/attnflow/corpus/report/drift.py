"""Two runs: a new model on the same texts, or the same model on new ones."""

from attnflow.corpus.report.database import Database
from attnflow.corpus.report.options import ReportOptions
from attnflow.corpus.report.sections import Drift, Flip, LabelDrift, Summary

_SAME = """
SELECT count(*) FILTER (n.text = b.text), count(*) FILTER (n.text <> b.text),
    count(*) FILTER (n.text = b.text AND n.predicted <> b.predicted)
FROM now.result n JOIN before.result b USING (id)
WHERE n.error IS NULL AND b.error IS NULL
"""

_LABELS = """
WITH label AS (
    SELECT predicted AS label FROM now.result WHERE predicted IS NOT NULL
    UNION SELECT predicted FROM before.result WHERE predicted IS NOT NULL
), moment AS (
    SELECT label, run, count(*) AS n, avg((predicted = label)::INT) AS mean,
        var_samp((predicted = label)::INT) AS variance
    FROM label, (
        SELECT predicted, 'now' AS run FROM now.result WHERE predicted IS NOT NULL
        UNION ALL SELECT predicted, 'before' FROM before.result WHERE predicted IS NOT NULL
    ) GROUP BY label, run
), change AS (
    SELECT label, b.mean AS before, n.mean AS now, n.mean - b.mean AS difference,
        welch(n.n, n.variance, b.n, b.variance) AS half
    FROM (FROM moment WHERE run = 'now') n JOIN (FROM moment WHERE run = 'before') b USING (label)
)
SELECT label, before, now, difference, difference - half, difference + half
FROM change ORDER BY abs(difference) DESC, label LIMIT $top
"""

_FLIPS = """
SELECT n.id, n.text, b.predicted, n.predicted, b.confidence, n.confidence, j.true_label
FROM now.result n JOIN before.result b USING (id) JOIN now.judged j ON n.key = j.key
WHERE n.text = b.text AND n.predicted <> b.predicted
ORDER BY least(b.confidence, n.confidence) DESC, n.id LIMIT $top
"""


def drift(database: Database, before: Summary, now: Summary) -> Drift:
    """Return two runs in one row."""
    same, changed, flipped = database.one(_SAME)
    return Drift(
        before.folder, before.models, now.models, before.explained, now.explained, same, changed,
        flipped, before.unit,
    )  # fmt: skip


def label_drift(database: Database, options: ReportOptions) -> tuple[LabelDrift, ...]:
    """Return the parts of the predictions in both runs, those that changed the most first."""
    return database.rows(LabelDrift, _LABELS, top=options.top)


def flips(database: Database, options: ReportOptions) -> tuple[Flip, ...]:
    """Return texts whose prediction differs, first those that both runs are certain of."""
    return database.rows(Flip, _FLIPS, top=options.top)
