"""From decisions about texts or images to captures: what runs, and which number is read."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from attnflow.capture import Asked, Capture, Segments, balanced, captures, staged_capture
from attnflow.capture.objectives import (
    Explained,
    Reading,
    answers,
    class_logits,
    contrast,
    logit,
    logits_at,
    number,
    similarity,
    versus,
)
from attnflow.explainer.coarsening import Coarsened, segments_of
from attnflow.explainer.targets.decision import Decision
from attnflow.explainer.targets.output_space import answering
from attnflow.explainer.targets.span import joint
from attnflow.inputs import batching
from attnflow.inputs.image import EncodedImage
from attnflow.inputs.text import EncodedText
from attnflow.models.pooling import embeddings, pooled
from attnflow.models.tasks import Task


class Asker:
    """Asks one model for one kind of decision, by one information tensor."""

    def __init__(
        self, model: Any, tokenizer: Any, task: Task, tensor: str, *, pooling: str = "mean"
    ) -> None:
        self.model, self.tokenizer, self.task, self.tensor = model, tokenizer, task, tensor
        self.pooling = pooling

    def __call__(
        self, examples: Sequence[Coarsened | EncodedImage], decisions: Sequence[Decision]
    ) -> Capture:
        """A capture of capacities alone: a row for each text, or image of one shape."""
        images = [example for example in examples if isinstance(example, EncodedImage)]
        if images:
            return self._of_images(images, decisions)
        return self._of_texts(
            [example for example in examples if isinstance(example, Coarsened)], decisions
        )

    def _of_images(self, images: Sequence[EncodedImage], decisions: Sequence[Decision]) -> Capture:
        pixels, neutral = batching.of_images(images, self.model)
        return self._captured({"pixel_values": pixels}, self._wanted(decisions), lambda: neutral)

    def _of_texts(self, coarsened: Sequence[Coarsened], decisions: Sequence[Decision]) -> Capture:
        """One forward pass reads them all; a text that all decisions are about is read once."""
        texts = [one.text for one in coarsened]
        same = len(texts) > 1 and all(one is coarsened[0] for one in coarsened)
        if same and self.tensor != "bcf":
            inputs = batching.inputs(texts[:1], self.model, self.tokenizer)
            asked = [self._asked(texts[:1], inputs, [decision]) for decision in decisions]
            segments = segments_of(coarsened[:1], inputs)
            return _stacked(self._captures(inputs, asked, segments))
        inputs = batching.inputs(texts, self.model, self.tokenizer)
        segments = segments_of(coarsened, inputs)
        asked_once = self._asked(texts, inputs, decisions)
        return self._captured(
            inputs, asked_once, lambda: self._neutral(texts, inputs, asked_once), segments
        )

    def _captures(
        self, inputs: dict[str, Tensor], asked: Sequence[Asked], segments: Segments | None
    ) -> list[Capture]:
        found = captures(self.model, inputs, asked, tensor=self.tensor, segments=segments)
        return [replace(one, signed=None) for one in found]  # as large as the capacities

    def _captured(
        self,
        inputs: dict[str, Tensor],
        asked: Asked,
        neutral: Callable[[], Tensor],
        segments: Segments | None = None,
    ) -> Capture:
        """By the tensor; `neutral` is made for the one that needs it."""
        if self.tensor != "bcf":
            return self._captures(inputs, [asked], segments)[0]
        found = staged_capture(
            self.model,
            inputs,
            neutral(),
            asked.target,
            explained=asked.explained,
            read=asked.read,
            position=asked.position,
            segments=segments,
        )
        return replace(found, capacities=balanced(found.capacities, found.carried), signed=None)

    def _wanted(self, decisions: Sequence[Decision]) -> Asked:
        """What is read of each example, wherever the model does."""
        if decisions[0].value is not None:
            return Asked(None, logit, number(decisions[0].value))
        explained: Explained = contrast if self.tensor == "bcf" else logit
        target, against = (
            torch.tensor([-1 if index is None else index for index in of_all])
            for of_all in zip(*((d.target, d.against) for d in decisions), strict=True)
        )
        if (against >= 0).any():
            explained = versus(against, explained)
        return Asked(target, explained, class_logits)

    def _asked(
        self,
        texts: Sequence[EncodedText],
        inputs: dict[str, Tensor],
        decisions: Sequence[Decision],
    ) -> Asked:
        """What is read of each text, at its position where it has one."""
        wanted = self._wanted(decisions)
        if decisions[0].value is not None:
            return wanted
        if decisions[0].tokens:
            return self._asked_of_spans(texts, inputs, decisions, wanted.explained)
        nodes = [
            None if d.position is None else batching.places(text, inputs)[d.position]
            for text, d in zip(texts, decisions, strict=True)
        ]
        if nodes[0] is None:
            return replace(wanted, read=self._reading(texts, inputs))
        position = torch.tensor(nodes)
        return replace(wanted, read=logits_at(position - _written(inputs)), position=position)

    def _asked_of_spans(
        self,
        texts: Sequence[EncodedText],
        inputs: dict[str, Tensor],
        decisions: Sequence[Decision],
        explained: Explained,
    ) -> Asked:
        """One number for each span; a shorter one repeats its last position, which counts once."""
        longest = max(len(d.tokens) for d in decisions)
        nodes, tokens = [], []
        for text, d in zip(texts, decisions, strict=True):
            n, missing = len(d.tokens), longest - len(d.tokens)
            own = batching.places(text, inputs)[d.position :][:n]
            nodes.append([*own, *own[-1:] * missing])
            tokens.append([*d.tokens, *[-1] * missing])
        position = torch.tensor(nodes)
        read = joint(position - _written(inputs), torch.tensor(tokens), explained)
        return Asked(torch.zeros(len(nodes), dtype=torch.int64), logit, read, position)

    def _reading(self, texts: Sequence[EncodedText], inputs: dict[str, Tensor]) -> Reading:
        """Where a model that decides about whole texts says it."""
        if self.task.chooses == "answer":
            allowed = torch.zeros(inputs["input_ids"].shape, dtype=torch.bool)
            for row, text in enumerate(texts):
                allowed[row, answering(text)] = True
            return answers(allowed)
        others = [text.compared for text in texts if text.compared is not None]
        if not others:
            return class_logits
        known = embeddings(
            self.model, self.pooling, batching.inputs(others, self.model, self.tokenizer)
        )
        frozen = self.tensor in ("cf", "bcf")
        return similarity(known, pooled(self.pooling, inputs), frozen=frozen)

    def _neutral(
        self, texts: Sequence[EncodedText], inputs: dict[str, Tensor], asked: Asked
    ) -> Tensor:
        """`(batch, t)` ids of the texts with nothing in them."""
        config = self.model.config.get_text_config()
        neutral = batching.neutral(texts, inputs, self.tokenizer, config)
        if asked.position is None:
            return neutral
        # What comes later, and the mask to be filled, stays.
        ids = torch.cat([inputs[name] for name in batching.SIDES if name in inputs], dim=1)
        nodes = torch.arange(ids.shape[1], device=ids.device)
        read = asked.position.to(ids.device).view(len(ids), -1).amax(1, keepdim=True)
        stays = nodes > read if self.task.writes else nodes == read
        return neutral.where(~stays, ids)


def _written(inputs: dict[str, Tensor]) -> int:
    """The node at which what an encoder-decoder writes begins; 0 in a model of one stack."""
    return inputs["input_ids"].shape[1] if "decoder_input_ids" in inputs else 0


def _stacked(found: Sequence[Capture]) -> Capture:
    """The rows of several captures of one text, in one."""
    names = [f.name for f in fields(Capture) if f.name != "carried"]
    rows = {name: [getattr(one, name) for one in found] for name in names}
    joined = {name: None if row[0] is None else torch.cat(row) for name, row in rows.items()}
    return Capture(**joined, carried=found[0].carried)  # type: ignore[arg-type]
