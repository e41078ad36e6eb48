"""Models in half precision against the same weights in float32, and against gradients of torch."""

import copy
import math

import numpy as np
import pytest
import torch
from support.family_measurements import (
    HALF_TENSORS,
    RIGHT,
    captured,
    half_precision_error,
    images,
    texts,
)
from support.tiny_models import TINY, build
from torch import nn

from attnflow import Explainer
from attnflow.capture.half_precision import float32_activations
from attnflow.models.tested_families import supported_families

KNOWN = {row.model_type: row for row in supported_families()}

HALF = (torch.bfloat16, torch.float16)
# Sums of differences over sums: bfloat16 has eight bits, float16 eleven.
TOLERANCE = {torch.bfloat16: {"af": 0.03, "agf": 0.15}, torch.float16: {"af": 0.01, "agf": 0.06}}


def in_both(name, dtype):
    """A family's model in half precision, and in float32 with the same weights."""
    model = build(name).to(dtype)
    return copy.deepcopy(model).float(), model


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", TINY)
def test_every_family_is_as_in_float32(name, dtype):
    for tensor, most in TOLERANCE[dtype].items():
        assert half_precision_error(name, tensor, dtype) < most, tensor


@pytest.mark.parametrize("name", [name for name in TINY if " " not in name])
def test_the_table_has_these_errors(name):
    forms = [form for form in TINY if form.split()[0] == name]
    for dtype, found in zip(HALF, (KNOWN[name].bfloat16, KNOWN[name].float16), strict=True):
        errors = [half_precision_error(f, tensor, dtype) for f in forms for tensor in HALF_TENSORS]
        assert max(errors) == pytest.approx(found, rel=0.5)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_effects_add_up_as_in_float32(dtype):
    """The frozen network conserves them: float32 sums, up to the roundings of products."""
    full, half = (Explainer(model) for model in in_both("llama", dtype))
    ids = texts()[1]["input_ids"].tolist()
    wanted, found = (e(input_ids=ids, tensor="net", stages=()) for e in (full, half))
    assert found.label == wanted.label
    assert found.explained == pytest.approx(wanted.explained, abs=0.05)
    np.testing.assert_allclose(found.contributions, wanted.contributions, atol=0.05)
    assert (found.precision, wanted.precision) == (str(dtype).removeprefix("torch."), "float32")


@pytest.mark.parametrize("name", TINY)
def test_products_alone_are_rounded(name):
    """Everything else is float32, and so are all gradients: norms, activations, residual sums."""
    model, kind, seen = build(name).bfloat16(), TINY[name].kind, set()

    def output(module, args, out):
        if isinstance(out, torch.Tensor) and out.requires_grad:
            name = type(module).__name__
            seen.add((name, out.dtype))
            out.register_hook(lambda gradient: seen.add((f"gradient of {name}", gradient.dtype)))

    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(output)
    examples = images(model) if kind == "vision" else texts()
    captured(model, kind, examples, [0, 1, 2], RIGHT, "agf")
    assert any(who.startswith("gradient") for who, _ in seen)
    assert {dtype for _, dtype in seen} == {torch.float32}, seen


@pytest.mark.parametrize("size", (1e-8, 1e8))
def test_the_units_of_a_target_do_not_matter_in_float16(size):
    explain = Explainer(build("t5").half())
    ids = texts()[1]["input_ids"].tolist()

    def scores(factor):
        found = explain(
            input_ids=ids, target=lambda output: output.logits[:, -1, 3] * factor, tensor="cf"
        )
        return found.scores / factor

    np.testing.assert_allclose(scores(size), scores(1.0), rtol=0.05, atol=1e-3 * scores(1.0).max())


def test_a_rows_precision_does_not_depend_on_other_rows():
    torch.manual_seed(0)
    layer = nn.Linear(64, 64).half().requires_grad_(False)
    x = torch.randn(2, 64)
    x[0] *= 1e8
    with float32_activations(layer):
        torch.testing.assert_close(layer(x)[1], layer(x[1:])[0], rtol=1e-6, atol=1e-6)
        assert layer(x[:0]).shape == (0, 64)


@pytest.mark.parametrize("size", (1e-30, 1e-8, 1.0, 1e8, 1e30))
def test_float16_neither_overflows_nor_vanishes(size):
    """Its numbers end at 65,504 and at 6e-8; values and gradients are scaled on their way."""
    torch.manual_seed(0)
    layer = nn.Linear(32, 32).half().requires_grad_(False)
    x = (torch.randn(4, 32) * size).requires_grad_()
    with float32_activations(layer):
        y = layer(x)
    gradient = torch.randn(4, 32) / size
    (found,) = torch.autograd.grad(y, x, gradient)

    wanted = x.detach() @ layer.weight.float().T + layer.bias.float()
    assert (y - wanted).abs().max() < 2e-3 * wanted.abs().max()
    wanted = gradient @ layer.weight.float()
    assert (found - wanted).abs().max() < 2e-3 * wanted.abs().max()


def test_zeros_stay_zeros_in_float16():
    layer = nn.Linear(4, 4, bias=False).half().requires_grad_(False)
    with float32_activations(layer):
        assert layer(torch.zeros(2, 4)).tolist() == torch.zeros(2, 4).tolist()
        assert math.isnan(layer(torch.full((1, 4), math.nan))[0, 0])


def test_a_model_in_float32_is_left_alone():
    layer = nn.Linear(4, 4)
    x = torch.randn(2, 4)
    wanted = layer(x)
    with float32_activations(layer):
        assert torch.equal(layer(x), wanted)
