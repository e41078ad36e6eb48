"""Which kind of adapter a model is, and loading it by name."""

from typing import Any

from attnflow.methods.adapter import ModelAdapter
from attnflow.methods.image_adapter import ImageClassifier
from attnflow.methods.text_adapter import Classifier, LanguageModel
from attnflow.models import loading
from attnflow.models.tasks import explained_task


def adapter_for(model: Any, reader: Any) -> ModelAdapter:
    """The adapter that a model and its tokenizer, or image processor, make.

    Raises:
        ModelError: There is no kind of instance for such a model.
    """
    task = explained_task(model)
    kind: Any = LanguageModel if task.reads_one_text else Classifier
    if task.modality == "image":
        kind = ImageClassifier
    found: ModelAdapter = kind(model, reader)
    return found


def load_adapter(name: str, *, device: str | None = None) -> ModelAdapter:
    """An adapter by the name of its model, as `loading.load`."""
    return adapter_for(*loading.load(name, device=device))
