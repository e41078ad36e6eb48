"""Embeddings of whole texts: how a model's last hidden states become one vector.

Sentence-transformers writes that beside the weights, in `1_Pooling/config.json`. Without such a
file it is the mean over the tokens, as most such models have it.
Source: Reimers & Gurevych (2019), and the format of their library.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnflow.errors import InputError, ModelError

POOLINGS = ("mean", "cls", "last")
FILE = "1_Pooling/config.json"
MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


def check_pooling(pooling: str) -> str:
    """The name of a pooling.

    Raises:
        InputError: There is none of that name.
    """
    if pooling not in POOLINGS:
        raise InputError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}.")
    return pooling


def pooling_of(name: str | Path, modules: str | None, record: str | None) -> str:
    """What sentence-transformers' files say of a model's pooling; "mean" where they say nothing.

    Args:
        name: Of the model, for errors.
        modules: The file `modules.json`, None where there is none.
        record: The file `FILE`, None where there is none.

    Raises:
        ModelError: It pools in a way that is not known here, or embeds by more than pooling.
    """
    if modules is not None:
        kinds = [str(m["type"]) for m in json.loads(Path(modules).read_text(encoding="utf-8"))]
        if any(kind.endswith(".Dense") for kind in kinds):
            raise ModelError(
                f"model {str(name)!r} sends its embedding through a layer behind the Transformer "
                "(Dense), which is not explained: expected pooling alone."
            )
    if record is None:
        return "mean"
    modes: dict[str, Any] = json.loads(Path(record).read_text(encoding="utf-8"))
    chosen = [mode for mode, on in modes.items() if mode.startswith("pooling_mode") and on is True]
    if len(chosen) != 1 or chosen[0] not in MODES:
        raise ModelError(
            f"model {str(name)!r} pools by {', '.join(chosen) or 'nothing'}: expected one of "
            f"{', '.join(MODES)}."
        )
    return MODES[chosen[0]]


def pooled(pooling: str, inputs: Mapping[str, Tensor]) -> Callable[[Any], Tensor]:
    """What makes embeddings `(batch, d)` of the output for these inputs."""
    mask = inputs["attention_mask"] != 0

    def pool(output: Any) -> Tensor:
        states: Tensor = output.last_hidden_state
        if pooling == "cls":
            return states[:, 0]
        if pooling == "last":
            last = mask.sum(1) - 1  # padding is on the right
            return states[torch.arange(len(states), device=states.device), last]
        counted = mask.to(states)[:, :, None]
        return (states * counted).sum(1) / counted.sum(1)

    return pool


def embeddings(model: Any, pooling: str, inputs: Mapping[str, Tensor]) -> Tensor:
    """`(batch, d)` embeddings of length 1, detached."""
    with torch.no_grad():
        found = pooled(pooling, inputs)(model(**inputs, return_dict=True))
        return torch.nn.functional.normalize(found)
