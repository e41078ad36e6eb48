"""Model passes: a batch of requests becomes a capture, one network of capacities for each.

1. The inputs collate the examples into what the model takes.
2. The requests' decisions become one objective: the number of the output to differentiate.
3. `capture` runs the model forward and backward, for `bcf` once in every stage of removal.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from attnflow.capture import (
    FROZEN,
    HiddenTokens,
    Objective,
    Stage,
    balanced,
    captured_stages,
    captures,
    product_rules,
    removal_of,
    staged_capture,
)
from attnflow.capture.capture import Effects, clip, record
from attnflow.capture.objectives import (
    LogitsReader,
    Scalar,
    answers,
    class_logits,
    contrast,
    logit,
    logits_at,
    number,
    similarity,
    versus,
)
from attnflow.capture.token_removal import Removal, can_hide
from attnflow.explainer.coarsening import batch_segments
from attnflow.explainer.options import CallOptions
from attnflow.explainer.request import Request, Requests
from attnflow.explainer.targets.decision import Decision, self_contrast
from attnflow.explainer.targets.output_space import answer_tokens
from attnflow.explainer.targets.span import span_reading
from attnflow.inputs import batching
from attnflow.inputs.example import ModelInputs
from attnflow.inputs.per_example import one_for_each
from attnflow.models.pooling import embeddings, pooled
from attnflow.models.tasks import Task


def can_share_pass(model: Any, task: Task, target: Any) -> bool:
    """Return whether one forward pass may read several examples."""
    if not task.pads_batches:
        return True
    # A classifier that is a decoder and knows no padding cannot tell where a padded text ends, and
    # a function of the user's might read there.
    knows_padding = batching.pad_token_id(model.config) is not None
    return (task.readout_position != "model" or knows_padding) and not callable(target)


def hides_tokens(model: Any, task: Task, target: Any) -> bool:
    """Return whether stages of "net" hide tokens from the model, instead of replacing them."""
    # A decoder of one stack was trained on texts of any length, and on no token that says nothing;
    # encoders have [MASK] for that. Measured in docs/results/language-models.md.
    # Nobody knows where a function reads, so that its tokens cannot be hidden: they are replaced.
    return task.is_generative and not callable(target) and can_hide(model)


def run_model(
    inputs: ModelInputs[Any], requests: Sequence[Request], options: CallOptions
) -> Iterator[Stage]:
    """Return the stages of a batch, each with a row of capacities for each request.

    Only "net" has more than one: the others are captured once, or as the mean over their stages.
    A stage is captured when it is asked for. One forward pass reads all examples. An example that
    all requests are about is read once.
    """
    merged = [request.merged for request in requests]
    is_shared = len(merged) > 1 and all(example is merged[0] for example in merged)
    # Padding is on the right: positions stay those of the text alone, in every family.
    tensors = inputs.collate([request.example for request in requests])
    segments = batch_segments(merged, tensors)
    objective = _objective(inputs, requests, tensors, options)
    if options.tensor == "net":
        # One stage needs no token to replace others, and patches may overlap.
        staged = bool(options.removed)
        return captured_stages(
            inputs.model,
            tensors,
            _removal(inputs, requests, tensors, objective) if staged else None,
            objective,
            removed=options.removed,
            rules=product_rules(inputs.model, options.pattern),
            segments=segments,
            # Later stages remove other tokens for each decision; the whole text is the same.
            whole=_shared_effects(inputs, requests, options) if is_shared else None,
        )
    if options.tensor == "bcf":
        baseline = _baseline(inputs, requests, tensors, objective)
        capture = staged_capture(inputs.model, tensors, baseline, objective, segments=segments)
        # Balanced last: the stages' means have to be taken of effects in the model's own units.
        capacities = balanced(capture.capacities, capture.passthrough)
        capture = replace(capture, capacities=capacities)
    elif is_shared:
        capture = clip(_shared_effects(inputs, requests, options))
    else:
        (capture,) = captures(
            inputs.model, tensors, [objective], tensor=options.tensor, segments=segments
        )
    return iter([Stage(replace(capture, signed=None), capture.mask)])


def _shared_effects(
    inputs: ModelInputs[Any], requests: Sequence[Request], options: CallOptions
) -> Effects:
    """Effects of one forward pass of one example, and a backward pass for each request."""
    tensors = inputs.collate([requests[0].example])
    is_net = options.tensor == "net"
    rows = record(
        inputs.model,
        tensors,
        [_objective(inputs, [request], tensors, options) for request in requests],
        tensor="cf" if is_net else options.tensor,
        rules=product_rules(inputs.model, options.pattern) if is_net else FROZEN,
        segments=batch_segments([requests[0].merged], tensors),
    )
    names = [f.name for f in fields(Effects) if f.name != "passthrough"]
    values = {name: [getattr(row, name) for row in rows] for name in names}
    joined = {name: None if row[0] is None else torch.cat(row) for name, row in values.items()}
    return Effects(**joined, passthrough=rows[0].passthrough)  # type: ignore[arg-type]


def _objective(
    inputs: ModelInputs[Any],
    requests: Sequence[Request],
    tensors: dict[str, Tensor],
    options: CallOptions,
) -> Objective:
    """The number of the model's output that each request explains."""
    # All requests of a call are of one kind, so that the first has the kind of all.
    decisions = [request.decision for request in requests]
    if decisions[0].value is not None:
        return Objective(read=number(decisions[0].value))
    explained = _explained(decisions, options)
    if decisions[0].tokens:
        return _span_objective(inputs, requests, tensors, explained)
    target = torch.tensor(
        [-1 - d.rank if d.target is None else d.target for d in decisions], dtype=torch.int64
    )
    if decisions[0].position is None:
        return Objective(target, explained, _reading(inputs, requests, tensors, options))
    nodes = [
        inputs.places(request.example, tensors)[request.decision.position]
        for request in requests
        if request.decision.position is not None
    ]
    position = torch.tensor(nodes)
    return Objective(target, explained, logits_at(position - _first_output(tensors)), position)


