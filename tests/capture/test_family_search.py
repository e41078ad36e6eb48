"""Entries of families found by running a model once: the same effects, or the reason why none."""

import dataclasses

import pytest
import torch
import transformers
from support.tiny_models import SIZES, TINY, TOKENS, build, randomised

from attnflow import Explainer
from attnflow.capture import (
    FAMILIES,
    Objective,
    capture,
    families,
    family_search,
    leaving_out,
)
from attnflow.capture.family_search import (
    conservation_error,
    example_inputs,
    find_family,
    without_biases,
)
from attnflow.capture.objectives import number
from attnflow.errors import InputError, ModelError

# GPT-OSS's gate, (up + 1) * glu, is a product that no entry of names alone can state.
NAMED = [name for name in TINY if name != "gpt_oss"]


@pytest.fixture
def unknown(monkeypatch):
    """Forget the entry of a family."""

    def forget(model):
        known = FAMILIES[model.config.model_type]
        monkeypatch.delitem(families.FAMILIES, model.config.model_type)
        return known

    return forget


def some_number(output):
    values = next(v for v in output.values() if isinstance(v, torch.Tensor) and v.ndim > 1)
    last = values[:, -1] if values.ndim == 3 else values
    return (last * torch.linspace(-1, 1, last.shape[-1], dtype=last.dtype)).sum(-1)


@pytest.mark.parametrize("name", NAMED)
def test_the_entry_of_a_known_family_is_found_again(name, unknown, monkeypatch):
    model = build(name)
    inputs, objective = example_inputs(model), Objective(read=number(some_number))
    expected = capture(model, inputs, objective)
    known = unknown(model)
    found = find_family(model)
    assert found is not known
    got = capture(model, inputs, objective)
    # Another block may take the same stream, and a weight of experts is constant by its function.
    torch.testing.assert_close(got.signed, expected.signed, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.residual, expected.residual, rtol=1e-4, atol=1e-5)


def tiny(config, head, **settings):
    torch.manual_seed(7)
    config = getattr(transformers, f"{config}Config")(**{**SIZES, **TOKENS, **settings})
    return randomised(getattr(transformers, head)(config)).eval()


