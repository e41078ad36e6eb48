"""Every attribution method: ours and the baselines, one signature, one dictionary.

`METHODS[name].scores(question)` is a number for each token of the question's text. `question` says
what is asked; `attention`, `gradients`, `perturbation` and `decomposition` hold the baselines;
`tensors` and `readings` what flows are made of, crossed under names such as `cf:flow`.
"""

from attnflow.methods.catalogue import DEFAULT, METHODS, Method, method
from attnflow.methods.question import Classifier, Question, Scores, Variant

__all__ = ["DEFAULT", "METHODS", "Classifier", "Method", "Question", "Scores", "Variant", "method"]
