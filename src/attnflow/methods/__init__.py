"""Every attribution method: ours and the baselines, one signature, one dictionary.

`METHODS[name].scores(question)` is a number for each node of the question's content: each token of
a text, each patch of an image. `question` says what is asked; `subject` what a model has to know of
the contents that it reads, `texts` and `images` for each kind; `attention`, `gradients`,
`perturbation` and `decomposition` hold the baselines; `tensors` and `readings` what flows are made
of, crossed under names such as `cf:flow`.
"""

from attnflow.methods.adapter import Nodes, Scores, Subject, Variant
from attnflow.methods.image_adapter import Image, ImageClassifier
from attnflow.methods.loading import load_subject, subject_of
from attnflow.methods.question import Question
from attnflow.methods.registry import DEFAULT, METHODS, Method, method
from attnflow.methods.text_adapter import Classifier, LanguageModel, TextSubject, TextVariant

__all__ = [
    "DEFAULT",
    "METHODS",
    "Classifier",
    "Image",
    "ImageClassifier",
    "LanguageModel",
    "Method",
    "Nodes",
    "Question",
    "Scores",
    "Subject",
    "TextSubject",
    "TextVariant",
    "Variant",
    "load_subject",
    "method",
    "subject_of",
]
