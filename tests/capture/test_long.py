"""Long inputs: tiles and segments change nothing but memory, and memory is what it should be."""

import pytest
import torch

from attnflow.capture import TENSORS, Objective, Segments, attention, capture, staged_capture
from attnflow.capture.objectives import logits_at
from attnflow.errors import InputError
from attnflow.explainer.memory.tracking import AllocationTracker


def merged(dense, of_node, count):
    """`(batch, layers, t, t)` summed over pairs of segments, by matrices."""
    belongs = torch.nn.functional.one_hot(of_node, count).to(dense.dtype)
    return torch.einsum("bis,blij,bjr->blsr", belongs, dense, belongs)


def in_pairs(t, batch, padding=0):
    """Segments of two tokens, the first alone; padding at the end by itself."""
    of_node = (torch.arange(t) + 1) // 2
    count = int(of_node[-1]) + 1
    of_node = of_node.repeat(batch, 1)
    if padding:
        of_node[-1, -padding:] = count
    return Segments(of_node, count + bool(padding))


@pytest.mark.parametrize("tensor", TENSORS)
def test_tiles_change_nothing(build, batch, family, tensor, monkeypatch):
    model, inputs = build(family, dtype=torch.float64), batch()
    whole = capture(model, inputs, tensor=tensor)
    monkeypatch.setattr(attention, "TILE", 3 * 9 * 2)  # two of nine queries, and an odd one
    assert [s.stop - s.start for s in attention.tiles(3, 9, 9)] == [2, 2, 2, 2, 1]
    tiled = capture(model, inputs, tensor=tensor)
    torch.testing.assert_close(tiled.capacities, whole.capacities, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tensor", ["agf", "cf"])
def test_tiles_of_capped_scores_and_windows(build, batch, tensor, monkeypatch):
    model, inputs = build("gemma2", dtype=torch.float64), batch(lengths=(9,))
    last = Objective(read=logits_at(torch.tensor([8])), position=torch.tensor([8]))
    whole = capture(model, inputs, last, tensor=tensor)
    monkeypatch.setattr(attention, "TILE", 9)
    tiled = capture(model, inputs, last, tensor=tensor)
    torch.testing.assert_close(tiled.capacities, whole.capacities, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tile", [2**22, 9 * 4])
@pytest.mark.parametrize("tensor", TENSORS)
def test_segments_are_sums_over_their_pairs(build, batch, tensor, tile, monkeypatch):
    monkeypatch.setattr(attention, "TILE", tile)
    model, inputs = build(dtype=torch.float64), batch(lengths=(9, 7))
    segments = in_pairs(9, 2, padding=2)
    fine = capture(model, inputs, tensor=tensor)
    got = capture(model, inputs, tensor=tensor, segments=segments)
    real = torch.ones(2, 6, dtype=torch.bool)
    real[:, 5], real[1, 4] = False, False
    assert torch.equal(got.mask, real)
    if tensor == "cf":
        signed = merged(fine.signed, segments.of_node, 6)
        torch.testing.assert_close(got.signed, signed)
        positive = signed.relu() + torch.diag_embed(got.residual.relu())
        torch.testing.assert_close(got.capacities, positive)
        assert not torch.allclose(signed.relu(), merged(fine.signed.relu(), segments.of_node, 6))
        assert got.residual.sum(2).allclose(fine.residual.sum(2))
    else:
        torch.testing.assert_close(got.capacities, merged(fine.capacities, segments.of_node, 6))


def test_effects_conserved_at_tokens_are_conserved_at_segments(build, batch):
    model = build(biases=False, dtype=torch.float64)
    segments = in_pairs(9, 1)
    got = capture(model, batch(lengths=(9,)), Objective(torch.tensor([1])), segments=segments)
    leaves, arrives = got.signed.sum(-1) + got.residual, got.signed.sum(-2) + got.residual
    assert got.signed.abs().max() > 1e-3, "a degenerate model tests nothing"
    assert (leaves[:, :-1] - arrives[:, 1:]).abs().max() < 1e-11 * got.signed.abs().max()


def test_segments_of_one_token_are_no_segments(build, batch):
    model, inputs = build(dtype=torch.float64), batch(lengths=(9, 9))
    alone = Segments(torch.arange(9).repeat(2, 1), 9)
    baseline = torch.full_like(inputs["input_ids"], 3)
    fine = staged_capture(model, inputs, baseline)
    got = staged_capture(model, inputs, baseline, segments=alone)
    torch.testing.assert_close(got.capacities, fine.capacities, rtol=0, atol=1e-12)


def test_stages_remove_whole_segments(build, batch, monkeypatch):
    model, inputs = build(dtype=torch.float64), batch(lengths=(9,))
    baseline, seen = torch.full_like(inputs["input_ids"], 2), []  # no text has it
    model.register_forward_pre_hook(
        lambda m, args, kwargs: seen.append(kwargs["input_ids"] == baseline), with_kwargs=True
    )
    staged_capture(model, inputs, baseline, removed=(0.3, 0.6), segments=in_pairs(9, 1))
    assert 0 == seen[0].sum() < seen[1].sum() < seen[2].sum()
    for removed in seen[1:]:
        pairs = removed[0, 1:].view(4, 2)
        assert (pairs[:, 0] == pairs[:, 1]).all()


def test_segments_of_both_sides_of_an_encoder_decoder(build):
    model = build("t5", dtype=torch.float64)
    ids = torch.randint(3, 40, (1, 6), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids, "decoder_input_ids": ids[:, :4]}
    last = Objective(read=logits_at(torch.tensor([3])), position=torch.tensor([9]))
    fine = capture(model, inputs, last, tensor="agf")
    segments = Segments(torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3, 3, 4]]), 5, source=3)
    got = capture(model, inputs, last, tensor="agf", segments=segments)
    expected = merged(fine.capacities, segments.of_node, 5)
    moved = ~got.passthrough[None, :, :, None]
    torch.testing.assert_close(got.capacities * moved, expected * moved)
    assert got.sources.tolist() == [[False] * 4 + [True]]
    assert got.capacities.sum((2, 3))[0, 2:].min() > 0


