"""Long texts through the front door: coarsening that says so, estimates that hold, refusals."""

import json
import math

import numpy as np
import pytest
import torch

from attnflow import Explainer, InputError, layered_network, load, maximum_flow, save
from attnflow.capture import capture, staged_capture
from attnflow.cli import main
from attnflow.cli.bench.synthetic import attention_capacities
from attnflow.explainer.coarsening import merge
from attnflow.explainer.memory.estimate import MemoryPlanner
from attnflow.explainer.memory.sizes import ExampleSize
from attnflow.explainer.memory.tracking import AllocationTracker
from attnflow.explainer.memory.units import format_bytes, parse_bytes
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
        assert a.scores.sum() == pytest.approx(a.certificate.value)
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


def test_what_is_merged(explainer):
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
def test_what_cannot_be_merged_is_refused(explainer, coarsen):
    with pytest.raises(InputError, match="coarsen must be"):
        explainer(TEXT, coarsen=coarsen)


FAMILIES = {"Bert": {}, "DebertaV2": {}, "Llama": dict(bos_token_id=1, eos_token_id=2)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tensor", ["agf", "cf", "bcf"])
def test_estimates_of_capture_lie_between_the_peak_and_twice_that(tiny, family, tensor):
    t = 400
    sizes = dict(hidden_size=32, max_position_embeddings=t, intermediate_size=64)
    model = tiny(family, **sizes, **FAMILIES[family])
    ids = torch.randint(5, 100, (2, t), generator=torch.Generator().manual_seed(1))
    with AllocationTracker() as counted:
        if tensor == "bcf":
            found = staged_capture(model, {"input_ids": ids}, torch.full_like(ids, 4))
        else:
            found = capture(model, {"input_ids": ids}, tensor=tensor)
    assert found.capacities.shape == (2, 2, t, t)
    estimate = MemoryPlanner(model, tensor).estimate([ExampleSize((t,), t)] * 2, limit=1e12)
    assert counted.peak <= max(estimate.activations + estimate.tensors, estimate.held)
    assert estimate.activations + estimate.tensors <= 2 * counted.peak


@pytest.mark.parametrize(("batch", "room"), [(1, math.inf), (4, math.inf), (1, 3.5e6)])
def test_estimates_of_the_solver_hold(tiny, batch, room):
    capacities = attention_capacities((batch, 2, 96, 96))
    sizes = [ExampleSize((96,), 96)] * batch
    estimate = MemoryPlanner(tiny(), "cf").estimate(sizes, limit=room, activations=False)
    with AllocationTracker() as counted:
        flow = maximum_flow(capacities, max_memory=None if room == math.inf else estimate.room)
    assert {method.name.lower().replace("_", "-") for method in flow.method} == {estimate.method}
    # Compiled passes keep less of a group than plain ones, for which the estimate is.
    assert counted.peak <= estimate.solver <= (2 if batch == 1 else 2.8) * counted.peak


def test_estimates_of_texts_and_lengths_agree(explainer):
    t = len(explainer(TEXT))
    of_text, of_length = explainer.estimate(TEXT), explainer.estimate(t)
    assert of_text.total == of_length.total > 0 and of_text.dominates in str(of_text)
    many = explainer.estimate([TEXT] * 4, batch_size=2)
    assert many.texts == 2 and many.total > of_text.total
    assert explainer.estimate(30, coarsen=4).nodes < explainer.estimate(30).nodes == 30
    assert explainer.estimate(np.int64(t)).total == of_length.total
    for wrong in ([TEXT, 3], 0, True):
        with pytest.raises(InputError):
            explainer.estimate(wrong)
    with pytest.raises(InputError, match="give texts"):
        explainer.estimate(20, coarsen="word")


def test_what_is_read_one_by_one_is_estimated_so(tiny, tokenizer):
    explainer = Explainer(tiny("GPT2"), tokenizer)
    explainer.model.config.pad_token_id = None
    many, one = explainer.estimate([20] * 8), explainer.estimate(20)
    assert many.texts == 1 and many.total == one.total


def test_too_little_memory_is_refused_before_anything_runs(explainer, monkeypatch):
    needed = explainer.estimate([TEXT] * 8)
    enough = explainer([TEXT] * 8, max_memory=2 * needed.total)
    np.testing.assert_allclose(enough[0].scores, explainer(TEXT).scores, atol=1e-6)
    one = explainer.estimate(TEXT).total
    with pytest.raises(
        InputError, match=r"a batch of 8 texts .* max_memory allows .*batch_size=[124]"
    ):
        explainer([TEXT] * 8, max_memory=3 * one)
    monkeypatch.setattr("attnflow.explainer.memory.estimate.free_bytes", lambda device: 1000.0)
    with pytest.raises(InputError, match=r"a batch of 1 text with .* 1\.0 KB is free"):
        explainer(TEXT)


def test_a_refusal_names_a_coarsening_that_fits(explainer):
    planner = MemoryPlanner(explainer.model, "cf")
    size, room = ExampleSize((4000,), 4000), 1.5e9
    with pytest.raises(InputError, match="coarsen=") as refused:
        planner.plan([size], 1, room)
    coarsen = int(str(refused.value).split("coarsen=")[1].split(")")[0])
    merged = ExampleSize((4000,), 4000 // coarsen + 4)
    assert planner.plan([merged], 1, room)[0].budget > 0


def test_sizes_in_words():
    assert parse_bytes("8GB") == 8e9 and parse_bytes(" 512 MiB ") == 512 * 2**20
    assert parse_bytes(5) == 5
    assert parse_bytes("2e3") == 2000 and parse_bytes(None) is None
    assert format_bytes(8.04e9) == "8.0 GB" and format_bytes(5000) == "5.0 KB"
    for wrong in ("much", "8 XB", 0, -1, True, ""):
        with pytest.raises(InputError, match="max_memory"):
            parse_bytes(wrong)
