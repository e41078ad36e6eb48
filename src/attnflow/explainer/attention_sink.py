"""The attention sink: the first token that a decoder reads, and a policy for its score.

Trained decoders rest their attention on the first token where there is nothing to attend to (the
attention sink of Xiao et al. 2024). In a causal network more paths lead to early tokens than to
late ones: C(p - j + L - 1, L - 1) from position p down L layers to token j. So the score of the
first token may mean less than that of another token. A policy decides what a result does about it:

    keep      scored and ranked like any other token
    exclude   no flow may end there: it ends at other tokens, or is lost
    apart     scored, but excluded from ranking and shares

`path_null` is the share that paths alone give to each token, to compare with, in a decoder of one
stack and in an encoder-decoder. Read next: flows.py, attribution_builder.py.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attnflow.capture import ONE_STACK, StackLayout
from attnflow.inputs.example import Example
from attnflow.inputs.text import EncodedText
from attnflow.models.tasks import Task

RESIDUAL = 0.5  # of a layer, as Abnar & Zuidema (2020) take it


def first_token(task: Task, example: Example) -> int:
    """Index of the first token that the decoder reads, after an encoder's source."""
    return example.sides[0] if task.has_two_stacks else 0


def exclude_from_ranking(text: EncodedText, index: int) -> EncodedText:
    """The text with one more token that is not ranked."""
    special, words = list(text.special), list(text.word_ids)
    special[index], words[index] = True, None
    return replace(text, special=tuple(special), word_ids=tuple(words))


def path_null(
    t: int,
    layers: int,
    position: int | Sequence[int],
    *,
    residual: float = RESIDUAL,
    stacks: StackLayout = ONE_STACK,
) -> NDArray[np.float64]:
    """`(t,)` shares, summing to 1, of the flow of a uniform network: what paths alone give.

    In this network every token attends alike to all tokens that it sees, and has its own residual
    stream. A decoder's token sees itself and all before it, and through cross-attention the whole
    source; a source's token sees the whole source. The capacity of an edge is the flow that arrives
    there, so that its one maximum flow fills every edge.

    In an encoder-decoder with D layers in the decoder the source gets 1 - residual^D in all, the
    same for each of its tokens. The prefix gets the rest, shared out as in a decoder of one stack
    with D layers. Without residual edges nothing stays in the prefix.

    Args:
        t: Number of tokens; in an encoder-decoder the source's and then the prefix's.
        layers: Number of layers of the network, one for each call of attention.
        position: The node of the top row where the flow begins, or several alike.
        residual: Part of each layer that stays with its token, inside [0, 1].
        stacks: The order of the layers of an encoder and a decoder.
    """
    positions = np.atleast_1d(position)
    # Sources are counted as often as they are read: a span reads each of its positions once.
    shares: NDArray[np.float64] = np.bincount(positions, minlength=t) / len(positions)
    for layer in reversed(range(layers)):
        shares = _passed_down(shares, layer, residual, stacks)
    return shares


def _passed_down(
    shares: NDArray[np.float64], layer: int, residual: float, stacks: StackLayout
) -> NDArray[np.float64]:
    """`(t,)` shares below a layer: its queries pass theirs to the keys, other nodes keep theirs.

    capture/stacking.py gives the queries and keys of each layer.
    """
    queries, keys = stacks.place(layer, len(shares))
    below, passed = shares.copy(), shares[queries]
    below[queries] = residual * passed
    if queries == keys and layer >= stacks.encoder:  # causal: token i gives 1 / (i + 1) to each
        to_each = passed / np.arange(1, len(passed) + 1)
        below[keys] += (1 - residual) * np.cumsum(to_each[::-1])[::-1]
    else:
        below[keys] += (1 - residual) * passed.sum() / len(below[keys])
    return below
