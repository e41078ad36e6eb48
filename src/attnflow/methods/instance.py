"""The question that every method answers: one class, for one content, as one model reads it.

An `Instance` fixes content and class: why does this model say negative of that text, 7 of that
image, or `mat` after those words? A method answers with a number for each node, and needs to know
nothing of what the model reads. Read next: `adapter`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from attnflow.capture.objectives import SCALARS
from attnflow.methods.adapter import ModelAdapter, Nodes, Scores, Variant
from attnflow.methods.pass_cache import PassCache

Result = TypeVar("Result")


@dataclass(frozen=True)
class Instance:
    """One decision: why this class, for this content?

    Attributes:
        adapter: The model.
        content: A content of t nodes, as the adapter encodes it.
        target: The class; for a language model the token.
        seed: The seed of methods that draw random numbers.
        explained: A name of `objectives.SCALARS`: the number of the class that gradients are
            taken of, the same for all methods.
        evidence: `(t,)` bool, true at nodes on which the class is known to rest; None where that is
            not known. Methods never see it.
        sentences: `(sentences, t)` bool, true at the nodes of each, of which one holds the
            evidence; None where they are not told apart.
        cache: Passes of the model over this instance, shared by methods; see `cached`.
    """

    adapter: ModelAdapter
    content: Any
    target: int
    seed: int = 0
    explained: str = "contrast"
    evidence: Nodes | None = None
    sentences: Nodes | None = None
    # `replace` makes a new cache: another instance has other passes.
    cache: PassCache = field(default_factory=PassCache, init=False, repr=False, compare=False)

    def value(self, logits: Tensor) -> Tensor:
        """`(batch,)` the explained number of `(batch, classes)` logits."""
        target = torch.full((len(logits),), self.target, device=logits.device)
        return SCALARS[self.explained](logits, target)

    @cached_property
    def ordinary(self) -> Nodes:
        """`(t,)` bool, true at nodes that can be removed, and count."""
        return self.adapter.ordinary(self.content)

    @property
    def nodes(self) -> int:
        """Number of nodes, t."""
        return len(self.ordinary)

    @property
    def name(self) -> str:
        """The name that a message gives the content."""
        return self.adapter.name(self.content)

    @property
    def position(self) -> int | None:
        """The only node where a flow begins; None where the whole top row is its source."""
        return self.adapter.position(self.content)

    @property
    def readout_node(self) -> int | None:
        """The node in whose last state alone the decision is read, if there is one."""
        return self.adapter.readout_node(self.content)

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """The model's inputs, a batch of one."""
        return self.adapter.collate(self.content)

    @cached_property
    def neutral(self) -> Tensor:
        """`(1, ...)` ids or pixel values with every node replaced that a stage may remove."""
        return self.adapter.neutral(self.content)

    @property
    def point(self) -> Tensor:
        """`(1, ...)` inputs that gradients are taken of, detached."""
        # Not cached: methods turn gradients on at what they get.
        return self.adapter.point(self.content)

    @property
    def baseline(self) -> Tensor:
        """`(1, ...)` the point with every ordinary node masked: the start of methods' paths."""
        return self.adapter.point(self.adapter.mask(self.content, self.ordinary))

    @property
    def removable(self) -> Nodes:
        """`(t,)` bool, true at ordinary nodes that differ from what would replace them."""
        return self.adapter.removable(self.content)

    def per_node(self, values: Tensor) -> Tensor:
        """`(t, ...)` values at each node, from `(1, ...)` values at a point; 0 where none is."""
        parts = self.adapter.per_node(values)
        missing = parts.new_zeros(self.nodes - len(parts), *parts.shape[1:])
        return torch.cat([missing, parts])

    def mask(self, removed: Nodes) -> "Instance":
        """Return the instance about the content with these nodes replaced by neutral ones."""
        return replace(self, content=self.adapter.mask(self.content, removed))

    def cached(self, compute: Callable[["Instance"], Result]) -> Result:
        """Return `compute` of this instance, computed on the first call and kept in `cache`."""
        return self.cache.get(compute, self)

    def with_empty_cache(self) -> "Instance":
        """Return the same instance, for which nothing has been computed yet."""
        return replace(self)

    def log_probability(self, variants: Sequence[Variant], *, bfloat16: bool = False) -> Scores:
        """`(variants,)` log-probability of the class, as `ModelAdapter.log_probability`."""
        return self.adapter.log_probability(variants, self.target, bfloat16=bfloat16)

    def probability(self, present: Nodes) -> Scores:
        """`(n,)` probability of the class where only the `present` `(n, t)` nodes are not masked.

        Nodes that are not ordinary are always present.
        """
        masked = [self.ordinary & ~row for row in present]
        variants = [self.adapter.masked_variant(self.content, nodes) for nodes in masked]
        probabilities: Scores = np.exp(self.log_probability(variants))
        return probabilities
