"""Print the cost of a capture in every family, next to the model's own passes.

    .venv/bin/python benchmarks/captures.py [FAMILY ...]

The tests' random models, made larger: 4 layers of width 256 (2 and 2 in an encoder-decoder), one
example of 128 tokens (96 and 32; images have 121 patches), float32, one thread. The model's own
passes go forward, and backward from one number of the output to the embeddings, with the attention
that it was loaded with. Seconds are processor time, of the fastest run; the runs take turns. Memory
is the peak less what was in use before, each family in a process of its own. The other columns are
those of `attnflow models`. The tables go to docs/families.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable

import support_path  # noqa: F401
import torch
from support.family_measurements import STAGED, images
from support.tiny_models import TINY, build

from attnflow.capture import TENSORS, Objective, capture, staged_capture
from attnflow.capture.objectives import contrast
from attnflow.cli.bench.memory import peak
from attnflow.models.tested_families import SupportedFamily, supported_families

TURNS = 7
COSTS = ("agf", "cf", "bcf")  # af and gf cost what agf does
COLUMNS = ("family", "tensors", "back ends", "padding", "error", "bfloat16", "float16")
COLUMNS += ("own passes", *COSTS, "own memory", *COSTS)
TOKENS, SOURCE = 128, 96
WIDTH, HIDDEN = 256, 1024
_STACK = dict(hidden_size=WIDTH, num_hidden_layers=4, num_attention_heads=8)
_STACK |= dict(intermediate_size=HIDDEN)
_TEXTS = dict(vocab_size=1000, max_position_embeddings=256)
_OWN = {  # sizes with names of their own, and windows
    "albert": dict(embedding_size=128),
    "electra": dict(embedding_size=128),
    "opt": dict(ffn_dim=HIDDEN, word_embed_proj_dim=WIDTH),
    "cohere2": dict(sliding_window=64, sliding_window_pattern=4),
    "deepseek_v3": dict(
        num_key_value_heads=8,
        q_lora_rank=WIDTH // 2,
        kv_lora_rank=WIDTH // 4,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=32,
        moe_intermediate_size=HIDDEN // 4,
    ),
    "exaone4": dict(head_dim=32, sliding_window=64, sliding_window_pattern=4),
    "gemma": dict(head_dim=32),
    "gemma2": dict(head_dim=32, query_pre_attn_scalar=32, sliding_window=64),
    "gemma3_text": dict(head_dim=32, query_pre_attn_scalar=32, sliding_window=64),
    "glm4": dict(head_dim=32),
    "gpt_oss": dict(head_dim=32, sliding_window=64),
    "gptj": dict(rotary_dim=16),
    "hunyuan_v1_dense": dict(head_dim=32),
    "llama4_text": dict(
        head_dim=32,
        attention_chunk_size=64,
        intermediate_size_mlp=HIDDEN,
        no_rope_layers=[1, 1, 1, 0],
        moe_layers=[1, 3],
    ),
    "mistral": dict(sliding_window=64),
    "mixtral": dict(sliding_window=64),
    "modernbert": dict(local_attention=64),
    "modernbert-decoder": dict(local_attention=64),
    "olmo3": dict(sliding_window=64),
    "qwen2": dict(sliding_window=64),
    "qwen3": dict(head_dim=32),
    "qwen3_5_text": dict(head_dim=32, layer_types=["full_attention"] * 4),
    "qwen3_moe": dict(head_dim=32, moe_intermediate_size=HIDDEN // 2),
    "smollm3": dict(no_rope_layers=[1, 1, 1, 0]),
    "starcoder2": dict(sliding_window=64),
    "dinov2": dict(mlp_ratio=4),
}
_T5 = dict(d_model=WIDTH, d_kv=32, d_ff=HIDDEN, num_heads=8, num_layers=2, num_decoder_layers=2)
_BART = dict(d_model=WIDTH, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=HIDDEN)
_BART |= dict(encoder_attention_heads=8, decoder_attention_heads=8, decoder_ffn_dim=HIDDEN)


def larger(family: str) -> dict[str, object]:
    """Return the sizes of a family's model."""
    kind = TINY[family].kind
    if family == "t5gemma":
        stack = _STACK | _TEXTS | dict(num_hidden_layers=2, num_key_value_heads=2, head_dim=32)
        stack |= dict(query_pre_attn_scalar=32, sliding_window=64)
        return _TEXTS | dict(encoder=stack, decoder=stack)
    if kind == "encoder-decoder":
        return _TEXTS | (_BART if family in ("bart", "m2m_100", "marian") else _T5)
    if family == "clip":
        return dict(vision_config=_STACK | dict(image_size=22, patch_size=2))
    if family == "gemma3":
        text = _STACK | _TEXTS | dict(num_key_value_heads=2, head_dim=32, sliding_window=64)
        return dict(text_config=text | dict(query_pre_attn_scalar=32))
    if family in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"):
        text = _STACK | _TEXTS | dict(num_key_value_heads=2, head_dim=32)
        rotary = dict(rope_type="default", rope_theta=10000.0, mrope_section=[8, 4, 4])
        return dict(text_config=text | dict(rope_parameters=rotary))
    if kind == "vision":
        return _STACK | dict(image_size=22) | _OWN.get(family, {})
    return _STACK | _TEXTS | _OWN.get(family, {})


