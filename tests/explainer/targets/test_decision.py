"""Decisions: which output is explained, at which position, and against which other."""

import numpy as np
import pytest
from support.attribution_checks import close
from support.text_models import PROMPT, next_log_probabilities

from attnflow import Explainer, InputError


def test_targets_for_each_text(exact, texts):
    predicted = [a.target for a in exact(texts)]
    other = (predicted[1] + 1) % 3
    mixed = exact(texts, target=[None, other, "neutral", None])
    assert [a.target for a in mixed] == [predicted[0], other, 1, predicted[3]]
    close(mixed[1], exact(texts[1], target=other), 1e-9)
    close(mixed[0], exact(texts[0]), 1e-9)
    with_array = exact(texts, target=np.array([0, 1, 2, 0]))
    assert [a.target for a in with_array] == [0, 1, 2, 0]
    assert [a.target for a in exact(texts, target="neutral")] == [1] * 4


def test_the_class_matters(explainer, texts):
    scores = [explainer(texts[0], target=target).scores for target in range(3)]
    assert not np.allclose(scores[0], scores[1]) and not np.allclose(scores[1], scores[2])


@pytest.mark.parametrize("target", ([], [0], [0, 1, 2]))
def test_targets_are_as_many_as_texts(explainer, texts, target):
    with pytest.raises(
        InputError, match=f"must be one for all or 2, like texts; got {len(target)}"
    ):
        explainer(texts[:2], target=target)


def test_one_token_against_another(writer):
    a = writer(PROMPT, target="good", against="bad")
    assert a.labels[a.target] == "good" and a.labels[a.against] == "bad"
    assert not np.allclose(a.scores, writer(PROMPT, target="good").scores)
    with pytest.raises(InputError, match="no contrast with itself"):
        writer(PROMPT, target="good", against="good")
    predicted = int(
        next_log_probabilities(writer.model, writer.tokenizer(PROMPT)["input_ids"])[-1].argmax()
    )
    with pytest.raises(InputError, match="no contrast with itself"):
        writer(PROMPT, against=predicted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(position=4), r"position 4 is outside the text: it has 4 tokens, 0 to 3 \(the dog"),
        (dict(position=-5), "outside the text"),
        (dict(position="last"), "position must be the index of a token"),
        (dict(target="good dog"), "not one token of this model but 2"),
        (dict(target=100), "token 100 is not in the vocabulary"),
        (dict(target=1.5), "a target must be a token"),
        (dict(continuation=""), "the continuation '' is empty"),
        (dict(continuation=0), "at least one; got 0"),
        (dict(continuation=" good", target="dog"), "target and continuation exclude each other"),
        (dict(input_ids=[1, 2]), "texts or input_ids, and not both"),
        (dict(continuation=" good" * 30), "has 34 tokens and the model takes 32"),
    ],
)
def test_bad_questions(writer, options, message):
    with pytest.raises(InputError, match=message):
        writer(PROMPT, **options)


def test_a_classifier_takes_no_position(explainer):
    with pytest.raises(InputError, match="decides about the whole text"):
        explainer("a smart dog", position=1)
    with pytest.raises(InputError, match="continuation is for models that write"):
        explainer("a smart dog", continuation=" good")


def test_a_classifier_contrasts_classes(explainer):
    a = explainer("a smart dog", target="positive", against="negative")
    assert (a.target, a.against) == (2, 0)
    assert not np.allclose(a.scores, explainer("a smart dog", target="positive").scores)


def test_the_mask_is_filled(tiny, tokenizer):
    explainer = Explainer(tiny(head="MaskedLM"), tokenizer)
    a = explainer("a [MASK] dog", target="smart")
    assert (a.task, a.position, a.label) == ("fill-mask", 2, "smart")
    with pytest.raises(InputError, match=r"has 2 tokens '\[MASK\]'"):
        explainer("[MASK] [MASK]")
    with pytest.raises(InputError, match=r"has 0 tokens '\[MASK\]'"):
        explainer("good")
    assert explainer("[MASK] [MASK]", position=1).position == 1


def test_a_label_of_a_token(tiny, tokenizer):
    explainer = Explainer(tiny(head="TokenClassification"), tokenizer)
    a = explainer("a smart dog", position=2)
    assert (a.task, a.position) == ("token-classification", 2) and a.label in a.labels
    wanted = r"say which one \(position=, --position\): 0 \[CLS\], 1 a, 2 smart"
    with pytest.raises(InputError, match=wanted):
        explainer("a smart dog")
