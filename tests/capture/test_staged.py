"""The balanced conservative tensor: means over stages, balance of layers, log-odds."""

import pytest
import torch

from attnflow import InputError
from attnflow.capture import Objective, balanced, capture, largest, staged_capture
from attnflow.capture.objectives import contrast, logit

BASELINE = 39


def baseline(inputs):
    return torch.full_like(inputs["input_ids"], BASELINE)


def test_no_stage_but_the_first_is_the_text_itself(build, batch, family):
    model, inputs = build(family, dtype=torch.float64), batch()
    staged = staged_capture(model, inputs, baseline(inputs), Objective(scalar=logit), removed=())
    whole = capture(model, inputs)
    for name in ("capacities", "signed", "residual", "logits", "target"):
        torch.testing.assert_close(getattr(staged, name), getattr(whole, name))


def test_effects_are_means_over_the_stages_in_which_a_token_is_present(build, batch):
    """One text by hand: six tokens, of which the two best go first, then the three best."""
    model, inputs = build(dtype=torch.float64), batch()
    ids = inputs["input_ids"][1:2, :6]
    start = torch.tensor([2])

    def stage(removed):
        own = ids.clone()
        own[0, removed] = BASELINE
        return capture(model, {"input_ids": own}, Objective(start, scalar=contrast))

    def of_tokens(stages):
        """Means of what leaves each token of the first layer, over (capture, tokens removed)."""
        sums, counts = torch.zeros(6, dtype=torch.float64), torch.zeros(6)
        for staged, removed in stages:
            present = torch.ones(6, dtype=torch.bool)
            present[removed] = False
            sums += (staged.signed[0, 0].sum(0) + staged.residual[0, 0]) * present
            counts += present
        return sums / counts

    seen = [(stage([]), [])]
    for count in (2, 3):
        removed = of_tokens(seen).argsort(descending=True)[:count].tolist()
        seen.append((stage(removed), removed))
    staged = staged_capture(
        model,
        {"input_ids": ids},
        torch.full_like(ids, BASELINE),
        Objective(start, scalar=contrast),
        removed=(0.2, 0.5),
    )

    for token in range(6):
        own = [c for c, removed in seen if token not in removed]
        signed = torch.stack([c.signed[..., token] for c in own]).mean(0)
        residual = torch.stack([c.residual[..., token] for c in own]).mean(0)
        torch.testing.assert_close(staged.signed[..., token], signed)
        torch.testing.assert_close(staged.residual[..., token], residual)
    expected = staged.signed.clamp(min=0) + torch.diag_embed(staged.residual.clamp(min=0))
    torch.testing.assert_close(staged.capacities, expected)
    torch.testing.assert_close(staged.logits, seen[0][0].logits)


def test_tokens_equal_to_the_baseline_are_never_removed(build, batch):
    model, inputs = build(dtype=torch.float64), batch()
    same = inputs["input_ids"]
    staged = staged_capture(model, inputs, same, Objective(scalar=logit), removed=(0.5, 0.9))
    torch.testing.assert_close(staged.signed, capture(model, inputs).signed)


def test_all_stages_explain_the_class_that_the_text_has(build, batch):
    """Though without its best tokens a text is of another."""
    model, inputs = build(dtype=torch.float64), batch()
    ids = inputs["input_ids"]

    def classes(ids):
        with torch.no_grad():
            return model(**{**inputs, "input_ids": ids}).logits.argmax(1)

    predicted = classes(ids)
    others = (torch.full_like(ids, token) for token in range(5, 40))
    empty = next(other for other in others if (classes(other) != predicted).all())
    asked = staged_capture(
        model, inputs, empty, Objective(predicted, scalar=contrast), removed=(0.9,)
    )
    staged = staged_capture(model, inputs, empty, removed=(0.9,))
    assert staged.target.tolist() == predicted.tolist()
    torch.testing.assert_close(staged.signed, asked.signed)


def test_shares_are_rounded_up_to_whole_tokens():
    everything = torch.ones(1, 100, dtype=torch.bool)
    for total, share, expected in ((100, 0.15, 15), (100, 0.3, 30), (50, 0.3, 15), (7, 0.3, 3)):
        removable = everything & (torch.arange(100) < total)
        removed = largest(torch.arange(100.0)[None], removable, share)
        assert removed.nonzero()[:, 1].tolist() == list(range(total - expected, total))


def test_each_stage_is_conserved_and_their_mean_is_not(build, batch):
    """The layers of a stage carry the same without biases; balance is for what averaging undoes."""
    model, inputs = build(dtype=torch.float64), batch()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()

    def totals(staged):
        return staged.signed.sum((2, 3)) + staged.residual.sum(2)

    one = totals(capture(model, inputs))
    torch.testing.assert_close(one, one[:, :1].expand_as(one))
    mean = totals(staged_capture(model, inputs, baseline(inputs)))
    assert (mean - mean[:, :1]).abs().max() > 1e-3


def test_padding_changes_nothing(build, batch):
    model, inputs = build(dtype=torch.float64), batch()
    staged = staged_capture(model, inputs, baseline(inputs))
    t = 6
    alone = {name: value[1:2, :t] for name, value in inputs.items()}
    own = staged_capture(model, alone, baseline(alone))
    torch.testing.assert_close(staged.capacities[1, :, :t, :t], own.capacities[0])
    assert (staged.capacities[1, :, t:] == 0).all() and (staged.capacities[1, :, :, t:] == 0).all()


def test_balanced_layers_have_a_total_of_one_each(build, batch):
    capacities = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    capacities[1, 2] = 0
    staged = balanced(capacities)
    total = staged.sum((2, 3))
    assert total.flatten().tolist() == pytest.approx([1, 1, 1, 1, 1, 0])
    ratio = staged[0] / capacities[0]
    torch.testing.assert_close(ratio.amax((1, 2)), ratio.amin((1, 2)))


def test_log_odds_by_hand():
    logits, target = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1])
    others = torch.log(torch.exp(torch.tensor(1.0)) + torch.exp(torch.tensor(2.0)))
    torch.testing.assert_close(contrast(logits, target), 3.0 - others[None])
    torch.testing.assert_close(contrast(logits[:, :1], target - 1), torch.tensor([1.0]))
    p = logits.softmax(1)[0, 1]
    torch.testing.assert_close(contrast(logits, target)[0], torch.log(p / (1 - p)))


def test_bad_replacements_of_tokens_are_refused(build, batch):
    model, inputs = build(), batch()
    for bad in (baseline(inputs)[:, :-1], [[1]]):
        with pytest.raises(InputError, match="baseline must be a tensor of shape"):
            staged_capture(model, inputs, bad)
    with pytest.raises(InputError, match="must have input_ids"):
        staged_capture(model, {"inputs_embeds": torch.zeros(1, 2, 16)}, baseline(inputs))
    for share in (0, 1, -0.1, float("nan")):
        with pytest.raises(InputError, match="removed must be shares"):
            staged_capture(model, inputs, baseline(inputs), removed=(0.1, share))
