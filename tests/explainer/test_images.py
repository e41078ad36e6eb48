"""Explained images: forms in which they are given, places of patches, refusals."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.images import of_image, photo, processor_of
from support.tiny_models import build
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, ViTImageProcessorPil

from attnflow import Attribution, Explainer, InputError, ModelError, StorageError
from attnflow.attribution.attribution import load, save
from attnflow.inputs.image_inputs import ImageInputs
from attnflow.models.loading import load as load_model
from attnflow.models.tasks import explained_task


@pytest.fixture(scope="module")
def seeing():
    """An explainer of a tiny ViT that reads 6 x 8 pixels in 3 x 4 patches."""
    model = build("vit")
    return Explainer(model, processor_of(model), name="tiny vit")


@pytest.fixture(scope="module")
def a(seeing):
    return seeing(images=photo(), edges=True)


def close(one, other):
    assert one.tokens == other.tokens and one.target == other.target
    np.testing.assert_allclose(one.scores, other.scores, atol=2e-5 * other.scores.max())


@pytest.mark.parametrize("tensor", ["af", "gf", "agf", "cf", "bcf"])
@pytest.mark.parametrize("family", ["vit", "deit", "dinov2", "dinov2_with_registers", "ijepa"])
def test_every_tensor_of_every_family_is_a_certified_flow_to_patches(family, tensor):
    model = build(family)
    a = Explainer(model, processor_of(model))(images=photo(), tensor=tensor)
    assert a.task == "image-classification" and a.certificate.is_certified
    assert len(a) == a.special.sum() + a.grid[0] * a.grid[1]
    assert a.scores.sum() == pytest.approx(a.certificate.value)
    assert a.heatmap().shape == a.grid and a.heatmap().max() > 0
    best, score = a.top(1)[0]
    row, column = map(int, best[1:].split("c"))
    assert a.heatmap()[row, column] == score == a.heatmap().max()


def test_a_tower_is_explained_by_a_function_of_its_output():
    model = build("clip_vision_model")
    explainer = Explainer(model, processor_of(model))
    with pytest.raises(InputError, match="gives no classes.*target="):
        explainer(images=photo())
    a = explainer(images=photo(), target=of_image)
    assert a.task == "image-feature-extraction" and a.label == "of_image"
    assert a.grid == (4, 4) and a.tokens[:2] == ("[CLS]", "r0c0")


def test_forms_in_which_an_image_is_given(seeing, a, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    floats = (photo() / 255).astype(np.float32)
    for value in (Image.fromarray(photo()), tmp_path / "photo.png", floats):
        close(seeing(images=value), a)
    named = seeing(images=str(tmp_path / "photo.png"))
    assert named.text == "photo.png" and (named.image == photo()).all()


def test_grey_images_for_models_of_grey_and_of_colour(seeing):
    grey = photo()[:, :, :1]
    three = seeing(images=np.repeat(grey, 3, axis=2))
    for value in (grey, grey[:, :, 0], Image.fromarray(grey[:, :, 0])):
        close(seeing(images=value), three)
    model = build("vit", num_channels=1)
    processor = ViTImageProcessorPil(
        size={"height": 6, "width": 8}, image_mean=[0.5], image_std=[0.5]
    )
    one = Explainer(model, processor)
    close(one(images=np.repeat(grey, 3, axis=2)), one(images=grey))


def test_a_photograph_is_turned_as_its_camera_says(seeing, a, tmp_path):
    turned = Image.fromarray(photo()).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    turned.save(tmp_path / "turned.png", exif=exif)
    close(seeing(images=tmp_path / "turned.png"), a)


def test_the_same_answer_alone_and_in_a_batch(seeing, a):
    many = [photo(seed=1), photo(), photo(12, 40, seed=2)]
    found = seeing(images=many, batch_size=2)
    assert [one.image.shape for one in found] == [image.shape for image in many]
    close(found[1], a)
    close(found[2], seeing(images=many[2]))


def test_images_of_several_shapes_where_the_model_takes_any():
    model = build("dinov2")
    explainer = Explainer(
        model, CLIPImageProcessorPil(size={"shortest_edge": 8}, do_center_crop=False)
    )
    many = [photo(8, 8), photo(8, 12), photo(8, 8, seed=3)]
    found = explainer(images=many)
    assert [one.grid for one in found] == [(4, 4), (4, 6), (4, 4)]
    for one, image in zip(found, many, strict=True):
        close(one, explainer(images=image))


def test_pixel_values_are_what_the_processor_makes(seeing, a):
    values = seeing.image_processor(images=[photo()], return_tensors="pt")["pixel_values"]
    same = Explainer(seeing.model, name="bare")
    close(same(pixel_values=values[0]), a)
    (only,) = same(pixel_values=values.double().numpy())
    close(only, a)
    assert only.image.shape == (6, 8, 3) and only.box == (0, 0, 8, 6)


def test_pixel_values_are_shown_as_the_image_they_were():
    model = build("vit")
    explainer = Explainer(model, processor_of(model))
    image = photo(6, 8)
    values = explainer.image_processor(images=[image], return_tensors="pt")["pixel_values"][0]
    assert np.abs(explainer(pixel_values=values).image.astype(int) - image).max() <= 1


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
    with pytest.raises(ModelError, match="use tensor='cf'"):
        explainer(images=photo(16, 16))


def test_removed_patches_take_the_neutral_value(seeing):
    seen = []
    hook = seeing.model.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["pixel_values"]), with_kwargs=True
    )
    colour = [1.5, -0.5, 0.25]
    try:
        for neutral, wanted in ((None, [0, 0, 0]), (0.5, [0.5] * 3), (colour, colour)):
            seen.clear()
            seeing(images=photo(), neutral=neutral)
            whole, last = seen[0][0], seen[-1][0]
            gone = (whole != last).any(0)
            assert gone.float().mean() == pytest.approx(4 / 12), (
                "30 % of twelve patches, rounded up"
            )
            np.testing.assert_allclose(last[:, gone].T, [wanted] * int(gone.sum()))
    finally:
        hook.remove()


def test_mid_grey_where_the_processor_takes_no_mean_off(seeing):
    size = {"height": 6, "width": 8}
    plain = ViTImageProcessorPil(size=size, do_normalize=False)
    found = Explainer(seeing.model, plain)(images=photo())
    close(found, Explainer(seeing.model, plain)(images=photo(), neutral=0.5))
    raw = ViTImageProcessorPil(size=size, do_normalize=False, do_rescale=False)
    found = Explainer(seeing.model, raw)(images=photo())
    close(found, Explainer(seeing.model, raw)(images=photo(), neutral=127.5))


def test_target_and_contrast(seeing, a):
    other = seeing(images=[photo(), photo()], target=["LABEL_0", 1], against=[1, "label_2"])
    assert [(one.target, one.against) for one in other] == [(0, 1), (1, 2)]
    assert np.abs(other[0].scores - a.scores).max() > 1e-3
    with pytest.raises(InputError, match="no contrast with itself"):
        seeing(images=photo(), against=a.target)


def test_fields_and_file_of_the_result_of_an_image(seeing, a, tmp_path):
    assert repr(a).startswith("Attribution(LABEL_") and a.top(1)[0][0] in repr(a)
    with pytest.raises(InputError, match="no words.*heatmap"):
        a.words()
    record = a.to_dict()
    assert record["schema_version"] == 3 and record["grid"] == (3, 4) and record["words"] == []
    assert "image" not in record and record["box"] == (0, 0, 20, 30)
    again = Attribution.load(a.save(tmp_path / "a.safetensors"))
    assert again.grid == a.grid and again.box == a.box and again.tokens == a.tokens
    assert (again.image == a.image).all() and (again.edges == a.edges).all()
    assert again.image.dtype == np.uint8 and not again.image.flags.writeable
    assert a.edges.shape == (3, 13, 13) and a.shares.sum() == pytest.approx(1)


def test_texts_and_images_in_one_file(seeing, a, explainer, tmp_path):
    text = explainer("bad")
    first, second = load(save([text, a], tmp_path / "both"))
    assert first.image is None and first.grid is None and second.grid == (3, 4)
    for call in (first.heatmap, first.overlay):
        with pytest.raises(InputError, match="text"):
            call()


def test_an_overlay_is_warm_where_the_scores_are(a):
    flat = Attribution(
        **{**vars(a), "image": np.full((60, 80, 3), 90, np.uint8), "box": (8, 6, 72, 54)}
    )
    for size, shape in ((None, (60, 80)), (160, (120, 160)), ((33, 47), (33, 47)), (20, (15, 20))):
        pixels = flat.overlay(size)
        assert pixels.shape == (*shape, 3) and pixels.dtype == np.uint8
        warmth = pixels[:, :, 0].astype(int) - pixels[:, :, 2]
        row, column = np.unravel_index(a.heatmap().argmax(), (3, 4))
        y, x = (6 + 16 * (row + 0.5)) / 60, (8 + 16 * (column + 0.5)) / 80
        assert warmth[int(y * shape[0]), int(x * shape[1])] == warmth.max() > 100
        assert warmth[0, 0] == 0, "outside the grid there is no tint"
    for wrong in (0, (3, 0), "large"):
        with pytest.raises(InputError, match="size must be"):
            a.overlay(wrong)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    model = build("vit")
    model.save_pretrained(folder)
    processor_of(model).save_pretrained(folder)
    return folder


def test_loaded_by_folder(saved, a):
    explainer = Explainer.from_pretrained(saved)
    assert explainer.tokenizer is None and explainer.limit is None
    close(explainer(images=photo()), a)


def test_a_tower_is_loaded_as_the_class_it_is(tmp_path):
    model = build("clip_vision_model")
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no image processor next to its weights"):
        load_model(tmp_path)
    processor_of(model).save_pretrained(tmp_path)
    loaded, _ = load_model(tmp_path)
    assert type(loaded) is type(model)
    Explainer.from_pretrained(tmp_path)(images=photo(), target=of_image)


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
    with pytest.raises(InputError, match="no image that Pillow can read"):
        seeing(images=tmp_path / "text.png")
    Image.fromarray(photo(300, 300)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:500])
    with pytest.raises(InputError, match="cut.png' is a broken image"):
        seeing(images=tmp_path / "cut.png")


@pytest.mark.parametrize(
    "given",
    [
        {"texts": "bad"},
        {"images": photo(), "texts": "bad"},
        {"images": photo(), "pair": "bad"},
        {"images": photo(), "truncate": True},
        {"input_ids": [1]},
        {"images": photo(), "continuation": 2},
        {"images": photo(), "span": (1, 2)},
        {"images": photo(), "span": False},
    ],
)
def test_texts_are_nothing_for_a_model_of_images(seeing, given):
    with pytest.raises(InputError, match="ViTForImageClassification reads images"):
        seeing(**given)


def test_a_reader_of_images_continues_none(seeing):
    inputs = ImageInputs(seeing.model, seeing.image_processor, explained_task(seeing.model))
    message = "ViTForImageClassification reads images.*and no continuation"
    with pytest.raises(InputError, match=message):
        inputs.continued(inputs.encode(photo()), 2)


def test_images_are_nothing_for_a_model_of_texts(explainer):
    for given in ({"images": photo()}, {"texts": "bad", "pixel_values": 1}, {"neutral": 0.5}):
        with pytest.raises(InputError, match="BertForSequenceClassification reads texts"):
            explainer(**given)


def test_one_of_the_two_and_no_position(seeing):
    for given in ({}, {"images": photo(), "pixel_values": torch.zeros(3, 6, 8)}):
        with pytest.raises(InputError, match="one of the two"):
            seeing(**given)
    with pytest.raises(InputError, match="decides about the whole image"):
        seeing(images=photo(), position=3)


def test_processor_and_model_that_do_not_belong_together(seeing, tokenizer):
    other = Explainer(seeing.model, ViTImageProcessorPil(size={"height": 8, "width": 8}))
    with pytest.raises(ModelError, match="do not belong together"):
        other(images=photo())
    grey = Explainer(build("vit", num_channels=1), processor_of(seeing.model))
    with pytest.raises(ModelError, match="does not take an image of mode L"):
        grey(images=photo())
    with pytest.raises(InputError, match="is no image processor"):
        Explainer(seeing.model, tokenizer)
    with pytest.raises(InputError, match="no image processor to read"):
        Explainer(seeing.model)(images=photo())


def test_an_image_processor_is_no_tokenizer(explainer, seeing):
    with pytest.raises(InputError, match="reads texts.*is no tokenizer"):
        Explainer(explainer.model, seeing.image_processor)


def test_pillow_is_an_extra(seeing, saved, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"images need Pillow: pip install 'attnflow\[images\]'"):
        seeing(images=photo())
    with pytest.raises(ImportError, match=r"need Pillow: pip install 'attnflow\[images\]'"):
        load_model(saved)
    seeing(pixel_values=torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(1))).overlay()
