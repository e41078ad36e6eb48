"""Every attribution method, ours and the baselines, in one dictionary with one signature.

`METHODS[name].scores(instance)` is a number for each node of the instance's content: each token of
a text, each patch of an image. `instance` is the question that methods answer; `adapter` the model
that they ask, for texts (`text_adapter`) or images (`image_adapter`). `attention`, `gradients`,
`perturbation`, `decomposition`, `flow_routes`, `deltatrace` and `lrp` hold the baselines.
`information_tensors` and `readouts` are the two halves of flows, crossed under names such as
`cf:flow`. `registry` has the dictionary.
"""

from attnflow.methods.adapter import ModelAdapter, Nodes, Scores, Variant
from attnflow.methods.image_adapter import ImageClassifier, ImageVariant
from attnflow.methods.instance import Instance
from attnflow.methods.loading import adapter_for, load_adapter
from attnflow.methods.registry import DEFAULT, METHODS, Method, method
from attnflow.methods.text_adapter import (
    Classifier,
    EncoderDecoder,
    LanguageModel,
    TextAdapter,
    TextVariant,
)

__all__ = [
    "DEFAULT",
    "METHODS",
    "Classifier",
    "EncoderDecoder",
    "ImageClassifier",
    "ImageVariant",
    "LanguageModel",
    "Method",
    "Nodes",
    "Instance",
    "Scores",
    "ModelAdapter",
    "TextAdapter",
    "TextVariant",
    "Variant",
    "load_adapter",
    "method",
    "adapter_for",
]
