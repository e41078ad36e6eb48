"""Tokens merged into segments: flows of merged networks, and results that say so."""

import json

import numpy as np
import pytest
import torch
from support.attribution_checks import assert_scores_add_up

from attnflow import Explainer, InputError, layered_network, load, maximum_flow, save
from attnflow.capture import capture
from attnflow.cli import main
from attnflow.explainer.coarsening import merge
from attnflow.inputs.text_inputs import TextInputs
from attnflow.models.tasks import explained_task

TEXT = "the film is not good. it was never dull!"
TENSORS = ("af", "gf", "agf", "cf", "bcf")


def encoded(explainer, text):
    task = explained_task(explainer.model)
    return TextInputs(explainer.model, explainer.tokenizer, task).encode(text)


@pytest.mark.parametrize("tensor", TENSORS)
def test_segments_of_one_token_change_nothing(exact, texts, tensor):
    fine = exact(texts, tensor=tensor, edges=True)
    for a, b in zip(fine, exact(texts, tensor=tensor, edges=True, coarsen=1), strict=True):
        assert b.tokens == a.tokens and b.offsets == a.offsets
        assert b.segments == tuple((i, i + 1) for i in range(len(a)))
        np.testing.assert_allclose(b.scores, a.scores, rtol=0, atol=1e-9)
        np.testing.assert_allclose(b.edges, a.edges, rtol=0, atol=1e-9)


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("coarsen", [3, "word", "sentence"])
def test_scores_of_segments_add_up_to_the_flow(exact, texts, tensor, coarsen):
    for text, a in zip(
        texts, exact(texts, tensor=tensor, coarsen=coarsen, edges=True), strict=True
    ):
        assert_scores_add_up(a)
        assert a.edges.shape == (2, len(a), len(a)) and a.certificate.status == "solved"
        assert [w.score for w in a.words()] == list(a.scores[~a.special])
        assert a.special.tolist() == [True, *[False] * (len(a) - 2), True]
        alone = exact(text, tensor=tensor, coarsen=coarsen)
        np.testing.assert_allclose(alone.scores, a.scores, rtol=0, atol=1e-9)


def test_the_merged_networks_flow_is_that_of_merged_effects(exact):
    a = exact(TEXT, tensor="cf", coarsen=4)
    text = encoded(exact, TEXT)
    of_node = [k for k, (start, end) in enumerate(a.segments) for _ in range(start, end)]
    inputs = {"input_ids": torch.tensor([text.inputs["input_ids"]])}
    fine = capture(exact.model, inputs, tensor="cf")
    belongs = torch.nn.functional.one_hot(torch.tensor(of_node)).double()
    signed = belongs.T @ fine.signed @ belongs
    capacities = signed.relu() + torch.diag_embed((fine.residual @ belongs).relu())
    assert a.certificate.value == pytest.approx(float(maximum_flow(capacities).value), rel=1e-9)


def test_merging_capacities_never_lowers_the_maximum_flow():
    generator = torch.Generator().manual_seed(3)
    for _ in range(10):
        fine = torch.rand(1, 3, 12, 12, generator=generator, dtype=torch.float64).pow(6)
        belongs = torch.nn.functional.one_hot(torch.arange(12) // 4).double()
        both = [
            float(maximum_flow(layered_network(u), gap=1e-6).value)
            for u in (fine, belongs.T @ fine @ belongs)
        ]
        assert both[1] >= both[0] * (1 - 1e-5)


def test_tokens_are_merged_into_segments(explainer):
    text = encoded(explainer, TEXT)
    for coarsen in (1, 2, 5, 100, "word", "sentence"):
        spans = merge(text, coarsen, single=[6]).segments
        assert [i for span in spans for i in range(*span)] == list(range(len(text.tokens)))
        assert {(0, 1), (6, 7), (len(text.tokens) - 1, len(text.tokens))} <= set(spans)
        if isinstance(coarsen, int):
            assert max(end - start for start, end in spans) <= coarsen
    [_, first, second, _] = explainer(TEXT, coarsen="sentence").tokens
    assert (first, second) == ("the film is not good.", "it was never dull!")
    words = [w.text for w in explainer(TEXT).words()]
    assert [w.text for w in explainer(TEXT, coarsen="word").words()] == words


def test_a_language_models_position_stays_alone(tiny, tokenizer):
    model = tiny("Llama", head="CausalLM", bos_token_id=1, eos_token_id=2)
    explainer = Explainer(model, tokenizer)
    a = explainer(TEXT, coarsen=4, position=6)
    assert a.segments[a.position] == (6, 7) and a.tokens[a.position] == explainer(TEXT).tokens[6]
    assert (a.scores[a.position + 1 :] == 0).all() and a.scores[: a.position].sum() > 0
    tokens = explainer(TEXT, coarsen=4, continuation=3, tensor="cf")
    assert [a.segments[a.position][1] - a.segments[a.position][0] for a in tokens] == [1, 1, 1]
    positions = [a.segments[a.position][0] for a in tokens]
    assert positions == list(range(positions[0], positions[0] + 3))


def test_coarsening_is_named_everywhere_and_kept(explainer, folder, tmp_path, capsys):
    a = explainer(TEXT, coarsen=4, edges=True)
    tokens, segments = a.segments[-1][1], len(a)
    said = f"{tokens} tokens merged into {segments} segments of at most 4"
    assert said in str(a) and said in a._repr_html_() and a.to_dict()["segments"] == a.segments
    assert "merged" not in str(explainer(TEXT)) and explainer(TEXT).segments is None
    save([a], tmp_path / "a.safetensors")
    assert load(tmp_path / "a.safetensors")[0].segments == a.segments
    file = tmp_path / "a.json"
    assert (
        main(["explain", TEXT, "--model", str(folder), "--coarsen", "4", "--json", str(file)]) == 0
    )
    assert said in " ".join(capsys.readouterr().out.split())
    assert json.loads(file.read_text())[0]["segments"] == [list(span) for span in a.segments]


@pytest.mark.parametrize("coarsen", [0, -1, 2.5, True, "line"])
def test_requests_that_cannot_be_merged_are_refused(explainer, coarsen):
    with pytest.raises(InputError, match="coarsen must be"):
        explainer(TEXT, coarsen=coarsen)
