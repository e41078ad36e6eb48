"""Tiny random classifiers of every family, and batches for them. No hub is needed."""

import copy
import itertools

import pytest
import torch
import transformers

_SIZES = dict(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=32,
    num_labels=3,
    pad_token_id=0,
)
_LOCAL = dict(  # two of three layers see one token to either side
    global_attn_every_n_layers=3,
    local_attention=2,
    bos_token_id=1,
    eos_token_id=2,
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
CLASSES = {
    "bert": ("Bert", {}),
    "roberta": ("Roberta", {}),
    "distilbert": ("DistilBert", {}),
    "albert": ("Albert", dict(embedding_size=8, hidden_act="gelu_new")),
    "electra": ("Electra", dict(embedding_size=8)),
    "deberta-v2": ("DebertaV2", _RELATIVE),
    "modernbert": ("ModernBert", _LOCAL),
}
_DISTIL = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
}


def build_model(family="bert", *, biases=True, dtype=torch.float32, attention=None, **options):
    """A random classifier in evaluation mode; norms and biases are random too."""
    torch.manual_seed(7)
    prefix, own = CLASSES.get(family, (family, {}))
    settings = {**_SIZES, **own, **options}
    if family == "distilbert":
        settings = {_DISTIL.get(key, key): value for key, value in settings.items()}
    config = getattr(transformers, f"{prefix}Config")(**settings)
    if attention is not None:
        config._attn_implementation = attention
    model = getattr(transformers, f"{prefix}ForSequenceClassification")(config)
    return _randomised(model, biases).to(dtype).eval()


