"""Captions of a result: the decision, where it was read, and what it is contrasted with."""

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.layout import spelled
from attnflow.attribution.views.sanitize import as_name
from attnflow.attribution.views.wording import format_number, format_percent

DECISIONS = {
    "text-generation": "next token after “{}”",
    "text2text-generation": "next token after “{}”",
    "image-text-to-text": "next token after “{}”",
    "fill-mask": "token for “{}”",
    "token-classification": "label of “{}”",
}

_ALTERNATIVES = {
    "text-generation": "next tokens",
    "text2text-generation": "next tokens",
    "image-text-to-text": "next tokens",
    "fill-mask": "tokens for the mask",
    "question-answering": "answers",
}
_UNITS = {"token": ("token", "tokens"), "word": ("word", "words")}
_UNITS_OF_IMAGES = {"token": ("patch", "patches")}


def units(attribution: AttributionData) -> dict[str, tuple[str, str]]:
    """Return the noun for a piece, singular and plural, by granularity."""
    return _UNITS if attribution.grid is None else _UNITS_OF_IMAGES


def granularity_of(attribution: AttributionData, granularity: str | None) -> str:
    """Return what is shown: None takes words, and of an image its patches ("token")."""
    if granularity is None:
        return "word" if "word" in units(attribution) else "token"
    return granularity


def certainty(attribution: AttributionData) -> str:
    """Return the probability of the target; where there is no alternative, the output itself."""
    # The softmax of a single output is always 100 %.
    if len(attribution.labels) == 1:
        return format_number(float(attribution.logits[0]))
    return format_percent(float(attribution.probabilities[attribution.target]))


def beginning(text: str, length: int) -> str:
    """Return the text on one line, cut to at most so many characters."""
    # Four times the length leaves enough after runs of white space collapse.
    flat = " ".join(text[: 4 * length].split())
    return flat if len(flat) <= length else f"{flat[: length - 1].rstrip()}…"


def decision(attribution: AttributionData) -> str:
    """Return a noun phrase for what was decided: "decision", or "next token after “is”"."""
    if attribution.position is None:
        return "decision"
    token = as_name(spelled(attribution.surface(attribution.position)))
    if attribution.span is not None:
        return f"{attribution.span[1] - attribution.span[0]} tokens after “{token}”"
    return DECISIONS[attribution.task].format(token)


def input_name(attribution: AttributionData) -> str:
    """Return the text; of an image its name, or its size where it has none."""
    if attribution.image is None or attribution.regions:
        return attribution.text
    height, width = attribution.image.shape[:2]
    return attribution.text or f"image of {width} x {height} pixels"


def alternatives(attribution: AttributionData) -> str:
    """Return the plural noun for what the model chooses from: "classes", or "next tokens"."""
    if attribution.span is not None:
        return "continuations"
    return _ALTERNATIVES.get(attribution.task, "classes")


def contrast(attribution: AttributionData) -> str:
    """Return ", rather than good" where the target is contrasted with another; else ""."""
    if attribution.against is None:
        return ""
    return f", rather than {as_name(attribution.labels[attribution.against])}"
