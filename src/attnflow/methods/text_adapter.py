"""Subjects that read texts: sequence classifiers, and causal language models.

A language model is asked which token comes next. It decides between the tokens of its vocabulary,
and reads its decision at the last token of the text; that token, and those that the tokenizer adds,
are never removed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.errors import InputError
from attnflow.inputs.batching import neutral_token
from attnflow.inputs.text import EncodedText, encode
from attnflow.inputs.token_ids import encode_ids
from attnflow.methods.adapter import ModelAdapter, Nodes, Operator, check_task
from attnflow.models import loading
from attnflow.models.tasks import labels_of


@dataclass(frozen=True)
class TextVariant:
    """A text with something removed: `ids` `(n,)`, and `attended` `(n,)` bool, what is seen."""

    ids: NDArray[np.int64]
    attended: Nodes

    @property
    def key(self) -> bytes:
        return self.ids.tobytes() + self.attended.tobytes()

    @property
    def size(self) -> int:
        return len(self.ids)


class TextAdapter(ModelAdapter):
    """A model with its tokenizer. Contents are encoded texts, of `encode`."""

    granularities = ("token", "word")

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__(model)
        self.tokenizer = tokenizer

    def encode(self, text: str, *, truncate: bool = False) -> EncodedText:
        """The text as the model will read it, as `tokens.encode`."""
        limit = loading.token_limit(self.model.config, self.tokenizer)
        return encode(self.tokenizer, text, limit=limit, truncate=truncate)

    @cached_property
    def padding(self) -> int:
        """Id of the padding token.

        Raises:
            InputError: The tokenizer has none.
        """
        return self._needed("pad_token_id", "padding")

    @cached_property
    def neutral_id(self) -> int:
        """Id of the token that says nothing."""
        return neutral_token(self.tokenizer, self.model.config.get_text_config())

    @property
    def mask(self) -> int:
        """Id of the token that stands for a removed one where masks are judged by."""
        return self.neutral_id

    def _needed(self, attribute: str, what: str) -> int:
        token = getattr(self.tokenizer, attribute, None)
        if token is None:
            raise InputError(
                f"the tokenizer {type(self.tokenizer).__name__} has no {what} token, which the "
                "evaluation needs; choose operators that do without it."
            )
        return int(token)

    def ids(self, content: EncodedText) -> NDArray[np.int64]:
        """`(t,)` the text's token ids."""
        return np.array(content.inputs["input_ids"])

    def name(self, content: EncodedText) -> str:
        return f"the text {content.text!r:.60}"

    def identity(self, content: EncodedText) -> bytes:
        return self.ids(content).tobytes()

    def ordinary(self, content: EncodedText) -> Nodes:
        return ~np.array(content.special)

    def without(self, content: EncodedText, removed: Nodes) -> EncodedText:
        ids = np.where(removed, self.neutral_id, self.ids(content))
        return replace(content, inputs={**content.inputs, "input_ids": ids.tolist()})

    @property
    def operators(self) -> Mapping[str, Operator]:
        return {
            "mask": lambda content, removed: self._replaced(content, removed, self.mask),
            "delete": self.deleted,
            "pad": self.hidden,
            "pad-attended": lambda content, removed: self._replaced(content, removed, self.padding),
        }

    def deleted(self, content: EncodedText, removed: Nodes) -> TextVariant:
        """The text closed up."""
        ids = self.ids(content)[~removed]
        return TextVariant(ids, np.ones(len(ids), bool))

    def hidden(self, content: EncodedText, removed: Nodes) -> TextVariant:
        """Padding in the place of the removed tokens, which no other token sees."""
        return replace(self._replaced(content, removed, self.padding), attended=~removed)

    def _replaced(self, content: EncodedText, removed: Nodes, token: int) -> TextVariant:
        ids = np.where(removed, token, self.ids(content))
        return TextVariant(ids, np.ones(len(ids), bool))

    def inputs(self, content: EncodedText) -> dict[str, Tensor]:
        return {"input_ids": torch.from_numpy(self.ids(content))[None]}

    def point(self, content: EncodedText) -> Tensor:
        """`(1, t, d)` word embeddings, without position and type."""
        place = self.inputs(content)["input_ids"].to(self.device)
        embedded: Tensor = self.model.get_input_embeddings()(place)
        return embedded.detach()

    def inputs_at(self, points: Tensor) -> dict[str, Tensor]:
        ones = torch.ones(points.shape[:2], dtype=torch.int64, device=self.device)
        return {"inputs_embeds": points, "attention_mask": ones}

    def of_nodes(self, values: Tensor) -> Tensor:
        return values[0]

    def _padded_batch(self, variants: Sequence[TextVariant], padding: int) -> tuple[Tensor, Tensor]:
        """`(variants, t)` ids and attention mask, padded on the right."""
        longest = max(v.size for v in variants)
        ids = np.full((len(variants), longest), padding)
        attended = np.zeros_like(ids)
        for row, variant in enumerate(variants):
            ids[row, : variant.size] = variant.ids
            attended[row, : variant.size] = variant.attended
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(attended).to(self.device)


