"""Support of a model: whether and how it can be explained, from its config without weights.

    known family            its tensors, as the tests have measured them
    another family          all tensors, where an entry was found in a tiny random model of it
    no entry was found      af, gf, agf, if its attention runs through transformers' interface
    merging tokens          none: they are not the same from layer to layer
    no attention somewhere  none: linear attention, state space, convolutions
    quantised               none where the backend hands no gradients on

This is a forecast; `capture` checks again when the model runs. Read next: tested_families.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from attnflow.capture.families import FAMILIES, OF_OTHER_PACKAGES, family_name
from attnflow.capture.refusals import layer_types, unconserved, unfit
from attnflow.capture.timm_models import timm_unfit
from attnflow.errors import shown
from attnflow.models import loading
from attnflow.models.literals import InformationTensor, PaperTensor
from attnflow.models.tasks import CLASSIFICATION, TASKS
from attnflow.models.tested_families import (
    SupportedFamily,
    other_families,
    supported_families,
)

_PAPER_TENSORS: tuple[str, ...] = get_args(PaperTensor)

# Layers whose attention has weights, by the names that configs give them.
_WITH_WEIGHTS = ("full_attention", "sliding_attention", "chunked_attention", "attention")


@dataclass(frozen=True)
class Support:
    """The ways in which a model can be explained.

    Attributes:
        model: The name of the model, as it was given.
        architecture: Its class in transformers, or None where the config does not name it.
        model_type: Its family, by transformers' name.
        task: The pipeline of transformers that it is explained for; None where it cannot be.
        tensors: Information tensors that work; none where it cannot be explained.
        reason: The reason, and what to do.
    """

    model: str
    architecture: str | None
    model_type: str
    task: str | None
    tensors: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        what = f"{self.architecture or 'a model'} ({self.model_type})"
        if not self.tensors:
            return f"{self.model}: {what} cannot be explained: {self.reason}"
        tensors = " ".join(self.tensors)
        return f"{self.model}: {what} can be explained for {self.task} by {tensors}: {self.reason}"


def support_of(name: str | Path) -> Support:
    """Return whether and how a model can be explained, by its folder or hub id.

    Raises:
        InputError: The folder holds no model.
        ModelError: There is no such config, or it cannot be read.
    """
    config = loading.config(name)
    architecture = (getattr(config, "architectures", None) or [None])[0]
    family = {row.model_type: row for row in supported_families()}.get(family_name(config))
    task = _task(architecture)
    reason = _refusal(config, architecture, task, family)
    tensors: tuple[str, ...] = ()
    if reason is None:
        tensors, reason = _tensors(config, family)
    return Support(
        str(name), architecture, config.model_type, task if tensors else None, tensors, reason
    )


def _task(architecture: str | None) -> str | None:
    """Name of the model's task, by its class; None where no such class is explained."""
    # As `loading` has it: a checkpoint that names no class is loaded as a classifier.
    task = CLASSIFICATION if architecture is None else loading.task_for(architecture)
    return None if task is None else task.name


def _refusal(
    config: Any, architecture: str | None, task: str | None, family: SupportedFamily | None
) -> str | None:
    """The reason why the model cannot be explained at all; None where it can."""
    if quantised := _quantised(config):
        return quantised
    other = sorted(set(layer_types(config)) - set(_WITH_WEIGHTS))
    model_class = loading.class_of(architecture)
    if reason := unfit(config, getattr(model_class, "main_input_name", "")):
        return reason
    if other or getattr(model_class, "_is_stateful", False):
        return (
            f"it has layers without attention weights ({', '.join(other) or 'state space'}), "
            "through which nothing is known to flow."
        )
    if task is None:
        return (
            f"it is for none of {', '.join(t.name for t in TASKS)}; give a model for one of them."
        )
    if config.model_type in OF_OTHER_PACKAGES:
        return _refusal_of_timm(config)
    if stages := getattr(config, "depths", None):
        return (
            f"it merges tokens from stage to stage (depths = {list(stages)}), so that none of them "
            "is one from the first layer to the last; give one such as ViT, DeiT or DINOv2."
        )
    if getattr(config, "is_encoder_decoder", False) and task != "text2text-generation":
        return (
            f"an encoder-decoder for {task} reads its text twice, once in each stack; give one "
            "that writes (...ForConditionalGeneration)."
        )
    searched = other_families().get(config.model_type)
    is_found = searched is not None and searched.is_found
    if family is None and not is_found and not loading.calls_attention_interface(model_class):
        return (
            "it is of no known family, and computes attention by itself, not through "
            "transformers' attention interface, or has none; `attnflow models` lists families."
        )
    return None


def _refusal_of_timm(config: Any) -> str | None:
    """The reason why a model of timm cannot be explained; None where it can."""
    import torch
    from transformers import TimmWrapperForImageClassification

    try:
        with torch.device("meta"):  # its modules, without numbers
            model = TimmWrapperForImageClassification(config)
    except (ImportError, RuntimeError) as error:  # no timm, or one that knows no such model
        return f"timm cannot make it: {str(error).strip().partition(chr(10))[0]:.200}"
    return timm_unfit(model.timm_model)


def _quantised(config: Any) -> str | None:
    """The reason why gradients do not pass through quantised weights; None where they do."""
    given = getattr(config, "quantization_config", None)
    if given is None:
        return None
    from transformers.quantizers import AutoHfQuantizer

    method = given.get("quant_method") if isinstance(given, dict) else given.quant_method
    try:
        quantizer = AutoHfQuantizer.from_config(given, pre_quantized=True)
    except Exception as error:  # a method that is not known, or whose package is missing
        return (
            f"its weights are quantised by {shown(method)}, of which transformers says: "
            f"{str(error).partition(chr(10))[0]:.200}"
        )
    if quantizer.is_trainable:  # the backend's own word
        return None
    return (
        f"its weights are quantised by {shown(method)}, which hands no gradients on; give the "
        "model that it was made from."
    )


def _tensors(config: Any, family: SupportedFamily | None) -> tuple[tuple[str, ...], str]:
    """The tensors that work, and the reason."""
    if reason := unconserved(config):
        return _PAPER_TENSORS, f"the other tensors are not conserved in it: {reason}."
    if config.model_type in OF_OTHER_PACKAGES:
        return get_args(InformationTensor), "it is a vision transformer of timm."
    if family is None:
        return _tensors_of_other(config.model_type)
    mixer = FAMILIES[family.model_type].mixer
    if mixer is not None and getattr(config, mixer, 0) > 0:
        value = getattr(config, mixer)
        return _PAPER_TENSORS, f"it mixes tokens besides attention ({mixer} = {value})."
    with_images = ""
    if getattr(config, "vision_config", None) is not None and family.kind == "decoder":
        with_images = " With images bcf is refused."
    return (
        family.tensors,
        f"{family.name} is a known family, which the tests run.{with_images}",
    )


def _tensors_of_other(model_type: str) -> tuple[tuple[str, ...], str]:
    """The tensors of a family without an entry, and the reason."""
    other = other_families().get(model_type)
    if other is None:
        return _PAPER_TENSORS, (
            "its family has no entry. The first call looks for one by running the model once: "
            "net, bcf and cf work as well if effects are conserved by it."
        )
    if other.is_found:
        return get_args(InformationTensor), (
            "its family has no entry. One was found in a tiny random model of the family, by "
            "running it once; the first call looks for that of this model, and tests it."
        )
    return _PAPER_TENSORS, (
        "these need its attention alone. Its residual stream was not found in a tiny random model "
        f"of the family: {other.reason}."
    )
