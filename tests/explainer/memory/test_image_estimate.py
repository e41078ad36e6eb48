"""Memory of images in calls and in the command: estimates that hold, and refusals."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.images import of_image, photo, processor_of
from support.tiny_models import build

from attnflow import Explainer, InputError
from attnflow.capture.stacking import expected_calls
from attnflow.cli import main
from attnflow.explainer.coarsening import Coarsened
from attnflow.explainer.memory.estimate import MemoryPlanner
from attnflow.explainer.memory.sizes import ExampleSize, group_by_length
from attnflow.explainer.memory.tracking import AllocationTracker
from attnflow.explainer.model_passes import run_model
from attnflow.explainer.options import CallOptions
from attnflow.explainer.request import Request
from attnflow.explainer.targets.decision import Decision
from attnflow.explainer.targets.output_space import Classes
from attnflow.inputs.given import Given
from attnflow.inputs.image_inputs import ImageInputs
from attnflow.models.tasks import explained_task

TENSORS = ("af", "gf", "agf", "cf", "bcf", "net")
SIDE = 32
# 256 patches: squares, tiles and activations are all of some size.
LARGE = dict(hidden_size=32, intermediate_size=64, image_size=SIDE)
VISION = {
    "clip": dict(vision_config=LARGE | dict(num_attention_heads=4, patch_size=2)),
    "clip_vision_model": LARGE,
    "deit": LARGE,
    "dinov2": dict(hidden_size=32),  # whatever size it was made for
    "dinov2_with_registers": dict(hidden_size=32),
    "ijepa": LARGE,
    "vit": LARGE,
}


def pixels(count, height=SIDE, width=SIDE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=generator)


def peak_of_capture(model, values, tensor):
    """The peak of reading images and capturing them, and their sizes."""
    decision = Decision(value=lambda output: output[0].flatten(1)[:, 0])
    with AllocationTracker() as counted:
        inputs = ImageInputs(model, None, explained_task(model))
        examples = map(Coarsened, inputs.read(Given(pixel_values=values)).examples)
        requests = [Request(example, decision, Classes(["number"])) for example in examples]
        found = list(run_model(inputs, requests, CallOptions(tensor=tensor)))
    assert found[0].capture.capacities.shape[-1] == requests[0].merged.nodes
    return counted.peak, [ExampleSize.of(request.merged) for request in requests]


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("family", VISION)
def test_estimates_of_capture_lie_between_the_peak_and_twice_that(family, tensor):
    model = build(family, **VISION[family])
    for count in (1, 3):
        peak, sizes = peak_of_capture(model, pixels(count), tensor)
        images = sum(size.kept for size in sizes)
        networks = CallOptions(tensor=tensor).networks
        planner = MemoryPlanner(model, tensor, networks)
        found = planner.estimate(sizes, limit=1e12, images=images)
        passes = found.activations + found.tensors
        assert peak <= found.images + max(passes, found.held) <= 2 * peak
        assert found.texts == count and found.nodes == found.tokens == sizes[0].nodes


def test_another_size_than_the_models_own_is_measured_at_the_size_asked():
    model = build("dinov2", hidden_size=32)
    for height, width in ((8, 8), (32, 48), (60, 60)):
        peak, sizes = peak_of_capture(model, pixels(1, height, width), "cf")
        found = MemoryPlanner(model, "cf").estimate(sizes, limit=1e12, images=sizes[0].kept)
        assert peak <= found.images + max(found.activations + found.tensors, found.held) <= 2 * peak


@pytest.fixture(scope="module")
def seeing():
    """A model of few patches and wide layers: the passes are the largest part of a call."""
    model = build("vit", image_size=SIDE, patch_size=8, hidden_size=128, intermediate_size=512)
    return Explainer(model, processor_of(model), name="wide")


@pytest.mark.parametrize("tensor", ["agf", "cf", "bcf"])
@pytest.mark.parametrize(("count", "most"), [(1, 1), (4, 4), (8, 1)])
def test_estimates_of_calls_lie_between_the_peak_and_twice_that(seeing, tensor, count, most):
    values, options = pixels(count), dict(tensor=tensor, batch_size=most)
    estimate = seeing.estimate(pixel_values=values, **options)
    with AllocationTracker() as counted:
        seeing(pixel_values=values, **options)
    assert counted.peak <= estimate.total <= 2 * counted.peak
    assert estimate.texts == most and estimate.dominates == "activations"


def test_images_that_a_call_keeps_count(seeing):
    few, many = (
        seeing.estimate(pixel_values=pixels(n), batch_size=1, max_memory="1GB") for n in (1, 40)
    )
    own = 3 * SIDE**2 * (4 + 4 + 1)  # pixel values, neutral ones, and what is shown
    assert (few.images, many.images) == (own, 40 * own)
    assert few.budget - many.budget == 39 * own, "the solver has so much less"
    assert many.total - few.total == 39 * own and many.dominates == "images" in str(many)
    shown = seeing.estimate(images=photo(300, 200))
    assert shown.images == 300 * 200 * 3 + 3 * SIDE**2 * 8


def test_estimates_as_a_call_takes_images(seeing, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    one = seeing.estimate(images=photo(), max_memory="1GB")
    for same in (Image.fromarray(photo()), str(tmp_path / "photo.png"), [photo()]):
        assert seeing.estimate(images=same, max_memory="1GB") == one
    several = seeing.estimate(images=[photo()] * 5, batch_size=2)
    assert several.texts == 2 and several.activations == 2 * one.activations


def test_the_estimate_of_several_sizes_is_that_of_the_largest_batch():
    explainer = Explainer(build("dinov2", hidden_size=32))
    values = pixels(1, 32, 16)[0]
    estimator = MemoryPlanner(explainer.model, "cf")
    sizes = [ExampleSize((n * n + 1,), n * n + 1, (3, 2 * n, 2 * n)) for n in (4, 12, 4, 12, 4)]
    assert group_by_length(sizes, 2) == [[1, 3], [0, 2], [4]]
    found = estimator.largest(sizes, 2, None)
    assert (found.texts, found.tokens) == (2, 145)
    assert explainer.estimate(pixel_values=values).tokens == 1 + 16 * 8


def test_layers_of_a_model_whose_config_tells_only_of_its_parts():
    model = build("clip", **VISION["clip"])
    assert expected_calls(model.config) is None
    assert MemoryPlanner(model, "cf").layers == model.config.vision_config.num_hidden_layers


def test_max_memory_changes_nothing_where_there_is_enough(seeing):
    many = [photo(seed=seed) for seed in range(3)]
    enough = 2 * seeing.estimate(images=many).total
    for a, b in zip(seeing(images=many, max_memory=enough), seeing(images=many), strict=True):
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-6)


def test_too_little_memory_is_refused_with_what_would_help(seeing):
    one = seeing.estimate(pixel_values=pixels(1)).total
    with pytest.raises(InputError) as refused:
        seeing(pixel_values=pixels(8), max_memory=4 * one)
    said = str(refused.value)
    assert "a batch of 8 images with up to 17 tokens needs about" in said
    assert "max_memory allows" in said and "coarsen" not in said and "truncate" not in said
    fits = int(said.split("batch_size=")[1].split(",")[0])
    found = seeing(pixel_values=pixels(8), max_memory=4 * one, batch_size=fits)
    assert len(found) == 8 and 1 < fits < 8


def test_nothing_is_measured_where_the_flow_alone_is_too_large(seeing):
    ran = []
    hook = seeing.model.register_forward_hook(lambda *_: ran.append(1))
    try:
        with pytest.raises(InputError, match="at least .* fewer images in a call"):
            seeing(pixel_values=pixels(2), max_memory="50KB")
        assert not ran
        seeing(pixel_values=pixels(2), max_memory="1GB", tensor="cf")
        assert len(ran) == 2, "one pass to measure, one to explain"
    finally:
        hook.remove()


def test_images_that_were_read_take_nothing_of_what_is_free(seeing, monkeypatch):
    needed = seeing.estimate(pixel_values=pixels(1), tensor="cf")
    free = max(needed.solver, needed.held, needed.tensors) + 1
    monkeypatch.setattr("attnflow.explainer.memory.estimate.free_bytes", lambda device: free)
    assert seeing(pixel_values=pixels(1)[0], tensor="cf").certificate.is_certified
    monkeypatch.setattr("attnflow.explainer.memory.estimate.free_bytes", lambda device: 1000.0)
    with pytest.raises(InputError, match=r"1\.0 KB is free"):
        seeing(pixel_values=pixels(1))


def test_a_tower_needs_no_target_to_be_estimated():
    explainer = Explainer(build("clip_vision_model"))
    needed = explainer.estimate(pixel_values=pixels(1, 8, 8))
    found = explainer(pixel_values=pixels(1, 8, 8), target=of_image, max_memory=2 * needed.total)
    assert found[0].certificate.is_certified


@pytest.mark.parametrize("coarsen", [2, 1, "word", "sentence"])
def test_patches_are_not_merged(seeing, coarsen):
    for call in (seeing, seeing.estimate):
        with pytest.raises(InputError, match="an image's tokens are its patches.*leave coarsen"):
            call(images=photo(), coarsen=coarsen)


def test_inputs_of_another_kind_are_refused_by_the_estimate(seeing, explainer):
    for given in (dict(texts="bad"), dict(texts=20), dict(images=photo(), truncate=True)):
        with pytest.raises(InputError, match="ViTForImageClassification reads images"):
            seeing.estimate(**given)
    for given in (dict(images=photo()), dict(texts="bad", pixel_values=pixels(1))):
        with pytest.raises(InputError, match="BertForSequenceClassification reads texts"):
            explainer.estimate(**given)
    with pytest.raises(InputError, match="give images or pixel_values"):
        seeing.estimate()
    with pytest.raises(InputError, match="texts must be a text, a chat"):
        explainer.estimate()


def test_on_the_command_line(seeing, tmp_path, capsys):
    seeing.model.save_pretrained(tmp_path / "model")
    seeing.image_processor.save_pretrained(tmp_path / "model")
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    own = ["explain", "--image", str(tmp_path / "photo.png"), "--model", str(tmp_path / "model")]
    assert main([*own, "--max-memory", "1GB", "--quiet"]) == 0
    assert main([*own, "--max-memory", "100KB", "--quiet"]) != 0
    assert "max_memory allows 100.0 KB" in " ".join(capsys.readouterr().err.split())
    assert main([*own, "--coarsen", "2", "--quiet"]) != 0
    assert "leave coarsen out" in " ".join(capsys.readouterr().err.split())
