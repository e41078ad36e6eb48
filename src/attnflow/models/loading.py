"""Loading of a model with its tokenizer or image processor, by name.

The name is that of the embedded model, a local folder, a GGUF file, or an id on the model hub.
Weights are loaded in float32 unless told otherwise, and code from the hub is not run. A checkpoint
without a trained classification head is refused: transformers would fill the head with random
numbers. Read next: load_options.py, tasks.py.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from attnflow.capture.refusals import unfit
from attnflow.errors import AttnflowError, InputError, ModelError, needs, shown
from attnflow.models import embedded
from attnflow.models.adapters import (
    CONFIG,
    OLD_WEIGHTS,
    WEIGHTS,
    AdapterConfig,
    adapter_config,
    class_count,
    saved_shapes,
    with_adapter,
)
from attnflow.models.held import held_model
from attnflow.models.load_options import LoadOptions
from attnflow.models.pooling import MODULES, pooling_file, pooling_of
from attnflow.models.tasks import (
    CLASSIFICATION,
    GENERATION,
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


# Files that state a processor of images next to a model's weights.
PROCESSORS = ("preprocessor_config.json", "processor_config.json")

DEFAULTS = LoadOptions()


def load(name: str | Path, options: LoadOptions = DEFAULTS) -> tuple[Any, Any]:
    """Load a model in evaluation mode, and its tokenizer or image processor.

    Args:
        name: The name of the embedded model, a folder, a GGUF file, or a hub id.
        options: What transformers is told.

    Raises:
        InputError: The device does not exist here, or the folder holds no model.
        ModelError: The hub cannot be reached or does not know the name, the files are broken, or
            the model is not trained for a task that can be explained.
        MissingExtraError: A package is not installed: Pillow for models of images, accelerate for
            a `device_map`.
    """
    target = options.target
    if _is_embedded(name):
        if options.given:
            raise InputError(
                f"{embedded.EMBEDDED_MODEL} is part of attnflow, and knows no {options.given[0]}: "
                "leave it out, or give another model."
            )
        model, processor = embedded.load()
        asked = options.torch_dtype
        return model.to(target, asked if isinstance(asked, torch.dtype) else None).eval(), processor
    source, options = _source(name, options)
    adapter = _adapter_config(source, options)
    if adapter is None:
        model, processor = _load(source, options)
    else:
        model, processor = _load_adapter(source, adapter, options)
    if not _places_itself(model):
        model = model.to(target)
    return model.eval(), processor


def _places_itself(model: Any) -> bool:
    """Return whether a model was placed while it was loaded, and may not be moved."""
    return bool(getattr(model, "hf_device_map", None))


def pooling(name: str | Path, options: LoadOptions = DEFAULTS) -> str:
    """Return the pooling of a model, from the files of sentence-transformers next to its weights.

    Raises:
        ModelError: The model pools in a way that is not known here.
    """
    modules = _file_text(name, MODULES, options)
    if modules is None:
        return "mean"
    file = pooling_file(str(name), modules)
    record = _file_text(name, file, options)
    if record is None:
        raise ModelError(f"model {str(name)!r} has no {file}, which its {MODULES} names.")
    return pooling_of(str(name), record)


def _file_text(name: str | Path, file: str, options: LoadOptions) -> str | None:
    """Content of a file next to a model's weights, None where there is none."""
    path = _file(name, file, options)
    return None if path is None else Path(path).read_text(encoding="utf-8")


def _file(name: str | Path, file: str, options: LoadOptions) -> str | None:
    """Path of a file next to a model's weights, None where there is none."""
    from transformers.utils import cached_file

    source, options = _source(name, options)
    where = {key: value for key, value in options.of_files.items() if key != "gguf_file"}
    quiet: dict[str, Any] = {"_raise_exceptions_for_missing_entries": False}
    path: str | None = cached_file(str(source), file, **where, **quiet)
    return path


def _is_embedded(name: str | Path) -> bool:
    if not isinstance(name, str | Path):
        raise InputError(
            f"a model must be named by str or Path, got {shown(name)}; a model, or what holds one, "
            "goes into Explainer(...) itself."
        )
    return str(name) == embedded.EMBEDDED_MODEL


