"""Coarsening: tokens merged into segments before the flow, for texts whose every pair is too many.

A segment is a run of neighbouring tokens: so many of them, a word, or a sentence. Special tokens
stay alone, and so does the token that a decision is read at; no segment reaches from one side of an
encoder-decoder to the other. What merging means is in capture/segments.py and docs/method.md; here
it is decided what is merged, and what a result then says of its tokens.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attnflow.capture import Segments
from attnflow.errors import InputError
from attnflow.explainer.attention_sink import first_token
from attnflow.explainer.targets.decision import Decision
from attnflow.inputs import batching
from attnflow.inputs.image import EncodedImage
from attnflow.inputs.text import EncodedText
from attnflow.models.tasks import Task

Coarsen = int | str | None
Span = tuple[int, int]
UNITS = ("word", "sentence")
SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s)|[。！？]|\n")


@dataclass(frozen=True)
class Coarsened:
    """A text with its segments, half-open spans of tokens in order; None where none are merged."""

    text: EncodedText
    segments: tuple[Span, ...] | None

    @property
    def nodes(self) -> int:
        return len(self.text.tokens) if self.segments is None else len(self.segments)

    def segment_of(self, token: int) -> int:
        """Index of the segment that a token is in; of the token where none are merged."""
        if self.segments is None:
            return token
        return next(i for i, (start, end) in enumerate(self.segments) if start <= token < end)

    def decided(self, decision: Decision) -> Decision:
        """The decision with its position among the segments; a span's tokens are all alone."""
        if decision.position is None:
            return decision
        return replace(decision, position=self.segment_of(decision.position))

    @property
    def shown(self) -> EncodedText:
        """The text with its segments in the place of its tokens; `inputs` are still of tokens."""
        whole = self.text
        if self.segments is None:
            return whole
        offsets = tuple(_characters(whole, span) for span in self.segments)
        special = tuple(whole.special[start] for start, _ in self.segments)
        both = zip(self.segments, offsets, strict=True)
        return replace(
            whole,
            tokens=tuple(_name(whole, span, characters) for span, characters in both),
            offsets=offsets,
            special=special,
            # A segment is shown as one word, whatever words it cuts.
            word_ids=tuple(None if alone else i for i, alone in enumerate(special)),
            message_ids=tuple(whole.message_ids[start] for start, _ in self.segments)
            if whole.message_ids
            else (),
        )


def check_coarsen(coarsen: Any) -> None:
    """`coarsen` is None, a number of tokens, or a unit.

    Raises:
        InputError: It is something else.
    """
    is_count = isinstance(coarsen, int) and not isinstance(coarsen, bool) and coarsen >= 1
    if not (coarsen is None or is_count or coarsen in UNITS):
        raise InputError(
            f"coarsen must be a number of tokens of at least 1, 'word' or 'sentence', got "
            f"{coarsen!r}."
        )


def check_merges(task: Task, coarsen: Coarsen) -> None:
    """Tokens are merged in texts alone.

    Raises:
        InputError: Those of an image are to be.
    """
    if coarsen is not None and task.reads == "image":
        raise InputError(
            "coarsen merges neighbouring tokens of a text, and an image's tokens are its patches, "
            "which have neighbours on all sides and are scored each by itself: leave coarsen out. "
            "Smaller images, where the model takes them, or a model of larger patches have fewer."
        )


def coarsened(text: EncodedText, coarsen: Coarsen, alone: Collection[int] = ()) -> Coarsened:
    """The text with its segments.

    Args:
        text: A text.
        coarsen: Tokens in a segment (fewer where one ends early), "word", "sentence", or None.
        alone: Tokens that stay alone beside the special ones.
    """
    if coarsen is None:
        return Coarsened(text, None)
    t = len(text.tokens)
    second = [0 < text.second <= start for start, _ in text.offsets]  # of a pair
    messages = text.message_ids or [None] * t
    units = list(zip(_units(text, coarsen), second, messages, strict=True))
    kept = {i for i in range(t) if text.special[i]} | set(alone)
    begins = {len(text.inputs["input_ids"]), *kept, *(i + 1 for i in kept)}
    starts: list[int] = []
    for i in range(t):
        full = isinstance(coarsen, int) and bool(starts) and i - starts[-1] == coarsen
        if i == 0 or i in begins or full or units[i] != units[i - 1]:
            starts.append(i)
    return Coarsened(text, tuple(zip(starts, [*starts[1:], t], strict=True)))


