"""Labels of the source matched to the model's: table `{run}.judged`, and accuracy with mistakes.

A source may have names, or indices of the model's classes. Names are compared without regard to
case. Where no label of the source is a name and all are integers, they are indices: their names are
told by the column `target`, which has the index of `label`. Numbers that lack 0 and go beyond the
indices that were seen are another numbering, and are not matched.
"""

import math

from attnflow.corpus.report.database import NOW, Database
from attnflow.corpus.report.options import ReportOptions
from attnflow.corpus.report.sections import Accuracy, Confusion, Mistake
from attnflow.errors import InputError, shown

Z = 1.959963984540054  # of a normal interval of 95 %
BY_NAME, BY_INDEX, GIVEN, NONE = "name", "index", "given", "none"
MOST_LABELS = 100_000  # different ones; a source with more has no labels but texts

_NAMES = """
SELECT DISTINCT name FROM (
    SELECT label AS name FROM {run}.result UNION ALL SELECT predicted FROM {run}.result
) WHERE name IS NOT NULL
"""

_JUDGED = """
CREATE TABLE {run}.judged AS
SELECT r.key, r.label, r.predicted, r.true_label AS written,
    coalesce(n.name, r.true_label) AS true_label,
    CASE WHEN n.name IS NOT NULL AND r.predicted IS NOT NULL AND r.error IS NULL
        THEN r.predicted = n.name END AS correct
FROM {run}.result r LEFT JOIN {run}.label_name n ON r.true_label = n.written
"""

_ACCURACY = f"""
SELECT count(correct), count(*) FILTER (correct),
    count(correct) FILTER (true_label NOT IN (SELECT predicted FROM {NOW}.judged
        WHERE predicted IS NOT NULL)),
    count(*) FILTER (j.written IS NOT NULL AND correct IS NULL AND predicted IS NOT NULL
        AND n.written IS NULL),
    min(j.written) FILTER (predicted IS NOT NULL AND n.written IS NULL)
FROM {NOW}.judged j LEFT JOIN {NOW}.label_name n USING (written)
"""

_CONFUSION = f"""
SELECT true_label, predicted, count(*) FROM {NOW}.judged WHERE correct IS NOT NULL
GROUP BY ALL ORDER BY true_label, predicted
"""

_MISTAKES = f"""
WITH in_text AS (
    SELECT key, word, avg(effect) AS effect FROM {NOW}.word WHERE word <> '' GROUP BY key, word
), side AS (
    SELECT predicted, word,
        count(*) FILTER (NOT correct) AS wrong_texts, avg(effect) FILTER (NOT correct) AS wrong,
        var_samp(effect) FILTER (NOT correct) AS wrong_variance,
        count(*) FILTER (correct) AS right_texts, avg(effect) FILTER (correct) AS "right",
        var_samp(effect) FILTER (correct) AS right_variance
    FROM in_text JOIN {NOW}.judged USING (key)
    WHERE correct IS NOT NULL AND predicted = label
    GROUP BY predicted, word
)
SELECT predicted, word, wrong_texts, wrong, wrong - half(wrong_texts, sqrt(wrong_variance)),
    wrong + half(wrong_texts, sqrt(wrong_variance)), right_texts, "right", wrong - "right",
    wrong - "right" - welch(wrong_texts, wrong_variance, right_texts, right_variance),
    wrong - "right" + welch(wrong_texts, wrong_variance, right_texts, right_variance)
FROM side WHERE wrong_texts >= $least AND wrong > 0
QUALIFY row_number() OVER (PARTITION BY predicted ORDER BY
    wrong <= half(wrong_texts, sqrt(wrong_variance)), wrong DESC, word) <= $top
ORDER BY predicted, wrong <= half(wrong_texts, sqrt(wrong_variance)), wrong DESC, word
"""


def judge(database: Database, run: str, options: ReportOptions) -> str:
    """Make the table of judged texts, and return the way its labels were matched.

    Raises:
        InputError: `labels=` has none of the source's labels.
        StorageError: DuckDB refuses.
    """
    matching, names = _matched(database, run, options)
    database.run(f"CREATE TABLE {run}.label_name (written VARCHAR, name VARCHAR)")
    if names:
        database.run(
            f"INSERT INTO {run}.label_name SELECT unnest($written), unnest($names)",
            written=list(names),
            names=list(names.values()),
        )
    database.run(_JUDGED.format(run=run))
    return matching


def _matched(database: Database, run: str, options: ReportOptions) -> tuple[str, dict[str, str]]:
    """Return the way of matching, and the model's name of each label of the source."""
    found = database.run(
        f"SELECT DISTINCT true_label FROM {run}.result WHERE true_label IS NOT NULL "
        f"ORDER BY true_label LIMIT {MOST_LABELS}"
    ).fetchall()
    written = [label for (label,) in found]
    named = {
        name.strip().lower(): name for (name,) in database.run(_NAMES.format(run=run)).fetchall()
    }
    given = {label: options.labels[label] for label in written if label in options.labels}
    if options.labels and not given:
        raise InputError(
            f"labels has none of the source's labels: they are {shown(written, 200)}, got "
            f"{shown(list(options.labels), 200)}."
        )
    if given:
        # A class that the model never predicts here is no name that is known.
        return GIVEN, {
            label: named.get(name.strip().lower(), name) for label, name in given.items()
        }
    by_name = {
        label: named[label.strip().lower()] for label in written if label.strip().lower() in named
    }
    if by_name:
        return BY_NAME, by_name
    if not written or not all(label.strip().isdecimal() for label in written):
        return NONE, {}
    indices = dict(
        database.run(
            f"SELECT DISTINCT target, label FROM {run}.result WHERE target IS NOT NULL "
            f"UNION SELECT target, label FROM {run}.class"
        ).fetchall()
    )
    by_index = {label: indices.get(int(label)) for label in written}
    # Numbers from 1 on are no indices, as long as one of them is beyond what was seen.
    if None in by_index.values() and 0 not in map(int, written):
        return NONE, {}
    # An index whose name is not seen is of a class that no text is explained for.
    return BY_INDEX, {label: name or f"class {int(label)}" for label, name in by_index.items()}


def accuracy(database: Database, matching: str) -> Accuracy:
    """Return how many predictions are right."""
    labelled, correct, unseen, unmatched, example = database.one(_ACCURACY)
    if not labelled:
        return Accuracy(matching, 0, 0, None, None, None, 0, unmatched, example)
    low, high = wilson(correct, labelled)
    part = correct / labelled
    return Accuracy(matching, labelled, correct, part, low, high, unseen, unmatched, example)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return Wilson's interval of 95 % of a part `hits / n`."""
    part, spread = hits / n, Z**2 / n
    middle = (part + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(part * (1 - part) / n + spread / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def confusion(database: Database) -> tuple[Confusion, ...]:
    """Return the number of texts by label and prediction."""
    return database.rows(Confusion, _CONFUSION)


def mistakes(database: Database, options: ReportOptions) -> tuple[Mistake, ...]:
    """Return the words with the largest mean effects in wrong predictions, by prediction.

    Those whose interval there has no 0 come first.
    Mistakes are few: a word must occur in half of `min_count` of them, and in two at least.
    """
    least = max(2, options.min_count // 2)
    return database.rows(Mistake, _MISTAKES, least=least, top=options.top)
