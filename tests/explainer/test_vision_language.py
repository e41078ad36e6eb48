"""Texts with images, explained: tokens, regions, batches, continuations, and what is refused."""

import copy
import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from support.coloured_squares import NOTHING, processor, scene, trained
from support.tiny_vlms import SIDE, VLMS, build_vlm, picture, processor_of

import attnflow
from attnflow import Explainer
from attnflow.cli import main
from attnflow.errors import InputError, ModelError
from attnflow.methods.loading import adapter_for
from attnflow.models.support import support_of
from attnflow.models.tasks import explained_task

QUESTION = "what is this ?"


@pytest.fixture(scope="module", params=VLMS)
def vlm(request):
    """An explainer of each family, which never writes the token of an image."""
    model = build_vlm(request.param)
    with torch.no_grad():  # random weights might choose it
        model.lm_head.weight[: len(model.lm_head.weight) // 2] *= 0.01
    return Explainer(model, processor_of(request.param), name=request.param)


@pytest.fixture(scope="module")
def llava():
    return Explainer(build_vlm("llava"), processor_of("llava"))


def regions(a):
    return [i for i, region in enumerate(a.regions) if region is not None]


def test_text_and_image_are_tokens_of_one_flow(vlm):
    a = vlm(QUESTION, images=picture())
    assert a.task == "image-text-to-text" and a.certificate.is_certified
    assert (a.text, a.roles) == (QUESTION, ("user",))
    assert [a.surface(i) for i in range(len(a)) if not a.special[i] and i not in regions(a)] == (
        QUESTION.split()
    )
    assert sum(a.shares) == pytest.approx(1) and a.position == len(a) - 1
    assert a.scores[regions(a)].sum() > 0
    grids = VLMS[vlm.name].grids
    assert [grid.shape for grid in a.heatmaps().values()] == list(grids)
    assert sum(grid.sum() for grid in a.heatmaps().values()) == pytest.approx(
        a.scores[regions(a)].sum()
    )
    assert not a.special[regions(a)].any()


def test_regions_cover_the_image_once(vlm):
    a = vlm(QUESTION, images=picture(0, 40, 60), tensor="agf")
    boxes = np.array([a.regions[i] for i in regions(a)])
    names = [a.tokens[i] for i in regions(a)]
    assert len(set(names)) == len(names) and "image r0 c0" in names
    tiles = boxes[[not name.startswith("image whole") for name in names]]
    assert tiles.min(0)[1] == 0 and tiles.max(0)[3] == 40
    # LLaVA reads a square out of the middle.
    edges = (10, 50) if vlm.name == "llava" else (0, 60)
    assert (tiles.min(0)[0], tiles.max(0)[2]) == pytest.approx(edges, abs=0.2)
    areas = (tiles[:, 2] - tiles[:, 0]) * (tiles[:, 3] - tiles[:, 1])
    assert areas.sum() == pytest.approx(40 * (edges[1] - edges[0]), rel=0.01)
    assert a.image[:40, :60].shape == (40, 60, 3) and (a.image[:40] == picture(0, 40, 60)).all()


def test_a_token_is_made_of_the_pixels_of_its_region(vlm):
    """Painting a region changes its own token the most, whatever the tower mixes."""
    reader = vlm._inputs(explained_task(vlm.model))
    plain = np.full((2 * SIDE, 2 * SIDE, 3), 128, np.uint8)

    def embeddings(image):
        return reader.collate([reader.encode_with_images(QUESTION, [image])])["inputs_embeds"][0]

    example, before = reader.encode_with_images(QUESTION, [plain]), embeddings(plain)
    places = zip(example.regions, example.tokens, strict=True)
    tokens = np.flatnonzero([r is not None and "whole" not in name for r, name in places])
    changed_most = []
    for token in tokens:
        left, top, right, bottom = map(int, example.regions[token])
        image = plain.copy()
        image[top:bottom, left:right] = picture(token, bottom - top, right - left)
        change = (embeddings(image) - before).norm(dim=1)[tokens]
        changed_most.append(tokens[int(change.argmax())])
    assert np.mean(changed_most == tokens) > 0.9


def test_the_same_answer_alone_and_in_a_batch(vlm):
    texts = [QUESTION, "where is the red square ?", "what colour is here ?"]
    images = [picture(0), None, picture(1, 48, 30)]
    many = vlm(texts, images=images)
    for text, image, one in zip(texts, images, many, strict=True):
        alone = vlm(text, images=image) if image is not None else vlm([text], images=[None])[0]
        assert alone.tokens == one.tokens and alone.regions == one.regions
        np.testing.assert_allclose(alone.logits, one.logits, atol=2e-4)
        np.testing.assert_allclose(alone.scores, one.scores, atol=2e-4 * alone.scores.sum())


def test_each_token_of_a_continuation(vlm):
    written = vlm(QUESTION, images=picture(), continuation="a red square")
    assert written.written == "a red square" and [a.label for a in written] == [
        "a",
        "red",
        "square",
    ]
    first = vlm(QUESTION, images=picture(), target="a")
    np.testing.assert_allclose(
        written[0].scores[: len(first)], first.scores, atol=2e-4 * first.scores.sum()
    )
    own = vlm(QUESTION, images=picture(), continuation=2)
    assert len(own) == 2 and own[0].label == vlm(QUESTION, images=picture()).label


def test_several_images_of_one_text(vlm):
    a = vlm("what is this ?", images=[picture(0), picture(1, 36, 24)], tensor="agf")
    numbers = {a.tokens[i].split()[1] for i in regions(a)}
    assert numbers == {"0", "1"}
    boxes = [a.regions[i] for i in regions(a)]
    height, width = a.image.shape[:2]
    assert all(0 <= x0 < x1 <= width + 0.1 for x0, _, x1, _ in boxes)
    assert all(0 <= y0 < y1 <= height + 0.1 for _, y0, _, y1 in boxes)


def test_places_in_chats_and_texts(llava):
    parts = [
        {"type": "text", "text": "what is this ?"},
        {"type": "image"},
        {"type": "text", "text": "where is the red square ?"},
    ]
    a = llava([{"role": "user", "content": parts}], images=picture())
    assert a.text == "what is this ?\nwhere is the red square ?"
    first = regions(a)[0]
    assert a.tokens[first - 1] == "?" and a.message_ids[first] == 0
    b = llava("what <image> is this ?", images=picture())
    assert b.roles == () and [b.surface(i) for i in range(len(b)) if i not in regions(b)] == (
        "what is this ?".split()
    )
    assert b.tokens[1] == "image r0 c0" and b.text == "what  is this ?"


def test_an_image_is_of_the_message_that_has_it(llava):
    chat = [
        {"role": "user", "content": [{"type": "image"}]},
        {"role": "assistant", "content": "a red square"},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}, {"type": "image"}]},
    ]
    a = llava(chat, images=[picture(), picture(1)], tensor="agf")
    assert [a.message_ids[i] for i in regions(a)] == [0] * 9 + [2] * 9
    assert a.roles == ("user", "assistant", "user") and a.text == f"a red square\n{QUESTION}"


