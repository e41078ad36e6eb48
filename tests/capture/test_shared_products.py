"""Effects where attention and gated MLPs share their products between the factors.

What enters a node is worth its activation times its gradient, of the same backward pass, whatever
the rules; only the totals of layers differ where the pattern is shared.
"""

import pytest
import torch
from support.family_measurements import images, read_image
from support.tiny_models import DECODERS, ENCODERS, TWO_STACKS, VISION

from attnflow.capture import Objective, capture
from attnflow.capture.families import attention_blocks, family_of, sites_of
from attnflow.capture.objectives import logit, logits_at
from attnflow.capture.recorder import ProductRules
from attnflow.errors import InputError

SHARED = ProductRules(pattern="shared", gates="shared")
HALF = ProductRules(pattern="frozen", gates="shared")
OWN_ATTENTION = ("deberta-v2", "mpnet", "gptj")
# RMS norms of transformers compute in float32, also in a float64 model.
LAYER_NORM = (
    *(f for f in ENCODERS if f not in ("modernbert", "eurobert")), "bart", "m2m_100", "marian",
    "vit", "gpt2", "gpt_neox", "opt", "phi", "gpt_bigcode",
)  # fmt: skip


def inputs_of(name, model, batch):
    """Inputs of a family's tiny model, the position read, and how many nodes the source has."""
    if name in VISION:
        return {"pixel_values": torch.cat(tuple(images(model))).double()}, None, 0
    inputs = batch()
    if name in ENCODERS:
        return inputs, None, 0
    if name in DECODERS:
        return inputs, torch.tensor([7, 5, 1]), 0
    prefix = torch.tensor([[1, 5, 9, 4]]).repeat(3, 1)
    return {**inputs, "decoder_input_ids": prefix}, torch.tensor([3, 2, 1]), 9


@pytest.fixture
def captured(build, batch):
    """Returns the effects of a family's model, and the worth of what enters each of its blocks."""

    def run(name, rules, **options):
        model = build(name, biases=False, dtype=torch.float64, **options)
        inputs, at, source = inputs_of(name, model, batch)
        objective = Objective(read=read_image)  # CLIP's tower embeds
        if at is not None:
            target = torch.tensor([5, 17, 9])
            objective = Objective(target, logit, logits_at(at), at + source)
        family, seen, worth = family_of(model), [], {}

        def watch(module, args, kwargs):
            x, call = (*args, *kwargs.values())[0], len(seen)
            seen.append(x)
            x.register_hook(
                lambda gradient: worth.__setitem__(call, (gradient * x).sum(-1).detach())
            )

        hooks = [
            block.get_submodule(entry).register_forward_pre_hook(watch, with_kwargs=True)
            for block in attention_blocks(model, family)
            for *_, entry in sites_of(block, family)
        ]
        try:
            got = capture(model, inputs, objective, rules=rules)
        finally:
            for hook in hooks:
                hook.remove()
        return got, [worth[i] for i in range(len(seen))], source

    return run


@pytest.mark.parametrize("rules", [SHARED, HALF, ProductRules()], ids=["shared", "half", "frozen"])
@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS, *VISION, *TWO_STACKS])
def test_effects_into_a_node_add_up_to_activation_times_gradient(captured, name, rules):
    if rules == SHARED and name.split()[0] in OWN_ATTENTION:
        pytest.skip("computes its own attention, whose pattern cannot be shared")
    got, worth, source = captured(name, rules)
    calls = got.signed.shape[1]
    nodes = got.signed.shape[2]
    enters = got.signed.sum(2) + got.residual
    tolerance = 1e-10 if name.split()[0] in LAYER_NORM else 2e-6
    for call in range(calls):
        side = slice(0, nodes)
        if source:
            side = slice(0, source) if call < calls - 2 * 3 else slice(source, nodes)
        expected = worth[call].where(got.mask[:, side], 0.0)
        error = (enters[:, call, side] - expected).abs().max() / got.signed.abs().max()
        assert error < tolerance, (call, float(error))


@pytest.mark.parametrize("name", [n for n in DECODERS if n.split()[0] not in OWN_ATTENTION])
def test_a_shared_pattern_gives_queries_and_keys_a_part(captured, name):
    shared, *_ = captured(name, SHARED)
    frozen, *_ = captured(name, HALF)
    assert (shared.signed - frozen.signed / 2).abs().max() > 1e-3 * frozen.signed.abs().max()


def test_a_pattern_that_the_model_computes_itself_is_not_shared(build, batch):
    for name in OWN_ATTENTION[:2]:
        with pytest.raises(InputError, match="computes its own attention.*pattern='frozen'"):
            capture(build(name), batch(), rules=SHARED)
