"""Loading of a model with its tokenizer or image processor, by name.

The name is that of the embedded model, a local folder, or an id on the model hub. Weights are
loaded in float32, and code from the hub is never run. A checkpoint without a trained classification
head is refused: transformers would fill the head with random numbers. Read next: tasks.py.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from attnflow.errors import AttnflowError, InputError, ModelError, needs, shown
from attnflow.models import embedded
from attnflow.models.pooling import MODULES, pooling_file, pooling_of
from attnflow.models.tasks import (
    CLASSIFICATION,
    IMAGE_FEATURES,
    TASKS,
    Task,
    reads_images,
    task_of,
)

# Families that number positions from the one after the padding token's, as RoBERTa does: so many
# fewer tokens fit.
COUNTED_AFTER_PADDING = (
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)

QUANTISED = (
    "its weights are quantised, through which gradients are not exact; give the model that it was "
    "made from."
)


def load(name: str | Path, *, device: str | torch.device | None = None) -> tuple[Any, Any]:
    """Load a model in evaluation mode, and its tokenizer or image processor.

    Args:
        name: The name of the embedded model, a folder, or a hub id.
        device: The device of the model; the CPU when None.

    Raises:
        InputError: The device does not exist here, or the folder holds no model.
        ModelError: The hub cannot be reached or does not know the name, the files are broken, or
            the model is not trained for a task that can be explained.
        MissingExtraError: The model reads images, and Pillow is not installed.
    """
    target = checked_device(device)
    if _is_embedded(name):
        model, processor = embedded.load()
    else:
        model, processor = _load(_folder_or_id(name))
    return model.to(target).eval(), processor


def pooling(name: str | Path) -> str:
    """Return the pooling of a model, from the files of sentence-transformers next to its weights.

    Raises:
        ModelError: The model pools in a way that is not known here.
    """
    modules = _file_text(name, MODULES)
    if modules is None:
        return "mean"
    file = pooling_file(str(name), modules)
    record = _file_text(name, file)
    if record is None:
        raise ModelError(f"model {str(name)!r} has no {file}, which its {MODULES} names.")
    return pooling_of(str(name), record)


def _file_text(name: str | Path, file: str) -> str | None:
    """Content of a file next to a model's weights, None where there is none."""
    from transformers.utils import cached_file

    quiet: dict[str, Any] = {"_raise_exceptions_for_missing_entries": False}
    path = cached_file(str(_folder_or_id(name)), file, **quiet)
    return None if path is None else Path(path).read_text(encoding="utf-8")


def checked_device(device: str | torch.device | None) -> torch.device:
    """Return the device; the CPU when None.

    Raises:
        InputError: This machine does not have it.
    """
    try:
        target = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"device must be a name such as 'cpu', 'cuda', 'cuda:1' or 'mps', got {shown(device)}."
        ) from error
    if target.type == "cpu":
        return target
    module: Any = getattr(torch, target.type, None)
    count = int(module.device_count()) if hasattr(module, "device_count") else 0
    if (target.index or 0) >= count:
        raise InputError(
            f"device {shown(device)} is not there: this machine has {count} devices of type "
            f"{target.type!r}. Use 'cpu', or a torch build that supports the device."
        )
    return target


def _is_embedded(name: str | Path) -> bool:
    if not isinstance(name, str | Path):
        raise InputError(f"a model must be named by str or Path, got {shown(name)}.")
    return str(name) == embedded.EMBEDDED_MODEL


def _folder_or_id(name: str | Path) -> str | Path:
    """The folder of that name, checked; the name itself, as a hub id, where there is none."""
    looks_local = isinstance(name, Path) or name.startswith((".", "/", "~"))
    try:
        path = Path(name).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError) as error:  # no such user, a name that is too long
        raise InputError(
            f"model {shown(str(name))} is not the name of a model: {error!s:.80}"
        ) from error
    if not exists:
        if looks_local:
            raise InputError(f"model {str(name)!r} is not there: give a folder or a hub id.")
        return name
    if not path.is_dir() or not (path / "config.json").is_file():
        raise InputError(
            f"model {str(name)!r} is not a model: expected a folder with config.json, weights and "
            "tokenizer, as save_pretrained writes it."
        )
    return path


def config(name: str | Path) -> Any:
    """Load a model's config, without its weights.

    Raises:
        InputError: The folder holds no model.
        ModelError: The hub cannot be reached or does not know the name, or the config is broken or
            of a kind that transformers does not know without running code of the hub.
    """
    from transformers import AutoConfig

    source = embedded.FOLDER if _is_embedded(name) else _folder_or_id(name)
    with _as_model_errors(source):
        return AutoConfig.from_pretrained(source, **_NO_CODE)


def class_of(architecture: str | None) -> Any:
    """Return the class of that name in transformers; None where there is none."""
    import transformers

    return getattr(transformers, architecture or "", None)


def calls_attention_interface(model_class: Any) -> bool:
    """Return whether a class computes attention through transformers' attention interface."""
    # Its flags say which back ends it supports, not whether it has code of its own for them.
    module = sys.modules.get(getattr(model_class, "__module__", ""))
    return hasattr(module, "ALL_ATTENTION_FUNCTIONS")


