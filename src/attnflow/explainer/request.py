"""Requests: every decision to explain with the example it is about.

A call gives examples (`Given`) and asks for a target (`TargetOptions`). The inputs read the
examples, and each decision about one becomes a request. There is one for each example, one for each
token of a continuation, or one for a span. Read next: coarsening.py, model_passes.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnflow.attribution import Attribution, Attributions, Results
from attnflow.explainer.attention_sink import first_token
from attnflow.explainer.coarsening import Coarsened, merge
from attnflow.explainer.options import Coarsen
from attnflow.explainer.targets.decision import (
    Decision,
    Rank,
    TargetOptions,
    check_generative,
    decide,
    decide_continuation,
    several_targets,
)
from attnflow.explainer.targets.output_space import OutputSpace, SpaceOf, Target
from attnflow.explainer.targets.span import SpanSpace, decide_span, spans_of
from attnflow.inputs.example import ModelInputs, ReadExamples
from attnflow.inputs.given import Given, wrong_modality
from attnflow.inputs.per_example import ExampleLabels, one_for_each
from attnflow.models.tasks import Task


@dataclass(frozen=True, eq=False)
class Request:
    """One decision to explain.

    Attributes:
        merged: The example, and its segments where tokens are merged.
        decision: The decision about it, in tokens.
        space: The output space of the decision.
    """

    merged: Coarsened
    decision: Decision
    space: OutputSpace

    @property
    def example(self) -> Any:
        """The example as it was read, in tokens."""
        return self.merged.example

    @property
    def node(self) -> int | None:
        """The node of the flow where the decision is read; None where the model itself reads it."""
        position = self.decision.position
        return None if position is None else self.merged.segment_of(position)

    @property
    def span(self) -> tuple[int, int] | None:
        """Half-open nodes of the tokens explained at once; tokens of a span are never merged."""
        if self.node is None or not self.decision.tokens:
            return None
        return self.node + 1, self.node + 1 + len(self.decision.tokens)


@dataclass(frozen=True)
class Requests:
    """All requests of a call, in the order of its examples.

    Attributes:
        requests: The requests.
        is_single: True where one example was given by itself.
        counts: Requests of each example, where one may have several; else None.
        labels: Names of the examples, for errors.
        against: The contrasts as the call gave them: one for all requests, or one for each.
        is_continued: True where the requests of an example are the tokens of a continuation, False
            where they are several targets.
    """

    requests: Sequence[Request]
    is_single: bool
    counts: Sequence[int] | None
    labels: ExampleLabels
    against: Any = None
    is_continued: bool = True

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def example_indices(self) -> list[int]:
        """Index of each request's example."""
        counts = [1] * len(self) if self.counts is None else self.counts
        return [i for i, count in enumerate(counts) for _ in range(count)]

    @property
    def logits_read(self) -> int | None:
        """Tokens at which a request reads logits, at most; None where a function reads them."""
        decisions = [request.decision for request in self.requests]
        if any(decision.value is not None for decision in decisions):
            return None
        return max((len(decision.tokens) for decision in decisions), default=0) or 1

    def coarsened(self, coarsen: Coarsen, task: Task) -> "Requests":
        """Return the requests with their tokens merged; requests about one text share it.

        What a decision reads or explains is not merged, nor is the first token that a decoder
        reads.
        """
        if coarsen is None:
            return self
        single: dict[int, set[int]] = {}
        for request in self.requests:
            decision = request.decision
            tokens = single.setdefault(id(request.merged), set())
            if task.is_generative:
                tokens.add(first_token(task, request.example))
            if decision.position is not None:
                end = decision.position + len(decision.tokens) + 1
                tokens.update(range(decision.position, end))
        texts = {id(request.merged): request.example for request in self.requests}
        merged = {key: merge(text, coarsen, single[key]) for key, text in texts.items()}
        requests = [
            replace(request, merged=merged[id(request.merged)]) for request in self.requests
        ]
        return replace(self, requests=requests)

    def regroup(
        self, attributions: Sequence[Attribution]
    ) -> Attribution | list[Attribution] | list[list[Attribution]]:
        """Return the attributions of the requests in the form that the examples were given in."""
        if self.counts is None:
            return attributions[0] if self.is_single else Results(attributions)
        rest = iter(attributions)
        groups: list[list[Attribution]] = [
            Results(next(rest) for _ in range(count)) for count in self.counts
        ]
        if self.is_continued:
            groups = [Attributions(group) for group in groups]
        return groups[0] if self.is_single else Results(groups)