def _explained(decisions: Sequence[Decision], options: CallOptions) -> Scalar:
    """The logit of the target, or the log-odds, or the difference to the contrasted logits."""
    explained: Scalar = contrast if options.explains_log_odds else logit
    against = _indices([decision.against for decision in decisions])
    return versus(against, explained) if bool((against >= 0).any()) else explained


def _indices(indices: Sequence[int | None]) -> Tensor:
    """`(batch,)` int64, -1 where there is none."""
    return torch.tensor([-1 if index is None else index for index in indices])


def _span_objective(
    inputs: ModelInputs[Any],
    requests: Sequence[Request],
    tensors: dict[str, Tensor],
    explained: Scalar,
) -> Objective:
    """One number for each span; a shorter span repeats its last position, which counts once."""
    # A tensor needs rows of one length; -1 marks a token that does not count.
    longest = max(len(request.decision.tokens) for request in requests)
    nodes, tokens = [], []
    for request in requests:
        decision = request.decision
        count, missing = len(decision.tokens), longest - len(decision.tokens)
        places = inputs.places(request.example, tensors)[decision.position :][:count]
        nodes.append([*places, *places[-1:] * missing])
        tokens.append([*decision.tokens, *[-1] * missing])
    position = torch.tensor(nodes)
    read = span_reading(position - _first_output(tensors), torch.tensor(tokens), explained)
    return Objective(torch.zeros(len(nodes), dtype=torch.int64), logit, read, position)


