"""A processor's call on one text with its images, and what it wrote for each placeholder.

A processor replaces the placeholder of an image by marks and by a token for each of its features,
and tokenizes what it has written. That text is seen where the processor hands it to its tokenizer.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnflow.errors import InputError, ModelError
from attnflow.inputs.offsets import Span
from attnflow.inputs.tokenizing import encoded


@dataclass(frozen=True)
class Expanded:
    """A text as a processor wrote and encoded it.

    Attributes:
        text: The text with every placeholder replaced.
        replaced: Half-open characters of `text` that stand for each placeholder.
        ids: Token ids.
        offsets: Characters of each token in `text`; None where the tokenizer tells none.
        inputs: The model's lists besides `input_ids`, one number for each token.
        visual: The model's other inputs, of the images.
    """

    text: str
    replaced: tuple[Span, ...]
    ids: list[int]
    offsets: list[Span] | None
    inputs: dict[str, list[int]]
    visual: dict[str, Tensor]


class _SeenTokenizer:
    """A tokenizer that remembers the last text that it was given, and its encoding."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.text, self.encoding = "", None

    def __call__(self, text: Any = None, *args: Any, **options: Any) -> Any:
        self.text = text if isinstance(text, str) else text[0]
        self.encoding = encoded(self._tokenizer, text, *args, **options)
        return self.encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def placeholder_of(processor: Any) -> str:
    """Return what a text has in the place of an image, before the processor replaces it.

    Raises:
        ModelError: The processor does not name it.
    """
    mark = getattr(processor, "image_token", None)
    if not isinstance(mark, str) or not mark:
        raise ModelError(
            f"{type(processor).__name__} does not name the placeholder of an image (image_token), "
            "so that images cannot be put into a text."
        )
    return mark


def check_count(text: str, placeholder: str, images: int) -> None:
    """Check that a text has a placeholder for each image.

    Raises:
        InputError: It has more, or fewer.
    """
    count = text.count(placeholder)
    if count != images:
        raise InputError(
            f"the text must have a place ({placeholder}) for each image: places {count}, images "
            f"given {images}. Give as many in images= (--image), or leave placeholders out and "
            "have one put in front for each."
        )


def expand(processor: Any, text: str, images: Sequence[Any]) -> Expanded:
    """Process one text with its images.

    Args:
        processor: The processor.
        text: The text, with a placeholder for each image.
        images: Images of Pillow, in the order of the placeholders.

    Raises:
        InputError: As `check_count`.
        ModelError: The processor refuses, or writes in a way that cannot be followed.
    """
    placeholder = placeholder_of(processor)
    check_count(text, placeholder, len(images))
    seen, output = _processed(processor, text, images)
    parts = text.split(placeholder)
    if len(images) == 1:
        written = [seen.text[len(parts[0]) : len(seen.text) - len(parts[1])]]
    else:
        # Which characters stand for which image is seen of each image alone.
        written = [_processed(processor, placeholder, [image])[0].text for image in images]
    replaced, whole = [], parts[0]
    for replacement, part in zip(written, parts[1:], strict=True):
        replaced.append((len(whole), len(whole) + len(replacement)))
        whole += replacement + part
    if whole != seen.text:
        raise ModelError(
            f"{type(processor).__name__} changes the text around its images, so that tokens "
            "cannot be told apart: give one image, or images and text in another order."
        )
    ids = _row(output["input_ids"])
    lists, visual = _sorted_inputs(output, len(ids))
    encoding: Any = seen.encoding
    is_fast = getattr(encoding, "is_fast", False)
    offsets = list(encoding.encodings[0].offsets) if is_fast else None
    return Expanded(whole, tuple(replaced), ids, offsets, lists, visual)


def _processed(
    processor: Any, text: str, images: Sequence[Any]
) -> tuple[_SeenTokenizer, Mapping[str, Any]]:
    # A copy, since other threads may call the processor: it has the tokenizer that is watched.
    watched, seen = copy(processor), _SeenTokenizer(processor.tokenizer)
    watched.tokenizer = seen
    given = {"images": [list(images)]} if images else {}
    try:
        output: Mapping[str, Any] = watched(text=[text], **given, return_tensors="pt")
    except (ValueError, TypeError, IndexError) as error:
        raise ModelError(
            f"{type(processor).__name__} does not take this text with {len(images)} images: "
            f"{error!s:.200}"
        ) from error
    if seen.encoding is None:
        raise ModelError(
            f"{type(processor).__name__} does not call its tokenizer, so that its tokens cannot be "
            "found in the text."
        )
    return seen, output


def _sorted_inputs(
    output: Mapping[str, Any], count: int
) -> tuple[dict[str, list[int]], dict[str, Tensor]]:
    """The inputs of tokens besides ids and mask, and those of images."""
    lists: dict[str, list[int]] = {}
    visual: dict[str, Tensor] = {}
    for name, value in output.items():
        if name in ("input_ids", "attention_mask") or not isinstance(value, Tensor):
            continue
        if tuple(value.shape) == (1, count):
            lists[name] = _row(value)
        else:
            visual[name] = value
    return lists, visual


def _row(values: Any) -> list[int]:
    rows: list[list[int]] = torch.as_tensor(values).tolist()
    return rows[0]
