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
from attnflow.capture.objectives import logits_at
from attnflow.explainer.memory.sizes import ExampleSize
from attnflow.explainer.memory.tracking import AllocationTracker

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
        all_logits: True where a function reads the output of a language model, and may read logits
            at every token; else the model computes those of a few.
        device: The device of the model.
        element_size: Bytes of a number.
    """

    def __init__(self, model: Any, tensor: str, *, all_logits: bool = False) -> None:
        self.model, self.all_logits = model, all_logits
        self.tensor = "cf" if tensor in ("bcf", "net") else tensor
        # A shared pattern has gradients of queries and keys as well.
        self.rules = product_rules(model) if tensor == "net" else FROZEN
        is_encoder_decoder = bool(getattr(model.config, "is_encoder_decoder", False))
        self._names = tuple(MASK_OF_IDS)[: 2 if is_encoder_decoder else 1]
        # All parameters lie on one device, which `check_model` has checked.
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.element_size = parameter.element_size()
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
        return int(batch * activations) + tile + masks

    @cached_property
    def _of_text(self) -> tuple[int, list[Polynomial]]:
        """Layers, and for each stack the polynomial of the bytes of one text's passes."""
        family = family_of(self.model)
        holds_weights = family is not None and family.probabilities is not None
        lengths = SHORT if holds_weights else SHORT[1:]
        # Any token does; 0 is often padding, which some models treat in another way.
        token = 1 if self.model.config.get_text_config().vocab_size > 1 else 0
        least = dict.fromkeys(self._names, lengths[0])
        polynomials: list[Polynomial] = []
        layers = 0
        for name in self._names:
            peaks = []
            for length in lengths:
                sides = least | {name: length}
                ids = {k: torch.full((1, n), token, device=self.device) for k, n in sides.items()}
                layers, _, peak = self._measure(ids)
                # Squares are counted elsewhere: the information tensors, and a tile's arrays.
                squares = layers + (0 if holds_weights else TILE_ARRAYS)
                peaks.append(max(peak - squares * length**2 * self.element_size, 0))
            c, d, e = _fit(lengths, peaks)
            # The constant of the first stack has the other stack's memory already.
            polynomials.append((-d * lengths[0] if polynomials else max(c, 0.0), d, e))
        return layers, polynomials

    def _measure(self, inputs: Mapping[str, Tensor]) -> tuple[int, int, int]:
        """Layers and nodes of an example's flow, and the bytes at the peak of its passes."""
        last = torch.tensor([next(iter(inputs.values())).shape[1] - 1])
        reads_few = not self.all_logits and knows_kept_logits(self.model)
        objective = Objective(read=logits_at(last) if reads_few else _any_number)
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
