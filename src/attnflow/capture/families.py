"""Model families: the differences between them that a capture needs, as data.

A family is found by `config.model_type`. The conservative tensor needs to know where the residual
stream x_i enters an attention block, and which module gives the block's output o_i before the two
are added. Both are named by a class and a path below it. In some decoders an MLP reads x_i in
parallel with attention, and all three are added: the MLP's output stays with its token. Layers are
told apart by the order of calls, never by module, since ALBERT runs one module for all of them.

CONTRIBUTING.md says in five steps how to add a family: an entry here, a tiny model for the tests,
their run, and its rows in two measured tables. Of the tests the one of conservation shows whether
everything non-linear is frozen. Read next: capture.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import PreTrainedModel

from attnflow.capture.refusals import unconserved
from attnflow.errors import ModelError

# In the place of a path: attention weights are what torch's softmax returns.
SOFTMAX = "torch.softmax"


@dataclass(frozen=True)
class Gate:
    """The activation of a gated MLP, whose output multiplies another branch.

    Attributes:
        owner: Class of the module that has it, an MLP or the experts of a layer; or several,
            separated by |.
        attribute: Its name there; of several, separated by |, the first that exists counts.
    """

    owner: str
    attribute: str


@dataclass(frozen=True)
class Family:
    """Names of the modules and config entries of one family.

    Attributes:
        block: Class of the module whose first argument is the residual stream x_i; or several,
            separated by |.
        output: Path inside the block to the module that gives o_i, the block's attention output;
            of several paths, separated by |, the first that exists counts.
        probabilities: Path inside the block to a module through which the attention weights run, in
            families that compute attention themselves; SOFTMAX: they call torch's function; None:
            they use transformers' interface.
        gates: The activation of a gated MLP, or None.
        plus_one: Class of experts whose gate is GPT-OSS's, (up + 1) * glu, by a method; or None.
        router: Class of the module that chooses each token's experts and weighs them, or None.
        mixer: Config entry that, when positive, mixes tokens outside attention, or None.
        parallel: Path inside the block to an MLP that runs in parallel with attention, or None.
        parallel_if: Config entry that is true where it does; None: always.
        cross: Block, output and stream of cross-attention, where they differ from self-attention's.
        stream: Path inside the block to a module whose first argument is x_i, where the block's own
            is not; "" for the block.
        shares_output: True where the module that gives o_i returns an MLP's output too, later in
            the block (a module that drops paths).
        multiplier: Config entry by which o_i is multiplied before it is added, or the number;
            None: it is added as it is.
        pooler: Class of a pooler that makes its activation anew at each call, after its `dense`, as
            its config's `pooler_hidden_act` names it; None where activations are modules.
        embeddings: Path inside the model to the module that embeds its inputs, where
            `get_input_embeddings` gives none; or None.
        fused: Attribute of attention modules that is true while the weights do not run through
            `probabilities`; or None.
        positions: The numbering of tokens: "given" with the inputs; "counted" by the model, padding
            left out; "relative", by distance between tokens; "placed", by index in the tensor.
    """

    block: str
    output: str
    probabilities: str | None = None
    gates: Gate | None = None
    plus_one: str | None = None
    router: str | None = None
    mixer: str | None = None
    parallel: str | None = None
    parallel_if: str | None = None
    cross: tuple[str, str, str] | None = None
    stream: str = ""
    shares_output: bool = False
    multiplier: str | float | None = None
    pooler: str | None = None
    embeddings: str | None = None
    fused: str | None = None
    positions: str = "given"

    @property
    def sites(self) -> list[tuple[str, str, str]]:
        """Return block, output and stream of self-attention, and of cross-attention."""
        own = (self.block, self.output, self.stream)
        return [own] if self.cross is None else [own, self.cross]

    def factor(self, config: Any) -> float:
        """Return the number by which o_i is multiplied before it is added."""
        if isinstance(self.multiplier, str):
            return float(getattr(config, self.multiplier))
        return 1.0 if self.multiplier is None else self.multiplier

    def branch(self, config: Any) -> str | None:
        """Return `parallel`, if the MLP runs in parallel with attention under this config."""
        is_parallel = self.parallel_if is None or getattr(config, self.parallel_if)
        return self.parallel if is_parallel else None


def _llama_like(name: str, mlp: str | None = None, output: str = "self_attn.o_proj") -> Family:
    """Return a family of decoders of Llama's shape: layers with a gated MLP."""
    return Family(f"{name}DecoderLayer", output, gates=Gate(mlp or f"{name}MLP", "act_fn"))


