"""Words and phrases by their mean effect, and words whose effect differs between two runs.

Texts are the units: a word's effects in one text are averaged first, since they are not
independent. A phrase is 2 or 3 adjacent words, each with a letter or a digit.
"""

from attnflow.corpus.report.database import WORDLIKE, Database, Run
from attnflow.corpus.report.options import ReportOptions
from attnflow.corpus.report.sections import DISCOVERY, WordDrift, WordEffect

_PHRASES = f"""
CREATE TABLE phrase_effect AS
WITH wordlike AS (
    SELECT *, regexp_matches(word, '{WORDLIKE}') AS good FROM now.word
), neighbour AS (
    SELECT key, word, effect, share, good,
        lead(word, 1) OVER text AS word2, lead(effect, 1) OVER text AS effect2,
        lead(share, 1) OVER text AS share2, lead(good, 1) OVER text AS good2,
        lead(word, 2) OVER text AS word3, lead(effect, 2) OVER text AS effect3,
        lead(share, 2) OVER text AS share3, lead(good, 2) OVER text AS good3
    FROM wordlike WINDOW text AS (PARTITION BY key ORDER BY place)
), phrase AS (
    SELECT key, 1 AS length, word AS phrase, effect, share FROM neighbour WHERE word <> ''
    UNION ALL
    SELECT key, 2, word || ' ' || word2, effect + effect2, share + share2
    FROM neighbour WHERE good AND good2
    UNION ALL
    SELECT key, 3, word || ' ' || word2 || ' ' || word3, effect + effect2 + effect3,
        share + share2 + share3
    FROM neighbour WHERE good AND good2 AND good3
), in_text AS (
    SELECT key, length, phrase, avg(effect) AS effect, avg(share) AS share, count(*) AS times
    FROM phrase GROUP BY key, length, phrase
)
SELECT label, phrase, length, count(*) AS texts, sum(times)::BIGINT AS times,
    avg(effect) AS effect, half(count(*), stddev_samp(effect)) AS half, avg(share) AS share,
    chance(count(*), avg(effect), stddev_samp(effect)) AS p
FROM in_text JOIN now.result USING (key)
GROUP BY GROUPING SETS ((label, length, phrase), (length, phrase))
HAVING count(*) >= $least AND avg(effect) IS NOT NULL
"""

# Benjamini and Hochberg's q-values, of all words of a class together and of all its phrases. Means
# are rounded: threads add up in any order, and equal ones would change places between two reports.
_TOP = f"""
WITH one AS (SELECT count(DISTINCT label) = 1 AS is_one FROM now.result WHERE error IS NULL),
placed AS (
    SELECT *, p * count(*) OVER list / row_number() OVER (list ORDER BY p) AS scaled
    FROM phrase_effect, one WHERE effect <> 0 AND NOT (is_one AND label IS NULL)
    WINDOW list AS (PARTITION BY label, length > 1)
), corrected AS (
    SELECT *, CASE WHEN $is_signed THEN least(1, min(scaled) OVER (
        PARTITION BY label, length > 1 ORDER BY p RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
    )) END AS q
    FROM placed
), ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY label, length > 1, effect > 0
        ORDER BY coalesce(q > {DISCOVERY}, false), round(abs(effect), 9) DESC, phrase
    ) AS place
    FROM corrected
)
SELECT label, phrase, length, texts, times, effect, effect - half, effect + half, q, share
FROM ranked WHERE place <= $top
ORDER BY label NULLS FIRST, length > 1, effect < 0, place
"""

WORD_EFFECTS = """
SELECT label, word, count(*) AS texts, avg(effect) AS effect, var_samp(effect) AS variance
FROM (
    SELECT key, word, avg(effect) AS effect FROM {run}.word WHERE word <> '' GROUP BY key, word
) JOIN {run}.result USING (key)
GROUP BY label, word HAVING count(*) >= $least
"""

_DRIFT = f"""
WITH now AS ({WORD_EFFECTS.format(run="now")}), before AS ({WORD_EFFECTS.format(run="before")}),
change AS (
    SELECT label, word, b.texts AS texts_before, b.effect AS before, n.texts, n.effect AS now,
        n.effect - b.effect AS difference,
        welch(n.texts, n.variance, b.texts, b.variance) AS half
    FROM now n JOIN before b USING (label, word)
)
SELECT label, word, texts_before, before, texts, now, difference, difference - half,
    difference + half
FROM change QUALIFY row_number() OVER (
    PARTITION BY label ORDER BY abs(difference) <= half, abs(difference) DESC, word
) <= $top
ORDER BY label, abs(difference) <= half, abs(difference) DESC, word
"""


def word_effects(database: Database, run: Run, options: ReportOptions) -> tuple[WordEffect, ...]:
    """Return the words and phrases with the largest mean effects, for and against each label.

    Those that stand the correction for their number come first: of thousands of words, the rare
    ones have the largest means by chance.
    """
    database.run(_PHRASES, least=options.min_count)
    return database.rows(WordEffect, _TOP, top=options.top, is_signed=run.is_signed)


def word_drift(database: Database, options: ReportOptions) -> tuple[WordDrift, ...]:
    """Return the words whose mean effects changed the most, by label."""
    return database.rows(WordDrift, _DRIFT, least=options.min_count, top=options.top)
