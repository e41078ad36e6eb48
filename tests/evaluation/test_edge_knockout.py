"""Edges taken out of a model, and the routes that choose them."""

import itertools
import math

import numpy as np
import pytest
import torch

from attnflow import InputError, ModelError
from attnflow.capture import only_edges
from attnflow.evaluation.edge_knockout import (
    ROUTES,
    _net_edges,
    _probabilities,
    _tops,
    best_path_through,
    information_flow_routes,
    knockout_curve,
    sink_edges,
)
from attnflow.methods import Instance
from attnflow.methods.decomposition import edge_importance
from attnflow.methods.model_internals import eager, internals
from attnflow.methods.net import NetStages


def probability(bert, kept):
    ids = bert.inputs["input_ids"]
    with torch.no_grad(), only_edges(bert.adapter.model, kept) as model:
        return model(input_ids=ids).logits.softmax(-1)[0, bert.target].item()


def all_edges(bert):
    return torch.ones(1, 3, bert.nodes, bert.nodes, dtype=torch.bool)


def test_all_edges_are_the_model_itself(bert):
    whole = bert.probability(np.ones((1, bert.nodes), bool))[0]
    assert probability(bert, all_edges(bert)) == pytest.approx(whole, rel=1e-6)


def test_an_edge_that_is_out_has_weight_zero(bert):
    """A hook on eager attention's value product gives the same: checked in the last layer."""
    kept = all_edges(bert)
    kept[0, 2, 0, 3] = False
    model, ids = bert.adapter.model, bert.inputs["input_ids"]
    copy, values, before = eager(model), [], []
    attention = copy.bert.encoder.layer[2].attention
    attention.self.value.register_forward_hook(lambda m, a, out: values.append(out))
    attention.output.dense.register_forward_pre_hook(lambda m, args: before.append(args[0]))
    with torch.no_grad():
        copy(input_ids=ids)
    weights = internals(bert).attention[2]  # (heads, t, t)
    value = values[0][0].unflatten(-1, (2, -1))  # (t, heads, d)
    lost = (weights[:, 0, 3, None] * value[3]).flatten()
    changed = before[0].clone()
    changed[0, 0] -= lost
    replace = model.bert.encoder.layer[2].attention.output.dense.register_forward_pre_hook(
        lambda m, args: (changed,)
    )
    with torch.no_grad():
        expected = model(input_ids=ids).logits.softmax(-1)[0, bert.target].item()
    replace.remove()
    assert probability(bert, kept) == pytest.approx(expected, rel=1e-5)
    assert probability(bert, all_edges(bert)) != pytest.approx(expected, rel=1e-5)


def test_the_model_is_put_back_and_wrong_masks_are_refused(bert):
    model = bert.adapter.model
    before = model.config._attn_implementation
    with pytest.raises(InputError, match="bool tensor"), only_edges(model, torch.ones(1, 3, 4, 4)):
        pass
    for layers in (2, 4):
        with pytest.raises(ModelError, match="layers"):
            probability(bert, all_edges(bert)[:, :1].expand(-1, layers, -1, -1))
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("route", ROUTES)
def test_routes_name_a_number_for_every_edge(bert, route):
    edges = ROUTES[route](bert)
    t = bert.nodes
    assert edges.shape == (3, t, t) and torch.isfinite(edges).all() and edges.std() > 0


DECODERS = (
    "random",
    "attention",
    "patching",
    "agf flow",
    "cf flow paths",
    "net1 flow",
    "net1 walk",
)


@pytest.mark.parametrize("route", DECODERS)
def test_routes_of_a_decoder_lie_among_its_edges(llama, route):
    edges = ROUTES[route](llama)
    layers, t = edges.shape[0], llama.nodes
    assert edges.shape == (layers, t, t) and torch.isfinite(edges).all()
    if route != "random":
        assert (edges.triu(1) == 0).all()
    found = knockout_curve(llama, edges, (0.5, 1.0))
    # All edges that a decoder has are half of the matrices: each share is one of those.
    assert found.kept[1] == pytest.approx(found.whole, rel=1e-5)
    exists = torch.ones(t, t, dtype=torch.bool).tril().expand(layers, t, t)
    assert _tops(edges, exists, (0.5,), 0).sum() == math.ceil(0.5 * int(exists.sum()))
    assert not (_tops(edges, exists, (1.0,), 0)[0] & ~exists).any()


