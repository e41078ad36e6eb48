"""Capacities net at nodes: what enters a node adds up to what it is worth."""

from dataclasses import replace

import pytest
import torch

from attnflow.capture import (
    HiddenTokens,
    Segments,
    captured_stages,
    default_stages,
    leaving_out,
    mean_present,
    signed_scores,
    stage_count,
)
from attnflow.capture.capture import Effects, clip
from attnflow.capture.families import family_of
from attnflow.capture.net_worth import net_capacities, net_capture, product_rules
from attnflow.capture.objectives import Objective, contrast, logits_at
from attnflow.capture.position_ids import with_fixed_positions
from attnflow.capture.staged import halves
from attnflow.capture.token_removal import can_hide
from attnflow.solver import maximum_flow
from attnflow.solver.network import layered_network


def effects(seed=0, layers=3, t=6, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    signed = torch.randn(2, layers, t, t, generator=generator, dtype=torch.float64) + shift
    residual = torch.randn(2, layers, t, generator=generator, dtype=torch.float64) + shift
    sources = torch.zeros(2, t, dtype=torch.bool)
    sources[:, -1] = True
    return Effects(
        signed=signed,
        residual=residual,
        mask=torch.ones(2, t, dtype=torch.bool),
        logits=torch.zeros(2, 3),
        target=torch.zeros(2, dtype=torch.int64),
        sources=sources,
        explained=torch.zeros(2),
    )


def worth(found):
    signed, residual = found.effects
    return signed.sum(2) + residual


@pytest.mark.parametrize("seed", range(5))
def test_capacities_into_a_node_add_up_to_its_worth_if_that_is_positive(seed):
    found = effects(seed)
    expected = worth(found)
    capacities = net_capacities(found)
    torch.testing.assert_close(capacities.sum(2), expected.relu())
    assert (capacities >= 0).all()
    assert (expected <= 0).any(), "a case without such a node tests nothing"


@pytest.mark.parametrize("seed", range(5))
def test_no_edge_has_more_than_its_effect(seed):
    found = effects(seed)
    whole = found.effects[0] + torch.diag_embed(found.effects[1])
    assert (net_capacities(found) <= whole.relu() + 1e-12).all()


def test_without_negative_effects_it_is_cf():
    found = effects(shift=10.0)
    assert (found.effects[0] > 0).all() and (found.effects[1] > 0).all()
    expected = clip(found).capacities
    torch.testing.assert_close(net_capacities(found), expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_flow_into_a_token_is_at_most_its_contribution(seed):
    found = effects(seed)
    contributions, sources, mask = found.of_inputs, found.sources, found.mask
    flow = maximum_flow(layered_network(net_capacities(found), sources, mask))
    assert (flow.sink <= contributions.relu() + 1e-9).all()
    assert (flow.sink[contributions <= 0] == 0).all()


def test_a_capture_has_layers_of_one_weight_and_the_contributions():
    found = effects()
    expected = found.of_inputs.clone()
    capture = net_capture(found)
    torch.testing.assert_close(capture.contributions, expected)
    torch.testing.assert_close(capture.capacities.sum((2, 3)), torch.ones(2, 3).double())
    assert capture.signed is None


def objective(at):
    return Objective(torch.tensor([5, 17, 9]), contrast, logits_at(at), at)


def test_a_hidden_token_is_seen_by_none_and_all_keep_their_positions(build, batch):
    model, inputs = build("llama", dtype=torch.float64), batch()
    at = inputs["attention_mask"].sum(1) - 1
    removable = inputs["attention_mask"].bool()
    removable[:, 0] = False
    removable[torch.arange(3), at] = False
    removal = HiddenTokens.of(model, inputs, removable)
    first, *later = captured_stages(
        model, inputs, removal, objective(at), removed=(0.3, 0.6), rules=product_rules(model)
    )
    for stage in later:
        gone = first.present & ~stage.present
        assert gone[0].any() and not (gone & ~removable).any()
        mask = inputs["attention_mask"] * ~gone
        positions = with_fixed_positions(model, inputs)["position_ids"]
        output = model(input_ids=inputs["input_ids"], attention_mask=mask, position_ids=positions)
        expected = logits_at(at)(output)
        torch.testing.assert_close(stage.capture.logits, expected.detach())
        columns = stage.capture.capacities.sum((1, 2))
        assert (columns[gone] == 0).all() and (stage.capture.contributions[gone] == 0).all()


def test_the_first_token_can_be_hidden(build, batch):
    model, inputs = build("llama", dtype=torch.float64), batch()
    at = inputs["attention_mask"].sum(1) - 1
    removable = torch.zeros_like(inputs["attention_mask"], dtype=torch.bool)
    removable[:, 0] = True
    removal = HiddenTokens.of(model, inputs, removable)
    _, stage = captured_stages(model, inputs, removal, objective(at), removed=(0.5,))
    assert not stage.present[:, 0].any()
    mask = inputs["attention_mask"].clone()
    mask[:, 0] = 0
    positions = torch.arange(mask.shape[1]).expand_as(mask)
    output = model(input_ids=inputs["input_ids"], attention_mask=mask, position_ids=positions)
    torch.testing.assert_close(stage.capture.logits, logits_at(at)(output).detach())


@pytest.mark.parametrize("merged", [False, True], ids=["tokens", "segments"])
def test_hidden_tokens_are_not_computed(build, batch, decoder_family, merged, monkeypatch):
    model, inputs = build(decoder_family, dtype=torch.float64), batch()
    if not can_hide(model):
        pytest.skip("its stages replace tokens")
    mask = inputs["attention_mask"]
    at = mask.sum(1) - 2
    removable = mask.bool().clone()
    removable[torch.arange(3), at] = False
    removable &= torch.arange(mask.shape[1]) < at[:, None]
    segments = None
    if merged:
        # The token that is read and all after it stand alone, as in an explanation.
        nodes = torch.arange(mask.shape[1]).expand_as(mask)
        segments = Segments(nodes.where(nodes >= at[:, None] - at[:, None] % 2, nodes // 2 * 2), 99)

    def stages():
        removal = HiddenTokens.of(model, inputs, removable)
        rules = product_rules(model)
        return list(
            captured_stages(
                model, inputs, removal, objective(at), removed=(0.3, 0.6), rules=rules,
                segments=segments,
            )
        )  # fmt: skip

    lengths = []
    record = leaving_out.record
    monkeypatch.setattr(
        leaving_out,
        "record",
        lambda model, inputs, *a, **k: (
            lengths.append(inputs["input_ids"].shape[1]),
            record(model, inputs, *a, **k),
        )[1],
    )
    got = stages()
    windows = (getattr(model.config.get_text_config(), name, None) for name in leaving_out._WINDOWS)
    if family_of(model).positions == "given" and not any(windows):
        assert lengths[1] < lengths[0] < mask.shape[1]
    monkeypatch.setattr(leaving_out, "_visible_tokens", lambda *a: None)
    for one, other in zip(got, stages(), strict=True):
        assert torch.equal(one.present, other.present)
        for name in ("capacities", "contributions", "logits", "mask", "sources", "explained"):
            a, b = (getattr(stage.capture, name) for stage in (one, other))
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_stages_without_anything_to_remove_are_the_text(build, batch):
    model, inputs = build("llama", dtype=torch.float64), batch()
    at = inputs["attention_mask"].sum(1) - 1
    nothing = torch.zeros_like(inputs["attention_mask"], dtype=torch.bool)
    removal = HiddenTokens.of(model, inputs, nothing)
    first, second = captured_stages(model, inputs, removal, objective(at), removed=(0.5,))
    assert torch.equal(first.present, second.present)
    torch.testing.assert_close(first.capture.capacities, second.capture.capacities)


def test_halves_share_the_removable_tokens_by_turns_of_rank():
    effects = torch.tensor(
        [[5.0, 9.0, 1.0, 7.0, 3.0, 8.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]
    )
    removable = torch.ones(2, 7, dtype=torch.bool)
    removable[0, 1] = removable[1, 3:] = False
    first, second = halves(effects, removable)
    # By effect: 8 | 7, 5 | 3, 2 | 1, and of the second text 3 | 2, 1.
    assert [row.nonzero()[:, 0].tolist() for row in first] == [[4, 5, 6], [2]]
    assert [row.nonzero()[:, 0].tolist() for row in second] == [[0, 2, 3], [0, 1]]
    assert not (first & second).any() and torch.equal(first | second, removable)


def test_halves_are_two_stages_after_those_before(build, batch):
    model, inputs = build("llama", dtype=torch.float64), batch()
    at = inputs["attention_mask"].sum(1) - 1
    removable = inputs["attention_mask"].bool()
    removable[torch.arange(3), at] = False
    removal = HiddenTokens.of(model, inputs, removable)
    rules = (0.3, "halves")
    whole, without, a, b = captured_stages(model, inputs, removal, objective(at), removed=rules)
    assert stage_count(rules) == 4
    worth = mean_present(
        torch.stack([whole.capture.contributions, without.capture.contributions]),
        torch.stack([whole.present, without.present]),
    )
    for stage, gone in zip((a, b), halves(worth, removable), strict=True):
        assert torch.equal(stage.present, whole.present & ~gone)


def test_both_defaults_have_as_many_stages():
    """Memory is planned before it is known whether tokens can be hidden."""
    assert stage_count(default_stages(hidden=True)) == stage_count(default_stages(hidden=False))


def test_a_mean_counts_only_stages_that_have_the_token():
    values = torch.tensor([[1.0, 2.0, 3.0], [3.0, 9.0, 5.0]])
    present = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_present(values, present).tolist() == [2.0, 2.0, 0.0]


def test_signed_scores_are_in_the_units_of_contributions():
    contributions = torch.tensor([[2.0, -1.0, 4.0]])
    signed = signed_scores(torch.tensor([[0.1, 0.0, 0.2]]), contributions)
    torch.testing.assert_close(signed, torch.tensor([[2.0, -1.0, 4.0]]))
    assert signed_scores(torch.zeros(1, 3), contributions).tolist() == [[0.0, -1.0, 0.0]]


def test_a_node_without_flow_does_not_swell_the_others():
    contributions = torch.tensor([[6.0, -1.0, 4.0]])  # the first was excluded
    signed = signed_scores(torch.tensor([[0.0, 0.0, 0.2]]), contributions)
    torch.testing.assert_close(signed, torch.tensor([[0.0, -1.0, 4.0]]))


def test_passthrough_edges_carry_all_that_arrives():
    found = effects(layers=2, t=4)
    passthrough = torch.tensor([[False, False, True, True], [True, True, False, False]])
    signed = found.signed.clone()
    signed[:, 0, 2:] = 0
    signed[:, 1, :2] = 0
    found = replace(found, signed=signed, passthrough=passthrough)
    capacities = net_capacities(found)
    arrived = capacities[:, 1].sum(1)
    torch.testing.assert_close(capacities[:, 0].diagonal(dim1=1, dim2=2)[:, 2:], arrived[:, 2:])
