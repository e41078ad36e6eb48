"""Sizes of the examples of a call: tokens that a model reads, nodes of the flow, pixels.

Known before anything runs, and all that an estimate of memory needs to know of examples. Read
next: estimates.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from attnflow.errors import InputError
from attnflow.explainer.coarsening import Coarsen, Coarsened, coarsened
from attnflow.inputs.batching import SIDES
from attnflow.inputs.chat import is_chat
from attnflow.inputs.image import EncodedImage
from attnflow.inputs.image_reader import ImageReader
from attnflow.inputs.text_reader import Reader, read

ALONE = 4  # tokens that are in no segment: special ones, and the one that is read


@dataclass(frozen=True)
class Size:
    """Of one example.

    sides   tokens on each side that a model reads, one or two; of an image its patches, and what
            stands before them
    nodes   of a layer of its flow: tokens or segments
    pixels  of an image, as the model reads it: (channels, height, width)
    kept    bytes of an image from when it is read to the end of the call
    """

    sides: tuple[int, ...]
    nodes: int
    pixels: tuple[int, ...] = ()
    kept: int = 0

    @property
    def tokens(self) -> int:
        """On all sides."""
        return sum(self.sides)

    @classmethod
    def of(cls, example: Coarsened | EncodedImage) -> "Size":
        """Of a text with its segments, or of an image with its patches."""
        if isinstance(example, EncodedImage):
            t, values = len(example.tokens), example.inputs["pixel_values"]
            kept = example.image.nbytes + values.nbytes + example.neutral.nbytes
            return cls((t,), t, tuple(values.shape), kept)
        inputs = example.text.inputs
        return cls(tuple(len(inputs[name]) for name in SIDES if name in inputs), example.nodes)

    @classmethod
    def of_length(cls, tokens: int, coarsen: Coarsen, *, two_stacks: bool) -> "Size":
        """Of so many tokens, an encoder-decoder's prefix being short.

        Raises:
            InputError: There is no token, or a unit that only a text has.
        """
        if tokens < 1:
            raise InputError(f"a text has at least one token, got {tokens}.")
        if isinstance(coarsen, str):
            raise InputError(
                f"how many {coarsen}s tokens make is known of texts alone: give texts."
            )
        nodes = tokens if coarsen is None else min(tokens, -(-tokens // coarsen) + ALONE)
        return cls((tokens, 1) if two_stacks else (tokens,), nodes + two_stacks)


def in_batches(sizes: Sequence[Size], most: int) -> list[list[int]]:
    """Indices in batches of at most so many, longest first: memory runs out at once or not at all.

    Images of one batch have one shape.
    """
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i].tokens, sizes[i].pixels))
    found: list[list[int]] = []
    for _, alike in groupby(order, key=lambda i: sizes[i].pixels):
        run = list(alike)
        found += [run[start : start + most] for start in range(0, len(run), most)]
    return found


def sizes_of_texts(reader: Reader, texts: Any, coarsen: Coarsen, truncate: bool) -> list[Size]:
    """The sizes of texts, or of so many tokens.

    Args:
        reader: Of the model.
        texts: A text, a chat, a number of tokens, or a sequence of them.
        coarsen: The option of `Explainer.__call__`, like the next.
        truncate: Its option.

    Raises:
        InputError, ModelError: As `read`; or there are both texts and numbers.
    """
    one = isinstance(texts, str) or is_chat(texts) or not isinstance(texts, Iterable)
    given = [texts] if one else list(texts)
    lengths = [int(n) for n in given if _counts(n)]
    if not lengths:
        options: dict[str, Any] = dict(pair=None, input_ids=None, attention_mask=None)
        _, encoded = read(reader, given, truncate=truncate, **options)
        return [Size.of(coarsened(reader.begun(text), coarsen)) for text in encoded]
    if len(lengths) < len(given):
        raise InputError("give texts or numbers of tokens, and not both.")
    two = reader.task.reads == "prefix"
    return [Size.of_length(n, coarsen, two_stacks=two) for n in lengths]


def _counts(given: Any) -> bool:
    """Whether it is a number of tokens."""
    return isinstance(given, int | np.integer) and not isinstance(given, bool)


def sizes_of_images(reader: ImageReader, images: Any, pixel_values: Any) -> list[Size]:
    """The sizes of images, given as to `Explainer.__call__`.

    Raises:
        InputError, ModelError, StorageError: As `ImageReader.read`.
    """
    return [Size.of(image) for image in reader.read(images, pixel_values, None)[1]]
