"""Memory that a call will need, estimated before it runs.

Bytes besides the loaded model, for a batch of b texts or images of t tokens, in L layers. A layer
has s nodes (s = t, or the number of segments), and a number w bytes (4, or 8 in a float64 model):

    images       all images of the call with their pixel values, from its beginning to its end
    activations  the model's forward and backward pass, measured (activations.py): for texts
                 b (c + d t), arrays of a tile of one head's queries, and 5 b t^2 bytes for a mask;
                 for images b times the bytes of one
    tensors      E w for the layers' (s, s) tensors, E = b L s^2, and a row of residuals each: once
                 while the backward pass runs, twice for `bcf` (the sum of its stages) and `af` (a
                 list, and the result); HELD times when activations are freed; and once for each
                 stage of `net` that was captured before and is not solved yet
    solver       capacities and flow of every stage solved together in float64, 16 E; the solver's
                 own arrays for the largest group that it solves at once, by the primal-dual method,
                 or one network by the dual one

Stages of `net` are solved together while all of their networks are one group of the solver's. Those
of long texts are captured and solved one by one (`solves_by_stage`). Then one stage exists at a
time, and of those solved before the flow on every edge, if the call reads it.

An encoder-decoder needs two tensors more, for the nodes that its layers pass through.

The estimate is meant to lie between the true peak and twice that (2.8 times for a batch solved by
compiled passes). Read next: solver/memory.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attnflow.capture.stacking import expected_calls
from attnflow.errors import InputError
from attnflow.explainer.memory.activations import ActivationMemory
from attnflow.explainer.memory.sizes import SINGLE_TOKENS, ExampleSize, group_by_length
from attnflow.explainer.memory.units import format_bytes, parse_bytes
from attnflow.models.tasks import reads_images
from attnflow.solver.batching import EDGES_AT_ONCE
from attnflow.solver.memory import (
    ARRAYS_OF_A_GROUP,
    BYTES,
    DUAL_ARRAYS,
    free_bytes,
    most_edges,
    primal_dual_bytes,
)

PARTS = ("activations", "tensors", "solver", "images")
HELD = {
    "bcf": 3,
    "cf": 2,
    "net": 3,
}  # with their signs, as capacities, balanced; others are capacities
BATCHES, COARSENED = (8, 4, 2, 1), (2, 4, 8, 16, 32, 64, 128)  # what a refusal tries


def solves_by_stage(edges: int, stages: int) -> bool:
    """Return whether a batch's stages are solved one by one.

    Args:
        edges: Edges of one stage's networks, layers * nodes * nodes of each text.
        stages: Number of stages.
    """
    # Beyond that the solver takes no two of them at once, so that solving them together gains
    # nothing.
    return stages > 1 and edges * stages > EDGES_AT_ONCE


@dataclass(frozen=True)
class Estimate:
    """Memory that one batch needs, in bytes besides the loaded model.

    Attributes:
        activations: The model's forward and backward pass.
        tensors: Information tensors during these passes.
        held: Information tensors after them, when they become capacities.
        solver: The flow: its capacities in float64, its result and the solver's own arrays.
        budget: Bytes that are left to the solver's own arrays.
        method: The method by which the solver fits into these: "primal-dual", "dual", "neither".
        texts: Number of texts in the batch; for a model of images, of images.
        tokens: Tokens of the longest text; patches of an image and the tokens before them.
        nodes: Nodes in a layer of the flow: tokens or segments.
        images: All images of the call, as they are shown and as the model reads them.
    """

    activations: int
    tensors: int
    held: int
    solver: int
    budget: float
    method: str
    texts: int
    tokens: int
    nodes: int
    images: int = 0

    @property
    def total(self) -> int:
        """Bytes at the peak, of the model's passes or of what follows, with all images."""
        return self.images + max(self.activations + self.tensors, self.held, self.solver)

    @property
    def dominates(self) -> str:
        """The largest part of the peak: "activations", "tensors", "solver" or "images"."""
        rest = self.total - self.images
        if self.images > rest:
            return "images"
        if rest == self.solver:
            return "solver"
        return "activations" if self.activations >= self.tensors else "tensors"

    def __str__(self) -> str:
        sizes = {part: getattr(self, part) for part in PARTS}
        parts = ", ".join(f"{part} {format_bytes(size)}" for part, size in sizes.items() if size)
        return f"{format_bytes(self.total)} at the peak ({parts})"


