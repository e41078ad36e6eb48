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
    if getattr(model, "main_input_name", "input_ids") == "pixel_values":
        return ImageClassifier(model, reader)
    if explained_task(model).reads == "last":
        return LanguageModel(model, reader)
    return Classifier(model, reader)


def load_subject(name: str, *, device: str | None = None) -> Subject:
    """A subject by the name of its model, as `models.load`."""
    return subject_of(*models.load(name, device=device))
