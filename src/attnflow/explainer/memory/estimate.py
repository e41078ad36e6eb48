"""What a call will need in memory, before it is made.

Bytes beside the loaded model, for a batch of b texts or images of t tokens, in L layers, with s
nodes a layer (s = t, or the number of segments) and w bytes a number (4, or 8 in a float64 model):

    images       that the call has read, with all their pixel values, from its beginning to its end
    activations  of the model and its backward pass, measured (activations.py): for texts
                 b (c + d t), of one head some arrays of a tile of queries, and of a mask 5 b t^2
                 bytes; for images b times what one takes
    tensors      E w the layers' (s, s) tensors, E = b L s^2, and a row of residuals each: once
                 while the backward pass runs, for `bcf` twice (the sum of its stages), for `af`
                 twice (a list, and the result); and when activations are gone, as often as HELD
    solver       capacities and flow in float64, 16 E; the solver's own arrays of the largest group
                 that it solves at once, by the primal-dual method, or one network by the dual one

An encoder-decoder needs two tensors more, for what its layers carry.

The estimate is meant to lie between the true peak and twice that (of a batch solved by compiled
passes 2.8 times). Read next: solver/memory.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attnflow.capture.stacking import expected_calls
from attnflow.errors import InputError
from attnflow.explainer.memory.activations import Activations
from attnflow.explainer.memory.sizes import ALONE, Size, in_batches
from attnflow.explainer.memory.units import bytes_of, in_words
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
HELD = {"bcf": 3, "cf": 2}  # with their signs, as capacities, balanced; others are capacities
BATCHES, COARSENED = (8, 4, 2, 1), (2, 4, 8, 16, 32, 64, 128)  # what a refusal tries


@dataclass(frozen=True)
class Estimate:
    """What one batch needs, in bytes beside the loaded model.

    Attributes:
        activations: Of the model's forward and backward pass.
        tensors: Information tensors meanwhile.
        held: Information tensors when activations are gone and capacities are made of them.
        solver: All that the flow takes, its capacities in float64 and its result with it.
        room: Of that, what is left to the solver's own arrays.
        method: By which the solver can do with that: "primal-dual", "dual" or "neither".
        texts: In the batch; of a model of images, images.
        tokens: Of its longest text, or of an image: patches, and what stands before them.
        nodes: Of a layer of its flow: tokens or segments.
        images: All images of the call, as they are shown and as the model reads them.
    """

    activations: int
    tensors: int
    held: int
    solver: int
    room: float
    method: str
    texts: int
    tokens: int
    nodes: int
    images: int = 0

    @property
    def total(self) -> int:
        """The peak: of the model's passes, or of what follows; with all images that were read."""
        return self.images + max(self.activations + self.tensors, self.held, self.solver)

    @property
    def dominates(self) -> str:
        """What the peak is made of: "activations", "tensors", "solver" or "images"."""
        rest = self.total - self.images
        if self.images > rest:
            return "images"
        if rest == self.solver:
            return "solver"
        return "activations" if self.activations >= self.tensors else "tensors"

    def __str__(self) -> str:
        sizes = {part: getattr(self, part) for part in PARTS}
        named = ", ".join(f"{part} {in_words(size)}" for part, size in sizes.items() if size)
        return f"{in_words(self.total)} at the peak ({named})"


@dataclass(frozen=True)
class _Allowed:
    """What a call may take.

    size      bytes
    said      the same in words, and from where
    measured  whether the model's own part counts, which has to be measured
    images    bytes that all images of the call take, where they count
    """

    size: float
    said: str
    measured: bool
    images: int = 0