def test_a_chat_in_parts_without_an_image_is_a_text(llava):
    chat = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    a = llava(chat)
    assert a.regions is None and a.image is None and a.text == QUESTION


def test_a_text_alone_is_read_as_by_its_tokenizer(llava):
    alone = Explainer(llava.model, llava.tokenizer)(QUESTION)
    a = llava(QUESTION)
    assert a.tokens == alone.tokens and a.regions is None
    np.testing.assert_array_equal(a.scores, alone.scores)


def test_hidden_tokens_of_an_image_change_what_is_read(llava):
    """The stages of net are those of the model with regions hidden."""
    image = picture(5)
    staged, whole = llava(QUESTION, images=image), llava(QUESTION, images=image, stages=())
    assert not np.allclose(staged.scores, whole.scores)
    assert staged.label == whole.label and staged.explained == pytest.approx(whole.explained)


def test_contributions_add_up_without_biases():
    for family in ("qwen2_5_vl", "qwen3_vl", "gemma3"):
        explainer = Explainer(build_vlm(family, biases=False), processor_of(family))
        a = explainer(QUESTION, images=picture(), tensor="cf")
        assert a.contributions.sum() == pytest.approx(a.explained, rel=1e-4)


def test_saved_and_loaded(vlm, tmp_path):
    a = vlm(QUESTION, images=picture(), edges=True)
    b = attnflow.load(a.save(tmp_path / "a.safetensors"))[0]
    assert (b.regions, b.tokens) == (a.regions, a.tokens) and (b.image == a.image).all()
    assert b.edges.shape == a.edges.shape
    assert {k: v.tolist() for k, v in b.heatmaps().items()} == {
        k: v.tolist() for k, v in a.heatmaps().items()
    }
    assert len(a.to_dict()["regions"]) == len(a)


def test_image_tokens_are_never_merged(llava):
    a = llava(QUESTION, images=picture(), coarsen=3, tensor="cf")
    assert len(regions(a)) == 9 and "what is this" in a.tokens
    assert all(a.segments[i][1] - a.segments[i][0] == 1 for i in regions(a))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", VLMS)
