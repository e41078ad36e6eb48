"""Every family: the same answer alone and in a batch, and the table that states it."""

import pytest
import torch
from support.family_measurements import (
    BACK_ENDS,
    SIDES,
    TOLERANCE,
    batch,
    captured,
    classes_of,
    error,
    largest_difference,
    measured,
    model_type,
    padded,
    score_error,
    texts,
)
from support.tiny_models import DECODERS, ENCODERS, TINY, TWO_STACKS, build
from transformers.utils import is_flash_attn_2_available

from attnflow.capture import FAMILIES, TENSORS, Objective, capture
from attnflow.capture.objectives import logits_at
from attnflow.errors import InputError, ModelError
from attnflow.models.tested_families import supported_families

TEXTS = [*ENCODERS, *DECODERS, *TWO_STACKS]
KNOWN = {row.model_type: row for row in supported_families()}
PLACED = [name for name in TEXTS if FAMILIES[model_type(name)].positions == "placed"]
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("name", TINY)
def test_in_a_batch_as_alone(name, tensor):
    assert error(name, tensor) < TOLERANCE["capacities, CPU"]


@pytest.mark.parametrize("side", ["left", "mixed"])
@pytest.mark.parametrize("name", [name for name in TEXTS if name not in PLACED])
def test_padded_in_front_as_alone(name, side):
    for tensor in TENSORS:
        assert error(name, tensor, side=side) < TOLERANCE["capacities, CPU"], tensor


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("name", PLACED)
def test_padding_in_front_is_refused_where_it_would_be_counted(name, tensor):
    for side in ("left", "mixed"):
        with pytest.raises(InputError, match="in front of a text.*pad on the right"):
            error(name, tensor, side=side)


@pytest.mark.parametrize("front", ["attention_mask", "decoder_attention_mask"])
@pytest.mark.parametrize("name", [name for name in PLACED if name in TWO_STACKS])
def test_padding_in_front_of_one_side_is_refused_too(name, front):
    model, kind = build(name), TINY[name].kind
    right, left = (batch(model, kind, texts(), SIDES[side])[0] for side in ("right", "left"))
    own = (front, front.replace("attention_mask", "input_ids"))
    with pytest.raises(InputError, match=rf"inputs\['{front}'\] has padding in front of a text"):
        capture(model, right | {name: left[name] for name in own}, tensor="agf")


@pytest.mark.parametrize("attention", BACK_ENDS)
@pytest.mark.parametrize("name", TINY)
def test_the_back_end_of_loading_makes_no_difference(name, attention):
    if attention not in KNOWN[model_type(name)].back_ends:
        with pytest.raises((ValueError, ImportError)):  # of transformers
            build(name, attention=attention)
        return
    for tensor in ("agf", "cf"):
        assert error(name, tensor, attention=attention) < TOLERANCE["capacities, CPU"]


@cuda
@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("name", TINY)
def test_on_a_gpu_as_on_the_cpu(name, tensor):
    assert error(name, tensor, device="cuda") < TOLERANCE["capacities, CUDA"]


@cuda
@pytest.mark.skipif(not is_flash_attn_2_available(), reason="needs flash-attn")
@pytest.mark.parametrize("name", TEXTS)
def test_loaded_with_flash_attention_as_without(name):
    try:
        got = error(name, "agf", attention="flash_attention_2", device="cuda")
    except (ValueError, ImportError, ModelError):
        return  # refused, by transformers or by us
    assert got < TOLERANCE["capacities, CUDA"]


@pytest.mark.parametrize("tensor", [*TENSORS, "bcf"])
@pytest.mark.parametrize("name", TINY)
def test_scores_in_a_batch_as_alone(name, tensor):
    assert score_error(name, tensor) < TOLERANCE["scores"]


@pytest.fixture
def left():
    ids, mask = padded([text["input_ids"] for text in texts()], SIDES["left"], 0)
    return {"input_ids": ids, "attention_mask": mask}


def test_positions_that_are_given_stay(left):
    model, inputs = build("gpt2"), left
    seen = []
    model.transformer.wpe.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    ids = torch.arange(9).expand(3, -1).flip(1)
    at = torch.full((3,), 8)
    given = {**inputs, "position_ids": ids}
    capture(model, given, Objective(read=logits_at(at), position=at), tensor="af")
    assert torch.equal(seen[0], ids)


