"""What every attribution method is asked: one class, of one text, as one classifier reads it.

A `Classifier` gives probabilities of token sequences, many at a time, and what gradients start
from. A `Question` fixes text and class. A method answers it with a number for each token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow import models
from attnflow.batches import neutral_token
from attnflow.errors import InputError, ModelError
from attnflow.targets import EXPLAINED
from attnflow.tasks import CLASSIFICATION, explained_task
from attnflow.tokens import EncodedText, encode

TOKENS_AT_ONCE = 8192  # of a forward pass, padding included

Scores = NDArray[np.float64]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Variant:
    """A text with something removed: `ids` `(n,)`, and `attended` `(n,)` bool, what is seen."""

    ids: NDArray[np.int64]
    attended: NDArray[np.bool_]

    @property
    def key(self) -> bytes:
        """Equal for variants that are the same to the model."""
        return self.ids.tobytes() + self.attended.tobytes()


class Classifier:
    """A sequence classifier of transformers with its tokenizer, in evaluation mode."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        task = explained_task(model)
        if task is not CLASSIFICATION:
            raise ModelError(
                f"{type(model).__name__} is a model for {task.name}: expected one for sequence "
                "classification, whose classes methods are judged by."
            )
        self.model, self.tokenizer = model, tokenizer
        self.device = next(model.parameters()).device

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        names = self.model.config.id2label
        return tuple(str(names[i]) for i in sorted(names))

    @cached_property
    def padding(self) -> int:
        """Id of the padding token."""
        return self._needed("pad_token_id", "padding")

    @cached_property
    def mask(self) -> int:
        """Id of the token that stands for a removed one."""
        return self._needed("mask_token_id", "mask")

    def _needed(self, attribute: str, what: str) -> int:
        token = getattr(self.tokenizer, attribute, None)
        if token is None:
            raise InputError(
                f"the tokenizer {type(self.tokenizer).__name__} has no {what} token, which the "
                "evaluation needs; choose operators that do without it."
            )
        return int(token)

    def encode(self, text: str, *, truncate: bool = False) -> EncodedText:
        """The text as the model will read it, as `tokens.encode`."""
        limit = models.token_limit(self.model.config, self.tokenizer)
        return encode(self.tokenizer, text, limit=limit, truncate=truncate)

    def log_probabilities(self, variants: Sequence[Variant], *, bfloat16: bool = False) -> Scores:
        """`(variants, classes)` log-softmax of the logits, in float64.

        Variants of like length share a forward pass, and equal ones an answer.

        Args:
            variants: Texts with something removed.
            bfloat16: Multiply matrices in bfloat16.
        """
        places: dict[bytes, list[int]] = {}
        for index, variant in enumerate(variants):
            places.setdefault(variant.key, []).append(index)
        distinct = sorted((variants[at[0]] for at in places.values()), key=lambda v: -len(v.ids))
        found = np.empty((len(variants), len(self.labels)))
        start = 0
        while start < len(distinct):
            stop = start + max(1, TOKENS_AT_ONCE // max(1, len(distinct[start].ids)))
            batch = distinct[start:stop]
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16):
                rows = self._log_probabilities(batch)
            for variant, row in zip(batch, rows, strict=True):
                found[places[variant.key]] = row
            start = stop
        return found

    def _log_probabilities(self, variants: Sequence[Variant]) -> Scores:
        longest = max(len(v.ids) for v in variants)
        ids = np.full((len(variants), longest), self.padding)
        attended = np.zeros_like(ids)
        for row, variant in enumerate(variants):
            ids[row, : len(variant.ids)] = variant.ids
            attended[row, : len(variant.ids)] = variant.attended
        with torch.inference_mode():
            logits = self.model(
                input_ids=torch.from_numpy(ids).to(self.device),
                attention_mask=torch.from_numpy(attended).to(self.device),
            ).logits
        found: Scores = logits.double().log_softmax(-1).cpu().numpy()
        return found

    @cached_property
    def reads_first(self) -> bool:
        """Whether the logits depend on the last hidden state of the first token alone."""
        embedded = self.embeddings(np.array(self.encode("a b").inputs["input_ids"]))
        with torch.enable_grad():
            output = self.model(inputs_embeds=embedded.requires_grad_(), output_hidden_states=True)
            last = output.hidden_states[-1]
            (gradient,) = torch.autograd.grad(output.logits.square().sum(), last)
        return not bool(gradient[0, 1:].any())

    def embeddings(self, ids: NDArray[np.int64]) -> Tensor:
        """`(1, t, d)` word embeddings, without position and type, detached."""
        place = torch.from_numpy(ids).to(self.device)[None]
        embedded: Tensor = self.model.get_input_embeddings()(place)
        return embedded.detach()

    def logits(self, embeddings: Tensor) -> Tensor:
        """`(batch, classes)` logits of `(batch, t, d)` word embeddings, to be differentiated."""
        ones = torch.ones(embeddings.shape[:2], dtype=torch.int64, device=self.device)
        found: Tensor = self.model(inputs_embeds=embeddings, attention_mask=ones).logits
        return found


@dataclass(frozen=True)
class Question:
    """Which tokens of a text decide for a class?

    Attributes:
        classifier: The model asked.
        text: The text, of t tokens.
        target: The class.
        seed: Of methods that draw numbers.
        explained: Of the class, a name of `targets.EXPLAINED`: the number that gradients are taken
            of, the same for all methods.
    """

    classifier: Classifier
    text: EncodedText
    target: int
    seed: int = 0
    explained: str = "contrast"

    def value(self, logits: Tensor) -> Tensor:
        """`(batch,)` the explained number of `(batch, classes)` logits."""
        target = torch.full((len(logits),), self.target, device=logits.device)
        return EXPLAINED[self.explained](logits, target)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """`(t,)` the text's token ids."""
        return np.array(self.text.inputs["input_ids"])

    @cached_property
    def ordinary(self) -> NDArray[np.bool_]:
        """`(t,)` bool, tokens that the tokenizer did not add."""
        return ~np.array(self.text.special)

    @cached_property
    def neutral_ids(self) -> NDArray[np.int64]:
        """`(t,)` the text with every ordinary token masked: where paths of methods begin."""
        return np.where(self.ordinary, neutral_token(self.classifier.tokenizer), self.ids)

    def once(self, name: str, compute: Callable[[], Result]) -> Result:
        """What `compute` gave when this question was first asked for that name."""
        kept: dict[str, Any] = self.__dict__.setdefault("_kept", {})
        if name not in kept:
            kept[name] = compute()
        found: Result = kept[name]
        return found

    def probability(self, present: NDArray[np.bool_]) -> Scores:
        """`(n,)` probability of the class where only the `present` `(n, t)` tokens are not masked.

        Special tokens are always present.
        """
        variants = [
            Variant(
                np.where(row | ~self.ordinary, self.ids, self.neutral_ids), np.ones(len(row), bool)
            )
            for row in present
        ]
        found: Scores = np.exp(self.classifier.log_probabilities(variants)[:, self.target])
        return found
