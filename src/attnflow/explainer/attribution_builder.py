"""Attributions: example, decision, capture and flow of each request, assembled into a result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnflow.attribution import Attribution
from attnflow.capture import ONE_STACK, Effects, StackLayout, mean_present, signed_scores
from attnflow.explainer.attention_sink import (
    RESIDUAL,
    exclude_from_ranking,
    first_token,
    path_null,
)
from attnflow.explainer.flows import Flows
from attnflow.explainer.options import CallOptions
from attnflow.explainer.request import Request
from attnflow.explainer.scores import (
    as_array,
    certificate,
    stage_edges,
    stage_scores,
)
from attnflow.inputs.example import Example
from attnflow.inputs.text import EncodedText
from attnflow.models.tasks import Task
from attnflow.solver import Flow


@dataclass(frozen=True)
class AttributionBuilder:
    """Builds the attributions of one call.

    Attributes:
        task: The task of the model.
        model: The name that results give to the model.
        options: The options of the call.
        precision: Type of the model's weights.
        pattern: Attention's pattern in "net"; None for other tensors.
    """

    task: Task
    model: str
    options: CallOptions
    precision: str
    pattern: str | None = None

    def build(self, requests: Sequence[Request], flows: Flows) -> list[Attribution]:
        """Return the attribution of each request of a batch, from the flows of all stages."""
        return [self._build(i, request, flows) for i, request in enumerate(requests)]

    def _build(self, row: int, request: Request, flows: Flows) -> Attribution:
        example, options, whole = self._displayed(request), self.options, flows.whole
        # The model's pass knows the predicted class, which a decision without a target explains.
        wanted = [int(whole.target[row])]
        wanted += [] if request.decision.against is None else [request.decision.against]
        choices = request.space.top(as_array(whole.logits[row]), wanted)
        scored, raw, rows = flows.scored, flows.unrestricted, flows.rows(row)
        nodes = whole.mask[row].nonzero()[:, 0].to(scored.sink.device)
        real = nodes.cpu().numpy()  # nodes that are no padding

        def mean(values: Tensor) -> NDArray[np.float64]:
            return as_array(mean_present(values, flows.present[:, row]))[real]

        by_stage = stage_scores(scored, rows, options.readout)
        contributions = None if flows.contributions is None else flows.contributions[:, row]
        signed = None
        if contributions is not None:
            # The signs are those of the input nodes, whatever rows the scores are read from.
            signed = signed_scores(stage_scores(scored, rows, "input"), contributions)
        return Attribution(
            text=example.text,
            tokens=example.tokens,
            offsets=example.offsets,
            special=np.array(example.special, dtype=np.bool_),
            word_ids=example.word_ids,
            truncated=example.truncated,
            message_ids=example.message_ids,
            roles=example.roles,
            image=example.image,
            grid=example.grid,
            box=example.box,
            regions=example.regions or None,
            segments=request.merged.segments,
            position=request.node,
            span=request.span,
            target=choices.wanted[0],
            against=choices.wanted[1] if len(choices.wanted) > 1 else None,
            labels=choices.names,
            logits=choices.logits,
            scores=mean(by_stage),
            contributions=None if contributions is None else mean(contributions),
            signed_scores=None if signed is None else mean(signed),
            explained=float(whole.explained[row]),
            raw_scores=None if raw is None else mean(stage_scores(raw, rows, options.readout)),
            edges=_edges(scored, rows, flows.present[:, row], nodes) if options.edges else None,
            certificate=certificate(scored, rows),
            null_shares=self._null_shares(row, request, flows),
            readout=options.readout,
            tensor=options.tensor,
            stages=options.removed if options.tensor == "net" else None,
            pattern=self.pattern,
            attention_sink=options.attention_sink,
            source_tokens=self._first_node(request),
            task=self.task.name,
            model=self.model,
            precision=self.precision,
        )

    def _displayed(self, request: Request) -> Example:
        """The example with its segments, and with its first token as the policy has it."""
        example = request.merged.displayed
        if self.options.attention_sink != "apart":
            return example
        text = cast(EncodedText, example)  # a policy for texts alone
        return exclude_from_ranking(text, self._first_node(request))

    def _first_node(self, request: Request) -> int:
        """The node of the first token that the decoder reads."""
        return request.merged.segment_of(first_token(self.task, request.example))

    def _null_shares(self, row: int, request: Request, flows: Flows) -> NDArray[np.float64] | None:
        """`(t,)` shares that paths alone give; None where the model does not generate."""
        if not self.task.is_generative or request.node is None:
            return None
        t = int(flows.whole.mask[row].sum())
        # The flow of a span begins at every position that is read.
        sources = [request.node + i for i in range(max(len(request.decision.tokens), 1))]
        # The paper's tensors have no residual edges.
        residual = RESIDUAL if self.options.is_conservative else 0.0
        stacks = _stacks(flows.whole, row)
        return path_null(t, flows.layers, sources, residual=residual, stacks=stacks)


def _edges(
    flow: Flow[Tensor], rows: Sequence[int], present: Tensor, nodes: Tensor
) -> NDArray[np.float64]:
    """`(layers, t, t)` flow on the edges between nodes that are no padding."""
    edges = flow.edges[list(rows)]
    if len(edges) > 1:
        edges = stage_edges(edges, present.to(edges.device))[None]
    return as_array(edges[0][:, nodes][:, :, nodes])


def _stacks(effects: Effects, row: int) -> StackLayout:
    """The order of the layers of a captured text, without its batch's padding."""
    if effects.passthrough is None:
        return ONE_STACK
    source = effects.passthrough[-1]  # the layer on top moves the prefix
    encoder = effects.passthrough[:, -1].sum()
    return StackLayout(int(encoder), int((effects.mask[row] & source).sum()))
