"""Forms in which images and pixel values are given, and forms that are refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.attribution_checks import assert_same_scores
from support.images import photo, tiny_vit
from support.tiny_models import build
from transformers import ViTImageProcessorPil

from attnflow import Explainer, InputError, StorageError


@pytest.fixture(scope="module")
def seeing():
    return tiny_vit()


@pytest.fixture(scope="module")
def a(seeing):
    return seeing(images=photo(), edges=True)


def test_forms_in_which_an_image_is_given(seeing, a, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    floats = (photo() / 255).astype(np.float32)
    for value in (Image.fromarray(photo()), tmp_path / "photo.png", floats):
        assert_same_scores(seeing(images=value), a)
    named = seeing(images=str(tmp_path / "photo.png"))
    assert named.text == "photo.png" and (named.image == photo()).all()


def test_grey_images_for_models_of_grey_and_of_colour(seeing):
    grey = photo()[:, :, :1]
    three = seeing(images=np.repeat(grey, 3, axis=2))
    for value in (grey, grey[:, :, 0], Image.fromarray(grey[:, :, 0])):
        assert_same_scores(seeing(images=value), three)
    model = build("vit", num_channels=1)
    processor = ViTImageProcessorPil(
        size={"height": 6, "width": 8}, image_mean=[0.5], image_std=[0.5]
    )
    one = Explainer(model, processor)
    assert_same_scores(one(images=np.repeat(grey, 3, axis=2)), one(images=grey))


def test_a_photograph_is_turned_as_its_camera_says(seeing, a, tmp_path):
    turned = Image.fromarray(photo()).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    turned.save(tmp_path / "turned.png", exif=exif)
    assert_same_scores(seeing(images=tmp_path / "turned.png"), a)


NAN = np.full((6, 8, 3), np.nan)
BAD_IMAGES = [
    (np.zeros((6, 8, 3), np.int32), "uint8, or floats in 0..1"),
    (NAN, "not finite"),
    (np.full((6, 8, 3), 7.0), r"must lie in 0..1; it goes from 7 to 7"),
    (np.zeros((3, 6, 8), np.uint8), "Channels come last"),
    (np.zeros((6, 8, 4), np.uint8), r"\(h, w, 3\); it has \(6, 8, 4\)"),
    (np.zeros((1, 8, 3), np.uint8), "8 x 1 pixels: expected 2 x 2"),
    ([], "images is empty"),
    (7, "an image must be a file.*got int"),
    ([photo(), None], r"image 1 \(of 2\): an image must be"),
    (torch.zeros(3, 6, 8), "an image must be.*got Tensor"),
    (Image.new("I;16", (8, 6)), "mode 'I;16'"),
]


@pytest.mark.parametrize(("images", "says"), BAD_IMAGES, ids=[says for _, says in BAD_IMAGES])
def test_images_that_are_refused(seeing, images, says):
    with pytest.raises(InputError, match=says):
        seeing(images=images)


BAD_VALUES = [
    (torch.zeros(3, 8, 8), r"8 x 8 pixels, and ViTForImageClassification reads 6 x 8"),
    (torch.zeros(2, 1, 6, 8), "1 channels.*reads 3"),
    (torch.full((3, 6, 8), torch.inf), "not finite"),
    (torch.zeros(6, 8), "shape"),
    (torch.zeros(0, 3, 6, 8), "empty"),
    (torch.zeros(3, 6, 8, dtype=torch.uint8), "must be floats"),
    ([[1.0]], "got list"),
]


@pytest.mark.parametrize(("values", "says"), BAD_VALUES, ids=[says for _, says in BAD_VALUES])
def test_pixel_values_that_are_refused(seeing, values, says):
    with pytest.raises(InputError, match=says):
        seeing(pixel_values=values)


def test_a_model_that_takes_any_size_wants_a_patch_at_least():
    with pytest.raises(InputError, match="1 x 8 pixels, less than a patch of 2 x 2"):
        Explainer(build("dinov2"))(pixel_values=torch.zeros(3, 1, 8))


@pytest.mark.parametrize("neutral", ["grey", [1.0, 2.0], torch.zeros(3, 5, 5), np.nan])
def test_a_bad_neutral_value_is_refused(seeing, neutral):
    with pytest.raises(InputError, match="neutral"):
        seeing(images=photo(), neutral=neutral)


def test_files_that_are_refused(seeing, tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        seeing(images=tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match="is not an image that Pillow can read"):
        seeing(images=tmp_path / "text.png")
    Image.fromarray(photo(300, 300)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:500])
    with pytest.raises(InputError, match="cut.png' is a broken image"):
        seeing(images=tmp_path / "cut.png")
