"""What methods are asked about: a model, and how it reads one kind of content.

A `ModelAdapter` gives probabilities of contents with something removed, many at a time, and what
gradients start from. Scores are given to nodes, t of them: the tokens of a text; or the patches of
an image, behind the tokens that the model puts before them. Some nodes are ordinary; the others are
never removed. The kinds there are: `texts` and `images`. Read next: `instance`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnflow.capture.objectives import class_logits
from attnflow.errors import ModelError
from attnflow.models.tasks import explained_task

NODES_AT_ONCE = 8192  # of a forward pass, padding included

Scores = NDArray[np.float64]
Nodes = NDArray[np.bool_]


class Variant(Protocol):
    """A content with something removed.

    Attributes:
        key: Equal for variants that are the same to the model.
        size: Nodes that the model reads.
    """

    @property
    def key(self) -> Hashable: ...

    @property
    def size(self) -> int: ...


Operator = Callable[[Any, Nodes], Variant]  # of a content and the nodes to be removed


class ModelAdapter(ABC):
    """A model of transformers in evaluation mode, which decides between classes.

    Attributes:
        kind: What it is, in words for messages.
        granularities: Names of what can be removed as a whole.
    """

    kind: str
    granularities: tuple[str, ...]

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self._reads_first: bool | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits; of a vocabulary none."""
        return ()

    # A content

    @abstractmethod
    def name(self, content: Any) -> str:
        """What a message calls it."""

    @abstractmethod
    def identity(self, content: Any) -> bytes:
        """Equal for contents that the model cannot tell apart."""

    @abstractmethod
    def ordinary(self, content: Any) -> Nodes:
        """`(t,)` bool, nodes that can be removed, and count."""

    def replaceable(self, content: Any) -> Nodes:
        """`(t,)` bool, nodes that may be neutral in a stage of a tensor's: the ordinary ones."""
        return self.ordinary(content)

    @abstractmethod
    def without(self, content: Any, removed: Nodes) -> Any:
        """The content with something neutral in the place of the removed `(t,)` nodes."""

    def position(self, content: Any) -> int | None:
        """The one node of the top row that the kind of instance says it is read from, or None."""
        return None

    # Variants of it

    @property
    @abstractmethod
    def operators(self) -> Mapping[str, Operator]:
        """Ways to remove nodes, by their names in `evaluation.removal`."""

    @abstractmethod
    def deleted(self, content: Any, removed: Nodes) -> Variant:
        """The content without these nodes, which are not replaced by anything."""

    def neutralised(self, content: Any, removed: Nodes) -> Variant:
        """What `without` gives, as a variant."""
        return self.whole(self.without(content, removed))

    def whole(self, content: Any) -> Variant:
        """All of it."""
        return self.deleted(content, np.zeros_like(self.ordinary(content)))

    # What the model reads

    @abstractmethod
    def inputs(self, content: Any) -> dict[str, Tensor]:
        """One tensor, a batch of one: `input_ids` or `pixel_values`."""

    @abstractmethod
    def point(self, content: Any) -> Tensor:
        """`(1, ...)` what gradients are taken of, detached: word embeddings, or pixels."""

    @abstractmethod
    def inputs_at(self, points: Tensor) -> dict[str, Tensor]:
        """The model's inputs at `(batch, ...)` such points."""

    @abstractmethod
    def of_nodes(self, values: Tensor) -> Tensor:
        """`(n, ...)` what is at each of the last n nodes, of `(1, ...)` values at a point or input.

        Nodes before these have no place in it.
        """

    def read(self, output: Any) -> Any:
        """`(batch, classes)` logits of what the model returned at points or inputs of this kind."""
        return class_logits(output)

    def logits(self, points: Tensor) -> Tensor:
        """`(batch, classes)` logits of `(batch, ...)` points, to be differentiated."""
        found: Tensor = self.read(self.model(**self.inputs_at(points)))
        return found

    def read_node(self, content: Any) -> int | None:
        """The node whose last state alone the logits depend on; None where others count too."""
        if self._reads_first is None:
            self._reads_first = self._only_first(content)
        return 0 if self._reads_first else None

    def _only_first(self, content: Any) -> bool:
        point = self.point(content).requires_grad_()
        with torch.enable_grad():
            output = self.model(**self.inputs_at(point), output_hidden_states=True)
            last = output.hidden_states[-1]
            (gradient,) = torch.autograd.grad(self.read(output).square().sum(), last)
        return not bool(gradient[0, 1:].any())

    # What it says

    def log_probabilities(self, variants: Sequence[Variant], *, bfloat16: bool = False) -> Scores:
        """`(variants, classes)` log-softmax of the logits, in float64.

        Variants of like size share a forward pass, and equal ones an answer.

        Args:
            variants: Contents with something removed.
            bfloat16: Multiply matrices in bfloat16.
        """
        return self._gathered(variants, slice(None), bfloat16)

    def log_probability(
        self, variants: Sequence[Variant], target: int, *, bfloat16: bool = False
    ) -> Scores:
        """`(variants,)` the same of one class alone, which of a vocabulary is all that is kept."""
        return self._gathered(variants, target, bfloat16)

    def predicted(self, variants: Sequence[Variant]) -> list[int]:
        """The likeliest class of each."""
        found = [0] * len(variants)
        for places, row in self._rows(variants, bfloat16=False):
            for at in places:
                found[at] = int(row.argmax())
        return found

    def _gathered(self, variants: Sequence[Variant], wanted: int | slice, bfloat16: bool) -> Scores:
        found: list[Any] = [None] * len(variants)
        for places, row in self._rows(variants, bfloat16):
            for at in places:
                found[at] = row[wanted]
        return np.array(found, dtype=np.float64)

    def _rows(
        self, variants: Sequence[Variant], bfloat16: bool
    ) -> Iterator[tuple[list[int], Scores]]:
        """Places of equal variants, and their `(classes,)` log-probabilities."""
        places: dict[Hashable, list[int]] = {}
        for index, variant in enumerate(variants):
            places.setdefault(variant.key, []).append(index)
        distinct = sorted((variants[at[0]] for at in places.values()), key=lambda v: -v.size)
        start = 0
        while start < len(distinct):
            stop = start + max(1, NODES_AT_ONCE // max(1, distinct[start].size))
            batch = distinct[start:stop]
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16),
            ):
                logits = self._logits_of(batch)
            rows = logits.double().log_softmax(-1).cpu().numpy()
            for variant, row in zip(batch, rows, strict=True):
                yield places[variant.key], row
            start = stop

    @abstractmethod
    def _logits_of(self, variants: Sequence[Any]) -> Tensor:
        """`(variants, classes)` of one forward pass or a few."""


def check_task(model: Any, wanted: str, loader: str) -> None:
    """The model is for that task, a name of `tasks`.

    Raises:
        ModelError: It is for another one.
    """
    task = explained_task(model)
    if task.name != wanted:
        raise ModelError(
            f"{type(model).__name__} is a model for {task.name}: expected one for {wanted}, as "
            f"{loader} loads it."
        )
