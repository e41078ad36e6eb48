"""A run in numbers: its texts at the ends, its segments, and what failed in it."""

from typing import Any

from attnflow.corpus.report.database import Database, Run
from attnflow.corpus.report.options import ReportOptions
from attnflow.corpus.report.sections import (
    CONTRIBUTION,
    SHARE,
    Certificates,
    ExtremeText,
    Failure,
    LabelCount,
    SegmentShare,
    Summary,
)

SHORTEST = 5  # words of a text that is compared by concentration: one word has all of itself

_SUMMARY = """
SELECT count(*), count(*) FILTER (error IS NULL), count(*) FILTER (error IS NOT NULL),
    coalesce(string_agg(DISTINCT model, ', ' ORDER BY model), ''),
    coalesce(string_agg(DISTINCT tensor, ', ' ORDER BY tensor), ''),
    coalesce(string_agg(DISTINCT versions, '; ' ORDER BY versions), ''),
    (SELECT count(*) FROM {run}.word), avg(confidence),
    count(*) FILTER (truncated > 0), count(*) FILTER (len(warnings) > 0)
FROM {run}.result
"""

_LABELS = """
SELECT label, count(*) AS texts,
    (SELECT count(*) FROM now.result p WHERE p.predicted = r.label), avg(confidence)
FROM now.result r WHERE error IS NULL GROUP BY label ORDER BY texts DESC, label LIMIT $top
"""

# Texts are ranked by their numbers alone, and what they say is looked up of the few that are named.
_TEXTS = f"""
WITH size AS (SELECT key, count(*) AS words FROM now.word GROUP BY key),
measured AS (
    SELECT key, id, confidence, size.words, 1 / (size.words * concentration) AS evenness, correct
    FROM now.result r JOIN now.judged USING (key) JOIN size USING (key)
), ranked AS (
    SELECT 'most certain' AS kind, *, row_number() OVER (ORDER BY confidence DESC, id) AS rank
    FROM measured WHERE confidence IS NOT NULL
    UNION ALL
    SELECT 'least certain', *, row_number() OVER (ORDER BY confidence, id)
    FROM measured WHERE confidence IS NOT NULL
    UNION ALL
    SELECT 'most concentrated', *, row_number() OVER (ORDER BY evenness, id)
    FROM measured WHERE evenness IS NOT NULL AND words >= {SHORTEST}
    UNION ALL
    SELECT 'most spread', *, row_number() OVER (ORDER BY evenness DESC, id)
    FROM measured WHERE evenness IS NOT NULL AND words >= {SHORTEST}
    UNION ALL
    SELECT 'most certain and wrong', *, row_number() OVER (ORDER BY confidence DESC, id)
    FROM measured WHERE NOT correct
)
SELECT kind, rank, r.id, text, r.label, r.predicted, j.true_label, r.confidence, ranked.words,
    evenness
FROM ranked JOIN now.result r USING (key) JOIN now.judged j USING (key)
WHERE rank <= $top ORDER BY kind, rank
"""

_SEGMENTS = """
WITH segment AS (
    SELECT key, unnest(segments, recursive := true) FROM now.result WHERE error IS NULL
), named AS (
    SELECT key, name, sum(share) AS share, sum(contribution) AS effect FROM segment
    GROUP BY key, name
), placed AS (
    SELECT *, rank() OVER (PARTITION BY key ORDER BY share DESC) AS place FROM named
)
SELECT name, count(*) AS texts, avg(share), avg(share) - half(count(*), stddev_samp(share)),
    avg(share) + half(count(*), stddev_samp(share)), avg(effect),
    avg(effect) - half(count(effect), stddev_samp(effect)),
    avg(effect) + half(count(effect), stddev_samp(effect)), count(*) FILTER (place = 1)
FROM placed GROUP BY name ORDER BY texts DESC, avg(share) DESC, name LIMIT $top
"""

_FAILURES = """
SELECT coalesce(error_kind, 'unknown') AS kind, count(*) AS rows, arg_min(id, key),
    arg_min(error, key)
FROM now.result WHERE error IS NOT NULL GROUP BY kind ORDER BY rows DESC, kind
"""

_CERTIFICATES = """
SELECT count(*) FILTER (certificate.status IN ('solved', 'empty')),
    count(*) FILTER (certificate.status NOT IN ('solved', 'empty')),
    max(certificate.gap) FILTER (isfinite(certificate.gap)),
    avg(certificate.gap) FILTER (isfinite(certificate.gap))
FROM now.result WHERE error IS NULL
"""


def summary(database: Database, run: Run) -> Summary:
    """Return a run in one row."""
    rows, explained, failed, models, tensors, versions, *rest = database.one(
        _SUMMARY.format(run=run.name)
    )
    words, confidence, truncated, warned = rest
    unit = CONTRIBUTION if run.is_signed else SHARE
    return Summary(
        run.folder, rows, explained, failed, models, tensors, versions, unit, words, confidence,
        truncated, warned,
    )  # fmt: skip


def label_counts(database: Database, options: ReportOptions) -> tuple[LabelCount, ...]:
    """Return the explained classes with the most texts."""
    return database.rows(LabelCount, _LABELS, top=options.top)


def extreme_texts(database: Database, options: ReportOptions) -> tuple[ExtremeText, ...]:
    """Return the texts at each end of certainty and concentration."""
    return database.rows(ExtremeText, _TEXTS, top=options.top)


def segment_shares(database: Database, options: ReportOptions) -> tuple[SegmentShare, ...]:
    """Return the segments by name, those that the most texts have."""
    return database.rows(SegmentShare, _SEGMENTS, top=options.top)


def failures(database: Database) -> tuple[Failure, ...]:
    """Return the kinds of errors with an example of each."""
    return database.rows(Failure, _FAILURES)


def certificates(database: Database, run: Run) -> Certificates:
    """Return the proofs of all flows together."""
    certified, uncertified, worst, mean = database.one(_CERTIFICATES)
    return Certificates(certified, uncertified, worst, mean, _asked(run.manifest))


def _asked(manifest: Any) -> float | None:
    options = manifest["fingerprint"].get("options")
    gap = options.get("gap") if isinstance(options, dict) else None
    return float(gap) if isinstance(gap, int | float) else None