_GROUPED = dict(num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
_GEMMA = dict(_GROUPED, head_dim=4, query_pre_attn_scalar=4, sliding_window=3)
DECODERS = {
    "gpt2": ("GPT2", dict(bos_token_id=1, eos_token_id=2)),
    "gpt_neox": ("GPTNeoX", {}),
    "gpt_neox sequential": ("GPTNeoX", dict(use_parallel_residual=False)),
    "opt": ("OPT", dict(ffn_dim=24, word_embed_proj_dim=16, bos_token_id=1, eos_token_id=2)),
    "llama": ("Llama", _GROUPED),
    "mistral": ("Mistral", dict(_GROUPED, sliding_window=3)),
    "qwen2": ("Qwen2", dict(_GROUPED, use_sliding_window=True, sliding_window=3)),
    "qwen3": ("Qwen3", dict(_GROUPED, head_dim=4)),
    "gemma2": ("Gemma2", _GEMMA),
    "gemma3_text": ("Gemma3Text", _GEMMA),
    "phi": ("Phi", dict(_GROUPED)),
    "phi3": ("Phi3", dict(_GROUPED)),
}
_LM_HEADS = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM"}


def build_decoder(family, *, biases=True, dtype=torch.float32, attention=None, **options):
    """A random causal language model in evaluation mode."""
    torch.manual_seed(7)
    prefix, own = DECODERS[family]
    settings = {**_SIZES, **own, **options}
    config = getattr(transformers, f"{prefix}Config")(**settings)
    if attention is not None:
        config._attn_implementation = attention
    name = _LM_HEADS.get(prefix, f"{prefix}ForCausalLM")
    return _randomised(getattr(transformers, name)(config), biases).to(dtype).eval()


_TWO_STACKS = {
    "bart": "BartForConditionalGeneration",
    "marian": "MarianMTModel",
    "t5": "T5ForConditionalGeneration",
    "t5 gated": "T5ForConditionalGeneration",
}


def build_two_stacks(family, *, biases=True, dtype=torch.float32, attention=None, **options):
    """A random encoder-decoder: two layers of the encoder, three of the decoder."""
    torch.manual_seed(7)
    settings = dict(vocab_size=40, pad_token_id=0, eos_token_id=2, decoder_start_token_id=1)
    if family.startswith("t5"):
        settings |= dict(d_model=16, d_kv=4, d_ff=24, num_heads=4, num_layers=2)
        settings |= dict(num_decoder_layers=3, relative_attention_num_buckets=4)
        settings |= dict(feed_forward_proj="gated-gelu" if "gated" in family else "relu")
    else:
        settings |= dict(d_model=16, encoder_layers=2, decoder_layers=3, bos_token_id=1)
        settings |= dict(encoder_attention_heads=4, decoder_attention_heads=4)
        settings |= dict(encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=32)
        settings |= dict(forced_eos_token_id=None)
    name = _TWO_STACKS[family]
    kind = {"bart": "Bart", "marian": "Marian"}.get(family, "T5")
    config = getattr(transformers, f"{kind}Config")(**{**settings, **options})
    if attention is not None:
        config._attn_implementation = attention
    return _randomised(getattr(transformers, name)(config), biases).to(dtype).eval()


_VISION = {
    "vit": ("ViTForImageClassification", {}),
    "deit": ("DeiTForImageClassification", {}),
    "dinov2": ("Dinov2ForImageClassification", dict(mlp_ratio=2)),
    "dinov2 swiglu": ("Dinov2ForImageClassification", dict(use_swiglu_ffn=True)),
    "clip_vision_model": ("CLIPVisionModelWithProjection", dict(projection_dim=3)),
}


def build_vision(family, *, biases=True, dtype=torch.float32, attention=None, **options):
    """A random image model: 3 x 4 patches of 2 x 2 pixels, or 4 x 4 where images are square."""
    torch.manual_seed(7)
    settings = {k: v for k, v in _SIZES.items() if k not in _OF_TEXTS}
    name, own = _VISION[family]
    size = (6, 8) if family in ("vit", "deit") else 8
    settings |= dict(image_size=size, patch_size=2, num_channels=3, **own)
    kind = name.split("For")[0].split("Model")[0]
    config = getattr(transformers, f"{kind}Config")(**{**settings, **options})
    if attention is not None:
        config._attn_implementation = attention
    return _randomised(getattr(transformers, name)(config), biases).to(dtype).eval()


_OF_TEXTS = ("vocab_size", "max_position_embeddings", "pad_token_id")


def _randomised(model, biases):
    """Weights at random, norms and biases too."""
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


def padded_batch(side="right", lengths=(9, 6, 2), seed=3):
    """Random token ids with padding on one side."""
    generator = torch.Generator().manual_seed(seed)
    t = max(lengths)
    ids = torch.randint(3, 40, (len(lengths), t), generator=generator)
    places = torch.arange(t).expand(len(lengths), t)
    length = torch.tensor(lengths)[:, None]
    mask = places < length if side == "right" else places >= t - length
    return {"input_ids": ids * mask, "attention_mask": mask.long()}


def state_of(model):
    """Everything that a capture lends or touches, for comparison before and after."""
    modules = dict(model.named_modules())
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_forward_hooks_with_kwargs",
    )
    return {
        "attention": [
            m.config._attn_implementation for m in modules.values() if "config" in vars(m)
        ],
        "hooks": {
            (name, kind): list(getattr(m, kind))
            for (name, m), kind in itertools.product(modules.items(), hooks)
        },
        "global hooks": len(torch.nn.modules.module._global_forward_hooks),
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [p.grad is None for p in model.parameters()],
        "training": [m.training for m in modules.values()],
        "weights": [(id(p), p._version) for p in model.parameters()],
        "config": model.config.to_dict(),
        "modes": torch.overrides._len_torch_function_stack(),
        "grad mode": torch.is_grad_enabled(),
    }


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def build():
    return build_model


@pytest.fixture
def decoder():
    return build_decoder


@pytest.fixture
def two_stacks():
    return build_two_stacks


@pytest.fixture
def vision():
    return build_vision


@pytest.fixture(params=list(_VISION))
def vision_family(request):
    return request.param


@pytest.fixture
def eager():
    return eager_twin


@pytest.fixture
def batch():
    return padded_batch


@pytest.fixture
def state():
    return state_of


@pytest.fixture(params=list(CLASSES))
def family(request):
    return request.param


@pytest.fixture(params=list(DECODERS))
def decoder_family(request):
    return request.param


@pytest.fixture(params=list(_TWO_STACKS))
def two_stack_family(request):
    return request.param