def _source(name: str | Path, options: LoadOptions) -> tuple[str | Path, LoadOptions]:
    """The folder or hub id, and the options, in which a GGUF file named as the model is one."""
    path = _path(name)
    if path.suffix == ".gguf" and options.gguf_file is None:
        if not path.exists():
            raise InputError(f"there is no GGUF file {str(name)!r} here: give its path.")
        if path.is_file():
            return path.parent, replace(options, gguf_file=path.name)
    return _folder_or_id(name, options), options


def _path(name: str | Path) -> Path:
    """The path of that name, which need not be there, but can be looked for."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # no such user, a name that is too long
        raise InputError(
            f"model {shown(str(name))} is not the name of a model: {error!s:.80}"
        ) from error
    return path


def _folder_or_id(name: str | Path, options: LoadOptions) -> str | Path:
    """The folder of that name, checked; the name itself, as a hub id, where there is none."""
    looks_local = isinstance(name, Path) or name.startswith((".", "/", "~"))
    path = _path(name)
    if not path.exists():
        if looks_local:
            raise InputError(f"model {str(name)!r} is not there: give a folder or a hub id.")
        return name
    folder = path / (options.subfolder or "")
    if options.gguf_file is not None:
        if not (folder / options.gguf_file).is_file():
            raise InputError(f"model {str(name)!r} has no file {shown(options.gguf_file)}.")
    elif not any((folder / file).is_file() for file in ("config.json", CONFIG)):
        raise InputError(
            f"model {str(name)!r} is not a model: expected a folder with config.json, weights and "
            "tokenizer, as save_pretrained writes it."
        )
    return path


def config(name: str | Path) -> Any:
    """Load a model's config, without its weights; of an adapter, its base's.

    It names the class that `load` would load.

    Raises:
        InputError: The folder holds no model.
        ModelError: The hub cannot be reached or does not know the name, or the config is broken or
            of a kind that transformers does not know without running code of the hub.
    """
    from transformers import AutoConfig

    options = DEFAULTS
    source: str | Path = embedded.FOLDER
    adapter = None
    if not _is_embedded(name):
        source, options = _source(name, options)
        adapter = _adapter_config(source, options)
    if adapter is not None:
        options = replace(options, revision=adapter.revision)
        with _base_of(name):
            source = embedded.FOLDER
            if adapter.base != embedded.EMBEDDED_MODEL:
                source = _folder_or_id(adapter.base, options)
    with _as_model_errors(source):
        found = AutoConfig.from_pretrained(source, **options.of_files, **options.of_code)
    task = GENERATION if options.gguf_file is not None else None
    if adapter is not None:
        task = adapter.task
    if task is not None:
        architecture = _class_name(task, found.model_type)
        found.architectures = None if architecture is None else [architecture]
    return found


def _class_name(task: Task, model_type: str) -> str | None:
    """The name of the class for a task in a family; None where there is none."""
    from transformers.models.auto import modeling_auto

    known: Any = getattr(modeling_auto, task.table).get(model_type)
    return known[0] if isinstance(known, tuple) else known


def class_of(architecture: str | None) -> Any:
    """Return the class of that name in transformers; None where there is none."""
    import transformers

    return getattr(transformers, architecture or "", None)


def calls_attention_interface(model_class: Any) -> bool:
    """Return whether a class computes attention through transformers' attention interface."""
    # Its flags say which back ends it supports, not whether it has code of its own for them.
    module = sys.modules.get(getattr(model_class, "__module__", ""))
    return hasattr(module, "ALL_ATTENTION_FUNCTIONS")


def _adapter_config(name: str | Path, options: LoadOptions) -> AdapterConfig | None:
    """The config of an adapter; None where there is a whole model."""
    if options.gguf_file is not None:
        return None
    with _as_model_errors(name, options):
        if _file(name, "config.json", options) is not None:
            return None
        text = _file_text(name, CONFIG, options)
    return None if text is None else adapter_config(str(name), text)


