"""Input that capture refuses, in words; the model is left as it was."""

import pytest
import torch
import transformers
from torch import nn
from transformers import AttentionInterface

from attnflow.capture import TENSORS, Objective, capture
from attnflow.capture.attention import IMPLEMENTATION
from attnflow.errors import InputError, ModelError


@pytest.mark.parametrize("tensor", ["af", "agf", "cf"])
def test_model_is_as_it_was_after_success(build, batch, state, family, tensor):
    model = build(family)
    next(model.parameters()).requires_grad_(False)
    before = state(model)
    capture(model, batch(), tensor=tensor)
    assert state(model) == before


@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex_attention", "flash_attention_2"])
@pytest.mark.parametrize("fails", [False, True])
def test_back_end_is_restored(build, batch, state, attention, fails):
    model = build("bert")
    model.config._attn_implementation_internal = attention  # as if loaded so elsewhere
    before = state(model)
    assert set(before["attention"]) == {attention}
    if fails:
        with pytest.raises(IndexError):
            capture(model, {"input_ids": torch.tensor([[1, 999]])})
    else:
        capture(model, batch())
    assert state(model) == before


@pytest.mark.parametrize("tensor", ["agf", "cf"])
@pytest.mark.parametrize("where", ["embeddings", "classifier"])
def test_model_is_as_it_was_after_an_exception(build, batch, state, family, tensor, where):
    model = build(family)

    def fail(*_):
        raise KeyboardInterrupt

    part = model.get_input_embeddings() if where == "embeddings" else model.classifier
    part.register_forward_hook(fail)
    before = state(model)
    with pytest.raises(KeyboardInterrupt):
        capture(model, batch(), tensor=tensor)
    assert state(model) == before


def test_model_is_as_it_was_after_a_failing_backward(build, batch, state):
    model = build("bert")
    model.classifier.register_forward_hook(lambda m, args, output: output.detach())
    before = state(model)
    with pytest.raises(ModelError, match="does not reach"):
        capture(model, batch())
    assert state(model) == before


def test_gradients_that_were_there_stay(build, batch):
    model = build("bert")
    model(**batch()).logits.sum().backward()
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    capture(model, batch())
    after = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(after) == len(before)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_inputs_are_left_alone(build, batch):
    inputs = batch()
    before = {name: value.clone() for name, value in inputs.items()}
    capture(build("bert"), inputs)
    assert inputs.keys() == before.keys()
    assert all(torch.equal(inputs[name], before[name]) for name in before)


def test_compiled_model_is_captured_as_its_original(build, batch):
    model = build("bert")
    wrapper = nn.Module()
    wrapper._orig_mod = model  # what torch.compile returns, without its compiler
    got = capture(wrapper, batch(), tensor="agf")
    assert torch.equal(got.capacities, capture(model, batch(), tensor="agf").capacities)


def test_our_attention_is_of_no_use_outside(build, batch):
    assert IMPLEMENTATION in AttentionInterface().valid_keys()
    model = build("bert", attention=IMPLEMENTATION)
    with pytest.raises(ModelError, match="only inside"):
        model(**batch())


def inputs_with(batch, **changes):
    return {k: v for k, v in {**batch(), **changes}.items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(input_ids=None), "either 'input_ids' or 'inputs_embeds'"),
        (dict(input_ids=[[1, 2]]), r"inputs\['input_ids'\] must be a tensor, not list"),
        (dict(input_ids=torch.ones(4, dtype=torch.long)), r"shape \(batch, t\)"),
        (dict(input_ids=torch.ones(0, 4, dtype=torch.long)), "none 0"),
        (dict(inputs_embeds=torch.ones(1, 2, 3)), "either"),
        (dict(attention_mask=torch.ones(3, 4)), r"shape \(batch, t\) = \(3, 9\)"),
        (dict(attention_mask=torch.zeros(3, 9)), "no real token in row 0"),
        (dict(attention_mask=torch.tensor([1, 0, 1])[:, None].expand(3, 9)), "token in row 1"),
        (dict(labels=torch.zeros(3).long()), "explained class as target"),
    ],
)
def test_bad_inputs(build, batch, changes, message):
    with pytest.raises(InputError, match=message):
        capture(build("bert"), inputs_with(batch, **changes))


def test_inputs_that_are_no_mapping(build, batch):
    with pytest.raises(InputError, match="inputs must be a mapping.*not Tensor"):
        capture(build("bert"), batch()["input_ids"])


def test_capture_takes_the_output_of_a_tokenizer(build, batch):
    model, inputs = build("bert"), batch()
    inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    got = capture(model, transformers.BatchEncoding(inputs))
    assert torch.equal(got.capacities, capture(model, batch()).capacities)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(2).long(), r"shape \(batch,\) = \(3,\)"),
        (torch.zeros(3), "integer tensor"),
        (torch.zeros(3, 1).long(), "integer tensor"),
        (1, "integer tensor"),
        (torch.tensor([0, 1, 3]), r"in 0\.\.2"),
        (torch.tensor([0, -4, 2]), r"in 0\.\.2"),
    ],
)
def test_bad_target(build, batch, target, message):
    with pytest.raises(InputError, match=f"target must .*{message}"):
        capture(build("bert"), batch(), Objective(target))


def test_negative_targets_are_ranks(build, batch):
    """-1 is the most probable class, -3 the least probable of three."""
    model = build("bert")
    order = model(**batch()).logits.argsort(dim=1, descending=True)
    for rank in range(3):
        found = capture(model, batch(), Objective(torch.tensor([-1 - rank, 0, -1 - rank])))
        assert found.target.tolist() == [int(order[0, rank]), 0, int(order[2, rank])]


