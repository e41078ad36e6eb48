"""The balanced conservative tensor: what it averages, what it scales, what it explains."""

import pytest
import torch

from attnflow import InputError
from attnflow.capture import balanced, capture, path_capture
from attnflow.targets import contrast, logit

NEUTRAL = 39


def neutral(inputs):
    return torch.full_like(inputs["input_ids"], NEUTRAL)


def test_one_point_is_the_text_itself(build, batch, family):
    model, inputs = build(family, dtype=torch.float64), batch()
    path = path_capture(model, inputs, neutral(inputs), points=1, explained=logit)
    own = capture(model, inputs)
    for name in ("capacities", "signed", "residual", "logits", "target"):
        torch.testing.assert_close(getattr(path, name), getattr(own, name))


def test_effects_are_averaged_before_they_are_clipped(build, batch):
    model, inputs = build(dtype=torch.float64), batch()
    table = model.get_input_embeddings()
    whole, masked = table(inputs["input_ids"]).detach(), table(neutral(inputs)).detach()
    target = torch.tensor([1, 0, 2])
    captures = [
        capture(
            model,
            {
                "inputs_embeds": masked + part * (whole - masked),
                "attention_mask": inputs["attention_mask"],
            },
            target,
            explained=contrast,
        )
        for part in (0.25, 0.5, 0.75, 1.0)
    ]
    signed = sum(c.signed for c in captures) / 4
    residual = sum(c.residual for c in captures) / 4

    found = path_capture(model, inputs, neutral(inputs), target)

    torch.testing.assert_close(found.signed, signed)
    torch.testing.assert_close(found.residual, residual)
    expected = signed.clamp(min=0) + torch.diag_embed(residual.clamp(min=0))
    torch.testing.assert_close(found.capacities, expected)
    torch.testing.assert_close(found.logits, captures[-1].logits)


def test_the_predicted_class_is_that_of_the_text(build, batch):
    model, inputs = build(), batch()
    found = path_capture(model, inputs, neutral(inputs))
    with torch.no_grad():
        assert found.target.tolist() == model(**inputs).logits.argmax(1).tolist()


def test_padding_changes_nothing(build, batch):
    model, inputs = build(dtype=torch.float64), batch()
    found = path_capture(model, inputs, neutral(inputs))
    t = 6
    alone = {name: value[1:2, :t] for name, value in inputs.items()}
    own = path_capture(model, alone, neutral(alone))
    torch.testing.assert_close(found.capacities[1, :, :t, :t], own.capacities[0])
    assert (found.capacities[1, :, t:] == 0).all() and (found.capacities[1, :, :, t:] == 0).all()


def test_balanced_layers_have_a_total_of_one_each(build, batch):
    capacities = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    capacities[1, 2] = 0
    found = balanced(capacities)
    total = found.sum((2, 3))
    assert total.flatten().tolist() == pytest.approx([1, 1, 1, 1, 1, 0])
    ratio = found[0] / capacities[0]
    torch.testing.assert_close(ratio.amax((1, 2)), ratio.amin((1, 2)))


def test_log_odds_by_hand():
    logits, target = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1])
    others = torch.log(torch.exp(torch.tensor(1.0)) + torch.exp(torch.tensor(2.0)))
    torch.testing.assert_close(contrast(logits, target), 3.0 - others[None])
    torch.testing.assert_close(contrast(logits[:, :1], target - 1), torch.tensor([1.0]))
    p = logits.softmax(1)[0, 1]
    torch.testing.assert_close(contrast(logits, target)[0], torch.log(p / (1 - p)))


def test_what_a_path_cannot_begin_with(build, batch):
    model, inputs = build(), batch()
    for bad in (neutral(inputs)[:, :-1], [[1]]):
        with pytest.raises(InputError, match="neutral must be a tensor of token ids"):
            path_capture(model, inputs, bad)
    with pytest.raises(InputError, match="must have input_ids"):
        path_capture(model, {"inputs_embeds": torch.zeros(1, 2, 16)}, neutral(inputs))
