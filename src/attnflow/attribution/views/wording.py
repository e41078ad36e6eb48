"""Numbers next to a picture: how they are written, and what each of them means.

Terminal, notebook and page use the same words, so all take them from here.
"""

from dataclasses import dataclass

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.layout import pieces_of
from attnflow.attribution.views.sanitize import as_name

TENSORS = {
    "af": "attention, mean over the heads",
    "gf": "positive gradient of the attention, mean over the heads",
    "agf": "attention times its gradient, positive part, mean over the heads",
    "cf": "conservative contributions of the frozen backward pass, positive part",
    "net": "effects net at every token, mean flow over stages of removal, layers balanced",
    "bcf": "conservative contributions, mean over stages of removal, layers balanced",
}
READOUTS = {
    "input": "the flow that ends at each token",
    "throughput": "the flow through each token's position, mean over all rows",
}

_FLOW = (
    "The scores are non-negative shares of one maximum flow. They add up to the flow, not to the "
)
# The stages' flows have different tokens, so that their means add up to no one flow.
_STAGES = (
    "The scores are non-negative: each token’s mean flow over the stages that have it. They do not "
    "add up to the "
)
_NOTE = (
    "model’s output, and they are not Shapley values of the model. A word’s score is the sum of "
    "its tokens’ scores. Shares leave the special tokens out."
)
_NOTE_OF_IMAGES = (
    "model’s output, and they are not Shapley values of the model. A patch stands for the token "
    "that it enters the model as. Shares leave the class token and its like out."
)

OPPOSING = 5  # words named that speak against
# Of the largest signed score: what is smaller would only be in the way of what matters.
CLEARLY = 0.05
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def note(attribution: AttributionData) -> str:
    """Return the sentence that states what the scores are, and what they are not."""
    scores = _STAGES if attribution.stages else _FLOW
    return scores + (_NOTE if attribution.grid is None else _NOTE_OF_IMAGES)


@dataclass(frozen=True)
class Diagnostic:
    """One measured quantity and a line in plain words on what it means."""

    name: str
    value: str
    meaning: str


def format_number(value: float) -> str:
    """Return four significant digits, powers of ten written out: 0.2134, 3.1 × 10⁻¹⁶."""
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        digits, _, power = f"{value:.1e}".partition("e")
        # Infinity and NaN have no power.
        return f"{digits} × 10{str(int(power)).translate(SUPERSCRIPTS)}" if power else digits
    # "#" keeps zeros at the end, and with them a dot after four digits.
    return f"{value:#.4g}".rstrip(".") if value else "0"


def format_percent(fraction: float) -> str:
    """Return a share in percent with one decimal; "< 0.1 %" where it would round to nothing."""
    if 0 < fraction < 0.0005:
        return "< 0.1 %"
    return f"{100 * max(fraction, 0.0):.1f} %"


def format_bound(fraction: float) -> str:
    """Return a gap in percent with two significant digits, however small."""
    return f"{100 * max(fraction, 0.0):.2g} %"


@dataclass(frozen=True)
class Opposing:
    """A word or patch that speaks against the decision, and its signed score as it is written."""

    name: str
    score: str


def opposing(attribution: AttributionData) -> list[Opposing]:
    """Return the few words or patches that speak clearly against the decision, strongest first."""
    signed = attribution.signed_scores
    if signed is None or not signed.size:
        return []
    pieces = pieces_of(attribution, "word" if attribution.grid is None else "token")
    sums = [(sum(float(signed[i]) for i in piece.tokens), piece) for piece in pieces]
    least = CLEARLY * max(abs(value) for value, _ in sums)
    found = [(v, piece) for v, piece in sums if v < 0 and -v >= least and not piece.special]
    found.sort(key=lambda each: (each[0], each[1].tokens))
    return [Opposing(piece.label, _signed(value)) for value, piece in found[:OPPOSING]]


def diagnostics(attribution: AttributionData) -> list[Diagnostic]:
    """Return the quantities that certify the flow, each with its meaning."""
    certificate = attribution.certificate
    return [
        Diagnostic(
            "Flow value",
            format_number(certificate.value),
            "What flows from the decision down to the tokens, in units of the capacities.",
        ),
        Diagnostic(
            "Upper bound",
            format_number(certificate.upper_bound),
            "A cut through the network proves that no flow is larger than this.",
        ),
        Diagnostic(
            "Gap",
            format_bound(certificate.gap),
            "The flow is at most this far below the maximum, relative to the bound.",
        ),
        Diagnostic(
            "Barrier weight μ",
            format_number(certificate.mu),
            "The smaller, the nearer to the maximum; above zero it makes the flow unique.",
        ),
        Diagnostic(
            "Conservation",
            format_number(certificate.conservation),
            "Largest difference between what enters a node and what leaves it; rounding is 10⁻¹⁵.",
        ),
        Diagnostic(
            "Centrality",
            format_number(certificate.centrality),
            "Largest relative error in the conditions that single out this one flow.",
        ),
        Diagnostic(
            "Iterations",
            str(certificate.iterations),
            "Factorisations that the solver needed.",
        ),
        Diagnostic(
            "Status",
            certificate.status,
            "“solved”, or what stopped the solver.",
        ),
        Diagnostic(
            "Special tokens",
            format_percent(attribution.special_share),
            "Part of all the scores that went to tokens such as [CLS], which are not ranked.",
        ),
        *_path_diagnostics(attribution),
    ]


