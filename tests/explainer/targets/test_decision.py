"""Decisions: which output is explained, at which position, and against which other."""

import numpy as np
import pytest
from support.attribution_checks import close
from support.text_models import PROMPT, next_log_probabilities

from attnflow import Explainer, InputError
from attnflow.attribution import Results
from attnflow.explainer.targets.output_space import Vocabulary


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


@pytest.mark.parametrize("tensor", ["net", "bcf", "cf", "agf"])
def test_every_class_of_a_text(exact, texts, tensor):
    every = exact(texts[:2], target="all", tensor=tensor)
    assert [[a.target for a in of_text] for of_text in every] == [[0, 1, 2]] * 2
    for text, of_text in zip(texts[:2], every, strict=True):
        for a in of_text:
            close(a, exact(text, target=a.target, tensor=tensor), 1e-7)
    alone = exact(texts[0], target="all", tensor=tensor)
    assert type(alone) is Results and [a.target for a in alone] == [0, 1, 2]


def test_several_targets_of_a_text_share_its_first_forward_pass(exact, texts):
    calls = []
    hook = exact.model.register_forward_hook(lambda m, args, out: calls.append(len(out.logits)))
    try:
        some = exact(texts[0], target=["negative", "positive"])
        assert calls == [1, 2, 2, 2], "the text once, and three stages of both"
        calls.clear()
        exact(texts[0], target="all", stages=())
        assert calls == [1]
    finally:
        hook.remove()
    assert [a.label for a in some] == ["negative", "positive"]


def test_several_targets_of_each_text(exact, texts):
    first, second = exact(texts[:2], target=[[0, 2], "neutral"])
    assert [a.target for a in first] == [0, 2] and [a.target for a in second] == [1]
    against = exact(texts[0], target=[0, 1], against="positive")
    assert [a.against for a in against] == [2, 2]


def test_the_most_probable_classes(exact, texts):
    every = exact(texts[:2], target="top9")
    for text, of_text in zip(texts[:2], every, strict=True):
        order = np.argsort(-exact(text).logits).tolist()
        assert [a.target for a in of_text] == order
    two = exact(texts[0], target="top2")
    assert [a.target for a in two] == [a.target for a in every[0]][:2]
    for a in two:
        close(a, exact(texts[0], target=a.target), 1e-7)


def test_the_most_probable_tokens(writer):
    three = writer(PROMPT, target="top3")
    likeliest = sorted(zip(-writer(PROMPT).logits[:-1], writer(PROMPT).labels, strict=False))
    assert [a.label for a in three] == [label for _, label in likeliest[:3]]
    with pytest.raises(InputError, match=r'target=\[...\], or "top3"'):
        writer(PROMPT, target="all")


def test_a_token_named_all_is_not_meant_by_it(writer, monkeypatch):
    monkeypatch.setattr(Vocabulary, "index", lambda self, target: 7)
    with pytest.raises(InputError, match="explains every class of a classifier"):
        writer(PROMPT, target="all")


def test_a_class_named_top_is_meant_by_it(tiny, tokenizer, texts):
    explainer = Explainer(tiny(labels=("none", "top2", "some")), tokenizer)
    assert explainer(texts[0], target="top2").target == 1
    with pytest.raises(InputError, match="'top0' is not a class"):
        explainer(texts[0], target="top0")


def test_several_tokens_of_a_language_model(writer):
    some = writer(PROMPT, target=["good", "bad"])
    for a, label in zip(some, ("good", "bad"), strict=True):
        assert a.label == label
        np.testing.assert_allclose(a.scores, writer(PROMPT, target=label).scores, atol=1e-6)
    with pytest.raises(InputError, match="explains every class of a classifier"):
        writer(PROMPT, target="all")


def test_a_class_of_that_name_comes_first(tiny, tokenizer, texts):
    explainer = Explainer(tiny(labels=("none", "some", "all")), tokenizer)
    assert explainer(texts[0], target="all").target == 2


def test_an_empty_list_of_targets_is_refused(exact, texts):
    with pytest.raises(InputError, match="empty list for an example"):
        exact(texts[:2], target=[[0], []])


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


def test_several_targets_of_one_text_are_named_as_one_text(writer):
    ids = writer.tokenizer(PROMPT)["input_ids"]
    predicted = int(next_log_probabilities(writer.model, ids)[-1].argmax())
    with pytest.raises(InputError, match="no contrast with itself") as alone:
        writer(PROMPT, target=["good", None], against=predicted)
    assert "text 1" not in str(alone.value)
    with pytest.raises(InputError, match="no contrast with itself") as two:
        writer(["good", PROMPT], target=[["good", "bad"], ["good", None]], against=predicted)
    assert "text 1 (of 2)" in str(two.value)


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
