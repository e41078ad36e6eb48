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
    chooses  "class", one of the model's labels; "token", one of its vocabulary; "answer", a run of
             the second text's tokens; "nothing": it gives embeddings, to be compared, or only a
             function of its output can be explained
    reads    where: "text" or "image", wherever in it the model does; "last", "mask" or "token", at
             one position; "prefix", at one position of what an encoder-decoder has written
    """

    name: str
    loader: str
    table: str
    chooses: str
    reads: str

    @property
    def writes(self) -> bool:
        """Whether it decides on what comes next, and can go on."""
        return self.reads in ("last", "prefix")


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
        "text2text-generation",
        "AutoModelForSeq2SeqLM",
        "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
        chooses="token",
        reads="prefix",
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
    Task(
        "question-answering",
        "AutoModelForQuestionAnswering",
        "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
        chooses="answer",
        reads="text",
    ),
    Task(
        "sentence-similarity",
        "AutoModel",
        "MODEL_MAPPING_NAMES",
        chooses="nothing",
        reads="text",
    ),
)
FEATURES = Task(
    "image-feature-extraction",
    "AutoModel",
    "MODEL_FOR_IMAGE_MAPPING_NAMES",
    chooses="nothing",
    reads="image",
)
IMAGES = (
    Task(
        "image-classification",
        "AutoModelForImageClassification",
        "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
        chooses="class",
        reads="image",
    ),
    FEATURES,
)


def task_of(architecture: str) -> Task | None:
    """The task of a class of models, by its name; None where no table has it."""
    from transformers.models.auto import modeling_auto

    for task in (*IMAGES, *TASKS):  # models of images are in tables of all models too
        if architecture in _names(getattr(modeling_auto, task.table)):
            return task
    return None


def explained_task(model: Any) -> Task:
    """The task of a model that can be explained.

    Raises:
        ModelError: It has two stacks, and writes nothing.
    """
    name = type(getattr(model, "_orig_mod", model)).__name__
    task = task_of(name) or CLASSIFICATION
    if reads_images(model) and task not in IMAGES:
        task = FEATURES
    if getattr(model.config, "is_encoder_decoder", False) and task.reads != "prefix":
        raise ModelError(
            f"{name} is an encoder-decoder for {task.name}, which reads its text twice, once in "
            "each stack: expected one that writes (...ForConditionalGeneration), or an encoder or "
            "decoder alone."
        )
    return task


def reads_images(model: Any) -> bool:
    """Whether pixel values are what the model reads first."""
    return getattr(model, "main_input_name", "input_ids") == "pixel_values"


def labels_of(model: Any) -> tuple[str, ...]:
    """Names of the classes of a model, in the order of the logits."""
    names = model.config.id2label
    return tuple(str(names[i]) for i in sorted(names))


def _names(table: dict[str, Any]) -> set[str]:
    """The classes of a table, of which some types of models have several."""
    found: set[str] = set()
    for names in table.values():
        found.update([names] if isinstance(names, str) else names)
    return found