def _mixture(name: str, owner: str = "{}Experts", router: str = "TopKRouter") -> Family:
    """Return a family of Llama's shape with gated experts, of which a router chooses some."""
    return Family(
        f"{name}DecoderLayer",
        "self_attn.o_proj",
        gates=Gate(owner.format(name), "act_fn"),
        router=f"{name}{router}",
    )


def _t5_like(name: str) -> Family:
    """Return a family of encoder-decoders of T5's shape: a module for each kind of attention."""
    return Family(
        f"{name}LayerSelfAttention",
        "SelfAttention.o",
        gates=Gate(f"{name}DenseGatedActDense", "act"),
        cross=(f"{name}LayerCrossAttention", "EncDecAttention.o", ""),
        positions="relative",
    )


def _pre_norm_writer(name: str, positions: str) -> Family:
    """Return a family of encoder-decoders of BART's shape with norms before attention."""
    return Family(
        f"{name}EncoderLayer|{name}DecoderLayer",
        "self_attn.out_proj",
        stream="self_attn_layer_norm",
        cross=(f"{name}DecoderLayer", "encoder_attn.out_proj", "encoder_attn_layer_norm"),
        positions=positions,
    )


FAMILIES: dict[str, Family] = {
    "albert": Family("AlbertAttention", "dense"),
    "bart": Family("BartAttention", "out_proj", positions="placed"),
    "clip": Family("CLIPEncoderLayer", "self_attn.out_proj"),
    "clip_vision_model": Family("CLIPEncoderLayer", "self_attn.out_proj"),
    "bert": Family("BertAttention", "output.dense"),
    "camembert": Family("CamembertAttention", "output.dense", positions="counted"),
    "cohere2": Family(
        "Cohere2DecoderLayer",
        "self_attn.o_proj",
        gates=Gate("Cohere2MLP", "act_fn"),
        parallel="mlp",
    ),
    "cohere": Family(
        "CohereDecoderLayer", "self_attn.o_proj", gates=Gate("CohereMLP", "act_fn"), parallel="mlp"
    ),
    # Dropout does nothing in evaluation, and is a module through which the weights run.
    "deberta-v2": Family(
        "DebertaV2Attention",
        "output.dense",
        probabilities="self.dropout",
        pooler="ContextPooler",
        mixer="conv_kernel_size",
    ),
    # Vision layers have two paths: transformers 5 moved the module that gives the output.
    "deepseek_v3": _mixture("DeepseekV3", "{0}MLP|{0}Experts", "TopkRouter"),
    "deit": Family("DeiTLayer", "attention.o_proj|attention.output.dense"),
    # Scaled before it is added, DINOv2's attention output is what the scaling gives.
    "dinov2": Family("Dinov2Layer", "layer_scale1", gates=Gate("Dinov2SwiGLUFFN", "act_fn")),
    "dinov2_with_registers": Family(
        "Dinov2WithRegistersLayer",
        "layer_scale1",
        gates=Gate("Dinov2WithRegistersSwiGLUFFN", "act_fn"),
    ),
    "distilbert": Family("TransformerBlock", "attention.out_lin"),
    "electra": Family("ElectraAttention", "output.dense"),
    "ernie4_5": _llama_like("Ernie4_5"),
    "eurobert": _llama_like("EuroBert"),
    "exaone4": _llama_like("Exaone4", output="post_attention_layernorm"),
    "gemma": _llama_like("Gemma"),
    # From its second version on, Gemma normalises attention's output before it is added.
    "gemma2": _llama_like("Gemma2", output="post_attention_layernorm"),
    "gemma3": _llama_like("Gemma3", output="post_attention_layernorm"),
    "gemma3_text": _llama_like("Gemma3", output="post_attention_layernorm"),
    "glm4": Family(
        "Glm4DecoderLayer", "post_self_attn_layernorm", gates=Gate("Glm4MLP", "activation_fn")
    ),
    "gpt2": Family("GPT2Block", "attn.c_proj"),
    "gpt_bigcode": Family("GPTBigCodeBlock", "attn.c_proj"),
    "gpt_neox": Family(
        "GPTNeoXLayer", "attention.dense", parallel="mlp", parallel_if="use_parallel_residual"
    ),
    "gpt_oss": Family(
        "GptOssDecoderLayer",
        "self_attn.o_proj",
        plus_one="GptOssExperts",
        router="GptOssTopKRouter",
    ),
    "gptj": Family("GPTJBlock", "attn.out_proj", probabilities="attn.attn_dropout", parallel="mlp"),
    "granite": Family(
        "GraniteDecoderLayer",
        "self_attn.o_proj",
        gates=Gate("GraniteMLP", "act_fn"),
        multiplier="residual_multiplier",
    ),
    "hunyuan_v1_dense": _llama_like("HunYuanDenseV1"),
    "ijepa": Family("IJepaLayer", "attention.o_proj|attention.output.dense"),
    "llama": _llama_like("Llama"),
    # The scale of a query's scores may depend on its place, in layers without positions.
    "llama4_text": Family(
        "Llama4TextDecoderLayer",
        "self_attn.o_proj",
        gates=Gate("Llama4TextMLP|Llama4TextExperts", "act_fn|activation_fn"),
        router="Llama4Router",
        positions="placed",
    ),
    "m2m_100": _pre_norm_writer("M2M100", positions="counted"),
    "marian": Family("MarianAttention", "out_proj", positions="placed"),
    "mistral": _llama_like("Mistral"),
    "mixtral": _mixture("Mixtral"),
    "modernbert": Family("ModernBertEncoderLayer", "attn.Wo", gates=Gate("ModernBertMLP", "act")),
    "modernbert-decoder": Family(
        "ModernBertDecoderLayer", "attn.Wo", gates=Gate("ModernBertDecoderMLP", "act")
    ),
    "mpnet": Family("MPNetAttention", "attn.o", probabilities="attn.dropout", positions="counted"),
    "mt5": _t5_like("MT5"),
    "olmo2": _llama_like("Olmo2", output="post_attention_layernorm"),
    "olmo3": _llama_like("Olmo3", output="post_attention_layernorm"),
    "olmoe": _mixture("Olmoe"),
    "opt": Family("OPTDecoderLayer", "self_attn.out_proj"),
    "phi": Family("PhiDecoderLayer", "self_attn.dense", parallel="mlp"),
    "phi3": Family("Phi3DecoderLayer", "self_attn.o_proj", gates=Gate("Phi3MLP", "activation_fn")),
    "qwen2": _llama_like("Qwen2"),
    "qwen2_5_vl": _llama_like("Qwen2_5_VL", mlp="Qwen2MLP"),
    "qwen2_vl": _llama_like("Qwen2VL", mlp="Qwen2MLP"),
    # A sigmoid gate, held constant, multiplies what attention gives.
    "qwen3_5_text": _llama_like("Qwen3_5"),
    "qwen3": _llama_like("Qwen3"),
    # Some layers may have an MLP in place of experts.
    "qwen3_moe": _mixture("Qwen3Moe", "{0}MLP|{0}Experts"),
    "qwen3_vl": _llama_like("Qwen3VLText"),
    "roberta": Family("RobertaAttention", "output.dense", positions="counted"),
    "roberta-prelayernorm": Family(
        "RobertaPreLayerNormAttention", "output.dense", positions="counted"
    ),
    "smollm3": _llama_like("SmolLM3"),
    "starcoder2": Family("Starcoder2DecoderLayer", "self_attn.o_proj"),
    "t5": _t5_like("T5"),
    # Its positions are rotations, which know only distances.
    "t5gemma": Family(
        "T5GemmaEncoderLayer|T5GemmaDecoderLayer",
        "post_self_attn_layernorm",
        stream="pre_self_attn_layernorm",
        gates=Gate("T5GemmaMLP", "act_fn"),
        cross=(
            "T5GemmaDecoderLayer",
            "post_cross_attn_layernorm",
            "pre_cross_attn_layernorm",
        ),
        positions="relative",
    ),
    "vit": Family("ViTLayer", "attention.o_proj|attention.output.dense"),
    "xlm-roberta": Family("XLMRobertaAttention", "output.dense", positions="counted"),
    "xlm-roberta-xl": Family("XLMRobertaXLAttention", "output.dense", positions="counted"),
}

