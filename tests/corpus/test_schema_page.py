"""The page about corpora states the columns that there are."""

import re
from pathlib import Path

from attnflow.corpus.schema import COLUMNS

PAGE = Path(__file__).parents[2] / "docs" / "corpus.md"


def test_table_of_columns_is_the_schema():
    rows = re.findall(r"^\| `(\w+)` \| [\w ]+ \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert rows == [(name, about) for name, _, about in COLUMNS]
