"""Adapters of models that read texts: classifiers, language models, and encoder-decoders.

A language model is asked which token comes next. It decides between the tokens of its vocabulary,
and the decision is read at the last token of the text. That token, and those that the tokenizer
adds, are never removed. An encoder-decoder is asked for the next token of the text that it
generates. Its nodes are the tokens of its source and then those of its decoder's prefix.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.capture import HiddenTokens, removal_of
from attnflow.capture.capture import knows_kept_logits
from attnflow.capture.input_names import MASK_OF_IDS
from attnflow.capture.token_removal import Removal, can_hide
from attnflow.errors import InputError, ModelError, shown
from attnflow.inputs.batching import collate_texts
from attnflow.inputs.text import EncodedText
from attnflow.inputs.text_inputs import TextInputs
from attnflow.inputs.token_ids import encode_ids
from attnflow.inputs.tokenizing import encoded
from attnflow.methods.adapter import ModelAdapter, Nodes, Operator
from attnflow.models.tasks import labels_of


@dataclass(frozen=True, eq=False)
class TextVariant:
    """A text with something removed.

    Attributes:
        inputs: The lists of an `EncodedText`'s inputs that are left.
        attended: `(n,)` bool, true at nodes that other nodes may attend to.
    """

    inputs: Mapping[str, list[int]]
    attended: Nodes

    @property
    def ids(self) -> NDArray[np.int64]:
        """`(n,)` token ids of all nodes, those of a source before those of a prefix."""
        return node_ids(self.inputs)

    @property
    def key(self) -> Hashable:
        lists = tuple((name, tuple(values)) for name, values in self.inputs.items())
        return lists, self.attended.tobytes()

    @property
    def size(self) -> int:
        return len(self.attended)


def node_ids(inputs: Mapping[str, Sequence[int]]) -> NDArray[np.int64]:
    """`(n,)` token ids of all nodes, those of a source before those of a decoder's prefix."""
    return np.concatenate([np.array(inputs[name]) for name in MASK_OF_IDS if name in inputs])


