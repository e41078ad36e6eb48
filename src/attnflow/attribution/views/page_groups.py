"""The entries of a page's list: a text with one decision or several, a continuation, a comparison.

Attributions of one text that differ in what they explain are one entry. Its classes, next tokens or
answers then switch between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnflow.attribution.data import AttributionData, ContinuationData
from attnflow.attribution.views.captions import beginning, certainty, input_name
from attnflow.attribution.views.decision_section import Choice
from attnflow.attribution.views.sanitize import as_name
from attnflow.errors import InputError

Explained = AttributionData | ContinuationData

MOST_COMPARED = 4
# In which results of one entry agree: they differ in their target alone.
SETTINGS = (
    "text",
    "tokens",
    "segments",
    "model_and_precision",
    "tensor",
    "stages",
    "pattern",
    "readout",
    "attention_sink",
    "position",
    "task",
    "against",
    "span",
)


@dataclass(frozen=True)
class Group:
    """The decisions about one text or image, a continuation, or decisions that are compared.

    Attributes:
        decisions: The decisions, at least one, in the order of their articles.
        number: The group's number on the page, from 0.
        first: Number of its first article.
        continuation: The continuation that the decisions are of, or None.
        compared: True where the decisions stand side by side.
    """

    decisions: Sequence[AttributionData]
    number: int
    first: int
    continuation: ContinuationData | None = None
    compared: bool = False

    @property
    def choices(self) -> list[Choice]:
        """The decisions to switch between: none where there is one, or where they are compared."""
        if self.continuation is not None or self.compared or len(self.decisions) == 1:
            return []
        return [
            Choice(decision.label, certainty(decision), self.first + i)
            for i, decision in enumerate(self.decisions)
        ]

    @property
    def title(self) -> str:
        """A line about the group for the browser's tab."""
        first = self.decisions[0]
        if self.compared:
            return f"{len(self.decisions)} explanations of {beginning(input_name(first), 60)}"
        if self.continuation is not None:
            return f"{beginning(self.continuation.written, 30)}: {beginning(first.text, 60)}"
        return f"{as_name(first.label)}: {beginning(input_name(first), 60)}"


def grouped(explained: Sequence[Explained], *, compare: bool = False) -> list[Group]:
    """Return the groups of a page in order.

    Args:
        explained: Attributions and continuations.
        compare: True for one group of all of them, side by side.

    Raises:
        InputError: There are none, or they cannot be compared: continuations, only one, or more
            than four.
    """
    if not explained:
        raise InputError("A page needs at least one attribution, got none.")
    if compare:
        return [_compared(explained)]
    groups: list[Group] = []
    first = 0
    for content in explained:
        number = len(groups)
        if isinstance(content, ContinuationData):
            groups.append(Group(list(content), number, first, content))
            first += len(content)
            continue
        first += 1
        last = groups[-1] if groups else None
        if last is not None and last.continuation is None and _is_choice(content, last.decisions):
            groups[-1] = Group([*last.decisions, content], last.number, last.first)
        else:
            groups.append(Group([content], number, first - 1))
    return groups


def _compared(explained: Sequence[Explained]) -> Group:
    decisions = [item for item in explained if isinstance(item, AttributionData)]
    if len(decisions) < len(explained):
        raise InputError(
            "a continuation cannot be compared as a whole: compare single tokens of it, which are "
            "its items."
        )
    if len({decision.grid is None for decision in decisions}) > 1:
        raise InputError("a text and an image cannot be compared: give results of one kind.")
    if not 2 <= len(decisions) <= MOST_COMPARED:
        raise InputError(
            f"a comparison is of 2 to {MOST_COMPARED} attributions, got {len(decisions)}."
        )
    return Group(decisions, 0, 0, compared=True)


def _is_choice(attribution: AttributionData, others: Sequence[AttributionData]) -> bool:
    """Return whether an attribution differs from the others in its target alone."""
    other = others[0]
    if any(getattr(attribution, name) != getattr(other, name) for name in SETTINGS):
        return False
    if attribution.span is not None or attribution.label in {a.label for a in others}:
        return False
    one, two = attribution.image, other.image
    return one is two or (one is not None and two is not None and np.array_equal(one, two))
