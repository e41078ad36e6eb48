"""A classifier with a known answer: its logit is the sum of one number for each word."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from attnflow.methods import Classifier, Question

WORDS = {"good": 3.0, "fine": 1.5, "dull": -1.0, "bad": -2.0, "the": 0.0, "film": 0.0, "a": 0.0}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


class Additive(nn.Module):
    """logit of class 1 = sum of the words' numbers, of class 0 = 0; masked words count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(len(SPECIAL) + len(WORDS), 1)
        self.table.weight.data = torch.tensor([0.0] * len(SPECIAL) + list(WORDS.values()))[:, None]
        self.config = SimpleNamespace(
            id2label={0: "negative", 1: "positive"},
            max_position_embeddings=64,
            model_type="additive",
            pad_token_id=0,
        )

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None):
        embedded = self.table(input_ids) if inputs_embeds is None else inputs_embeds
        total = (embedded[..., 0] * attention_mask).sum(1)
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(total), total], 1))


@pytest.fixture(scope="session")
def classifier():
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    return Classifier(Additive().eval(), fast)


@pytest.fixture(scope="session")
def question(classifier):
    """Of one text, with class 1 as its target."""

    def ask(text="the good film a bad fine dull film", target=1):
        return Question(classifier, classifier.encode(text), target)

    return ask


@pytest.fixture(scope="session")
def oracle():
    """The words' own numbers, for the question's tokens."""

    def scores(question):
        return np.array([WORDS.get(token, 0.0) for token in question.content.tokens])

    return scores


@pytest.fixture(scope="session")
def bert(classifier):
    """A question about a small random BERT, whose biases are not 0."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        config = BertConfig(
            vocab_size=12, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
            intermediate_size=24, max_position_embeddings=32, initializer_range=0.5,
        )  # fmt: skip
        model = BertForSequenceClassification(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
    own = Classifier(model, classifier.tokenizer)
    return Question(own, own.encode("the good film a bad fine dull film"), target=1)
