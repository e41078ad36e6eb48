"""Examples with their decisions: every row that the model is asked about, of texts or of images."""

from collections.abc import Callable, Sequence
from typing import Any

from attnflow.capture import Capture
from attnflow.explainer.targets.decision import Decision, check_writes, decisions, with_itself
from attnflow.explainer.targets.output_space import Choices
from attnflow.explainer.targets.span import spans_of
from attnflow.inputs import batching
from attnflow.inputs.image import EncodedImage, check_nodes
from attnflow.inputs.image_reader import ImageReader
from attnflow.inputs.per_example import Names, one_for_each
from attnflow.inputs.text import EncodedText
from attnflow.inputs.text_reader import Reader, read
from attnflow.models.tasks import Task

Row = tuple[EncodedText | EncodedImage, Decision]
Rows = tuple[bool, list[Row], list[int] | None]
Choosing = Callable[[Any], Choices]


def image_rows(
    reader: ImageReader, task: Task, choosing: Choosing, asked: dict[str, Any], **given: Any
) -> Rows:
    """Whether there is one image alone; each decision with its image; None: they have one each.

    Args:
        reader: Of the model.
        task: The model's.
        choosing: What there is to choose from, of each image.
        asked: The options `target`, `against` and `position` of `Explainer.__call__`.
        given: Its options `images`, `pixel_values` and `neutral`.

    Raises:
        InputError, ModelError, StorageError: As `ImageReader.read` and `decisions`.
    """
    alone, images = reader.read(**given)
    wanted = decisions(task, choosing, images, None, names_of(images), **asked)
    return alone, list(zip(images, wanted, strict=True)), None


def text_rows(
    reader: Reader,
    choosing: Choosing,
    asked: dict[str, Any],
    *,
    texts: Any,
    continuation: str | int | None,
    span: Any,
    **given: Any,
) -> Rows:
    """Whether there is one text alone; each decision with its text; of continuations how many each.

    Args:
        reader: Of the model.
        choosing: What there is to choose from, of each text.
        asked: The options `target`, `against` and `position` of `Explainer.__call__`.
        texts: Its option.
        continuation: Its option.
        span: Its option.
        given: Its options `pair`, `input_ids`, `attention_mask` and `truncate`.

    Raises:
        InputError, ModelError: As `read` and `decisions`.
    """
    alone, encoded = read(reader, texts, **given)
    names = names_of(encoded)
    if span is not None:
        check_writes(reader.task, "span", **asked)
        each = spans_of(span, len(encoded))
        return alone, names.each(lambda i: reader.spanned(encoded[i], continuation, each[i])), None
    if continuation is None:
        begun = [reader.begun(text) for text in encoded]
        wanted = decisions(reader.task, choosing, begun, reader.tokenizer, names, **asked)
        return alone, list(zip(begun, wanted, strict=True)), None
    check_writes(reader.task, "continuation", **asked)
    parts = names.each(lambda i: reader.continued(encoded[i], continuation))
    return alone, [row for part in parts for row in part], [len(part) for part in parts]


def names_of(examples: Sequence[EncodedText | EncodedImage]) -> Names:
    """What errors call them."""
    kind = "image" if isinstance(examples[0], EncodedImage) else "text"
    return Names([example.text for example in examples], kind)


def batched(model: Any, task: Task, target: Any) -> bool:
    """Whether several examples may be read in one pass."""
    if task.reads == "image":
        return True
    # A classifier that is a decoder and knows no padding cannot tell where a padded text ends, and
    # a function of the reader's might read there.
    pads = batching.pad_token_id(model.config) is not None
    padded = task.reads != "text" or pads
    return padded and not callable(target)


def check_read(
    model: Any, rows: Sequence[Row], group: Sequence[int], captured: Capture, against: Any
) -> None:
    """What can be told of examples only once the model has read them.

    Args:
        model: The one that has read them.
        rows: Of the call.
        group: Which of them were read.
        captured: Of these.
        against: The option of `Explainer.__call__`.

    Raises:
        InputError: A decision is contrasted with itself.
        ModelError: The model made other tokens of an image than its patches.
    """
    others = one_for_each(against, len(rows), "against")
    for i, predicted in zip(group, captured.target.tolist(), strict=True):
        example, decision = rows[i]
        if decision.against == predicted:
            names = names_of([example for example, _ in rows])
            raise names.about(i, with_itself(others[i]))
        if isinstance(example, EncodedImage):
            check_nodes(example, captured.mask.shape[1], type(model).__name__)
