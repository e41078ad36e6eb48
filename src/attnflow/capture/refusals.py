"""Models that are refused by name, with the reason, before they run.

A reason is the rest of a sentence about the model. `unfit` is about every tensor; `unconserved`
about `cf` and what is made of it. What shows only in a pass is refused in passes.py. Read next:
validation.py.
"""

from __future__ import annotations

from typing import Any

# Kinds of layers, by the names that configs give them, in which some or all of what passes between
# tokens has no attention weights.
WITHOUT_WEIGHTS = ("linear_attention", "mamba", "conv", "moe", "hybrid", "hybrid_sliding")

# What the main input of a model is, by transformers' name for it.
_UNNAMED = {
    "input_features": "sound",
    "input_values": "sound",
    "pixel_values_videos": "videos",
    "flattened_patches": "images cut into patches by its processor",
}

_UNFIT = {
    "t5gemma2": (
        "its decoder attends to its own tokens and to the source's in one softmax, so that there "
        "is no layer of either alone: expected an encoder-decoder with cross-attention of its own, "
        "such as T5Gemma."
    ),
}

_ALTUP = (
    "it carries four streams for each token, which every layer mixes (AltUp), adds embeddings in "
    "every layer, and reads keys and values of earlier layers in its last ones, so that there is "
    "no one residual stream that attention adds to"
)
_UNCONSERVED = {"gemma3n": _ALTUP, "gemma3n_text": _ALTUP}


def unfit(config: Any, main_input: str) -> str | None:
    """Return the reason why no tensor of a model can be captured; None where none is known.

    Args:
        config: The model's config.
        main_input: `main_input_name` of its class.
    """
    if main_input in _UNNAMED:
        return (
            f"it reads {_UNNAMED[main_input]} ({main_input}), whose parts have no names that a "
            "result could show: expected a model that reads texts, or images as pixel_values."
        )
    without = layers_without_weights(config)
    if without:
        return (
            f"it has layers without attention weights ({', '.join(without)}), through which "
            "nothing is known to flow."
        )
    return _UNFIT.get(getattr(config, "model_type", ""))


def layers_without_weights(config: Any) -> list[str]:
    """Return the kinds of a model's layers that have no attention weights, sorted."""
    return sorted(set(layer_types(config)) & set(WITHOUT_WEIGHTS))


def layer_types(config: Any) -> list[str]:
    """Return the kinds of a model's layers, where the config tells them apart."""
    read = getattr(config, "get_text_config", lambda: config)
    return getattr(read(), "layer_types", None) or []


def unconserved(config: Any) -> str | None:
    """Return the reason why `cf` is not conserved in a model; None where none is known."""
    return _UNCONSERVED.get(getattr(config, "model_type", ""))