def test_segments_that_are_none_are_refused(build, batch):
    model, inputs = build(), batch(lengths=(9, 7))
    of_node = in_pairs(9, 2, padding=2).of_node
    for segments, message in (
        (Segments(of_node[:, 1:], 6), "for each of"),
        (Segments(of_node, 5), "number"),
        (Segments(of_node.clamp(max=3), 6), "padding"),
    ):
        with pytest.raises(InputError, match=message):
            capture(model, inputs, segments=segments)


def peak_of(model, t, tensor="cf", segments=None):
    ids = torch.randint(3, 40, (1, t), generator=torch.Generator().manual_seed(1))
    with AllocationTracker() as counted:
        kept = capture(model, {"input_ids": ids}, tensor=tensor, segments=segments)
    assert counted.live > 0 and kept.logits.isfinite().all()
    return counted.peak


@pytest.mark.parametrize("tensor", ["gf", "agf", "cf"])
def test_memory_is_the_models_own_and_one_square_a_layer(build, tensor, monkeypatch):
    monkeypatch.setattr(attention, "TILE", 2**13)
    layers, t = 6, 256
    model = build(max_position_embeddings=t, num_hidden_layers=layers, hidden_size=64)
    square = 4 * t * t
    # What grows with t alone is twice as much at twice the length.
    linear = 2 * (peak_of(model, t // 2, tensor) - layers * square // 4)
    beyond = peak_of(model, t, tensor) - max(linear, layers * square * (tensor == "cf"))
    assert beyond < (layers + 1.5) * square, f"{beyond / square:.2f} squares for {layers} layers"


def test_no_square_is_ever_made_where_tokens_are_merged(build, monkeypatch):
    monkeypatch.setattr(attention, "TILE", 2**13)
    t = 256
    model = build(max_position_embeddings=t, num_hidden_layers=6)
    segments = Segments((torch.arange(t) // 16)[None], 16)
    whole, less = peak_of(model, t), peak_of(model, t, segments=segments)
    assert whole - less > 5.5 * 4 * t * t
