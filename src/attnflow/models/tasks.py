"""The task of a model: what it outputs, where that is read, and which class loads it.

Tasks have the names of transformers' pipelines, whose tables say which class of model is for what.
So no name of a model is listed here. A class that is in none of the tables counts as a classifier,
and has to give a logit for each class. Read next: loading.py; explainer/targets/output_space.py for
the classes, tokens and answers that a task chooses from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnflow.errors import ModelError, shown
from attnflow.models.literals import Modality, OutputKind, ReadoutPosition


@dataclass(frozen=True)
class Task:
    """One kind of decision.

    Attributes:
        name: The name of transformers' pipeline.
        loader: The class of transformers that loads such models.
        table: The table of transformers, from a model's type to its class.
        output_kind: "class", one of the model's labels; "token", one of its vocabulary; "answer", a
            run of the second text's tokens; "embedding": a similarity, or nothing but a function of
            the output, can be explained.
        readout_position: The position whose output is the decision: "model", where the model itself
            reads it; "last", the last token or another one; "mask" or "token", one position of the
            text; "prefix", one position of what an encoder-decoder has generated.
        modality: "text" or "image", what the model reads.
        takes_images: True where a model of texts reads images in them.
    """

    name: str
    loader: str
    table: str
    output_kind: OutputKind
    readout_position: ReadoutPosition = "model"
    modality: Modality = "text"
    takes_images: bool = False

    @property
    def is_generative(self) -> bool:
        """True where the model decides on the next token, and can generate."""
        return self.readout_position in ("last", "prefix")

    @property
    def has_two_stacks(self) -> bool:
        """True for an encoder-decoder, whose decoder generates a text of its own."""
        return self.readout_position == "prefix"

    @property
    def reads_one_text(self) -> bool:
        """True for a decoder alone: its tokenizer has no second text."""
        return self.readout_position == "last"

    @property
    def pads_batches(self) -> bool:
        """True for texts: the shorter of a batch are padded. Images of a batch have one size."""
        return self.modality == "text"

    @property
    def embeds_texts(self) -> bool:
        """True where the model gives embeddings of texts, to be compared."""
        return self.output_kind == "embedding" and self.modality == "text"


CLASSIFICATION = Task(
    "text-classification",
    "AutoModelForSequenceClassification",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    output_kind="class",
)
GENERATION = Task(
    "text-generation",
    "AutoModelForCausalLM",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    output_kind="token",
    readout_position="last",
)
VISION_LANGUAGE = Task(
    "image-text-to-text",
    "AutoModelForImageTextToText",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    output_kind="token",
    readout_position="last",
    takes_images=True,
)
TEXT_TASKS = (
    CLASSIFICATION,
    GENERATION,
    Task(
        "text2text-generation",
        "AutoModelForSeq2SeqLM",
        "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
        output_kind="token",
        readout_position="prefix",
    ),
    VISION_LANGUAGE,
    Task(
        "fill-mask",
        "AutoModelForMaskedLM",
        "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
        output_kind="token",
        readout_position="mask",
    ),
    Task(
        "token-classification",
        "AutoModelForTokenClassification",
        "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
        output_kind="class",
        readout_position="token",
    ),
    Task(
        "question-answering",
        "AutoModelForQuestionAnswering",
        "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
        output_kind="answer",
    ),
    Task("sentence-similarity", "AutoModel", "MODEL_MAPPING_NAMES", output_kind="embedding"),
)
IMAGE_FEATURES = Task(
    "image-feature-extraction",
    "AutoModel",
    "MODEL_FOR_IMAGE_MAPPING_NAMES",
    output_kind="embedding",
    modality="image",
)
IMAGE_TASKS = (
    Task(
        "image-classification",
        "AutoModelForImageClassification",
        "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
        output_kind="class",
        modality="image",
    ),
    IMAGE_FEATURES,
)
TASKS = (*TEXT_TASKS, *IMAGE_TASKS)


def task_of(architecture: str) -> Task | None:
    """Return the task of a class of models, by its name; None where no table has it."""
    from transformers.models.auto import modeling_auto

    for task in (*IMAGE_TASKS, *TEXT_TASKS):  # models of images are in tables of all models too
        if architecture in _class_names(getattr(modeling_auto, task.table)):
            # Gemma 3 and others are in the table of language models too.
            with_images = _class_names(getattr(modeling_auto, VISION_LANGUAGE.table))
            return VISION_LANGUAGE if task is GENERATION and architecture in with_images else task
    return None


def explained_task(model: Any) -> Task:
    """Return the task of a model that can be explained.

    Raises:
        ModelError: The model is an encoder-decoder that does not generate.
    """
    # The model that torch.compile wraps.
    name = type(getattr(model, "_orig_mod", model)).__name__
    task = task_of(name) or CLASSIFICATION
    # CLIP's image tower is in a table of models of texts, or in none.
    if reads_images(model) and task.modality != "image":
        task = IMAGE_FEATURES
    if getattr(model.config, "is_encoder_decoder", False) and not task.has_two_stacks:
        raise ModelError(
            f"{name} is an encoder-decoder for {task.name}, which reads its text twice, once in "
            "each stack: expected one that writes (...ForConditionalGeneration), or an encoder or "
            "decoder alone."
        )
    return task


def reads_images(model: Any) -> bool:
    """Return whether pixel values are the model's main input."""
    return getattr(model, "main_input_name", "input_ids") == "pixel_values"


def labels_of(model: Any) -> tuple[str, ...]:
    """Names of a model's classes, in the order of the logits.

    Raises:
        ModelError: Its config does not name the classes by index.
    """
    stated = getattr(model.config, "id2label", None)
    # By index: a config may list its labels in any order, and JSON's keys are strings.
    names = {str(i): name for i, name in stated.items()} if isinstance(stated, Mapping) else {}
    if not names or set(names) != {str(i) for i in range(len(names))}:
        came = f"keys {', '.join(list(names)[:5])}" if names else shown(stated, 60)
        raise ModelError(
            f"the config of {type(model).__name__} names no classes: expected id2label with the "
            f"keys 0, 1, ... in a row, got {came:.80}; mend it in config.json."
        )
    return tuple(str(names[str(i)]) for i in range(len(names)))


def _class_names(table: dict[str, Any]) -> set[str]:
    """The classes of a table, in which some types of models have several."""
    classes: set[str] = set()
    for names in table.values():
        classes.update([names] if isinstance(names, str) else names)
    return classes
