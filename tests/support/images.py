"""Images, image processors of the tiny models of images (tiny_models.py), and an explainer."""

import numpy as np
import transformers

from attnflow import Explainer
from support.tiny_models import build


def processor_of(model):
    """An image processor that resizes to what the model reads."""
    size = model.config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return transformers.ViTImageProcessorPil(size={"height": height, "width": width})


def photo(height=30, width=20, seed=0):
    """`(height, width, 3)` uint8, at random but smooth, so that resizing keeps something of it."""
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((-(-height // 4), -(-width // 4), 1), np.uint8))[:height, :width]


def of_image(output):
    """A number of an image, whatever the model gives of it."""
    return output.image_embeds[:, 0]


def tiny_vit():
    """An explainer of a tiny ViT that reads 6 x 8 pixels in 3 x 4 patches."""
    model = build("vit")
    return Explainer(model, processor_of(model), name="tiny vit")
