"""Explained images: answers, batches, files of results, and what does not go together."""

import numpy as np
import pytest
import torch
from support.attribution_checks import assert_same_scores, assert_scores_add_up
from support.images import of_image, photo, processor_of, tiny_vit
from support.tiny_models import build
from transformers import CLIPImageProcessorPil, ViTImageProcessorPil

from attnflow import Attribution, Explainer, InputError, ModelError
from attnflow.attribution.attribution import load, save
from attnflow.inputs.image_inputs import ImageInputs
from attnflow.models.loading import load as load_model
from attnflow.models.tasks import explained_task


@pytest.fixture(scope="module")
def seeing():
    return tiny_vit()


@pytest.fixture(scope="module")
def a(seeing):
    return seeing(images=photo(), edges=True)


@pytest.mark.parametrize("tensor", ["af", "gf", "agf", "cf", "bcf"])
@pytest.mark.parametrize("family", ["vit", "deit", "dinov2", "dinov2_with_registers", "ijepa"])
def test_every_tensor_of_every_family_is_a_certified_flow_to_patches(family, tensor):
    model = build(family)
    a = Explainer(model, processor_of(model))(images=photo(), tensor=tensor)
    assert a.task == "image-classification" and a.certificate.is_certified
    assert len(a) == a.special.sum() + a.grid[0] * a.grid[1]
    assert_scores_add_up(a)
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


def test_the_same_answer_alone_and_in_a_batch(seeing, a):
    many = [photo(seed=1), photo(), photo(12, 40, seed=2)]
    found = seeing(images=many, batch_size=2)
    assert [one.image.shape for one in found] == [image.shape for image in many]
    assert_same_scores(found[1], a)
    assert_same_scores(found[2], seeing(images=many[2]))


def test_images_of_several_shapes_where_the_model_takes_any():
    model = build("dinov2")
    explainer = Explainer(
        model, CLIPImageProcessorPil(size={"shortest_edge": 8}, do_center_crop=False)
    )
    many = [photo(8, 8), photo(8, 12), photo(8, 8, seed=3)]
    found = explainer(images=many)
    assert [one.grid for one in found] == [(4, 4), (4, 6), (4, 4)]
    for one, image in zip(found, many, strict=True):
        assert_same_scores(one, explainer(images=image))


def test_pixel_values_are_what_the_processor_makes(seeing, a):
    values = seeing.image_processor(images=[photo()], return_tensors="pt")["pixel_values"]
    same = Explainer(seeing.model, name="bare")
    assert_same_scores(same(pixel_values=values[0]), a)
    (only,) = same(pixel_values=values.double().numpy())
    assert_same_scores(only, a)
    assert only.image.shape == (6, 8, 3) and only.box == (0, 0, 8, 6)


def test_pixel_values_are_shown_as_the_image_they_were():
    model = build("vit")
    explainer = Explainer(model, processor_of(model))
    image = photo(6, 8)
    values = explainer.image_processor(images=[image], return_tensors="pt")["pixel_values"][0]
    assert np.abs(explainer(pixel_values=values).image.astype(int) - image).max() <= 1


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
            assert gone.float().mean() == pytest.approx(4 / 12), "30 % of 12, rounded up"
            np.testing.assert_allclose(last[:, gone].T, [wanted] * int(gone.sum()))
    finally:
        hook.remove()


def test_mid_grey_where_the_processor_takes_no_mean_off(seeing):
    size = {"height": 6, "width": 8}
    plain = ViTImageProcessorPil(size=size, do_normalize=False)
    found = Explainer(seeing.model, plain)(images=photo())
    assert_same_scores(found, Explainer(seeing.model, plain)(images=photo(), neutral=0.5))
    raw = ViTImageProcessorPil(size=size, do_normalize=False, do_rescale=False)
    found = Explainer(seeing.model, raw)(images=photo())
    assert_same_scores(found, Explainer(seeing.model, raw)(images=photo(), neutral=127.5))


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
    assert record["schema_version"] == 5 and record["grid"] == (3, 4) and record["words"] == []
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
    assert_same_scores(explainer(images=photo()), a)


def test_a_tower_is_loaded_as_the_class_it_is(tmp_path):
    model = build("clip_vision_model")
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no image processor next to its weights"):
        load_model(tmp_path)
    processor_of(model).save_pretrained(tmp_path)
    loaded, _ = load_model(tmp_path)
    assert type(loaded) is type(model)
    Explainer.from_pretrained(tmp_path)(images=photo(), target=of_image)


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
    with pytest.raises(InputError, match="is not an image processor"):
        Explainer(seeing.model, tokenizer)
    with pytest.raises(InputError, match="no image processor to read"):
        Explainer(seeing.model)(images=photo())


def test_an_image_processor_is_no_tokenizer(explainer, seeing):
    with pytest.raises(InputError, match="reads texts.*is not a tokenizer"):
        Explainer(explainer.model, seeing.image_processor)


def test_pillow_is_an_extra(seeing, saved, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"images need Pillow: pip install 'attnflow\[images\]'"):
        seeing(images=photo())
    with pytest.raises(ImportError, match=r"need Pillow: pip install 'attnflow\[images\]'"):
        load_model(saved)
    seeing(pixel_values=torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(1))).overlay()
