"""Attributions: what each token of one continuation rests on, in the order of the text.

A list of `Attribution`s about one text that also shows itself as a whole: in a terminal, in a
notebook, as a page, and as the matrix of who rests on whom.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnflow.attribution.attribution import Attribution, save
from attnflow.errors import InputError


class Attributions(list[Attribution]):
    """The attributions of a continuation, one for each of its tokens, at least one.

    A slice of it is a plain list.
    """

    def __init__(self, found: Iterable[Attribution]) -> None:
        """Take attributions that are each about the next token at one position of the same text.

        Raises:
            InputError: There are none, or they are about something else.
        """
        super().__init__(found)
        if not self:
            raise InputError("a continuation has at least one attribution, got none.")
        if any(a.position is None or a.tokens != self[0].tokens for a in self):
            raise InputError("these attributions are not those of one continuation of one text.")

    @property
    def explained(self) -> tuple[int, ...]:
        """Index in `tokens` of each token that is explained."""
        return tuple(a.position + 1 for a in self if a.position is not None)

    @property
    def begins(self) -> int:
        """Index in `tokens` where what was written begins, behind all that was given."""
        return min(self.explained)

    @property
    def written(self) -> str:
        """The continuation, as it stands in the text."""
        first = self[0]
        spans = [first.offsets[i] for i in self.explained if i < len(first)]
        placed = [span for span in spans if span[1] > span[0]]
        if not placed:
            return " ".join(a.label for a in self)
        return first.text[placed[0][0] : placed[-1][1]]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """`(len(self), t)` shares: how much of each explained token rests on each token.

        As in `Attribution.shares` special tokens are 0; a row sums to 1, or to 0 if it is empty.
        """
        return np.stack([a.shares for a in self])

    def __str__(self) -> str:
        from attnflow.attribution.views.terminal import render_all

        return render_all(self)

    def _repr_html_(self) -> str:
        from attnflow.attribution.views.continuation_section import fragment

        return fragment(self)

    def to_html(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write the page of this continuation: one file, no network. Returns its path.

        It pictures the flow of every token whose attribution has `edges`.
        """
        from attnflow.attribution.views.page import write

        return write([self], Path(file), overwrite=overwrite)

    def save(self, file: str | Path, *, overwrite: bool = False) -> Path:
        """Write all of them as one safetensors file, for `attnflow.load`."""
        return save(self, file, overwrite=overwrite)