class TextAdapter(ModelAdapter):
    """A model with its tokenizer. Contents are `EncodedText`s, as `encode` returns them."""

    granularities = ("token", "word")
    has_embeddings = True
    inputs: TextInputs

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__(TextInputs(model, tokenizer, self.task_of(model)))
        self.tokenizer = tokenizer

    def encode(self, text: str, *, truncate: bool = False) -> EncodedText:
        """Return the text as the model will read it, as `TextInputs.encode`."""
        return self.inputs.encode(text, truncate=truncate)

    @cached_property
    def padding_id(self) -> int:
        """Id of the padding token.

        Raises:
            InputError: The tokenizer has none.
        """
        return self._required("pad_token_id", "padding")

    @property
    def mask_id(self) -> int:
        """Id of the token that replaces removed ones in judging: the neutral token."""
        return self.inputs.neutral_token

    def _required(self, attribute: str, name: str) -> int:
        token = getattr(self.tokenizer, attribute, None)
        if token is None:
            raise InputError(
                f"the tokenizer {type(self.tokenizer).__name__} has no {name} token, which the "
                "evaluation needs; choose operators that do without it."
            )
        return int(token)

    def name(self, content: EncodedText) -> str:
        return f"the text {shown(content.text, 60)}"

    def identity(self, content: EncodedText) -> bytes:
        return node_ids(content.inputs).tobytes()

    def _as_content(self, values: Tensor) -> list[int]:
        return values.tolist()

    @property
    def operators(self) -> Mapping[str, Operator]:
        return {
            "mask": lambda text, removed: self._replaced_variant(text, removed, self.mask_id),
            "delete": self.deleted_variant,
            "pad": self.unattended_variant,
            "pad-attended": lambda text, removed: self._replaced_variant(
                text, removed, self.padding_id
            ),
        }

    def masked_variant(self, content: EncodedText, removed: Nodes) -> TextVariant:
        # Not `mask_id`, which refuses models without [MASK]: methods run on these too.
        return self._replaced_variant(content, removed, self.inputs.neutral_token)

    def deleted_variant(self, content: EncodedText, removed: Nodes) -> TextVariant:
        """Return the text closed up."""
        stays = _by_list(content.inputs, ~removed)
        inputs = {
            name: [value for value, kept in zip(values, stays[name], strict=True) if kept]
            for name, values in content.inputs.items()
        }
        return TextVariant(inputs, np.ones(int((~removed).sum()), bool))

    def unattended_variant(self, content: EncodedText, removed: Nodes) -> TextVariant:
        """Return the text with padding instead of the removed tokens, which no token attends to."""
        # The tokens stay in place, so that all others keep their positions.
        padded = self._replaced_variant(content, removed, self.padding_id)
        return TextVariant(padded.inputs, ~removed)

    def _replaced_variant(self, content: EncodedText, removed: Nodes, token: int) -> TextVariant:
        """The text with one token in place of each removed one."""
        replaced = _by_list(content.inputs, removed)
        inputs = {
            name: np.where(replaced[name], token, values).tolist()
            if name in MASK_OF_IDS
            else values
            for name, values in content.inputs.items()
        }
        return TextVariant(inputs, np.ones(len(removed), bool))

    def point(self, content: EncodedText) -> Tensor:
        """`(1, t, d)` word embeddings, without position and type."""
        ids = self.collate(content)["input_ids"]
        embedded: Tensor = self.model.get_input_embeddings()(ids)
        return embedded.detach()

    def inputs_at(self, points: Tensor) -> dict[str, Tensor]:
        ones = torch.ones(points.shape[:2], dtype=torch.int64, device=self.device)
        return {"inputs_embeds": points, "attention_mask": ones}

    def per_node(self, values: Tensor) -> Tensor:
        return values[0]

    def _collate_variants(self, variants: Sequence[TextVariant]) -> dict[str, Tensor]:
        """The model's inputs for a batch, padded on the right; unattended nodes are masked."""
        inputs = collate_texts(variants, self.model, self.tokenizer)
        for row, variant in enumerate(variants):
            # Of all others `collate_texts` has made the mask.
            if not variant.attended.all():
                attended = _by_list(variant.inputs, variant.attended)
                for ids, mask in MASK_OF_IDS.items():
                    if ids in inputs:
                        seen = torch.from_numpy(attended[ids])
                        inputs[mask][row, : len(seen)] = seen.to(inputs[mask])
        return inputs


def _by_list(inputs: Mapping[str, Sequence[int]], nodes: Nodes) -> dict[str, Nodes]:
    """The part of `(n,)` numbers of nodes that belongs to each list of a text's inputs."""
    source = len(inputs["input_ids"])
    prefix = slice(source, None)
    return {
        name: nodes[prefix if name == "decoder_input_ids" else slice(source)] for name in inputs
    }


class Classifier(TextAdapter):
    """A sequence classifier."""

    task_name = "text-classification"
    loader = "AutoModelForSequenceClassification"
    kind = "a classifier of texts"

    @property
    def labels(self) -> tuple[str, ...]:
        return labels_of(self.model)

    @property
    def mask_id(self) -> int:
        """Id of [MASK].

        Raises:
            InputError: The tokenizer has none.
        """
        return self._required("mask_token_id", "mask")

    def _logits_of(self, variants: Sequence[TextVariant]) -> Tensor:
        # A classifier may find the last token by the padding after it.
        self._required("pad_token_id", "padding")
        logits: Tensor = self.model(**self._collate_variants(variants)).logits
        return logits


