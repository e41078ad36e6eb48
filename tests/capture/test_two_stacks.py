"""Encoder-decoders: source and target prefix in one flow, every layer a layer of it."""

import pytest
import torch

from attnflow.capture import Objective, balanced, capture, staged_capture
from attnflow.capture.objectives import contrast, logit, logits_at
from attnflow.capture.stacking import with_passthrough
from attnflow.solver import maximum_flow
from attnflow.solver.network import layered_network

SOURCE, PREFIX = 7, 4
AT = torch.tensor([3, 2])  # in the prefix
TOKENS = torch.tensor([5, 17])


def inputs_of(lengths=((7, 4), (5, 3)), seed=3):
    generator = torch.Generator().manual_seed(seed)

    def side(t, own):
        ids = torch.randint(3, 40, (len(own), t), generator=generator)
        mask = torch.arange(t)[None] < torch.tensor(own)[:, None]
        return ids * mask, mask.long()

    source, source_mask = side(SOURCE, [s for s, _ in lengths])
    prefix, prefix_mask = side(PREFIX, [p for _, p in lengths])
    prefix[:, 0] = 1
    return {"input_ids": source, "attention_mask": source_mask, "decoder_input_ids": prefix,
            "decoder_attention_mask": prefix_mask}  # fmt: skip


def captured(model, inputs, at=AT, target=TOKENS, scalar=logit, **options):
    source = inputs["input_ids"].shape[1]
    return capture(
        model,
        inputs,
        Objective(target, scalar=scalar, read=logits_at(at), position=at + source),
        **options,
    )


def rounding(family):
    return 1e-11 if family in ("bart", "marian") else 1e-6  # T5's norm computes in float32


def test_conserved_at_every_node_without_biases(build, two_stack_family):
    model = build(two_stack_family, biases=False, dtype=torch.float64)
    got = captured(model, inputs_of())
    assert got.signed.shape == (2, 2 + 2 * 3, SOURCE + PREFIX, SOURCE + PREFIX)
    assert got.signed.abs().amax(dim=(-2, -1)).min() > 1e-5, "a degenerate model tests nothing"
    scale, small = got.signed.abs().max(), rounding(two_stack_family)
    layers = got.signed.sum((-2, -1)) + got.residual.sum(-1)
    error = (layers - logit(got.logits, TOKENS)[:, None]).abs().max()
    assert error < small * scale
    leaves, arrives = got.signed.sum(-1) + got.residual, got.signed.sum(-2) + got.residual
    assert (arrives[:, 1:] - leaves[:, :-1]).abs().max() < small * scale


@pytest.mark.parametrize("tensor", ["gf", "agf"])
def test_equals_eager_weights_with_autograd(build, eager, two_stack_family, tensor):
    model, inputs = build(two_stack_family, dtype=torch.float64), inputs_of()
    got = captured(model, inputs, tensor=tensor)
    output = eager(model)(**inputs, output_attentions=True)
    decoder = zip(output.decoder_attentions, output.cross_attentions, strict=True)
    calls = [*output.encoder_attentions, *(a for pair in decoder for a in pair)]
    gradients = torch.autograd.grad(logit(logits_at(AT)(output), TOKENS).sum(), calls)
    s, masks = SOURCE, (inputs["attention_mask"] > 0, inputs["decoder_attention_mask"] > 0)
    for layer, (a, g) in enumerate(zip(calls, gradients, strict=True)):
        wanted = (g.relu() * (a > 0) if tensor == "gf" else (a * g).relu()).mean(1)
        is_source, is_cross = layer < 2, layer >= 2 and layer % 2 == 1
        rows = slice(0, s) if is_source else slice(s, None)
        columns = slice(0, s) if is_source or is_cross else slice(s, None)
        there = masks[0 if is_source else 1][:, :, None]
        wanted = wanted * there * masks[0 if is_source or is_cross else 1][:, None]
        assert wanted.max() > 1e-5, "a degenerate model tests nothing"
        assert (got.capacities[:, layer, rows, columns] - wanted).abs().max() < 1e-5 * wanted.max()


def test_passthrough_does_not_bind(build):
    got = captured(build("t5"), inputs_of())
    network = layered_network(got.capacities, got.sources, got.mask)
    flow = maximum_flow(network, gap=1e-5)
    wider = got.capacities.clone()
    diagonal = wider.diagonal(dim1=2, dim2=3)
    diagonal[:, got.passthrough] *= 100
    free = maximum_flow(layered_network(wider, got.sources, got.mask), gap=1e-5)
    assert flow.value.tolist() == pytest.approx(free.value.tolist(), rel=1e-3)
    assert flow.sink[:, :SOURCE].sum() > 0 and flow.sink[:, SOURCE:].sum() > 0


def test_passthrough_by_hand():
    layers = torch.zeros(1, 3, 2, 2)  # node 0 is the source's, node 1 the prefix's
    layers[0, 2] = torch.tensor([[0, 0], [3, 1]])  # cross
    layers[0, 1] = torch.tensor([[0, 0], [0, 2]])  # self
    layers[0, 0] = torch.tensor([[5, 0], [0, 0]])  # encoder
    passthrough = torch.tensor([[False, True], [True, False], [True, False]])
    found = with_passthrough(layers, passthrough)
    assert found[0, 1].tolist() == [[3, 0], [0, 2]]
    assert found[0, 0].tolist() == [[5, 0], [0, 2]]
    even = balanced(layers, passthrough)
    assert even.sum((2, 3)).flatten().tolist() == pytest.approx([1, 1, 1])
    assert even[0, 1].tolist() == [[0.75, 0], [0, 0.25]]
    assert even[0, 0].tolist() == [[0.75, 0], [0, 0.25]]


def test_stages_remove_from_both_sides(build):
    model, inputs = build("bart"), inputs_of()
    neutral = torch.cat([inputs["input_ids"], inputs["decoder_input_ids"]], 1).clone()
    neutral[:, 1:SOURCE] = 3
    neutral[:, SOURCE + 1 :] = 3
    seen = []
    model.register_forward_pre_hook(
        lambda m, args, given: seen.append(
            torch.cat([given["input_ids"], given["decoder_input_ids"]], 1)
        ),
        with_kwargs=True,
    )
    source = torch.full_like(AT, SOURCE)
    got = staged_capture(
        model,
        inputs,
        neutral,
        Objective(read=logits_at(AT), position=AT + source, scalar=contrast),
        removed=(0.5,),
    )
    text, later = seen
    assert (text != later).any() and ((text == later) | (later == neutral)).all()
    total = balanced(got.capacities, got.passthrough).sum((2, 3))
    torch.testing.assert_close(total, torch.ones_like(total))
