"""The explanation of a model's decisions, in the order of a call."""

from attnflow.explainer.explainer import Explainer

__all__ = ["Explainer"]
