"""The first token of a text that a decoder reads: how much falls to it, and what to make of that.

Trained decoders rest their attention on the first token where there is nothing to attend to (the
attention sink of Xiao et al. 2024), and in a causal network more paths lead to early tokens than to
late ones: C(p - j + L - 1, L - 1) from position p down L layers to token j. So its score may say
less than that of another token. A policy says what a result does about it:

    keep      it is a token like any other
    exclude   no flow may end at it: what would have ended there goes elsewhere, or is not there
    apart     it has its score, and like a special token no rank and no share

`path_null` is what the paths alone would give, to compare with, in a decoder of one stack and in an
encoder-decoder. Read next: results.py.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attnflow.capture import ONE_STACK, Stacks
from attnflow.errors import InputError
from attnflow.inputs.text import EncodedText
from attnflow.models.tasks import Task

POLICIES = ("keep", "exclude", "apart")
RESIDUAL = 0.5  # of a layer, as Abnar & Zuidema (2020) take it


def check_policy(policy: str, task: Task) -> None:
    """There is such a policy, and the model has a first token that it reads.

    Raises:
        InputError: There is none, or it has none.
    """
    if policy not in POLICIES:
        raise InputError(f"attention_sink must be one of {', '.join(POLICIES)}, got {policy!r}.")
    if policy != "keep" and not task.writes:
        raise InputError(
            f"attention_sink {policy!r} is for models that read from the left and write; this one "
            f"is for {task.name}."
        )


def first_token(task: Task, text: EncodedText) -> int:
    """Index of the first token that the decoder reads, behind an encoder's source."""
    return len(text.inputs["input_ids"]) if task.reads == "prefix" else 0


def set_apart(text: EncodedText, index: int) -> EncodedText:
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
    stacks: Stacks = ONE_STACK,
) -> NDArray[np.float64]:
    """`(t,)` shares, summing to 1, of the flow of a uniform network: what paths alone give.

    In it every token attends to all that it may see alike, and carries its own residual stream. A
    decoder's token sees itself and all before it, and through cross-attention the whole source; a
    source's token sees the whole source. What an edge can carry is what arrives there, so that its
    one maximum flow fills every edge.

    Of an encoder-decoder with s source tokens and D layers in the decoder that gives the source
    1 - residual^D in all, the same to each of its tokens, and the prefix the rest, as a decoder of
    one stack with D layers would share it out. Without residual edges nothing stays in the prefix.

    Args:
        t: Tokens; of an encoder-decoder the source's and then the prefix's.
        layers: Layers of the network, one for each call of attention.
        position: The node of the top row where the flow begins, or several alike.
        residual: Part of each layer that stays with its token, inside [0, 1].
        stacks: How the layers lie on each other.
    """
    positions = np.atleast_1d(position)
    shares: NDArray[np.float64] = np.bincount(positions, minlength=t) / len(positions)
    for layer in reversed(range(layers)):
        shares = _handed_on(shares, layer, residual, stacks)
    return shares


def _handed_on(
    shares: NDArray[np.float64], layer: int, residual: float, stacks: Stacks
) -> NDArray[np.float64]:
    """`(t,)` shares below a layer: its queries have handed theirs on, the others have kept them.

    How the layers lie is told by capture/layers.py.
    """
    queries, keys = stacks.place(layer, len(shares))
    found, handed = shares.copy(), shares[queries]
    found[queries] = residual * handed
    if queries == keys and layer >= stacks.encoder:  # causal: token i gives 1 / (i + 1) to each
        each = handed / np.arange(1, len(handed) + 1)
        found[keys] += (1 - residual) * np.cumsum(each[::-1])[::-1]
    else:
        found[keys] += (1 - residual) * handed.sum() / len(found[keys])
    return found
