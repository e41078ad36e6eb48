"""What a result is about, in words: the decision, where it was read, and against what."""

from attnflow.attribution import Attribution
from attnflow.views.characters import as_name
from attnflow.views.diagnostics import number, percent

_PLACES = {
    "text-generation": "next token after “{}”",
    "text2text-generation": "next token after “{}”",
    "fill-mask": "token in the place of “{}”",
    "token-classification": "label of “{}”",
}


def certainty(attribution: Attribution) -> str:
    """Probability of what is explained; where there is no other choice, the number itself."""
    if len(attribution.labels) == 1:
        return number(float(attribution.logits[0]))
    return percent(float(attribution.probabilities[attribution.target]))


def beginning(text: str, length: int) -> str:
    """The text on one line, cut to at most so many characters."""
    flat = " ".join(text[: 4 * length].split())
    return flat if len(flat) <= length else f"{flat[: length - 1].rstrip()}…"


def subject(attribution: Attribution) -> str:
    """What was decided: "decision", or "next token after “is”"."""
    if attribution.position is None:
        return "decision"
    token = as_name(attribution.surface(attribution.position))
    if attribution.span is not None:
        return f"{attribution.span[1] - attribution.span[0]} tokens after “{token}”"
    return _PLACES[attribution.task].format(token)


def contrast(attribution: Attribution) -> str:
    """ ", rather than good" where the target is contrasted with another; else nothing."""
    if attribution.against is None:
        return ""
    return f", rather than {as_name(attribution.labels[attribution.against])}"
