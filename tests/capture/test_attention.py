"""af, gf and agf equal eager attention weights and autograd, in any batch."""

import pytest
import torch
from torch import nn
from transformers import AttentionInterface

from attnflow.capture import TENSORS, Objective, capture
from attnflow.capture.attention import IMPLEMENTATION, recording
from attnflow.capture.recorder import ProductRules, Recorder


def from_eager_weights(twin, inputs, target, tensor):
    """The definition, with all heads at once and autograd."""
    output = twin(**inputs, output_attentions=True)
    explained = output.logits.gather(1, target[:, None]).sum()
    gradients = torch.autograd.grad(explained, output.attentions)
    reduce = {
        "af": lambda a, g: a,
        "gf": lambda a, g: g.relu() * (a > 0),  # an edge that the mask forbids is no edge
        "agf": lambda a, g: (a * g).relu(),
    }[tensor]
    layers = [reduce(a, g).mean(1) for a, g in zip(output.attentions, gradients, strict=True)]
    mask = inputs["attention_mask"].bool()
    return torch.stack(layers, 1).detach() * (mask[:, None, :, None] & mask[:, None, None, :])


def assert_close(actual, expected, tolerance=1e-5):
    scale = expected.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    assert ((actual - expected).abs() / scale).max() < tolerance


@pytest.mark.parametrize("tensor", ["af", "gf", "agf"])
def test_equals_eager_weights_with_autograd(build, eager, batch, family, tensor):
    model, inputs = build(family), batch()
    target = torch.tensor([0, 2, 1])
    got = capture(model, inputs, Objective(target), tensor=tensor)
    expected = from_eager_weights(eager(model), inputs, target, tensor)
    assert expected.amax(dim=(0, 2, 3)).min() > 1e-4, "a degenerate model tests nothing"
    assert_close(got.capacities, expected)
    torch.testing.assert_close(got.logits, eager(model)(**inputs).logits.detach())


@pytest.mark.parametrize("tensor", ["af", "gf", "agf"])
def test_padding_on_the_left(build, eager, batch, tensor):
    model, inputs = build("modernbert", classifier_pooling="mean"), batch("left")
    target = torch.tensor([0, 2, 1])
    got = capture(model, inputs, Objective(target), tensor=tensor)
    assert_close(got.capacities, from_eager_weights(eager(model), inputs, target, tensor))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("tensor", ["af", "gf", "agf"])
