"""Matches of a word list or a pattern, and slices of the texts against the others.

A match is a stretch of characters; words that overlap it are its words. Entries of a word list
match without regard to case, and not inside a longer word. A pattern is matched as RE2 does.
"""

from attnflow.corpus.report.database import NOW, Database, Run, column
from attnflow.corpus.report.options import ReportOptions
from attnflow.corpus.report.sections import SliceDifference, Suspect
from attnflow.corpus.schema import SOURCE_PREFIX
from attnflow.errors import InputError, shown

WORDS, PATTERN = "words", "pattern"
BUILT_IN = ("file",)  # columns of the results that can be compared by too
MOST_SLICES = 20  # those with the most texts
_LETTER = r"[\p{L}\p{N}_]"

# Splitting a text by what matches gives what is between the matches, and so where they are.
_SPANS = f"""
CREATE TABLE span AS
WITH listed AS (
    SELECT key, lower(text) AS text, entry, string_split(lower(text), entry) AS between
    FROM {NOW}.result, (SELECT unnest($words::VARCHAR[]) AS entry)
    WHERE error IS NULL AND contains(lower(text), entry)
), cut AS (
    SELECT key, 'words' AS rule, text, between, [entry for x in between[2:]] AS found FROM listed
    UNION ALL
    SELECT key, 'pattern', text, string_split_regex(text, $pattern),
        regexp_extract_all(text, $pattern)
    FROM {NOW}.result WHERE error IS NULL AND regexp_matches(text, $pattern::VARCHAR)
), part AS (
    SELECT key, rule, text, unnest(list_zip(found, between, range(len(found)))) AS each,
        [length(x) for x in found] AS widths,
        [length(x) for x in between] AS gaps
    FROM cut
), place AS (
    SELECT key, rule, text, each[1] AS match,
        coalesce(list_sum(gaps[:each[3] + 1]), 0) + coalesce(list_sum(widths[:each[3]]), 0) AS first
    FROM part WHERE each[1] IS NOT NULL AND each[1] <> ''
)
SELECT key, rule, lower(match) AS match, first::BIGINT AS first,
    (first + length(match))::BIGINT AS last
FROM place
WHERE substring(text, first::BIGINT + 1, length(match)) = match AND (rule = 'pattern' OR NOT (
    (regexp_matches(match, '^{_LETTER}')
        AND regexp_matches(CASE WHEN first > 0 THEN substring(text, first::BIGINT, 1) ELSE '' END,
            '{_LETTER}'))
    OR (regexp_matches(match, '{_LETTER}$')
        AND regexp_matches(substring(text, first::BIGINT + length(match) + 1, 1), '{_LETTER}'))
))
"""

_MATCHES = f"""
CREATE TABLE match AS
WITH hit AS (
    SELECT DISTINCT key, rule, match, place, effect, share
    FROM span JOIN {NOW}.word USING (key)
    WHERE word.first < span.last AND word.last > span.first
), count AS (SELECT key, rule, match, count(*) AS times FROM span GROUP BY ALL)
SELECT key, rule, match, sum(effect) AS effect, sum(share) AS share, any_value(times) AS times
FROM hit JOIN count USING (key, rule, match) GROUP BY key, rule, match
UNION ALL
SELECT key, rule, NULL, sum(effect), sum(share), any_value(times)
FROM (SELECT DISTINCT key, rule, place, effect, share FROM hit)
JOIN (SELECT key, rule, sum(times)::BIGINT AS times FROM count GROUP BY ALL) USING (key, rule)
GROUP BY key, rule
"""

_SLICES = """
CREATE TABLE slice AS
SELECT key, {value} AS slice FROM now.result WHERE error IS NULL
"""

_SUSPECTS = """
WITH part AS (
    SELECT slice, label, count(*) AS texts FROM now.result JOIN slice USING (key)
    GROUP BY GROUPING SETS ((), (label), (slice), (slice, label))
), frequent AS (
    SELECT slice FROM part WHERE label IS NULL AND slice IS NOT NULL
    ORDER BY texts DESC, slice LIMIT $slices
), matched AS (
    SELECT rule, match, slice, label, count(*) AS matched, sum(times)::BIGINT AS times,
        avg(share) AS share, half(count(*), stddev_samp(share)) AS share_half,
        avg(effect) AS effect, half(count(*), stddev_samp(effect)) AS half
    FROM match JOIN now.result USING (key) JOIN slice USING (key)
    GROUP BY GROUPING SETS (
        (rule, match), (rule, match, label), (rule, match, slice), (rule, match, slice, label))
)
SELECT rule, match, m.slice, m.label, texts, matched, times, share, share - share_half,
    share + share_half, effect, effect - half, effect + half
FROM matched m JOIN part p
    ON m.slice IS NOT DISTINCT FROM p.slice AND m.label IS NOT DISTINCT FROM p.label
WHERE effect IS NOT NULL AND (m.slice IS NULL OR (match IS NULL AND m.slice IN (FROM frequent)))
    AND (match IS NULL OR matched >= $least)
QUALIFY match IS NULL OR row_number() OVER (
    PARTITION BY rule, match IS NULL, m.slice, m.label ORDER BY matched DESC, match) <= $top
ORDER BY rule, m.slice NULLS FIRST, m.label NULLS FIRST, match NULLS FIRST, matched DESC
"""

