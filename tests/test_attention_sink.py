"""The first token that a decoder reads: kept, excluded or set apart; and what paths alone give."""

import numpy as np
import pytest
import torch
from test_encoder_decoders import SOURCE
from test_encoder_decoders import writer as encoder_decoder
from test_language_models import PROMPT, language_model

from attnflow import Explainer, InputError, load, maximum_flow
from attnflow.attention_sink import path_null


@pytest.fixture(scope="module")
def writer(reader):
    return Explainer(language_model(), reader, name="writer")


def test_kept_is_the_default(writer):
    a, b = writer(PROMPT), writer(PROMPT, attention_sink="keep")
    np.testing.assert_array_equal(a.scores, b.scores)
    assert a.attention_sink == "keep" and a.raw_scores is None


@pytest.mark.parametrize("tensor", ("af", "agf", "cf", "bcf"))
def test_excluded_no_flow_ends_there(writer, tensor):
    kept = writer(PROMPT, tensor=tensor)
    a = writer(PROMPT, tensor=tensor, attention_sink="exclude", edges=True)
    assert kept.scores[0] > 0 and a.scores[0] == 0
    np.testing.assert_array_equal(a.raw_scores, kept.scores)
    assert a.certificate.is_certified and a.edges[0, :, 0].max() == 0
    assert a.scores.sum() == pytest.approx(a.certificate.value, rel=1e-8)
    assert a.certificate.value <= kept.certificate.upper_bound * (1 + 1e-9)
    assert not a.special[0] and a.shares[0] == 0


def test_apart_it_has_a_score_and_no_rank(writer):
    kept, a = writer(PROMPT), writer(PROMPT, attention_sink="apart")
    np.testing.assert_array_equal(a.scores, kept.scores)
    assert a.special.tolist() == [True, False, False, False]
    assert "the" not in dict(a.top(4)) and [w.text for w in a.words()] == ["dog", "is", "not"]
    assert a.special_share == pytest.approx(a.scores[0] / a.scores.sum())


def test_in_a_batch_every_text_has_its_own_first_token(writer):
    texts = [PROMPT, "bad film"]
    together = writer(texts, tensor="cf", attention_sink="exclude")
    for text, a in zip(texts, together, strict=True):
        alone = writer(text, tensor="cf", attention_sink="exclude")
        np.testing.assert_allclose(a.scores, alone.scores, rtol=2e-4, atol=1e-7)
        np.testing.assert_allclose(a.raw_scores, alone.raw_scores, rtol=2e-4, atol=1e-7)


def test_a_text_of_the_first_token_alone_has_no_flow_without_it(writer):
    a = writer("bad", attention_sink="exclude")
    assert a.certificate.status == "empty" and a.raw_scores[0] > 0


def test_of_an_encoder_decoder_it_is_the_prefix_that_begins(tokenizer):
    explainer = encoder_decoder(tokenizer)
    a = explainer(SOURCE, continuation="bad film", tensor="cf", attention_sink="exclude")[1]
    start = len(tokenizer(SOURCE)["input_ids"])
    assert a.scores[start] == 0 and a.scores[:start].sum() > 0 and a.null_shares is None


def test_only_models_that_write_have_one(explainer, writer):
    with pytest.raises(InputError, match="attention_sink 'apart' is for models that read from the"):
        explainer("a smart dog", attention_sink="apart")
    with pytest.raises(InputError, match="must be one of keep, exclude, apart, got 'drop'"):
        writer(PROMPT, attention_sink="drop")


def test_files_keep_the_policy(writer, tmp_path):
    a = writer(PROMPT, attention_sink="exclude")
    a.save(tmp_path / "a.safetensors")
    (b,) = load(tmp_path / "a.safetensors")
    assert b.attention_sink == "exclude"
    np.testing.assert_array_equal(b.raw_scores, a.raw_scores)
    np.testing.assert_array_equal(b.null_shares, a.null_shares)
    assert a.to_dict()["raw_scores"] == a.raw_scores.tolist()


def test_the_null_is_the_maximum_flow_of_its_network():
    t, layers, position, residual = 7, 3, 5, 0.5
    uniform = np.tril(np.ones((t, t))) / np.arange(1, t + 1)[:, None]
    layer = residual * np.eye(t) + (1 - residual) * uniform
    capacities, arrives = np.zeros((1, layers, t, t)), np.eye(t)[position]
    for row in reversed(range(layers)):
        capacities[0, row] = arrives[:, None] * layer
        arrives = capacities[0, row].sum(0)
    sources = torch.arange(t) == position
    flow = maximum_flow(torch.tensor(capacities), sources=sources, gap=1e-6)
    np.testing.assert_allclose(path_null(t, layers, position), flow.sink[0], atol=1e-5)


def test_without_residual_edges_one_layer_is_uniform():
    np.testing.assert_allclose(path_null(5, 1, 3, residual=0), [0.25] * 4 + [0])
    deep = path_null(6, 4, 5, residual=0)
    assert (np.diff(deep) < 0).all() and deep.sum() == pytest.approx(1)
    assert path_null(3, 2, 0).tolist() == [1, 0, 0]


def test_the_null_of_a_span_is_the_mean_of_its_positions(writer):
    a = writer(PROMPT, span=(2, 4), tensor="cf")
    wanted = (path_null(4, 2, 1) + path_null(4, 2, 2)) / 2
    np.testing.assert_allclose(a.null_shares, wanted)