def test_edges_that_always_stay(llama):
    edges, always = ROUTES["random"](llama), sink_edges(llama.nodes)
    assert always.sum() == 2 * llama.nodes - 1
    found = knockout_curve(llama, edges, (0.5, 1.0), always=always)
    only = always.expand(1, len(edges), -1, -1).clone()
    assert found.knocked_out[1] == pytest.approx(_probabilities(llama, only)[0], rel=1e-5)
    assert found.kept[1] == pytest.approx(found.whole, rel=1e-5)
    without = knockout_curve(llama, edges, (0.5, 1.0))
    assert without.knocked_out[1] != pytest.approx(found.knocked_out[1], rel=1e-5)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_flow_of_net_keeps_within_the_networks_of_an_explanation(request, kind):
    instance = request.getfixturevalue(kind)
    capacities, attention = instance.cached(_net_edges)
    (stage,) = instance.cached(NetStages(()))
    expected = stage.capture.capacities[0].double()
    expected[-1] *= stage.capture.sources[0][:, None]
    torch.testing.assert_close(capacities, expected)
    assert ((attention >= 0) & (attention <= 1)).all()
    off = ~torch.eye(instance.nodes, dtype=torch.bool)
    assert (attention[:, off] == 1).all() and (attention[:, ~off] < 1).any()
    flow = ROUTES["net1 flow"](instance)
    assert (flow <= capacities * attention + 1e-12).all() and flow.sum() > 0


def test_the_importance_of_heads_is_added_last(bert):
    """One layer by hand, from the values that eager attention multiplies."""
    model, layer = bert.adapter.model, 1
    block = model.bert.encoder.layer[layer].attention
    found = internals(bert)
    x = found.hidden[layer]
    with torch.no_grad():
        values = block.self.value(x).unflatten(-1, (2, -1))
        weight = block.output.dense.weight.unflatten(-1, (2, -1))
        parts = torch.stack(
            [
                found.attention[layer, h, :, :, None] * (values[:, h] @ weight[:, h].T)
                for h in (0, 1)
            ]
        )  # (heads, query, key, d)
        total = parts.sum((0, 2)) + block.output.dense.bias + x
        near = (total.norm(1, -1)[:, None] - (total[:, None] - parts).norm(1, -1)).relu()
        own = (total.norm(1, -1) - (total - x).norm(1, -1)).relu()
    whole = near.sum((0, 2)) + own
    attention, residual = edge_importance(bert)
    torch.testing.assert_close(attention[layer], near.sum(0) / whole[:, None])
    torch.testing.assert_close(residual[layer], own / whole)


def test_information_flow_routes_are_the_graphs_of_all_thresholds(bert):
    attention, residual = edge_importance(bert)
    assert torch.allclose(attention.sum(-1) + residual, torch.ones_like(residual))
    ranks = information_flow_routes(bert)
    for threshold in (0.02, 0.05, 0.1, 0.2):
        inside, nodes = torch.zeros_like(attention, dtype=torch.bool), {0}
        for layer in (2, 1, 0):
            below = set()
            for i in nodes:
                inside[layer, i] = attention[layer, i] > threshold
                below |= set(inside[layer, i].nonzero()[:, 0].tolist())
                if attention[layer, i, i] + residual[layer, i] > threshold:
                    below.add(i)
            nodes = below
        assert torch.equal(ranks > threshold, inside)


def test_the_best_path_through_each_edge():
    """Against every path, one by one."""
    flow = torch.rand(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    best = torch.zeros_like(flow)
    ends = flow[-1].sum(-1), flow[0].sum(0)
    for path in itertools.product(range(4), repeat=4):  # from row 3, the top, to row 0
        edges = [(2 - at, path[at], path[at + 1]) for at in range(3)]
        bottleneck = min(ends[0][path[0]], ends[1][path[3]], *(flow[edge] for edge in edges))
        for edge in edges:
            best[edge] = max(best[edge], bottleneck)
    assert torch.equal(best_path_through(flow), best)


def test_routes_of_the_first_edges_and_the_rest(bert):
    edges = ROUTES["random"](bert)
    found = knockout_curve(bert, edges, (0.1, 1.0))
    assert found.kept[1] == pytest.approx(found.whole, rel=1e-6)
    top = (edges >= edges.flatten().sort(descending=True).values[29])[None]  # 30 of 300
    assert found.kept[0] == pytest.approx(probability(bert, top), rel=1e-5)
    assert found.knocked_out[0] == pytest.approx(probability(bert, ~top), rel=1e-5)
    nothing = torch.zeros_like(top)
    assert found.knocked_out[1] == pytest.approx(probability(bert, nothing), rel=1e-5)


def test_ties_of_routes_are_broken_by_their_seed(bert):
    edges = torch.ones(3, bert.nodes, bert.nodes)
    asked = Instance(bert.adapter, bert.content, 1)
    found = {round(knockout_curve(asked, edges, (0.1,), seed=s).kept[0], 6) for s in range(5)}
    assert len(found) == 5