def _units(text: EncodedText, coarsen: int | str) -> Sequence[int | None]:
    """For each token the unit that it belongs to."""
    if coarsen == "word":
        return text.word_ids
    if coarsen != "sentence":
        return [0] * len(text.tokens)
    ends = [match.end() for match in SENTENCE_END.finditer(text.text)]
    found: list[int] = []
    for start, end in text.offsets:
        number = sum(stop <= start for stop in ends)
        # A token without a place belongs to its left neighbour.
        found.append(number if end > start or not found else found[-1])
    return found


def decided(example: Coarsened | EncodedImage, decision: Decision) -> Decision:
    """The decision with its position among a text's segments."""
    return decision if isinstance(example, EncodedImage) else example.decided(decision)


def all_coarsened(
    rows: Sequence[tuple[EncodedText | EncodedImage, Decision]], coarsen: Coarsen, task: Task
) -> list[Coarsened | EncodedImage]:
    """The text of each decision, the same object for the same text; images as they are.

    What its decisions read or explain stays alone, and the first token that a decoder reads.
    """
    images = [example for example, _ in rows if isinstance(example, EncodedImage)]
    texts = [(text, decision) for text, decision in rows if isinstance(text, EncodedText)]
    return [*images, *_texts_coarsened(texts, coarsen, task)]  # of one kind alone


def _texts_coarsened(
    rows: Sequence[tuple[EncodedText, Decision]], coarsen: Coarsen, task: Task
) -> list[Coarsened]:
    alone: dict[int, set[int]] = {}
    for text, decision in rows:
        own = alone.setdefault(id(text), {first_token(task, text)} if task.writes else set())
        if decision.position is not None:
            own.update(range(decision.position, decision.position + len(decision.tokens) + 1))
    of_text = {id(text): coarsened(text, coarsen, alone[id(text)]) for text, _ in rows}
    return [of_text[id(text)] for text, _ in rows]


def segments_of(texts: Sequence[Coarsened], inputs: Mapping[str, Tensor]) -> Segments | None:
    """The segments of a padded batch's nodes; those of padding come last on either side."""
    if texts[0].segments is None:
        return None
    widths = [inputs[name].shape[1] for name in batching.SIDES if name in inputs]
    boundary = widths[0]
    rows = [_numbered(text, batching.places(text.text, inputs), boundary) for text in texts]
    two = len(widths) > 1
    counts = [max(len(row[side]) for row in rows) + 1 for side in range(1 + two)]
    source = counts[0] if two else 0
    of_node = torch.full((len(texts), sum(widths)), sum(counts) - 1)
    of_node[:, :boundary] = counts[0] - 1
    for at, row in enumerate(rows):
        for side, found in enumerate(row):
            for number, nodes in enumerate(found):
                of_node[at, nodes] = number + source * side
    return Segments(of_node, sum(counts), source)


def _numbered(text: Coarsened, places: Sequence[int], boundary: int) -> list[list[list[int]]]:
    """Of each side the nodes of every segment."""
    found: list[list[list[int]]] = [[], []]
    for start, end in text.segments or ():
        nodes = [places[i] for i in range(start, end)]
        found[nodes[0] >= boundary].append(nodes)
    return found


def _characters(text: EncodedText, span: Span) -> Span:
    """From the first character of a segment to its last; (0, 0) where it has none."""
    has_place = [(start, end) for start, end in text.offsets[slice(*span)] if end > start]
    if not has_place:
        return (0, 0)
    return min(start for start, _ in has_place), max(end for _, end in has_place)


def _name(text: EncodedText, span: Span, characters: Span) -> str:
    if span[1] - span[0] == 1:
        return text.tokens[span[0]]
    shown = text.text[slice(*characters)]
    return shown or " ".join(text.tokens[slice(*span)])
