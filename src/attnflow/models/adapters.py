"""Adapters of PEFT in a folder or on the hub: the base model, with the adapter's layers in it."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnflow.errors import ModelError, needs
from attnflow.models.tasks import TASKS, Task

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
OLD_WEIGHTS = "adapter_model.bin"

# Heads of classifiers, by which an adapter that has trained one tells the number of classes.
_HEADS = ("classifier.weight", "score.weight", "out_proj.weight", "decoder.weight")
_TASKS = {
    "CAUSAL_LM": "text-generation",
    "SEQ_CLS": "text-classification",
    "SEQ_2_SEQ_LM": "text2text-generation",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "FEATURE_EXTRACTION": "sentence-similarity",
}


@dataclass(frozen=True)
class AdapterConfig:
    """The content of an adapter's config that loading needs.

    Attributes:
        base: Folder or hub id of the model that it was trained for.
        revision: Revision of the base on the hub, or None.
        task: The task; None where the config names none, and the base's holds.
    """

    base: str
    revision: str | None
    task: Task | None


def adapter_config(name: str, text: str) -> AdapterConfig:
    """Read an adapter's config.

    Args:
        name: The name of the adapter, for errors.
        text: The content of the file.

    Raises:
        ModelError: The file is broken, or names no base.
    """
    try:
        record = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{CONFIG} of {name!r} cannot be read: {error}.") from error
    base, revision = record.get("base_model_name_or_path"), record.get("revision")
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"the adapter {name!r} names no base model: set base_model_name_or_path in its "
            f"{CONFIG}, or give Explainer a PeftModel."
        )
    wanted = _TASKS.get(str(record.get("task_type")))
    task = next((task for task in TASKS if task.name == wanted), None)
    return AdapterConfig(base, revision if isinstance(revision, str) else None, task)


def saved_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an adapter's weights by their names, from a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def class_count(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return the number of classes of a head that the adapter has trained; None without one."""
    heads = [
        shape
        for name, shape in shapes.items()
        if name.endswith(_HEADS) and ".lora_" not in name and len(shape) == 2
    ]
    return heads[-1][0] if heads else None


def with_adapter(base: Any, name: str, base_name: str, **where: Any) -> Any:
    """Return a base model with an adapter's layers in it.

    Args:
        base: The model.
        name: Folder or hub id of the adapter.
        base_name: The name of the base, for errors.
        where: Keywords that find the adapter's files.

    Raises:
        ModelError: The adapter is for another base, or adds virtual tokens.
        MissingExtraError: PEFT is not installed.
    """
    with needs("adapters need peft", "backends"):
        from peft import PeftModel

    try:
        with warnings.catch_warnings():  # of names that change in packages of others
            warnings.simplefilter("ignore", FutureWarning)
            return PeftModel.from_pretrained(base, name, **where)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"the adapter {name!r} does not fit {base_name!r}, the base that it names: "
            f"{reason:.300} Set base_model_name_or_path in its {CONFIG} to the model that it was "
            "trained on."
        ) from error
