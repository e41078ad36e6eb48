"""What a result is about, in words: the decision, where it was read, and against what."""

from attnflow.attribution.data import AttributionData
from attnflow.attribution.views.sanitize import as_name
from attnflow.attribution.views.wording import number, percent

_PLACES = {
    "text-generation": "next token after “{}”",
    "text2text-generation": "next token after “{}”",
    "fill-mask": "token in the place of “{}”",
    "token-classification": "label of “{}”",
}

_CHOICES = {
    "text-generation": "next tokens",
    "text2text-generation": "next tokens",
    "fill-mask": "tokens for the mask",
    "question-answering": "answers",
}
_UNITS = {"token": ("token", "tokens"), "word": ("word", "words")}
_UNITS_OF_IMAGES = {"token": ("patch", "patches")}


def units(attribution: AttributionData) -> dict[str, tuple[str, str]]:
    """What the pieces are called, one and many of them, by granularity."""
    return _UNITS if attribution.grid is None else _UNITS_OF_IMAGES


def certainty(attribution: AttributionData) -> str:
    """Probability of what is explained; where there is no other choice, the number itself."""
    if len(attribution.labels) == 1:
        return number(float(attribution.logits[0]))
    return percent(float(attribution.probabilities[attribution.target]))


def beginning(text: str, length: int) -> str:
    """The text on one line, cut to at most so many characters."""
    flat = " ".join(text[: 4 * length].split())
    return flat if len(flat) <= length else f"{flat[: length - 1].rstrip()}…"


def subject(attribution: AttributionData) -> str:
    """What was decided: "decision", or "next token after “is”"."""
    if attribution.position is None:
        return "decision"
    token = as_name(attribution.surface(attribution.position))
    if attribution.span is not None:
        return f"{attribution.span[1] - attribution.span[0]} tokens after “{token}”"
    return _PLACES[attribution.task].format(token)


def named(attribution: AttributionData) -> str:
    """What was explained: the text, or an image by its name, or by its size where it has none."""
    if attribution.image is None:
        return attribution.text
    height, width = attribution.image.shape[:2]
    return attribution.text or f"image of {width} x {height} pixels"


def choices(attribution: AttributionData) -> str:
    """What there was to choose from, in the plural: "classes", or "next tokens"."""
    if attribution.span is not None:
        return "continuations"
    return _CHOICES.get(attribution.task, "classes")


def contrast(attribution: AttributionData) -> str:
    """ ", rather than good" where the target is contrasted with another; else nothing."""
    if attribution.against is None:
        return ""
    return f", rather than {as_name(attribution.labels[attribution.against])}"
