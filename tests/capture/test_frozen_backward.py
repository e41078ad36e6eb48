"""The frozen network is linear, so contributions are conserved; and it is the right network."""

import copy
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import ACT2FN

from attnflow.capture import Objective, capture, frozen_backward
from attnflow.capture.frozen_backward import frozen_network

ACTIVATIONS = (
    "gelu",
    "gelu_10",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_pytorch_tanh",
    "gelu_accurate",
    "quick_gelu",
    "mish",
    "relu",
    "relu2",
    "silu",
    "tanh",
    "linear",
)

# RMS norms of transformers compute in float32, also in a float64 model.
TOLERANCE = {"eurobert": 1e-6}


def conservation_error(got):
    """Largest violation at any layer or node, relative to the largest effect in the capture."""
    logit = got.logits.gather(1, got.target[:, None])
    layers = got.signed.sum((-2, -1)) + got.residual.sum(-1)
    leaves = got.signed.sum(-1) + got.residual
    arrives = got.signed.sum(-2) + got.residual
    worst = max((layers - logit).abs().max(), (arrives[:, 1:] - leaves[:, :-1]).abs().max())
    return float(worst / got.signed.abs().max())


def test_conserved_at_every_node_without_biases(build, batch, family):
    model = build(family, biases=False, dtype=torch.float64)
    got = capture(model, batch(), Objective(torch.tensor([0, 2, 1])))
    assert got.signed.abs().amax(dim=(-2, -1)).min() > 1e-4, "a degenerate model tests nothing"
    assert conservation_error(got) < TOLERANCE.get(family, 1e-12)


def test_conserved_with_padding_on_the_left(build, batch):
    options = dict(biases=False, dtype=torch.float64, classifier_pooling="mean")
    assert conservation_error(capture(build("modernbert", **options), batch("left"))) < 1e-12


def test_conserved_in_float32(build, batch, family):
    got = capture(build(family, biases=False), batch())
    assert got.signed.dtype == torch.float32
    assert conservation_error(got) < 5e-6


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("bert", dict(chunk_size_feed_forward=3)),
        ("bert", dict(is_decoder=True)),
        ("albert", dict(num_hidden_groups=3)),
        ("albert", dict(inner_group_num=2)),
        ("eurobert", dict(classifier_pooling="late")),
        ("eurobert", dict(classifier_pooling="mean")),
        ("deberta-v2", dict(share_att_key=False, type_vocab_size=2, position_biased_input=True)),
        ("deberta-v2", dict(relative_attention=False, pos_att_type=[], norm_rel_ebd="none")),
        ("modernbert", dict(classifier_pooling="mean")),
        ("modernbert", dict(classifier_pooling="cls", norm_bias=True, mlp_bias=True)),
        ("XLMRoberta", {}),
        ("Camembert", {}),
    ],
)
def test_conserved_in_variants(build, batch, family, options):
    model = build(family, biases=False, dtype=torch.float64, **options)
    assert conservation_error(capture(model, batch())) < TOLERANCE.get(family, 1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_conserved_with_every_activation(build, batch, activation):
    model = build("bert", biases=False, dtype=torch.float64, hidden_act=activation)
    assert conservation_error(capture(model, batch())) < 1e-12


def test_conserved_with_activation_made_during_the_forward_pass(build, batch):
    # DeBERTa builds its pooler's activation anew at each call, so no module can be hooked for it.
    options = dict(pooler_hidden_act="gelu_new")
    model = build("deberta-v2", biases=False, dtype=torch.float64, **options)
    assert conservation_error(capture(model, batch())) < 1e-12


def test_biases_take_their_share(build, batch):
    got = capture(build("bert", dtype=torch.float64), batch())
    assert conservation_error(got) > 1e-2


def test_frozen_forward_is_the_model(build, batch, family):
    model, inputs = build(family, dtype=torch.float64), batch()
    frozen, plain = capture(model, inputs), capture(model, inputs, tensor="af")
    torch.testing.assert_close(frozen.logits, plain.logits, rtol=1e-6, atol=1e-7)


def hand_written_bert(model, inputs, target):
    """Signed edges and residuals of a frozen post-norm BERT, written out with all heads at once."""
    bert, mask = model.bert, inputs["attention_mask"].bool()[:, None, None]
    states, weights, outputs = [], [], []

    def norm(layer, x):
        scale = (x.var(-1, unbiased=False, keepdim=True) + layer.eps).sqrt().detach()
        return (x - x.mean(-1, keepdim=True)) / scale * layer.weight + layer.bias

    x = bert.embeddings(inputs["input_ids"])
    for layer in bert.encoder.layer:
        inner, out = layer.attention.self, layer.attention.output
        projections = (inner.query, inner.key, inner.value)
        q, k, v = (f(x).unflatten(-1, (4, -1)).transpose(1, 2) for f in projections)
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -torch.inf)
        a = scores.softmax(-1).detach().requires_grad_()
        o = out.dense((a @ v).transpose(1, 2).flatten(2))
        states.append(x), weights.append(a), outputs.append(o)
        z = norm(out.LayerNorm, x + o)
        inner = layer.intermediate.dense(z)
        hidden = inner * (F.gelu(inner) / inner).detach()
        x = norm(layer.output.LayerNorm, z + layer.output.dense(hidden))
    pooled = bert.pooler.dense(x[:, 0])
    logits = model.classifier(pooled * (pooled.tanh() / pooled).detach())
    y = logits.gather(1, target[:, None]).sum()
    gradients = torch.autograd.grad(y, [*weights, *outputs])
    signed = [(a * g).sum(1) for a, g in zip(weights, gradients, strict=False)]
    residual = [(x * g).sum(-1) for x, g in zip(states, gradients[len(weights) :], strict=True)]
    return torch.stack(signed, 1), torch.stack(residual, 1)


