"""Which kind of subject a model is, and loading it by name."""

from typing import Any

from attnflow.methods.adapter import Subject
from attnflow.methods.image_adapter import ImageClassifier
from attnflow.methods.text_adapter import Classifier, LanguageModel
from attnflow.models import loading
from attnflow.models.tasks import explained_task


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
    """A subject by the name of its model, as `loading.load`."""
    return subject_of(*loading.load(name, device=device))