def test_causal_decoder_with_grouped_heads(build, eager, batch, tensor, side):
    model = build("Llama", num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
    inputs, target = batch(side), torch.tensor([0, 2, 1])
    got = capture(model, inputs, Objective(target), tensor=tensor)
    assert_close(got.capacities, from_eager_weights(eager(model), inputs, target, tensor))
    assert got.capacities.triu(1).abs().max() == 0


def test_edges_outside_a_sliding_window_are_no_edges(build, batch):
    got = capture(build("modernbert"), batch(lengths=(9,)), tensor="gf")
    distance = (torch.arange(9)[:, None] - torch.arange(9)).abs()
    local = got.capacities[0, 1]
    assert local[distance > 1].abs().max() == 0
    assert (local[distance <= 1] > 0).any()
    assert (got.capacities[0, 0][distance > 1] > 0).any(), "layer 0 is global"


@pytest.mark.parametrize("tensor", TENSORS)
def test_without_a_mask_every_token_counts(build, batch, family, tensor):
    model, inputs = build(family), batch(lengths=(6,))
    expected = capture(model, inputs, tensor=tensor)
    del inputs["attention_mask"]
    got = capture(model, inputs, tensor=tensor)
    assert_close(got.capacities, expected.capacities)
    assert got.mask.all()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("tensor", TENSORS)
def test_nonnegative_and_zero_at_padding(build, batch, family, tensor, side):
    inputs = batch(side, lengths=(11, 3, 5))
    model = build(family)
    if side == "left":  # only a mean does not read position 0
        model = build("modernbert", classifier_pooling="mean")
    got = capture(model, inputs, tensor=tensor)
    padding = ~inputs["attention_mask"].bool()
    assert got.capacities.shape == (3, 3, 11, 11) and got.capacities.dtype == torch.float32
    assert got.capacities.isfinite().all() and got.capacities.min() >= 0
    assert got.capacities.transpose(1, 2)[padding].abs().max() == 0, "query rows"
    assert got.capacities.permute(0, 3, 1, 2)[padding].abs().max() == 0, "key columns"
    assert torch.equal(got.mask, ~padding)
    assert not got.capacities.requires_grad and not got.logits.requires_grad
    if tensor == "cf":
        assert got.signed.shape == (3, 3, 11, 11) and got.residual.shape == (3, 3, 11)
        assert got.residual.transpose(1, 2)[padding].abs().max() == 0
    else:
        assert got.signed is None and got.residual is None


def test_target_defaults_to_the_predicted_class_and_matters(build, batch):
    model, inputs = build("bert"), batch()
    got = capture(model, inputs, tensor="agf")
    assert torch.equal(got.target, got.logits.argmax(1)) and got.target.dtype == torch.int64
    same = capture(model, inputs, Objective(got.target.int()), tensor="agf")
    other = capture(model, inputs, Objective((got.target + 1) % 3), tensor="agf")
    assert torch.equal(same.capacities, got.capacities)
    assert not torch.allclose(other.capacities, got.capacities)


def test_embeddings_in_place_of_ids(build, batch):
    model, inputs = build("bert"), batch()
    embedded = {
        "inputs_embeds": model.get_input_embeddings()(inputs["input_ids"]),
        "attention_mask": inputs["attention_mask"],
    }
    for tensor in TENSORS:
        expected = capture(model, inputs, tensor=tensor).capacities
        assert torch.equal(capture(model, embedded, tensor=tensor).capacities, expected)
        with torch.inference_mode():
            made_inside = {name: value.detach() * 1 for name, value in embedded.items()}
            got = capture(model, made_inside, tensor=tensor).capacities
        assert torch.equal(got, expected)
    assert embedded["inputs_embeds"].grad_fn is not None


def test_a_single_token_and_a_regression(build, batch):
    got = capture(build("bert", num_labels=1), batch(lengths=(1, 1)))
    assert got.logits.shape == (2, 1) and got.target.tolist() == [0, 0]
    assert got.capacities.shape == (2, 3, 1, 1)


@pytest.mark.parametrize("tensor", TENSORS)
def test_callers_grad_mode_and_frozen_parameters_do_not_matter(build, batch, tensor):
    model, inputs = build("bert"), batch()
    expected = capture(model, inputs, tensor=tensor).capacities
    with torch.no_grad():
        assert torch.equal(capture(model, inputs, tensor=tensor).capacities, expected)
    with torch.inference_mode():
        made_inside = {name: value + 0 for name, value in inputs.items()}
        got = capture(model, made_inside, tensor=tensor).capacities
    assert torch.equal(got, expected) and not got.is_inference()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(capture(model, inputs, tensor=tensor).capacities, expected)
    model.requires_grad_(False)
    assert torch.equal(capture(model, inputs, tensor=tensor).capacities, expected)


@pytest.mark.parametrize("tensor", TENSORS)
def test_no_weights_or_gradients_of_heads_are_kept(build, batch, tensor):
    kept = []

    def pack(value):
        kept.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        capture(build("bert"), batch(lengths=(23, 20)), tensor=tensor)
    square = [x for x in kept if x.shape[-2:] == (23, 23)]
    assert all(x.dtype == torch.bool for x in square), "only masks may be (t, t)"
    assert bool(kept) == (tensor != "af")


def visible_edges(kind, t):
    """A mask as a model may hand it over, and the edges that it leaves."""
    causal = torch.ones(t, t, dtype=torch.bool).tril()
    edges = {"none": torch.ones_like(causal), "bool": causal.T}.get(kind, causal)
    mask = {"bool": edges, "additive": torch.zeros(t, t).masked_fill(~edges, -3e38)}.get(kind)
    return None if mask is None else mask.expand(2, 1, t, t), edges


def through_a_sink(q, k, v, sinks, edges):
    """The definition: outputs, scores and weights where each head has one more score, of no key."""
    keys, values = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = (0.4 * q @ keys.mT).masked_fill(~edges, -torch.inf)
    every = torch.cat((scores, sinks.view(1, -1, 1, 1).expand(*scores.shape[:3], 1)), -1)
    weights = every.softmax(-1)[..., :-1]
    return (weights @ values).transpose(1, 2), scores, weights


def recorded_with_sinks(recorder, q, k, v, sinks, mask):
    with recording(recorder):
        attention = AttentionInterface()[IMPLEMENTATION]
        return attention(nn.Module(), q, k, v, mask, scaling=0.4, is_causal=False, s_aux=sinks)[0]


@pytest.fixture
def with_sinks():
    """Queries, two shared heads of keys and values, a sink for each of four heads, weights."""
    torch.manual_seed(1)
    q = torch.randn(2, 4, 5, 3, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, 2, 5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    return (
        q,
        k,
        v,
        torch.tensor([-1.0, 0.0, 2.0, 30.0], dtype=torch.float64),
        torch.randn(2, 5, 4, 3),
    )


@pytest.mark.parametrize("kind", ["none", "bool", "additive"])
@pytest.mark.parametrize("tensor", ["af", "gf", "agf", "cf"])
def test_a_sink_takes_its_share_of_the_weights(with_sinks, kind, tensor):
    q, k, v, sinks, weight = with_sinks
    mask, edges = visible_edges(kind, 5)
    recorder = Recorder(tensor)
    output = recorded_with_sinks(recorder, q, k, v, sinks, mask)
    expected, _, a = through_a_sink(q, k, v, sinks, edges)
    assert a[:, 3].sum(-1).max() < 1e-9 and a[:, 0].sum(-1).min() > 0.1
    torch.testing.assert_close(output, expected)
    *want, g = torch.autograd.grad((expected * weight).sum(), (q, k, v, a))
    frozen = tensor == "cf"
    if tensor != "af":  # which has no backward pass
        got = torch.autograd.grad((output * weight).sum(), (q, k, v), allow_unused=True)
        for actual, wanted in zip(got, (None, None, want[2]) if frozen else want, strict=True):
            assert (actual is None) == (wanted is None)
            torch.testing.assert_close(actual, wanted)
    terms = {"af": a, "gf": g.relu() * edges, "agf": (a * g).relu(), "cf": a * g}[tensor].detach()
    torch.testing.assert_close(recorder.layers[0], terms.sum(1) if frozen else terms.mean(1))


def test_queries_and_keys_share_the_pattern_next_to_a_sink(with_sinks):
    q, k, v, sinks, weight = with_sinks
    mask, edges = visible_edges("bool", 5)
    recorder = Recorder("cf", rules=ProductRules(pattern="shared"))
    output = recorded_with_sinks(recorder, q, k, v, sinks, mask)
    got = torch.autograd.grad((output * weight).sum(), (q, k, v))
    expected, scores, a = through_a_sink(q, k, v, sinks, edges)
    half = (expected * weight).sum() / 2
    dq, dk, dv, ds, da = torch.autograd.grad(half, (q, k, v, scores, a))
    for actual, wanted in zip(got, (dq / 2, dk / 2, dv), strict=True):
        torch.testing.assert_close(actual, wanted)
    through_key = scores.masked_fill(~edges, 0.0) * ds / 2
    torch.testing.assert_close(recorder.layers[0], (a * da + through_key).sum(1))
    torch.testing.assert_close(recorder.query_effects[0], through_key.sum((1, 3)))


@pytest.mark.parametrize("kind", ["none", "bool", "additive", "is_causal"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("tensor", ["gf", "agf"])
def test_attention_function_alone(kind, groups, tensor):
    torch.manual_seed(1)
    heads, t, d = 4, 5, 3
    q = torch.randn(2, heads, t, d, requires_grad=True)
    k, v = (torch.randn(2, groups, t, d, requires_grad=True) for _ in range(2))
    mask, edges = visible_edges(kind, t)
    weight, module = torch.randn(2, t, heads, d), nn.Module()
    module.is_causal = kind == "is_causal"
    recorder = Recorder(tensor)
    with recording(recorder):
        output, _ = AttentionInterface()[IMPLEMENTATION](module, q, k, v, mask, scaling=0.4)
    got = torch.autograd.grad((output * weight).sum(), (q, k, v))

    keys, values = (x.repeat_interleave(heads // groups, 1) for x in (k, v))
    a = (0.4 * q @ keys.mT).masked_fill(~edges, -torch.inf).softmax(-1)
    expected = (a @ values).transpose(1, 2)
    *want, g = torch.autograd.grad((expected * weight).sum(), (q, k, v, a))
    torch.testing.assert_close(output, expected)
    for actual, wanted in zip(got, want, strict=True):
        torch.testing.assert_close(actual, wanted)
    wanted = {"gf": g.relu() * edges, "agf": (a * g).relu()}[tensor].mean(1)
    torch.testing.assert_close(recorder.layers[0], wanted)
    assert recorder.layers[0][:, ~edges].count_nonzero() == 0
