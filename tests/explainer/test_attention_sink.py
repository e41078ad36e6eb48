"""The first token that a decoder reads: kept, excluded or set apart; and what paths alone give."""

import numpy as np
import pytest
import torch
from support.attribution_checks import assert_scores_add_up
from support.text_models import PROMPT, SOURCE, encoder_decoder

from attnflow import InputError, load, maximum_flow
from attnflow.capture import Objective, StackLayout, capture
from attnflow.capture.objectives import logits_at
from attnflow.explainer.attention_sink import path_null


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
    assert_scores_add_up(a)
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


def test_the_sink_of_an_encoder_decoder_is_the_start_of_its_prefix(tokenizer):
    explainer = encoder_decoder(tokenizer, "BartForConditionalGeneration")
    sources = [SOURCE, "a very dull film"]
    options = dict(continuation="a very good dog", span=True, tensor="cf", attention_sink="exclude")
    for source, a in zip(sources, explainer(sources, **options), strict=True):
        start = len(tokenizer(source)["input_ids"])
        assert a.raw_scores[start] > 0 and a.scores[start] == 0 and a.source_tokens == start
        assert a.scores[:start].sum() > 0 and a.scores[start + 1] > 0
        alone = explainer(source, **options)
        np.testing.assert_allclose(a.scores, alone.scores, rtol=2e-4, atol=1e-7)


def test_among_segments_it_is_still_the_first_token(tokenizer):
    explainer = encoder_decoder(tokenizer, "BartForConditionalGeneration")
    start = len(tokenizer(SOURCE)["input_ids"])
    options = dict(continuation="a very good dog", span=True, tensor="cf", coarsen=3)
    excluded = explainer(SOURCE, **options, attention_sink="exclude")
    first = excluded.segments.index((start, start + 1))
    assert first < start and excluded.raw_scores[first] > 0 == excluded.scores[first]
    assert excluded.scores[first - 1] > 0 and excluded.scores[first + 1] > 0
    apart = explainer(SOURCE, **options, attention_sink="apart")
    assert apart.special.tolist() == [a or i == first for i, a in enumerate(excluded.special)]


def test_only_models_that_write_have_one(explainer, writer):
    a = explainer("a smart dog")
    assert a.null_shares is None and a.source_tokens == 0 and "uniform attention" not in str(a)
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


WRITERS = ("T5ForConditionalGeneration", "BartForConditionalGeneration")


def with_uniform_attention(explainer):
    """The same whose queries, keys and biases of positions are 0, in float64."""
    with torch.no_grad():
        for name, parameter in explainer.model.double().named_parameters():
            if any(part in name for part in ("q_proj", "k_proj", ".q.", ".k.", "relative")):
                parameter.zero_()
    return explainer


def uniform_flow(found, residual):
    """The maximum flow of one text's network whose every edge can carry just what arrives.

    Each token hands on by the attention that was captured; what is carried is handed to itself.
    """
    attention, carried = found.capacities[0].numpy(), found.passthrough.numpy()
    layers, t, _ = attention.shape
    capacities, arrives = np.zeros_like(attention), found.sources[0].double().numpy()
    for row in reversed(range(layers)):
        moved = ~carried[row]
        assert attention[row][moved].sum(1) == pytest.approx(1), "attention is what is captured"
        handed = np.eye(t)
        handed[moved] = residual * handed[moved] + (1 - residual) * attention[row][moved]
        capacities[row] = arrives[:, None] * handed
        arrives = capacities[row].sum(0)
    return maximum_flow(torch.tensor(capacities)[None], sources=found.sources, gap=1e-6).sink[0]


