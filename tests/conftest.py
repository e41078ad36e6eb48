"""What all tests share: one thread, tiny random classifiers, and the embedded model."""

import copy
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # no test uses the network

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from attnflow import Explainer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = "a the film is not good bad very dull smart dog cute it was never but . , ! ' - t don"
PIECES = [letter for letter in "abcdefghijklmnopqrstuvwxyz"] + ["##ly", "##ing", "##s", "##er"]
TEXTS = [
    "the film is not good, but it was never dull.",
    "a smart dog!",
    "bad",
    "the dullest, dullest films",
]
LABELS = ("negative", "neutral", "positive")


def wordpiece() -> PreTrainedTokenizerFast:
    """Lower-casing WordPiece like BERT's, with every letter in its vocabulary."""
    letters = [f"##{letter}" for letter in PIECES if len(letter) == 1]
    vocabulary = dict.fromkeys([*SPECIAL, *WORDS.split(), *PIECES, *letters])
    ids = {token: i for i, token in enumerate(vocabulary)}
    raw = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )


def tiny_model(family="Bert", *, labels=LABELS, head="SequenceClassification", seed=5, **options):
    """A random model of a family, sharp enough that tokens differ, in evaluation mode."""
    torch.manual_seed(seed)
    settings = dict(
        vocab_size=100,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        pad_token_id=0,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    config = getattr(transformers, f"{family}Config")(**(settings | options))
    model = getattr(transformers, family + (f"For{head}" if head else "Model"))(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return model.eval()


def state_of(model):
    """What a call may lend or touch, for comparison before and after."""
    return {
        "config": model.config.to_dict(),
        "attention": model.config._attn_implementation,
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "gradients": [p.grad is None for p in model.parameters()],
        "weights": [(id(p), p._version) for p in model.parameters()],
        "training": [m.training for m in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "gradient mode": torch.is_grad_enabled(),
    }


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def texts():
    return list(TEXTS)


@pytest.fixture(scope="session")
def tokenizer():
    return wordpiece()


@pytest.fixture(scope="session")
def reader(tokenizer):
    """The tests' tokenizer as a language model has it: nothing is added."""
    own = copy.deepcopy(tokenizer)
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    return own


@pytest.fixture(scope="session")
def tiny():
    return tiny_model


@pytest.fixture(scope="session")
def state():
    return state_of


@pytest.fixture(scope="session")
def explainer(tokenizer):
    """A tiny BERT in float32."""
    return Explainer(tiny_model(), tokenizer, name="tiny")


@pytest.fixture(scope="session")
def exact(tokenizer):
    """The same in float64."""
    return Explainer(tiny_model().double(), tokenizer, name="tiny64")


@pytest.fixture(scope="session")
def embedded():
    """The embedded model, loaded once."""
    return Explainer.from_pretrained()


@pytest.fixture(scope="session")
def save_model(tmp_path_factory, tokenizer):
    """Writes a model, and its tokenizer unless told not to, into a folder of its own."""

    def save(model, *, with_tokenizer=True):
        folder = tmp_path_factory.mktemp("model")
        model.save_pretrained(folder)
        if with_tokenizer:
            tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def folder(save_model):
    """A saved tiny BERT."""
    return save_model(tiny_model())
