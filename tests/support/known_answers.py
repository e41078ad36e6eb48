"""Models with a known answer, a sum of numbers of words or patches; and small random ones."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
)

from attnflow.methods import Classifier, ImageClassifier, Instance, LanguageModel

WORDS = {"good": 3.0, "fine": 1.5, "dull": -1.0, "bad": -2.0, "the": 0.0, "film": 0.0, "a": 0.0}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD, BAD = (len(SPECIAL) + list(WORDS).index(word) for word in ("good", "bad"))
PATCHES = [1.0, 3.0, -2.0, 0.5, 0.0, 4.0]  # of an image of two rows of three


class Config(SimpleNamespace):
    """Entries, as a config of a model of texts alone has them."""

    def get_text_config(self):
        return self


class Additive(nn.Module):
    """logit of class 1 = sum of the words' numbers, of class 0 = 0; masked words count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(len(SPECIAL) + len(WORDS), 1)
        self.table.weight.data = torch.tensor([0.0] * len(SPECIAL) + list(WORDS.values()))[:, None]
        self.config = Config(
            id2label={0: "negative", 1: "positive"},
            max_position_embeddings=64,
            model_type="additive",
            pad_token_id=0,
        )

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, token_type_ids=None):
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
def instance(classifier):
    """Return an instance of one text, with class 1 as its target."""

    def ask(text="the good film a bad fine dull film", target=1):
        return Instance(classifier, classifier.encode(text), target)

    return ask


@pytest.fixture(scope="session")
def oracle():
    """The words' own numbers, for the instance's tokens."""

    def scores(instance):
        return np.array([WORDS.get(token, 0.0) for token in instance.content.tokens])

    return scores


@pytest.fixture(scope="session")
def bert(classifier):
    """An instance about a small random BERT, whose biases are not 0."""
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
    return Instance(own, own.encode("the good film a bad fine dull film"), target=1)


class AdditiveLanguageModel(nn.Module):
    """The next token is `good` by the sum of the words' numbers so far, against `bad` by 0."""

    main_input_name = "input_ids"

    def __init__(self) -> None:
        super().__init__()
        self.table = Additive().table
        self.config = Config(max_position_embeddings=64, model_type="additive")

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, token_type_ids=None):
        embedded = self.table(input_ids) if inputs_embeds is None else inputs_embeds
        total = (embedded[..., 0] * attention_mask).cumsum(1)
        others = [torch.zeros_like(total), torch.full_like(total, -50.0)]
        columns = {GOOD: total, BAD: others[0]}
        return SimpleNamespace(
            logits=torch.stack(
                [columns.get(i, others[1]) for i in range(len(self.table.weight))], 2
            )
        )


class AdditiveEmbeddings(nn.Module):
    """A class token of 0, and for each patch of 2 x 2 pixels its mean times its own number."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 1))
        self.cut = nn.Conv2d(1, 1, kernel_size=2, stride=2, bias=False)
        self.cut.weight.data = torch.full((1, 1, 2, 2), 0.25)

    def forward(self, pixel_values):
        patches = self.cut(pixel_values).flatten(2).mT * torch.tensor(PATCHES)[:, None]
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)


class AdditiveImageClassifier(nn.Module):
    """logit of class 1 = sum of what its patches have."""

    main_input_name = "pixel_values"

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = AdditiveEmbeddings()
        self.config = Config(id2label={0: "no", 1: "yes"}, num_channels=1)

    @property
    def base_model(self):
        return self

    def forward(self, pixel_values):
        total = self.embeddings(pixel_values).sum((1, 2))
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(total), total], 1))


def called(name, kind):
    """A class under the name of one of transformers', by which its task is known."""
    return type(name, (kind,), {})


@pytest.fixture(scope="session")
def additive_language(classifier):
    """An instance about a text's next token, `good`."""
    own = called("LlamaForCausalLM", AdditiveLanguageModel)().eval()
    adapter = LanguageModel(own, classifier.tokenizer)

    def ask(text="the good film a bad fine dull film"):
        whole = adapter.encode(text)  # with [SEP] at its end, which does not belong behind a prompt
        return Instance(adapter, adapter.cut(whole, len(whole.tokens) - 1), GOOD)

    return ask


@pytest.fixture(scope="session")
def additive_image():
    """An instance about an image of six patches, each of one grey, of which the last is black."""
    adapter = ImageClassifier(called("ViTForImageClassification", AdditiveImageClassifier)().eval())
    grey = torch.tensor([[1.0, 0.5, 1.0], [2.0, 1.0, 0.0]])
    pixels = grey.repeat_interleave(2, 0).repeat_interleave(2, 1)[None]
    return Instance(adapter, adapter.encode(pixel_values=pixels), target=1)


@pytest.fixture(scope="session")
def llama(classifier):
    """An instance about a small random Llama with biases and grouped heads."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = LlamaConfig(
            vocab_size=12, hidden_size=16, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, intermediate_size=24, max_position_embeddings=32,
            initializer_range=0.2, attention_bias=True,
        )  # fmt: skip
        model = LlamaForCausalLM(config).eval()
    own = LanguageModel(model, classifier.tokenizer)
    text = own.cut(own.encode("the good film a bad fine dull film"), 9)
    target = own.predicted([own.whole_variant(text)])[0]
    return Instance(own, text, target)


@pytest.fixture(scope="session")
def vit():
    """An instance about a small random ViT of twelve patches."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        config = ViTConfig(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24,
            image_size=(6, 8), patch_size=2, num_channels=3, num_labels=3, initializer_range=0.2,
        )  # fmt: skip
        model = ViTForImageClassification(config).eval()
        pixels = torch.randn(3, 6, 8)
    adapter = ImageClassifier(model)
    return Instance(adapter, adapter.encode(pixel_values=pixels), target=1)
