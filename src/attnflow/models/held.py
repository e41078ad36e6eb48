"""The model inside of what people hold: a pipeline, an adapter of PEFT, a SentenceTransformer.

A model of timm is the other way round: transformers' wrapper is put around it.

Nothing here imports those packages: who holds such an object has them.
"""

from dataclasses import dataclass
from typing import Any

from attnflow.errors import InputError, ModelError
from attnflow.models.pooling import pooling_named
from attnflow.models.timm_models import is_timm_model, wrapped


@dataclass(frozen=True)
class Held:
    """A transformers model, and what came with it.

    Attributes:
        model: The model.
        processor: Its tokenizer or image processor; None where none came with it.
        pooling: How its embeddings are made, of a SentenceTransformer; None of others.
        name: The name of an adapter with its base; None of others.
    """

    model: Any
    processor: Any = None
    pooling: str | None = None
    name: str | None = None


def held_model(given: Any) -> Held:
    """Return the transformers model inside of an object; an object that is one itself, as it is.

    Args:
        given: A model, a pipeline of transformers, a PEFT model, a SentenceTransformer, or a model
            of timm.

    Raises:
        InputError: A pipeline has no model, or a SentenceTransformer another order of modules.
        ModelError: An adapter adds virtual tokens, embeddings are made in an unknown way, or a
            model of timm is no vision transformer that can be explained.
    """
    inner = getattr(given, "_orig_mod", given)  # what torch.compile wraps
    if _is_a(inner, "transformers.pipelines", "Pipeline"):
        return _of_pipeline(inner)
    if _is_a(inner, "peft", "PeftModel"):
        return _of_adapter(inner)
    if _is_a(inner, "sentence_transformers", "SentenceTransformer"):
        return _of_sentence_transformer(inner)
    if is_timm_model(inner):
        return Held(wrapped(inner))
    return Held(given)


def _is_a(given: Any, package: str, name: str) -> bool:
    """Return whether an object is of a class of that name in a package, without importing it."""
    return any(
        base.__name__ == name and f"{base.__module__}.".startswith(f"{package}.")
        for base in type(given).__mro__
    )


def _of_pipeline(pipeline: Any) -> Held:
    if "zero-shot" in str(getattr(pipeline, "task", "")):
        raise InputError(
            f"a pipeline for {pipeline.task} asks its model about each label, in a sentence of its "
            "own: give Explainer(pipe.model, pipe.tokenizer), and explain a text with "
            "pair='This example is about sports.'."
        )
    inner = held_model(pipeline.model)
    # That of a vision-language model has tokenizer and image processor.
    processor = getattr(pipeline, "processor", None) or getattr(pipeline, "tokenizer", None)
    if processor is None:
        processor = getattr(pipeline, "image_processor", None)
    return Held(inner.model, processor, name=inner.name)


def _of_adapter(adapter: Any) -> Held:
    config = adapter.peft_config[adapter.active_adapter]
    if getattr(config, "is_prompt_learning", False):
        raise ModelError(
            f"the adapter puts virtual tokens in front of each text ({config.peft_type.value}), "
            "which are no part of it; explain its base model, or one with LoRA."
        )
    # Its layers stand in the base model, and run there.
    model = adapter.get_base_model()
    base = getattr(config, "base_model_name_or_path", None) or type(model).__name__
    return Held(model, name=f"{base} with adapter {adapter.active_adapter}")


def _of_sentence_transformer(encoder: Any) -> Held:
    modules = list(encoder)
    names = [type(module).__name__ for module in modules]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(
            f"a SentenceTransformer of {', '.join(names)} cannot be explained: expected "
            "Transformer, Pooling and at most Normalize. Give its transformers model, and a "
            "target that is a function of the model's output."
        )
    mode = getattr(modules[1], "pooling_mode", None)
    if not isinstance(mode, str):  # of older versions
        mode = modules[1].get_pooling_mode_str()
    return Held(modules[0].auto_model, encoder.tokenizer, pooling=pooling_named(mode))
