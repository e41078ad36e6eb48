"""Vision transformers of timm, where that package is installed."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_models import randomised
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

from attnflow import Explainer, ModelError
from attnflow.capture import TENSORS, Objective, capture
from attnflow.models.held import held_model
from attnflow.models.support import support_of

timm = pytest.importorskip("timm")

SMALL = dict(img_size=16, depth=3, num_classes=3, embed_dim=16, num_heads=4)
FORMS = {
    "vit_tiny_patch16_224": {},
    "vit_base_patch16_rpn_224": {},  # norms after attention, a mean of all tokens
    "vit_base_patch16_clip_quickgelu_224": {},
    "vit_small_patch14_reg4_dinov2": {},  # registers, scales of layers
    "deit_tiny_distilled_patch16_224": {},
    "deit3_small_patch16_224": {},
    "eva02_tiny_patch14_224": {},  # gated MLPs, rotations
    "vit_small_patch16_dinov3": {},
    "beit_base_patch16_224": {},
    "norms of queries": dict(form="vit_tiny_patch16_224", qk_norm=True),
}


def made(name, biases=True, **options):
    options = {**SMALL, **FORMS.get(name, {}), "patch_size": 4, **options}
    torch.manual_seed(7)
    model = timm.create_model(options.pop("form", name), pretrained=False, **options)
    return randomised(model, biases).eval()


@pytest.fixture(params=FORMS)
def name(request):
    return request.param


@pytest.fixture
def pixels():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def nodes(model):
    return 16 + model.num_prefix_tokens


def test_conserved_at_every_node_without_biases(name, pixels):
    model = made(name, biases=False).double()
    got = capture(held_model(model).model, {"pixel_values": pixels.double()}, tensor="cf")
    signed, residual = got.effects
    arrived, left = signed.sum(3) + residual, signed.sum(2) + residual
    assert signed.shape == (3, 3, nodes(model), nodes(model))
    assert signed.abs().amax(dim=(-2, -1)).min() > 1e-5, "a degenerate model tests nothing"
    assert (arrived[:, :-1] - left[:, 1:]).abs().max() < 1e-11 * left.abs().max()


@pytest.mark.parametrize("tensor", TENSORS)
def test_in_a_batch_as_alone(name, pixels, tensor):
    model = held_model(made(name)).model
    target = Objective(torch.tensor([0, 2, 1]))
    together = capture(model, {"pixel_values": pixels}, target, tensor=tensor)
    for i, image in enumerate(pixels):
        own = Objective(target.target[i : i + 1])
        alone = capture(model, {"pixel_values": image[None]}, own, tensor=tensor)
        assert torch.equal(alone.target, together.target[i : i + 1])
        largest = alone.capacities.max()
        assert (alone.capacities[0] - together.capacities[i]).abs().max() < 2e-5 * largest


def test_the_model_stays_as_it_was(name, pixels):
    model = made(name)
    with torch.no_grad():
        before = model(pixels)
    fused = [block.attn.fused_attn for block in model.blocks]
    got = capture(held_model(model).model, {"pixel_values": pixels}, tensor="af")
    assert torch.allclose(got.logits, before, atol=1e-5)
    assert torch.allclose(got.capacities.sum(3), torch.ones(()), atol=1e-5)  # weights of a query
    assert fused == [block.attn.fused_attn for block in model.blocks] and all(fused)


@pytest.mark.parametrize("tensor", [*TENSORS, "bcf", "net"])
def test_explained(name, pixels, tensor):
    model = made(name)
    result = Explainer(model)(pixel_values=pixels[0], tensor=tensor, target=1, neutral=0)
    assert result.certificate.is_certified and result.task == "image-classification"
    assert len(result.tokens) == nodes(model) and result.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert sum(result.special) == model.num_prefix_tokens


def test_tokens_before_the_patches_have_names():
    def leading(name):
        return Explainer(made(name))(pixel_values=torch.rand(3, 16, 16), tensor="af").tokens[:5]

    assert leading("vit_tiny_patch16_224")[0] == "[CLS]"
    assert leading("deit_tiny_distilled_patch16_224")[:2] == ("[CLS]", "[DIST]")
    registers = ("[CLS]", "[REG0]", "[REG1]", "[REG2]", "[REG3]")
    assert leading("vit_small_patch14_reg4_dinov2") == registers


def test_images_through_a_transform():
    model = made("vit_tiny_patch16_224")
    config = timm.data.resolve_data_config({"input_size": (3, 16, 16), "crop_pct": 1.0}, model=None)
    transform = timm.data.create_transform(**config)
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    explainer = Explainer(model, transform)
    result = explainer(images=image)
    with torch.no_grad():
        wanted = model(transform(Image.fromarray(image))[None])
    assert np.allclose(result.logits, wanted[0], atol=1e-5)
    assert result.target == int(wanted.argmax())


def test_names_of_imagenet():
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, depth=1).eval()
    labels = Explainer(model).labels
    assert len(labels) == 1000 and labels[0].startswith("tench")
    assert Explainer(made("vit_tiny_patch16_224")).labels[0] == "LABEL_0"


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("swin_tiny_patch4_window7_224", {}, "SwinTransformer of timm is not known to keep"),
        ("convnext_atto", {}, "ConvNeXt of timm is not known to keep"),
        ("resnet18", {}, "ResNet of timm is not known to keep"),
        ("vit_tiny_r_s16_p8_224", {}, "makes its tokens by HybridEmbed"),
        ("vit_base_patch16_siglip_224", dict(depth=1), "pools its tokens by attention"),
        ("vit_tiny_patch16_224", dict(depth=1, num_classes=0), "no classes"),
        ("vit_tiny_patch16_224", dict(depth=1, dynamic_img_pad=True), "makes its tokens by"),
    ],
)
def test_refused_in_words(name, options, reason):
    model = timm.create_model(name, pretrained=False, **options).eval()
    with pytest.raises(ModelError, match=reason):
        Explainer(model)


def test_a_wrapper_of_transformers_is_explained_or_refused():
    def wrapper(architecture, **options):
        config = TimmWrapperConfig(architecture=architecture, num_labels=3, model_args=options)
        return TimmWrapperForImageClassification(config).eval()

    options = dict(img_size=16, patch_size=4, depth=2, embed_dim=16, num_heads=2)
    made = wrapper("vit_tiny_patch16_224", **options)
    result = Explainer(made)(pixel_values=torch.rand(3, 16, 16))
    assert result.certificate.is_certified and len(result.tokens) == 17
    with pytest.raises(ModelError, match="ResNet of timm is not known to keep"):
        Explainer(wrapper("resnet18"))(pixel_values=torch.rand(3, 32, 32))


@pytest.mark.parametrize(
    ("architecture", "tensors", "reason"),
    [
        ("vit_tiny_patch16_224", 6, "a vision transformer of timm"),
        ("resnet18", 0, "ResNet of timm is not known to keep"),
        ("no_such_model", 0, "timm cannot make it"),
    ],
)
def test_the_support_of_a_folder(tmp_path, architecture, tensors, reason):
    config = TimmWrapperConfig(architecture=architecture, num_labels=3)
    config.architectures = ["TimmWrapperForImageClassification"]
    config.save_pretrained(tmp_path)
    found = support_of(tmp_path)
    assert len(found.tensors) == tensors and reason in found.reason


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="20 x 20 pixels, and .* reads 16 x 16"):
        Explainer(made("vit_tiny_patch16_224"))(pixel_values=torch.rand(3, 20, 20))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(name, pixels, dtype):
    half = made(name).to(dtype)
    full = copy.deepcopy(half).float()
    target = Objective(torch.tensor([0, 2, 1]))
    for tensor in ("agf", "cf"):
        a, b = (
            capture(held_model(m).model, {"pixel_values": pixels}, target, tensor=tensor).capacities
            for m in (full, half)
        )
        assert (a - b).abs().sum() < 0.2 * a.sum()