def _load_adapter(
    name: str | Path, adapter: AdapterConfig, options: LoadOptions
) -> tuple[Any, Any]:
    """The base model of an adapter with its layers, and the tokenizer of one of the two."""
    with _as_model_errors(name, options):
        file = _file(name, WEIGHTS, options)
        shapes = {} if file is None else saved_shapes(Path(file))
        has_weights = file is not None or _file(name, OLD_WEIGHTS, options) is not None
        has_tokenizer = _file(name, "tokenizer_config.json", options) is not None
    if not has_weights:
        raise ModelError(
            f"the adapter {str(name)!r} has no {WEIGHTS} next to its {CONFIG}: save both with "
            "save_pretrained of the PEFT model."
        )
    base_options = replace(options, revision=adapter.revision, subfolder=None)
    loaded = _Adapted(adapter.task, shapes, str(name) if has_tokenizer else None)
    if adapter.base == embedded.EMBEDDED_MODEL:
        model, processor = embedded.load()
    else:
        with _base_of(name):
            base = _folder_or_id(adapter.base, base_options)
            model, processor = _load(base, base_options, loaded)
    with _as_model_errors(name, options):
        adapted = with_adapter(model, str(name), adapter.base, **options.of_files)
    return held_model(adapted).model, processor


@contextmanager
def _base_of(name: str | Path) -> Iterator[None]:
    """Say of an error that it is about the base model of an adapter, and where that is named."""
    try:
        yield
    except (InputError, ModelError) as error:
        raise ModelError(
            f"the base of adapter {str(name)!r} cannot be loaded: {error} Its {CONFIG} names it "
            "in base_model_name_or_path: mend that, or give Explainer a PeftModel and a tokenizer."
        ) from error


@dataclass(frozen=True)
class _Adapted:
    """The base of an adapter, as the adapter has it.

    Attributes:
        task: The task; None for the base's own.
        shapes: The shapes of the weights that the adapter brings, by name.
        tokenizer: Folder or hub id of the tokenizer; None for the base's.
    """

    task: Task | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tokenizer: str | None = None

    @property
    def of_head(self) -> dict[str, Any]:
        """Keywords of a head that the adapter has trained."""
        count = class_count(self.shapes)
        is_class = self.task is not None and self.task.output_kind == "class"
        return {"num_labels": count} if is_class and count is not None else {}

    def brings(self, key: str) -> bool:
        """Return whether the adapter has a weight that its base lacks."""
        return any(name.endswith(f".{key}") for name in self.shapes)


def _load(
    name: str | Path, options: LoadOptions, adapted: _Adapted = _Adapted()
) -> tuple[Any, Any]:
    import transformers
    from transformers import AutoConfig

    keywords = {**options.of_files, **options.of_code}
    with _as_model_errors(name, options):
        config = AutoConfig.from_pretrained(name, **keywords)
        task, loader = _task(config, name, options)
        if adapted.task is not None:
            task, loader = adapted.task, getattr(transformers, adapted.task.loader)
        quantised = getattr(config, "quantization_config", None) is not None
        if quantised:
            _check_method(name, config.quantization_config)
        weights = options.of_weights(quantised=quantised and options.gguf_file is None)
        model, loading = loader.from_pretrained(
            name, output_loading_info=True, **adapted.of_head, **weights, **keywords
        )
        processor = _processor(task, adapted.tokenizer or name, options, keywords)
    missing = sorted(key for key in loading["missing_keys"] if not adapted.brings(key))
    if task.output_kind == "embedding":
        # Embeddings are of the last layer's states, and not pooled there.
        missing = [key for key in missing if not key.startswith("pooler.")]
    if missing:
        raise ModelError(
            f"model {str(name)!r} is not trained for {task.name}: its checkpoint lacks "
            f"{', '.join(missing[:3])}. Give a model that was fine-tuned."
        )
    tokenizer = getattr(processor, "tokenizer", processor)
    if task.modality != "image" and len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(
            f"model {str(name)!r} has no tokenizer next to its weights: every word would be "
            "unknown. Save one into its folder with tokenizer.save_pretrained."
        )
    return model, processor


def _check_method(name: str | Path, config: Any) -> None:
    """Check that transformers knows how weights are quantised: of others it reads them as they are.

    Raises:
        ModelError: It does not.
    """
    from transformers.quantizers import AutoHfQuantizer

    stated = config if isinstance(config, dict) else config.to_dict()
    if not AutoHfQuantizer.supports_quant_method(stated):
        method = shown(stated.get("quant_method"))
        raise ModelError(
            f"weights of model {str(name)!r} are quantised by {method}, which this transformers "
            "does not know: install one that does, or give the model that it was made from."
        )


