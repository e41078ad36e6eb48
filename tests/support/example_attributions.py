"""Attributions to draw: plausible flows that conserve, from one deciding token down to the text."""

import re
from dataclasses import replace
from functools import cache

import numpy as np

from attnflow.attribution.attribution import Attribution, Attributions, Certificate

SHORT = "although this dog is not cute, it is very smart."
REVIEW = (
    "I went in expecting very little, and for the first twenty minutes the film seemed happy to "
    "prove me right. The jokes are tired, the lighting is flat, and the lead wanders through his "
    "scenes as if he had lost his keys.\n\nThen something unexpected happens. The story slows "
    "down, the camera finally looks at people instead of furniture, and what had been a clumsy "
    "comedy turns into a tender, surprisingly funny portrait of two brothers who never learned "
    "how to talk to each other. The dinner scene alone is worth the ticket: nobody raises his "
    "voice, nothing is explained, and yet by the end of it you understand thirty years of silence. "
    "It is not a perfect film. The music is too loud, the subplot with the neighbour goes nowhere, "
    "and the last shot is held for so long that the audience began to laugh. But I left the cinema "
    "moved, a little ashamed of my first impression, and I would gladly see it again."
)


def pieces_of(text: str) -> list[tuple[int, int, int]]:
    """A toy tokenizer: words and marks, long words in two pieces; (start, end, word) each."""
    found = []
    for word, match in enumerate(re.finditer(r"\w+|[^\w\s]", text)):
        start, end = match.span()
        cut = start + 6 if end - start > 8 else end
        found += [(start, cut, word)] + ([(cut, end, word)] if cut < end else [])
    return found


def flow_edges(rng: np.random.Generator, layers: int, tokens: int, spread: float) -> np.ndarray:
    """Split one unit at the top of [CLS], row by row, at random and mostly straight down."""
    favour = rng.gamma(0.25, size=tokens) + 1e-3
    edges = np.zeros((layers, tokens, tokens))
    mass = np.zeros(tokens)
    mass[0] = 1.0
    for layer in reversed(range(layers)):
        split = rng.gamma(spread, size=(tokens, tokens)) * favour
        split /= split.sum(axis=1, keepdims=True)
        split = 0.35 * split + 0.65 * np.eye(tokens)
        if layer == layers - 1:
            split = 0.8 * favour / favour.sum() + 0.2 * np.eye(tokens)
        edges[layer] = mass[:, None] * split
        mass = edges[layer].sum(axis=0)
    return edges


@cache
def attribution_of(
    text: str = SHORT,
    *,
    layers: int = 6,
    seed: int = 0,
    spread: float = 0.15,
    with_edges: bool = True,
    labels: tuple[str, ...] = ("negative", "positive"),
    model: str = "distilled/six-layers-sst2",
) -> Attribution:
    """An attribution of `text` with special tokens at both ends."""
    rng = np.random.default_rng(seed)
    spans = pieces_of(text)
    count = len(spans) + 2
    edges = 1.234 * flow_edges(rng, layers, count, spread)
    value = float(edges[0].sum())
    return Attribution(
        text=text,
        tokens=("[CLS]", *(text[start:end] for start, end, _ in spans), "[SEP]"),
        offsets=((0, 0), *((start, end) for start, end, _ in spans), (0, 0)),
        special=np.array([True, *[False] * len(spans), True]),
        word_ids=(None, *(word for _, _, word in spans), None),
        scores=edges[0].sum(axis=0),
        tensor="cf",
        readout="input",
        target=len(labels) - 1,
        labels=labels,
        logits=np.linspace(-1.6, 1.9, len(labels)),
        certificate=Certificate(value, value / 0.992, 2.1e-6, 3.1e-16, 4.4e-10, 17, "solved"),
        model=model,
        edges=edges if with_edges else None,
    )


def continuation_of(
    text: str = SHORT, written: int = 4, *, roles: tuple[str, ...] = (), **options: object
) -> Attributions:
    """The last `written` tokens of `text` as a continuation, the last special token left out.

    With roles the text's lines are messages, and the tokens before and after the template's.
    """
    whole = attribution_of(text, **options)
    t = len(whole) - 1
    lines = np.cumsum([0, *(text[a:b].count("\n") for a, b in _between(whole.offsets[1:t]))])
    found = []
    for place in range(t - written, t):
        scores = np.random.default_rng(place).gamma(0.3, size=t)
        scores[place:] = 0
        found.append(
            replace(
                whole,
                tokens=whole.tokens[:t],
                offsets=whole.offsets[:t],
                special=whole.special[:t],
                word_ids=whole.word_ids[:t],
                scores=scores,
                edges=None if whole.edges is None else whole.edges[:, :t, :t],
                labels=(text[slice(*whole.offsets[place])], "(all other tokens)"),
                target=0,
                task="text-generation",
                position=place - 1,
                roles=roles,
                message_ids=(None, *map(int, lines)) if roles else (),
            )
        )
    return Attributions(found)


def _between(spans: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """The gaps between neighbouring spans."""
    return [(a[1], b[0]) for a, b in zip(spans, spans[1:], strict=False)]


@cache
def image_of(
    grid: tuple[int, int],
    *,
    size: tuple[int, int] = (28, 28),
    box: tuple[float, float, float, float] | None = None,
    layers: int = 3,
    seed: int = 0,
    scale: float = 1.0,
    with_edges: bool = False,
) -> Attribution:
    """An attribution of an image of random pixels, (height, width), with a class token."""
    rng = np.random.default_rng(seed)
    rows, columns = grid
    names = [f"r{row}c{column}" for row in range(rows) for column in range(columns)]
    edges = None
    if with_edges:
        edges = scale * flow_edges(rng, layers, len(names) + 1, 0.15)
        scores = edges[0].sum(axis=0)
    else:
        scores = rng.gamma(0.25, size=len(names) + 1) + 1e-3
        scores *= scale / scores.sum()
    value = float(scores.sum())
    height, width = size
    return Attribution(
        text="",
        tokens=("[CLS]", *names),
        offsets=((0, 0),) * (len(names) + 1),
        special=np.array([True, *[False] * len(names)]),
        word_ids=(None,) * (len(names) + 1),
        scores=scores,
        tensor="cf",
        readout="input",
        target=1,
        labels=("cat", "dog", "bird"),
        logits=np.array([0.1, 2.0, -1.0]),
        certificate=Certificate(value, value / 0.992, 2.1e-6, 3.1e-16, 4.4e-10, 17, "solved"),
        model="tiny/vision-transformer",
        edges=edges,
        task="image-classification",
        image=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        grid=grid,
        box=box or (0.0, 0.0, float(width), float(height)),
    )
