"""Sizes of the examples of a call: tokens that a model reads, nodes of the flow, pixels.

They are known before anything runs, and all that an estimate of memory needs to know of examples.
Read next: estimate.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from attnflow.checks import is_integer
from attnflow.errors import InputError, shown
from attnflow.explainer.coarsening import Coarsened, merge
from attnflow.explainer.options import Coarsen
from attnflow.inputs.chat import listed
from attnflow.inputs.example import ModelInputs
from attnflow.inputs.given import Given

LONGEST_TEXT = 10**9  # tokens; their numbers stay far inside float64
SINGLE_TOKENS = 4  # in no segment: special tokens, and the one that is read


@dataclass(frozen=True)
class ExampleSize:
    """The size of one example.

    Attributes:
        sides: Tokens in each stack of the model, one number or two; of an image its patches and
            the tokens before them.
        nodes: Nodes in a layer of its flow: tokens or segments.
        pixel_shape: `(channels, height, width)` of an image as the model reads it; else ().
        kept: Bytes of an image, which stay allocated until the end of the call.
    """

    sides: tuple[int, ...]
    nodes: int
    pixel_shape: tuple[int, ...] = ()
    kept: int = 0

    @property
    def tokens(self) -> int:
        """Tokens in all stacks."""
        return sum(self.sides)

    @classmethod
    def of(cls, coarsened: Coarsened) -> "ExampleSize":
        """Return the size of an example with its segments."""
        example = coarsened.example
        return cls(example.sides, coarsened.nodes, example.pixel_shape, example.nbytes)

    @classmethod
    def of_length(cls, tokens: int, coarsen: Coarsen, *, has_two_stacks: bool) -> "ExampleSize":
        """Return the size of a text of so many tokens; an encoder-decoder's prefix is one token.

        Raises:
            InputError: There is no token, or a unit is given that only a text has.
        """
        if not 1 <= tokens <= LONGEST_TEXT:
            raise InputError(f"a text has 1 to {LONGEST_TEXT} tokens, got {shown(tokens)}.")
        if isinstance(coarsen, str):
            raise InputError(
                f"how many {coarsen}s tokens make is known of texts alone: give texts."
            )
        # A length says nothing about special tokens: the usual number counts as single.
        nodes = tokens if coarsen is None else min(tokens, -(-tokens // coarsen) + SINGLE_TOKENS)
        return cls((tokens, 1) if has_two_stacks else (tokens,), nodes + has_two_stacks)


def group_by_length(sizes: Sequence[ExampleSize], most: int) -> list[list[int]]:
    """Return indices in batches of at most `most`, longest first; images of a batch have one shape.

    Memory then runs out in the first batch or not at all.
    """
    # Similar lengths in one batch waste little padding.
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i].tokens, sizes[i].pixel_shape))
    batches: list[list[int]] = []
    for _, alike in groupby(order, key=lambda i: sizes[i].pixel_shape):
        indices = list(alike)
        batches += [indices[start : start + most] for start in range(0, len(indices), most)]
    return batches


def sizes_of(inputs: ModelInputs[Any], given: Given, coarsen: Coarsen) -> list[ExampleSize]:
    """Return the sizes of the examples of a call, or of texts of so many tokens.

    Args:
        inputs: The inputs of the model.
        given: The examples; `texts` may be a number of tokens, or a sequence of numbers.
        coarsen: The option of `Explainer.__call__`.

    Raises:
        InputError: As `ModelInputs.read`; or there are both texts and numbers.
        ModelError, StorageError: As `ModelInputs.read`.
    """
    given.check_modality(inputs.model, inputs.task)
    texts = listed(given.texts)
    lengths = [int(n) for n in texts if is_integer(n)]
    if not lengths:
        read = inputs.read(given if given.texts is None else replace(given, texts=texts))
        examples = [inputs.with_prompt(example) for example in read.examples]
        if coarsen is None:
            return [ExampleSize.of(Coarsened(example)) for example in examples]
        return [ExampleSize.of(merge(example, coarsen)) for example in examples]
    if len(lengths) < len(texts):
        raise InputError("give texts or numbers of tokens, and not both.")
    two = inputs.task.has_two_stacks
    return [ExampleSize.of_length(n, coarsen, has_two_stacks=two) for n in lengths]
