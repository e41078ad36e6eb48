"""The checkpoint stories260K as a model of transformers: a really trained Llama of 260,000 weights.

The file is llama2.c's: seven int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size,
seq_len) and float32 weights. Its rotary embedding turns neighbouring pairs, that of transformers
the two halves of a head: rows of queries and keys are put in that order. Its tokenizer is a list of
(score, length, bytes), SentencePiece's BPE.
"""

import struct
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

NAMES = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")


def model(folder: Path) -> LlamaForCausalLM:
    data = (folder / "stories260K.bin").read_bytes()
    sizes = dict(zip(NAMES, struct.unpack("7i", data[:28]), strict=True))
    d, layers, vocabulary = sizes["dim"], sizes["n_layers"], abs(sizes["vocab_size"])
    kv = d * sizes["n_kv_heads"] // sizes["n_heads"]
    rest = np.frombuffer(data, np.float32, offset=28)

    def take(*shape):
        nonlocal rest
        count = int(np.prod(shape))
        own, rest = rest[:count], rest[count:]
        return torch.tensor(own.reshape(shape))

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=d,
        intermediate_size=sizes["hidden_dim"],
        num_hidden_layers=layers,
        num_attention_heads=sizes["n_heads"],
        num_key_value_heads=sizes["n_kv_heads"],
        max_position_embeddings=sizes["seq_len"],
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    own = LlamaForCausalLM(config)
    state = {"model.embed_tokens.weight": take(vocabulary, d)}
    each = {
        "input_layernorm": (d,),
        "self_attn.q_proj": (d, d),
        "self_attn.k_proj": (kv, d),
        "self_attn.v_proj": (kv, d),
        "self_attn.o_proj": (d, d),
        "post_attention_layernorm": (d,),
        "mlp.gate_proj": (sizes["hidden_dim"], d),
        "mlp.down_proj": (d, sizes["hidden_dim"]),
        "mlp.up_proj": (sizes["hidden_dim"], d),
    }
    width = d // sizes["n_heads"]
    for name, shape in each.items():
        for layer, weight in enumerate(take(layers, *shape)):
            if name.endswith(("q_proj", "k_proj")):
                weight = weight.view(-1, width // 2, 2, d).transpose(1, 2).reshape(shape)
            state[f"model.layers.{layer}.{name}.weight"] = weight
    state["model.norm.weight"] = take(d)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    own.load_state_dict(state, strict=True)
    return own.eval()


def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    data = (folder / "tok512.bin").read_bytes()
    pieces, at = [], 4
    while at < len(data):
        score, length = struct.unpack("fi", data[at : at + 8])
        pieces.append((score, data[at + 8 : at + 8 + length].decode()))
        at += 8 + length
    names = ["<unk>", "<s>", "</s>", *(name.replace(" ", "▁") for _, name in pieces[3:])]
    ids = {name: i for i, name in enumerate(names)}
    ranked = sorted(range(3, len(names)), key=lambda i: -pieces[i][0])
    merges = [
        (names[i][:cut], names[i][cut:])
        for i in ranked
        for cut in range(1, len(names[i]))
        if pieces[i][0] > -1e6 and names[i][:cut] in ids and names[i][cut:] in ids
    ]
    raw = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