def make_requests(
    inputs: ModelInputs[Any], given: Given, options: TargetOptions, space_of: SpaceOf
) -> Requests:
    """Read the examples of a call, and return a request for each decision about them.

    Raises:
        InputError, ModelError, StorageError: As `ModelInputs.read`, `decide` and `decide_span`.
    """
    given.check_modality(inputs.model, inputs.task)
    if inputs.task.modality == "image" and options.span is not None:
        raise wrong_modality(inputs.model, "image", "span")
    # Everything is read before anything runs: an error in the last example costs no passes.
    read = inputs.read(given)
    if options.span is not None:
        return _span_requests(inputs, read, given, options)
    if given.continuation is not None:
        return _continuation_requests(inputs, read, given.continuation, options, space_of)
    # An encoder-decoder decides on the first token of its own text where no other is given.
    prompts = [inputs.with_prompt(example) for example in read.examples]
    prompted = ReadExamples(prompts, read.is_single, read.modality)
    several = several_targets(space_of, prompted, options)
    if several is not None:
        return _target_requests(inputs, prompted, several, options, space_of)
    decisions = decide(inputs.task, space_of, prompted, inputs.tokenizer, options)
    requests = [
        Request(Coarsened(example), decision, space_of(example))
        for example, decision in zip(prompts, decisions, strict=True)
    ]
    return _collected(requests, read, against=options.against)


def _target_requests(
    inputs: ModelInputs[Any],
    read: ReadExamples[Any],
    several: Sequence[Sequence[Target | Rank]],
    options: TargetOptions,
    space_of: SpaceOf,
) -> Requests:
    """A request for each target of each example; those about one example share it."""
    contrasts = one_for_each(options.against, len(read.examples), "against")
    positions = one_for_each(options.position, len(read.examples), "position")
    requests, counts, against = [], [], []
    for i, example in enumerate(read.examples):
        whole, space = Coarsened(example), space_of(example)
        alone = ReadExamples([example], True, read.modality)
        with read.labels.about(i):
            for target in several[i]:
                rank = target.place if isinstance(target, Rank) else 0
                named = None if isinstance(target, Rank) else target
                asked = replace(options, target=named, against=contrasts[i], position=positions[i])
                (decision,) = decide(inputs.task, space_of, alone, inputs.tokenizer, asked)
                requests.append(Request(whole, replace(decision, rank=rank), space))
                against.append(contrasts[i])
        counts.append(len(several[i]))
    return replace(_collected(requests, read, counts, against), is_continued=False)


def _continuation_requests(
    inputs: ModelInputs[Any],
    read: ReadExamples[Any],
    continuation: str | int,
    options: TargetOptions,
    space_of: SpaceOf,
) -> Requests:
    check_generative(inputs.task, "continuation", options)
    requests, counts = [], []
    for i, example in enumerate(read.examples):
        with read.labels.about(i):
            continued = inputs.continued(example, continuation)
        whole, space = Coarsened(continued.text), space_of(continued.text)
        decisions = decide_continuation(continued.start, continued.ids)
        requests += [Request(whole, decision, space) for decision in decisions]
        counts.append(len(decisions))
    return _collected(requests, read, counts)


def _span_requests(
    inputs: ModelInputs[Any], read: ReadExamples[Any], given: Given, options: TargetOptions
) -> Requests:
    check_generative(inputs.task, "span", options)
    spans = spans_of(options.span, len(read.examples))
    requests = []
    for i, example in enumerate(read.examples):
        with read.labels.about(i):
            start = None
            if given.continuation is None:
                whole = inputs.with_prompt(example)
            else:
                continued = inputs.continued(example, given.continuation)
                whole, start = continued.text, continued.start
            decision = decide_span(inputs.task, whole, spans[i], start)
        space = SpanSpace(inputs.tokenizer, decision.tokens)
        requests.append(Request(Coarsened(whole), decision, space))
    return _collected(requests, read)


def _collected(
    requests: Sequence[Request],
    read: ReadExamples[Any],
    counts: Sequence[int] | None = None,
    against: Any = None,
) -> Requests:
    return Requests(requests, read.is_single, counts, read.labels, against)