# Left open, transformers would ask on standard input whether to run the code.
_NO_CODE = {"trust_remote_code": False}


def _load(name: str | Path) -> tuple[Any, Any]:
    from transformers import AutoConfig

    with _as_model_errors(name):
        config = AutoConfig.from_pretrained(name, **_NO_CODE)
        if getattr(config, "quantization_config", None):
            raise ModelError(f"model {str(name)!r} cannot be explained: {QUANTISED}")
        task, loader = _task(config, name)
        model, loading = loader.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True, **_NO_CODE
        )
        processor = _processor(task, name)
    missing = sorted(loading["missing_keys"])
    if (
        task.output_kind == "embedding"
    ):  # embeddings are of the last layer's states, and not pooled there
        missing = [key for key in missing if not key.startswith("pooler.")]
    if missing:
        raise ModelError(
            f"model {str(name)!r} is not trained for {task.name}: its checkpoint lacks "
            f"{', '.join(missing[:3])}. Give a model that was fine-tuned."
        )
    if task.modality != "image" and len(processor) <= len(processor.all_special_ids):
        raise ModelError(
            f"model {str(name)!r} has no tokenizer next to its weights: every word would be "
            "unknown. Save one into its folder with tokenizer.save_pretrained."
        )
    return model, processor


def _processor(task: Task, name: str | Path) -> Any:
    """The tokenizer or image processor next to the weights."""
    import transformers

    if task.modality != "image":
        return transformers.AutoTokenizer.from_pretrained(name, **_NO_CODE)
    with needs("models of images need Pillow", "images"):
        import PIL  # noqa: F401  # transformers would report a missing Pillow at the first image
    try:
        return transformers.AutoImageProcessor.from_pretrained(name, **_NO_CODE)
    except OSError as error:
        raise ModelError(
            f"model {str(name)!r} has no image processor next to its weights. Save one into its "
            "folder with image_processor.save_pretrained."
        ) from error


def task_for(architecture: str) -> Task | None:
    """Return the task of a class of models, by its name; None where it has none that is known."""
    task = task_of(architecture)
    model_class = class_of(architecture)
    if (
        isinstance(model_class, type)
        and reads_images(model_class)
        and (task is None or task.modality != "image")
    ):
        return IMAGE_FEATURES  # a tower for images
    return task


def _task(config: Any, name: str | Path) -> tuple[Task, Any]:
    """Task of the checkpoint, a classifier where it names none; and the class that loads it."""
    import transformers

    # A checkpoint may list several classes; the first is the one it was saved from.
    architectures = getattr(config, "architectures", None) or []
    if not architectures:
        return CLASSIFICATION, transformers.AutoModelForSequenceClassification
    task = task_for(architectures[0])
    if task is IMAGE_FEATURES:
        return task, class_of(architectures[0])  # with its projection, which AutoModel drops
    if task is not None:
        return task, getattr(transformers, task.loader)
    raise ModelError(
        f"model {str(name)!r} is a {architectures[0]}: expected a model for "
        f"{', '.join(t.name for t in TASKS)}."
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    if " " not in text:
        text = f"{type(error).__name__} {text}".strip()
    return text if text.endswith(".") else text + "."


@contextmanager
def _as_model_errors(name: str | Path) -> Iterator[None]:
    """Raise whatever fails while files are read as an error of the model."""
    try:
        with _quiet_loading():
            yield
    except AttnflowError:
        raise
    except Exception as error:  # broken files make their parsers raise anything, KeyError included
        # The hub is not asked for a name that none of its models can have.
        check = "the name" if _is_malformed(error) else "the name and the network"
        raise ModelError(
            f"cannot load model {str(name)!r}: {_first_line(error)} Check {check}, or give a local "
            "folder as save_pretrained writes it."
        ) from error


def _is_malformed(error: BaseException | None) -> bool:
    """Return whether an error comes from a name that cannot be a hub id."""
    from huggingface_hub.errors import HFValidationError

    while error is not None and not isinstance(error, HFValidationError):
        error = error.__cause__ or error.__context__
    return error is not None


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Hide the hub's retries and transformers' report of missing weights: our errors state them."""
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def token_limit(config: Any, tokenizer: Any) -> int | None:
    """Return the most tokens that a model takes, special ones included; None: nothing bounds it.

    Raises:
        ModelError: A bound is not a number.
    """
    # The tokenizer's bound is often a placeholder of 1e30; the smaller of the two counts.
    bounds = [] if tokenizer is None else [tokenizer.model_max_length]
    config = config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    if positions and positions > 0:  # -1 where nothing bounds them
        shifted = config.model_type in COUNTED_AFTER_PADDING
        bounds.append(positions - (config.pad_token_id + 1 if shifted else 0))
    wrong = [b for b in bounds if not isinstance(b, int | float) or b != b]
    if wrong:
        raise ModelError(
            f"the most tokens that the model takes must be a number, got {shown(wrong[0], 60)}: "
            "mend model_max_length in its tokenizer_config.json."
        )
    bound = min(bounds, default=10**9)
    return int(bound) if bound < 10**9 else None
