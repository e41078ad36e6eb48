"""Tiny configs of every family of transformers: its defaults with small sizes.

Sizes are told by the names of a config's entries. What the names do not tell stands in `OWN`.
"""

from typing import Any

from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

_NAMES = {
    32: "hidden_size d_model n_embd dim embed_dim model_dim emb_dim decoder_hidden_size "
    "encoder_hidden_size word_embed_proj_dim d_latents linear_attn_hidden_size "
    "adapter_in_dim adapter_out_dim adapter_input_size",
    16: "embedding_size image_size input_size entity_emb_size mamba_chunk_size chunk_size",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads attention_heads "
    "decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads "
    "encoder_num_attention_heads decoder_num_attention_heads patch_size rotary_dim num_experts "
    "num_local_experts n_routed_experts moe_num_experts",
    2: "num_key_value_heads num_kv_heads multi_query_group_num encoder_num_key_value_heads "
    "decoder_num_key_value_heads index_n_heads num_experts_per_tok moe_k moe_topk top_k_experts "
    "num_experts_per_token",
    3: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_labels "
    "num_decoder_layers num_encoder_layers encoder_num_hidden_layers decoder_num_hidden_layers "
    "num_self_attends_per_block",
    48: "intermediate_size n_inner ffn_dim ffn_hidden_size encoder_ffn_dim decoder_ffn_dim d_ff "
    "hidden_dim d_inner moe_intermediate_size shared_expert_intermediate_size ffn_size "
    "intermediate_size_mlp dense_intermediate_size expert_ffn_hidden_size "
    "decoder_intermediate_size encoder_intermediate_size feed_forward_size",
    8: "head_dim d_kv d_head attention_head_size qk_nope_head_dim v_head_dim qk_rope_head_dim "
    "kv_channels global_head_dim q_lora_rank kv_lora_rank index_head_dim num_latents",
    99: "vocab_size n_vocab encoder_vocab_size decoder_vocab_size vocab_size_per_layer_input "
    "entity_vocab_size",
    64: "max_position_embeddings n_positions n_ctx max_source_positions max_target_positions "
    "max_seq_len max_sequence_length index_topk",
    1: "n_group topk_group first_k_dense_replace bos_token_id cls_token_id decoder_start_token_id "
    "num_expert_group",
    0: "pad_token_id num_kv_shared_layers",
}  # fmt: skip
SIZES = {name: size for size, names in _NAMES.items() for name in names.split()}
SIZES |= {"eos_token_id": 2, "sep_token_id": 2, "mask_token_id": 4}
LAST_TOKEN = 98  # takes the place of other tokens with a meaning

