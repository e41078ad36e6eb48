"""Information flow routes: how near each part of a sum comes to the sum, for the node that is read.

In each layer the residual stream of that node is the sum of its own vector and of a vector from
each head and key, A[h, i, j] W_O v[h, j]. A part counts by its L1 proximity to the sum,
relu(|sum|_1 - |sum - part|_1), as a share of all parts. Sources: Ferrando & Voita (EMNLP 2024,
arXiv 2403.00824), with `routes/contributions.py` of their llm-transparency-tool; the sum over
layers in one hop is the baseline IFR of FlashTrace (arXiv 2602.01914), `flashtrace/core.py`. Read
next: `decomposition`, for proximity.
"""

import torch
from torch import Tensor

from attnflow.capture.attention_parts import IMPLEMENTATION, AttentionCall, attention_parts
from attnflow.capture.families import FAMILIES, family_of, watch_residual_stream
from attnflow.capture.private_copy import private_copy
from attnflow.errors import ModelError
from attnflow.methods.adapter import Scores
from attnflow.methods.attention import as_scores, readout_row
from attnflow.methods.decomposition import proximity
from attnflow.methods.instance import Instance

ROUNDING = 1e-2  # the largest part of a vector that the sum of its parts may miss


def information_flow_routes(instance: Instance) -> Scores:
    """Sum over layers of what each token contributes to the node that is read, in one hop."""
    return as_scores(contributions(instance, readout_row(instance))[0].sum(0))


@torch.no_grad()
def contributions(instance: Instance, row: int) -> tuple[Tensor, Tensor]:
    """Contributions to node `row`, of tokens `(layers, t)` and of its residual stream `(layers,)`.

    Those of a layer add up to 1. Where an MLP runs in parallel with attention, it is no part.

    Raises:
        ModelError: The model's attention or its residual stream cannot be watched.
    """
    model = instance.adapter.model
    family, name = family_of(model), type(model).__name__
    if family is None:
        raise ModelError(
            f"this method must know where the residual stream of {name} runs, and knows it of "
            f"{len(FAMILIES)} other families, which `attnflow models` lists: use "
            "gradient-x-input, occlusion or agf:flow instead."
        )
    inputs = instance.adapter.inputs_at(instance.point)
    model = private_copy(model, IMPLEMENTATION)
    stream = watch_residual_stream(model, family)
    with attention_parts(model, row) as calls:
        model(**inputs)
    if len(calls) != len(stream.outputs):
        raise ModelError(
            f"{name} computes attention by itself, where this method cannot see the values: use "
            f"{instance.adapter.instead} instead."
        )
    layers = zip(calls, stream.streams, stream.outputs, strict=True)
    shares = [_shares(call, x[0, row], output[0, row]) for call, x, output in layers]
    tokens, residual = zip(*shares, strict=True)
    return torch.stack(tokens).cpu(), torch.stack(residual).cpu()


def _shares(call: AttentionCall, x: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Contributions of tokens `(t,)` and of the residual stream in one layer, of sum 1."""
    projected = call.output
    # A norm or a scale after the projection multiplies each number; held constant, as all norms.
    gain = torch.where(projected == 0, 0.0, output / torch.where(projected == 0, 1.0, projected))
    total, missing = (x + output)[None], output.clone()
    edges = torch.zeros_like(call.weights[0])
    for vectors in call.from_heads():
        parts = vectors * gain
        edges += proximity(total, parts[None])[0]
        missing -= parts.sum(0)
    missing -= call.bias * gain
    if missing.norm() > ROUNDING * output.norm():
        raise ModelError(
            "attention's output is not the sum of what heads and keys bring, as this method needs: "
            "use gradient-x-input or net:flow instead."
        )
    bypass = proximity(total, x[None, None])[0, 0]
    # Where no part is near the sum all contributions stay 0, and are not NaN.
    whole = (edges.sum() + bypass).clamp(min=1e-12)
    return edges / whole, bypass / whole
