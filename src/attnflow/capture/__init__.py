"""Run a model forward and backward once: attention and its gradients, one tensor per layer."""

from attnflow.capture.capture import Capture, capture, captures
from attnflow.capture.edge_ablation import only_edges
from attnflow.capture.families import FAMILIES
from attnflow.capture.merging import Segments
from attnflow.capture.objectives import Objective
from attnflow.capture.patches import Patches, leading_tokens, patches_of
from attnflow.capture.stacking import ONE_STACK, StackLayout, balanced
from attnflow.capture.staged import REMOVED, largest, staged_capture, whole_units
from attnflow.capture.validation import TENSORS, check_model

__all__ = [
    "ONE_STACK",
    "FAMILIES",
    "REMOVED",
    "TENSORS",
    "Objective",
    "Capture",
    "Patches",
    "Segments",
    "StackLayout",
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