def _path_diagnostics(attribution: AttributionData) -> list[Diagnostic]:
    """Return what the decoder's first token and the source take, next to their null shares."""
    meanings = {
        "First token": "the first token that the decoder reads"
        + _POLICIES[attribution.attention_sink],
        "Source": "the source, and not to what has been written",
    }
    return [
        Diagnostic(
            share.name,
            format_percent(share.taken),
            f"Part of all the scores that went to {meanings[share.name]}. With uniform attention "
            f"in as many layers it would get {format_percent(share.null)}.",
        )
        for share in _path_shares(attribution)
    ]


@dataclass(frozen=True)
class PathShare:
    """A part of all the scores before the first token was excluded, and what paths alone give.

    Attributes:
        name: "First token" or "Source".
        taken: The share that it has, 0 to 1.
        null: The share that it would have with uniform attention, 0 to 1.
    """

    name: str
    taken: float
    null: float


def _path_shares(attribution: AttributionData) -> list[PathShare]:
    """Return the shares of the first token and of the source; none where no null share is known."""
    null, first = attribution.null_shares, attribution.source_tokens
    if null is None:
        return []
    parts = {"First token": slice(first, first + 1)}
    if first:
        parts["Source"] = slice(0, first)
    raw = attribution.scores if attribution.raw_scores is None else attribution.raw_scores
    total = float(raw.sum())
    return [
        PathShare(
            name,
            taken=float(raw[part].sum()) / total if total > 0 else 0.0,
            null=float(null[part].sum()),
        )
        for name, part in parts.items()
    ]


_POLICIES = {
    "keep": "",
    "exclude": " before it was excluded",
    "apart": ", which is not ranked",
}


def merged(attribution: AttributionData) -> str:
    """Return what was merged before the flow; "" where nothing was."""
    if attribution.segments is None:
        return ""
    longest = max(end - start for start, end in attribution.segments)
    return (
        f"{attribution.segments[-1][1]} tokens merged into {len(attribution)} segments of at most "
        f"{longest} before the flow"
    )


def summary(attribution: AttributionData) -> list[str]:
    """Return the certificate in a few short lines."""
    certificate = attribution.certificate
    lines = []
    if attribution.segments is not None:
        lines.append(f"coarsened: {merged(attribution)}; each is scored as a whole")
    if attribution.truncated:
        lines.append(f"the last {attribution.truncated} tokens were cut off")
    # Nothing failed here: without this line zeros alone would look like it.
    if certificate.status == "empty":
        lines.append(
            f"nothing in the tensor {attribution.tensor} speaks for this class: no path leads from "
            "the decision to a token, and every score is 0"
        )
    if attribution.is_faint and certificate.status != "empty":
        lines.append(faint(attribution))
    against = opposing(attribution)
    if against:
        named = ", ".join(f"{as_name(token.name)} {token.score}" for token in against)
        lines.append(f"speaks against: {named}")
    if attribution.explained is not None and attribution.contributions is not None:
        lines.append(
            f"explained number {_signed(attribution.explained)}; contributions add up to "
            f"{_signed(float(attribution.contributions.sum()))}"
        )
    lines.append(
        f"certificate: flow {format_number(certificate.value)}, at most "
        f"{format_bound(certificate.gap)} below the maximum; {certificate.status} in "
        f"{certificate.iterations} iterations"
    )
    lines.append(
        f"conservation {format_number(certificate.conservation)}; centrality "
        f"{format_number(certificate.centrality)}; μ {format_number(certificate.mu)}; special "
        f"tokens took {format_percent(attribution.special_share)}"
    )
    return [*lines, *_path_lines(attribution)]


def faint(attribution: AttributionData) -> str:
    """Return the warning about a flow that carries little."""
    return (
        f"little flow: {format_percent(attribution.carried or 0.0)} of what the layers could carry "
        "reaches the tokens, so that the ranking says little; contributions may say more"
    )


def _signed(value: float) -> str:
    return f"−{format_number(-value)}" if value < 0 else format_number(value)


def _path_lines(attribution: AttributionData) -> list[str]:
    """Return the same about the first token and the source, a line each."""
    where = " of the decoder" if attribution.source_tokens else ""
    policy = _POLICIES[attribution.attention_sink]
    phrases = {"First token": (f"first token{where}", policy), "Source": ("source", "")}
    lines = []
    for share in _path_shares(attribution):
        noun, remark = phrases[share.name]
        lines.append(
            f"the {noun} took {format_percent(share.taken)}{remark}; uniform attention would give "
            f"it {format_percent(share.null)}"
        )
    return lines