@dataclass(frozen=True)
class Batch:
    """A batch of a call.

    Attributes:
        indices: Its requests.
        budget: Bytes that the solver may take for it; None where nothing bounds them.
    """

    indices: list[int]
    budget: float | None


@dataclass(frozen=True)
class _Limit:
    """The memory that a call may take.

    Attributes:
        size: Bytes.
        reason: The same in words, and where it comes from.
        is_measured: True where the model's part counts, which has to be measured.
        images: Bytes of all images of the call, where they count.
    """

    size: float
    reason: str
    is_measured: bool
    images: int = 0


class MemoryPlanner:
    """Estimates, and batches that fit, for one model and information tensor.

    The model's activations are measured once, when they are asked for.
    """

    def __init__(
        self,
        model: Any,
        tensor: str,
        stages: int = 1,
        *,
        keeps_edges: bool = False,
        logits_read: int | None = 1,
    ) -> None:
        """Take what is explained and how.

        Args:
            model: The model.
            tensor: The information tensor.
            stages: Networks that each example becomes.
            keeps_edges: True where results need the flow on every edge.
            logits_read: As for `ActivationMemory`.
        """
        self.model, self.tensor = getattr(model, "_orig_mod", model), tensor
        self.stages, self.keeps_edges = stages, keeps_edges
        self.activations = ActivationMemory(self.model, tensor, logits_read=logits_read)
        config = self.model.config
        vision = getattr(config, "vision_config", config)
        # None where the config does not say.
        self.layers = expected_calls(vision if reads_images(self.model) else config)

    def estimate(
        self,
        sizes: Sequence[ExampleSize],
        *,
        limit: float | None = None,
        activations: bool = True,
        images: int = 0,
    ) -> Estimate:
        """Return the memory that a batch of these sizes needs.

        Args:
            sizes: Sizes of the examples: texts, which are padded to the longest, or images of one
                shape.
            limit: Bytes that the whole call may take; what is free when None.
            activations: Count those of the model, which a few passes measure.
            images: Bytes of all images that the call has read.
        """
        # Examples are padded to the longest of their batch.
        batch, nodes = len(sizes), max(size.nodes for size in sizes)
        layers = self.activations.layers(sizes[0]) if self.layers is None else self.layers
        network, width = layers * nodes**2, self.activations.element_size
        tensor = batch * layers * nodes * (nodes + 1) * width
        passthrough = 2 if len(sizes[0].sides) > 1 else 0  # of an encoder-decoder
        if solves_by_stage(batch * network, self.stages):
            solved = self.stages - 1  # stages that were solved before
            together, stored = 1, BYTES * batch * network * solved * self.keeps_edges
        else:
            together, stored = self.stages, tensor * (self.stages - 1)
        tensors = stored + tensor * ((2 if self.tensor in ("af", "bcf") else 1) + passthrough)
        networks = batch * together
        results = 16 * networks * network + stored + tensor
        # The memory that is free excludes the images that have been read.
        free = free_bytes(self.activations.device) if limit is None else limit - images
        budget = free - results
        arrays, method = _solver_arrays(networks, network, budget)
        return Estimate(
            activations=self.activations.of_batch(sizes) if activations else 0,
            tensors=tensors,
            held=stored + tensor * HELD.get(self.tensor, 1),
            solver=results + arrays,
            budget=budget,
            method=method,
            texts=batch,
            tokens=sum(map(max, zip(*(size.sides for size in sizes), strict=True))),
            nodes=nodes,
            images=images,
        )

    def largest(
        self, sizes: Sequence[ExampleSize], batch_size: int, max_memory: float | str | None
    ) -> Estimate:
        """Return the estimate of the batch of similar lengths that needs most."""
        limit, images = parse_bytes(max_memory), sum(size.kept for size in sizes)
        batches = group_by_length(sizes, batch_size)
        estimates = [
            self.estimate([sizes[i] for i in batch], limit=limit, images=images)
            for batch in batches
        ]
        return max(estimates, key=lambda estimate: estimate.total)

    def plan(
        self, sizes: Sequence[ExampleSize], batch_size: int, max_memory: float | str | None
    ) -> list[Batch]:
        """Return the batches of a call, each with the solver's budget.

        Raises:
            InputError: A batch needs more than the call may take, or its flow more than is free.
        """
        groups = group_by_length(sizes, batch_size)
        limit = parse_bytes(max_memory)
        if limit is None and self.layers is None:
            return [Batch(group, None) for group in groups]
        allowed = self._limit(limit, sizes)
        batches = []
        for group in groups:
            group_sizes = [sizes[i] for i in group]
            needed = self._needed(group_sizes, allowed)
            if needed.total > allowed.size:
                raise self._refusal(needed, group_sizes, allowed)
            batches.append(Batch(group, None if limit is None else needed.budget))
        return batches

    def _limit(self, limit: float | None, sizes: Sequence[ExampleSize]) -> _Limit:
        if limit is None:  # images that have been read are not free any more
            free = free_bytes(self.activations.device)
            return _Limit(free, f"{format_bytes(free)} is free", is_measured=False)
        images = sum(size.kept for size in sizes)
        reason = f"max_memory allows {format_bytes(limit)}"
        return _Limit(limit, reason, is_measured=True, images=images)

    def _needed(self, sizes: Sequence[ExampleSize], allowed: _Limit) -> Estimate:
        """The batch's estimate; activations are not measured where the rest alone is too much."""
        limit, images = allowed.size, allowed.images
        # Measuring costs passes of the model, so the cheap part is refused first.
        without = self.estimate(sizes, limit=limit, images=images, activations=False)
        if allowed.is_measured and without.total <= limit:
            return self.estimate(sizes, limit=limit, images=images)
        return without

    def _refusal(
        self, needed: Estimate, sizes: Sequence[ExampleSize], allowed: _Limit
    ) -> InputError:
        """The error that states what is needed, what there is, and what would fit."""
        kind = "images" if sizes[0].pixel_shape else "texts"
        many = f"{len(sizes)} {kind if len(sizes) > 1 else kind[:-1]}"

        def fits(some: Sequence[ExampleSize]) -> bool:
            return self._needed(some, allowed).total <= allowed.size

        # Smaller batches change no result; merging and truncating do, so they come after.
        batch = next((b for b in BATCHES if b < len(sizes) and fits(sizes[:b])), None)
        advice = []
        if batch is not None:
            advice += [f"fewer {kind} at a time (batch_size={batch}, --batch-size {batch})"]
        if kind == "texts":
            advice += [*_coarser(sizes, fits), "shorter texts (truncate=True, --truncate)"]
        else:
            advice += ["fewer images in a call, or images and models of fewer patches"]
        if allowed.is_measured:
            advice += ["a larger max_memory (--max-memory)"]
        return InputError(
            f"a batch of {many} with up to {needed.tokens} tokens needs "
            f"{'about' if needed.activations else 'at least'} {needed} besides the model, and "
            f"{allowed.reason}; what would help: {', or '.join(advice)}."
        )


def _coarser(
    sizes: Sequence[ExampleSize], fits: Callable[[Sequence[ExampleSize]], bool]
) -> list[str]:
    """Advice on the least merging with which texts of these sizes fit; none where none does."""
    longest = max(size.nodes for size in sizes)
    for coarsen in COARSENED:
        merged = -(-longest // coarsen) + SINGLE_TOKENS
        if merged < longest and fits([ExampleSize(size.sides, merged) for size in sizes]):
            return [f"merged tokens (coarsen={coarsen}, --coarsen {coarsen})"]
    return []


def _solver_arrays(batch: int, network: int, budget: float) -> tuple[int, str]:
    """Bytes of the solver's own arrays, and the method that they belong to."""
    # The solver takes several networks at once where that fits; one by one needs less.
    together = int(min(batch * network, EDGES_AT_ONCE, max(most_edges(budget), 0)))
    primal_dual = primal_dual_bytes(network)
    if together >= 2 * network:
        primal_dual = max(primal_dual, ARRAYS_OF_A_GROUP * BYTES * together)
    if primal_dual <= budget:
        return primal_dual, "primal-dual"
    dual = DUAL_ARRAYS * BYTES * network
    return dual, "dual" if dual <= budget else "neither"
