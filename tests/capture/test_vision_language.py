"""Vision-language models: the flow is that of the text decoder, with images in its inputs."""

import copy

import pytest
import torch
from support.tiny_vlms import VLMS, build_vlm, picture, processed

from attnflow.capture import HiddenTokens, Objective, captured_stages, captures, product_rules
from attnflow.capture.capture import record
from attnflow.capture.decoder_inputs import decoder_inputs, text_decoder
from attnflow.capture.input_names import DEEPSTACK
from attnflow.capture.leaving_out import record_visible
from attnflow.capture.objectives import logits_at
from attnflow.capture.recorder import ProductRules
from attnflow.errors import ModelError


@pytest.fixture(params=VLMS)
def vlm_family(request):
    return request.param


def last_token(inputs):
    position = inputs["attention_mask"].sum(1) - 1
    return Objective(read=logits_at(position), position=position)


def own_logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits[:, -1]


def doubled(inputs):
    return {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


def test_the_forward_pass_is_the_models_own(vlm_family):
    model, inputs = build_vlm(vlm_family, dtype=torch.float64), doubled(processed(vlm_family))
    read = decoder_inputs(model, inputs)
    for tensor in ("agf", "cf"):
        (got,) = captures(model, read, [last_token(read)], tensor=tensor)
        torch.testing.assert_close(got.logits, own_logits(model, inputs), rtol=1e-6, atol=1e-8)
    other = doubled(processed(vlm_family, images=[picture(1)]))
    assert (own_logits(model, other) - own_logits(model, inputs)).abs().max() > 1e-3


@pytest.mark.parametrize("gates", ["frozen", "shared"])
def test_conserved_at_every_node_without_biases(vlm_family, gates):
    model = build_vlm(vlm_family, biases=False, dtype=torch.float64)
    read = decoder_inputs(model, doubled(processed(vlm_family)))
    rules = ProductRules("frozen", gates)
    (got,) = captures(model, read, [last_token(read)], tensor="cf", rules=rules)
    assert got.signed.abs().amax(dim=(-2, -1)).min() > 1e-4, "a degenerate model tests nothing"
    arrives = got.signed.sum(-2) + got.residual
    leaves = got.signed.sum(-1) + got.residual
    worst = (arrives[:, 1:] - leaves[:, :-1]).abs().max() / got.signed.abs().max()
    # RMS norms of transformers compute in float32, also in a float64 model.
    assert worst < 1e-6
    torch.testing.assert_close(got.contributions.sum(1), got.explained, rtol=1e-5, atol=1e-6)


def test_features_that_layers_add_count_at_their_own_tokens():
    model = build_vlm("qwen3_vl", biases=False, dtype=torch.float64)
    inputs = doubled(processed("qwen3_vl"))
    read = decoder_inputs(model, inputs)
    (got,) = captures(model, read, [last_token(read)], tensor="cf")
    plain = {name: value for name, value in read.items() if name != DEEPSTACK}
    (without,) = captures(model, plain, [last_token(read)], tensor="cf")
    is_image = inputs["mm_token_type_ids"] == 1
    assert read[DEEPSTACK].shape[1] == 2
    assert (read[DEEPSTACK].abs().sum((1, 3)) > 0).equal(is_image)
    assert (got.logits - without.logits).abs().max() > 1e-3
    total = got.contributions.sum(1)
    torch.testing.assert_close(total, got.explained, rtol=1e-6, atol=1e-8)


def test_agf_is_that_of_eager_attention(vlm_family):
    model, inputs = build_vlm(vlm_family, dtype=torch.float64), doubled(processed(vlm_family))
    read = decoder_inputs(model, inputs)
    (got,) = captures(model, read, [last_token(read)], tensor="agf")
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    weights = []
    for module in text_decoder(twin).modules():
        if type(module).__name__.endswith(("Attention", "TextAttention")):
            module.register_forward_hook(lambda m, args, out: weights.append(out[1]))
    output = twin(**inputs)
    gradients = torch.autograd.grad(output.logits[:, -1].amax(), weights)
    pairs = zip(weights, gradients, strict=True)
    expected = torch.stack([(a * g).relu().mean(1) for a, g in pairs], dim=1)
    # Eager attention takes its softmax in float32.
    assert (got.capacities - expected).abs().max() < 1e-5 * expected.max()


def test_gemmas_image_tokens_see_those_after_them():
    model, inputs = build_vlm("gemma3"), processed("gemma3")
    read = decoder_inputs(model, inputs)
    (got,) = captures(model, read, [last_token(read)], tensor="af")
    image = inputs["token_type_ids"][0] == 1
    edges = got.capacities[0].amax(0)
    later = torch.ones_like(edges).triu(1) > 0
    among = image[:, None] & image
    assert edges[later & among].min() > 0 and edges[later & ~among].max() == 0


def test_hidden_tokens_can_be_left_out(vlm_family):
    model = build_vlm(vlm_family, dtype=torch.float64)
    read = decoder_inputs(model, doubled(processed(vlm_family)))
    hidden = torch.zeros_like(read["attention_mask"], dtype=torch.bool)
    hidden[:, 3:6] = True
    inputs = HiddenTokens.of(model, read, hidden).inputs_without(hidden)
    rules = product_rules(model)
    shown = record_visible(model, inputs, last_token(read), rules=rules, segments=None)
    objective = last_token(read)
    (whole,) = record(model, inputs, [objective], tensor="cf", rules=rules, segments=None)
    torch.testing.assert_close(shown.logits, whole.logits, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(shown.signed, whole.signed, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(shown.residual, whole.residual, rtol=1e-6, atol=1e-8)
    assert whole.signed[:, :, :, 3:6].abs().max() == 0


def test_the_stages_of_net_hide_image_tokens(vlm_family):
    model = build_vlm(vlm_family)
    read = decoder_inputs(model, processed(vlm_family))
    removable = read["attention_mask"] != 0
    removable[:, -1] = False
    removal = HiddenTokens.of(model, read, removable)
    stages = list(
        captured_stages(
            model,
            read,
            removal,
            last_token(read),
            removed=(0.1, "halves"),
            rules=product_rules(model),
        )
    )
    assert len(stages) == 4
    for stage in stages:
        assert stage.capture.capacities.isfinite().all() and stage.capture.capacities.sum() > 0
    both = stages[2].present ^ stages[3].present
    assert both[:, :-1].all() and not both[:, -1]


def test_positions_are_those_of_the_whole_example():
    model, inputs = build_vlm("qwen2_5_vl"), processed("qwen2_5_vl")
    positions, _ = model.model.get_rope_index(
        **{k: v for k, v in inputs.items() if k != "pixel_values"}
    )
    assert decoder_inputs(model, inputs)["position_ids"].equal(positions)
    assert not positions[1].equal(positions[0])


def test_a_model_without_such_a_decoder_is_refused(build, batch):
    with pytest.raises(ModelError, match="no decoder of texts that reads its images"):
        decoder_inputs(build("t5"), batch())


@pytest.mark.parametrize("held", [lambda x: x, lambda x: [x], lambda x: {"every layer": (x, None)}])
def test_numbers_that_would_be_lost_are_refused(held):
    model = build_vlm("llava")

    def more(module, args, kwargs):
        return args, {**kwargs, "per_layer_inputs": held(torch.zeros(1))}

    text_decoder(model).register_forward_pre_hook(more, with_kwargs=True)
    with pytest.raises(ModelError, match="gives its decoder per_layer_inputs besides"):
        decoder_inputs(model, processed("llava"))
