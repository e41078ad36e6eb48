"""Run a model forward and backward once: attention and its gradients, one tensor per layer."""

from attnflow.capture.capture import Asked, Capture, capture, captures
from attnflow.capture.checks import TENSORS
from attnflow.capture.edges import only_edges
from attnflow.capture.families import FAMILIES
from attnflow.capture.layers import balanced
from attnflow.capture.removal import patch_sides
from attnflow.capture.stages import REMOVED, largest, staged_capture, whole_units

__all__ = [
    "FAMILIES",
    "REMOVED",
    "TENSORS",
    "Asked",
    "Capture",
    "balanced",
    "capture",
    "captures",
    "largest",
    "only_edges",
    "patch_sides",
    "staged_capture",
    "whole_units",
]
