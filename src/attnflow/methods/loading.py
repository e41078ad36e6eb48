"""The adapter of a model, and loading both by name."""

from typing import Any

from attnflow.errors import ModelError
from attnflow.methods.adapter import ModelAdapter
from attnflow.methods.image_adapter import ImageClassifier
from attnflow.methods.text_adapter import Classifier, EncoderDecoder, LanguageModel
from attnflow.models import loading
from attnflow.models.load_options import LoadOptions
from attnflow.models.tasks import explained_task

ADAPTERS = (Classifier, LanguageModel, EncoderDecoder, ImageClassifier)


def adapter_for(model: Any, processor: Any) -> ModelAdapter:
    """Return the adapter of a model and its tokenizer, or image processor.

    Raises:
        ModelError: There is no adapter for models of its task.
    """
    task = explained_task(model).name
    for adapter in ADAPTERS:
        if task in (adapter.task_name, adapter.also):
            # That of a vision-language model reads texts by its tokenizer.
            return adapter(model, getattr(processor, "tokenizer", processor))
    expected = ", ".join(adapter.task_name for adapter in ADAPTERS)
    raise ModelError(f"{type(model).__name__} is a model for {task}: expected one for {expected}.")


def load_adapter(name: str, options: LoadOptions = loading.DEFAULTS) -> ModelAdapter:
    """Return an adapter by the name of its model, as `loading.load` finds it."""
    return adapter_for(*loading.load(name, options))
