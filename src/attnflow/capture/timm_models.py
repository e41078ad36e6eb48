"""Vision transformers of the package timm, inside the model of transformers that wraps them.

timm computes attention itself, in fused form where it can. The private copy of a pass turns that
off, so that the weights run through a module (`Family.probabilities`). timm has hundreds of
architectures: which of them keep their tokens from the first block to the last is asked here of the
model itself. Nothing here imports timm. Read next: families.py.
"""

from __future__ import annotations

from typing import Any

_MODELS = (
    "timm.models.vision_transformer.VisionTransformer",
    "timm.models.deit.VisionTransformerDistilled",
    "timm.models.eva.Eva",
    "timm.models.beit.Beit",
)
_BLOCKS = ("Block", "ResPostBlock", "EvaBlock", "EvaBlockPostNorm")
_ATTENTION = ("Attention", "AttentionRope", "EvaAttention")
_EXPECTED = "expected a vision transformer such as vit_*, deit_*, eva*_* or beit*_*."


def timm_unfit(model: Any) -> str | None:
    """Return the reason why a model of timm cannot be explained; None where it can.

    Args:
        model: The model of timm, without what wraps it.
    """
    kind = type(model)
    if f"{kind.__module__}.{kind.__name__}" not in _MODELS:
        return (
            f"{kind.__name__} of timm is not known to keep its tokens from the first layer to the "
            f"last: {_EXPECTED}"
        )
    patches = _class_name(model.patch_embed)
    if patches != "PatchEmbed" or model.patch_embed.dynamic_img_pad:
        return (
            f"{kind.__name__} of timm makes its tokens by {patches}, not each of one patch: "
            f"{_EXPECTED}"
        )
    if getattr(model, "attn_pool", None) is not None:
        return (
            f"{kind.__name__} of timm pools its tokens by attention from a token that is no part "
            "of the image (global_pool='map'): expected one that reads a token or the mean."
        )
    blocks = {_class_name(block) for block in model.blocks} - set(_BLOCKS)
    attention = {_class_name(getattr(block, "attn", None)) for block in model.blocks}
    unknown = sorted(blocks or attention - set(_ATTENTION))
    if unknown:
        return (
            f"{kind.__name__} of timm has layers by {', '.join(unknown)}, in which it is not known "
            f"where attention is added: {_EXPECTED}"
        )
    return None


def timm_size(model: Any) -> tuple[int, int] | None:
    """Return height and width that a model reads; None of a model that is not timm's."""
    inner = getattr(model, "timm_model", None)
    size = getattr(getattr(inner, "patch_embed", None), "img_size", None)
    return None if size is None else (int(size[0]), int(size[1]))


def _class_name(module: object) -> str:
    return type(module).__name__