def _reading(
    inputs: ModelInputs[Any],
    requests: Sequence[Request],
    tensors: dict[str, Tensor],
    options: CallOptions,
) -> LogitsReader:
    """The reading of a model that decides about whole examples."""
    examples = [request.example for request in requests]
    if inputs.task.output_kind == "answer":
        # Answers lie in the second text; a run that begins in the question is none.
        allowed = torch.zeros(tensors["input_ids"].shape, dtype=torch.bool)
        for row, text in enumerate(examples):
            allowed[row, answer_tokens(text)] = True
        return answers(allowed)
    if not inputs.task.embeds_texts:
        return class_logits
    # The other text is a constant: its embedding is computed once, and not differentiated.
    compared = inputs.collate([text.compared for text in examples])
    others = embeddings(inputs.model, inputs.pooling, compared)
    pool = pooled(inputs.pooling, tensors)
    return similarity(others, pool, frozen=options.is_conservative)


def _removal(
    inputs: ModelInputs[Any],
    requests: Sequence[Request],
    tensors: Mapping[str, Tensor],
    objective: Objective,
) -> Removal:
    """The way in which stages of "net" remove nodes: hidden from a decoder, replaced elsewhere."""
    if hides_tokens(inputs.model, inputs.task, requests[0].decision.value):
        texts = [request.example for request in requests]
        kept = _kept(inputs, tensors, objective, readout_kept=True)
        removable = batching.ordinary_nodes(texts, tensors) & ~kept
        return HiddenTokens.of(inputs.model, tensors, removable)
    baseline = _baseline(inputs, requests, tensors, objective, readout_kept=True)
    return removal_of(inputs.model, tensors, baseline)


def _baseline(
    inputs: ModelInputs[Any],
    requests: Sequence[Request],
    tensors: Mapping[str, Tensor],
    objective: Objective,
    *,
    readout_kept: bool = False,
) -> Tensor:
    """The batch with nothing in it that could be removed."""
    baseline = inputs.baseline([request.example for request in requests], tensors)
    if objective.position is None:
        return baseline
    kept = _kept(inputs, tensors, objective, readout_kept=readout_kept)
    return baseline.where(~kept, batching.token_ids(tensors))


def _kept(
    inputs: ModelInputs[Any],
    tensors: Mapping[str, Tensor],
    objective: Objective,
    *,
    readout_kept: bool,
) -> Tensor:
    """`(batch, nodes)` bool, true at nodes that stay because of the position that is read."""
    kept = torch.zeros_like(batching.real_nodes(tensors))
    if objective.position is None:
        return kept
    read = objective.position.to(kept.device).view(len(kept), -1)
    if readout_kept or not inputs.task.is_generative:
        # The mask to be filled, or the token that a decoder is read at: what remains would be read
        # at another position.
        kept = kept.scatter(1, read, True)
    if inputs.task.is_generative:  # tokens after the last one read are not seen
        kept = kept | (torch.arange(kept.shape[1], device=kept.device) > read.amax(1, keepdim=True))
    return kept


def _first_output(tensors: Mapping[str, Tensor]) -> int:
    """The node of the first output: the prefix's first in an encoder-decoder, else 0."""
    return tensors["input_ids"].shape[1] if "decoder_input_ids" in tensors else 0


def check_stage(
    inputs: ModelInputs[Any], requests: Requests, indices: Sequence[int], stage: Stage
) -> Stage:
    """Return a stage; raise if it shows what only the model's reading of a batch can show.

    Args:
        inputs: The inputs of the model.
        requests: The requests of the call.
        indices: Those of the batch.
        stage: A stage of the batch; all of them explain the same targets.

    Raises:
        InputError: A decision is contrasted with itself, since the model predicts the contrast.
        ModelError: The model turned an image into other tokens than its patches.
    """
    # The contrast is quoted as the user gave it, not as an index.
    contrasts = one_for_each(requests.against, len(requests), "against")
    for i, predicted in zip(indices, stage.capture.target.tolist(), strict=True):
        request = requests.requests[i]
        if request.decision.against == predicted:
            example = requests.example_indices[i]
            raise requests.labels.named(example, self_contrast(contrasts[i]))
        inputs.check_nodes(request.example, stage.capture.mask.shape[1])
    return stage
