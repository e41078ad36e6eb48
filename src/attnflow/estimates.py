"""What a call will need in memory, before it is made.

Bytes beside the loaded model, for a batch of b texts of t tokens, in L layers, with s nodes a layer
(s = t, or the number of segments) and w bytes a number (4, or 8 in a float64 model):

    activations  of the model and its backward pass: measured on two short texts and continued on
                 a straight line, b (c + d t); and of one head the TEMPORARIES arrays of a tile of
                 queries, and of a mask 5 b t^2 bytes
    tensors      E w a layer's (s, s) tensor, E = b L s^2: one while the backward pass runs, for
                 `bcf` two (the sum of its stages), for `af` two (a list, and the result); and when
                 activations are gone, as many as HELD says
    solver       capacities and flow in float64, 16 E; the solver's own arrays of the largest group
                 that it solves at once, by the primal-dual method, or one network by the dual one

An encoder-decoder needs two tensors more, for what its layers carry. Models that compute attention
themselves keep all weights of all heads: for them a parabola takes the place of the line.

The estimate is meant to lie between the true peak and twice that. Read next: solver/memory.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from attnflow.allocations import Allocations
from attnflow.batches import SIDES
from attnflow.capture import Asked, captures
from attnflow.capture.attention import TILE
from attnflow.capture.families import family_of
from attnflow.capture.layers import expected_calls
from attnflow.coarsening import Coarsen, Coarsened
from attnflow.errors import InputError
from attnflow.patches import EncodedImage
from attnflow.sizes import bytes_of, in_words
from attnflow.solver.groups import EDGES_AT_ONCE
from attnflow.solver.memory import (
    ARRAYS_OF_A_GROUP,
    BYTES,
    DUAL_ARRAYS,
    free_bytes,
    most_edges,
    primal_dual_bytes,
)
from attnflow.targets import logit

TEMPORARIES = 7
HELD = {"bcf": 3, "cf": 2}  # with their signs, as capacities, balanced; others are capacities
SHORT = (8, 16, 32)  # the last two for a line
ALONE = 4  # tokens that are in no segment: special ones, and the one that is read
BATCHES, COARSENED = (8, 4, 2, 1), (2, 4, 8, 16, 32, 64, 128)  # what a refusal tries


@dataclass(frozen=True)
class Size:
    """Of one example: tokens on each side that a model reads, one or two, and nodes of its flow."""

    sides: tuple[int, ...]
    nodes: int

    @classmethod
    def of(cls, example: Coarsened | EncodedImage) -> "Size":
        """Of a text with its segments, or of an image with its patches."""
        if isinstance(example, EncodedImage):
            return cls((len(example.tokens),), len(example.tokens))
        inputs = example.text.inputs
        return cls(tuple(len(inputs[name]) for name in SIDES if name in inputs), example.nodes)

    @classmethod
    def of_length(cls, tokens: int, coarsen: Coarsen, *, two_stacks: bool) -> "Size":
        """Of so many tokens, an encoder-decoder's prefix being short.

        Raises:
            InputError: There is no token, or a unit that only a text has.
        """
        if tokens < 1:
            raise InputError(f"a text has at least one token, got {tokens}.")
        if isinstance(coarsen, str):
            raise InputError(
                f"how many {coarsen}s tokens make is known of texts alone: give texts."
            )
        nodes = tokens if coarsen is None else min(tokens, -(-tokens // coarsen) + ALONE)
        return cls((tokens, 1) if two_stacks else (tokens,), nodes + two_stacks)


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
        texts: In the batch.
        tokens: Of its longest text.
        nodes: Of a layer of its flow: tokens or segments.
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

    @property
    def total(self) -> int:
        """The peak: of the model's passes, or of what follows."""
        return max(self.activations + self.tensors, self.held, self.solver)

    @property
    def dominates(self) -> str:
        """What the peak is made of: "activations", "tensors" or "solver"."""
        if self.total == self.solver:
            return "solver"
        return "activations" if self.activations >= self.tensors else "tensors"

    def __str__(self) -> str:
        parts = ("activations", "tensors", "solver")
        named = ", ".join(f"{part} {in_words(getattr(self, part))}" for part in parts)
        return f"{in_words(self.total)} at the peak ({named})"