class Estimator:
    """Estimates for one model and information tensor; measures its activations once, if asked."""

    def __init__(self, model: Any, tensor: str) -> None:
        self.model, self.tensor = getattr(model, "_orig_mod", model), tensor
        self.measured = Activations(self.model, tensor)
        config = self.model.config
        read = getattr(config, "vision_config", config) if reads_images(self.model) else config
        self.layers = expected_calls(read)  # None where the config does not say

    def __call__(
        self,
        sizes: Sequence[Size],
        *,
        room: float | None = None,
        activations: bool = True,
        images: int = 0,
    ) -> Estimate:
        """What a batch of these sizes needs.

        Args:
            sizes: Of the examples: texts, which are padded to the longest, or images of one shape.
            room: Bytes that the whole call may take; what is free when None.
            activations: Whether to count those of the model, which a few passes measure.
            images: Bytes of all images that the call has read.
        """
        batch, nodes = len(sizes), max(size.nodes for size in sizes)
        layers = self.measured.layers(sizes[0]) if self.layers is None else self.layers
        network, width = layers * nodes**2, self.measured.width
        one = batch * layers * nodes * (nodes + 1) * width
        carried = 2 if len(sizes[0].sides) > 1 else 0  # of an encoder-decoder
        meanwhile = one * ((2 if self.tensor in ("af", "bcf") else 1) + carried)
        kept = 16 * batch * network + one
        # What is free leaves out the images that have been read.
        left = (free_bytes(self.measured.device) if room is None else room - images) - kept
        own, method = _solver_arrays(batch, network, left)
        return Estimate(
            activations=self.measured(sizes) if activations else 0,
            tensors=meanwhile,
            held=one * HELD.get(self.tensor, 1),
            solver=kept + own,
            room=left,
            method=method,
            texts=batch,
            tokens=sum(map(max, zip(*(size.sides for size in sizes), strict=True))),
            nodes=nodes,
            images=images,
        )

    def largest(
        self, sizes: Sequence[Size], batch_size: int, max_memory: float | str | None
    ) -> Estimate:
        """Of the batch of like lengths that needs most."""
        limit, images = bytes_of(max_memory), sum(size.kept for size in sizes)
        groups = in_batches(sizes, batch_size)
        found = [self([sizes[i] for i in group], room=limit, images=images) for group in groups]
        return max(found, key=lambda estimate: estimate.total)

    def batches(
        self, sizes: Sequence[Size], most: int, max_memory: float | str | None
    ) -> list[tuple[list[int], float | None]]:
        """Indices in batches of at most so many, and what the solver may take for each.

        Raises:
            InputError: As `rooms`.
        """
        groups = in_batches(sizes, most)
        rooms = self.rooms([[sizes[i] for i in group] for group in groups], max_memory)
        return list(zip(groups, rooms, strict=True))

    def rooms(
        self, groups: Sequence[Sequence[Size]], max_memory: float | str | None
    ) -> list[float | None]:
        """What the solver may take for each batch of a call; None where that is all there is.

        Raises:
            InputError: A batch needs more than the call may take, or its flow more than is free.
        """
        limit = bytes_of(max_memory)
        if limit is None and self.layers is None:
            return [None] * len(groups)
        if limit is None:  # of which images have taken their part
            free = free_bytes(self.measured.device)
            allowed = _Allowed(free, f"{in_words(free)} is free", measured=False)
        else:
            images = sum(size.kept for sizes in groups for size in sizes)
            said = f"max_memory allows {in_words(limit)}"
            allowed = _Allowed(limit, said, measured=True, images=images)
        rooms: list[float | None] = []
        for sizes in groups:
            needed = self._needed(sizes, allowed)
            if needed.total > allowed.size:
                raise self._refusal(needed, sizes, allowed)
            rooms.append(None if limit is None else needed.room)
        return rooms

    def _needed(self, sizes: Sequence[Size], allowed: _Allowed) -> Estimate:
        """What a batch needs; the model's part is not measured where the rest alone is too much."""
        options: dict[str, Any] = {"room": allowed.size, "images": allowed.images}
        found = self(sizes, **options, activations=False)
        if allowed.measured and found.total <= allowed.size:
            return self(sizes, **options)
        return found

    def _refusal(self, needed: Estimate, sizes: Sequence[Size], allowed: _Allowed) -> InputError:
        """Says what is needed, what there is, and what would fit."""
        kind = "images" if sizes[0].pixels else "texts"
        many = f"{len(sizes)} {kind if len(sizes) > 1 else kind[:-1]}"

        def fits(some: Sequence[Size]) -> bool:
            return self._needed(some, allowed).total <= allowed.size

        batch = next((b for b in BATCHES if b < len(sizes) and fits(sizes[:b])), None)
        advice = [] if batch is None else [f"fewer {kind} at a time (batch_size={batch})"]
        if kind == "texts":
            advice += [*_coarser(sizes, fits), "shorter texts (truncate)"]
        else:
            advice += ["fewer images in a call, or images and models of fewer patches"]
        return InputError(
            f"a batch of {many} with up to {needed.tokens} tokens needs "
            f"{'about' if needed.activations else 'at least'} {needed} beside the model, and "
            f"{allowed.said}; what would help: {', or '.join(advice)}."
        )


def _coarser(sizes: Sequence[Size], fits: Callable[[Sequence[Size]], bool]) -> list[str]:
    """The least merging with which texts of these sizes fit, as advice; none where none does."""
    longest = max(size.nodes for size in sizes)
    for coarsen in COARSENED:
        merged = -(-longest // coarsen) + ALONE
        if merged < longest and fits([Size(size.sides, merged) for size in sizes]):
            return [f"merged tokens (coarsen={coarsen})"]
    return []


def _solver_arrays(batch: int, network: int, room: float) -> tuple[int, str]:
    """Bytes of the solver's own arrays, and the method that they are of."""
    together = int(min(batch * network, EDGES_AT_ONCE, max(most_edges(room), 0)))
    primal_dual = primal_dual_bytes(network)
    if together >= 2 * network:
        primal_dual = max(primal_dual, ARRAYS_OF_A_GROUP * BYTES * together)
    if primal_dual <= room:
        return primal_dual, "primal-dual"
    dual = DUAL_ARRAYS * BYTES * network
    return dual, "dual" if dual <= room else "neither"