def test_unknown_tensor(build, batch):
    with pytest.raises(InputError, match="tensor must be one of 'af', 'gf', 'agf', 'cf'"):
        capture(build("bert"), batch(), tensor="grad")


@pytest.mark.parametrize("tensor", ["af", "agf", "cf"])
def test_padding_that_the_model_reads(build, batch, family, tensor):
    with pytest.raises(
        InputError, match="(position 0 of example 1|in front of a text).*padding_side"
    ):
        capture(build(family), batch("left"), tensor=tensor)


class Elsewhere(nn.Parameter):
    """A parameter that says it lies on another device, of which a test may have none."""

    device = property(lambda self: torch.device("cuda:1"))


def on_two_devices(model):
    model.classifier.weight = Elsewhere(model.classifier.weight.detach())
    return model


def integer_weights(model):
    model.classifier.weight = nn.Parameter(torch.ones(3, 16, dtype=torch.int8), requires_grad=False)
    return model


def poisoned(model):
    nn.init.constant_(model.classifier.bias, float("nan"))
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.train(), r"training mode.*model\.eval\(\)"),
        (lambda m: (m.bert.encoder.layer[1].train(), m)[1], "training mode"),
        (on_two_devices, r"one device, not on cpu, cuda:1; .*model\.to\(device\)"),
        (integer_weights, "quantised"),
        (lambda m: m.to("meta"), "meta device"),
        (lambda m: (m.classifier.to("meta"), m)[1], "meta device"),
        (poisoned, "not finite for example 0"),
        (lambda m: m.bert, "BertModel gives no logits of shape"),
        (lambda m: nn.Linear(2, 2), "transformers model"),
    ],
)
def test_bad_models(build, batch, state, change, message):
    model = change(build("bert"))
    before = state(model) if hasattr(model, "config") else None
    with pytest.raises(ModelError, match=message):
        capture(model, batch())
    assert before is None or state(model) == before


@pytest.mark.parametrize("tensor", TENSORS)
def test_token_classifier_is_refused(build, batch, tensor):
    model = transformers.BertForTokenClassification(build("bert").config).eval()
    with pytest.raises(ModelError, match="gives no logits of shape"):
        capture(model, batch(), tensor=tensor)


@pytest.mark.parametrize("tensor", ["af", "agf"])
def test_models_without_attention_weights_are_refused_by_name(build, batch, tensor):
    fnet = build("FNet", type_vocab_size=2)
    with pytest.raises(ModelError, match="FNetForSequenceClassification.*0 times"):
        capture(fnet, {"input_ids": batch()["input_ids"]}, tensor=tensor)
    sizes = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, state_size=4)
    mamba = transformers.MambaForCausalLM(transformers.MambaConfig(**sizes)).eval()
    with pytest.raises(ModelError, match="MambaForCausalLM.*without attention weights"):
        capture(mamba, {"input_ids": batch()["input_ids"]}, tensor=tensor)


def test_layers_that_are_skipped_are_noticed(build, batch):
    model = build("bert")
    model.bert.encoder.layer = model.bert.encoder.layer[:2].eval()
    with pytest.raises(ModelError, match="2 times, expected once in each of its 3 layers"):
        capture(model, batch(), tensor="agf")


@pytest.mark.parametrize("tensor", ["gf", "agf", "cf"])
@pytest.mark.parametrize("part", ["layer", "attention"])
def test_a_detached_part_is_not_filled_with_zeros(build, batch, tensor, part):
    model = build("bert")
    layer = model.bert.encoder.layer[1]
    detached = layer if part == "layer" else layer.attention.output.dense
    detached.register_forward_hook(lambda m, args, out: out.detach())
    with pytest.raises(ModelError, match="does not reach all of its layers"):
        capture(model, batch(), tensor=tensor)


def test_parameters_stay_out_of_the_graph(build, batch):
    model, seen = build("bert"), []
    model.register_forward_hook(lambda m, *_: seen.extend(p.requires_grad for p in m.parameters()))
    capture(model, batch())
    assert seen and not any(seen)


def test_an_encoder_decoder_needs_what_was_written(batch, build):
    with pytest.raises(InputError, match="must hold 'decoder_input_ids'"):
        capture(build("bart"), batch(), tensor="agf")


@pytest.mark.parametrize(
    ("mask", "message"),
    [(torch.ones(3, 9), r"shape \(batch, t\) = \(3, 4\)"), (torch.zeros(3, 4), "row 0")],
)
def test_a_bad_mask_of_the_written_prefix_is_refused(batch, build, mask, message):
    written = {"decoder_input_ids": torch.ones(3, 4).long(), "decoder_attention_mask": mask}
    with pytest.raises(InputError, match=rf"'decoder_attention_mask'\].*{message}"):
        capture(build("bart"), batch() | written, tensor="agf")


def test_conservative_tensor_is_refused_where_it_would_not_be_one(build, batch):
    with pytest.raises(ModelError, match="residual stream of RemBertForSequenceClassification"):
        capture(build("RemBert"), batch())
    convolved = build("deberta-v2", conv_kernel_size=3)
    with pytest.raises(ModelError, match="conv_kernel_size = 3"):
        capture(convolved, batch())
    assert capture(convolved, batch(), tensor="agf").capacities.max() > 0
    odd = build("bert", hidden_act="sigmoid")
    with pytest.raises(ModelError, match="Sigmoid has no slope"):
        capture(odd, batch())
