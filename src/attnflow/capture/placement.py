"""Devices of a model's weights."""

from typing import Any

import torch
from torch import nn

from attnflow.errors import ModelError


def device_of(model: nn.Module) -> torch.device:
    """Return the device on which a model takes its inputs.

    A model whose layers lie on several devices, or partly on disk (`device_map`), moves what its
    layers read by itself, and gives its output on the device of its inputs.
    """
    devices = (parameter.device for parameter in model.parameters())
    return next((device for device in devices if device.type != "meta"), torch.device("cpu"))


def check_devices(model: Any) -> None:
    """Check that a model's weights are where a pass finds them.

    Raises:
        ModelError: They lie on several devices, or nowhere, and no `device_map` moves them.
    """
    if getattr(model, "hf_device_map", None):
        return
    name = type(model).__name__
    # Buffers too: one on another device would fail in the middle of a pass.
    devices = {str(w.device) for w in (*model.parameters(), *model.buffers())}
    if "meta" in devices:
        raise ModelError(
            f"{name} has weights on the meta device, that is, none; load its weights with "
            "from_pretrained, which with a device_map also fetches those that lie elsewhere."
        )
    if len(devices) != 1:
        raise ModelError(
            f"{name} must lie on one device, not on {', '.join(sorted(devices)) or 'none'}; move "
            "it with model.to(device), or load it with a device_map."
        )
