"""Pooling: a model's last hidden states become the embedding of a text, one vector.

Sentence-transformers names the pooling in files next to the weights. Without such files it is the
mean over the tokens, as in most such models.
Source: Reimers & Gurevych (2019), and the format of their library.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from attnflow.capture.half_precision import float32_activations
from attnflow.capture.model_errors import as_model_errors
from attnflow.capture.placement import device_of
from attnflow.checks import check_name
from attnflow.errors import ModelError, shown

POOLINGS = ("mean", "cls", "last")
MODULES, CONFIG = "modules.json", "config.json"
# A cosine is the same with and without the last.
MODULE_TYPES = ("Transformer", "Pooling", "Normalize")
# By the names of sentence-transformers: of its objects, and of older files.
_NAMED = {"mean": "mean", "mean_sqrt_len_tokens": "mean", "cls": "cls", "lasttoken": "last"}
MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean",  # another length, the same direction
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


def check_pooling(pooling: str) -> str:
    """Return the name of a pooling.

    Raises:
        InputError: There is no pooling of that name.
    """
    check_name("pooling", pooling, POOLINGS)
    return pooling


def pooling_named(mode: str) -> str:
    """Return the pooling that sentence-transformers calls so.

    Raises:
        ModelError: It is of another kind.
    """
    if mode not in _NAMED:
        raise ModelError(
            f"the model pools by {shown(mode)}: expected one of {', '.join(_NAMED)}. Or name the "
            "pooling yourself (pooling=)."
        )
    return _NAMED[mode]


def pooling_file(name: str, modules: str) -> str:
    """Return the path, within the model, of the file that names its pooling.

    Args:
        name: The name of the model, for errors.
        modules: Content of its `modules.json`.

    Raises:
        ModelError: The model embeds by something else than a Transformer and pooling.
    """
    try:
        paths = {str(m["type"]).rpartition(".")[2]: str(m["path"]) for m in json.loads(modules)}
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{MODULES} of model {name!r} cannot be read: {error!r}.") from error
    unknown = [kind for kind in paths if kind not in MODULE_TYPES]
    if unknown or "Pooling" not in paths:
        raise ModelError(
            f"model {name!r} embeds by {', '.join(paths)}: expected "
            f"{', '.join(MODULE_TYPES)} alone."
        )
    return f"{paths['Pooling']}/{CONFIG}"


def pooling_of(name: str, record: str) -> str:
    """Return the pooling that such a file names, one of `POOLINGS`.

    Args:
        name: The name of the model, for errors.
        record: Content of the file.

    Raises:
        ModelError: The model pools in a way that is not known here.
    """
    try:
        modes = dict(json.loads(record))
    except (ValueError, TypeError) as error:
        raise ModelError(f"the pooling of model {name!r} cannot be read: {error!r}.") from error
    if isinstance(modes.get("pooling_mode"), str):
        return pooling_named(modes["pooling_mode"])
    chosen = [
        mode for mode, is_on in modes.items() if mode.startswith("pooling_mode") and is_on is True
    ]
    # Several at once are joined to one longer vector, which no pooling here gives.
    if len(chosen) != 1 or chosen[0] not in MODES:
        raise ModelError(
            f"model {name!r} pools by {', '.join(chosen) or 'nothing that is known'}: expected one "
            f"of {', '.join(MODES)}. Or name it yourself (pooling=)."
        )
    return MODES[chosen[0]]


def pooled(pooling: str, inputs: Mapping[str, Tensor]) -> Callable[[Any], Tensor]:
    """Return a function from the model's output for these inputs to embeddings `(batch, d)`."""
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
    """`(batch, d)` embeddings of length 1, detached.

    Raises:
        ModelError: The model does not take the inputs.
    """
    device = device_of(model)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        float32_activations(model),
        torch.autocast(device.type, enabled=False),
        as_model_errors(model),
    ):
        vectors = pooled(pooling, inputs)(model(**inputs, return_dict=True))
        return torch.nn.functional.normalize(vectors)
