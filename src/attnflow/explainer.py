"""Explainer: the front door. A model, a tokenizer and texts in; one `Attribution` a text out.

The way through the house: `tokens` places each text's tokens, `capture` runs the model once forward
and once backward, `network` takes its information tensor for capacities, `solver` finds the flow,
and the outflow of the input row (or the throughput of all rows) becomes the scores.

The explainer holds a model and a tokenizer, and nothing that a call leaves behind.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from attnflow import batches, models, readouts, targets
from attnflow.attribution import Attribution
from attnflow.capture import TENSORS as PASSES
from attnflow.capture import Capture, balanced, capture, staged_capture
from attnflow.embedded import EMBEDDED_MODEL
from attnflow.errors import InputError, ModelError, UnsolvedError
from attnflow.network import LayeredNetwork, layered_network
from attnflow.solver import Flow, maximum_flow
from attnflow.tokens import EncodedText, encode

TENSORS = (*PASSES, "bcf")


class Explainer:
    """Explains the decisions of one sequence classifier.

    Attributes:
        model: The model, as it was given.
        tokenizer: Its tokenizer.
        name: What results call the model.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str | None = None) -> None:
        """Take a model of transformers in evaluation mode, in float32, and its tokenizer.

        Raises:
            InputError: One of the two is something else.
        """
        if not hasattr(model, "config") or not callable(tokenizer):
            raise InputError(
                f"Explainer takes a model of transformers and its tokenizer, got "
                f"{type(model).__name__} and {type(tokenizer).__name__}; to load both by name, "
                "use Explainer.from_pretrained."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.name = name or getattr(model.config, "name_or_path", "") or type(model).__name__

    @classmethod
    def from_pretrained(
        cls, name: str | Path = EMBEDDED_MODEL, *, device: str | torch.device | None = None
    ) -> "Explainer":
        """Load a model by folder or hub id, in float32; the embedded one by default.

        Raises:
            InputError: The device or the folder is not what it should be.
            ModelError: There is no such classifier.
        """
        model, tokenizer = models.load(name, device=device)
        return cls(model, tokenizer, name=str(name))

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too, to the checker
        self,
        texts: str,
        *,
        tensor: str = ...,
        target: targets.Target | Sequence[targets.Target] = ...,
        readout: str = ...,
        gap: float = ...,
        mu: float | None = ...,
        edges: bool = ...,
        truncate: bool = ...,
        batch_size: int = ...,
        keep_unsolved: bool = ...,
        progress: Callable[[int], object] | None = ...,
    ) -> Attribution: ...
    @overload
    def __call__(
        self,
        texts: Sequence[str],
        *,
        tensor: str = ...,
        target: targets.Target | Sequence[targets.Target] = ...,
        readout: str = ...,
        gap: float = ...,
        mu: float | None = ...,
        edges: bool = ...,
        truncate: bool = ...,
        batch_size: int = ...,
        keep_unsolved: bool = ...,
        progress: Callable[[int], object] | None = ...,
    ) -> list[Attribution]: ...

    def __call__(
        self,
        texts: str | Sequence[str],
        *,
        tensor: str = "bcf",
        target: targets.Target | Sequence[targets.Target] = None,
        readout: str = "input",
        gap: float = 1e-2,
        mu: float | None = None,
        edges: bool = False,
        truncate: bool = False,
        batch_size: int = 16,
        keep_unsolved: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Attribution | list[Attribution]:
        """Explain one text, or several as a batch.

        Args:
            texts: A text, or a sequence of texts.
            tensor: Information tensor: "bcf" (balanced conservative, four backward passes), "cf"
                (conservative, one), both of docs/method.md, or the paper's "af", "gf" or "agf".
            target: The class to explain, by label or index, for all texts or one for each; None
                is the class that the model predicts.
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
            One attribution for a text, a list in the order of the texts for a sequence.

        Raises:
            InputError: An argument, a label or a text is not what it should be.
            ModelError: The model cannot be explained.
            UnsolvedError: A flow could not be certified.
        """
        alone = isinstance(texts, str)
        many = _listed(texts)
        check_options(tensor, readout, batch_size)
        encoded = self._encoded(many, truncate)
        wanted = targets.class_indices(target, self.labels, len(many))
        results: dict[int, Attribution] = {}
        # A decoder that knows no padding token cannot tell where a padded text ends.
        most = batch_size if self.model.config.pad_token_id is not None else 1
        for group in batches.of_like_length(encoded, most):
            captured = self._capture(
                [encoded[i] for i in group], [wanted[i] for i in group], tensor
            )
            flow = maximum_flow(_network(captured), gap=gap, mu=mu)
            for row, i in enumerate(group):
                results[i] = self._result(encoded[i], captured, flow, row, tensor, readout, edges)
            if progress is not None:
                progress(len(group))
        ordered = [results[i] for i in range(len(many))]
        if not keep_unsolved:
            _raise_unsolved(ordered)
        return ordered[0] if alone else ordered

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

    def _encoded(self, texts: Sequence[str], truncate: bool) -> list[EncodedText]:
        found = []
        for index, text in enumerate(texts):
            try:
                encoded = encode(self.tokenizer, text, limit=self.limit, truncate=truncate)
            except InputError as error:
                if len(texts) == 1:
                    raise
                raise InputError(f"text {index} (of {len(texts)}): {error}") from None
            if encoded.truncated:
                warnings.warn(
                    f"text {index} was cut to {len(encoded.tokens)} tokens: "
                    f"{encoded.truncated} more are not explained.",
                    stacklevel=3,
                )
            self._check_vocabulary(encoded)
            found.append(encoded)
        return found

    def _check_vocabulary(self, text: EncodedText) -> None:
        known = getattr(self.model.config, "vocab_size", None)
        highest = max(text.inputs["input_ids"])
        if known is not None and highest >= known:
            raise ModelError(
                f"the tokenizer gave token {highest}, and {type(self.model).__name__} knows the "
                f"tokens 0 to {known - 1}: they do not belong together."
            )

    def _capture(
        self, texts: Sequence[EncodedText], classes: Sequence[int | None], tensor: str
    ) -> Capture:
        inputs = batches.inputs(texts, self.model, self.tokenizer)
        target = None
        if any(c is not None for c in classes):
            target = self._completed(inputs, classes)
        if tensor != "bcf":
            return capture(self.model, inputs, target, tensor=tensor)
        neutral = batches.neutral(texts, inputs["input_ids"], self.tokenizer)
        found = staged_capture(self.model, inputs, neutral, target)
        return replace(found, capacities=balanced(found.capacities))

    def _completed(self, inputs: dict[str, Tensor], classes: Sequence[int | None]) -> Tensor:
        """The classes asked for, and the predicted one where none was."""
        if any(c is None for c in classes):
            predicted = capture(self.model, inputs, tensor="af").target.tolist()
            classes = [p if c is None else c for c, p in zip(classes, predicted, strict=True)]
        return torch.tensor(classes)

    def _result(
        self,
        text: EncodedText,
        captured: Capture,
        flow: Flow[Tensor],
        row: int,
        tensor: str,
        readout: str,
        edges: bool,
    ) -> Attribution:
        t = len(text.tokens)
        scores = readouts.scores(flow, row, readout)[:t]
        return Attribution(
            text=text.text,
            tokens=text.tokens,
            offsets=text.offsets,
            special=np.array(text.special),
            word_ids=text.word_ids,
            scores=scores,
            tensor=tensor,
            readout=readout,
            target=int(captured.target[row]),
            labels=self.labels,
            logits=readouts.array(captured.logits[row]),
            certificate=readouts.certificate(flow, row),
            model=self.name,
            truncated=text.truncated,
            edges=readouts.array(flow.edges[row, :, :t, :t]) if edges else None,
        )


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


def _listed(texts: str | Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, Iterable):
        raise InputError(f"texts must be a text or a sequence of texts, got {texts!r:.80}.")
    many = list(texts)
    if not many:
        raise InputError("texts is empty: give at least one text.")
    return many


def _network(captured: Capture) -> LayeredNetwork:
    """All tokens may be sources and sinks: where nothing can flow the capacities say so."""
    # The solver needs float64, which Apple's devices do not have.
    place = "cpu" if captured.mask.device.type == "mps" else captured.mask.device
    mask = captured.mask.to(place)
    return layered_network(captured.capacities.to(place), mask, mask)
