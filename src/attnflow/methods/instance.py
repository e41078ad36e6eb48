"""What every attribution method is asked: one class, of one content, as one model reads it.

A `Instance` fixes content and class: why does this model say negative of that text, 7 of that
image, or `mat` behind those words? A method answers it with a number for each node, and needs to
know nothing of the kind of instance. Read next: `adapter`.
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
    """Which nodes of a content decide for a class?

    Attributes:
        adapter: The model asked.
        content: Of t nodes, as the adapter encodes it.
        target: The class; of a language model the token.
        seed: Of methods that draw numbers.
        explained: Of the class, a name of `objectives.SCALARS`: the number that gradients are taken
            of, the same for all methods.
        cache: Passes of the model over this instance, shared by methods; see `cached`.
    """

    adapter: ModelAdapter
    content: Any
    target: int
    seed: int = 0
    explained: str = "contrast"
    # `replace` makes a new cache: another instance has other passes.
    cache: PassCache = field(default_factory=PassCache, init=False, repr=False, compare=False)

    def value(self, logits: Tensor) -> Tensor:
        """`(batch,)` the explained number of `(batch, classes)` logits."""
        target = torch.full((len(logits),), self.target, device=logits.device)
        return SCALARS[self.explained](logits, target)

    @cached_property
    def ordinary(self) -> Nodes:
        """`(t,)` bool, nodes that can be removed, and count."""
        return self.adapter.ordinary(self.content)

    @property
    def nodes(self) -> int:
        """How many there are, t."""
        return len(self.ordinary)

    @property
    def name(self) -> str:
        """What a message calls the content."""
        return self.adapter.name(self.content)

    @property
    def position(self) -> int | None:
        """The one node where a flow begins, None where the whole top row is its source."""
        return self.adapter.position(self.content)

    @property
    def read_node(self) -> int | None:
        """The node in whose last state alone the decision is read, if there is one."""
        return self.adapter.read_node(self.content)

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """What the model reads, a batch of one."""
        return self.adapter.inputs(self.content)

    @cached_property
    def neutral(self) -> Tensor:
        """The one tensor of `inputs` with every node gone that a stage may replace."""
        replaceable = self.adapter.replaceable(self.content)
        (found,) = self.adapter.inputs(self.adapter.without(self.content, replaceable)).values()
        return found

    @property
    def point(self) -> Tensor:
        """`(1, ...)` what gradients are taken of, detached."""
        return self.adapter.point(self.content)

    @property
    def baseline(self) -> Tensor:
        """`(1, ...)` the same with every ordinary node gone: where methods' paths begin."""
        return self.adapter.point(self.adapter.without(self.content, self.ordinary))

    @property
    def removable(self) -> Nodes:
        """`(t,)` bool, nodes that look otherwise when they are gone."""
        (own,) = self.inputs.values()
        differs = self.of_nodes(own != self.neutral)
        found: Nodes = differs.reshape(self.nodes, -1).any(1).numpy()
        return found & self.ordinary

    def of_nodes(self, values: Tensor) -> Tensor:
        """`(t, ...)` what is at each node, of `(1, ...)` values at a point or an input, or 0."""
        found = self.adapter.of_nodes(values)
        missing = found.new_zeros(self.nodes - len(found), *found.shape[1:])
        return torch.cat([missing, found])

    def without(self, removed: Nodes) -> "Instance":
        """The same about the content with something neutral in the place of these nodes."""
        return replace(self, content=self.adapter.without(self.content, removed))

    def cached(self, compute: Callable[["Instance"], Result]) -> Result:
        """Return `compute` of this instance, computed on the first call and kept in `cache`."""
        return self.cache.get(compute, self)

    def with_empty_cache(self) -> "Instance":
        """Return the same instance, for which nothing has been computed yet."""
        return replace(self)

    def log_probability(self, variants: Sequence[Variant], *, bfloat16: bool = False) -> Scores:
        """`(variants,)` of the class, as `ModelAdapter.log_probability`."""
        return self.adapter.log_probability(variants, self.target, bfloat16=bfloat16)

    def probability(self, present: Nodes) -> Scores:
        """`(n,)` probability of the class where only the `present` `(n, t)` nodes are not masked.

        Nodes that are not ordinary are always present.
        """
        gone = [self.ordinary & ~row for row in present]
        variants = [self.adapter.neutralised(self.content, one) for one in gone]
        found: Scores = np.exp(self.log_probability(variants))
        return found
