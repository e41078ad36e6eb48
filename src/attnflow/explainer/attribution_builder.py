"""From captures to flows, and from examples and flows to what an attribution says of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from attnflow.attribution.attribution import Attribution
from attnflow.capture import ONE_STACK, Capture, Stacks
from attnflow.errors import UnsolvedError
from attnflow.explainer import scores
from attnflow.explainer.attention_sink import RESIDUAL, first_token, path_null, set_apart
from attnflow.explainer.coarsening import Coarsened, decided
from attnflow.explainer.options import FlowOptions
from attnflow.explainer.request import Row
from attnflow.explainer.targets.decision import Decision
from attnflow.explainer.targets.output_space import Choices
from attnflow.explainer.targets.span import shown_span
from attnflow.inputs.image import EncodedImage
from attnflow.inputs.text import EncodedText
from attnflow.models.tasks import Task
from attnflow.solver import Flow, maximum_flow
from attnflow.solver.network import LayeredNetwork, layered_network


class Results:
    """Makes the attributions of one call from its captures.

    Attributes:
        tokenizer: The model's, or None.
        task: The model's.
        choosing: What there is to choose from, of each example.
        model: What results call the model.
        options: Of the call, those of the flow.
    """

    def __init__(
        self,
        tokenizer: Any,
        task: Task,
        choosing: Callable[[Any], Choices],
        model: str,
        options: FlowOptions,
    ) -> None:
        self.tokenizer, self.task, self.choosing = tokenizer, task, choosing
        self.model, self.options = model, options

    def __call__(
        self,
        captured: Capture,
        examples: Sequence[Coarsened | EncodedImage],
        rows: Sequence[Row],
        room: float | None,
    ) -> list[Attribution]:
        """Of a batch: the flows of its captures, and what each says.

        Args:
            captured: A network for each example.
            examples: With their segments.
            rows: The same as they are read, with their decisions.
            room: Bytes that the solver may take, or None.
        """
        flow, raw = self._flows(captured, examples, room)
        found = []
        for i, (merged, (example, decision)) in enumerate(zip(examples, rows, strict=True)):
            decision = decided(merged, decision)
            found.append(
                Attribution(
                    **self._told(captured, i, example, decision),
                    **_placed(merged, self.task, self.options.attention_sink),
                    **self._flowed(flow, raw, i, captured.mask[i]),
                    null_shares=self._null(decision, captured, i),
                    tensor=self.options.tensor,
                    task=self.task.name,
                    model=self.model,
                )
            )
        return found

    def _flows(
        self,
        captured: Capture,
        examples: Sequence[Coarsened | EncodedImage],
        room: float | None,
    ) -> tuple[Flow[Tensor], Flow[Tensor]]:
        """The flows that scores are read from, and those of the whole networks."""
        solve = partial(maximum_flow, gap=self.options.gap, mu=self.options.mu, max_memory=room)
        network = _network(captured)
        raw = solve(network)
        if self.options.attention_sink != "exclude":
            return raw, raw
        sinks = network.sinks.clone()
        for row, one in enumerate(examples):
            if isinstance(one, Coarsened):  # a policy of texts alone
                first = one.segment_of(first_token(self.task, one.text))
                sinks[row, captured.mask[row].nonzero()[first, 0]] = False
        return solve(replace(network, sinks=sinks)), raw

    def _told(
        self, captured: Capture, row: int, example: EncodedText | EncodedImage, decision: Decision
    ) -> dict[str, Any]:
        """What a result says of the decision."""
        wanted = [int(captured.target[row])]
        wanted += [] if decision.against is None else [decision.against]
        read = scores.array(captured.logits[row])
        if decision.tokens:
            labels, logits, places = shown_span(self.tokenizer, decision.tokens, read)
        else:
            labels, logits, places = self.choosing(example).shown(read, wanted)
        return {
            "position": decision.position,
            "span": decision.span,
            "target": places[0],
            "against": places[1] if len(places) > 1 else None,
            "labels": labels,
            "logits": logits,
        }

    def _flowed(
        self, flow: Flow[Tensor], raw: Flow[Tensor], row: int, mask: Tensor
    ) -> dict[str, Any]:
        """What a result says of the flow, through the tokens of `mask`, `(t,)` bool."""
        readout = self.options.readout
        real = mask.nonzero()[:, 0].to(flow.sink.device)
        own = real.cpu().numpy()
        edges = self.options.edges
        return {
            "scores": scores.scores(flow, row, readout)[own],
            "raw_scores": None if raw is flow else scores.scores(raw, row, readout)[own],
            "readout": readout,
            "certificate": scores.certificate(flow, row),
            "edges": scores.array(flow.edges[row][:, real][:, :, real]) if edges else None,
        }

    def _null(self, decision: Decision, captured: Capture, row: int) -> Any:
        """`(t,)` shares that paths alone would give; None where no token is written."""
        if not self.task.writes or decision.position is None:
            return None
        layers, t = captured.capacities.shape[1], int(captured.mask[row].sum())
        read = [decision.position + i for i in range(max(len(decision.tokens), 1))]
        # The paper's tensors have no residual edges.
        residual = RESIDUAL if self.options.tensor in ("cf", "bcf") else 0.0
        return path_null(t, layers, read, residual=residual, stacks=_stacks(captured, row))


def _network(captured: Capture) -> LayeredNetwork:
    """All tokens may be sinks: where nothing can flow the capacities say so."""
    # The solver needs float64, which Apple's devices do not have.
    place = "cpu" if captured.mask.device.type == "mps" else captured.mask.device
    mask = captured.mask.to(place)
    return layered_network(captured.capacities.to(place), captured.sources.to(place), mask)


def _placed(example: Coarsened | EncodedImage, task: Task, policy: str) -> dict[str, Any]:
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
