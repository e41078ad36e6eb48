"""The README's list of calls: every line runs as it stands, on a tiny model of its kind."""

import copy
import re
from pathlib import Path

import pytest
from PIL import Image
from support.images import photo, processor_of
from support.text_models import CHAT_TEMPLATE, encoder_decoder, language_model
from support.tiny_models import build

from attnflow import Attribution, Explainer

README = Path(__file__).parents[1] / "README.md"
LISTED = re.search(
    r"^The same call.*?^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M
)[1].splitlines()
KINDS = [  # of the lines in their order: the model that each is for, and its task
    ("classifier", "text-classification"),
    ("classifier", "text-classification"),
    ("classifier", "text-classification"),
    ("answering", "question-answering"),
    ("embedding", "sentence-similarity"),
    ("labelling", "token-classification"),
    ("filling", "fill-mask"),
    ("speaking", "text-generation"),
    ("speaking", "text-generation"),
    ("speaking", "text-generation"),
    ("speaking", "text-generation"),
    ("speaking", "text-generation"),
    ("translating", "text2text-generation"),
    ("seeing", "image-classification"),
    ("classifier", "text-classification"),
    ("classifier", "text-classification"),
]
NAMES = dict(
    text="the film is not good, but it was never dull.",
    article="Emma was written by Jane Austen.",
    book="a dull film, but the dog was smart. " * 2,
)


@pytest.fixture
def explainers(tiny, tokenizer, reader):
    """Return a function that makes an explainer of a kind."""
    chatting = copy.deepcopy(reader)
    chatting.chat_template = CHAT_TEMPLATE
    heads = dict(
        answering="QuestionAnswering",
        embedding=None,
        labelling="TokenClassification",
        filling="MaskedLM",
        classifier="SequenceClassification",
    )

    def make(kind):
        if kind == "speaking":
            return Explainer(language_model(max_position_embeddings=96), chatting)
        if kind == "translating":
            return encoder_decoder(tokenizer)
        if kind == "seeing":
            model = build("vit")
            return Explainer(model, processor_of(model))
        labels = ("start", "end") if kind == "answering" else ("negative", "neutral", "positive")
        return Explainer(
            tiny(head=heads[kind], labels=labels, max_position_embeddings=96), tokenizer
        )

    return make


@pytest.mark.parametrize(
    ("line", "kind", "task"), [(x, *y) for x, y in zip(LISTED, KINDS, strict=True)]
)
def test_a_line_of_the_readme(line, kind, task, explainers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo()).save("cat.png")
    found = []

    def explainer(*args, **options):
        found.append(explainers(kind)(*args, **options))
        return found[0]

    eval(line, {"explainer": explainer, **NAMES})
    each = found[0] if isinstance(found[0], list) else [found[0]]
    assert each and all(isinstance(a, Attribution) for a in each)
    for a in each:
        assert a.task == task and a.certificate.is_certified
