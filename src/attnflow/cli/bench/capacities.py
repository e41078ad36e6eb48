"""Capacities to measure on: those of one English text, as two models read it."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from attnflow.capture import capture
from attnflow.cli.bench.section import Skipped

TEXT = (
    "I went in expecting very little, and for the first twenty minutes the film seemed happy to "
    "prove me right: the jokes are tired, the lighting is flat, and nobody can act. Then something "
    "odd happens. The story slows down, a clumsy comedy becomes a tender portrait of two brothers "
    "who never learned to talk, and the last shot is not easily forgotten. "
)
STRIDE = 5  # tokens between the starts of two texts of a batch, so that no two are alike


class Models:
    """The embedded model and one of BERT-base's size, each made when first asked for."""

    @cached_property
    def _embedded(self) -> tuple[Any, Any]:
        from attnflow.models import embedded

        return embedded.load()

    @cached_property
    def _bert_base(self) -> Any:
        from transformers import BertConfig, BertForSequenceClassification

        # Random weights cost what trained ones do, and need no download.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return BertForSequenceClassification(BertConfig()).eval()

    def of(self, layers: int) -> Any:
        """The model with 6 layers (embedded) or with 12 (BERT-base's size, random weights)."""
        return self._embedded[0] if layers == 6 else self._bert_base

    def inputs(self, lengths: Sequence[int]) -> dict[str, Tensor]:
        """A batch of texts of these many tokens, right-padded: windows of `TEXT`, repeated.

        Raises:
            Skipped: A text is longer than the models take, or too short for one word.
        """
        if not 3 <= min(lengths) <= max(lengths) <= 512:
            raise Skipped("the models take 3 to 512 tokens")
        tokenizer = self._embedded[1]
        words = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        t = max(lengths)
        ids = torch.full((len(lengths), t), tokenizer.pad_token_id)
        for i, length in enumerate(lengths):
            window = [words[(STRIDE * i + j) % len(words)] for j in range(length - 2)]
            ids[i, :length] = torch.tensor([first, *window, last])
        mask = torch.arange(t) < torch.tensor(lengths)[:, None]
        return {"input_ids": ids, "attention_mask": mask.long()}

    def capacities(self, layers: int, lengths: Sequence[int], tensor: str) -> Tensor:
        """`(batch, layers, t, t)` float32, the information tensors of `inputs(lengths)`."""
        return capture(self.of(layers), self.inputs(lengths), tensor=tensor).capacities
