"""Memory of long texts: estimates that hold, and refusals before anything runs."""

import math

import numpy as np
import pytest
import torch
from support.text_models import bare, language_model

from attnflow import Explainer, InputError, maximum_flow
from attnflow.capture import capture, staged_capture
from attnflow.cli.bench.synthetic import attention_capacities
from attnflow.explainer.memory.estimate import MemoryPlanner
from attnflow.explainer.memory.sizes import ExampleSize
from attnflow.explainer.memory.tracking import AllocationTracker
from attnflow.explainer.memory.units import format_bytes, parse_bytes

ESTIMATE = "attnflow.explainer.memory.estimate."
TEXT = "the film is not good. it was never dull!"
ENDS = dict(bos_token_id=1, eos_token_id=2)
EXPERTS = dict(ENDS, num_local_experts=4, num_experts_per_tok=2, num_key_value_heads=2)
FAMILIES = {
    "Bert": {},
    "DebertaV2": {},
    "Llama": ENDS,
    "Mixtral": EXPERTS,
    "GptOss": dict(EXPERTS, head_dim=8),
}


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


@pytest.mark.parametrize(("batch", "limit"), [(1, math.inf), (4, math.inf), (1, 3.5e6)])
def test_estimates_of_the_solver_hold(tiny, batch, limit):
    capacities = attention_capacities((batch, 2, 96, 96))
    sizes = [ExampleSize((96,), 96)] * batch
    estimate = MemoryPlanner(tiny(), "cf").estimate(sizes, limit=limit, activations=False)
    with AllocationTracker() as counted:
        flow = maximum_flow(capacities, max_memory=None if limit == math.inf else estimate.budget)
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


def test_examples_read_one_by_one_are_estimated_one_by_one(tiny, tokenizer):
    explainer = Explainer(tiny("GPT2"), tokenizer)
    explainer.model.config.pad_token_id = None
    many, one = explainer.estimate([20] * 8), explainer.estimate(20)
    assert many.texts == 1 and many.total == one.total


def test_too_little_memory_is_refused_before_anything_runs(explainer, monkeypatch):
    needed = explainer.estimate([TEXT] * 8)
    enough = explainer([TEXT] * 8, max_memory=2 * needed.total)
    np.testing.assert_allclose(enough[0].scores, explainer(TEXT).scores, atol=1e-6)
    least = explainer.estimate([TEXT] * 8, max_memory=1).total  # by the method of least memory
    fewer = r"batch_size=([124]), --batch-size \1"
    refusal = rf"a batch of 8 texts .* max_memory allows .*{fewer}.*, or a larger max_memory"
    with pytest.raises(InputError, match=refusal):
        explainer([TEXT] * 8, max_memory=0.9 * least)
    monkeypatch.setattr("attnflow.explainer.memory.estimate.free_bytes", lambda device: 1000.0)
    with pytest.raises(InputError, match=r"a batch of 1 text with .* 1\.0 KB is free"):
        explainer(TEXT)


def test_a_refusal_names_a_coarsening_that_fits(explainer):
    planner = MemoryPlanner(explainer.model, "cf")
    size, limit = ExampleSize((4000,), 4000), 1.5e9
    with pytest.raises(InputError, match="coarsen=") as refused:
        planner.plan([size], 1, limit)
    coarsen = int(str(refused.value).split("coarsen=")[1].split(",")[0])
    merged = ExampleSize((4000,), 4000 // coarsen + 4)
    assert planner.plan([merged], 1, limit)[0].budget > 0


def test_sizes_in_words():
    assert parse_bytes("8GB") == 8e9 and parse_bytes(" 512 MiB ") == 512 * 2**20
    assert parse_bytes(5) == 5
    assert parse_bytes("2e3") == 2000 and parse_bytes(None) is None
    assert format_bytes(8.04e9) == "8.0 GB" and format_bytes(5000) == "5.0 KB"
    for wrong in ("much", "8 XB", 0, -1, True, ""):
        with pytest.raises(InputError, match="max_memory"):
            parse_bytes(wrong)


def test_estimates_of_stages_hold_solved_together_and_one_by_one(tiny, tokenizer, monkeypatch):
    t = 300
    sizes = dict(hidden_size=32, max_position_embeddings=t, intermediate_size=64)
    explainer = Explainer(tiny("Llama", **sizes, **FAMILIES["Llama"]), tokenizer)
    ids = torch.randint(5, 100, (t,), generator=torch.Generator().manual_seed(1))
    peaks, estimates = [], []
    for edges_at_once in (2**24, 2):
        monkeypatch.setattr(ESTIMATE + "EDGES_AT_ONCE", edges_at_once)
        estimate = explainer.estimate(t, max_memory=1e12)
        with AllocationTracker() as counted:
            explainer(input_ids=ids)
        # The solver needs its arrays only for nodes on a path, of which net capacities leave few.
        assert counted.peak <= estimate.total <= 5 * counted.peak
        peaks.append(counted.peak)
        estimates.append(estimate.total)
    assert peaks[1] < 0.6 * peaks[0] and estimates[1] < 0.6 * estimates[0]


@pytest.mark.parametrize(
    "options",
    [{}, {"edges": True}, {"readout": "throughput"}, {"attention_sink": "exclude"}],
    ids=str,
)
def test_stages_solved_one_by_one_give_the_same(writer, monkeypatch, options):
    texts = ["the film is not good", "it was never dull at all"]
    together = writer(texts, **options)
    monkeypatch.setattr(ESTIMATE + "EDGES_AT_ONCE", 1)
    for one, other in zip(writer(texts, **options), together, strict=True):
        for name in ("scores", "signed_scores", "contributions", "raw_scores", "edges"):
            expected = getattr(other, name)
            if expected is None:
                assert getattr(one, name) is None
            else:
                np.testing.assert_allclose(getattr(one, name), expected, atol=1e-9)
        assert one.certificate.status == other.certificate.status
        assert one.certificate.value == pytest.approx(other.certificate.value, rel=1e-9)


def test_estimates_count_logits_at_every_token_that_is_read(tokenizer):
    """Texts of a batch have logits at the tokens of all, and a span at those of all its tokens."""
    model = language_model(vocab_size=20_000, max_position_embeddings=64)
    explainer = Explainer(model, bare(tokenizer))
    texts = [" ".join(["good"] * t) for t in range(4, 12)]
    for given, options in ((texts, {"batch_size": 8}), (texts[-1] * 3, {"span": (2, 30)})):
        with AllocationTracker() as counted:
            explainer(given, **options)
        explainer(given, max_memory=2.5 * counted.peak, **options)
        with pytest.raises(InputError, match="max_memory allows"):
            explainer(given, max_memory=0.95 * counted.peak, **options)
