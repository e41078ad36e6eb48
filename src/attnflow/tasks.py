"""What a model decides: its task, by the name that transformers' pipelines give it.

The tables of transformers say which class of model is for what, so no name of a model is listed
here. A class that stands in none of them counts as a classifier, and has to give a logit for each
class. Read next: choices.py for what can be chosen, decisions.py for where it is read.
"""

from dataclasses import dataclass
from typing import Any

from attnflow.errors import ModelError


@dataclass(frozen=True)
class Task:
    """One kind of decision.

    name     of transformers' pipeline
    loader   class of transformers that loads such models
    table    of transformers, from a model's type to its class
    chooses  "class", one of the model's labels, or "token", one of its vocabulary
    reads    where: "text", wherever the model does; "last", "mask" or "token", at one position
    """

    name: str
    loader: str
    table: str
    chooses: str
    reads: str


CLASSIFICATION = Task(
    "text-classification",
    "AutoModelForSequenceClassification",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    chooses="class",
    reads="text",
)
TASKS = (
    CLASSIFICATION,
    Task(
        "text-generation",
        "AutoModelForCausalLM",
        "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
        chooses="token",
        reads="last",
    ),
    Task(
        "fill-mask",
        "AutoModelForMaskedLM",
        "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
        chooses="token",
        reads="mask",
    ),
    Task(
        "token-classification",
        "AutoModelForTokenClassification",
        "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
        chooses="class",
        reads="token",
    ),
)


def task_of(architecture: str) -> Task | None:
    """The task of a class of models, by its name; None where no table has it."""
    from transformers.models.auto import modeling_auto

    for task in TASKS:
        if architecture in _names(getattr(modeling_auto, task.table)):
            return task
    return None


def explained_task(model: Any) -> Task:
    """The task of a model that can be explained.

    Raises:
        ModelError: The model has two stacks.
    """
    name = type(getattr(model, "_orig_mod", model)).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} is an encoder-decoder: expected an encoder or a decoder alone. Its layers can "
            "be had from attnflow.capture, for networks of your own."
        )
    return task_of(name) or CLASSIFICATION


def _names(table: dict[str, Any]) -> set[str]:
    """The classes of a table, of which some types of models have several."""
    found: set[str] = set()
    for names in table.values():
        found.update([names] if isinstance(names, str) else names)
    return found
