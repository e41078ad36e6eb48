"""What differs between model families, as data.

A family is found by `config.model_type`. The conservative tensor needs to know where the residual
stream x_i enters an attention block and which module gives the block's output o_i, before the two
are added; both are named by a class and a path below it. In some decoders an MLP reads x_i beside
attention, and all three are added: what goes through that MLP stays with its token. Layers are told
apart by the order of calls, never by module, since ALBERT runs one module for all of them.

To add a family, add an entry here and to the tests' models: the conservation test then tells
whether everything non-linear in it is frozen. Read next: capture.py.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from attnflow.errors import ModelError


@dataclass(frozen=True)
class Family:
    """Where one family keeps what a capture needs.

    block          class of the module whose first argument is the residual stream x_i
    output         path inside the block to the module that gives o_i, the block's attention output;
                   of several, apart by |, the first that there is
    probabilities  path inside the block to a module through which the attention weights run, for
                   families that compute attention themselves; None: through transformers' interface
    gates          (class, attribute) of the activation in a gated MLP, or None
    mixer          config entry that, when positive, mixes tokens beside attention, or None
    parallel       path inside the block to an MLP that runs beside attention, or None
    parallel_if    config entry that says whether it does, or None: always
    cross          block and output of cross-attention where they have others than self-attention
    positions      how tokens are numbered: "given" with the inputs; "counted" by the model, padding
                   left out; "relative", from token to token alone; "placed", by place in the tensor
    """

    block: str
    output: str
    probabilities: str | None = None
    gates: tuple[str, str] | None = None
    mixer: str | None = None
    parallel: str | None = None
    parallel_if: str | None = None
    cross: tuple[str, str] | None = None
    positions: str = "given"

    def branch(self, config: Any) -> str | None:
        """`parallel`, if it runs beside attention under this config."""
        beside = self.parallel_if is None or getattr(config, self.parallel_if)
        return self.parallel if beside else None


def _llama_like(name: str, mlp: str | None = None, output: str = "self_attn.o_proj") -> Family:
    """Decoders of Llama's shape: a layer with its own residual stream, and a gated MLP."""
    return Family(f"{name}DecoderLayer", output, gates=(mlp or f"{name}MLP", "act_fn"))


def _t5_like(name: str) -> Family:
    """Encoder-decoders of T5's shape: layers of their own for self-attention and for cross."""
    return Family(
        f"{name}LayerSelfAttention",
        "SelfAttention.o",
        gates=(f"{name}DenseGatedActDense", "act"),
        cross=(f"{name}LayerCrossAttention", "EncDecAttention.o"),
        positions="relative",
    )


FAMILIES: dict[str, Family] = {
    "albert": Family("AlbertAttention", "dense"),
    "bart": Family("BartAttention", "out_proj", positions="placed"),
    "clip": Family("CLIPEncoderLayer", "self_attn.out_proj"),
    "clip_vision_model": Family("CLIPEncoderLayer", "self_attn.out_proj"),
    "bert": Family("BertAttention", "output.dense"),
    "camembert": Family("CamembertAttention", "output.dense", positions="counted"),
    "cohere": Family(
        "CohereDecoderLayer", "self_attn.o_proj", gates=("CohereMLP", "act_fn"), parallel="mlp"
    ),
    "deberta-v2": Family(
        "DebertaV2Attention",
        "output.dense",
        probabilities="self.dropout",
        mixer="conv_kernel_size",
    ),
    # Layers of transformers before and after they were reshaped in version 5.
    "deit": Family("DeiTLayer", "attention.o_proj|attention.output.dense"),
    "dinov2": Family("Dinov2Layer", "layer_scale1", gates=("Dinov2SwiGLUFFN", "act_fn")),
    "dinov2_with_registers": Family(
        "Dinov2WithRegistersLayer", "layer_scale1", gates=("Dinov2WithRegistersSwiGLUFFN", "act_fn")
    ),
    "distilbert": Family("TransformerBlock", "attention.out_lin"),
    "electra": Family("ElectraAttention", "output.dense"),
    "gemma": _llama_like("Gemma"),
    # From its second version on, Gemma norms what attention gives before it is added.
    "gemma2": _llama_like("Gemma2", output="post_attention_layernorm"),
    "gemma3": _llama_like("Gemma3", output="post_attention_layernorm"),
    "gemma3_text": _llama_like("Gemma3", output="post_attention_layernorm"),
    "gpt2": Family("GPT2Block", "attn.c_proj"),
    "gpt_bigcode": Family("GPTBigCodeBlock", "attn.c_proj"),
    "gpt_neox": Family(
        "GPTNeoXLayer", "attention.dense", parallel="mlp", parallel_if="use_parallel_residual"
    ),
    "gptj": Family("GPTJBlock", "attn.out_proj", probabilities="attn.attn_dropout", parallel="mlp"),
    "ijepa": Family("IJepaLayer", "attention.o_proj|attention.output.dense"),
    "llama": _llama_like("Llama"),
    "marian": Family("MarianAttention", "out_proj", positions="placed"),
    "mistral": _llama_like("Mistral"),
    "modernbert": Family("ModernBertEncoderLayer", "attn.Wo", gates=("ModernBertMLP", "act")),
    "mpnet": Family("MPNetAttention", "attn.o", probabilities="attn.dropout", positions="counted"),
    "mt5": _t5_like("MT5"),
    "olmo2": _llama_like("Olmo2", output="post_attention_layernorm"),
    "olmo3": _llama_like("Olmo3", output="post_attention_layernorm"),
    "opt": Family("OPTDecoderLayer", "self_attn.out_proj"),
    "phi": Family("PhiDecoderLayer", "self_attn.dense", parallel="mlp"),
    "phi3": Family("Phi3DecoderLayer", "self_attn.o_proj", gates=("Phi3MLP", "activation_fn")),
    "qwen2": _llama_like("Qwen2"),
    "qwen3": _llama_like("Qwen3"),
    "roberta": Family("RobertaAttention", "output.dense", positions="counted"),
    "roberta-prelayernorm": Family(
        "RobertaPreLayerNormAttention", "output.dense", positions="counted"
    ),
    "smollm3": _llama_like("SmolLM3"),
    "starcoder2": Family("Starcoder2DecoderLayer", "self_attn.o_proj"),
    "t5": _t5_like("T5"),
    "vit": Family("ViTLayer", "attention.o_proj|attention.output.dense"),
    "xlm-roberta": Family("XLMRobertaAttention", "output.dense", positions="counted"),
    "xlm-roberta-xl": Family("XLMRobertaXLAttention", "output.dense", positions="counted"),
}


