"""Properties that every method must have, on a model with a known answer and on a tiny BERT."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from attnflow import Explainer, InputError, ModelError
from attnflow.capture import Objective, capture
from attnflow.evaluation.protocol import run_method
from attnflow.methods import (
    DEFAULT,
    METHODS,
    Classifier,
    Instance,
    attention,
    information_tensors,
    method,
)
from attnflow.methods.attention import residual_attention, rolled_out
from attnflow.methods.decomposition import edge_contributions
from attnflow.methods.exact_flow import minimum_cut
from attnflow.methods.information_tensors import INFORMATION_TENSORS, SignedEffects, conservative
from attnflow.methods.lrp import (
    _through_linear,
    _through_product,
    _through_sum,
    attention_relevance,
    edge_relevance,
)
from attnflow.methods.model_internals import forward, internals
from attnflow.methods.readouts import READOUTS, ROW_READOUTS
from attnflow.methods.staged import in_stages
from attnflow.solver import maximum_flow

TEXT = "the good film a bad fine dull film"


def explained(instance, point=None):
    """Return the number whose gradients methods take, at the content or at another point."""
    with torch.no_grad():
        at = instance.point if point is None else point
        return instance.value(instance.adapter.logits(at))[0].item()


def paper(instance):
    """Return the instance about the logit, which the paper and the explainer explain."""
    return replace(instance, explained="logit")


def hooks_of(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [len(getattr(module, kind)) for module in model.modules() for kind in kinds]


@pytest.fixture(scope="module")
def shared(bert):
    """The instance, with the passes that methods have left."""
    return bert.with_empty_cache()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_scores_the_same_twice(bert, shared, name):
    """Scores by passes of its own, and by those that other methods share with it."""
    first, again = run_method(METHODS[name], bert), run_method(METHODS[name], shared, timed=False)
    assert (first.scores == again.scores).all()
    assert first.scores.shape == (bert.nodes,)
    if name != "attention-gradients":  # whose heads may all weigh against the class
        assert np.ptp(first.scores) > 0


@pytest.mark.parametrize("name", DEFAULT)
def test_every_method_leaves_the_model_as_it_was(bert, name):
    model, before = bert.adapter.model, explained(bert)
    internals(
        bert.with_empty_cache()
    )  # transformers leaves hooks of its own when it returns attentions
    state, hooks = model.config._attn_implementation, hooks_of(model)
    run_method(METHODS[name], bert)
    assert explained(bert) == before and model.config._attn_implementation == state
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert hooks_of(model) == hooks


def test_passes_are_computed_once_for_one_instance_and_not_for_its_copies(bert):
    calls = []

    def forwards(instance):
        calls.append(instance)
        return len(calls)

    one, other = bert.with_empty_cache(), replace(bert, explained="logit")
    assert (one.cached(forwards), one.cached(forwards), other.cached(forwards)) == (1, 1, 2)
    assert calls == [one, other]
    assert one.with_empty_cache().cached(forwards) == 3 and one.cached(forwards) == 1
    assert one == bert, "what has been computed makes no other instance"


def test_a_tensor_and_its_balanced_form_share_their_passes(bert, monkeypatch):
    captured = []

    def counted(*args, **options):
        captured.append(options)
        return capture(*args, **options)

    monkeypatch.setattr(information_tensors, "capture", counted)
    instance = bert.with_empty_cache()
    for name, passes in (("cf4", 4), ("cf4-balanced", 4), ("cf4-logit", 8), ("cf", 9)):
        INFORMATION_TENSORS[name](instance)
        assert len(captured) == passes


# On a model that adds numbers of words


@pytest.mark.parametrize(
    "name", ("gradient-x-input", "integrated-gradients", "deeplift", "deltatrace")
)
def test_gradients_of_a_sum_are_its_terms(instance, oracle, name):
    case = instance(TEXT)
    np.testing.assert_allclose(run_method(METHODS[name], case).scores, oracle(case), atol=1e-5)


@pytest.mark.parametrize("name", ("occlusion", "lime", "kernel-shap", "partition-shap"))
def test_perturbation_finds_the_order_of_a_sum(instance, oracle, name):
    case = instance(TEXT)
    scores, terms = run_method(METHODS[name], case).scores, oracle(case)
    for i, j in itertools.combinations(range(len(terms)), 2):
        if terms[i] > terms[j] + 0.6:
            assert scores[i] > scores[j], (case.content.tokens[i], case.content.tokens[j])
    assert scores[0] == scores[-1] == 0


@pytest.mark.parametrize("name", ("kernel-shap", "partition-shap"))
def test_shapley_values_add_up_to_the_difference(instance, name):
    case = instance(TEXT)
    whole, nothing = case.probability(np.array([case.ordinary, ~case.ordinary]))
    assert run_method(METHODS[name], case).scores.sum() == pytest.approx(whole - nothing, abs=1e-3)


# On a transformer


def test_a_tokenizer_of_another_model_is_refused(tiny, tokenizer):
    with pytest.raises(ModelError, match="tokens 0 to 7: they do not belong together"):
        Classifier(tiny(vocab_size=8), tokenizer).encode(TEXT)


def test_internals_are_what_the_model_computes(bert):
    double = Classifier(copy.deepcopy(bert.adapter.model).double(), bert.adapter.tokenizer)
    found = internals(paper(replace(bert, adapter=double)))
    sums = found.attention.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    ids = bert.inputs["input_ids"]
    for name, own in (
        ("af", found.mean_attention),
        ("gf", found.gradient.relu().mean(1)),
        ("agf", (found.attention * found.gradient).relu().mean(1)),
    ):
        captured = capture(
            double.model, {"input_ids": ids}, Objective(torch.tensor([1])), tensor=name
        )
        torch.testing.assert_close(captured.capacities[0], own, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ("af", "agf", "cf", "bcf"))
def test_a_minimum_cut_is_as_large_as_the_flow(bert, name):
    capacities = INFORMATION_TENSORS[name](bert).capacities
    cut = minimum_cut(capacities.numpy())
    flow = maximum_flow(capacities[None], gap=1e-6).value[0].item()
    assert cut.shape == (3,) and cut.sum() == pytest.approx(flow, rel=1e-5)


def test_the_layer_of_a_minimum_cut_by_hand():
    layers = np.array([[[0.5, 0.5], [0.5, 0.5]], [[0.2, 0.1], [0.0, 0.3]], np.eye(2)])
    assert minimum_cut(layers).tolist() == pytest.approx([0, 0.6, 0])
    layers[0, 1] = 0.1  # the second token hands down 0.2 of the 0.4 that it gets
    assert minimum_cut(layers).tolist() == pytest.approx([0.2, 0.2, 0])


def test_stages_of_a_method_are_those_of_the_tensor(bert):
    """Checked on the frozen gradient x input of the first layer, which both can stage."""
    whole, one = conservative(), READOUTS["signed-first"]
    around = in_stages(lambda instance: one(whole(instance)))(bert)
    inside = one(INFORMATION_TENSORS["cf-staged"](bert))
    assert around == pytest.approx(inside, rel=1e-4, abs=1e-6)
    plain = one(whole(bert))
    assert around != pytest.approx(plain, rel=1e-2)
    once = in_stages(lambda instance: one(whole(instance)), removed=())(bert)
    assert once.tolist() == plain.tolist()


def relevance_by_autograd(instance):
    """Relevance of the attention weights as the published modules propagate it, layer by layer:
    every rule as gradients of the module's own forward function.
    """

    def ratio(a, b):
        return torch.where(b == 0, 0.0, a / torch.where(b == 0, 1.0, b))

    def simple(relevance, function, *inputs):
        """x times the gradient of the output, weighed by relevance over output."""
        own = [x.detach().requires_grad_() for x in inputs]
        with torch.enable_grad():
            out = function(*own)
            gradients = torch.autograd.grad(out, own, ratio(relevance, out.detach()))
        return [x.detach() * g for x, g in zip(own, gradients, strict=True)]

    def linear(relevance, module, x):
        parts = [(x.clamp(min=0), module.weight.clamp(min=0)),
                 (x.clamp(max=0), module.weight.clamp(max=0))]  # fmt: skip
        total = sum(torch.nn.functional.linear(own, w) for own, w in parts).detach()
        share, found = ratio(relevance, total), 0
        for own, w in parts:
            own = own.detach().requires_grad_()
            with torch.enable_grad():
                out = torch.nn.functional.linear(own, w)
                found = found + own.detach() * torch.autograd.grad(out, own, share)[0]
        return found

    def add(relevance, a, b):
        left, right = simple(relevance, torch.add, a, b)
        sizes = left.sum().abs(), right.sum().abs()
        return [
            part * ratio(size / sum(sizes) * relevance.sum(), part.sum())
            for part, size in zip((left, right), sizes, strict=True)
        ]

    def heads(y):
        return y.unflatten(-1, (2, -1)).transpose(0, 1)

    model, found = instance.adapter.model, internals(instance)
    last = found.hidden[-1]
    relevance = torch.zeros(1, len(instance.adapter.labels), dtype=last.dtype)
    relevance[0, instance.target] = 1
    pooled = model.bert.pooler.dense(last[:1]).tanh()
    relevance = linear(relevance, model.classifier, pooled)
    first = linear(relevance, model.bert.pooler.dense, last[:1])
    relevance = torch.cat([first, torch.zeros_like(last[1:])])
    attentions = []
    for at in reversed(range(len(found.attention))):
        block, x, weights = model.bert.encoder.layer[at], found.hidden[at], found.attention[at]
        attend, joined = block.attention.self, block.attention.output
        query, key, value = heads(attend.query(x)), heads(attend.key(x)), heads(attend.value(x))
        context = (weights @ value).transpose(0, 1).flatten(1)
        mixed = joined.dense(context)
        middle = joined.LayerNorm(mixed + x)
        inner = block.intermediate(middle)
        of_outer, of_middle = add(relevance, block.output.dense(inner), middle)
        of_inner = linear(of_outer, block.output.dense, inner)
        of_middle = of_middle + linear(of_inner, block.intermediate.dense, middle)
        of_mixed, relevance = add(of_middle, mixed, x)
        of_context = heads(linear(of_mixed, joined.dense, context))
        of_weights, of_value = simple(of_context, torch.matmul, weights, value)
        attentions.append(of_weights / 2)
        of_query, of_key = simple(of_weights / 2, lambda q, k: q @ k.mT, query, key)
        for part, module in ((of_query / 2, attend.query), (of_key / 2, attend.key),
                             (of_value / 2, attend.value)):  # fmt: skip
            relevance = relevance + linear(part.transpose(0, 1).flatten(1), module, x)
    return attentions[::-1], relevance


def test_relevance_is_that_of_the_published_modules(bert):
    double = Classifier(copy.deepcopy(bert.adapter.model).double(), bert.adapter.tokenizer)
    case = replace(bert, adapter=double)
    attention, left = attention_relevance(case)
    with torch.no_grad():
        expected, end = relevance_by_autograd(case)
    for own, other in zip(attention, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(left, end, rtol=1e-7, atol=1e-12)
    assert left.sum().item() == pytest.approx(1.0)


def test_the_rules_of_relevance_by_hand():
    linear = torch.nn.Linear(2, 1)
    linear.weight.data = torch.tensor([[2.0, -1.0]])
    one = torch.ones(1)
    # Products 6 and 4 are positive; with the signs of the input changed none is.
    shares = _through_linear(one, torch.tensor([3.0, -4.0]), linear)
    assert shares.tolist() == pytest.approx([0.6, 0.4])
    assert _through_linear(one, torch.tensor([-3.0, 4.0]), linear).tolist() == [0.0, 0.0]
    assert _through_linear(one, torch.tensor([3.0, 4.0]), linear).tolist() == [1.0, 0.0]
    # Terms 3 and 1 of the sum; of 2 in all, sizes are as 3 to 1.
    left, right = _through_sum(torch.tensor([2.0]), torch.tensor([3.0]), torch.tensor([1.0]))
    assert (left.item(), right.item()) == (1.5, 0.5)
    # 2 * 5 + 1 * -6 = 4: shares 2.5 and -1.5, half for each factor.
    left, right = _through_product(
        torch.tensor([[1.0]]), torch.tensor([[2.0, 1.0]]), torch.tensor([[5.0], [-6.0]])
    )
    assert left.tolist() == [[1.25, -0.75]] and right.tolist() == [[1.25], [-0.75]]


def test_transatt_is_a_distribution_of_edges_that_count(bert):
    edges = edge_relevance(bert)
    assert (edges >= 0).all() and edges.shape == (3, bert.nodes, bert.nodes)
    assert not edges[-1, 1:].any()  # the classifier reads the first token alone
    scores = run_method(METHODS["transatt"], bert).scores
    assert scores.sum() == pytest.approx(1) and (scores >= 0).all()


@pytest.mark.parametrize("number", ("logit", "contrast"))
def test_decompx_adds_up_to_what_is_explained(bert, number):
    case = replace(bert, explained=number)
    scores = run_method(METHODS["decompx"], case).scores
    assert scores.sum() == pytest.approx(explained(case), rel=1e-4)


def test_deeplift_rescales_the_activations(bert):
    """Through one activation alone it is complete, which the gradient is not."""
    layer = bert.adapter.model.bert.encoder.layer[0].intermediate.intermediate_act_fn
    kind = type(layer)
    deeplift = run_method(METHODS["deeplift"], bert).scores
    from captum.attr._core import deep_lift

    assert kind not in deep_lift.SUPPORTED_NON_LINEAR
    embeddings = bert.point.requires_grad_()
    value = bert.value(bert.adapter.logits(embeddings))[0]
    (slope,) = torch.autograd.grad(value, embeddings)
    local = (slope * (bert.point - bert.baseline)).sum(-1)[0].numpy()
    assert np.abs(deeplift - local).max() > 0.1 * np.abs(local).max()


def test_integrated_gradients_are_complete(bert):
    scores = run_method(METHODS["integrated-gradients"], bert).scores
    change = explained(bert) - explained(bert, bert.baseline)
    assert scores.sum() == pytest.approx(change, abs=1e-2)


def test_rollouts_are_distributions(bert):
    assert run_method(METHODS["rollout"], bert).scores.sum() == pytest.approx(1, abs=1e-5)
    contributions = edge_contributions(bert)
    torch.testing.assert_close(contributions.sum(-1), torch.ones(contributions.shape[:2]))
    layers = residual_attention(forward(bert))
    torch.testing.assert_close(rolled_out(layers), layers[2] @ layers[1] @ layers[0])


def test_attention_flow_is_the_smallest_cut_of_a_single_layer(bert, monkeypatch):
    """Only the edge itself can carry with one layer."""
    whole = forward(bert)
    one = replace(whole, attention=whole.attention[:1])
    monkeypatch.setattr(attention, "forward", lambda _: one)
    scores = METHODS["attention-flow"].scores(Instance(bert.adapter, bert.content, 1))
    np.testing.assert_allclose(scores, residual_attention(one)[0, 0].numpy(), rtol=1e-5)


def test_the_chefer_baseline_is_the_readout_of_its_tensor(bert):
    own = run_method(METHODS["chefer"], bert).scores
    np.testing.assert_allclose(run_method(METHODS["agf:chefer"], bert).scores, own, rtol=1e-4)


@pytest.mark.parametrize("tensor", ("af", "gf", "agf", "cf"))
def test_flows_are_those_of_the_explainer(bert, tensor):
    explainer = Explainer(bert.adapter.model, bert.adapter.tokenizer)
    for name, readout in (("flow", "input"), ("throughput", "throughput")):
        if readout == "input" or tensor == "cf":
            expected = explainer(TEXT, tensor=tensor, target=1, readout=readout).scores
            scores = run_method(METHODS[f"{tensor}:{name}"], paper(bert)).scores
            np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-7)


def test_the_default_flow_is_that_of_the_explainer(bert):
    explainer = Explainer(bert.adapter.model, bert.adapter.tokenizer)
    expected = explainer(TEXT, target=1).scores
    scores = run_method(METHODS["net:flow"], bert).scores
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("tensor", ("cf", "cf4", "bcf", "agf-res"))
def test_walks_and_flows_are_conserved(bert, tensor):
    edges = INFORMATION_TENSORS[tensor](bert)
    for readout in ("walk", "walk-throughput"):
        assert READOUTS[readout](edges).sum() == pytest.approx(1, abs=1e-9)
    flow, through = READOUTS["flow"](edges), READOUTS["throughput"](edges)
    assert flow.sum() == pytest.approx(through.sum(), rel=1e-6) and (flow >= 0).all()
    net = READOUTS["flow"](edges) - READOUTS["flow"](edges.negated)
    np.testing.assert_allclose(READOUTS["net"](edges), net)


def test_one_point_of_the_path_is_the_text_itself(bert):
    ids = bert.inputs["input_ids"]
    captured = capture(
        bert.adapter.model, {"input_ids": ids}, Objective(torch.tensor([1])), tensor="cf"
    )
    torch.testing.assert_close(
        conservative(1)(paper(bert)).capacities,
        captured.capacities[0].double(),
        rtol=1e-4,
        atol=1e-6,
    )


def test_balanced_layers_have_capacity_one(bert):
    total = INFORMATION_TENSORS["bcf"](bert).capacities.sum((1, 2))
    torch.testing.assert_close(total, torch.ones_like(total))


def test_readouts_by_hand():
    """Two tokens and two layers: the readout node splits 3 to 1, then each token splits."""
    edges = SignedEffects(
        torch.tensor([[[2.0, -1.0], [1.0, 1.0]], [[3.0, 1.0], [0.0, 0.0]]]).double()
    )
    expected = {
        "walk": [0.75 + 0.125, 0.125],
        "sums": [6.0, 2.0],
        "first": [3.0, 1.0],
        "signed-first": [3.0, 0.0],
        "signed-sums": [6.0, 1.0],
    }
    for readout, scores in expected.items():
        np.testing.assert_allclose(READOUTS[readout](edges), scores, atol=1e-9)
    np.testing.assert_allclose(ROW_READOUTS["path"](edges, 0), [0.75, 0.125], atol=1e-9)
    plain = READOUTS["plain"](edges)
    assert plain.sum() == pytest.approx(3) and 2 <= plain[0] <= 3
    flow = READOUTS["flow"](edges)  # of 3 in all; 2 to 3 of it can reach the first token
    assert 3 * (1 - 1e-2) <= flow.sum() <= 3 and 2 < flow[0] < 3 - 0.4


@pytest.mark.parametrize(
    "name",
    (
        "raw-attention",
        "rollout",
        "chefer",
        "attention-flow",
        "bcf:path",
        "bcf:rollout",
        "af:chefer",
    ),
)
def test_methods_with_a_readout_row_need_a_classifier_that_reads_one(bert, tiny, name):
    assert bert.readout_node == 0
    other = tiny("ModernBert", classifier_pooling="mean", vocab_size=12)
    classifier = Classifier(other, bert.adapter.tokenizer)
    assert classifier.readout_node(bert.content) is None
    with pytest.raises(ModelError, match="does not read its decision at the first token alone"):
        METHODS[name].scores(replace(bert, adapter=classifier))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", DEFAULT)
def test_scores_are_the_same_on_a_gpu(bert, name):
    on_gpu = Classifier(copy.deepcopy(bert.adapter.model).cuda(), bert.adapter.tokenizer)
    expected = METHODS[name].scores(bert.with_empty_cache())
    scores = METHODS[name].scores(replace(bert, adapter=on_gpu))
    assert scores == pytest.approx(expected, rel=1e-2, abs=1e-3)


def test_unknown_methods_and_models_without_the_parts_are_refused(instance):
    with pytest.raises(InputError, match="no method 'bcf:flwo'. Did you mean bcf:flow"):
        method("bcf:flwo")
    with pytest.raises(InputError, match="no method 'magic'.*attcat.*TENSOR:READOUT"):
        method("magic")
    with pytest.raises(Exception, match="BERT's layers"):
        run_method(METHODS["alti"], instance(TEXT))
