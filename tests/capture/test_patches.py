"""Image models: patches are tokens, after a class token and others that a family puts first."""

import pytest
import torch
from support.family_measurements import images, read_image
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SwinConfig,
    SwinForImageClassification,
)

from attnflow.capture import (
    Objective,
    Patches,
    balanced,
    capture,
    leading_tokens,
    patches_of,
    staged_capture,
)
from attnflow.capture.objectives import contrast
from attnflow.errors import InputError, ModelError

TARGET = torch.tensor([0, 2])


def pixels(model, count=2):
    values = torch.cat(list(images(model)))[:count]
    return {"pixel_values": values.to(next(model.parameters()).dtype)}


def test_conserved_at_every_node_without_biases(build, vision_family):
    # Patches are embedded, and positions added, before the first layer: nothing is lost above.
    model = build(vision_family, biases=False, dtype=torch.float64)
    got = capture(model, pixels(model), Objective(TARGET, read=read_image))
    assert got.signed.abs().amax(dim=(-2, -1)).min() > 1e-5, "a degenerate model tests nothing"
    value = got.logits.gather(1, TARGET[:, None])
    layers = got.signed.sum((-2, -1)) + got.residual.sum(-1)
    leaves, arrives = got.signed.sum(-1) + got.residual, got.signed.sum(-2) + got.residual
    small = 1e-11 * got.signed.abs().max()
    assert (layers - value).abs().max() < small
    assert (arrives[:, 1:] - leaves[:, :-1]).abs().max() < small


@pytest.mark.parametrize("tensor", ["gf", "agf"])
def test_equals_eager_weights_with_autograd(build, eager, vision_family, tensor):
    model = build(vision_family, dtype=torch.float64)
    inputs = pixels(model)
    got = capture(model, inputs, Objective(TARGET, read=read_image), tensor=tensor)
    output = eager(model)(**inputs, output_attentions=True)
    value = read_image(output).gather(1, TARGET[:, None]).sum()
    gradients = torch.autograd.grad(value, output.attentions)
    for layer, (a, g) in enumerate(zip(output.attentions, gradients, strict=True)):
        wanted = (g.relu() if tensor == "gf" else (a * g).relu()).mean(1)
        assert wanted.max() > 1e-6, "a degenerate model tests nothing"
        assert (got.capacities[:, layer] - wanted).abs().max() < 1e-5 * wanted.max()


