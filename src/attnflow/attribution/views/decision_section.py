"""The part of the page about one decision: all that can be read without any script.

Heat map, ranking, classes, facts and certificate are complete without scripts. Scripts add only
the switches, and the picture of the flow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.alternatives import likeliest
from attnflow.attribution.views.captions import (
    alternatives,
    certainty,
    contrast,
    decision,
    units,
)
from attnflow.attribution.views.flow_links import has_flow
from attnflow.attribution.views.image_heatmap import ImageMap, image_map, layers
from attnflow.attribution.views.layout import Piece, Ranked, hottest, pieces_of, rank
from attnflow.attribution.views.templates import render
from attnflow.attribution.views.text_heatmap import Stretch, stretches
from attnflow.attribution.views.verdict import WRITING, verdict
from attnflow.attribution.views.wording import (
    READOUTS,
    TENSORS,
    diagnostics,
    faint,
    format_bound,
    merged,
    note,
    opposing,
)

if TYPE_CHECKING:
    from markupsafe import Markup

RANKS_IN_SIGHT = 12
CLASSES_IN_SIGHT = 8
LONG_TEXT = 900  # characters
MIDDLING_TEXT = 40  # tokens


@dataclass(frozen=True)
class _Text:
    """A text and its heat maps by granularity; `size` is the class that sets the size of type.

    `has_cold` is true where some piece has the colour of what speaks against.
    """

    heat_maps: dict[str, list[Stretch]]
    has_cold: bool
    size: str
    truncated: int


@dataclass(frozen=True)
class _Ranking:
    """The ranking of tokens or words: the first few in sight, the rest folded away.

    `best` is the score whose bar is full; `strongest` the share at the hot end of the legend;
    `hidden` that of tokens where there are words to read first.
    """

    granularity: str
    hidden: bool
    unit: str
    units: str
    first: list[Ranked]
    rest: list[Ranked]
    best: float
    strongest: float


@dataclass(frozen=True)
class Choice:
    """A target that is explained on the page too: its name, probability, and article."""

    name: str
    certainty: str
    article: int


def article(
    attribution: AttributionData,
    index: int,
    *,
    group: int,
    part: bool = False,
    choices: Sequence[Choice] = (),
) -> "Markup":
    """Return everything about one decision.

    Args:
        attribution: The decision.
        index: Its number on the page, from 0.
        group: Number of the text or continuation that it belongs to.
        part: True for a token of a continuation, whose text and matrix stand above.
        choices: The targets of the same example that are explained on the page, this one too.
    """
    unit, plural = units(attribution)["token"]
    is_text = attribution.grid is None
    image: ImageMap | None = None if attribution.image is None else image_map(attribution)
    listed = likeliest(attribution, CLASSES_IN_SIGHT)
    return render(
        "decision.html",
        index=index,
        group=group,
        part=part,
        decision=decision(attribution),
        contrast=contrast(attribution),
        label=attribution.label,
        certainty=certainty(attribution),
        text=_text(attribution) if is_text and not part else None,
        image=image,
        has_flow=has_flow(attribution),
        unit=unit,
        units=plural,
        is_text=is_text,
        whole="text or image" if attribution.regions else "text" if is_text else "image",
        layers=None if is_text else layers(attribution),
        rankings=[_sources(attribution)] if part else _rankings(attribution),
        verdict=verdict(attribution),
        opposing=opposing(attribution),
        by_place=attribution.task in WRITING,
        bound=format_bound(attribution.certificate.gap),
        warning=faint(attribution) if attribution.is_faint else "",
        chosen_from=alternatives(attribution),
        alternatives=listed,
        unlisted=len(attribution.labels) - len(listed),
        articles={choice.name: choice.article for choice in choices},
        choices=choices,
        model=attribution.model_and_precision,
        tensor=attribution.tensor,
        tensor_meaning=TENSORS.get(attribution.tensor, ""),
        readout=attribution.readout,
        readout_meaning=READOUTS.get(attribution.readout, ""),
        token_count=_token_count(attribution),
        note=note(attribution),
        diagnostics=diagnostics(attribution),
    )


def text_size(attribution: AttributionData) -> str:
    """Return the style class for the size of type: "", "middling" or "long"."""
    if len(attribution.text) > LONG_TEXT:
        return "long"
    return "middling" if len(attribution) > MIDDLING_TEXT else ""


def _text(attribution: AttributionData) -> _Text:
    heat_maps = {unit: list(stretches(attribution, unit)) for unit in units(attribution)}
    has_cold = any("against" in s.classes for heat in heat_maps.values() for s in heat)
    return _Text(heat_maps, has_cold, text_size(attribution), attribution.truncated)


def _rankings(attribution: AttributionData) -> list[_Ranking]:
    """Return a ranking for each granularity; words are read first where there are any."""
    rankings, has_words = [], attribution.grid is None
    for granularity, (unit, plural) in units(attribution).items():
        pieces = pieces_of(attribution, granularity)
        ranked = rank(pieces)
        rankings.append(
            _Ranking(
                granularity,
                granularity == "token" and has_words,
                unit,
                plural,
                ranked[:RANKS_IN_SIGHT],
                ranked[RANKS_IN_SIGHT:],
                ranked[0].piece.score if ranked else 0.0,
                _strongest(attribution, pieces),
            )
        )
    return rankings


def _sources(attribution: AttributionData) -> _Ranking:
    """Return the best tokens up to the one that is read; all of them are in the matrix."""
    read = len(attribution) if attribution.position is None else attribution.position
    pieces = [p for p in pieces_of(attribution, "token") if p.tokens[-1] <= read]
    ranked = rank(pieces)
    best = ranked[0].piece.score if ranked else 0.0
    strongest = _strongest(attribution, pieces)
    return _Ranking("token", False, "token", "tokens", ranked[:RANKS_IN_SIGHT], [], best, strongest)


def _strongest(attribution: AttributionData, pieces: Sequence[Piece]) -> float:
    """Return the share of the piece whose heat is 1, 0 to 1."""
    total = float(attribution.scores[~attribution.special].sum())
    return hottest(attribution, pieces) / total if total > 0 else 0.0


def _token_count(attribution: AttributionData) -> str:
    special = int(attribution.special.sum())
    if attribution.segments is not None:
        return f"{merged(attribution)}; {special} special ones alone"
    return f"{len(attribution)}, of them {special} special"