# Families of another package, which the tests may lack: they are in no measured table.
OF_OTHER_PACKAGES: dict[str, Family] = {
    # Whatever stands between attention and the stream, a scale or a norm, comes before drop_path1.
    "timm_wrapper": Family(
        "Block|ResPostBlock|EvaBlock|EvaBlockPostNorm",
        "drop_path1",
        probabilities="attn.attn_drop",
        gates=Gate("SwiGLU|GluMlp", "act"),
        embeddings="timm_model.patch_embed",
        fused="fused_attn",
    ),
}


def first_tensor(output: Any) -> Any:
    """Return a module's output, or the first part of several; None where it is no tensor."""
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) else None


@dataclass
class ResidualStream:
    """`(batch, t, width)` of each layer, in the order of calls: x_i, o_i, parallel MLPs' output.

    With a multiplier m of o_i, x_i / m is kept in place of x_i: their sum is the residual stream,
    in units of m.
    """

    multiplier: float = 1.0
    shares_output: bool = False
    streams: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    branches: list[Tensor] = field(default_factory=list)

    def keep_stream(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        # Some models give it by position, others by name.
        first: Tensor = (*args, *kwargs.values())[0]
        x = first.detach()
        self.streams.append(x if self.multiplier == 1.0 else x / self.multiplier)

    def keep_output(self, module: nn.Module, args: Any, output: Any) -> None:
        # Not detached: the backward pass asks for its gradient.
        if not self.shares_output or len(self.outputs) < len(self.streams):
            self.outputs.append(first_tensor(output))

    def keep_branch(self, module: nn.Module, args: Any, output: Tensor) -> None:
        # A copy, since Falcon adds to it in place.
        self.branches.append(output.detach().clone())

    @property
    def residual_values(self) -> list[Tensor]:
        """`(batch, t, width)` of each layer: the part of its output that skips attention."""
        if not self.branches:
            return self.streams
        return [x + mlp for x, mlp in zip(self.streams, self.branches, strict=True)]


# By a model: its entry that was found by running it (family_search.py), or the reason why none was.
_found: WeakKeyDictionary[nn.Module, Family | str] = WeakKeyDictionary()


def remember_family(model: nn.Module, family: Family | str) -> None:
    """Remember the entry that was found for a model of no known family, or why none was."""
    _found[model] = family


def remembered_family(model: nn.Module) -> Family | str | None:
    """Return what was remembered for a model."""
    return _found.get(model)


def share_family(model: nn.Module, copy: nn.Module) -> None:
    """Remember for a copy what is known of the model."""
    if model in _found:
        _found[copy] = _found[model]


def family_of(model: PreTrainedModel) -> Family | None:
    """Return the model's family, or None where only the attention interface is known."""
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    found, name = _found.get(model), family_name(model.config)
    known = FAMILIES.get(name) or OF_OTHER_PACKAGES.get(name)
    return known or (found if isinstance(found, Family) else None)


def family_name(config: Any) -> str:
    """Return the name of a config's family; of a vision-language model's that of its decoder."""
    name: str = getattr(config, "model_type", "")
    is_nested = name not in FAMILIES and hasattr(config, "vision_config")
    text = getattr(config, "text_config", None) if is_nested else None
    return name if text is None else str(text.model_type)


def conservative_family(model: PreTrainedModel) -> Family:
    """Return the model's family.

    Raises:
        ModelError: `cf` is not conserved in the model, for the reason given.
    """
    family, name = family_of(model), type(model).__name__
    unfit = unconserved(model.config)
    if unfit is not None:
        raise ModelError(
            f"net, bcf and cf are not conserved in {name}: {unfit}. Use tensor='agf', 'gf' or "
            "'af' for this model."
        )
    if family is None:
        reason = remembered_family(model)
        raise ModelError(
            reason
            if isinstance(reason, str)
            else f"the tensors net, bcf and cf must know where the residual stream of {name} runs: "
            "call attnflow.find_family(model), which finds it by running the model once, or use "
            "tensor 'agf', 'gf' or 'af'."
        )
    if family.mixer and getattr(model.config, family.mixer, 0) > 0:
        raise ModelError(
            f"{name} carries information between tokens besides attention ({family.mixer} = "
            f"{getattr(model.config, family.mixer)}), so tensor='cf' would not be conserved. "
            "Use tensor='agf', 'gf' or 'af' for this model."
        )
    return family


def attention_blocks(model: PreTrainedModel, family: Family) -> list[nn.Module]:
    """Return the modules of the family's block classes; a ModelError if there are none."""
    names = [name for block, *_ in family.sites for name in block.split("|")]
    blocks = [m for m in model.modules() if type(m).__name__ in names]
    if not blocks:
        raise ModelError(
            f"{type(model).__name__} has no {family.block}, which its model_type "
            f"{model.config.model_type!r} has in transformers; was it built by other code?"
        )
    return blocks


def sites_of(block: nn.Module, family: Family) -> list[tuple[str, str, str]]:
    """Return block, output and stream of each attention in a block."""
    return [site for site in family.sites if type(block).__name__ in site[0].split("|")]


def gates(model: PreTrainedModel, family: Family) -> list[nn.Module]:
    """Return the activation modules whose output multiplies another branch."""
    gate = family.gates
    return (
        [] if gate is None else [_submodule(m, gate.attribute) for m in gated_mlps(model, family)]
    )


def gated_mlps(model: PreTrainedModel, family: Family) -> list[nn.Module]:
    """Return the MLPs and experts in which an activated gate multiplies another branch."""
    if family.gates is None:
        return []
    owners = family.gates.owner.split("|")
    return [m for m in model.modules() if type(m).__name__ in owners]


def plus_one_experts(model: PreTrainedModel, family: Family) -> list[nn.Module]:
    """Return the experts whose gate is GPT-OSS's."""
    return [m for m in model.modules() if type(m).__name__ == family.plus_one]


def routers(model: PreTrainedModel, family: Family) -> list[nn.Module]:
    """Return the modules that choose and weigh experts."""
    return [m for m in model.modules() if type(m).__name__ == family.router]


def poolers(model: PreTrainedModel, family: Family) -> list[nn.Module]:
    """Return the poolers that make their activation at each call."""
    return [m for m in model.modules() if type(m).__name__ == family.pooler]


def show_weights(model: PreTrainedModel, family: Family) -> None:
    """Let attention of a private copy compute its weights in the open, where it is fused."""
    if family.fused is None:
        return
    for module in model.modules():
        if hasattr(module, family.fused):
            setattr(module, family.fused, False)


def _submodule(block: nn.Module, paths: str) -> nn.Module:
    """Return the first of these paths that the block has; a ModelError if it has none."""
    submodules = dict(block.named_modules())
    matches = [submodules[path] for path in paths.split("|") if path in submodules]
    if not matches:
        raise ModelError(
            f"{type(block).__name__} has no module {paths.replace('|', ' or ')}; is it of another "
            "version of transformers?"
        )
    return matches[0]


def watch_residual_stream(model: PreTrainedModel, family: Family) -> ResidualStream:
    """Install hooks in a private copy that record the residual stream of its forward pass."""
    config = model.config.get_text_config()  # the decoder's, in a vision-language model
    stream = ResidualStream(family.factor(config), family.shares_output)
    branch = family.branch(config)
    for block in attention_blocks(model, family):
        for _, output, entry in sites_of(block, family):
            entered = block.get_submodule(entry)
            entered.register_forward_pre_hook(stream.keep_stream, with_kwargs=True)
            _submodule(block, output).register_forward_hook(stream.keep_output)
        if branch is not None:
            block.get_submodule(branch).register_forward_hook(stream.keep_branch)
    return stream
