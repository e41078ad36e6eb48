"""A continuation as a whole on the page: its text, whose written tokens can be chosen, and matrix.

An article about every token follows on the page (`decision_section`). Without scripts the text is
plain, and matrix and articles hold all the numbers.
"""

from typing import TYPE_CHECKING

from attnflow.attribution.data import ContinuationData
from attnflow.attribution.views.captions import beginning
from attnflow.attribution.views.continuation_matrix import matrix
from attnflow.attribution.views.decision_section import text_size
from attnflow.attribution.views.sanitize import as_name
from attnflow.attribution.views.templates import render
from attnflow.attribution.views.text_heatmap import explained_stretches

if TYPE_CHECKING:
    from markupsafe import Markup


def section(continuation: ContinuationData, group: int, first: int) -> "Markup":
    """Return the part of the page above a continuation's articles.

    Args:
        continuation: The tokens that are explained.
        group: Its number among all that the page explains.
        first: Number of its first token's article.
    """
    articles = {token: first + row for row, token in enumerate(continuation.explained)}
    return render(
        "continuation.html",
        group=group,
        title=beginning(as_name(continuation.written), 120),
        size=text_size(continuation[0]),
        stretches=explained_stretches(continuation[0], articles),
        matrix=matrix(continuation, first),
    )
