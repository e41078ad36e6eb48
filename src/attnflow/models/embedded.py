"""The embedded model: a small sentiment classifier, packed to a byte per weight.

A weight matrix is stored as int8 with one float32 scale for each row (the largest magnitude of
the row over 127). That halves float16 again at no measurable loss of accuracy; vectors stay
float32. `load` turns it back into an ordinary float32 model of transformers.

The model card next to the weights tells their origin; `training/` makes them again.
"""

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

EMBEDDED_MODEL = "attnflow/minilm-l6-sst2"
FOLDER = Path(__file__).with_name("embedded_model")
WEIGHTS = "packed.safetensors"


def pack(state: dict[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    """Pack a float state: int8 matrices, each with its `.scale`, and float32 vectors."""
    packed: dict[str, NDArray[Any]] = {}
    for name, tensor in state.items():
        weight = tensor.detach().cpu().numpy()
        if weight.ndim != 2:
            packed[name] = weight
            continue
        # A row of zeros would have a scale of 0, and be divided by it.
        scale = np.maximum(np.abs(weight).max(1, keepdims=True), 1e-12) / 127
        packed[name] = np.round(weight / scale).astype(np.int8)
        packed[name + ".scale"] = scale.astype(np.float32)
    return packed


def unpack(packed: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Return the float32 state that was packed, to half a step of each row's scale."""
    state = {}
    for name, array in packed.items():
        if name.endswith(".scale"):
            continue
        scale = packed.get(name + ".scale")
        tensor = torch.from_numpy(array)
        state[name] = tensor if scale is None else tensor.float() * torch.from_numpy(scale)
    return state


def load() -> tuple[Any, Any]:
    """Load the embedded model in evaluation mode, and its tokenizer; no network is used."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    config = AutoConfig.from_pretrained(FOLDER)
    config.name_or_path = EMBEDDED_MODEL  # the name that an adapter writes down as its base
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced at once
        model = AutoModelForSequenceClassification.from_config(config)
    state = unpack(safetensors.numpy.load_file(FOLDER / WEIGHTS))
    # Assigned, not copied: the weights drawn before are freed at once.
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval(), AutoTokenizer.from_pretrained(FOLDER)