class NextTokenModel(TextAdapter):
    """A model that is asked for the token after the last one of a text."""

    def ordinary(self, content: EncodedText) -> Nodes:
        nodes = super().ordinary(content)
        nodes[-1] = False  # removing the token that is read would ask another question
        return nodes

    def position(self, content: EncodedText) -> int:
        return len(content.tokens) - 1

    def stage_removal(self, content: EncodedText) -> Removal:
        """The node that is read stays, unlike in the stages of "bcf"."""
        inputs, neutral = self.collate(content), self.neutral(content)
        neutral[:, -1] = torch.cat([inputs[name] for name in MASK_OF_IDS if name in inputs], 1)[
            :, -1
        ]
        return removal_of(self.model, inputs, neutral)

    def readout_node(self, content: EncodedText) -> int:
        return self.position(content)

    def read(self, output: Any) -> Any:
        return output.logits[:, -1]

    def _only_logits_at(self, positions: int | Tensor) -> Mapping[str, Any]:
        """The option that limits logits to these positions, for models that have it.

        A vocabulary at every token is large.
        """
        return {"logits_to_keep": positions} if knows_kept_logits(self.model) else {}


class LanguageModel(NextTokenModel):
    """A causal language model, asked for the token that comes next after a whole text."""

    task_name = "text-generation"
    also = "image-text-to-text"
    loader = "AutoModelForCausalLM"
    kind = "a language model"
    instead = "deltatrace, gradient-x-input or net:flow"

    @property
    def hides_tokens(self) -> bool:
        return can_hide(self.model)

    def stage_removal(self, content: EncodedText) -> Removal:
        """Tokens are hidden by the attention mask, and keep their positions, where that can be."""
        if not self.hides_tokens:
            return super().stage_removal(content)
        removable = torch.from_numpy(self.ordinary(content))[None].to(self.device)
        return HiddenTokens.of(self.model, self.collate(content), removable)

    def cut(self, content: EncodedText, count: int) -> EncodedText:
        """Return the first `count` tokens of a text, after which the next one is asked for."""
        # Cut in ids: tokenized again, the beginning of the text could have other tokens.
        return encode_ids(self.tokenizer, content.inputs["input_ids"][:count], None)

    def first_token_of(self, answer: str) -> int | None:
        """Return the first token of an answer that continues a text; None where it has none."""
        ids = encoded(self.tokenizer, answer, add_special_tokens=False)["input_ids"]
        return int(ids[0]) if ids else None

    def logits(self, points: Tensor) -> Tensor:
        logits: Tensor = self.read(self.model(**self.inputs_at(points), **self._only_logits_at(1)))
        return logits

    def _logits_of(self, variants: Sequence[TextVariant]) -> Tensor:
        # A causal model sees no padding on the right, whatever stands there.
        inputs = self._collate_variants(variants)
        ends = torch.tensor([v.size - 1 for v in variants], device=self.device)
        # The option takes one list of positions for the whole batch: every end of a text, once.
        positions, index = torch.unique(ends, return_inverse=True)
        option = self._only_logits_at(positions)
        logits: Tensor = self.model(**inputs, **option).logits
        rows = torch.arange(len(variants), device=self.device)
        return logits[rows, index if option else ends]


class EncoderDecoder(NextTokenModel):
    """An encoder-decoder, asked for the next token of the text that it generates."""

    task_name = "text2text-generation"
    loader = "AutoModelForSeq2SeqLM"
    kind = "an encoder-decoder"
    has_embeddings = False
    instead = "leave-one-out, occlusion or net:flow"

    def encode(self, text: str, *, truncate: bool = False) -> EncodedText:
        """Return a source and the prefix with which the decoder begins."""
        return self.inputs.with_prompt(super().encode(text, truncate=truncate))

    def point(self, content: EncodedText) -> Tensor:
        raise self._refusal()

    def inputs_at(self, points: Tensor) -> dict[str, Tensor]:
        raise self._refusal()

    def _refusal(self) -> ModelError:
        return ModelError(
            f"{type(self.model).__name__} reads two texts, one in each stack, and this method is "
            "for models of one stack: expected a flow, such as bcf:flow, or a method that masks "
            "tokens, such as occlusion."
        )

    def _logits_of(self, variants: Sequence[TextVariant]) -> Tensor:
        logits: Tensor = self.model(**self._collate_variants(variants)).logits
        ends = [len(v.inputs["decoder_input_ids"]) - 1 for v in variants]
        return logits[torch.arange(len(variants), device=self.device), ends]