# Of slices the number, mean and variance of each measure; of the rest by those of the others.
_DIFFERENCES = """
WITH judged AS (
    SELECT key, r.confidence, r.predicted, correct FROM now.result r JOIN now.judged USING (key)
    WHERE error IS NULL
), class AS (
    SELECT predicted FROM judged WHERE predicted IS NOT NULL GROUP BY predicted
    ORDER BY count(*) DESC, predicted LIMIT $slices
), measure AS (
    SELECT key, 'confidence' AS measure, confidence AS value FROM judged
    UNION ALL SELECT key, 'correct', correct::INT FROM judged
    UNION ALL SELECT key, 'predicts ' || c.predicted, (j.predicted = c.predicted)::INT
        FROM judged j, class c
    UNION ALL SELECT j.key, 'share of ' || rule, coalesce(share, 0)
        FROM judged j CROSS JOIN (SELECT DISTINCT rule FROM match)
        LEFT JOIN (FROM match WHERE match IS NULL) m USING (key, rule)
    UNION ALL SELECT j.key, 'effect of ' || rule, coalesce(effect, 0)
        FROM judged j CROSS JOIN (SELECT DISTINCT rule FROM match)
        LEFT JOIN (FROM match WHERE match IS NULL) m USING (key, rule)
), dimension AS (
    SELECT key, 'column' AS kind, $by AS dimension, slice FROM slice WHERE $by IS NOT NULL
    UNION ALL
    SELECT key, 'rule', rule, CASE WHEN m.key IS NULL THEN 'no match' ELSE 'match' END
    FROM judged CROSS JOIN (SELECT DISTINCT rule FROM match)
    LEFT JOIN (SELECT DISTINCT key, rule FROM match) m USING (key, rule)
), moment AS (
    SELECT kind, dimension, slice, measure, count(value) AS n, avg(value) AS mean,
        var_pop(value) AS variance
    FROM dimension JOIN measure USING (key)
    WHERE NOT (kind = 'rule' AND ends_with(measure, ' of ' || dimension))
    GROUP BY ALL HAVING count(value) > 0
), rest AS (
    SELECT a.dimension, a.slice, a.measure, any_value(a.n) AS n, any_value(a.mean) AS mean,
        any_value(a.variance) * any_value(a.n) / nullif(any_value(a.n) - 1, 0) AS variance,
        sum(b.n) AS rest_n, sum(b.n * b.mean) / sum(b.n) AS rest,
        (sum(b.n * (b.variance + b.mean ** 2)) - sum(b.n * b.mean) ** 2 / sum(b.n))
            / nullif(sum(b.n) - 1, 0) AS rest_variance
    FROM moment a JOIN moment b
        ON a.kind = b.kind AND a.dimension = b.dimension AND a.measure = b.measure
        AND a.slice <> b.slice
    WHERE a.slice IN (
        SELECT slice FROM dimension d WHERE d.kind = a.kind AND d.dimension = a.dimension
        GROUP BY slice ORDER BY count(*) DESC, slice LIMIT $slices)
        AND NOT (a.kind = 'rule' AND a.slice = 'no match')
    GROUP BY a.kind, a.dimension, a.slice, a.measure
), compared AS (
    SELECT *, mean - rest AS difference,
        welch(n, variance, rest_n, greatest(rest_variance, 0)) AS half
    FROM rest
)
SELECT dimension, slice, measure, n, mean, rest_n::BIGINT, rest, difference, difference - half,
    difference + half
FROM compared ORDER BY dimension, measure, n DESC, slice
"""


def suspects(
    database: Database, run: Run, options: ReportOptions
) -> tuple[tuple[Suspect, ...], tuple[SliceDifference, ...]]:
    """Return the matches, and the differences of slices.

    Raises:
        InputError: The pattern is invalid or matches the empty text, or there is no such column.
        StorageError: DuckDB refuses.
    """
    check_pattern(database, options.pattern)
    value = "'all'" if options.by is None else f"coalesce({_column_of(run, options.by)}, '(none)')"
    database.run(_SLICES.format(value=value))
    words = [word.lower() for word in options.words]
    database.run(_SPANS, words=words, pattern=options.pattern)
    database.run(_MATCHES)
    found = database.rows(
        Suspect, _SUSPECTS, slices=MOST_SLICES, least=options.min_count, top=options.top
    )
    if options.by is None:
        found = tuple(each for each in found if each.slice is None)
    compared = database.rows(SliceDifference, _DIFFERENCES, slices=MOST_SLICES, by=options.by)
    return found, compared


def check_pattern(database: Database, pattern: str | None) -> None:
    """Check a regular expression.

    Raises:
        InputError: It is not one of RE2, or matches the empty text.
    """
    if pattern is None:
        return
    import duckdb

    try:
        found = database.connection.execute("SELECT regexp_matches('', $1)", [pattern]).fetchone()
    except duckdb.Error as error:
        reason = str(error).partition(":")[2].strip().splitlines()[0]
        raise InputError(
            f"pattern (--regex) must be a regular expression of RE2, got {shown(pattern)}: "
            f"{reason}."
        ) from error
    if found[0]:
        raise InputError(
            f"pattern (--regex) {shown(pattern)} matches the empty text, and so everywhere: say "
            "what must be there."
        )


def _column_of(run: Run, by: str) -> str:
    name = by.removeprefix(SOURCE_PREFIX)
    if name in run.sources:
        return column(f"{SOURCE_PREFIX}{name}")
    if by in BUILT_IN:
        return column(by)
    raise InputError(
        f"by (--by) must be a column that the run kept of its source: "
        f"{', '.join((*run.sources, *BUILT_IN))}; got {shown(by)}. Others are kept by "
        "keep_columns=, --keep."
    )