class Estimator:
    """Estimates for one model and information tensor; measures its activations once, if asked."""

    def __init__(self, model: Any, tensor: str) -> None:
        self.model, self.tensor = getattr(model, "_orig_mod", model), tensor
        parameter = next(model.parameters())
        self.device, self.width = parameter.device, parameter.element_size()
        self.two_stacks = bool(getattr(model.config, "is_encoder_decoder", False))

    def __call__(
        self, sizes: Sequence[Size], *, room: float | None = None, activations: bool = True
    ) -> Estimate:
        """What a batch of these sizes needs.

        Args:
            sizes: Of the examples, which are padded to the longest.
            room: Bytes that the whole call may take; what is free when None.
            activations: Whether to count those of the model, which a few short passes measure.
        """
        batch, nodes = len(sizes), max(size.nodes for size in sizes)
        sides = tuple(map(max, zip(*(size.sides for size in sizes), strict=True)))
        network = self.layers * nodes**2
        one = batch * network * self.width
        meanwhile = one * (2 if self.tensor in ("af", "bcf") else 1) + 2 * one * self.two_stacks
        kept = 16 * batch * network + one
        left = (free_bytes(self.device) if room is None else room) - kept
        own, method = _solver_arrays(batch, network, left)
        return Estimate(
            activations=self._activations(batch, sides) if activations else 0,
            tensors=meanwhile,
            held=one * HELD.get(self.tensor, 1),
            solver=kept + own,
            room=left,
            method=method,
            texts=batch,
            tokens=sum(sides),
            nodes=nodes,
        )

    def largest(
        self, sizes: Sequence[Size], batch_size: int, max_memory: float | str | None
    ) -> Estimate:
        """Of the batch of like lengths that needs most."""
        limit = bytes_of(max_memory)
        order = sorted(sizes, key=lambda size: -sum(size.sides))
        starts = range(0, len(order), batch_size)
        found = [self(order[start : start + batch_size], room=limit) for start in starts]
        return max(found, key=lambda estimate: estimate.total)

    def rooms(
        self, groups: Sequence[Sequence[Size]], max_memory: float | str | None
    ) -> list[float | None]:
        """What the solver may take for each batch of a call; None where that is all there is.

        Raises:
            InputError: A batch needs more than the call may take, or its flow more than is free.
        """
        limit = bytes_of(max_memory)
        if limit is None and expected_calls(self.model.config) is None:
            return [None] * len(groups)
        allowed = free_bytes(self.device) if limit is None else limit
        rooms: list[float | None] = []
        for sizes in groups:
            needed = self(sizes, room=allowed, activations=limit is not None)
            if needed.total > allowed:
                raise self._refusal(needed, sizes, allowed, limit)
            rooms.append(None if limit is None else needed.room)
        return rooms

    def _refusal(
        self, needed: Estimate, sizes: Sequence[Size], allowed: float, limit: float | None
    ) -> InputError:
        """Says what is needed, what there is, and what would fit."""
        source = "is free" if limit is None else "max_memory allows"
        longest = max(sizes, key=lambda size: size.nodes)

        def fits(some: Sequence[Size]) -> bool:
            return self(some, room=allowed, activations=limit is not None).total <= allowed

        batch = next((b for b in BATCHES if b < len(sizes) and fits(sizes[:b])), None)
        advice = [] if batch is None else [f"fewer texts at a time (batch_size={batch})"]
        for coarsen in COARSENED:
            merged = -(-longest.nodes // coarsen) + ALONE
            if merged < longest.nodes and fits([Size(s.sides, merged) for s in sizes]):
                advice.append(f"merged tokens (coarsen={coarsen})")
                break
        advice.append("shorter texts (truncate)")
        return InputError(
            f"a batch of {needed.texts} with up to {needed.tokens} tokens needs about {needed} "
            f"beside the model, and {source} {in_words(allowed)}; what would help: "
            f"{', or '.join(advice)}."
        )

    @property
    def layers(self) -> int:
        """Layers of the flow, as the model's config has them."""
        found: int | None = expected_calls(self.model.config)
        return self._probed[0] if found is None else found

    def _activations(self, batch: int, sides: tuple[int, ...]) -> int:
        _, polynomials = self._probed
        t, longest = sum(sides), max(sides)
        terms = zip(polynomials, sides, strict=True)
        found: float = sum(c + d * n + e * n * n for (c, d, e), n in terms)
        tile: int = TEMPORARIES * min(max(TILE, longest), batch * longest**2) * self.width
        return int(batch * found) + tile + 5 * batch * t**2

    @cached_property
    def _probed(self) -> tuple[int, list[tuple[float, float, float]]]:
        """Layers, and of each side the polynomial of the bytes that one text's passes take."""
        family = family_of(self.model)
        keeps_weights = family is not None and family.probabilities is not None
        lengths = SHORT if keeps_weights else SHORT[1:]
        names = ("input_ids", "decoder_input_ids")[: 1 + self.two_stacks]
        least = dict.fromkeys(names, lengths[0])
        found: list[tuple[float, float, float]] = []
        layers = 0
        for name in names:
            peaks = []
            for length in lengths:
                layers, peak = self._peak(least | {name: length})
                counted = layers + (0 if keeps_weights else TEMPORARIES)  # beside activations
                peaks.append(max(peak - counted * length**2 * self.width, 0))
            c, d, e = _fitted(lengths, peaks)
            # What the other side takes is in the first side's constant already.
            found.append((-d * lengths[0] if found else max(c, 0.0), d, e))
        return layers, found

    def _peak(self, lengths: dict[str, int]) -> tuple[int, int]:
        """Layers, and the bytes at the peak, of one text of so many tokens."""
        token = 1 if self.model.config.get_text_config().vocab_size > 1 else 0
        inputs = {
            name: torch.full((1, n), token, device=self.device) for name, n in lengths.items()
        }
        asked = Asked(None, logit, _any_number)
        tensor = "cf" if self.tensor == "bcf" else self.tensor
        with Allocations() as counted:
            (found,) = captures(self.model, inputs, [asked], tensor=tensor)
        return found.capacities.shape[1], counted.peak


def _fitted(lengths: Sequence[int], peaks: Sequence[float]) -> tuple[float, float, float]:
    """The line or parabola through as many points: its coefficients, constant first."""
    powers = torch.tensor(lengths, dtype=torch.float64)[:, None] ** torch.arange(len(lengths))
    found = torch.linalg.solve(powers, torch.tensor(peaks, dtype=torch.float64))
    c, d, *e = found.tolist()
    return c, d, e[0] if e else 0.0


def _any_number(output: Any) -> Tensor:
    """`(batch, 1)`: what is explained does not matter to memory."""
    first: Tensor = output[0]
    return first.flatten(1)[:, :1]


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