def measure(family: str) -> dict[str, float]:
    """Return processor seconds and peak bytes of the model's own passes and of captures."""
    torch.set_num_threads(1)
    model, kind = build(family, **larger(family)), TINY[family].kind
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 900, (1, TOKENS), generator=generator)
    inputs = {"input_ids": ids}
    if kind == "vision":
        inputs = {"pixel_values": next(iter(images(model)))}
    if kind == "encoder-decoder":
        inputs = {"input_ids": ids[:, :SOURCE], "decoder_input_ids": ids[:, SOURCE:]}
    baseline = torch.zeros_like(inputs.get("pixel_values", ids))
    calls: dict[str, Callable[[], object]] = {
        "own": lambda: own_passes(model, inputs),
        "agf": lambda: capture(model, inputs, Objective(read=last), tensor="agf"),
        "cf": lambda: capture(model, inputs, Objective(read=last), tensor="cf"),
        "bcf": lambda: staged_capture(
            model, inputs, baseline, Objective(scalar=contrast, read=last)
        ),
    }
    costs: dict[str, float] = {}
    for name, call in calls.items():
        call()  # the first time pays for what is kept
        before = peak(reset=True)
        call()
        costs[f"{name} bytes"] = peak() - before
    for _ in range(TURNS):
        for name, call in calls.items():
            started = time.process_time()
            call()
            seconds = time.process_time() - started
            costs[name] = min(seconds, costs.get(name, seconds))
    return costs


def last(output: object) -> torch.Tensor:
    """`(batch, classes)` logits; the last token's where there is a row for each token."""
    logits = getattr(output, "logits", None)
    logits = output.image_embeds if logits is None else logits  # type: ignore[attr-defined]
    return logits if logits.ndim == 2 else logits[:, -1]


def own_passes(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    """Run forward, and backward from the largest number to the embeddings alone."""
    leaves: list[torch.Tensor] = []

    def leaf(module: object, args: object, output: torch.Tensor) -> torch.Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    model.requires_grad_(False)
    stacks = [model]
    if model.config.is_encoder_decoder:
        stacks = [model.get_encoder(), model.get_decoder()]
    stacks = [model.vision_model] if hasattr(model, "vision_model") else stacks
    tables = {id(stack.get_input_embeddings()): stack.get_input_embeddings() for stack in stacks}
    hooks = [table.register_forward_hook(leaf) for table in tables.values()]
    caches = {} if "pixel_values" in inputs else {"use_cache": False}
    value = last(model(**inputs, **caches)).max()
    torch.autograd.grad(value, leaves)
    for hook in hooks:
        hook.remove()


def measure_apart(family: str) -> dict[str, float]:
    """Run `measure` in a process of its own, whose freed arrays go back to the system at once."""
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", family]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    print(f"{platform.machine()}, torch {torch.__version__}, one thread")
    kind = None
    for row in supported_families():
        if args.families and row.model_type not in args.families:
            continue
        if row.kind != kind:
            kind = row.kind
            print(f"\n### {kind.capitalize()}s\n" if kind != "vision" else "\n### Vision\n")
            print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
        print(_line(row), flush=True)


def _line(row: SupportedFamily) -> str:
    costs = measure_apart(row.model_type)
    has_all = row.tensors == (*TENSORS, *STAGED)
    cells = [
        row.name,
        "all" if has_all else " ".join(row.tensors),
        *(" ".join(names) or "none" for names in (row.back_ends, row.padding)),
        *(f"{error:.0e}" for error in (row.error, row.bfloat16, row.float16)),
        f"{1000 * costs['own']:.0f} ms",
        *(f"{costs[name] / costs['own']:.1f}" for name in COSTS),
        f"{costs['own bytes'] / 2**20:.0f} MiB",
        *(f"{costs[f'{name} bytes'] / costs['own bytes']:.1f}" for name in COSTS),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
