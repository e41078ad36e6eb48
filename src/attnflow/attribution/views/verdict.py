"""A plain sentence about a result: the few pieces that it rests on, and what speaks against it.

    Mostly “smart” (72.3 %); “not” speaks against.
    Mostly “France” (52.7 %).
    Spread over 31 words, first “river” (9.1 %), “boat” (8.0 %) and “mill” (7.7 %).

Page, terminal and notebook write the same sentence. Read next: layout.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.captions import granularity_of, units
from attnflow.attribution.views.layout import Piece, is_picture, join_regions, pieces_of, rank
from attnflow.attribution.views.sanitize import as_name
from attnflow.attribution.views.wording import format_percent

MOST = 0.5  # of the shares, which the named pieces have together
NAMED = 3  # pieces at most; a decision that needs more is spread
NAMED_AGAINST = 2
SPECIAL = 0.9  # share of special tokens from which the answer hardly depends on the text
# Tasks of models that write. What their first token and the one that is read hold is mostly their
# place: in SmolLM2 signed scores count *The* of "The capital of France is" against *Paris*, and
# hiding it costs 5.3 of the log-odds. So these two are not said to speak against.
WRITING = ("text-generation", "text2text-generation", "image-text-to-text")
STRONGLY = 0.5  # of the largest signed score: what speaks against less is left to its list


@dataclass(frozen=True)
class Verdict:
    """The parts of the sentence, without marks of a language of pages.

    Attributes:
        opening: "Mostly", or what stands before the first names.
        leaders: Names of the first pieces, each with its share as it is written; pieces of one
            name are one.
        against: Names of the pieces that speak strongly against the decision.
    """

    opening: str
    leaders: tuple[tuple[str, str], ...]
    against: tuple[str, ...]

    @property
    def speak(self) -> str:
        """Return the verb for what speaks against."""
        return "speaks against" if len(self.against) == 1 else "speak against"


def verdict(attribution: AttributionData) -> Verdict | None:
    """Return the sentence about a result; None where its flow says little, or there is none."""
    granularity = granularity_of(attribution, None)
    pieces = join_regions(attribution, pieces_of(attribution, granularity))
    ranked = [entry.piece for entry in rank(pieces) if entry.piece.score > 0]
    if attribution.is_faint or not ranked:
        return None
    # Equal words are one thing to a reader, wherever they stand.
    shares: dict[str, list[float]] = {}
    for piece in ranked:
        shares.setdefault(_name(attribution, piece), []).append(piece.share)
    first = sorted(shares.items(), key=lambda item: -sum(item[1]))[:NAMED]
    sums = list(accumulate(sum(parts) for _, parts in first))
    enough = next((n for n, total in enumerate(sums, start=1) if total >= MOST), None)
    many = units(attribution)[granularity][1]
    opening = "Mostly" if enough else f"Spread over {len(ranked)} {many}, first"
    if attribution.special_share > SPECIAL:
        # Shares are of the rest, which is little: a reader would take it for the whole.
        took = format_percent(attribution.special_share)
        opening = f"Special tokens took {took}, of the rest {opening[0].lower()}{opening[1:]}"
    leaders = [(name, _share(parts)) for name, parts in first[:enough]]
    against = [_name(attribution, p) for p in opposing_pieces(attribution, pieces, STRONGLY)]
    return Verdict(opening, tuple(leaders), tuple(dict.fromkeys(against))[:NAMED_AGAINST])


def _share(parts: Sequence[float]) -> str:
    times = f", {len(parts)} times" if len(parts) > 1 else ""
    return f"{format_percent(sum(parts))}{times}"


def sentence(attribution: AttributionData) -> str:
    """Return the sentence as plain text; "" where there is none."""
    found = verdict(attribution)
    if found is None:
        return ""
    leaders = joined([f"“{name}” ({share})" for name, share in found.leaders])
    opposing = joined([f"“{name}”" for name in found.against])
    against = f"; {opposing} {found.speak}" if opposing else ""
    return f"{found.opening} {leaders}{against}."


def joined(names: Sequence[str]) -> str:
    """Return names in a row: "", "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def opposing_pieces(
    attribution: AttributionData, pieces: Sequence[Piece], least: float
) -> list[Piece]:
    """Return the pieces that speak against the decision, strongest first.

    Args:
        attribution: The result.
        pieces: Its tokens or words.
        least: The part of the largest signed score that counts.
    """
    heat = against_heat(attribution, pieces)
    found = [piece for piece in pieces if heat[piece.tokens] >= least]
    return sorted(found, key=lambda piece: (-heat[piece.tokens], piece.tokens))


def against_heat(
    attribution: AttributionData, pieces: Sequence[Piece]
) -> Mapping[tuple[int, ...], float]:
    """Return, by a piece's tokens, how much it speaks against the decision, 0 to 1.

    1 is as much as the strongest piece of all speaks, for or against. Special tokens are left out.
    """
    signed = attribution.signed_scores
    if signed is None or attribution.is_faint:
        return {piece.tokens: 0.0 for piece in pieces}
    placed = held_by_place(attribution)
    sums = {
        piece.tokens: 0.0
        if piece.special or placed & set(piece.tokens)
        else float(sum(signed[i] for i in piece.tokens))
        for piece in pieces
    }
    most = max(map(abs, sums.values()), default=0.0)
    return {tokens: max(-value, 0.0) / most if most > 0 else 0.0 for tokens, value in sums.items()}


def held_by_place(attribution: AttributionData) -> set[int]:
    """Return the tokens of a model that writes whose signed scores come from their place."""
    if attribution.task not in WRITING:
        return set()
    first = next((i for i in range(len(attribution)) if not attribution.special[i]), 0)
    read = len(attribution) - 1 if attribution.position is None else attribution.position
    return {first, read}


def _name(attribution: AttributionData, piece: Piece) -> str:
    return f"the {piece.name}" if is_picture(attribution, piece) else as_name(piece.name)