def _processor(task: Task, name: str | Path, options: LoadOptions, keywords: dict[str, Any]) -> Any:
    """The tokenizer, image processor, or processor of both next to the weights."""
    import transformers

    reads_images = task.takes_images and any(_file(name, f, options) for f in PROCESSORS)
    if task.modality != "image" and not reads_images:
        return transformers.AutoTokenizer.from_pretrained(name, **keywords)
    with needs("models of images need Pillow", "images"):
        import PIL  # noqa: F401  # transformers would report a missing Pillow at the first image
    if reads_images:
        return _multimodal_processor(name, keywords)
    try:
        return transformers.AutoImageProcessor.from_pretrained(name, **keywords)
    except OSError as error:
        raise ModelError(
            f"model {str(name)!r} has no image processor next to its weights. Save one into its "
            "folder with image_processor.save_pretrained."
        ) from error


def _multimodal_processor(name: str | Path, keywords: dict[str, Any]) -> Any:
    """The processor of texts and images next to the weights.

    Raises:
        ModelError: It needs a package that is not installed.
    """
    import transformers

    try:
        return transformers.AutoProcessor.from_pretrained(name, **keywords)
    except (ImportError, AttributeError) as error:
        # Processors with a part for videos cannot be built without it, and fail in several ways.
        raise ModelError(
            f"the processor of model {str(name)!r} cannot be loaded: {error!s:.200} Processors "
            "that also read videos (Qwen-VL, SmolVLM) need torchvision: install it; or give "
            "Explainer(model, processor) a processor of your own, with a tokenizer and an "
            "image_processor."
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


def _task(config: Any, name: str | Path, options: LoadOptions) -> tuple[Task, Any]:
    """Task of the checkpoint, a classifier where it names none; and the class that loads it."""
    import transformers

    # A checkpoint may list several classes; the first is the one it was saved from.
    architectures = getattr(config, "architectures", None) or []
    if options.gguf_file is not None and not architectures:
        return GENERATION, transformers.AutoModelForCausalLM  # such files hold models that write
    if not architectures:
        return CLASSIFICATION, transformers.AutoModelForSequenceClassification
    task = task_for(architectures[0])
    if task is IMAGE_FEATURES:
        return task, class_of(architectures[0])  # with its projection, which AutoModel drops
    if task is not None:
        return task, getattr(transformers, task.loader)
    if reason := unfit(config, getattr(class_of(architectures[0]), "main_input_name", "")):
        raise ModelError(
            f"model {str(name)!r}, a {architectures[0]}, cannot be explained: {reason}"
        )
    raise ModelError(
        f"model {str(name)!r} is a {architectures[0]}: expected a model for "
        f"{', '.join(t.name for t in TASKS)}."
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    if " " not in text:
        text = f"{type(error).__name__} {text}".strip()
    text = text if len(text) <= 500 else f"{text[:500]}…"
    return text if text.endswith(".") else text + "."


@contextmanager
def _as_model_errors(name: str | Path, options: LoadOptions = DEFAULTS) -> Iterator[None]:
    """Raise whatever fails while files are read as an error of the model."""
    try:
        with _quiet_loading():
            yield
    except AttnflowError:
        raise
    except Exception as error:  # broken files make their parsers raise anything, KeyError included
        shown_name = str(name if options.gguf_file is None else Path(name, options.gguf_file))
        if isinstance(error, ImportError):  # the model is there, and a package that reads it is not
            said = " ".join(str(error).split()).rstrip(".")
            raise ModelError(
                f"cannot load model {shown_name!r}: {said:.300}. Install what is missing, or give "
                "a model that does not need it."
            ) from error
        # The hub is not asked for a name that none of its models can have.
        check = "the name" if _is_malformed(error) else "the name and the network"
        check = ", ".join([*options.given, check])
        raise ModelError(
            f"cannot load model {shown_name!r}: {_first_line(error)} Check {check}, or give a "
            "local folder as save_pretrained writes it."
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
