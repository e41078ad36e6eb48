"""Run a model forward and backward once: attention and its gradients, one tensor per layer."""

from attnflow.capture.capture import Capture, Effects, capture, captures
from attnflow.capture.edge_ablation import only_edges
from attnflow.capture.families import FAMILIES
from attnflow.capture.family_search import find_family, learn_family
from attnflow.capture.merging import Segments
from attnflow.capture.net_worth import default_pattern, product_rules
from attnflow.capture.objectives import Objective
from attnflow.capture.patches import Patches, channels_of, leading_tokens, patches_of
from attnflow.capture.recorder import FROZEN
from attnflow.capture.stacking import ONE_STACK, StackLayout, balanced
from attnflow.capture.stage_means import mean_present, signed_scores
from attnflow.capture.staged import (
    REMOVED,
    Stage,
    StageRule,
    captured_stages,
    check_stage_rules,
    default_stages,
    largest,
    stage_count,
    staged_capture,
    whole_units,
)
from attnflow.capture.token_removal import HiddenTokens, removal_of
from attnflow.capture.validation import TENSORS, check_model

__all__ = [
    "ONE_STACK",
    "FAMILIES",
    "FROZEN",
    "REMOVED",
    "TENSORS",
    "Objective",
    "Capture",
    "Effects",
    "HiddenTokens",
    "Patches",
    "Segments",
    "Stage",
    "StageRule",
    "StackLayout",
    "balanced",
    "capture",
    "captured_stages",
    "captures",
    "channels_of",
    "check_model",
    "check_stage_rules",
    "default_pattern",
    "default_stages",
    "find_family",
    "largest",
    "learn_family",
    "leading_tokens",
    "mean_present",
    "only_edges",
    "patches_of",
    "removal_of",
    "product_rules",
    "signed_scores",
    "stage_count",
    "staged_capture",
    "whole_units",
]
