"""Which kind of subject a model is, and loading it by name."""

from typing import Any

from attnflow import models
from attnflow.methods.images import ImageClassifier
from attnflow.methods.subject import Subject
from attnflow.methods.texts import Classifier, LanguageModel
from attnflow.tasks import explained_task


def subject_of(model: Any, reader: Any) -> Subject:
    """The subject that a model and its tokenizer, or image processor, make.

    Raises:
        ModelError: There is no kind of question for such a model.
    """
    kinds = {"image": ImageClassifier, "last": LanguageModel}
    kind: Any = kinds.get(explained_task(model).reads, Classifier)
    found: Subject = kind(model, reader)
    return found


def load_subject(name: str, *, device: str | None = None) -> Subject:
    """A subject by the name of its model, as `models.load`."""
    return subject_of(*models.load(name, device=device))