# Of families without an entry: by the interface, by torch's softmax, with parallel MLPs, experts,
# activations of the model's own, embeddings that are scaled in place, and two stacks.
OTHERS = {
    "ernie": lambda: tiny("Ernie", "ErnieForSequenceClassification"),
    "glm": lambda: tiny(
        "Glm", "GlmForCausalLM", num_key_value_heads=2, head_dim=4, bos_token_id=1, eos_token_id=2
    ),
    "stablelm": lambda: tiny("StableLm", "StableLmForCausalLM", num_key_value_heads=2),
    "granitemoe": lambda: tiny(
        "GraniteMoe", "GraniteMoeForCausalLM", num_key_value_heads=2, num_local_experts=4
    ),
    "bloom": lambda: tiny("Bloom", "BloomForCausalLM", hidden_size=16, n_layer=3, n_head=4),
    "falcon": lambda: tiny("Falcon", "FalconForCausalLM", alibi=False),
    "mpt": lambda: tiny("Mpt", "MptForCausalLM", d_model=16, n_layers=3, n_heads=4, max_seq_len=32),
    "ctrl": lambda: tiny(
        "CTRL", "CTRLLMHeadModel", n_embd=16, n_layer=3, n_head=4, dff=24, n_positions=32
    ),
    "roformer": lambda: tiny("RoFormer", "RoFormerForMaskedLM", embedding_size=16),
    "xglm": lambda: tiny(
        "XGLM", "XGLMForCausalLM", d_model=16, num_layers=3, attention_heads=4, ffn_dim=24
    ),
    "apertus": lambda: tiny("Apertus", "ApertusForCausalLM", num_key_value_heads=2),
    "jetmoe": lambda: tiny(
        "JetMoe", "JetMoeForCausalLM", num_key_value_heads=2, kv_channels=4, num_local_experts=4
    ),
    "beit": lambda: tiny("Beit", "BeitForImageClassification", image_size=8, patch_size=2),
    "pegasus": lambda: tiny(
        "Pegasus",
        "PegasusForConditionalGeneration",
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_effects_of_other_families_are_conserved_with_the_entry_found(name):
    model = OTHERS[name]()
    assert model.config.model_type not in FAMILIES
    found = find_family(model)
    copy = without_biases(model)
    objective = Objective(read=number(some_number))
    got = capture(copy, example_inputs(model), objective)
    assert conservation_error(got)[0] < 1e-4
    assert got.signed.abs().amax(dim=(-2, -1)).min() > 0, "a degenerate model tests nothing"
    assert find_family(model) is found  # remembered


@pytest.mark.parametrize("name", ["glm", "bloom", "falcon", "mpt", "granitemoe", "stablelm"])
def test_other_families_answer_in_a_batch_as_alone(name):
    explainer = Explainer(OTHERS[name]())
    ids = [[5, 9, 33, 7, 21, 12], [8, 30, 11, 4]]
    for side in (slice(None, None), slice(None, None, -1)):  # padded on the right, on the left
        rows, masks = [ids[0], ids[1] + [0, 0]], [[1] * 6, [1] * 4 + [0] * 2]
        both = explainer(
            input_ids=[rows[0], ids[1] + [0, 0] if side.step is None else [0, 0] + ids[1]],
            attention_mask=[row[side] for row in masks],
        )
        for row, together in zip(ids, both, strict=True):
            alone = explainer(input_ids=[row])[0]
            largest = max(map(abs, alone.scores))
            assert together.scores == pytest.approx(alone.scores, abs=5e-4 * largest)


def test_a_mask_without_a_tokenizer_needs_a_position():
    explainer = Explainer(OTHERS["roformer"]())
    with pytest.raises(InputError, match="without a tokenizer.*position="):
        explainer(input_ids=[[5, 9, 33, 7]])
    assert explainer(input_ids=[[5, 9, 33, 7]], position=2)[0].scores.shape == (4,)


def test_a_real_model_has_the_same_answer_without_its_entry(unknown):
    text = "although this dog is not cute, it is very smart."
    expected = Explainer.from_pretrained()(text)
    explainer = Explainer.from_pretrained()
    unknown(explainer.model)
    got = explainer(text)
    assert got.tokens[int(got.scores.argmax())] == "smart"
    assert got.scores == pytest.approx(expected.scores, rel=1e-3, abs=1e-6)
    assert got.contributions == pytest.approx(expected.contributions, rel=1e-3, abs=1e-5)


def test_nothing_is_left_in_the_model():
    model = OTHERS["falcon"]().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    find_family(model)
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert model.config._attn_implementation != "attnflow_traced"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_entries_are_found_in_every_precision(dtype):
    model = OTHERS["glm"]()
    expected = find_family(model)
    assert find_family(OTHERS["glm"]().to(dtype)) == expected


def with_a_large_dimension(model):
    """Give the last states a number far above the others, as trained models have."""
    with torch.no_grad():
        for stack in (model.model.encoder, model.model.decoder):
            stack.layer_norm.weight[3], stack.layer_norm.bias[3] = 60.0, 200.0
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_positions_are_told_in_every_precision(dtype, unknown):
    assert find_family(OTHERS["pegasus"]().to(dtype)).positions == "placed"
    assert find_family(with_a_large_dimension(OTHERS["pegasus"]()).to(dtype)).positions == "placed"
    for name in ("llama4_text", "llama", "roberta"):
        model = build(name).to(dtype)
        known = unknown(model)
        assert find_family(model).positions == known.positions


def test_a_wrong_entry_is_refused(monkeypatch, unknown):
    """The check itself: each of these leaves a part of the stream out, or counts one twice."""
    model = build("llama")
    right = unknown(model)
    for wrong in (
        dataclasses.replace(right, output="mlp"),
        dataclasses.replace(right, output="self_attn.v_proj"),
        dataclasses.replace(right, gates=None),
        dataclasses.replace(right, stream="post_attention_layernorm"),
        dataclasses.replace(right, parallel="mlp"),
        dataclasses.replace(right, multiplier=0.5),
    ):
        monkeypatch.setattr(
            family_search, "proposed_family", lambda model, trace, wrong=wrong: wrong
        )
        with pytest.raises(ModelError, match="not conserved at layer|cannot be|size of ten"):
            find_family(build("llama"))


def shifted(values):
    """Add to each token its neighbour's values."""
    return values + values.roll(1, dims=1)


@pytest.mark.parametrize("mixed", ["before its first", "after its last"])
def test_tokens_that_are_mixed_outside_the_layers_refuse_an_entry(mixed, unknown):
    """No node is there at which effects could be lost: x_i would not be of token i alone."""
    model = build("llama")
    unknown(model)
    if mixed == "before its first":
        model.model.layers[0].register_forward_pre_hook(lambda m, args: (shifted(args[0]),))
    else:
        model.model.norm.register_forward_hook(lambda m, args, output: shifted(output))
    with pytest.raises(ModelError, match=f"tokens are mixed {mixed} attention"):
        find_family(model)


REFUSED = {
    "the gate of the experts": (lambda: build("gpt_oss"), "GptOssExperts multiply two branches"),
    "recurrence": (
        lambda: tiny("Rwkv", "RwkvForCausalLM", attention_hidden_size=16),
        "no attention was seen",
    ),
    "Fourier mixing": (
        lambda: tiny("FNet", "FNetForSequenceClassification"),
        "no attention was seen",
    ),
    "two attentions a layer": (
        lambda: tiny("DiffLlama", "DiffLlamaForCausalLM", num_key_value_heads=2),
        "attention ran 6 times in 3 layers",
    ),
    "a stream that is scaled": (
        lambda: tiny("Doge", "DogeForCausalLM", num_key_value_heads=2),
        "no module returns what attention call 0 adds to the residual stream",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name, unknown):
    make, reason = REFUSED[name]
    model = make()
    if model.config.model_type in FAMILIES:
        unknown(model)
    for ask in (find_family, lambda model: Explainer(model)(input_ids=[[5, 9, 33, 7]])):
        with pytest.raises(ModelError, match=f"no known family.*: .*{reason}.*agf.* may work"):
            ask(model)


def test_a_multiplier_is_the_number_that_was_seen(unknown):
    """Another entry of the config may have the same number, and be changed."""
    model = build("granite")
    known = unknown(model)
    model.config.attention_dropout = number_seen = known.factor(model.config)
    found = find_family(model)
    model.config.attention_dropout = 0.0
    assert found.factor(model.config) == number_seen != 1.0


def test_tokens_hidden_in_a_model_with_windows_are_hidden_as_one_by_one(monkeypatch):
    """GPT-Neo's windows count tokens: without a hidden one in between a window would be wider."""
    model = tiny(
        "GPTNeo",
        "GPTNeoForCausalLM",
        hidden_size=16,
        num_layers=4,
        num_heads=4,
        num_hidden_layers=4,
        attention_types=[[["global", "local"], 2]],
        window_size=4,
        intermediate_size=24,
    )
    explainer = Explainer(model)
    ids = [[5, 9, 33, 7, 21, 12, 8, 30, 11, 4, 6, 17]]
    got = explainer(input_ids=ids)[0]
    monkeypatch.setattr(leaving_out, "_visible_tokens", lambda *a: None)
    assert got.scores == pytest.approx(explainer(input_ids=ids)[0].scores, abs=1e-5)


def test_a_model_without_weights_is_searched_once_it_has_them():
    expected, loaded = find_family(OTHERS["glm"]()), OTHERS["glm"]()
    with torch.device("meta"):
        model = type(loaded)(loaded.config).eval()
    with pytest.raises(ModelError, match="meta device"):
        find_family(model)
    model.to_empty(device="cpu").load_state_dict(loaded.state_dict())
    model.model.rotary_emb = loaded.model.rotary_emb  # whose buffers no state dict has
    assert find_family(model) == expected


@pytest.mark.parametrize("error", [MemoryError, torch.cuda.OutOfMemoryError])
@pytest.mark.parametrize("run", [1, 2, 5])
def test_too_little_memory_is_no_reason_against_a_model(error, run):
    """The traced run is the first, and those that tell positions are the last."""
    model, runs = OTHERS["glm"](), []

    def fail(module, args):
        runs.append(1)
        if len(runs) == run:
            raise error("out of memory")

    hook = model.lm_head.register_forward_pre_hook(fail)
    with pytest.raises(error):
        find_family(model)
    hook.remove()
    assert find_family(model) == find_family(OTHERS["glm"]())


@pytest.mark.parametrize("wrong", [None, "bert", torch.nn.Linear(2, 2)])
def test_an_entry_is_only_looked_for_in_a_model_of_transformers(wrong):
    with pytest.raises(ModelError, match="must be a transformers model with a config"):
        find_family(wrong)


def test_a_model_that_cannot_run_on_tokens_alone_says_what_it_raised():
    class Demanding(transformers.LlamaForCausalLM):
        def forward(self, input_ids, task, **options):
            return super().forward(input_ids, **options)

    config = build("llama").config
    config.model_type = "demanding"
    with pytest.raises(ModelError, match="by running it once: .*argument: 'task'. Tensor"):
        find_family(Demanding(config).eval())


def test_capture_without_a_search_says_how_to_search():
    model = OTHERS["glm"]()
    with pytest.raises(ModelError, match=r"call attnflow.find_family\(model\)"):
        capture(model, example_inputs(model), Objective(read=number(some_number)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_precision_hides_a_small_path_between_tokens(dtype, unknown):
    """Products of half precision are checked without their rounding."""
    model = build("llama").to(dtype)
    unknown(model)
    find_family(build("llama").to(dtype))
    model.model.layers[1].register_forward_pre_hook(
        lambda module, args: (args[0] + 0.01 * args[0].roll(1, 1),)
    )
    with pytest.raises(ModelError, match="effects are not conserved at layer 0"):
        find_family(model)
