"""Every attribution method: ours and the baselines, one signature, one dictionary.

`METHODS[name].scores(instance)` is a number for each node of the instance's content: each token of
a text, each patch of an image. `instance` says what is asked; `adapter` what a model has to know of
the contents that it reads, `texts` and `images` for each kind; `attention`, `gradients`,
`perturbation` and `decomposition` hold the baselines; `tensors` and `readings` what flows are made
of, crossed under names such as `cf:flow`.
"""

from attnflow.methods.adapter import ModelAdapter, Nodes, Scores, Variant
from attnflow.methods.image_adapter import Image, ImageClassifier
from attnflow.methods.instance import Instance
from attnflow.methods.loading import adapter_for, load_adapter
from attnflow.methods.registry import DEFAULT, METHODS, Method, method
from attnflow.methods.text_adapter import Classifier, LanguageModel, TextAdapter, TextVariant

__all__ = [
    "DEFAULT",
    "METHODS",
    "Classifier",
    "Image",
    "ImageClassifier",
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
