"""Models of the package timm: they become the model of transformers that wraps them.

Nothing here imports timm or torchvision: who holds such an object has them.
"""

from typing import Any

import torch
from torch import Tensor

from attnflow.capture.timm_models import timm_unfit
from attnflow.errors import InputError, ModelError

LEVELS = 255  # of a pixel of 8 bits, which a transform divides by


def is_timm_model(given: Any) -> bool:
    """Return whether an object is a model of timm, which nothing wraps."""
    return _is_of(given, "timm.models") and not hasattr(given, "config")


def wrapped(model: Any) -> Any:
    """Return transformers' own wrapper around a model of timm; its weights are the model's.

    Classes have the names of ImageNet where transformers would give them these.

    Raises:
        ModelError: The model cannot be explained.
    """
    from transformers import PreTrainedModel, TimmWrapperConfig, TimmWrapperForImageClassification

    name, architecture = type(model).__name__, getattr(model, "pretrained_cfg", {})
    reason = timm_unfit(model)
    if reason is not None:
        raise ModelError(f"{name} cannot be explained: {reason}")
    if model.num_classes < 1:
        raise ModelError(f"{name} of timm has no classes; create it with num_classes.")
    known = str(architecture.get("architecture") or name)
    stated = {"architecture": known, "num_classes": model.num_classes}
    names = architecture.get("label_names")
    if names is not None and len(names) == model.num_classes:
        stated["label_names"] = names
    own = architecture.get("num_classes") == model.num_classes
    # Given the number of labels, transformers asks no further for names.
    config = TimmWrapperConfig.from_dict(
        {**stated, "num_hidden_layers": len(model.blocks), "name_or_path": known},
        **({} if own else {"num_labels": model.num_classes}),
    )
    # Its own constructor would make another model.
    wrapper = TimmWrapperForImageClassification.__new__(TimmWrapperForImageClassification)
    PreTrainedModel.__init__(wrapper, config)
    wrapper.timm_model, wrapper.num_labels = model, config.num_labels
    wrapper.training = model.training
    return wrapper


def is_transform(given: Any) -> bool:
    """Return whether an object is a transform of torchvision, or of timm."""
    return _is_of(given, "torchvision.transforms") or _is_of(given, "timm.data")


class TransformProcessor:
    """An image processor of transformers' form, made of a transform of torchvision.

    Attributes:
        transform: From an image of Pillow to `(channels, height, width)` floats.
        do_normalize: True where it subtracts a mean.
        image_mean: That mean, one number for each channel; None where there is none.
        image_std: The numbers by which it then divides; None where there are none.
        do_rescale: True: levels of pixels become numbers in 0..1 before that.
        rescale_factor: By which they are multiplied.
    """

    do_rescale = True
    rescale_factor = 1 / LEVELS

    def __init__(self, transform: Any) -> None:
        """Take the transform."""
        self.transform = transform
        steps = getattr(transform, "transforms", [transform])
        normalising = [step for step in steps if type(step).__name__ == "Normalize"]
        self.do_normalize = bool(normalising)
        last = normalising[-1] if normalising else None
        self.image_mean = None if last is None else _numbers(last.mean)
        self.image_std = None if last is None else _numbers(last.std)

    def __call__(self, images: list[Any], return_tensors: str = "pt") -> dict[str, Tensor]:
        """Return `pixel_values`, `(batch, channels, height, width)`, of images of Pillow.

        Raises:
            InputError: The transform gives no tensor of pixels.
        """
        values = [self.transform(image) for image in images]
        if not all(isinstance(value, Tensor) and value.is_floating_point() for value in values):
            raise InputError(
                f"the transform {type(self.transform).__name__} must turn an image of Pillow into "
                f"a tensor of floats, got {type(values[0]).__name__}: give the one that timm makes "
                "for the model (timm.data.create_transform)."
            )
        return {"pixel_values": torch.stack(values)}


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in values]


def _is_of(given: Any, package: str) -> bool:
    """Return whether an object is of a class in a package, without importing it."""
    return any(f"{base.__module__}.".startswith(f"{package}.") for base in type(given).__mro__)