class Classifier(TextAdapter):
    """A sequence classifier."""

    kind = "a classifier of texts"

    def __init__(self, model: Any, tokenizer: Any) -> None:
        check_task(model, "text-classification", "AutoModelForSequenceClassification")
        super().__init__(model, tokenizer)

    @property
    def labels(self) -> tuple[str, ...]:
        return labels_of(self.model)

    @property
    def mask(self) -> int:
        """Id of [MASK].

        Raises:
            InputError: The tokenizer has none.
        """
        return self._needed("mask_token_id", "mask")

    def _logits_of(self, variants: Sequence[TextVariant]) -> Tensor:
        ids, attended = self._padded_batch(variants, self.padding)
        found: Tensor = self.model(input_ids=ids, attention_mask=attended).logits
        return found


class LanguageModel(TextAdapter):
    """A causal language model, asked for the token that comes next after a whole text."""

    kind = "a language model"

    def __init__(self, model: Any, tokenizer: Any) -> None:
        check_task(model, "text-generation", "AutoModelForCausalLM")
        super().__init__(model, tokenizer)

    def cut(self, content: EncodedText, count: int) -> EncodedText:
        """The first `count` tokens of a text: the next one is asked for."""
        return encode_ids(self.tokenizer, content.inputs["input_ids"][:count], None)

    def ordinary(self, content: EncodedText) -> Nodes:
        found = self.replaceable(content)
        found[-1] = False
        return found

    def replaceable(self, content: EncodedText) -> Nodes:
        """Ordinary tokens and, as in an explanation, the one read, where it is not special."""
        return super().ordinary(content)

    def position(self, content: EncodedText) -> int:
        return len(content.tokens) - 1

    def read_node(self, content: EncodedText) -> int:
        return self.position(content)

    def read(self, output: Any) -> Any:
        return output.logits[:, -1]

    def logits(self, points: Tensor) -> Tensor:
        found: Tensor = self.read(self.model(**self.inputs_at(points), **self._only_logits_at(1)))
        return found

    def _logits_of(self, variants: Sequence[TextVariant]) -> Tensor:
        # A causal model sees no padding on the right, whatever stands there.
        ids, attended = self._padded_batch(variants, padding=0)
        ends = torch.tensor([v.size - 1 for v in variants], device=self.device)
        read, at = torch.unique(ends, return_inverse=True)
        kept = self._only_logits_at(read)
        logits = self.model(input_ids=ids, attention_mask=attended, **kept).logits
        found: Tensor = logits[torch.arange(len(ids), device=self.device), at if kept else ends]
        return found

    def _only_logits_at(self, positions: int | Tensor) -> Mapping[str, Any]:
        """The option for that, of models that have it: a vocabulary at every token is large."""
        known = "logits_to_keep" in signature(self.model.forward).parameters
        return {"logits_to_keep": positions} if known else {}
