"""Two texts that a model reads as one, and targets that are functions of its output."""

import numpy as np
import pytest
import torch
from transformers import CanineTokenizer

from attnflow import Explainer, InputError
from attnflow.cli import main
from attnflow.inputs.text import encode

PREMISE, HYPOTHESIS = "the film is not good", "a dull film!"


def test_a_pair_is_read_as_the_model_reads_it(exact, tokenizer):
    a = exact(PREMISE, pair=HYPOTHESIS, tensor="cf")
    inputs = tokenizer(PREMISE, HYPOTHESIS, return_tensors="pt")
    assert list(a.tokens) == tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    with torch.no_grad():
        logits = exact.model(**inputs).logits[0]
    np.testing.assert_allclose(a.logits, logits.numpy(), rtol=1e-12)
    alone = exact(PREMISE, tensor="cf")
    assert not np.allclose(a.logits, alone.logits)


def test_every_token_of_a_pair_stands_in_its_own_line(exact):
    a = exact(PREMISE, pair=HYPOTHESIS, tensor="cf")
    assert a.text == f"{PREMISE}\n{HYPOTHESIS}"
    assert [word.text for word in a.words()] == [*PREMISE.split(), "a", "dull", "film", "!"]
    assert all(a.text[w.start : w.end] == w.text for w in a.words())
    assert a.special.sum() == 3  # [CLS] premise [SEP] hypothesis [SEP]


def test_a_pair_for_each_text_or_one_for_all(exact):
    texts = [PREMISE, "a dog"]
    each = exact(texts, pair=[HYPOTHESIS, "bad"])
    for got, text, other in zip(each, texts, [HYPOTHESIS, "bad"], strict=True):
        alone = exact(text, pair=other)
        np.testing.assert_allclose(got.scores, alone.scores, atol=1e-9)
    assert [a.text for a in exact(texts, pair="bad")] == [f"{text}\nbad" for text in texts]


def test_a_long_pair_is_cut_when_asked(exact):
    long = "the film is not good " * 6
    with pytest.raises(InputError, match="the model takes 32"):
        exact(long, pair=HYPOTHESIS)
    with pytest.warns(UserWarning, match="was cut to 32 tokens"):
        a = exact(long, pair=HYPOTHESIS + " a dog" * 6, truncate=True, tensor="cf")
    assert len(a) == 32 and a.words()[-1].start > len(long)


def test_pairs_that_cannot_be_read(exact, tokenizer):
    with pytest.raises(InputError, match="the text is empty"):
        exact(PREMISE, pair=" ")
    with pytest.raises(InputError, match="pair must be one for all or 2"):
        exact([PREMISE, PREMISE], pair=["a"])
    with pytest.raises(InputError, match="pair goes with texts"):
        exact(input_ids=[2, 5, 3], pair="a")
    with pytest.raises(InputError, match="a pair needs a fast tokenizer"):
        encode(CanineTokenizer(), "a", "b", limit=None)


def test_a_pair_on_the_command_line(folder, capsys):
    assert main(["explain", PREMISE, "--pair", HYPOTHESIS, "--model", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "[SEP]" in shown and all(word in shown for word in ("good", "dull"))


def margin(output):
    return output.logits[:, 0] - output.logits[:, 2]


def test_a_function_of_the_output_as_target(exact):
    a = exact(PREMISE, target=margin, tensor="cf")
    assert a.label == "margin" and a.labels == ("margin",)
    contrast = exact(PREMISE, target=0, against=2, tensor="cf")
    assert a.logits[0] == pytest.approx(contrast.logits[0] - contrast.logits[2], rel=1e-12)
    np.testing.assert_allclose(a.scores, contrast.scores, rtol=1e-9)


def test_a_function_of_the_output_in_stages_and_batches(exact, texts):
    together = exact(texts, target=margin)
    for text, got in zip(texts, together, strict=True):
        np.testing.assert_allclose(got.scores, exact(text, target=margin).scores, atol=1e-9)


def test_a_function_that_reads_the_last_position_reads_no_padding(tiny, tokenizer, texts):
    explainer = Explainer(tiny(head=None).double(), tokenizer)

    def last(output):
        return output.last_hidden_state[:, -1, 0]

    for tensor in ("af", "cf"):
        together = explainer(texts, target=last, tensor=tensor)
        for text, got in zip(texts, together, strict=True):
            alone = explainer(text, target=last, tensor=tensor)
            assert got.logits == pytest.approx(alone.logits, rel=1e-9)


def test_functions_that_are_no_target(exact):
    with pytest.raises(InputError, match="detached, constant or counts"):
        exact(PREMISE, target=lambda output: output.logits[:, 0].detach())
    with pytest.raises(InputError, match="one number for each text.*int64"):
        exact(PREMISE, target=lambda output: output.logits.argmax(1))
    with pytest.raises(InputError, match="one number for each text"):
        exact(PREMISE, target=lambda output: output.logits)
    with pytest.raises(InputError, match="reads the model's output by itself"):
        exact(PREMISE, target=margin, against=1)


def test_a_model_without_a_head_has_functions_alone(tiny, tokenizer):
    explainer = Explainer(tiny(head=None), tokenizer)
    a = explainer(PREMISE, target=lambda output: output.last_hidden_state[:, 0, 0])
    assert a.label == "target" and a.certificate.is_certified