@dataclass
class ResidualStream:
    """Per layer, in the order of calls, (batch, t, width): x_i, o_i, what a parallel MLP gave."""

    streams: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    branches: list[Tensor] = field(default_factory=list)

    def keep_stream(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        first: Tensor = (*args, *kwargs.values())[0]
        self.streams.append(first.detach())

    def keep_output(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.outputs.append(output)

    def keep_branch(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.branches.append(output.detach())

    @property
    def residual_values(self) -> list[Tensor]:
        """Per layer, the value that reaches every position's own output without attention."""
        if not self.branches:
            return self.streams
        return [x + mlp for x, mlp in zip(self.streams, self.branches, strict=True)]


def family_of(model: PreTrainedModel) -> Family | None:
    """The model's family, or None where only the attention interface can be relied on."""
    return FAMILIES.get(getattr(model.config, "model_type", ""))


def conservative_family(model: PreTrainedModel) -> Family:
    """The model's family if `cf` is conserved in it; else a ModelError with the reason."""
    family, name = family_of(model), type(model).__name__
    if family is None:
        raise ModelError(
            f"the conservative tensors bcf and cf must know where the residual stream of {name} "
            f"runs, and know it of {len(FAMILIES)} other families. `attnflow models` lists them, "
            "and says with --check what works with this model, mostly tensor 'agf', 'gf' or 'af'."
        )
    if family.mixer and getattr(model.config, family.mixer, 0) > 0:
        raise ModelError(
            f"{name} carries information between tokens beside attention ({family.mixer} = "
            f"{getattr(model.config, family.mixer)}), so tensor='cf' would not be conserved. "
            "Use tensor='agf', 'gf' or 'af' for this model."
        )
    return family


def attention_blocks(model: PreTrainedModel, family: Family) -> list[nn.Module]:
    """The modules that the family's blocks name; a ModelError if there are none."""
    names = [family.block, *(family.cross or ())[:1]]
    blocks = [m for m in model.modules() if type(m).__name__ in names]
    if not blocks:
        raise ModelError(
            f"{type(model).__name__} has no {family.block}, which its model_type "
            f"{model.config.model_type!r} has in transformers; was it built by other code?"
        )
    return blocks


def gates(model: PreTrainedModel, family: Family) -> list[nn.Module]:
    """The activation modules whose output multiplies another branch."""
    if family.gates is None:
        return []
    owner, attribute = family.gates
    return [_submodule(m, attribute) for m in model.modules() if type(m).__name__ == owner]


def _submodule(block: nn.Module, paths: str) -> nn.Module:
    """The first of these paths that the block has; a ModelError if it has none."""
    known: dict[str, nn.Module] = dict(block.named_modules())
    found = [known[path] for path in paths.split("|") if path in known]
    if not found:
        raise ModelError(
            f"{type(block).__name__} has no module {paths.replace('|', ' or ')}; is it of another "
            "version of transformers?"
        )
    return found[0]


def watch_residual_stream(
    model: PreTrainedModel, family: Family, stack: ExitStack
) -> ResidualStream:
    """Hook the blocks for one forward pass; the hooks go when `stack` closes."""
    seen, branch = ResidualStream(), family.branch(model.config)
    outputs = dict([(family.block, family.output), *([family.cross] if family.cross else [])])
    for block in attention_blocks(model, family):
        output = _submodule(block, outputs[type(block).__name__])
        stack.enter_context(block.register_forward_pre_hook(seen.keep_stream, with_kwargs=True))
        stack.enter_context(output.register_forward_hook(seen.keep_output))
        if branch is not None:
            mlp = block.get_submodule(branch)
            stack.enter_context(mlp.register_forward_hook(seen.keep_branch))
    return seen
