"""Targets: the output space of a model, a decision in it, a span of decisions."""