def test_half_precision(family, dtype):
    """Explained with its weights as they are; of the same numbers in float32 nearly the same."""
    half = build_vlm(family).to(dtype)
    exact = copy.deepcopy(half).float()
    options = dict(images=picture(), tensor="agf", target="a")
    a = Explainer(half, processor_of(family))(QUESTION, **options)
    b = Explainer(exact, processor_of(family))(QUESTION, **options)
    assert abs(a.scores - b.scores).sum() < 0.3 * b.scores.sum() and a.precision in str(dtype)


def test_the_model_is_left_as_it_was():
    model = build_vlm("qwen2_5_vl")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Explainer(model, processor_of("qwen2_5_vl"))(QUESTION, images=picture())
    assert all(before[name].equal(value) for name, value in model.state_dict().items())
    assert model.model.rope_deltas is None and not text_hooks(model)


def text_hooks(model):
    return [m for m in model.modules() if m._forward_pre_hooks or m._forward_hooks]


def test_memory_is_estimated(llava):
    few = llava.estimate(QUESTION, images=picture())
    many = llava.estimate([QUESTION] * 2, images=[[picture(), picture(1)]] * 2)
    assert 0 < few.total < many.total


REFUSED = [
    (
        dict(texts="what <image> is <image> ?", images=picture()),
        "for each image: places 2, images given 1",
    ),
    (dict(texts="what <image> is this ?"), "for each image: places 1, images given 0"),
    (dict(texts=None, images=picture()), "give a text with them"),
    (dict(texts="  ", images=picture()), "an empty text"),
    (dict(texts=QUESTION, images="nowhere.png"), "nowhere.png"),
    (dict(texts=QUESTION, images=picture(), bos=True), "bos is for texts without images"),
    (dict(texts=QUESTION, images=picture(), truncate=True), "truncate is for texts without"),
    (dict(texts=QUESTION, images=picture(), tensor="bcf"), "can be hidden and not replaced"),
    (dict(texts=[QUESTION] * 3, images=[picture()] * 2), "images must be one for all texts or"),
    (dict(texts=QUESTION, images=picture(), continuation="<image>"), "no image for it"),
    (dict(texts=QUESTION, pixel_values=torch.zeros(3, SIDE, SIDE)), "and no pixel_values"),
    (
        dict(texts=[{"role": "user", "content": [{"type": "video"}]}], images=picture()),
        "Videos and sounds are not explained",
    ),
    (
        dict(
            texts=[{"role": "user", "content": [{"type": "image", "url": "x"}]}], images=picture()
        ),
        "give the image itself in images=",
    ),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_texts_and_images_that_do_not_fit_are_refused(llava, given, message):
    with pytest.raises((InputError, attnflow.StorageError), match=message):
        llava(**given)


def test_too_many_tokens_are_refused():
    config = build_vlm("llava").config.text_config.to_dict() | {"max_position_embeddings": 12}
    explainer = Explainer(build_vlm("llava", text_config=config), processor_of("llava"))
    with pytest.raises(InputError, match="15 tokens and the model takes 12"):
        explainer(QUESTION, images=picture())


def test_a_vision_language_model_without_its_processor_reads_texts_alone(llava):
    with pytest.raises(InputError, match="no image processor here"):
        Explainer(llava.model, llava.tokenizer)(QUESTION, images=picture())


def test_a_language_model_reads_no_images(llava):
    from support.tiny_models import build

    with pytest.raises(InputError, match="reads texts: .*no images"):
        Explainer(build("llama"), llava.tokenizer)(QUESTION, images=picture())
    with pytest.raises(InputError, match="is not a tokenizer; its tokenizer may be"):
        Explainer(build("llama"), processor_of("llava"))


def test_a_processor_of_another_model_is_refused(llava):
    strange = Explainer(build_vlm("llava"), processor_of("llava"))
    strange.processor.patch_size = 12
    with pytest.raises(ModelError, match="does not take what its processor made|is not known"):
        strange(QUESTION, images=picture())


def test_tokens_that_are_no_grid_are_refused():
    model = build_vlm("llava")
    model.config.model_type = "blip-2"
    with pytest.raises(ModelError, match="in which regions of them they lie is not known"):
        Explainer(model, processor_of("llava"))(QUESTION, images=picture(), tensor="agf")


def test_crops_whose_places_are_not_known_are_refused():
    processor = processor_of("gemma3")
    crops = dict(do_pan_and_scan=True, pan_and_scan_min_crop_size=8)
    crops |= dict(pan_and_scan_max_num_crops=2, pan_and_scan_min_ratio_to_activate=1.0)
    processor.images_kwargs = {**processor.images_kwargs, **crops}
    with pytest.raises(ModelError, match="in which regions of them they lie is not known"):
        Explainer(build_vlm("gemma3"), processor)(QUESTION, images=picture(0, 40, 80))


@pytest.fixture(scope="module", params=["llava", "idefics3", "gemma3"])
def folder(request, tmp_path_factory):
    """A model with its processor, as they are saved; and an image."""
    path = tmp_path_factory.mktemp("models") / request.param
    build_vlm(request.param).save_pretrained(path)
    processor_of(request.param).save_pretrained(path)
    Image.fromarray(picture(1, 40, 60)).save(path / "photo.png")
    return path


def test_loaded_from_a_folder(folder):
    family = folder.name
    a = Explainer.from_pretrained(folder)(QUESTION, images=folder / "photo.png")
    b = Explainer(build_vlm(family), processor_of(family))(QUESTION, images=picture(1, 40, 60))
    assert a.tokens == b.tokens and a.regions == b.regions
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    assert support_of(folder).task == "image-text-to-text"


def test_the_command(folder, capsys, tmp_path):
    html, saved = tmp_path / "a.html", tmp_path / "a.safetensors"
    arguments = ["explain", "--model", str(folder), "--image", str(folder / "photo.png"), QUESTION]
    # Alternatives would be in the same batch, which rounds in another order.
    files = ["--html", str(html), "--save", str(saved), "--alternatives", "0"]
    assert main([*arguments, *files]) == 0
    shown = capsys.readouterr().out
    assert "\u2039image\u203a" in shown and "regions" in shown
    assert attnflow.load(saved)[0].regions is not None
    assert "image r0 c0" in html.read_text(encoding="utf-8")
    chat = tmp_path / "chat.json"
    parts = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    chat.write_text(json.dumps([{"role": "user", "content": parts}]), encoding="utf-8")
    image = str(folder / "photo.png")
    assert main(["explain", "--model", str(folder), "--chat", str(chat), "--image", image]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.exhaustive
def test_the_heat_lies_on_the_square_that_is_asked_for():
    model, accuracy = trained()
    assert accuracy > 0.95
    rng = np.random.default_rng(99)
    scenes = [s for s in (scene(rng) for _ in range(60)) if s.answer != NOTHING]
    found = Explainer(model, processor())(
        [s.text for s in scenes],
        images=[s.image for s in scenes],
        target=[s.answer for s in scenes],
    )
    maps = [a.heatmaps()["image"] for a in found]
    best = [tuple(np.unravel_index(m.argmax(), m.shape)) for m in maps]
    first = np.mean([at == s.asked for at, s in zip(best, scenes, strict=True)])
    squares = [(m[s.asked] + m[s.other]) / m.sum() for m, s in zip(maps, scenes, strict=True)]
    # By chance one of sixteen regions.
    assert first > 0.6 and np.mean(squares) > 0.7


def test_a_folder_without_an_image_processor_reads_texts_alone(tmp_path):
    build_vlm("gemma3").save_pretrained(tmp_path)
    processor_of("gemma3").tokenizer.save_pretrained(tmp_path)
    explainer = Explainer.from_pretrained(tmp_path)
    assert explainer.processor is None and explainer(QUESTION).regions is None
    with pytest.raises(InputError, match="preprocessor_config.json"):
        explainer(QUESTION, images=picture())
    assert adapter_for(explainer.model, processor_of("gemma3")).task_name == "text-generation"


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_processor_that_needs_torchvision_says_so(tmp_path):
    build_vlm("qwen2_5_vl").save_pretrained(tmp_path)
    processor = processor_of("qwen2_5_vl")
    processor.tokenizer.save_pretrained(tmp_path)
    processor.image_processor.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="need torchvision: install it; or give"):
        Explainer.from_pretrained(tmp_path)


def test_a_chat_template_that_takes_no_images(llava):
    """Such as that of the language model, which a processor takes over from its tokenizer."""
    processor = copy.copy(llava.processor)
    processor.chat_template = "{% for m in messages %}{{ '<user>' + m['content'] }}{% endfor %}"
    explainer = Explainer(llava.model, processor)
    with pytest.raises(InputError, match="takes no images .*: write <image> into the text") as e:
        explainer(QUESTION, images=picture())
    assert "\n" not in str(e.value)
    assert explainer(f"<image> {QUESTION}", images=picture()).text.strip() == QUESTION
