"""Causal decoders: effects on the token after a position, in every family."""

import pytest
import torch

from attnflow.capture import Objective, capture, captures
from attnflow.capture.objectives import contrast, logit, logits_at, versus
from attnflow.capture.recorder import ProductRules
from attnflow.errors import InputError, ModelError

AT = torch.tensor([6, 4, 1])
TOKENS = torch.tensor([5, 17, 30])
LAYER_NORM = ("gpt2", "gpt_bigcode", "gptj", "gpt_neox", "opt", "phi", "starcoder2")


def captured(model, inputs, at=AT, target=TOKENS, scalar=logit, **options):
    return capture(
        model, inputs, Objective(target, scalar=scalar, read=logits_at(at), position=at), **options
    )


def conservation_error(got, value):
    layers = got.signed.sum((-2, -1)) + got.residual.sum(-1)
    leaves, arrives = got.signed.sum(-1) + got.residual, got.signed.sum(-2) + got.residual
    worst = max(
        (layers - value[:, None]).abs().max(), (arrives[:, 1:] - leaves[:, :-1]).abs().max()
    )
    return float(worst / got.signed.abs().max())


@pytest.mark.parametrize("gates", ["frozen", "shared"])
def test_conserved_at_every_node_without_biases(build, batch, decoder_family, gates):
    model = build(decoder_family, biases=False, dtype=torch.float64)
    got = captured(model, batch(), rules=ProductRules(gates=gates))
    assert got.signed.abs().amax(dim=(-2, -1)).min() > 1e-5, "a degenerate model tests nothing"
    # RMS norms of transformers compute in float32, also in a float64 model.
    tolerance = 1e-11 if decoder_family.split()[0] in LAYER_NORM else 1e-6
    assert conservation_error(got, logit(got.logits, got.target)) < tolerance


@pytest.mark.parametrize("tensor", ["gf", "agf"])
def test_equals_eager_weights_with_autograd(build, eager, batch, decoder_family, tensor):
    model, inputs = build(decoder_family), batch()
    got = captured(model, inputs, tensor=tensor)
    output = eager(model)(**inputs, output_attentions=True)
    value = logit(logits_at(AT)(output), TOKENS).sum()
    gradients = torch.autograd.grad(value, output.attentions)
    for layer, (a, g) in enumerate(zip(output.attentions, gradients, strict=True)):
        wanted = (g.relu() * (a > 0) if tensor == "gf" else (a * g).relu()).mean(1)
        assert wanted.max() > 1e-5, "a degenerate model tests nothing"
        error = (got.capacities[:, layer] - wanted).abs().max() / wanted.max()
        assert error < 1e-5


@pytest.mark.parametrize("tensor", ["gf", "agf", "cf"])
def test_nothing_after_the_position(build, batch, decoder_family, tensor):
    got = captured(build(decoder_family), batch(), tensor=tensor)
    later = torch.arange(9)[None] > AT[:, None]
    assert got.capacities.sum((1, 2))[later].abs().max() == 0
    assert got.capacities.sum((1, 3))[later].abs().max() == 0
    assert got.capacities.triu(1).abs().max() == 0
    assert got.sources.nonzero()[:, 1].tolist() == AT.tolist()


def test_a_prefix_is_all_that_counts(build, batch, decoder_family):
    model, inputs = build(decoder_family), batch(lengths=(9,))
    at, token = torch.tensor([5]), torch.tensor([5])
    whole = captured(model, inputs, at, token)
    prefix = captured(model, {name: x[:, :6] for name, x in inputs.items()}, at, token)
    error = (whole.capacities[..., :6, :6] - prefix.capacities).abs().max()
    assert error < 2e-5 * prefix.capacities.max()


def test_several_numbers_of_one_forward_pass(build, batch):
    model, inputs = build("llama"), batch(lengths=(9,))
    passes = []
    model.model.register_forward_hook(lambda *_: passes.append(1))
    wanted = [
        Objective(torch.tensor([t]), read=logits_at(torch.tensor([p])), position=torch.tensor([p]))
        for t, p in ((5, 3), (6, 4), (7, 8))
    ]
    together = captures(model, inputs, wanted)
    assert len(passes) == 1
    for objective, got in zip(wanted, together, strict=True):
        alone = capture(model, inputs, objective)
        assert torch.equal(got.capacities, alone.capacities)


def test_one_token_against_another(build, batch):
    model, inputs = build("gpt2", biases=False, dtype=torch.float64), batch()
    others = torch.tensor([9, -1, 3])
    got = captured(model, inputs, scalar=versus(others, contrast))
    by_hand = logit(got.logits, TOKENS) - logit(got.logits, others.clamp(min=0))
    by_hand = by_hand.where(others >= 0, contrast(got.logits, TOKENS))
    assert conservation_error(got, by_hand) > 1e-12  # the logsumexp of row 1 is not linear
    rows = others >= 0
    layers = got.signed.sum((-2, -1)) + got.residual.sum(-1)
    torch.testing.assert_close(layers[rows], by_hand[rows, None].expand(-1, 3))


def test_the_predicted_token(build, batch):
    model, inputs = build("qwen3"), batch()
    got = captured(model, inputs, target=torch.tensor([5, -1, -1]))
    best = got.logits.argmax(1)
    assert got.target.tolist() == [5, best[1], best[2]]


def test_positions_outside(build, batch):
    model, inputs = build("llama"), batch()
    for outside in ([0, 0, 9], [0, -1, 0], [[0, 1], [0, -1], [0, 1]], [0, 0]):
        with pytest.raises(InputError, match=r"in 0\.\.8"):
            capture(
                model, inputs, Objective(TOKENS, read=logits_at(AT), position=torch.tensor(outside))
            )
    with pytest.raises(InputError, match="not at padding"):
        captured(model, inputs, torch.tensor([8, 4, 4]))


def test_logits_of_a_language_model_need_a_position(build, batch):
    with pytest.raises(ModelError, match="objectives.logits_at for a language model"):
        capture(build("llama"), batch(), Objective(TOKENS))


@pytest.mark.parametrize("tensor", ["af", "agf", "cf"])
def test_logits_are_computed_where_they_are_read_and_nowhere_else(build, batch, tensor):
    model, inputs = build("llama"), batch()
    rows = torch.arange(3)
    # The same reading, of which nobody can see where it reads.
    everywhere = Objective(TOKENS, read=lambda output: output.logits[rows, AT], position=AT)
    sizes = []
    handle = model.lm_head.register_forward_hook(lambda m, a, out: sizes.append(out.shape[1]))
    expected = capture(model, inputs, everywhere, tensor=tensor)
    got = captured(model, inputs, tensor=tensor)
    handle.remove()
    assert sizes == [inputs["input_ids"].shape[1], len(AT)]
    torch.testing.assert_close(got.capacities, expected.capacities)
    torch.testing.assert_close(got.logits, expected.logits)