def test_equals_a_hand_written_frozen_bert_with_biases(build, batch):
    model, inputs = build("bert", dtype=torch.float64), batch()
    target = torch.tensor([0, 2, 1])
    got = capture(model, inputs, Objective(target))
    signed, residual = hand_written_bert(model, inputs, target)
    torch.testing.assert_close(got.signed, signed, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(got.residual, residual, rtol=1e-9, atol=1e-11)
    diagonal = torch.diag_embed(residual.relu())
    torch.testing.assert_close(got.capacities, signed.relu() + diagonal, rtol=1e-9, atol=1e-11)


def rms_norm(x):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize(
    "function",
    [
        rms_norm,
        lambda x: x * x.square().mean(-1, keepdim=True).rsqrt(),
        nn.RMSNorm(5, dtype=torch.float64),
        nn.LayerNorm(5, dtype=torch.float64, bias=False),
        nn.ReLU(inplace=True),
        nn.Tanh(),
        torch.tanh,
        torch.relu,
        F.silu,
        F.relu,
        lambda x: x.tanh(),
        lambda x: x.relu(),
        lambda x: x.clamp(-0.5, 1.0),
        lambda x: x.clamp(max=0.3),
        lambda x: torch.clamp(x, min=-0.3),
        lambda x: x.clamp_(min=-0.5, max=0.5),
        *(ACT2FN[name] for name in ACTIVATIONS),
    ],
)
def test_gradient_times_input_is_the_output(function):
    torch.manual_seed(0)
    x = torch.randn(4, 5, dtype=torch.float64)
    x[0, 0] = 0.0
    x.requires_grad_()
    function = copy.deepcopy(function)  # hooks stay in it
    with frozen_network(function if isinstance(function, nn.Module) else nn.Module()):
        y = function(x * 1.0)
    torch.testing.assert_close(y, function(x * 1.0))
    weights = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, weights)
    assert gradient.isfinite().all()
    torch.testing.assert_close((gradient * x).sum(), (y * weights).sum())


@pytest.mark.parametrize(("function", "slope"), [(F.gelu, 0.5), (F.silu, 0.5), (torch.tanh, 1.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slope_at_zero_is_the_limit(function, slope, dtype):
    x = torch.zeros(3, dtype=dtype, requires_grad=True)
    with frozen_network(nn.Module()):
        y = function(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, slope))


def test_gate_is_a_constant():
    gate = nn.SiLU()
    x = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64, requires_grad=True)
    with frozen_network(gate, [gate]):
        y = gate(x) * x
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, F.silu(x).detach())


def test_other_threads_keep_their_gradients():
    def slope():
        x = torch.tensor([0.7, -1.1], requires_grad=True)
        (gradient,) = torch.autograd.grad(nn.GELU()(x).sum(), x)
        return gradient

    ordinary = slope()
    with frozen_network(nn.Module()), ThreadPoolExecutor(1) as pool:
        assert torch.equal(pool.submit(slope).result(), ordinary)
        assert not torch.allclose(slope(), ordinary)


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "silu", "relu2", "quick_gelu"])
def test_a_slope_is_held_once_where_the_module_calls_one_function(name, monkeypatch):
    calls = []
    held = frozen_backward._held
    monkeypatch.setattr(frozen_backward, "_held", lambda *a: (calls.append(1), held(*a))[1])
    x = torch.tensor([-3.0, -1e-40, 0.0, 1e-40, 2.0], dtype=torch.float64, requires_grad=True)
    before = x * 2
    activation = copy.deepcopy(ACT2FN[name])
    with frozen_network(activation):
        value = activation(before)
    (slope,) = torch.autograd.grad(value.sum(), before)
    torch.testing.assert_close(slope * before, value)
    assert slope.isfinite().all() and (name not in ("gelu", "silu") or len(calls) == 1)
