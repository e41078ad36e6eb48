"""What a model's own forward and backward pass takes of memory, measured.

Of texts on two short ones, continued on a straight line: activations grow with the tokens, since
attention's weights exist for one head and one tile of queries alone. Models that compute attention
themselves keep the weights of all heads: for them a parabola takes the place of the line.

Of images on one of the size that is asked about, since most models read no other. A batch takes as
many times what one takes, which is at least what its tiles need. Read next: estimates.py.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from attnflow.capture import Asked, captures
from attnflow.capture.attention import TILE
from attnflow.capture.families import family_of
from attnflow.capture.objectives import logit
from attnflow.explainer.memory.sizes import Size
from attnflow.explainer.memory.tracking import Allocations
from attnflow.inputs.batching import SIDES

TEMPORARIES = 7  # arrays of a head's tile
SHORT = (8, 16, 32)  # tokens; the last two for a line
PIXELS = 3  # pixel values of a batch at once: as they are, neutral ones, with patches removed

Polynomial = tuple[float, float, float]


class Activations:
    """Bytes beside information tensors, of one model and tensor; each measured when asked for."""

    def __init__(self, model: Any, tensor: str) -> None:
        self.model = model
        self.tensor = "cf" if tensor == "bcf" else tensor  # of which a stage of `bcf` is a pass
        two_stacks = bool(getattr(model.config, "is_encoder_decoder", False))
        self.names = tuple(SIDES)[: 1 + two_stacks]
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.width = parameter.element_size()
        self._images: dict[tuple[int, ...], tuple[int, int]] = {}

    def __call__(self, sizes: Sequence[Size]) -> int:
        """Of a batch of these sizes: texts, padded to the longest, or images of one shape."""
        if sizes[0].pixels:
            return len(sizes) * self._of_image(sizes[0].pixels)[1]
        sides = zip(*(size.sides for size in sizes), strict=True)
        return self._of_texts(len(sizes), tuple(map(max, sides)))

    def layers(self, size: Size) -> int:
        """Layers of the flow of such an example."""
        return self._of_image(size.pixels)[0] if size.pixels else self._of_text[0]

    def _of_image(self, pixels: tuple[int, ...]) -> tuple[int, int]:
        """Layers, and the bytes that one image's passes take."""
        if pixels not in self._images:
            values = torch.zeros(1, *pixels, dtype=self.dtype, device=self.device)
            layers, nodes, peak = self._passes({"pixel_values": values})
            tensors = layers * nodes**2 * self.width * (2 if self.tensor == "af" else 1)
            own = max(peak - tensors, 0) + PIXELS * prod(pixels) * self.width
            self._images[pixels] = layers, own
        return self._images[pixels]

    def _of_texts(self, batch: int, sides: tuple[int, ...]) -> int:
        t, longest = sum(sides), max(sides)
        terms = zip(self._of_text[1], sides, strict=True)
        found: float = sum(c + d * n + e * n * n for (c, d, e), n in terms)
        tile: int = TEMPORARIES * min(max(TILE, longest), batch * longest**2) * self.width
        masks = 5 * batch * t**2
        return int(batch * found) + tile + masks

    @cached_property
    def _of_text(self) -> tuple[int, list[Polynomial]]:
        """Layers, and of each side the polynomial of the bytes that one text's passes take."""
        family = family_of(self.model)
        keeps_weights = family is not None and family.probabilities is not None
        lengths = SHORT if keeps_weights else SHORT[1:]
        token = 1 if self.model.config.get_text_config().vocab_size > 1 else 0
        least = dict.fromkeys(self.names, lengths[0])
        found: list[Polynomial] = []
        layers = 0
        for name in self.names:
            peaks = []
            for length in lengths:
                sides = least | {name: length}
                ids = {k: torch.full((1, n), token, device=self.device) for k, n in sides.items()}
                layers, _, peak = self._passes(ids)
                counted = layers + (0 if keeps_weights else TEMPORARIES)  # beside activations
                peaks.append(max(peak - counted * length**2 * self.width, 0))
            c, d, e = _fitted(lengths, peaks)
            # What the other side takes is in the first side's constant already.
            found.append((-d * lengths[0] if found else max(c, 0.0), d, e))
        return layers, found

    def _passes(self, inputs: Mapping[str, Tensor]) -> tuple[int, int, int]:
        """Layers and nodes of the flow of an example, and the bytes at the peak of its passes."""
        asked = Asked(None, logit, _any_number)
        with Allocations() as counted:
            (found,) = captures(self.model, inputs, [asked], tensor=self.tensor)
        _, layers, nodes, _ = found.capacities.shape
        return layers, nodes, counted.peak


def _fitted(lengths: Sequence[int], peaks: Sequence[float]) -> Polynomial:
    """The line or parabola through as many points: its coefficients, constant first."""
    powers = torch.tensor(lengths, dtype=torch.float64)[:, None] ** torch.arange(len(lengths))
    found = torch.linalg.solve(powers, torch.tensor(peaks, dtype=torch.float64))
    c, d, *e = found.tolist()
    return c, d, e[0] if e else 0.0


def _any_number(output: Any) -> Tensor:
    """`(batch, 1)`: what is explained does not matter to memory."""
    first: Tensor = output[0]
    return first.flatten(1)[:, :1]
