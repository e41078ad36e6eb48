"""Explanations of many texts of which some may fail: each has a result or its error.

`Explainer.__call__` refuses a call as a whole, which suits a few texts. Of a corpus every text is
read by itself, and batches are formed of those that could be read. A batch that fails is tried
again in halves where memory ran out, and one by one where it did not.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from attnflow.attribution import Attribution
from attnflow.attribution.data import FAINT
from attnflow.capture.contexts import plain_torch
from attnflow.errors import InputError, ModelWarning, UnsolvedError
from attnflow.explainer.call import Call
from attnflow.explainer.explainer import Explainer
from attnflow.explainer.memory.estimate import Batch
from attnflow.explainer.options import CallOptions
from attnflow.explainer.request import Request, Requests
from attnflow.explainer.targets.decision import TargetOptions
from attnflow.inputs.given import Given
from attnflow.inputs.per_example import ExampleLabels

_shown: dict[Any, Any] = {}  # warnings that were shown, as Python notes them for a module
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass
class Outcome:
    """One text's result, or its error.

    Attributes:
        attribution: The result; None where the text failed.
        error: The reason of the failure; None where there is a result.
        kind: The name of the error's type.
        warnings: What was to be said about the text.
        model_warnings: What was to be said about the model.
    """

    attribution: Attribution | None = None
    error: str | None = None
    kind: str | None = None
    warnings: list[str] = field(default_factory=list)
    model_warnings: list[str] = field(default_factory=list)

    def fail(self, error: Exception) -> None:
        """Take an error instead of a result."""
        self.attribution = None
        self.error, self.kind = str(error) or type(error).__name__, type(error).__name__


@dataclass(frozen=True)
class Question:
    """One example as it was given, and what to explain about it: exactly one decision.

    Attributes:
        given: The example.
        explained: The decision.
    """

    given: Given
    explained: TargetOptions


def explain_each(
    explainer: Explainer, questions: Sequence[Question], options: CallOptions
) -> list[Outcome]:
    """Return an outcome for each question, in their order.

    The batches, and with them the last digits of the results, depend on the questions and options
    alone as long as memory suffices.

    Args:
        explainer: The explainer.
        questions: The examples.
        options: The options of all of them.

    Raises:
        ModelError: The model cannot be explained at all.
        InputError: An option does not suit the model.
    """
    with plain_torch():
        call = explainer.begin_call(options, None)
        outcomes = [Outcome() for _ in questions]
        requests = {}
        for i, (question, outcome) in enumerate(zip(questions, outcomes, strict=True)):
            request = _read(call, question, outcome)
            if request is not None:
                requests[i] = request
        _Attempt(call, requests, outcomes).run()
    for outcome in outcomes:
        _judge(outcome, options)
    return outcomes


def _read(call: Call, question: Question, outcome: Outcome) -> Request | None:
    """The request about one example; None where it cannot be read, which becomes its outcome."""
    with _recorded(outcome):
        try:
            found = call.requests(question.given, question.explained).requests
            if len(found) != 1:
                raise InputError(
                    f"expected one decision about a text, got {len(found)}: give one target, and "
                    "explain a continuation as a whole (span=True)."
                )
            return found[0]
        # Tokenizers and templates raise what they like, and none of it concerns other texts.
        except Exception as error:
            outcome.fail(error)
            return None


@dataclass(frozen=True)
class _Failure:
    """An error of a batch, without its traceback.

    Attributes:
        message: What it said.
        kind: The name of its type.
        is_of_memory: True where memory ran out.
    """

    message: str
    kind: str
    is_of_memory: bool

    @classmethod
    def of(cls, error: Exception) -> "_Failure":
        kind = type(error).__name__
        return cls(str(error) or kind, kind, is_out_of_memory(error))


@dataclass(frozen=True)
class _Attempt:
    """The requests of a call that could be read, by the index of their question."""

    call: Call
    requests: Mapping[int, Request]
    outcomes: Sequence[Outcome]

    def run(self) -> None:
        """Explain them all, so that each has an outcome."""
        indices = list(self.requests)
        for batch in self._batches(indices):
            self._explain(batch)

    def _batches(self, indices: Sequence[int]) -> Iterator[tuple[list[int], float | None]]:
        """Batches that fit into memory; an example that does not fit alone has failed."""
        if not indices:
            return
        try:
            plan = self.call.plan(self._joined(indices))
        except InputError as error:
            if len(indices) == 1:
                self.outcomes[indices[0]].fail(error)
                return
            # By length, so that the many that fit stay together.
            order = sorted(indices, key=lambda i: len(self.requests[i].example.tokens))
            yield from self._batches(order[: len(order) // 2])
            yield from self._batches(order[len(order) // 2 :])
            return
        for batch in plan:
            yield [indices[i] for i in batch.indices], batch.budget

    def _explain(self, planned: tuple[list[int], float | None]) -> None:
        """Explain a batch; one that fails is tried again, in halves if memory ran out, else singly.

        What it failed by is gone by then, since an error holds the tensors of its batch.
        """
        indices, budget = planned
        failure = self._tried(indices, budget)
        if failure is None:
            return
        if len(indices) == 1:
            outcome = self.outcomes[indices[0]]
            outcome.error, outcome.kind = failure.message, failure.kind
            return
        size = -(-len(indices) // 2) if failure.is_of_memory else 1
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        for start in range(0, len(indices), size):
            self._explain((indices[start : start + size], budget))

    def _tried(self, indices: Sequence[int], budget: float | None) -> "_Failure | None":
        try:
            with warnings.catch_warnings():
                # What concerns a text is read off its result; see `_judge`.
                warnings.simplefilter("ignore", UserWarning)
                found = self.call.explain(
                    self._joined(indices), Batch(list(range(len(indices))), budget)
                )
        except Exception as error:
            return _Failure.of(error)
        for index, attribution in zip(indices, found, strict=True):
            self.outcomes[index].attribution = attribution
        return None

    def _joined(self, indices: Sequence[int]) -> Requests:
        some = [self.requests[i] for i in indices]
        # An error is about one text alone by the time it is kept, and names none.
        return Requests(some, False, None, ExampleLabels([""] * len(some)))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error tells that memory ran out, on a GPU or besides it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in OUT_OF_MEMORY)


def _judge(outcome: Outcome, options: CallOptions) -> None:
    """Fail a flow without certificate, and warn of one that carries too little."""
    found = outcome.attribution
    if found is None:
        return
    certificate = found.certificate
    if not certificate.is_certified and not options.keep_unsolved:
        outcome.fail(
            UnsolvedError(
                f"the flow could not be certified ({certificate.status}): ask for a larger gap "
                "(gap=, --gap)."
            )
        )
    elif found.is_faint:
        outcome.warnings.append(
            f"the flow carries {certificate.value:.2g} of what its layers could, less than "
            f"{FAINT:.0%}: its ranking says little."
        )


@contextmanager
def _recorded(outcome: Outcome) -> Iterator[None]:
    """Keep the warnings about one text with it, instead of showing them once for all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for one in caught:
        if issubclass(one.category, ModelWarning):
            outcome.model_warnings.append(str(one.message))
        elif issubclass(one.category, UserWarning):
            outcome.warnings.append(str(one.message))
        else:
            place = one.filename, one.lineno
            warnings.warn_explicit(one.message, one.category, *place, registry=_shown)
