"""Models that are refused by name before they run, and what of them works all the same."""

import pytest
import torch
import transformers
from support.tiny_models import ENDS, SIZES, TOKENS, build

from attnflow import Explainer, ModelError
from attnflow.capture import Objective, capture
from attnflow.capture.objectives import logits_at
from attnflow.capture.stacking import expected_calls

IDS = torch.tensor([[5, 6, 7, 8, 9]])
LAST = torch.tensor([4])
SOUND = dict(
    TOKENS | ENDS,
    d_model=16,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    num_mel_bins=4,
    max_source_positions=10,
    decoder_start_token_id=1,
)
STREAMS = (
    SIZES
    | TOKENS
    | ENDS
    | dict(
        num_key_value_heads=2,
        head_dim=4,
        sliding_window=3,
        laurel_rank=4,
        vocab_size_per_layer_input=40,
        hidden_size_per_layer_input=4,
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0],
    )
)


def gemma_3n(shared):
    torch.manual_seed(7)
    config = transformers.Gemma3nTextConfig(**STREAMS, num_kv_shared_layers=shared)
    return transformers.Gemma3nForCausalLM(config).eval()


def of_last_token(model, tensor):
    read = Objective(read=logits_at(LAST), position=LAST)
    return capture(model, {"input_ids": IDS}, read, tensor=tensor)


@pytest.mark.parametrize("head", ["ForConditionalGeneration", "ForAudioClassification"])
def test_models_of_sound(head):
    config = transformers.WhisperConfig(**SOUND)
    model = getattr(transformers, f"Whisper{head}")(config).eval()
    with pytest.raises(ModelError, match=r"reads sound \(input_features\).*no names"):
        Explainer(model)(input_ids=[1, 3, 4])
    with pytest.raises(ModelError, match="reads sound"):
        capture(model, {"input_ids": IDS}, tensor="af")


@pytest.mark.parametrize("tensor", ["af", "cf"])
def test_linear_attention(tensor):
    kinds = ["linear_attention", "full_attention", "linear_attention"]
    sizes = dict(linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=4)
    model = build("qwen3_5_text", layer_types=kinds, **sizes, linear_value_head_dim=4)
    with pytest.raises(ModelError, match=r"without attention weights \(linear_attention\)"):
        of_last_token(model, tensor)


@pytest.mark.parametrize("shared", [0, 2])
def test_many_streams_are_explained_by_attention_alone(shared):
    model = gemma_3n(shared)
    for tensor in ("af", "gf", "agf"):
        got = of_last_token(model, tensor)
        assert got.capacities.shape == (1, 4, 5, 5)
        assert got.capacities.amax((0, 2, 3)).min() > 0
        assert got.capacities.triu(1).abs().max() == 0
    result = Explainer(model)(input_ids=IDS[0].tolist(), tensor="agf")
    assert result.certificate.is_certified
    for tensor in ("cf", "bcf", "net"):
        with pytest.raises(ModelError, match="four streams for each token.*tensor='agf'"):
            Explainer(model)(input_ids=IDS[0].tolist(), tensor=tensor)


def test_attention_weights_of_many_streams_are_the_models_own():
    model = gemma_3n(2)
    model.set_attn_implementation("eager")
    own = model(input_ids=IDS, output_attentions=True, use_cache=False).attentions
    got = of_last_token(model, "af").capacities
    for layer, weights in enumerate(own):
        assert torch.allclose(got[:, layer], weights.mean(1), atol=1e-6)


def test_one_softmax_over_two_texts():
    model = build("t5gemma")
    model.config.model_type = "t5gemma2"  # the name is what counts
    inputs = {"input_ids": IDS, "decoder_input_ids": IDS}
    with pytest.raises(ModelError, match="in one softmax.*such as T5Gemma"):
        capture(model, inputs, tensor="af")


def test_a_config_that_states_no_layers():
    class Stackless:
        model_type, is_encoder_decoder = "own", True

    with pytest.raises(ModelError, match="'own' does not state the number of layers"):
        expected_calls(Stackless())
