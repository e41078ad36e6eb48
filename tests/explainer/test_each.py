"""Explanations of many texts of which some fail: the same results, and errors of their own."""

import warnings
import weakref

import numpy as np
import pytest
import torch

from attnflow.errors import InputError
from attnflow.explainer.each import Question, explain_each, is_out_of_memory
from attnflow.explainer.options import CallOptions
from attnflow.explainer.targets.decision import TargetOptions
from attnflow.inputs.given import Given


def ask(*texts, target=None, **given):
    return [Question(Given(texts=text, **given), TargetOptions(target)) for text in texts]


def forward_that(monkeypatch, explainer, before):
    """Call `before` with the shape `(batch, tokens)` of each forward pass."""
    forward = explainer.model.forward

    def watched(*args, **kwargs):
        given = kwargs.get("input_ids")
        before(*(kwargs["inputs_embeds"] if given is None else given).shape[:2])
        return forward(*args, **kwargs)

    monkeypatch.setattr(explainer.model, "forward", watched)


@pytest.mark.parametrize("options", ({}, {"tensor": "agf"}, {"batch_size": 2}, {"coarsen": "word"}))
def test_results_are_those_of_a_call_with_the_same_texts(explainer, texts, options):
    found = explain_each(explainer, ask(*texts), CallOptions(**options))
    for outcome, expected in zip(found, explainer(texts, **options), strict=True):
        a = outcome.attribution
        assert (outcome.error, outcome.kind) == (None, None)
        assert np.array_equal(a.scores, expected.scores)
        assert (a.tokens, a.label, a.certificate) == (
            expected.tokens, expected.label, expected.certificate,
        )  # fmt: skip


def test_texts_that_cannot_be_read_leave_the_others_as_they_are(explainer, texts):
    mixed = [*texts[:2], "", 7, "word " * 90, *texts[2:]]
    found = explain_each(explainer, ask(*mixed), CallOptions())
    assert [outcome.error is None for outcome in found] == [True] * 2 + [False] * 3 + [True] * 2
    assert all(outcome.kind == "InputError" for outcome in found[2:5])
    expected = explainer(texts)
    for outcome, a in zip([*found[:2], *found[5:]], expected, strict=True):
        assert np.array_equal(outcome.attribution.scores, a.scores)


def test_each_text_has_a_target_of_its_own(explainer):
    questions = [ask("a dog", target=name)[0] for name in ("positive", "nothing", 0, "all")]
    one, two, three, four = explain_each(explainer, questions, CallOptions())
    assert [a.attribution.label for a in (one, three)] == ["positive", "negative"]
    assert "nothing" in two.error and "expected one decision about a text, got 3" in four.error


def test_an_option_that_does_not_suit_the_model_is_no_text_s_error(explainer):
    with pytest.raises(InputError):
        explain_each(explainer, ask("a dog"), CallOptions(attention_sink="exclude", tensor="af"))


def test_a_batch_without_memory_is_halved_and_a_text_fails_alone(explainer, texts, monkeypatch):
    shapes = []

    def run_out(batch, tokens):
        shapes.append((batch, tokens))
        if tokens >= 20:
            raise torch.OutOfMemoryError("CUDA out of memory")

    whole = explainer(texts)
    forward_that(monkeypatch, explainer, run_out)
    found = explain_each(explainer, ask(*texts, "dog " * 20), CallOptions())
    assert found[4].error == "CUDA out of memory" and found[4].kind == "OutOfMemoryError"
    for outcome, a in zip(found[:4], whole, strict=True):
        assert np.allclose(outcome.attribution.scores, a.scores, atol=1e-6)
    failed = [batch for batch, tokens in shapes if tokens >= 20]
    assert failed == [5, 3, 2, 1] or failed == [5, 3, 1] or failed == [5, 2, 1], failed


def test_a_batch_that_fails_otherwise_is_tried_text_by_text(explainer, texts, monkeypatch):
    shapes = []

    def fail(batch, tokens):
        shapes.append(batch)
        if tokens >= 20:
            raise ValueError("an index is out of range")

    forward_that(monkeypatch, explainer, fail)
    found = explain_each(explainer, ask(*texts, "dog " * 20), CallOptions())
    assert [outcome.error is None for outcome in found] == [True] * 4 + [False]
    assert "an index is out of range" in found[4].error
    assert shapes[0] == 5 and set(shapes[1:]) == {1}


def test_tensors_of_a_batch_that_failed_are_freed_before_it_is_tried_again(
    explainer, texts, monkeypatch
):
    held, alive = [], []

    def run_out(batch, tokens):
        alive.extend(one() is not None for one in held)
        tensor = torch.ones(batch, tokens)
        held.append(weakref.ref(tensor))
        if batch > 1:
            raise MemoryError

    forward_that(monkeypatch, explainer, run_out)
    found = explain_each(explainer, ask(*texts), CallOptions())
    assert all(outcome.error is None for outcome in found)
    assert alive and not any(alive)


def test_an_interruption_ends_everything(explainer, texts, monkeypatch):
    def interrupt(batch, tokens):
        raise KeyboardInterrupt

    forward_that(monkeypatch, explainer, interrupt)
    with pytest.raises(KeyboardInterrupt):
        explain_each(explainer, ask(*texts), CallOptions())


def test_warnings_go_with_their_text(explainer, monkeypatch):
    read = type(explainer.begin_call(CallOptions(), None)).requests

    def warning(call, given, explained):
        if given.texts == "bad":
            warnings.warn("this text is bad", UserWarning, stacklevel=2)
        return read(call, given, explained)

    monkeypatch.setattr("attnflow.explainer.call.Call.requests", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explain_each(explainer, ask("a dog", "bad", "a film", "bad"), CallOptions())
    assert [outcome.warnings for outcome in found] == [
        [], ["this text is bad"], [], ["this text is bad"],
    ]  # fmt: skip


def test_warnings_of_other_kinds_are_shown_as_ever(explainer, monkeypatch):
    read = type(explainer.begin_call(CallOptions(), None)).requests

    def warning(call, given, explained):
        warnings.warn("a library will change", FutureWarning, stacklevel=2)
        return read(call, given, explained)

    monkeypatch.setattr("attnflow.explainer.call.Call.requests", warning)
    with pytest.warns(FutureWarning, match="a library will change"):
        explain_each(explainer, ask("a dog"), CallOptions())


def test_errors_that_tell_of_memory_are_known():
    told = (
        MemoryError(), torch.OutOfMemoryError(), RuntimeError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    )  # fmt: skip
    assert all(map(is_out_of_memory, told))
    assert not any(map(is_out_of_memory, (ValueError("out of memory"), RuntimeError("shape"))))


def test_no_questions_have_no_outcomes(explainer):
    assert explain_each(explainer, [], CallOptions()) == []
