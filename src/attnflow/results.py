"""From captures to flows, and from examples and flows to what an attribution says of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from attnflow import readouts, spans
from attnflow.attention_sink import ONE_STACK, RESIDUAL, first_token, path_null, set_apart
from attnflow.attribution import Attribution
from attnflow.capture import Capture, Stacks
from attnflow.choices import Choices
from attnflow.coarsening import Coarsened
from attnflow.decisions import Decision
from attnflow.errors import UnsolvedError
from attnflow.network import LayeredNetwork, layered_network
from attnflow.patches import EncodedImage
from attnflow.solver import Flow, maximum_flow
from attnflow.tasks import Task
from attnflow.tokens import EncodedText


def flows(
    captured: Capture,
    excluded: Sequence[int] | None = None,
    *,
    gap: float,
    mu: float | None,
    max_memory: float | None = None,
) -> tuple[Flow[Tensor], Flow[Tensor]]:
    """The flows that scores are read from, and those of the whole networks.

    Args:
        captured: A network for each text.
        excluded: Of each text the token where no flow may end; None: both flows are the same.
        gap: As for `maximum_flow`.
        mu: As for `maximum_flow`.
        max_memory: As for `maximum_flow`.
    """
    network = _network(captured)
    raw = maximum_flow(network, gap=gap, mu=mu, max_memory=max_memory)
    if excluded is None:
        return raw, raw
    sinks = network.sinks.clone()
    for row, token in enumerate(excluded):
        sinks[row, captured.mask[row].nonzero()[token, 0]] = False
    network = replace(network, sinks=sinks)
    return maximum_flow(network, gap=gap, mu=mu, max_memory=max_memory), raw


def _network(captured: Capture) -> LayeredNetwork:
    """All tokens may be sinks: where nothing can flow the capacities say so."""
    # The solver needs float64, which Apple's devices do not have.
    place = "cpu" if captured.mask.device.type == "mps" else captured.mask.device
    mask = captured.mask.to(place)
    return layered_network(captured.capacities.to(place), captured.sources.to(place), mask)


def told(
    tokenizer: Any,
    choosing: Callable[[Any], Choices],
    captured: Capture,
    row: int,
    example: EncodedText | EncodedImage,
    decision: Decision,
) -> dict[str, Any]:
    """What a result says of the decision."""
    wanted = [int(captured.target[row])]
    wanted += [] if decision.against is None else [decision.against]
    read = readouts.array(captured.logits[row])
    if decision.tokens:
        labels, logits, places = spans.shown(tokenizer, decision.tokens, read)
    else:
        labels, logits, places = choosing(example).shown(read, wanted)
    return {
        "position": decision.position,
        "span": decision.span,
        "target": places[0],
        "against": places[1] if len(places) > 1 else None,
        "labels": labels,
        "logits": logits,
    }


def placed(example: Coarsened | EncodedImage, task: Task, policy: str) -> dict[str, Any]:
    """What a result says of the text or image."""
    return _image(example) if isinstance(example, EncodedImage) else _text(example, task, policy)


def _image(image: EncodedImage) -> dict[str, Any]:
    return {
        "text": image.text,
        "tokens": image.tokens,
        "offsets": ((0, 0),) * len(image.tokens),
        "special": np.array(image.special, dtype=np.bool_),
        "word_ids": (None,) * len(image.tokens),
        "image": image.image,
        "grid": image.grid,
        "box": image.box,
    }


def _text(coarsened: Coarsened, task: Task, policy: str) -> dict[str, Any]:
    """Its tokens, or its segments in their place."""
    text = coarsened.shown
    first = coarsened.segment_of(first_token(task, coarsened.text))
    if policy == "apart":
        text = set_apart(text, first)
    return {
        "text": text.text,
        "tokens": text.tokens,
        "offsets": text.offsets,
        "special": np.array(text.special),
        "word_ids": text.word_ids,
        "truncated": text.truncated,
        "segments": coarsened.segments,
        "message_ids": text.message_ids,
        "roles": text.roles,
        "attention_sink": policy,
        "source_tokens": first,
    }


def flowed(
    flow: Flow[Tensor], raw: Flow[Tensor], row: int, mask: Tensor, readout: str, edges: bool
) -> dict[str, Any]:
    """What a result says of the flow, through the tokens of `mask`, `(t,)` bool."""
    real = mask.nonzero()[:, 0].to(flow.sink.device)
    own = real.cpu().numpy()
    return {
        "scores": readouts.scores(flow, row, readout)[own],
        "raw_scores": None if raw is flow else readouts.scores(raw, row, readout)[own],
        "readout": readout,
        "certificate": readouts.certificate(flow, row),
        "edges": readouts.array(flow.edges[row][:, real][:, :, real]) if edges else None,
    }


def null(task: Task, decision: Decision, captured: Capture, row: int, tensor: str) -> Any:
    """`(t,)` shares that the paths of a decoder alone would give; None of other models."""
    if not task.writes or decision.position is None:
        return None
    layers, t = captured.capacities.shape[1], int(captured.mask[row].sum())
    read = [decision.position + i for i in range(max(len(decision.tokens), 1))]
    # The paper's tensors have no residual edges.
    residual = RESIDUAL if tensor in ("cf", "bcf") else 0.0
    return path_null(t, layers, read, residual=residual, stacks=_stacks(captured, row))


def _stacks(captured: Capture, row: int) -> Stacks:
    """How the layers of a captured text lie on each other, without its batch's padding."""
    if captured.carried is None:
        return ONE_STACK
    source = captured.carried[-1]  # the layer on top moves the prefix
    encoder = captured.carried[:, -1].sum()
    return Stacks(int(encoder), int((captured.mask[row] & source).sum()))


def check_certified(attributions: Sequence[Attribution]) -> None:
    """Every flow is proven.

    Raises:
        UnsolvedError: One is not.
    """
    bad = [i for i, a in enumerate(attributions) if not a.certificate.is_certified]
    if bad:
        shown = ", ".join(f"{i} ({attributions[i].certificate.status})" for i in bad[:5])
        raise UnsolvedError(
            f"{len(bad)} of {len(attributions)} flows could not be certified: number {shown}. Ask "
            "for a larger gap, or for the results as they are (keep_unsolved=True)."
        )
