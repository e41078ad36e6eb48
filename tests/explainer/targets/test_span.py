"""Spans of tokens explained at once."""

import numpy as np
import pytest
import torch
from support.attribution_checks import assert_scores_add_up
from support.text_models import (
    PROMPT,
    SOURCE,
    encoder_decoder,
    language_model,
    next_log_probabilities,
)

from attnflow import InputError, load, save
from attnflow.capture import Objective, capture
from attnflow.capture.objectives import logit
from attnflow.explainer.targets.span import span_reading

TENSORS = ("af", "gf", "agf", "cf", "bcf")


@pytest.mark.parametrize("tensor", TENSORS)
def test_one_token_is_that_token(writer, tensor):
    (alone,) = writer(PROMPT, continuation=" good", tensor=tensor)
    span = writer(PROMPT, continuation=" good", span=True, tensor=tensor)
    np.testing.assert_allclose(span.scores, alone.scores, rtol=1e-6, atol=1e-9)
    assert (span.position, span.span, alone.span) == (3, (4, 5), None)
    assert span.label == "good" and span.labels[1] == "(all others)"
    ours = span.probabilities[span.target]
    assert ours == pytest.approx(alone.probabilities[alone.target], rel=1e-5)


def test_its_probability_is_the_product(writer, reader):
    a = writer(PROMPT, continuation=" good dog", span=True)
    ids = reader(PROMPT + " good dog")["input_ids"]
    likely = next_log_probabilities(writer.model, ids)
    product = (likely[3, ids[4]] + likely[4, ids[5]]).exp().item()
    assert a.probabilities[0] == pytest.approx(product, rel=1e-5) and a.label == "good dog"
    assert a.certificate.is_certified
    assert_scores_add_up(a)
    by_attention = writer(PROMPT, continuation=" good dog", span=True, tensor="agf")
    for one in (a, by_attention):
        assert one.scores[5] == 0, "nothing is read from the last token"
    assert by_attention.scores[4] > 0, '"good" is read for "dog"'


def test_one_forward_and_one_backward_pass(writer, monkeypatch):
    passes, backwards, grad = [], [], torch.autograd.grad

    def counted(*args, **options):
        backwards.append(1)
        return grad(*args, **options)

    handle = writer.model.model.register_forward_hook(lambda *_: passes.append(1))
    monkeypatch.setattr(torch.autograd, "grad", counted)
    writer(PROMPT, continuation=" good dog", span=True, tensor="cf")
    handle.remove()
    assert (len(passes), len(backwards)) == (1, 1)


def test_inside_a_text_and_in_a_batch(writer):
    whole = writer(PROMPT, continuation=" good dog", span=True)
    inside = writer(f"{PROMPT} good dog", span=(4, 6))
    np.testing.assert_array_equal(inside.scores, whole.scores)
    together = writer(["a dog", f"{PROMPT} good dog was bad"], span=[(1, 2), (4, 6)])
    alone = writer("a dog", span=(1, 2))
    np.testing.assert_allclose(together[0].scores, alone.scores, rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(together[1].scores[:6], whole.scores, rtol=2e-4, atol=1e-7)
    assert (together[1].scores[5:] == 0).all()


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_effects_of_cf_add_up_to_the_sum(decoder_without_biases, name):
    model = decoder_without_biases(name)
    torch.manual_seed(1)
    ids = torch.randint(5, 90, (2, 8))
    at, tokens = torch.tensor([[3, 4, 5], [2, 2, 2]]), torch.tensor([[7, 8, 9], [6, -1, -1]])
    got = capture(
        model,
        {"input_ids": ids},
        Objective(torch.tensor([0, 0]), read=span_reading(at, tokens, logit), position=at),
    )
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    value = torch.stack([logits[0, [3, 4, 5], [7, 8, 9]].sum(), logits[1, 2, 6]])
    layers = got.signed.sum((-2, -1)) + got.residual.sum(-1)
    torch.testing.assert_close(layers, value[:, None].expand_as(layers), rtol=1e-5, atol=1e-6)
    assert got.sources.nonzero().tolist() == [[0, 3], [0, 4], [0, 5], [1, 2]]


@pytest.fixture
def decoder_without_biases():
    def make(name):
        model = language_model({"llama": "LlamaForCausalLM", "gpt2": "GPT2LMHeadModel"}[name])
        with torch.no_grad():
            for own, parameter in model.named_parameters():
                if own.endswith("bias"):
                    parameter.zero_()
        return model.double()

    return make


@pytest.mark.parametrize("tensor", ("cf", "bcf"))
def test_a_span_that_an_encoder_decoder_writes(tokenizer, tensor):
    explainer = encoder_decoder(tokenizer)
    alone = explainer(SOURCE, continuation="bad", tensor=tensor)[0]
    span = explainer(SOURCE, continuation="bad", span=True, tensor=tensor)
    np.testing.assert_allclose(span.scores, alone.scores, rtol=1e-6, atol=1e-9)
    both = explainer(SOURCE, continuation="bad film", span=True, tensor=tensor)
    assert both.label == "bad film" and both.certificate.is_certified
    start = len(tokenizer(SOURCE)["input_ids"])
    with pytest.raises(InputError, match=rf"expected {start + 1} <= start"):
        explainer(SOURCE, continuation="bad film", span=(start, start + 1))


def test_files_keep_the_span(writer, tmp_path):
    a = writer(PROMPT, continuation=" good dog", span=True, tensor="cf")
    a.save(tmp_path / "a.safetensors")
    (b,) = load(tmp_path / "a.safetensors")
    assert b.span == (4, 6) and a.to_dict()["span"] == (4, 6)
    save([b], tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(span=(0, 2)), r"span \(0, 2\) is not in the text: expected 1 <= start < stop <= 4"),
        (dict(span=(2, 5)), "not in the text"),
        (dict(span=(2, 2)), "not in the text"),
        (dict(span=(-2, -1)), "not in the text"),
        (dict(span=True), "span=True is the whole continuation .*: give one"),
        (dict(span=False), r"span must be \(start, stop\)"),
        (dict(span=3), r"span must be \(start, stop\)"),
        (dict(span=(1.0, 2)), r"span must be \(start, stop\)"),
        (dict(span=(1, 2), target="good"), "target and span exclude each other"),
        (dict(span=(1, 2), position=2), "position and span exclude each other"),
        (dict(span=(1, 2), against="bad"), "two spans, explain them one after the other"),
        (dict(span=True, continuation=" good", against="bad"), "against and span exclude each"),
        (dict(span=(1, 2), target="good", against="bad"), "explain them one after the other"),
        (dict(continuation=" good", against="bad"), "two continuations, explain them one after"),
        (dict(span=[(1, 2), (2, 3)]), "span must be one for all or 1"),
        (dict(span=True, continuation=""), "the continuation '' is empty"),
    ],
)
def test_bad_spans(writer, options, message):
    with pytest.raises(InputError, match=message):
        writer(PROMPT, **options)


def test_a_classifier_has_no_spans(explainer):
    with pytest.raises(InputError, match="span is for models that write"):
        explainer("a smart dog", span=(1, 2))