def test_padding_that_counting_models_would_take_for_text(left):
    model, inputs = build("roberta", head="ForTokenClassification"), left
    everywhere = inputs["input_ids"].where(inputs["attention_mask"] > 0, 7)
    at_one_place = inputs["input_ids"].clone()
    at_one_place[2, 1] = 7
    for ids in (everywhere, at_one_place):
        with pytest.raises(InputError, match="in front.*its own padding token 0"):
            capture(model, {**inputs, "input_ids": ids}, tensor="agf")
    embedded = {
        "inputs_embeds": model.get_input_embeddings()(inputs["input_ids"]).detach(),
        "attention_mask": inputs["attention_mask"],
    }
    with pytest.raises(InputError, match="no inputs_embeds"):
        capture(model, embedded, tensor="agf")


def test_padding_in_front_of_a_model_of_another_family(left):
    model = build("Ernie")
    with pytest.raises(InputError, match="pad on the right .*, or give position_ids"):
        capture(model, left, tensor="af")
    positions = torch.arange(9) - left["attention_mask"].argmax(1, keepdim=True)
    with pytest.raises(InputError, match="depend on position 0"):  # as it would without gradients
        capture(model, {**left, "position_ids": positions.clamp(min=0)}, tensor="af")


def test_every_family_has_a_row_and_is_exercised():
    assert set(KNOWN) == set(FAMILIES) == {model_type(name) for name in TINY}
    for name, tiny in TINY.items():
        row = KNOWN[model_type(name)]
        assert (row.name, row.kind) == (tiny.name, tiny.kind)
        assert build(name).config.model_type == row.model_type
        assert set(row.tasks) <= set(classes_of(name)) and row.tasks


@pytest.mark.parametrize("row", KNOWN.values(), ids=KNOWN)
def test_the_table_is_what_is_measured(row):
    found = measured(row.model_type)
    error = found.pop("error")
    for precision in ("bfloat16", "float16"):  # whose products are rounded as the processor does
        assert found.pop(precision) == pytest.approx(getattr(row, precision), rel=2)
    for field, value in found.items():
        known = getattr(row, field)
        assert (tuple(value) if isinstance(value, list) else value) == known, field
    # Rounding is another on another machine, but of the same size.
    assert error / 10 <= row.error <= TOLERANCE["capacities, CPU"] and row.error <= error * 10


def test_nothing_at_padding(decoder_or_writer):
    model, kind = build(decoder_or_writer), TINY[decoder_or_writer].kind
    inputs, mask = batch(model, kind, texts(), SIDES["right"])
    last = mask.shape[1] - 1 - mask.int().flip(1).argmax(1)
    side = inputs["input_ids"].shape[1] if kind == "encoder-decoder" else 0
    for tensor in TENSORS:
        got = capture(
            model, inputs, Objective(position=last, read=logits_at(last - side)), tensor=tensor
        )
        assert got.capacities.transpose(1, 2)[~mask].abs().max() == 0, "query rows"
        assert got.capacities.permute(0, 3, 1, 2)[~mask].abs().max() == 0, "key columns"


@pytest.fixture(params=["llama", "gptj", "t5", "bart"])
def decoder_or_writer(request):
    return request.param


def test_a_difference_would_be_seen():
    """The measure itself: other texts, or another order of them, are far off."""
    model = build("gpt2")
    one = captured(model, "decoder", texts(), [0, 1, 2], SIDES["right"], "cf")
    assert (
        largest_difference(one, captured(model, "decoder", texts(), [0, 1, 2], SIDES["left"], "cf"))
        < 2e-5
    )
    changed = texts()
    changed[1]["input_ids"][0] = 39
    assert (
        largest_difference(
            one, captured(model, "decoder", changed, [0, 1, 2], SIDES["right"], "cf")
        )
        > 1e-2
    )


@pytest.mark.parametrize("name", [name for name in DECODERS if "sliding_window" in str(TINY[name])])
def test_a_window_is_small_enough_to_matter(name):
    model, settings = build(name), TINY[name].settings
    unlimited = {"sliding_window": 32}
    if "text_config" in settings:
        unlimited = {"text_config": settings["text_config"] | unlimited}
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        change = model(input_ids=ids).logits - build(name, **unlimited)(input_ids=ids).logits
    assert change[:, :3].abs().max() < 1e-5  # inside the window nothing changes
    assert change[:, 4:].abs().max() > 0.1
