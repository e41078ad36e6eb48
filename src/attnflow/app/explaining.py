"""Explanations for the app, inside the worker: the decision, and its nearest alternatives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnflow.app.asked import Asked
from attnflow.attribution import Attribution
from attnflow.errors import InputError
from attnflow.explainer.explainer import Explainer
from attnflow.models.tasks import Task, explained_task
from attnflow.progress import heard_by

FEW = 4  # classes; of a model with no more, each is explained
TOGETHER = 4  # tokens of a continuation in one batch: between two the work can be ended
LISTED = 200  # classes that the page offers by name

Tell = Callable[[float, str], object]


@dataclass(frozen=True)
class Explained:
    """The attributions of one request.

    Attributes:
        attributions: Of one example: several targets, the asked one first; or a continuation.
        is_continuation: True for the second.
    """

    attributions: Sequence[Attribution]
    is_continuation: bool


def explain(explainer: Explainer, asked: Asked, image: Path | None, tell: Tell) -> Explained:
    """Explain what was asked.

    Args:
        explainer: The model.
        asked: The request.
        image: The file of an image, or None.
        tell: Takes the part that is done, 0 to 1, and words for it. What it raises ends the work.

    Raises:
        AttnflowError: As the explainer.
    """
    task = explained_task(explainer.model)
    call = _call(explainer, asked, image, task)
    if asked.new_tokens:
        with heard_by(lambda done, total, unit: tell(done / total, f"{done} of {total} {unit}s")):
            written = explainer(**call, continuation=asked.new_tokens, batch_size=TOGETHER)
        return Explained(written, is_continuation=True)
    planned = 1 + _planned(explainer, asked, task)
    decisions: list[Attribution] = []

    def listen(done: int, total: int, unit: str) -> None:
        count = len(decisions)
        tell((count + done / total) / planned, f"decision {count + 1} of {planned}")

    with heard_by(listen):
        target = asked.target or None
        decisions.append(explainer(**call, target=target, against=asked.against or None))
        for other in _others(explainer, decisions[0], task, planned - 1):
            decisions.append(explainer(**call, target=other))
    return Explained(decisions, is_continuation=False)


def _call(explainer: Explainer, asked: Asked, image: Path | None, task: Task) -> dict[str, Any]:
    """Return the keywords that all calls of a request have."""
    call: dict[str, Any] = {"tensor": asked.tensor, "edges": True}
    if image is not None:
        call["images"] = image
    if task.modality == "image":
        if image is None:
            raise InputError("this model reads images: drop one onto the page.")
        return call
    if image is not None and not task.takes_images:
        raise InputError(
            f"{explainer.name} reads texts, not images: remove the image, or choose a model that "
            "reads them."
        )
    if not asked.text.strip():
        raise InputError("there is no text to explain: type or paste one.")
    call["texts"] = _chat(asked, image) if asked.is_chat else asked.text
    given = {
        "pair": asked.pair or None,
        "position": asked.position,
        "coarsen": asked.coarsen or None,
        "truncate": asked.truncate or None,
        "bos": asked.bos or None,
    }
    return call | {name: value for name, value in given.items() if value is not None}


def _chat(asked: Asked, image: Path | None) -> list[dict[str, Any]]:
    text: Any = asked.text
    if image is not None:
        text = [{"type": "image"}, {"type": "text", "text": asked.text}]
    system = [{"role": "system", "content": asked.system}] if asked.system.strip() else []
    return [*system, {"role": "user", "content": text}]


def _planned(explainer: Explainer, asked: Asked, task: Task) -> int:
    """Return how many other choices are to be explained besides the asked one."""
    if asked.against or task.output_kind not in ("class", "token"):
        return 0
    if task.output_kind == "token":
        return asked.others
    others = len(explainer.labels) - 1
    return others if others < FEW else min(others, asked.others)


def _others(explainer: Explainer, first: Attribution, task: Task, count: int) -> list[int]:
    """Return the likeliest choices besides the explained one, at most so many."""
    order = [int(i) for i in (-first.logits).argsort() if i != first.target]
    if task.output_kind == "class":
        return order[:count]
    ids = (_token_id(explainer.tokenizer, first.labels[i]) for i in order)
    return [number for number in ids if number is not None][:count]


def _token_id(tokenizer: Any, text: str) -> int | None:
    """Return the id of the token with this text; None of "other tokens" and half characters."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] if tokenizer is not None else []
    is_same = len(ids) == 1 and tokenizer.decode(ids) == text
    return int(ids[0]) if is_same else None


def described(explainer: Explainer) -> dict[str, Any]:
    """Return what the page needs to know of a model."""
    task = explained_task(explainer.model)
    has_classes = task.output_kind == "class"
    return {
        "task": task.name,
        "labels": list(explainer.labels[:LISTED]) if has_classes else [],
        "writes": task.is_generative,
        "reads_text": task.modality == "text",
        "reads_images": task.modality == "image" or task.takes_images,
        "has_pair": task.modality == "text" and not task.reads_one_text,
        "has_position": task.readout_position in ("mask", "token", "last"),
        "has_bos": task.reads_one_text,
        "has_chat": bool(getattr(explainer.tokenizer, "chat_template", None)),
        "limit": explainer.limit if task.modality == "text" else None,
    }
