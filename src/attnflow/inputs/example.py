"""Examples, of texts and of images alike, and the protocol of their readers.

`TextInputs` and `ImageInputs` are the two readers. Later steps (requests, model passes, memory,
results) take an `Example` and its reader. What only texts have (spans, segments, answers, masks,
pairs that are compared) needs more, and reads it off the `EncodedText`. Read next: text_inputs.py,
image_inputs.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnflow.inputs.given import Given
from attnflow.inputs.per_example import ExampleLabels
from attnflow.models.tasks import Task

Region = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels."""


class Example:
    """One text or image as its model reads it; what only the other modality has is empty.

    Attributes:
        text: The text; of an image the name of its file, "" where it has none.
        tokens: Names of the tokens, of an image those of its patches; length t.
        special: True at tokens that are not ranked.
        offsets: Half-open character spans; (0, 0) where a token has none.
        word_ids: Index of each token's word, or None.
        truncated: Number of tokens cut off.
        message_ids: For each token of a chat the index of its message, or None; else ().
        roles: The role of each message of a chat; else ().
        image: `(h, w, 3)` uint8, the image to show, or None.
        grid: Rows and columns of patches, or None.
        box: Left, top, right and bottom edge of the grid in `image`, in pixels, or None.
        regions: For each token of a text with images the part of `image` that it stands for, or
            None; else ().
        sides: Tokens in each stack of the model, one number or two.
        pixel_shape: `(channels, height, width)` of an image; else ().
        nbytes: Bytes that stay allocated until the end of a call, where they count.
    """

    text: str
    tokens: tuple[str, ...]
    special: tuple[bool, ...]
    offsets: tuple[tuple[int, int], ...]
    word_ids: tuple[int | None, ...]
    truncated: int = 0
    message_ids: tuple[int | None, ...] = ()
    roles: tuple[str, ...] = ()
    image: NDArray[np.uint8] | None = None
    grid: tuple[int, int] | None = None
    box: Region | None = None
    regions: tuple[Region | None, ...] = ()

    @property
    def sides(self) -> tuple[int, ...]:
        return (len(self.tokens),)

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        return ()

    @property
    def nbytes(self) -> int:
        return 0


AnyExample = TypeVar("AnyExample", bound=Example)


@dataclass(frozen=True)
class ReadExamples(Generic[AnyExample]):
    """The examples of a call.

    Attributes:
        examples: At least one.
        is_single: True where one example was given by itself, not in a sequence.
        modality: "text" or "image".
    """

    examples: Sequence[AnyExample]
    is_single: bool
    modality: str

    @cached_property
    def labels(self) -> ExampleLabels:
        """The names that errors give the examples."""
        return ExampleLabels([example.text for example in self.examples], self.modality)


@dataclass(frozen=True)
class ContinuedText(Generic[AnyExample]):
    """A text with its continuation.

    Attributes:
        text: Prompt and continuation.
        start: Index of the continuation's first token.
        ids: Token ids of the continuation.
    """

    text: AnyExample
    start: int
    ids: list[int]


class ModelInputs(Protocol[AnyExample]):
    """Reads the examples of a call for one model, and turns them into what the model takes.

    Attributes:
        model: The model.
        task: The task of the model.
        tokenizer: Its tokenizer, or None.
        pooling: The pooling by which it embeds texts, if it does.
    """

    model: Any
    task: Task
    tokenizer: Any
    pooling: str

    def read(self, given: Given) -> ReadExamples[AnyExample]:
        """Read what the call gave of this modality; `Given.check_modality` refuses the other."""

    def with_prompt(self, example: AnyExample) -> AnyExample:
        """Return the example with the tokens that its model generates after, if any."""

    def continued(self, example: AnyExample, continuation: str | int) -> ContinuedText[AnyExample]:
        """Append a continuation: given as text, or so many generated tokens.

        Raises:
            InputError: There is none, it is too long, or the model reads images.
        """

    def collate(self, examples: Sequence[AnyExample]) -> dict[str, Tensor]:
        """The model's inputs for a batch, on its device."""

    def places(self, example: AnyExample, inputs: Mapping[str, Tensor]) -> list[int]:
        """Index of each token of the example among the nodes of its batch."""

    def baseline(self, examples: Sequence[AnyExample], inputs: Mapping[str, Tensor]) -> Tensor:
        """The batch with every ordinary token, or every patch, replaced by a neutral one."""

    def check_nodes(self, example: AnyExample, nodes: int) -> None:
        """Check that the model turned the example into as many nodes as it has tokens."""
