"""Run a model forward and backward once: attention and its gradients, one tensor per layer."""

from attnflow.capture.capture import Capture, capture
from attnflow.capture.checks import TENSORS
from attnflow.capture.edges import only_edges
from attnflow.capture.path import POINTS, balanced, path_capture

__all__ = ["POINTS", "TENSORS", "Capture", "balanced", "capture", "only_edges", "path_capture"]
