"""Adapters: what every method needs of a model, probabilities and inputs to differentiate.

A `ModelAdapter` gives probabilities of contents with something removed, many at a time, and the
inputs that gradients start from. It reads its contents with the same `TextInputs` or `ImageInputs`
as `Explainer`, so that what is evaluated is what ships. Scores are given to nodes, t of them: the
tokens of a text; or the patches of an image, after the tokens that the model puts before them.
Ordinary nodes can be removed, the others never are. The adapters are in `text_adapter` and
`image_adapter`. Read next: `instance`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.capture.family_search import learn_family
from attnflow.capture.half_precision import float32_activations
from attnflow.capture.objectives import class_logits
from attnflow.capture.placement import device_of
from attnflow.capture.token_removal import Removal, removal_of
from attnflow.errors import ModelError
from attnflow.inputs.example import ModelInputs
from attnflow.models.tasks import Task, explained_task

NODES_AT_ONCE = 8192  # in one forward pass, padding included

Scores = NDArray[np.float64]
Nodes = NDArray[np.bool_]


def log_odds_of(log_p: Scores) -> Scores:
    """log p / (1 - p), without cancellation at either end."""
    # At p = 1 there would be the logarithm of 0.
    odds: Scores = log_p - np.log(-np.expm1(np.minimum(log_p, -1e-300)))
    return odds


class Variant(Protocol):
    """A content with something removed.

    Attributes:
        key: Equal for variants that are the same to the model.
        size: Number of nodes that the model reads.
    """

    @property
    def key(self) -> Hashable: ...

    @property
    def size(self) -> int: ...


Operator = Callable[[Any, Nodes], Variant]  # takes a content and the nodes to remove


class ModelAdapter(ABC):
    """A model of transformers in evaluation mode, which decides between classes.

    Contents are encoded examples: `EncodedText` or `EncodedImage`.

    Attributes:
        task_name: The task of the models that the adapter is for, a name of `tasks`.
        also: Another task whose models it takes, as far as they read texts alone; "" for none.
        loader: The class of transformers that loads such models.
        kind: What it is, in words for messages.
        granularities: Names of the units that can be removed.
        has_embeddings: True where methods can move the embeddings of its tokens.
        instead: Methods to use where one is for other models, in words for messages.
        inputs: The reader of its contents, the same as `Explainer`'s.
    """

    task_name: ClassVar[str]
    also: ClassVar[str] = ""
    loader: ClassVar[str]
    kind: ClassVar[str]
    granularities: ClassVar[tuple[str, ...]]
    has_embeddings: ClassVar[bool]
    instead: ClassVar[str] = "gradient-x-input, occlusion or net:flow"

    def __init__(self, inputs: ModelInputs[Any]) -> None:
        self.inputs, self.model = inputs, inputs.model
        learn_family(self.model)
        self.device = device_of(self.model)
        self._reads_first: bool | None = None

    @classmethod
    def task_of(cls, model: Any) -> Task:
        """Return the task of a model, if it is the one that this adapter is for.

        Raises:
            ModelError: It is another one.
        """
        task = explained_task(model)
        if task.name not in (cls.task_name, cls.also):
            raise ModelError(
                f"{type(model).__name__} is a model for {task.name}: expected one for "
                f"{cls.task_name}, as {cls.loader} loads it."
            )
        return task

    def on(self, model: Any) -> Self:
        """Return the same adapter with another model, such as a private copy of its own."""
        other = copy(self)
        other.model = model
        return other

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits; none for a vocabulary."""
        return ()

    # A content

    @abstractmethod
    def name(self, content: Any) -> str:
        """Return the name that a message gives the content."""

    @abstractmethod
    def identity(self, content: Any) -> bytes:
        """Return bytes that are equal for contents which the model cannot tell apart."""

    def ordinary(self, content: Any) -> Nodes:
        """`(t,)` bool, true at nodes that can be removed, and count."""
        return ~np.array(content.special)

    def position(self, content: Any) -> int | None:
        """The only node of the top row where a flow begins; None where all are its sources."""
        return None

    def collate(self, content: Any) -> dict[str, Tensor]:
        """The model's inputs, a batch of one."""
        return self.inputs.collate([content])

    def neutral(self, content: Any) -> Tensor:
        """`(1, ...)` ids or pixel values with every node replaced that a stage may remove.

        The node at `position` is among them, although methods do not rank it.
        """
        return self.inputs.baseline([content], self.collate(content))

    @property
    def hides_tokens(self) -> bool:
        """True where stages of "net" hide tokens, False where others replace them."""
        return False

    def stage_removal(self, content: Any) -> Removal:
        """Return the way in which the stages of "net" remove nodes, as in an explanation."""
        inputs = self.collate(content)
        return removal_of(self.model, inputs, self.neutral(content))

    def removable(self, content: Any) -> Nodes:
        """`(t,)` bool, true at ordinary nodes that differ from what would replace them."""
        differs = removal_of(self.model, self.collate(content), self.neutral(content)).removable
        nodes = np.zeros(len(content.special), bool)
        # Of an image these are the patches alone, which come last.
        nodes[len(nodes) - differs.shape[1] :] = differs[0].cpu().numpy()
        return nodes & self.ordinary(content)

    def mask(self, content: Any, removed: Nodes) -> Any:
        """Return the content with the removed `(t,)` nodes replaced by neutral ones."""
        removal = removal_of(self.model, self.collate(content), self.neutral(content))
        batch = removal.inputs_without(torch.from_numpy(removed)[None].to(self.device))
        inputs = {name: self._as_content(batch[name][0].cpu()) for name in content.inputs}
        return replace(content, inputs=inputs)

    @abstractmethod
    def _as_content(self, values: Tensor) -> Any:
        """One tensor of the model's inputs in the form in which contents hold it."""

    # Variants of a content

    @property
    @abstractmethod
    def operators(self) -> Mapping[str, Operator]:
        """Ways to remove nodes, by their names in `evaluation.operators`."""

    @abstractmethod
    def masked_variant(self, content: Any, removed: Nodes) -> Variant:
        """Return what `mask` gives, as a variant."""

    @abstractmethod
    def deleted_variant(self, content: Any, removed: Nodes) -> Variant:
        """Return the content without these nodes, which nothing replaces."""

    def whole_variant(self, content: Any) -> Variant:
        """Return the whole content as a variant."""
        return self.deleted_variant(content, np.zeros(len(content.special), bool))

    # Inputs to differentiate

    @abstractmethod
    def point(self, content: Any) -> Tensor:
        """`(1, ...)` inputs that gradients are taken of, detached: word embeddings, or pixels.

        Raises:
            ModelError: The model has no such inputs in one tensor.
        """

    @abstractmethod
    def inputs_at(self, points: Tensor) -> dict[str, Tensor]:
        """The model's inputs at `(batch, ...)` such points."""

    @abstractmethod
    def per_node(self, values: Tensor) -> Tensor:
        """`(n, ...)` values at each of the last n nodes, from `(1, ...)` values at a point.

        Nodes before these have no part in a point.
        """

    def read(self, output: Any) -> Any:
        """`(batch, classes)` logits in the output of the model for unpadded contents."""
        return class_logits(output)

    def logits(self, points: Tensor) -> Tensor:
        """`(batch, classes)` logits of `(batch, ...)` points, to be differentiated."""
        logits: Tensor = self.read(self.model(**self.inputs_at(points)))
        return logits

    def readout_node(self, content: Any) -> int | None:
        """The node whose last state alone the logits depend on; None where others count too."""
        if self._reads_first is None:
            self._reads_first = self._depends_on_first(content)
        return 0 if self._reads_first else None

    def _depends_on_first(self, content: Any) -> bool:
        # No config states how a model pools: the gradient of its logits shows it.
        point = self.point(content).requires_grad_()
        with torch.enable_grad(), float32_activations(self.model):
            output = self.model(**self.inputs_at(point), output_hidden_states=True)
            last = output.hidden_states[-1]
            (gradient,) = torch.autograd.grad(self.read(output).square().sum(), last)
        return not bool(gradient[0, 1:].any())

    # Probabilities

    def log_probabilities(self, variants: Sequence[Variant], *, bfloat16: bool = False) -> Scores:
        """`(variants, classes)` log-softmax of the logits, in float64.

        Variants of similar size share a forward pass, and equal ones are computed once.

        Args:
            variants: Contents with something removed.
            bfloat16: Multiply matrices in bfloat16.
        """
        return self._collected(variants, slice(None), bfloat16)

    def log_probability(
        self, variants: Sequence[Variant], target: int, *, bfloat16: bool = False
    ) -> Scores:
        """`(variants,)` log-probability of `target` only; avoids keeping a whole vocabulary."""
        return self._collected(variants, target, bfloat16)

    def predicted(self, variants: Sequence[Variant]) -> list[int]:
        """Return the likeliest class of each variant."""
        classes = [0] * len(variants)
        for indices, row in self._rows(variants, bfloat16=False):
            for index in indices:
                classes[index] = int(row.argmax())
        return classes

    def _collected(self, variants: Sequence[Variant], part: int | slice, bfloat16: bool) -> Scores:
        rows: list[Any] = [None] * len(variants)
        for indices, row in self._rows(variants, bfloat16):
            for index in indices:
                rows[index] = row[part]
        return np.array(rows, dtype=np.float64)

    def _rows(
        self, variants: Sequence[Variant], bfloat16: bool
    ) -> Iterator[tuple[list[int], Scores]]:
        """Indices of equal variants, and their `(classes,)` log-probabilities."""
        indices: dict[Hashable, list[int]] = {}
        for index, variant in enumerate(variants):
            indices.setdefault(variant.key, []).append(index)
        # By size, so that little of a batch is padding.
        distinct = sorted((variants[same[0]] for same in indices.values()), key=lambda v: -v.size)
        start = 0
        while start < len(distinct):
            stop = start + max(1, NODES_AT_ONCE // max(1, distinct[start].size))
            batch = distinct[start:stop]
            with (
                torch.inference_mode(),
                float32_activations(self.model),
                torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16),
            ):
                logits = self._logits_of(batch)
            rows = logits.double().log_softmax(-1).cpu().numpy()
            for variant, row in zip(batch, rows, strict=True):
                yield indices[variant.key], row
            start = stop

    @abstractmethod
    def _logits_of(self, variants: Sequence[Any]) -> Tensor:
        """`(variants, classes)` logits, from one forward pass or a few."""
