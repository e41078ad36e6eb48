"""Baselines that were published for decoders: what each promises, and who is refused in words."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.text_models import PROMPT, SOURCE, bare, encoder_decoder, language_model, tiny_model
from support.tiny_models import DECODERS, ENCODERS, build
from torch.nn import functional

from attnflow import InputError, ModelError
from attnflow.capture.families import family_of
from attnflow.capture.frozen_backward import ReplacedFunctions
from attnflow.evaluation.protocol import run_method
from attnflow.methods import (
    METHODS,
    Classifier,
    EncoderDecoder,
    Instance,
    LanguageModel,
    deltatrace,
)
from attnflow.methods.decomposition import edge_importance
from attnflow.methods.deltatrace import _FUNCTIONS
from attnflow.methods.flow_routes import contributions
from attnflow.methods.model_internals import eager

OF_BERT = ("transatt", "alti", "globenc", "decompx", "staged-decompx", "norm:flow", "cf-alti:path")
GATED = ("qwen3_5_text",)  # a gate of the query's multiplies what heads and keys bring
WITHOUT_INTERFACE = ("gptj", "deberta-v2", "mpnet")  # they compute attention themselves


@pytest.fixture(scope="module")
def decoder(tokenizer):
    """Return an instance about the next token of a tiny random decoder, its norms at random too."""

    def ask(family, **options):
        size = {} if family == "gemma3" else {"vocab_size": 100}
        adapter = LanguageModel(build(family, **size, **options), bare(tokenizer))
        return Instance(adapter, adapter.encode(SOURCE), target=9)

    return ask


@pytest.fixture(scope="module")
def small(tokenizer):
    """Instances about the next token of a Llama and of a GPT-2, with passes that methods share."""
    found = {}
    for name in ("LlamaForCausalLM", "GPT2LMHeadModel"):
        adapter = LanguageModel(language_model(name), bare(tokenizer))
        found[name] = Instance(adapter, adapter.encode(PROMPT), target=7)
    return found


def suggested(error):
    """Names of the methods that a message says to use instead."""
    (names,) = re.search(r"use (.*) instead\.$", str(error)).groups()
    return re.split(", | or ", names)


# All methods


@pytest.mark.parametrize("name", METHODS)
def test_every_method_scores_a_llama_or_says_in_words_why_not(small, name):
    instance = small["LlamaForCausalLM"]
    try:
        scores = METHODS[name].scores(instance)
    except (ModelError, InputError) as error:
        assert str(error).startswith(f"{name}: this method is written for BERT's layers")
        assert suggested(error)
    else:
        assert scores.shape == (instance.nodes,) and np.isfinite(scores).all()


@pytest.mark.parametrize("name", OF_BERT)
def test_methods_of_bert_name_others_that_run(small, tokenizer, vit, name):
    roberta = Classifier(tiny_model("Roberta"), tokenizer)
    two = encoder_decoder(tokenizer)
    pair = EncoderDecoder(two.model, two.tokenizer)
    others = [Instance(own, own.encode(SOURCE), target=1) for own in (roberta, pair)]
    for instance in (*small.values(), *others, vit):
        with pytest.raises(ModelError, match=f"^{name}: .*BERT's.*{instance.adapter.kind}") as info:
            METHODS[name].scores(instance)
        for other in suggested(info.value):
            assert np.isfinite(METHODS[other].scores(instance)).all()


# The temperature scope


@pytest.mark.parametrize("family", ("llama", "gpt2", "gemma2"))
def test_the_temperature_scope_is_the_jacobian_along_the_last_state(decoder, family):
    instance = decoder(family, dtype=torch.float64)
    model, states = instance.adapter.model, []
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda m, args: states.append(args[0]))
    point = instance.point.requires_grad_()
    instance.adapter.logits(point)
    handle.remove()
    y = states[0][0, -1]  # what the head reads
    rows = [torch.autograd.grad(one, point, retain_graph=True)[0][0] for one in y]
    jacobian = torch.stack(rows)
    expected = torch.einsum("d,dti->ti", y / y.norm(), jacobian).norm(dim=-1).detach()
    scores = METHODS["temperature-scope"].scores(instance)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    other = METHODS["temperature-scope"].scores(replace(instance, target=3))
    assert (scores == other).all() and (scores > 0).all()


# Information flow routes


@pytest.mark.parametrize("family", DECODERS)
def test_contributions_to_a_node_sum_to_one_and_none_comes_from_later(decoder, family):
    instance = decoder(family)
    if family in WITHOUT_INTERFACE:
        with pytest.raises(ModelError, match="-routes: .* computes attention by itself"):
            METHODS["information-flow-routes"].scores(instance)
        return
    if family in GATED:
        with pytest.raises(ModelError, match="is not the sum of what heads and keys bring"):
            METHODS["information-flow-routes"].scores(instance)
        return
    for row in range(instance.nodes):
        tokens, residual = contributions(instance, row)
        assert (tokens >= 0).all() and (residual >= 0).all()
        torch.testing.assert_close(tokens.sum(1) + residual, torch.ones(len(residual)))
        assert not tokens[:, row + 1 :].any()
    scores = METHODS["information-flow-routes"].scores(instance)
    np.testing.assert_allclose(scores, tokens.sum(0))


def test_contributions_in_a_llama_are_those_of_its_weights(decoder):
    """Taken from attention weights in the open, with keys and values that heads share."""
    instance = decoder("llama", dtype=torch.float64)
    model, row = instance.adapter.model, 3
    with torch.no_grad():
        output = eager(model)(**instance.inputs, output_attentions=True, output_hidden_states=True)
    tokens, residual = contributions(instance, row)
    for at, block in enumerate(model.model.layers):
        attend, x = block.self_attn, output.hidden_states[at][0]
        weights = output.attentions[at][0, :, row]
        with torch.no_grad():
            values = attend.v_proj(block.input_layernorm(x)).unflatten(-1, (-1, attend.head_dim))
            parts = torch.stack([
                weights[h, j] * attend.o_proj.weight[:, h * 4 : h * 4 + 4] @ values[j, h // 2]
                for j in range(instance.nodes) for h in range(4)
            ])  # fmt: skip
        parts = torch.cat([parts, x[None, row]])
        whole = parts.sum(0)
        near = (whole.abs().sum() - (whole - parts).abs().sum(1)).relu()
        near = near / near.sum()
        expected = near[:-1].view(instance.nodes, 4).sum(1)
        torch.testing.assert_close(tokens[at], expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(residual[at], near[-1], rtol=1e-4, atol=1e-6)


def test_contributions_in_a_bert_are_its_edge_importance(bert):
    attention, residual = edge_importance(bert)
    for row in range(bert.nodes):
        tokens, own = contributions(bert, row)
        torch.testing.assert_close(tokens, attention[:, row], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(own, residual[:, row], rtol=1e-3, atol=1e-5)


def test_information_flow_routes_take_one_forward_pass(decoder):
    instance, passes = decoder("llama"), []
    handle = instance.adapter.model.register_forward_hook(lambda *_: passes.append(1))
    run_method(METHODS["information-flow-routes"], instance)
    handle.remove()
    assert len(passes) == 1


def test_attention_that_is_not_a_sum_over_keys_is_refused(decoder):
    """A gate may multiply the heads before they are projected."""
    instance = decoder("llama")
    output = instance.adapter.model.model.layers[1].self_attn.o_proj
    output.register_forward_pre_hook(lambda m, args: (args[0] * args[0].sigmoid(),))
    with pytest.raises(ModelError, match="is not the sum of what heads and keys bring"):
        METHODS["information-flow-routes"].scores(instance)


# DeltaTrace


def change(instance):
    """The explained number, less that of the masked content."""
    with torch.no_grad():
        logits = [instance.adapter.logits(at) for at in (instance.point, instance.baseline)]
        return float(instance.value(logits[0])[0] - instance.value(logits[1])[0])


@pytest.mark.parametrize("number", ("logit", "contrast"))
@pytest.mark.parametrize("family", (*DECODERS, *ENCODERS))
def test_deltatrace_is_complete(decoder, tokenizer, family, number):
    if family in DECODERS:
        instance = decoder(family, dtype=torch.float64)
    else:
        own = Classifier(build(family, vocab_size=100, dtype=torch.float64), tokenizer)
        instance = Instance(own, own.encode(SOURCE), target=1)
    instance = replace(instance, explained=number)
    if family_of(instance.adapter.model).router is not None:
        with pytest.raises(ModelError, match="chooses experts for each token"):
            METHODS["deltatrace"].scores(instance)
        return
    scores = METHODS["deltatrace"].scores(instance)
    # Models of Llama's shape norm in float32, whatever their own precision.
    rounding = 1e-6 if family in ("llama", "gpt2") else 1e-6 * (1 + abs(scores).sum())
    assert scores.sum() == pytest.approx(change(instance), rel=0, abs=rounding)
    assert not scores[~instance.ordinary].any() and np.ptp(scores) > 0


@pytest.mark.parametrize("kind", ("llama", "vit"))
def test_deltatrace_is_complete_in_float32(request, kind):
    instance = request.getfixturevalue(kind)
    scores = METHODS["deltatrace"].scores(instance)
    assert scores.sum() == pytest.approx(change(instance), abs=1e-5)


def pairs(*shape):
    torch.manual_seed(0)
    return torch.randn(2, *shape, dtype=torch.float64).requires_grad_()


def traced(function, *inputs):
    """Multipliers of the inputs of a function of two contents, and what they should add up to."""
    with ReplacedFunctions(_FUNCTIONS):
        output = function(*inputs)
    weights = torch.randn(output.shape[1:], dtype=torch.float64)
    found = torch.autograd.grad((output[0] * weights).sum(), inputs)
    assert not any(m[1].any() for m in found)
    difference = ((output[0] - output[1]) * weights).sum().item()
    return [m[0] for m in found], weights, difference


NEVER = torch.full((5, 5), -1e30).triu(1)
WEIGHT = torch.arange(5.0).double()
RULES = {
    "silu": functional.silu,
    "gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "gelu, taken apart": lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x.pow(3)))),
    "softmax": lambda x: functional.softmax(x, -1),
    "softmax of some": lambda x: functional.softmax(x.tril() + NEVER, -1),
    "log-softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: x.logsumexp(1),
    "layer norm": lambda x: functional.layer_norm(x, (5,), WEIGHT, x.new_ones(5)),
    "rms norm": lambda x: functional.rms_norm(x, (5,), WEIGHT),
    "quotient": lambda x: x / (x.exp() + 1),
    "attention": lambda x: functional.softmax(x @ x.mT, -1) @ x,
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_each_secant_explains_the_whole_difference(name):
    x = pairs(5, 5)
    (multiplier,), _, difference = traced(RULES[name], x)
    assert (multiplier * (x[0] - x[1])).sum().item() == pytest.approx(difference, rel=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_the_secant_of_equal_contents_is_the_gradient(name):
    x = pairs(5, 5)[:1].detach().repeat(2, 1, 1).requires_grad_()
    (multiplier,), weights, _ = traced(RULES[name], x)
    plain = torch.autograd.grad((RULES[name](x)[0] * weights).sum(), x)[0][0]
    torch.testing.assert_close(multiplier, plain)


def test_the_rule_of_norms_is_the_published_one():
    """(1/r0 + 1/r1) / 2 v - 2 ~x <~x, v> / (d r0 r1 (r0 + r1)), r the roots of mean squares."""
    x = pairs(5)
    (multiplier,), v, _ = traced(lambda of: functional.rms_norm(of, (5,), eps=0.0), x)
    r1, r0 = x.detach().square().mean(-1).sqrt()
    mean = x.detach().mean(0)
    expected = (1 / r0 + 1 / r1) / 2 * v - 2 * mean * (mean @ v) / (5 * r0 * r1 * (r0 + r1))
    torch.testing.assert_close(multiplier, expected)


def test_functions_that_deltatrace_does_not_know_are_noticed(decoder, monkeypatch):
    monkeypatch.delitem(_FUNCTIONS, functional.silu)
    with pytest.raises(ModelError, match="deltatrace: the scores should add up to .* and miss"):
        METHODS["deltatrace"].scores(decoder("llama"))
    with pytest.raises(ModelError, match="moves the batch away from the first axis"):
        deltatrace._mean(torch.ones(3, 2))
