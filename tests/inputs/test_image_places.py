"""Places of an image's patches, for any shape, any size, and whatever was done to the image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support.images import photo
from support.tiny_models import build
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, ViTImageProcessorPil

from attnflow import Explainer, ModelError
from attnflow.attribution.views.image_overlay import STRONGEST, TINT, heat


def cutting(size, stride=None):
    """A model that reads 8 x 8 pixels in patches of another shape."""
    stride = stride or size
    model = build("ijepa", image_size=8, patch_size=4)
    embeddings = model.ijepa.embeddings
    rows, columns = ((8 - side) // step + 1 for side, step in zip(size, stride, strict=True))
    embeddings.patch_embeddings.projection = torch.nn.Conv2d(3, 16, size, stride)
    embeddings.position_embeddings = torch.nn.Parameter(torch.zeros(1, rows * columns, 16))
    return model.eval()


@pytest.mark.parametrize(
    ("size", "stride", "grid", "box"),
    [
        ((2, 4), None, (4, 2), (0, 0, 30, 20)),
        ((4, 2), None, (2, 4), (0, 0, 30, 20)),
        ((3, 2), None, (2, 4), (0, 0, 30, 15)),  # two rows of the model's pixels in no patch
        ((4, 2), (2, 2), (3, 4), (0, 2.5, 30, 17.5)),
        ((4, 4), (2, 4), (3, 2), (0, 2.5, 30, 17.5)),
    ],
)
def test_patches_of_any_shape(size, stride, grid, box):
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    a = Explainer(cutting(size, stride), processor)(images=photo(20, 30), tensor="cf")
    assert a.grid == grid and a.box == box


def test_pixels_in_no_patch_are_not_under_the_grid():
    """Patches of 2 x 2 leave the last row and column of 9 x 11 pixels."""
    model = build("dinov2")
    explainer = Explainer(model, ViTImageProcessorPil(size={"height": 9, "width": 11}))
    a = explainer(images=photo(18, 33), tensor="cf")
    assert a.grid == (4, 5) and a.box == (0, 0, 30, 16)
    assert explainer(pixel_values=torch.rand(3, 9, 11), tensor="cf").box == (0, 0, 10, 8)


def test_images_of_one_batch_have_places_of_their_own():
    model = build("vit", image_size=8)
    explainer = Explainer(model, CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size=8))
    many = [photo(60, 40), photo(40, 60), photo(60, 80), photo(40, 40)]
    boxes = [a.box for a in explainer(images=many, tensor="cf")]
    assert boxes == [explainer(images=image, tensor="cf").box for image in many]
    assert len(set(boxes)) == 4


PROCESSORS = {
    "resized": ViTImageProcessorPil(size={"height": 32, "width": 32}),
    "cropped": CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32),
    "resized larger, then cropped": BitImageProcessorPil(size={"shortest_edge": 40}, crop_size=32),
    "cropped alone": CLIPImageProcessorPil(do_resize=False, crop_size=32),
}


@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("size", [(64, 64), (60, 120), (333, 80), (36, 45)])
def test_a_patch_lies_where_the_model_reads_it(kind, size):
    """Light is put under one cell of the grid, and the model sees it in that patch alone."""
    model = build("vit", image_size=32, patch_size=8)
    explainer = Explainer(model, PROCESSORS[kind])
    height, width = size
    left, top, right, bottom = explainer(images=np.zeros((*size, 3), np.uint8), tensor="af").box
    for row, column in ((0, 0), (1, 2), (3, 3)):
        x0, x1 = (left + (right - left) * (column + d) / 4 for d in (0.25, 0.75))
        y0, y1 = (top + (bottom - top) * (row + d) / 4 for d in (0.25, 0.75))
        image = np.zeros((*size, 3), np.uint8)
        image[max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] = 255
        assert image.any()
        seen = PROCESSORS[kind](images=[Image.fromarray(image)], return_tensors="np")
        light = seen["pixel_values"][0].mean(0).reshape(4, 8, 4, 8).mean((1, 3))
        light -= light.min()
        assert light[row, column] > 0.8 * light.sum(), f"{light.round(2)} at {row}, {column}"


def test_the_grid_of_a_padded_image_goes_beyond_it():
    model = build("vit", image_size=32, patch_size=8)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=32)
    a = Explainer(model, processor)(images=photo(40, 40))
    np.testing.assert_allclose(a.box, (-20, -20, 60, 60), atol=0.5)
    assert a.overlay().shape == (40, 40, 3)


def test_cells_of_patches_that_overlap_are_the_middle_of_each():
    model = build("ijepa", image_size=8, patch_size=4)
    embeddings = model.ijepa.embeddings
    embeddings.patch_embeddings.projection = torch.nn.Conv2d(3, 16, kernel_size=4, stride=2)
    embeddings.position_embeddings = torch.nn.Parameter(torch.zeros(1, 9, 16))
    explainer = Explainer(model.eval(), ViTImageProcessorPil(size={"height": 8, "width": 8}))
    a = explainer(images=photo(16, 16), tensor="cf")
    assert a.grid == (3, 3) and a.box == (2, 2, 14, 14)
    with pytest.raises(ModelError, match=r"stages=\(\) .*or tensor='cf'"):
        explainer(images=photo(16, 16))


BENT = {
    "upside down": lambda image: image[::-1],
    "mirrored": lambda image: image[:, ::-1],
    "on its side": lambda image: image.transpose(1, 0, 2),
    "the left half twice": lambda image: np.concatenate([image[:, :4], image[:, :4]], 1),
    "its rows turned inside out": lambda image: image[[2, 1, 0, 5, 4, 3]],
}


@pytest.mark.parametrize("bend", BENT.values(), ids=BENT)
def test_an_image_that_is_bent_is_shown_as_the_model_reads_it(bend):
    def processor(images, return_tensors):
        read = [bend(np.array(image.resize((8, 8))))[:6] for image in images]
        values = np.stack(read) / 255.0
        return {"pixel_values": torch.tensor(values).permute(0, 3, 1, 2)}

    a = Explainer(build("vit"), processor)(images=photo(), tensor="cf")
    assert a.image.shape == (6, 8, 3) and a.box == (0, 0, 8, 6)


@pytest.mark.parametrize("size", [(60, 80), (33, 47), (120, 160), (7, 9)])
def test_every_pixel_of_an_overlay_has_the_tint_of_the_cell_it_lies_in(size):
    explainer = Explainer(build("vit"), ViTImageProcessorPil(size={"height": 6, "width": 8}))
    a = explainer(images=photo(), tensor="cf")
    grey = np.full((60, 80, 3), 90, np.uint8)
    pixels = replace(a, image=grey, box=(8, 6, 72, 54)).overlay(size).astype(int)
    warm = STRONGEST * (TINT[0] - TINT[2]) * heat(a)
    for y, x in np.ndindex(size):
        down, across = (y + 0.5) * 60 / size[0], (x + 0.5) * 80 / size[1]
        inside = 6 <= down < 54 and 8 <= across < 72
        tint = warm[int((down - 6) // 16), int((across - 8) // 16)] if inside else 0
        assert pixels[y, x, 0] - pixels[y, x, 2] == pytest.approx(tint, abs=1 if inside else 0)