_MAMBA = dict(mamba_n_heads=8, mamba_d_head=8)
_DOTS3 = dict(per_layer_config={}, head_dim=16)
_ASSISTANT = dict(hidden_size_per_layer_input=0, vocab_size_per_layer_input=0)
_ZAMBA = dict(
    num_hidden_layers=4,
    layers_block_type=["linear_attention", "hybrid"] * 2,
    attention_hidden_size=64,
    attention_head_dim=16,
)
_CODEC = dict(num_filters=2, depths=[1, 1], downsampling_ratios=[2])
# The defaults have none, and all checkpoints do.
_SHORT_CONVOLUTIONS = dict(layer_types=["conv", "full_attention", "conv"])
_SWIN = dict(
    embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, image_size=32, num_layers=2
)
_BLT_PART = dict(hidden_size_global=32, num_key_value_heads=4)
OWN: dict[str, dict[str, Any]] = {
    "bamba": _MAMBA,
    "bit": dict(num_groups=4, hidden_sizes=[8, 16], depths=[1, 1]),
    "blt": dict(
        encoder_hash_byte_group_vocab=50,
        encoder_config=_BLT_PART,
        decoder_config=_BLT_PART,
    ),
    "cohere_compass_text": dict(
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
    ),
    "dbrx": dict(
        attn_config=dict(rope_theta=1e4, kv_n_heads=2, clip_qkv=8), ffn_config=dict(moe_top_k=2)
    ),
    "deepseek_v2": dict(num_experts_per_tok=2),
    "donut-swin": _SWIN,
    "dots1": dict(n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2),
    "dots3_note": dict(text_config=_DOTS3, vision_config=dict(per_layer_config={})),
    "dots3_note_text": _DOTS3,
    "encoder-decoder": dict(decoder=dict(is_decoder=True, add_cross_attention=True)),
    "efficientnet": dict(width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320),
    "esm": dict(vocab_size=33, mask_token_id=32, pad_token_id=1),
    "gemma4_assistant": dict(text_config=dict(_ASSISTANT, model_type="gemma4_text")),
    "gpt_neo": dict(attention_types=[[["global", "local", "global"], 1]]),
    "granitemoehybrid": _MAMBA,
    "hunyuan_v1_moe": dict(head_dim=8),
    "layoutlmv3": dict(coordinate_size=5, shape_size=6),
    "lfm2": _SHORT_CONVOLUTIONS,
    "lfm2_moe": _SHORT_CONVOLUTIONS,
    "lilt": dict(hidden_size=48),
    "mamba2": dict(num_heads=8, n_groups=2),
    "ministral": dict(head_dim=8),
    "mistral4": dict(head_dim=16),
    "nemo_speechlm": dict(
        audio_config=dict(diarization_config=dict(head_config=dict(audio_hidden_size=32)))
    ),
    "nemotron": dict(num_key_value_heads=2),
    "neomme": dict(head_dim=16, per_layer_config={}),
    "reformer": dict(axial_pos_embds_dim=[8, 24], axial_pos_shape=[8, 8]),
    "shieldgemma2": dict(yes_token_index=5, no_token_index=6, mm_tokens_per_image=4),
    "siglip2": dict(vision_config=dict(num_patches=16)),
    "squeezebert": dict(embedding_size=32),
    "swin": _SWIN,
    "swinv2": dict(_SWIN, pretrained_window_sizes=[0, 0]),
    "vibevoice_asr": dict(
        acoustic_tokenizer_encoder_config=_CODEC, semantic_tokenizer_encoder_config=_CODEC
    ),
    "xmod": dict(default_language="en_XX"),
    "zamba": dict(_ZAMBA, mamba_dt_rank=4),
    "zamba2": _ZAMBA,
    "zaya": dict(num_experts_per_tok=1),
}
# Families whose checkpoints may have other layers than the defaults: a name, and their settings.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma4_text": ("no per-layer inputs", dict(hidden_size_per_layer_input=0)),
    "granitemoehybrid": ("no state space", dict(layer_types=["full_attention"] * 3)),
}


def tiny_config(model_type: str, **options: Any) -> PretrainedConfig:
    """Return a tiny config of a model type, with these options besides."""
    return _tiny(CONFIG_MAPPING[model_type], {**OWN.get(model_type, {}), **options})


def _tiny(kind: type[PretrainedConfig], own: dict[str, Any]) -> PretrainedConfig:
    # Some defaults contradict each other; then the model type of a part is stated.
    stated = {k: _stated(v) for k, v in own.items() if isinstance(v, dict) and "model_type" in v}
    default = kind(**stated)
    given = default.to_dict()
    entries = {k: _size(k, v) for k, v in given.items()}
    entries = {k: v for k, v in entries.items() if v != given[k]}
    heads = given.get("num_attention_heads")
    if heads is not None and heads == given.get("num_key_value_heads"):
        entries["num_key_value_heads"] = SIZES["num_attention_heads"]
    parts = {name: getattr(default, name, None) for name in kind.sub_configs}
    for name, part in parts.items():
        if isinstance(part, PretrainedConfig):
            entries[name] = _tiny(type(part), own.get(name, {})).to_dict()
    return kind(**{**entries, **{k: v for k, v in own.items() if k not in parts}, **stated})


def _stated(options: dict[str, Any]) -> dict[str, Any]:
    return tiny_config(**options).to_dict()


def _size(name: str, value: Any) -> Any:
    """Return the small value of a config's entry; the value itself where its name tells none."""
    is_token = name.endswith(("_token_id", "_token_index"))
    if isinstance(value, bool) or not isinstance(value, int | None):
        return value
    if name in SIZES and (value is not None or is_token):
        return SIZES[name]
    return LAST_TOKEN if is_token and value is not None and value > LAST_TOKEN else value
