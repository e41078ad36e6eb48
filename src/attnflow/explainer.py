"""Explainer: the front door. A model, a tokenizer and texts in; one `Attribution` a decision out.

The way through the house: `reading` places each text's tokens, `decisions` says which of the
model's decisions is meant, `asking` has `capture` run the model forward and backward, `network`
takes the information tensor for capacities, `solver` finds the flow, and the outflow of the input
row (or the throughput of all rows) becomes the scores.

The explainer holds a model and a tokenizer, and nothing that a call leaves behind.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import torch

from attnflow import batches, models, readouts, results, spans
from attnflow.asking import Asker
from attnflow.attention_sink import check_policy, first_token
from attnflow.attribution import Attribution
from attnflow.attributions import Attributions
from attnflow.capture import TENSORS as PASSES
from attnflow.capture import Capture
from attnflow.choices import Answers, Choices, Classes, Vocabulary, similarities
from attnflow.decisions import Decision, check_contrast, check_writes, decisions
from attnflow.embedded import EMBEDDED_MODEL
from attnflow.embeddings import check_pooling
from attnflow.errors import InputError, UnsolvedError
from attnflow.reading import Reader, read
from attnflow.targets import Target, Value
from attnflow.tasks import Task, explained_task
from attnflow.tokens import EncodedText

TENSORS = (*PASSES, "bcf")


class Options(TypedDict, total=False):
    """Options of a call, see `Explainer.__call__`."""

    pair: str | Sequence[str] | None
    target: Target | Value | Sequence[Target]
    against: Target | Sequence[Target]
    position: int | Sequence[int] | None
    tensor: str
    readout: str
    gap: float
    mu: float | None
    edges: bool
    span: spans.Span | Sequence[spans.Span] | None
    attention_sink: str
    truncate: bool
    batch_size: int
    keep_unsolved: bool
    progress: Callable[[int], object] | None


class Explainer:
    """Explains the decisions of one model: a classifier's class, a language model's next token.

    Attributes:
        model: The model, as it was given.
        tokenizer: Its tokenizer, or None.
        name: What results call the model.
        pooling: How it embeds a text, if it does.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        name: str | None = None,
        pooling: str = "mean",
    ) -> None:
        """Take a model of transformers in evaluation mode, in float32, and its tokenizer.

        Without a tokenizer the explainer takes `input_ids`, and names tokens by their ids.

        Args:
            model: The model.
            tokenizer: Its own.
            name: What results call the model.
            pooling: Of a model that embeds: how the states of its last layer become one vector,
                "mean", "cls" (the first token's) or "last" (the last token's).

        Raises:
            InputError: One of these is something else.
        """
        if not hasattr(model, "config") or not (tokenizer is None or callable(tokenizer)):
            raise InputError(
                f"Explainer takes a model of transformers and its tokenizer, got "
                f"{type(model).__name__} and {type(tokenizer).__name__}; to load both by name, "
                "use Explainer.from_pretrained."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = check_pooling(pooling)
        self.name = name or getattr(model.config, "name_or_path", "") or type(model).__name__

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = EMBEDDED_MODEL,
        *,
        device: str | torch.device | None = None,
        pooling: str | None = None,
    ) -> "Explainer":
        """Load a model by folder or hub id, in float32; the embedded one by default.

        A model of embeddings pools as the files of sentence-transformers beside it say, or as
        `pooling` does.

        Raises:
            InputError: The device or the folder is not what it should be.
            ModelError: There is no such classifier.
        """
        model, tokenizer = models.load(name, device=device)
        embeds = explained_task(model).chooses == "nothing"
        if pooling is None:
            pooling = models.pooling(name) if embeds else "mean"
        return cls(model, tokenizer, name=str(name), pooling=pooling)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too, to the checker
        self, texts: str, *, continuation: None = ..., **options: Unpack[Options]
    ) -> Attribution: ...
    @overload
    def __call__(
        self, texts: Sequence[str], *, continuation: None = ..., **options: Unpack[Options]
    ) -> list[Attribution]: ...
    @overload
    def __call__(
        self,
        texts: str | Sequence[str] | None = ...,
        *,
        continuation: str | int | None = ...,
        input_ids: Any = ...,
        attention_mask: Any = ...,
        **options: Unpack[Options],
    ) -> Any: ...

    def __call__(
        self,
        texts: str | Sequence[str] | None = None,
        *,
        continuation: str | int | None = None,
        input_ids: Any = None,
        attention_mask: Any = None,
        pair: str | Sequence[str] | None = None,
        target: Target | Value | Sequence[Target] = None,
        against: Target | Sequence[Target] = None,
        position: int | Sequence[int] | None = None,
        span: spans.Span | Sequence[spans.Span] | None = None,
        attention_sink: str = "keep",
        tensor: str = "bcf",
        readout: str = "input",
        gap: float = 1e-2,
        mu: float | None = None,
        edges: bool = False,
        truncate: bool = False,
        batch_size: int = 16,
        keep_unsolved: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Any:
        """Explain one text, or several as a batch.

        Args:
            texts: A text, or a chat: a list of messages, `{"role": "user", "content": "..."}` each,
                which the tokenizer's template writes out; or a sequence of texts or chats.
            continuation: Of a language model: how the text goes on, or how many tokens the model is
                to write (greedily). Each of these tokens is explained. An encoder-decoder writes a
                text of its own, whose tokens follow the source's in the result.
            input_ids: Token ids instead of texts, `(t,)` or `(batch, t)`.
            attention_mask: Of `input_ids`: 0 at padding, on the left or on the right.
            pair: A second text, for all texts or one for each. Models that read two (entailment,
                paraphrase, question and context) read it behind the text; in the result it stands
                on a line of its own. With a model of embeddings it is what the text is compared
                with: the text's part in their cosine is explained.
            target: The class, token or answer to explain, by label, text or index, for all texts or
                one for each; None is what the model predicts. An answer is meant where it first
                stands, by its text alone. Or a function that makes a number for each text,
                `(batch,)`, of the model's output: whatever it is, it is explained.
            against: Another class or token: why the target and not this one, by the difference of
                their logits.
            position: Of models that decide at every token: the index of the one whose output is
                read. A causal language model predicts there the token after it, by default after
                the last; tokens behind the position get exactly 0. A masked one fills the mask.
            span: Of a language model: explain tokens `start` to `stop` of the result, half-open, at
                once, by the sum of their numbers; True is the whole continuation.
            attention_sink: Of a language model, what becomes of the first token that its decoder
                reads: "keep" it like any other, "exclude" it (no flow may end there; the result
                has the scores with it in `raw_scores`), or "apart": a score, and no rank.
            tensor: Information tensor: "bcf" (balanced conservative, four backward passes), "cf"
                (conservative, one), both of docs/method.md, or the paper's "af", "gf" or "agf".
            readout: "input" scores a token by its outflow from the input row, so that scores sum to
                the flow; "throughput" by its mean flow over all rows, for "bcf" and "cf" alone,
                where a token's rows are its own residual stream.
            gap: Accuracy of the flow, relative to the capacity of its narrowest row, inside (0, 1);
                see `maximum_flow`.
            mu: Absolute weight of the barrier, > 0, instead of `gap`.
            edges: Keep the flow on every edge in the result (layers * t * t numbers a text).
            truncate: Cut texts that are longer than the model takes, with a warning.
            batch_size: Most texts in one forward pass.
            keep_unsolved: Return flows that have no certificate too, instead of raising.
            progress: Called with the number of texts done, after each batch.

        Returns:
            One attribution for a text, a list in the order of the texts for a sequence; with a
            continuation the `Attributions` of its tokens, a list, in the place of each.

        Raises:
            InputError: An argument, a label or a text is not what it should be.
            ModelError: The model cannot be explained.
            UnsolvedError: A flow could not be certified.
        """
        check_options(tensor, readout, batch_size)
        task = explained_task(self.model)
        check_policy(attention_sink, task)
        choosing = self._choosing(task, target)
        compares = task.chooses == "nothing" and not callable(target)
        reader = Reader(self.model, self.tokenizer, task, compares=compares)
        alone, encoded = read(
            reader,
            texts,
            pair=pair,
            input_ids=input_ids,
            attention_mask=attention_mask,
            truncate=truncate,
        )
        rows, counts = self._rows(
            reader,
            encoded,
            choosing,
            continuation,
            span,
            target=target,
            against=against,
            position=position,
        )
        found: dict[int, Attribution] = {}
        # A classifier that is a decoder and knows no padding cannot tell where a padded text ends,
        # and a function of the reader's might read there.
        padded = task.reads != "text" or self.model.config.pad_token_id is not None
        padded = padded and not callable(target)
        sizes = batches.of_like_length([text for text, _ in rows], batch_size if padded else 1)
        asker = Asker(self.model, self.tokenizer, task, tensor, pooling=self.pooling)
        for group in sizes:
            some = [rows[i] for i in group]
            captured = asker([text for text, _ in some], [decision for _, decision in some])
            for (_, decision), predicted in zip(some, captured.target.tolist(), strict=True):
                check_contrast(decision, predicted, against)
            firsts = [first_token(task, text) for text, _ in some]
            excluded = firsts if attention_sink == "exclude" else None
            flow, raw = results.flows(captured, excluded, gap=gap, mu=mu)
            for row, i in enumerate(group):
                found[i] = Attribution(
                    **self._told(task, choosing(rows[i][0]), captured, row, rows[i][1]),
                    **results.placed(rows[i][0], task, attention_sink),
                    **results.flowed(flow, raw, row, captured.mask[row], readout, edges),
                    null_shares=results.null(task, rows[i][1], captured, row, tensor),
                    tensor=tensor,
                )
            if progress is not None:
                progress(len(group))
        ordered = [found[i] for i in range(len(rows))]
        if not keep_unsolved:
            _raise_unsolved(ordered)
        listed = continuation is not None and span is None
        each = _split(ordered, counts) if listed else ordered
        return each[0] if alone else each

    def _rows(
        self,
        reader: Reader,
        texts: Sequence[EncodedText],
        choosing: Callable[[EncodedText], Choices],
        continuation: str | int | None,
        span: Any,
        **options: Any,
    ) -> tuple[list[tuple[EncodedText, Decision]], list[int]]:
        """Every decision with its text, and how many of them each example has."""
        if span is not None:
            check_writes(reader.task, "span", **options)
            pairs = zip(texts, spans.spans_of(span, len(texts)), strict=True)
            return [reader.spanned(text, continuation, one) for text, one in pairs], []
        if continuation is None:
            begun = [reader.begun(text) for text in texts]
            wanted = decisions(reader.task, choosing, begun, self.tokenizer, **options)
            return list(zip(begun, wanted, strict=True)), [1] * len(begun)
        check_writes(reader.task, "continuation", **options)
        parts = [reader.continued(text, continuation) for text in texts]
        return [row for part in parts for row in part], [len(part) for part in parts]

    def __repr__(self) -> str:
        return f"Explainer({self.name!r})"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        names = self.model.config.id2label
        return tuple(str(names[i]) for i in sorted(names))

    @property
    def limit(self) -> int | None:
        """Most tokens the model takes, special ones included; None where nothing bounds it."""
        return models.token_limit(self.model.config, self.tokenizer)

    def _choosing(self, task: Task, target: Any) -> Callable[[EncodedText], Choices]:
        """What there is to choose from, of each text."""
        if callable(target):
            always: Choices = Classes([_name(target)])
        elif task.chooses == "answer":
            return Answers
        elif task.chooses == "token":
            size = self.model.config.get_text_config().vocab_size
            always = Vocabulary(self.tokenizer, size)
        elif task.chooses == "nothing":
            return similarities
        else:
            always = Classes(self.labels)
        return lambda text: always

    def _told(
        self, task: Task, choices: Choices, captured: Capture, row: int, decision: Decision
    ) -> dict[str, Any]:
        """What a result says of the decision."""
        wanted = [int(captured.target[row])]
        wanted += [] if decision.against is None else [decision.against]
        read = readouts.array(captured.logits[row])
        if decision.tokens:
            labels, logits, places = spans.shown(self.tokenizer, decision.tokens, read)
        else:
            labels, logits, places = choices.shown(read, wanted)
        return {
            "task": task.name,
            "position": decision.position,
            "span": decision.span,
            "target": places[0],
            "against": places[1] if len(places) > 1 else None,
            "labels": labels,
            "logits": logits,
            "model": self.name,
        }


def check_options(tensor: str, readout: str, batch_size: int) -> None:
    """What can be told of a call without its model and texts.

    Raises:
        InputError: An option is not what `Explainer.__call__` takes, or two do not fit.
    """
    if tensor not in TENSORS:
        raise InputError(f"tensor must be one of {', '.join(TENSORS)}, got {tensor!r}.")
    if readout not in readouts.READOUTS:
        raise InputError(f"readout must be one of {', '.join(readouts.READOUTS)}, got {readout!r}.")
    if readout == "throughput" and tensor not in ("bcf", "cf"):
        raise InputError(
            f"readout 'throughput' needs tensor 'bcf' or 'cf', got {tensor!r}: without residual "
            "edges a token's rows are not its own."
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size must be an integer of at least 1, got {batch_size!r}.")


def _raise_unsolved(attributions: Sequence[Attribution]) -> None:
    bad = [i for i, a in enumerate(attributions) if not a.certificate.is_certified]
    if bad:
        shown = ", ".join(f"{i} ({attributions[i].certificate.status})" for i in bad[:5])
        raise UnsolvedError(
            f"{len(bad)} of {len(attributions)} flows could not be certified: text {shown}. Ask "
            "for a larger gap, or for the results as they are (keep_unsolved=True)."
        )


def _name(target: Callable[..., Any]) -> str:
    """What results call a number that a function makes."""
    name = getattr(target, "__name__", type(target).__name__)
    return "target" if name == "<lambda>" else name


def _split(ordered: list[Attribution], counts: Sequence[int]) -> list[Attributions]:
    """Runs of so many."""
    rest = iter(ordered)
    return [Attributions(next(rest) for _ in range(count)) for count in counts]
