"""Memory of a model's own forward and backward pass, measured.

Texts are measured on two short ones, and a straight line gives all others. Activations grow with
the tokens, since attention's weights exist for one head and one tile of queries alone. Models that
compute attention themselves hold the weights of all heads: for them a parabola replaces the line.

Images are measured on one of the size in question, since most models read no other. A batch takes
as many times the memory of one image, which is at least what its tiles need. Read next:
estimate.py.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from attnflow.capture import FROZEN, Objective, captures, product_rules
from attnflow.capture.attention import TILE
from attnflow.capture.capture import knows_kept_logits
from attnflow.capture.families import family_of
from attnflow.capture.input_names import MASK_OF_IDS
from attnflow.capture.objectives import contrast
from attnflow.capture.placement import device_of
from attnflow.capture.weights import pass_dtype
from attnflow.explainer.memory.sizes import ExampleSize
from attnflow.explainer.memory.tracking import AllocationTracker
from attnflow.explainer.targets.span import span_reading

TILE_ARRAYS = 7  # arrays of a head's tile that exist at once
SHORT = (8, 16, 32)  # tokens; the last two for a line
PIXEL_ARRAYS = 3  # pixel values of a batch at once: as they are, neutral, with patches removed

Polynomial = tuple[float, float, float]


class ActivationMemory:
    """Bytes of one model's passes without the information tensors; measured when asked for.

    Attributes:
        model: The model.
        tensor: The tensor of its passes; a stage of `bcf` or `net` is a pass of `cf`.
        rules: The backward rules of these passes.
        logits_read: Tokens of each text at which logits are read, at most; None where a function
            reads the output, and may read all. A language model computes no others.
        device: The device of the model.
        element_size: Bytes of a number.
    """

    def __init__(self, model: Any, tensor: str, *, logits_read: int | None = 1) -> None:
        self.model, self.logits_read = model, logits_read
        self.tensor = "cf" if tensor in ("bcf", "net") else tensor
        # A shared pattern has gradients of queries and keys as well.
        self.rules = product_rules(model) if tensor == "net" else FROZEN
        is_encoder_decoder = bool(getattr(model.config, "is_encoder_decoder", False))
        self._names = tuple(MASK_OF_IDS)[: 2 if is_encoder_decoder else 1]
        self.device, self.dtype = device_of(model), pass_dtype(model)
        self.element_size = self.dtype.itemsize
        self._images: dict[tuple[int, ...], tuple[int, int]] = {}

    def of_batch(self, sizes: Sequence[ExampleSize]) -> int:
        """Bytes of a batch of these sizes: texts, padded to the longest, or images of one shape."""
        if sizes[0].pixel_shape:
            return len(sizes) * self._of_image(sizes[0].pixel_shape)[1]
        sides = zip(*(size.sides for size in sizes), strict=True)
        return self._of_texts(len(sizes), tuple(map(max, sides)))

    def layers(self, size: ExampleSize) -> int:
        """Number of layers in the flow of such an example."""
        return self._of_image(size.pixel_shape)[0] if size.pixel_shape else self._of_text[0]

    def _of_image(self, pixel_shape: tuple[int, ...]) -> tuple[int, int]:
        """Layers, and the bytes of one image's passes."""
        if pixel_shape not in self._images:
            values = torch.zeros(1, *pixel_shape, dtype=self.dtype, device=self.device)
            layers, nodes, peak = self._measure({"pixel_values": values})
            tensors = layers * nodes**2 * self.element_size * (2 if self.tensor == "af" else 1)
            pixels = PIXEL_ARRAYS * prod(pixel_shape) * self.element_size
            self._images[pixel_shape] = layers, max(peak - tensors, 0) + pixels
        return self._images[pixel_shape]

    def _of_texts(self, batch: int, sides: tuple[int, ...]) -> int:
        t, longest = sum(sides), max(sides)
        terms = zip(self._of_text[1], sides, strict=True)
        activations = sum(c + d * n + e * n * n for (c, d, e), n in terms)
        tile = TILE_ARRAYS * min(max(TILE, longest), batch * longest**2) * self.element_size
        masks = 5 * batch * t**2
        return int(batch * (activations + self._of_more_logits(batch, sides))) + tile + masks

    def _of_more_logits(self, batch: int, sides: tuple[int, ...]) -> float:
        """Bytes of one text's logits besides those at one token, which are measured with the rest.

        The texts of a batch are read at different tokens, and each has logits at those of all.
        """
        if self.logits_read is None or not knows_kept_logits(self.model):
            return 0.0  # all of them are measured with the rest
        kept = min(batch * self.logits_read, sides[-1])
        return (kept - 1) * self._of_logits if kept > 1 else 0.0

    @cached_property
    def _of_logits(self) -> float:
        """Bytes by which the peak of one text's passes grows with each token that is read."""
        ids = self._ids(dict.fromkeys(self._names, SHORT[-1]))
        one, all_of_them = (self._measure(ids, read)[2] for read in (1, SHORT[-1]))
        return max(all_of_them - one, 0) / (SHORT[-1] - 1)

    @cached_property
    def _of_text(self) -> tuple[int, list[Polynomial]]:
        """Layers, and for each stack the polynomial of the bytes of one text's passes."""
        family = family_of(self.model)
        holds_weights = family is not None and family.probabilities is not None
        lengths = SHORT if holds_weights else SHORT[1:]
        least = dict.fromkeys(self._names, lengths[0])
        polynomials: list[Polynomial] = []
        layers = 0
        for name in self._names:
            peaks = []
            for length in lengths:
                layers, _, peak = self._measure(self._ids(least | {name: length}))
                # Squares are counted elsewhere: the information tensors, and a tile's arrays.
                squares = layers + (0 if holds_weights else TILE_ARRAYS)
                peaks.append(max(peak - squares * length**2 * self.element_size, 0))
            c, d, e = _fit(lengths, peaks)
            # The constant of the first stack has the other stack's memory already.
            polynomials.append((-d * lengths[0] if polynomials else max(c, 0.0), d, e))
        return layers, polynomials

    def _ids(self, sides: Mapping[str, int]) -> dict[str, Tensor]:
        """Return one text of so many tokens on each side."""
        # Any token does; 0 is often padding, which some models treat in another way.
        token = 1 if self.model.config.get_text_config().vocab_size > 1 else 0
        return {k: torch.full((1, n), token, device=self.device) for k, n in sides.items()}

    def _measure(self, inputs: Mapping[str, Tensor], read: int = 1) -> tuple[int, int, int]:
        """Layers and nodes of an example's flow, and the bytes at the peak of its passes.

        Logits are read at the last `read` tokens, where a model computes no others.
        """
        objective = Objective(read=_any_number)
        if self.logits_read is not None and knows_kept_logits(self.model):
            t = [*inputs.values()][-1].shape[1]
            positions = torch.arange(t - read, t)[None]
            objective = Objective(
                read=span_reading(positions, torch.zeros_like(positions), contrast)
            )
        with AllocationTracker() as allocated:
            (capture,) = captures(
                self.model, inputs, [objective], tensor=self.tensor, rules=self.rules
            )
        _, layers, nodes, _ = capture.capacities.shape
        return layers, nodes, allocated.peak


def _fit(lengths: Sequence[int], peaks: Sequence[float]) -> Polynomial:
    """Coefficients of the line or parabola through as many points, constant first."""
    powers = torch.tensor(lengths, dtype=torch.float64)[:, None] ** torch.arange(len(lengths))
    # As many points as coefficients: the polynomial goes through all of them.
    coefficients = torch.linalg.solve(powers, torch.tensor(peaks, dtype=torch.float64))
    c, d, *e = coefficients.tolist()
    return c, d, e[0] if e else 0.0


def _any_number(output: Any) -> Tensor:
    """`(batch, 1)`: the number explained does not matter to memory."""
    first: Tensor = output[0]
    return first.flatten(1)[:, :1]