def test_stages_grey_out_whole_patches(build, vision_family):
    model, seen = build(vision_family), []
    inputs = pixels(model)
    model.register_forward_pre_hook(
        lambda m, args, given: seen.append(given["pixel_values"]), with_kwargs=True
    )
    grey = torch.zeros_like(inputs["pixel_values"])
    # The predicted class: for another one all effects of a layer may be negative.
    got = staged_capture(
        model, inputs, grey, Objective(read=read_image, scalar=contrast), removed=(0.25,)
    )
    whole, later = seen
    removed = (whole != later).any(1)
    patches = removed.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).float().mean((2, 4))
    assert set(patches.flatten().tolist()) == {0.0, 1.0}, "patches go as a whole"
    rows, columns = patches.shape[1:]
    assert patches.sum((1, 2)).tolist() == [rows * columns / 4] * 2
    total = balanced(got.capacities).sum((2, 3))
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize(
    ("side", "shape"), [((2, 2), (9, 11)), ((2, 4), (8, 8)), ((4, 2), (8, 8)), ((2, 4), (9, 11))]
)
def test_stages_grey_out_the_pixels_of_a_patch_whatever_its_shape(build, side, shape):
    """Pixels of the image that a shape leaves in no patch stay."""
    model, seen = build("ijepa", image_size=shape), []
    rows, columns = (pixels // own for pixels, own in zip(shape, side, strict=True))
    embeddings = model.ijepa.embeddings
    embeddings.patch_embeddings.projection = torch.nn.Conv2d(3, 16, side, side)
    embeddings.position_embeddings = torch.nn.Parameter(torch.zeros(1, rows * columns, 16))
    model.eval().register_forward_pre_hook(
        lambda m, args, given: seen.append(given["pixel_values"]), with_kwargs=True
    )
    values = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(1))
    got = staged_capture(model, {"pixel_values": values}, torch.zeros_like(values), removed=(0.25,))
    removed = (seen[0] != seen[1]).any(1)[0].int()
    cells = removed[: rows * side[0] : side[0], : columns * side[1] : side[1]]
    assert cells.sum() == -(-rows * columns // 4)
    whole = torch.zeros_like(removed)
    whole[: rows * side[0], : columns * side[1]] = torch.kron(cells, cells.new_ones(side))
    assert torch.equal(removed, whole)
    text = capture(model, {"pixel_values": values}, Objective(got.target, scalar=contrast))
    effects = (text.signed[0, 0].sum(0) + text.residual[0, 0]).view(rows, columns)
    assert effects[cells > 0].min() >= effects[cells == 0].max(), "those of largest effect go"


def test_a_patch_that_of_the_baseline_stays(build):
    model, seen = build("vit"), []
    inputs = pixels(model, 1)
    inputs["pixel_values"][:, :, :, :4] = 0  # the left half
    model.register_forward_pre_hook(
        lambda m, args, given: seen.append(given["pixel_values"]), with_kwargs=True
    )
    staged_capture(model, inputs, torch.zeros_like(inputs["pixel_values"]), removed=(0.5,))
    assert (seen[0] != seen[1]).any(1)[0].sum() == 3 * 4, "half of the six that can be removed"


def test_images_of_another_shape(build):
    model = build("vit")
    with pytest.raises(InputError, match=r"'pixel_values'.*\(batch, channels, height, width\)"):
        capture(model, {"pixel_values": torch.zeros(3, 6, 8)})
    inputs = pixels(model)
    with pytest.raises(InputError, match="baseline must be a tensor of shape"):
        staged_capture(model, inputs, torch.zeros(2, 3, 8, 6))


def test_patches_that_overlap_cannot_be_removed_one_by_one(build):
    model = build("ijepa")
    embeddings = model.ijepa.embeddings
    old = embeddings.patch_embeddings.projection
    embeddings.patch_embeddings.projection = torch.nn.Conv2d(3, old.out_channels, 2, stride=1)
    embeddings.position_embeddings = torch.nn.Parameter(torch.zeros(1, 5 * 7, old.out_channels))
    model.eval()
    assert patches_of(model).grid(6, 8) == (5, 7)
    inputs = pixels(model)
    assert capture(model, inputs, Objective(TARGET)).capacities.shape[-1] == 5 * 7
    with pytest.raises(ModelError, match="overlap|apart"):
        staged_capture(model, inputs, torch.zeros_like(inputs["pixel_values"]))


def test_tokens_before_the_patches_have_names(build):
    names = {family: leading_tokens(build(family)) for family in ("vit", "deit", "ijepa")}
    assert names == {"vit": ("[CLS]",), "deit": ("[CLS]", "[DIST]"), "ijepa": ()}
    registers = Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_register_tokens=2
    )
    names = leading_tokens(Dinov2WithRegistersModel(registers))
    assert names == ("[CLS]", "[REG0]", "[REG1]")


def test_a_model_without_patches():
    with pytest.raises(ModelError, match="no convolution"):
        patches_of(torch.nn.Linear(2, 2))


def test_models_that_merge_patches_are_refused():
    sizes = dict(image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2])
    model = SwinForImageClassification(SwinConfig(**sizes, window_size=4)).eval()
    for tensor in ("agf", "cf"):
        with pytest.raises(ModelError, match="Swin"):
            capture(model, {"pixel_values": torch.zeros(1, 3, 32, 32)}, tensor=tensor)


def test_area_of_patches_by_hand():
    """Patches of 2 by 3 pixels in an image of 5 by 7: its last row and column belong to none."""
    grid = torch.tensor([[True, False, False, True], [False, False, False, False]])
    area = Patches(size=(2, 3), stride=(2, 3)).area(grid, 5, 7)
    expected = torch.zeros(2, 5, 7, dtype=torch.bool)
    expected[0, :2, :3] = expected[0, 2:4, 3:6] = True
    assert torch.equal(area, expected)
