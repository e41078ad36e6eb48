"""Run a model forward and backward once: attention and its gradients, one tensor per layer."""

from attnflow.capture.capture import Asked, Capture, capture, captures
from attnflow.capture.checks import TENSORS, check_model
from attnflow.capture.edges import only_edges
from attnflow.capture.families import FAMILIES
from attnflow.capture.layers import ONE_STACK, Stacks, balanced
from attnflow.capture.patches import Patches, leading_tokens, patches_of
from attnflow.capture.segments import Segments
from attnflow.capture.stages import REMOVED, largest, staged_capture, whole_units

__all__ = [
    "ONE_STACK",
    "FAMILIES",
    "REMOVED",
    "TENSORS",
    "Asked",
    "Capture",
    "Patches",
    "Segments",
    "Stacks",
    "balanced",
    "capture",
    "captures",
    "check_model",
    "largest",
    "leading_tokens",
    "only_edges",
    "patches_of",
    "staged_capture",
    "whole_units",
]
