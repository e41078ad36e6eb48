"""Coarsening: tokens merged into segments before the flow, for texts that have too many pairs.

A segment is a run of neighbouring tokens: so many of them, a word, or a sentence. Special tokens
stay single, and so does the token that a decision is read at. No segment reaches from one stack of
an encoder-decoder to the other. capture/merging.py and docs/method.md say what merging means. Here
it is decided what is merged, and what a result then has instead of tokens.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attnflow.capture import Segments
from attnflow.capture.input_names import MASK_OF_IDS
from attnflow.inputs import batching
from attnflow.inputs.example import Example
from attnflow.inputs.offsets import Span
from attnflow.inputs.text import EncodedText

_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s)|[。！？]|\n")


@dataclass(frozen=True, eq=False)
class Coarsened:
    """An example with its segments.

    Attributes:
        example: The example.
        segments: Half-open spans of tokens, in order; None where no tokens are merged.
    """

    example: Any
    segments: tuple[Span, ...] | None = None

    @property
    def nodes(self) -> int:
        """Number of nodes in a layer of the flow: tokens, or segments."""
        return len(self.example.tokens) if self.segments is None else len(self.segments)

    def segment_of(self, token: int) -> int:
        """Index of the segment that has the token; of the token where none are merged."""
        if self.segments is None:
            return token
        return next(i for i, (start, end) in enumerate(self.segments) if start <= token < end)

    @property
    def displayed(self) -> Example:
        """The example with its segments instead of its tokens; `inputs` are still of tokens."""
        if self.segments is None:
            return self.example
        text: EncodedText = self.example
        offsets = tuple(_characters(text, span) for span in self.segments)
        special = tuple(text.special[start] for start, _ in self.segments)
        pairs = zip(self.segments, offsets, strict=True)
        messages = (text.message_ids[start] for start, _ in self.segments)
        return replace(
            text,
            tokens=tuple(_name(text, span, characters) for span, characters in pairs),
            offsets=offsets,
            special=special,
            # A segment is shown as one word, whatever words it cuts.
            word_ids=tuple(None if is_special else i for i, is_special in enumerate(special)),
            message_ids=tuple(messages) if text.message_ids else (),
            # Tokens of images are never merged.
            regions=tuple(text.regions[start] for start, _ in self.segments)
            if text.regions
            else (),
        )


def merge(text: EncodedText, coarsen: int | str, single: Collection[int] = ()) -> Coarsened:
    """Merge the tokens of a text into segments.

    Args:
        text: A text.
        coarsen: Tokens in a segment (fewer where one ends early), "word" or "sentence".
        single: Tokens that stay single besides special ones and those of images.
    """
    t = len(text.tokens)
    # A segment never holds tokens of both texts of a pair, or of two messages of a chat.
    is_second = [0 < text.second <= start for start, _ in text.offsets]  # of a pair
    messages = text.message_ids or [None] * t
    units = list(zip(_units(text, coarsen), is_second, messages, strict=True))
    alone = {i for i in range(t) if text.special[i]} | set(single)
    alone |= {i for i, region in enumerate(text.regions) if region is not None}
    # Single tokens begin a segment and end it; the first of the second stack begins one too.
    begins = {text.sides[0], *alone, *(i + 1 for i in alone)}
    starts: list[int] = []
    for i in range(t):
        is_full = isinstance(coarsen, int) and bool(starts) and i - starts[-1] == coarsen
        if i == 0 or i in begins or is_full or units[i] != units[i - 1]:
            starts.append(i)
    return Coarsened(text, tuple(zip(starts, [*starts[1:], t], strict=True)))


def _units(text: EncodedText, coarsen: int | str) -> Sequence[int | None]:
    """Index of each token's word or sentence; the same for all where tokens are counted."""
    if coarsen == "word":
        return text.word_ids
    if coarsen != "sentence":
        return [0] * len(text.tokens)
    ends = [match.end() for match in _SENTENCE_END.finditer(text.text)]
    sentences: list[int] = []
    for start, end in text.offsets:
        number = sum(stop <= start for stop in ends)
        # A token without a place belongs to its left neighbour.
        sentences.append(number if end > start or not sentences else sentences[-1])
    return sentences


def batch_segments(examples: Sequence[Coarsened], inputs: Mapping[str, Tensor]) -> Segments | None:
    """Segments of a padded batch's nodes; those of padding come last in either stack."""
    if examples[0].segments is None:
        return None
    widths = [inputs[name].shape[1] for name in MASK_OF_IDS.values() if name in inputs]
    boundary = widths[0]
    rows = [
        _stack_segments(example, batching.places(example.example, inputs), boundary)
        for example in examples
    ]
    has_two = len(widths) > 1
    # One segment more on each side, for padding.
    counts = [max(len(row[side]) for row in rows) + 1 for side in range(2 if has_two else 1)]
    source = counts[0] if has_two else 0
    of_node = torch.full((len(examples), sum(widths)), sum(counts) - 1)
    of_node[:, :boundary] = counts[0] - 1
    for at, row in enumerate(rows):
        for side, segments in enumerate(row):
            for number, nodes in enumerate(segments):
                of_node[at, nodes] = number + source * side
    return Segments(of_node, sum(counts), source)


def _stack_segments(
    example: Coarsened, places: Sequence[int], boundary: int
) -> list[list[list[int]]]:
    """The nodes of every segment, for each of the two stacks."""
    stacks: list[list[list[int]]] = [[], []]
    for start, end in example.segments or ():
        nodes = [places[i] for i in range(start, end)]
        stacks[nodes[0] >= boundary].append(nodes)
    return stacks


def _characters(text: EncodedText, span: Span) -> Span:
    """Span from the first character of a segment to its last; (0, 0) where it has none."""
    placed = [(start, end) for start, end in text.offsets[slice(*span)] if end > start]
    if not placed:
        return (0, 0)
    return min(start for start, _ in placed), max(end for _, end in placed)


def _name(text: EncodedText, span: Span, characters: Span) -> str:
    if span[1] - span[0] == 1:
        return text.tokens[span[0]]
    spelt = text.text[slice(*characters)]
    return spelt or " ".join(text.tokens[slice(*span)])
