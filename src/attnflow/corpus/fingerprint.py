"""The fingerprint of a run: everything that changes results, so that two runs are never mixed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from attnflow.capture.weights import precision_of
from attnflow.corpus.columns import Columns
from attnflow.corpus.schema import SCHEMA_VERSION
from attnflow.errors import InputError, ModelError, shown
from attnflow.explainer.explainer import Explainer
from attnflow.explainer.options import CallOptions
from attnflow.versions import installed_versions

LIBRARIES = ("attnflow", "torch", "transformers", "numpy")
# Of a call's options these change nothing but time and memory, as long as memory suffices.
HARMLESS = ("max_memory",)
NAME_OF_MODEL = ("_name_or_path", "name_or_path", "transformers_version")


def describe_model(explainer: Explainer) -> dict[str, Any]:
    """Return what identifies a model: hashes of its weights, config and tokenizer.

    Raises:
        ModelError: Its weights are not in memory.
    """
    model = explainer.model
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    return {
        "class": type(model).__name__,
        "weights": _hash_of_weights(model),
        "config": _digest(_config_of(model)),
        "tokenizer": _digest(_tokenizer_of(explainer.tokenizer)),
        "precision": precision_of(model),
        "device": device.type,
        "pooling": explainer.pooling,
    }


def fingerprint_of(
    model: Mapping[str, Any],
    columns: Columns,
    options: CallOptions,
    reading: Mapping[str, Any],
    shard_rows: int,
) -> dict[str, Any]:
    """Return the fingerprint of a run, for JSON.

    Args:
        model: What `describe_model` returned.
        columns: Which column of the source is what.
        options: The options of the explanations.
        reading: Those of reading: target, pair, truncate ...
        shard_rows: Rows of a shard, which batches are formed of.
    """
    named = {name: value for name, value in asdict(options).items() if name not in HARMLESS}
    whole = {
        "schema": SCHEMA_VERSION,
        "model": dict(model),
        "options": {**named, **reading},
        "columns": columns.to_dict(),
        "shard_rows": shard_rows,
        "versions": installed_versions(LIBRARIES),
    }
    # By way of JSON, so that tuples are lists, as in the file that it is compared with.
    return json.loads(json.dumps(whole, default=str))


def check_same(before: Any, now: Mapping[str, Any], folder: str) -> None:
    """Check that a folder's fingerprint is that of this run.

    Raises:
        InputError: They differ; all differences are named.
    """
    if not isinstance(before, Mapping):
        raise InputError(f"{folder} has a manifest without a fingerprint: name another folder.")
    different = _differences(before, now)
    if different:
        raise InputError(
            f"{folder} holds results of another run: {'; '.join(different)}. Name another folder, "
            "or give the same options."
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], about: str = "") -> list[str]:
    found = []
    for key in dict.fromkeys((*before, *now)):
        one, other = before.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differences(one, other, f"{about}{key} ")
        elif one != other:
            found.append(f"{about}{key} was {shown(one)} and is {shown(other)}")
    return found


def _hash_of_weights(model: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        if not isinstance(value, torch.Tensor):
            digest.update(repr(value).encode())
            continue
        if value.device.type == "meta":
            raise ModelError(
                "the model's weights are on disk, so that it cannot be told from another: load it "
                "into memory, without a device map."
            )
        whole = value.detach().cpu().contiguous()
        digest.update(f"{whole.dtype}{tuple(whole.shape)}".encode())
        digest.update(whole.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _config_of(model: Any) -> str:
    config = model.config.to_dict()
    return json.dumps(_without_names(config), sort_keys=True, default=str)


def _without_names(value: Any) -> Any:
    """A config without the names of its files, which tell nothing about the model."""
    if isinstance(value, dict):
        return {k: _without_names(v) for k, v in value.items() if k not in NAME_OF_MODEL}
    return list(map(_without_names, value)) if isinstance(value, list) else value


def _tokenizer_of(tokenizer: Any) -> str:
    if tokenizer is None:
        return ""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    # Truncation and padding are set by calls, and are no part of what the tokenizer is.
    whole = json.loads(fast.to_str()) if fast is not None else tokenizer.get_vocab()
    if fast is not None:
        whole = {k: v for k, v in whole.items() if k not in ("truncation", "padding")}
    template = getattr(tokenizer, "chat_template", None)
    special: Sequence[str] = getattr(tokenizer, "all_special_tokens", ())
    return json.dumps([whole, template, list(special)], sort_keys=True, default=str)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
