"""A tiny random model of every family: one table, which the tests and `attnflow models` go through.

An entry says what a family is called, its kind, and the settings that its config needs besides the
kind's own. A family in two forms has two entries. No hub is needed.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

TOKENS = dict(vocab_size=40, max_position_embeddings=32, pad_token_id=0)
ENDS = dict(bos_token_id=1, eos_token_id=2)
SIZES = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=24)
T5_SIZES = dict(d_model=16, d_kv=4, d_ff=24, num_heads=4, num_layers=2, num_decoder_layers=3)
BART_SIZES = dict(
    d_model=16,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=24,
    decoder_ffn_dim=24,
)
WRITER = dict(TOKENS, **ENDS, decoder_start_token_id=1, forced_eos_token_id=None)
KINDS: dict[str, dict[str, Any]] = {
    "encoder": SIZES | TOKENS | dict(num_labels=3),
    "decoder": SIZES | TOKENS | dict(num_labels=3),
    "encoder-decoder": WRITER,
    "vision": SIZES | dict(num_labels=3, image_size=8, patch_size=2, num_channels=3),
}


@dataclass(frozen=True)
class Tiny:
    """One entry of the table.

    name      as users know the family
    kind      one of KINDS
    prefix    of the family's classes in transformers
    settings  of its config, besides the kind's
    head      of the model's class, after the prefix, where it is not the kind's
    config    prefix of the config's class, where it is not the same
    """

    name: str
    kind: str
    prefix: str
    settings: dict[str, Any] = field(default_factory=dict)
    head: str = ""
    config: str = ""


HEADS = {
    "encoder": "ForSequenceClassification",
    "decoder": "ForCausalLM",
    "encoder-decoder": "ForConditionalGeneration",
    "vision": "ForImageClassification",
}
_LOCAL = dict(  # two of three layers see one token to either side
    ENDS,
    global_attn_every_n_layers=3,
    local_attention=2,
    cls_token_id=1,
    sep_token_id=2,
    reference_compile=False,
)
_RELATIVE = dict(
    relative_attention=True,
    position_biased_input=False,
    pos_att_type=["p2c", "c2p"],
    position_buckets=4,
    norm_rel_ebd="layer_norm",
    share_att_key=True,
    type_vocab_size=0,
)
_GROUPED = dict(ENDS, num_key_value_heads=2)
_EXPERTS = dict(_GROUPED, num_experts=4, num_experts_per_tok=2)
_LATENT = dict(  # values are narrower than keys; one layer has an MLP in place of experts
    ENDS,
    num_key_value_heads=4,
    q_lora_rank=8,
    kv_lora_rank=8,
    qk_nope_head_dim=4,
    qk_rope_head_dim=4,
    v_head_dim=3,
    first_k_dense_replace=1,
    moe_intermediate_size=8,
    n_routed_experts=4,
    n_group=2,
    topk_group=1,
    num_experts_per_tok=2,
    n_shared_experts=1,
)
_FIRST_READ = dict(_GROUPED, mask_token_id=4, classifier_pooling="bos")
_CHUNKED = dict(  # one layer sees all, and has an MLP in place of experts
    _GROUPED,
    head_dim=4,
    attention_chunk_size=4,
    floor_scale=4,
    no_rope_layers=[1, 0, 1],
    moe_layers=[0, 2],
    intermediate_size_mlp=24,
)
_YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=8)
_SECTIONS = dict(
    rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5, mrope_section=[1, 1, 0]
)
_PATTERN = dict(_GROUPED, sliding_window=3, sliding_window_pattern=3)  # the third sees all
_GEMMA = dict(_GROUPED, head_dim=4, query_pre_attn_scalar=4, sliding_window=3)
_WINDOW = dict(_GROUPED, use_sliding_window=True, sliding_window=3, max_window_layers=1)
_T5 = dict(T5_SIZES, relative_attention_num_buckets=4, feed_forward_proj="relu")
_GATED = dict(_T5, feed_forward_proj="gated-gelu")
# Of two stacks one has cross-attention too: more layers, whose weights are kept from being so sharp
# that the model itself would amplify half precision's rounding.
_STACK = SIZES | TOKENS | _GEMMA | dict(ENDS, query_pre_attn_scalar=16)
_TWO_GEMMAS = dict(encoder=dict(_STACK, num_hidden_layers=2), decoder=_STACK)
# Rotary positions in time, rows and columns, in a half of a head's four dimensions.
_ROTARY = dict(rope_type="default", rope_theta=10000.0, mrope_section=[1, 1, 0])
_QWEN_TOWER = dict(depth=1, hidden_size=8, intermediate_size=12, num_heads=2, out_hidden_size=16)
_QWEN_VL = dict(
    text_config=SIZES | TOKENS | _GROUPED | dict(head_dim=4, rope_parameters=_ROTARY),
    vision_config=_QWEN_TOWER,
    image_token_id=38,
    video_token_id=39,
)
_QWEN2_VL = dict(
    _QWEN_VL, vision_config=dict(depth=1, embed_dim=8, hidden_size=16, num_heads=2, mlp_ratio=2)
)
_PATCHES = SIZES | dict(image_size=8, patch_size=2)

TINY: dict[str, Tiny] = {
    "albert": Tiny("ALBERT", "encoder", "Albert", dict(embedding_size=8, hidden_act="gelu_new")),
    "bert": Tiny("BERT", "encoder", "Bert"),
    "camembert": Tiny("CamemBERT", "encoder", "Camembert", ENDS),
    "deberta-v2": Tiny("DeBERTa-v2, DeBERTa-v3", "encoder", "DebertaV2", _RELATIVE),
    "distilbert": Tiny("DistilBERT", "encoder", "DistilBert"),
    "electra": Tiny("ELECTRA", "encoder", "Electra", dict(embedding_size=8)),
    "eurobert": Tiny("EuroBERT", "encoder", "EuroBert", _FIRST_READ),
    "modernbert": Tiny("ModernBERT", "encoder", "ModernBert", _LOCAL),
    "mpnet": Tiny("MPNet", "encoder", "MPNet", dict(ENDS, pad_token_id=1)),
    "roberta": Tiny("RoBERTa", "encoder", "Roberta"),
    "roberta-prelayernorm": Tiny("RoBERTa-PreLayerNorm", "encoder", "RobertaPreLayerNorm"),
    "xlm-roberta": Tiny("XLM-RoBERTa", "encoder", "XLMRoberta", ENDS),
    "xlm-roberta-xl": Tiny("XLM-RoBERTa-XL", "encoder", "XLMRobertaXL"),
    "cohere": Tiny("Cohere, Command R", "decoder", "Cohere", dict(_GROUPED, use_qk_norm=True)),
    "cohere2": Tiny("Cohere 2, Command A", "decoder", "Cohere2", _PATTERN),
    "deepseek_v3": Tiny("DeepSeek V3, R1", "decoder", "DeepseekV3", _LATENT),
    "ernie4_5": Tiny("ERNIE 4.5", "decoder", "Ernie4_5", _GROUPED),
    "exaone4": Tiny(
        "EXAONE 4",
        "decoder",
        "Exaone4",
        dict(_PATTERN, head_dim=4),
    ),
    "gemma": Tiny("Gemma", "decoder", "Gemma", dict(_GROUPED, head_dim=4)),
    "gemma2": Tiny("Gemma 2", "decoder", "Gemma2", _GEMMA),
    "gemma3_text": Tiny("Gemma 3", "decoder", "Gemma3", _GEMMA, config="Gemma3Text"),
    "gemma3": Tiny(
        "Gemma 3, of texts and images",
        "decoder",
        "Gemma3",
        dict(
            text_config=SIZES | TOKENS | _GEMMA,
            vision_config=_PATCHES | dict(num_channels=3),
            image_token_index=39,
            mm_tokens_per_image=4,
        ),
        head="ForConditionalGeneration",
    ),  # fmt: skip
    "glm4": Tiny("GLM-4", "decoder", "Glm4", dict(_GROUPED, head_dim=8)),
    "gpt2": Tiny("GPT-2", "decoder", "GPT2", ENDS, head="LMHeadModel"),
    "gpt_bigcode": Tiny("GPTBigCode, StarCoder", "decoder", "GPTBigCode", ENDS),
    "gpt_bigcode all heads": Tiny(
        "GPTBigCode, StarCoder", "decoder", "GPTBigCode", dict(ENDS, multi_query=False)
    ),
    "gpt_oss": Tiny(
        "GPT-OSS",
        "decoder",
        "GptOss",
        dict(_EXPERTS, head_dim=4, sliding_window=3, swiglu_limit=1.0, rope_parameters=_YARN),
    ),
    "gptj": Tiny("GPT-J", "decoder", "GPTJ", dict(ENDS, rotary_dim=2)),
    "gpt_neox": Tiny("GPT-NeoX, Pythia", "decoder", "GPTNeoX"),
    "gpt_neox sequential": Tiny(
        "GPT-NeoX, Pythia", "decoder", "GPTNeoX", dict(use_parallel_residual=False)
    ),
    "granite": Tiny(
        "Granite",
        "decoder",
        "Granite",
        dict(
            _GROUPED,
            residual_multiplier=0.6,
            embedding_multiplier=3.0,
            attention_multiplier=0.3,
            logits_scaling=2.0,
        ),
    ),
    "hunyuan_v1_dense": Tiny("Hunyuan", "decoder", "HunYuanDenseV1", dict(_GROUPED, head_dim=4)),
    "llama": Tiny("Llama", "decoder", "Llama", _GROUPED),
    "llama4_text": Tiny(
        "Llama 4, texts",
        "decoder",
        "Llama4",
        _CHUNKED | dict(num_local_experts=4),
        config="Llama4Text",
    ),
    "mistral": Tiny("Mistral", "decoder", "Mistral", dict(_GROUPED, sliding_window=3)),
    "mixtral": Tiny(
        "Mixtral", "decoder", "Mixtral", dict(_EXPERTS, num_local_experts=4, sliding_window=3)
    ),
    "modernbert-decoder": Tiny(
        "ModernBERT, decoder",
        "decoder",
        "ModernBertDecoder",
        dict(_LOCAL, num_hidden_layers=3),
    ),
    "olmo2": Tiny("OLMo 2", "decoder", "Olmo2", _GROUPED),
    "olmo3": Tiny("OLMo 3", "decoder", "Olmo3", dict(_GROUPED, sliding_window=3)),
    "olmoe": Tiny("OLMoE", "decoder", "Olmoe", dict(_EXPERTS, norm_topk_prob=True)),
    "olmoe clipped": Tiny("OLMoE", "decoder", "Olmoe", dict(_EXPERTS, clip_qkv=0.7)),
    "opt": Tiny("OPT", "decoder", "OPT", dict(ENDS, ffn_dim=24, word_embed_proj_dim=16)),
    "phi": Tiny("Phi", "decoder", "Phi", _GROUPED),
    "phi3": Tiny("Phi-3, Phi-4", "decoder", "Phi3", _GROUPED),
    "qwen2": Tiny("Qwen 2", "decoder", "Qwen2", _WINDOW),
    "qwen3_5_text": Tiny(
        "Qwen 3.5, full attention alone",
        "decoder",
        "Qwen3_5",
        dict(_GROUPED, head_dim=8, layer_types=["full_attention"] * 3, rope_parameters=_SECTIONS),
        config="Qwen3_5Text",
    ),
    "qwen2_vl": Tiny("Qwen2-VL", "decoder", "Qwen2VL", _QWEN2_VL, head="ForConditionalGeneration"),
    "qwen2_5_vl": Tiny(
        "Qwen2.5-VL", "decoder", "Qwen2_5_VL", _QWEN_VL, head="ForConditionalGeneration"
    ),
    "qwen3_vl": Tiny("Qwen3-VL", "decoder", "Qwen3VL", _QWEN_VL, head="ForConditionalGeneration"),
    "qwen3": Tiny("Qwen 3", "decoder", "Qwen3", dict(_GROUPED, head_dim=4)),
    "qwen3_moe": Tiny(
        "Qwen 3, experts",
        "decoder",
        "Qwen3Moe",
        dict(_EXPERTS, head_dim=4, moe_intermediate_size=8, mlp_only_layers=[0]),
    ),
    "smollm3": Tiny("SmolLM3", "decoder", "SmolLM3", dict(_GROUPED, no_rope_layers=[1, 0, 1])),
    "starcoder2": Tiny("StarCoder2", "decoder", "Starcoder2", dict(_GROUPED, sliding_window=3)),
    "bart": Tiny("BART", "encoder-decoder", "Bart", BART_SIZES),
    "m2m_100": Tiny("M2M100, NLLB", "encoder-decoder", "M2M100", BART_SIZES),
    "marian": Tiny("Marian", "encoder-decoder", "Marian", BART_SIZES, head="MTModel"),
    "mt5": Tiny("mT5", "encoder-decoder", "MT5", _GATED),
    "t5": Tiny("T5", "encoder-decoder", "T5", _T5),
    "t5 gated": Tiny("T5", "encoder-decoder", "T5", _GATED),
    "t5gemma": Tiny("T5Gemma", "encoder-decoder", "T5Gemma", _TWO_GEMMAS),
    "clip": Tiny("CLIP, image classifier", "vision", "CLIP", dict(vision_config=_PATCHES)),
    "clip_vision_model": Tiny(
        "CLIP, image tower",
        "vision",
        "CLIPVision",
        dict(projection_dim=3),
        head="ModelWithProjection",
    ),  # fmt: skip
    "deit": Tiny("DeiT", "vision", "DeiT", dict(image_size=(6, 8))),
    "dinov2": Tiny("DINOv2", "vision", "Dinov2", dict(mlp_ratio=2)),
    "dinov2 swiglu": Tiny("DINOv2", "vision", "Dinov2", dict(use_swiglu_ffn=True)),
    "dinov2_with_registers": Tiny(
        "DINOv2, registers", "vision", "Dinov2WithRegisters", dict(mlp_ratio=2)
    ),
    "ijepa": Tiny("I-JEPA", "vision", "IJepa", dict(image_size=(6, 8))),  # mean, no class token
    "vit": Tiny("ViT", "vision", "ViT", dict(image_size=(6, 8))),
}
ENCODERS, DECODERS, TWO_STACKS, VISION = (
    [name for name, tiny in TINY.items() if tiny.kind == kind] for kind in KINDS
)

# What some configs call the sizes, where they know no other name.
_OWN_NAMES = {
    "DistilBert": {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    },
}


def build(family="bert", *, head=None, biases=True, dtype=torch.float32, attention=None, **options):
    """A random model in evaluation mode; norms and biases are random too.

    `family` is a name in TINY, or the prefix of another encoder's classes.
    """
    torch.manual_seed(7)
    tiny = TINY.get(family) or Tiny(family, "encoder", family)
    own = {**tiny.settings, **options}
    nested = "vision_config" in own  # the sizes of its parts, and none of the whole
    settings = {"num_labels": 3, **own} if nested else {**KINDS[tiny.kind], **own}
    names = _OWN_NAMES.get(tiny.prefix, {})
    settings = {names.get(key, key): value for key, value in settings.items()}
    config = getattr(transformers, f"{tiny.config or tiny.prefix}Config")(**settings)
    if attention is not None:
        config._attn_implementation = attention
    name = tiny.prefix + (head or tiny.head or HEADS[tiny.kind])
    return randomised(getattr(transformers, name)(config), biases).to(dtype).eval()


def randomised(model, biases=True):
    """The model with weights at random, norms and biases too."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and "relative" not in name:
                parameter.normal_(std=0.3 if biases else 0.0)
            elif parameter.ndim == 1:
                parameter.normal_(mean=1.0, std=0.2)
            else:
                parameter.normal_(std=0.35)
    return model


def eager_twin(model):
    """The same weights with attention weights in the open."""
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    return twin
