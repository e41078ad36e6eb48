"""Run a model forward and backward once: attention and its gradients, one tensor per layer."""

from attnflow.capture.capture import Capture, capture
from attnflow.capture.checks import TENSORS
from attnflow.capture.edges import only_edges
from attnflow.capture.stages import REMOVED, balanced, largest, staged_capture, whole_units

__all__ = [
    "REMOVED",
    "TENSORS",
    "Capture",
    "balanced",
    "capture",
    "largest",
    "only_edges",
    "staged_capture",
    "whole_units",
]