@pytest.mark.parametrize("residual", [0.5, 0.0])
@pytest.mark.parametrize("name", WRITERS)
def test_the_null_of_an_encoder_decoder_is_the_flow_of_one_that_attends_to_all(
    tokenizer, name, residual
):
    explainer = with_uniform_attention(encoder_decoder(tokenizer, name))
    ids = torch.tensor([tokenizer(SOURCE)["input_ids"]])
    s, prefix = ids.shape[1], torch.tensor([[2, 9, 8, 7]])
    inputs = {"input_ids": ids, "decoder_input_ids": prefix}
    at = torch.tensor([2])
    found = capture(
        explainer.model, inputs, Objective(read=logits_at(at), position=at + s), tensor="af"
    )
    null = path_null(
        s + 4, 2 + 2 * 3, s + 2, residual=residual, stacks=StackLayout(encoder=2, source=s)
    )
    np.testing.assert_allclose(null, uniform_flow(found, residual), atol=1e-5)
    np.testing.assert_allclose(null[:s], (1 - residual**3) / s)
    np.testing.assert_allclose(null[s:], residual**3 * path_null(4, 3, 2, residual=residual))


@pytest.mark.parametrize("tensor", ("agf", "cf", "bcf"))
@pytest.mark.parametrize("name", WRITERS)
def test_results_of_encoder_decoders_have_it_alone_and_in_a_batch(tokenizer, name, tensor):
    explainer = encoder_decoder(tokenizer, name)
    texts = [SOURCE, "bad"]
    together = explainer(texts, tensor=tensor, continuation="bad film")
    for text, tokens in zip(texts, together, strict=True):
        s = len(tokenizer(text)["input_ids"])
        for i, a in enumerate(tokens):
            wanted = path_null(
                len(a),
                2 + 2 * 3,
                s + i,
                residual=0.0 if tensor == "agf" else 0.5,
                stacks=StackLayout(encoder=2, source=s),
            )
            np.testing.assert_allclose(a.null_shares, wanted)
            assert a.source_tokens == s and a.null_shares.sum() == pytest.approx(1)


def test_merged_tokens_have_that_of_their_segments(tokenizer):
    explainer = encoder_decoder(tokenizer)
    (a,) = explainer(SOURCE, tensor="cf", continuation="bad", coarsen=3)
    s = a.source_tokens
    assert a.segments[s][0] == len(tokenizer(SOURCE)["input_ids"]) and s < a.segments[s][0]
    np.testing.assert_allclose(a.null_shares[:s], (1 - 0.5**3) / s)


def test_source_and_first_token_are_shown_next_to_it(tokenizer, tmp_path):
    explainer = encoder_decoder(tokenizer)
    a = explainer(SOURCE, tensor="cf", continuation="bad film")[1]
    a.save(tmp_path / "a.safetensors")
    (b,) = load(tmp_path / "a.safetensors")
    assert b.source_tokens == a.to_dict()["source_tokens"] == a.source_tokens > 0
    total, s = a.scores.sum(), a.source_tokens
    page, terminal = b.to_html(tmp_path / "a.html").read_text("utf-8"), str(b)
    for said in (
        f"the first token of the decoder took {100 * a.scores[s] / total:.1f} %",
        f"uniform attention would give it {100 * a.null_shares[s]:.1f} %",
        f"the source took {100 * a.scores[:s].sum() / total:.1f} %",
        "uniform attention would give it 87.5 %",
    ):
        assert said in " ".join(terminal.split())
    assert "it would get 87.5 %" in page and f"it would get {100 * a.null_shares[s]:.1f} %" in page


def test_without_residual_edges_one_layer_is_uniform():
    np.testing.assert_allclose(path_null(5, 1, 3, residual=0), [0.25] * 4 + [0])
    deep = path_null(6, 4, 5, residual=0)
    assert (np.diff(deep) < 0).all() and deep.sum() == pytest.approx(1)
    assert path_null(3, 2, 0).tolist() == [1, 0, 0]


@pytest.mark.parametrize(("tensor", "residual"), [("agf", 0.0), ("af", 0.0), ("cf", 0.5)])
def test_the_null_has_residual_edges_where_the_tensor_has(writer, tensor, residual):
    a = writer(PROMPT, tensor=tensor)
    np.testing.assert_allclose(a.null_shares, path_null(4, 2, 3, residual=residual))


def test_the_null_of_a_span_is_the_mean_of_its_positions(writer):
    a = writer(PROMPT, span=(2, 4), tensor="cf")
    wanted = (path_null(4, 2, 1) + path_null(4, 2, 2)) / 2
    np.testing.assert_allclose(a.null_shares, wanted)
