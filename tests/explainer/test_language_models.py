"""Explained language models: next tokens, continuations, padding, trained models."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from support import stories
from support.attribution_checks import assert_scores_add_up
from support.text_models import (
    LANGUAGE_MODELS,
    PROMPT,
    language_model,
    next_log_probabilities,
    sharp,
)
from tokenizers import normalizers

from attnflow import Explainer, InputError, load, save
from attnflow.cli import main

LONG = "the film is not good, but it was never dull."


@pytest.mark.parametrize("tensor", ("af", "gf", "agf", "cf", "bcf"))
@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_the_next_token_in_every_family(reader, name, tensor):
    model = language_model(name)
    a = Explainer(model, reader)(PROMPT, tensor=tensor)
    likely = next_log_probabilities(model, reader(PROMPT)["input_ids"])[-1]
    assert (a.task, a.position, a.against) == ("text-generation", 3, None)
    best = int(likely.argmax())
    assert a.label == (reader.decode([best]) or str(best))
    assert a.probabilities[a.target] == pytest.approx(likely.max().exp().item(), rel=1e-5)
    assert a.probabilities.sum() == pytest.approx(1) and a.labels[-1] == "(all other tokens)"
    assert a.certificate.is_certified
    assert_scores_add_up(a)


@pytest.mark.parametrize("tensor", ("af", "agf", "cf", "bcf"))
def test_tokens_after_the_position_get_exactly_nothing(writer, tensor):
    for position in (0, 3, -2):
        a = writer(LONG, position=position, tensor=tensor, keep_unsolved=True)
        place = position % len(a)
        assert a.position == place and (a.scores[place + 1 :] == 0).all()
        assert a.certificate.status == "empty" or a.scores[: place + 1].sum() > 0


def test_a_prefix_is_explained_as_inside_a_longer_text(writer):
    inside = writer("the dog is not good", position=3, tensor="cf")
    alone = writer(PROMPT, tensor="cf")
    np.testing.assert_allclose(inside.scores[:4], alone.scores, rtol=1e-4)
    assert inside.label == alone.label


def taken_away(explainer, *args, **options):
    """Places of the tokens that the stages of `bcf` replace."""
    seen = []
    hook = explainer.model.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["input_ids"][0]), with_kwargs=True
    )
    explainer(*args, **options, tensor="bcf", keep_unsolved=True)
    hook.remove()
    return set((torch.stack(seen) != seen[0]).any(0).nonzero()[:, 0].tolist())


def test_stages_replace_tokens_that_are_read_and_none_after_them(writer):
    assert taken_away(writer, LONG, position=0) == {0}, "the token that is read at may go too"
    for position in (4, 7):
        gone = taken_away(writer, LONG, position=position)
        assert gone and max(gone) <= position
    gone = taken_away(writer, LONG, span=(1, 9))
    assert 0 < max(gone) <= 7, "all but the last token of a span are read"


def test_stages_leave_the_token_that_is_labelled(tiny, tokenizer):
    explainer = Explainer(tiny(head="TokenClassification"), tokenizer)
    for position in (1, 2, 3):
        gone = taken_away(explainer, "a smart dog", position=position)
        assert gone and position not in gone


@pytest.mark.parametrize("tensor", ("cf", "bcf"))
def test_a_continuation_token_by_token(writer, reader, tensor):
    ids = reader(" good dog", add_special_tokens=False)["input_ids"]
    found = writer(PROMPT, continuation=" good dog", tensor=tensor)
    assert [a.label for a in found] == ["good", "dog"]
    prompt = reader(PROMPT)["input_ids"]
    for i, a in enumerate(found):
        rows = [*prompt, *ids][: len(prompt) + i]
        alone = writer(input_ids=rows, target=ids[i], tensor=tensor)
        assert a.position == len(rows) - 1 and a.text == "the dog is not good dog"
        np.testing.assert_allclose(a.scores[: len(rows)], alone.scores, rtol=2e-4, atol=1e-9)
        assert (a.scores[len(rows) :] == 0).all()


def test_one_forward_pass_for_all_tokens_of_a_continuation(writer):
    passes = []
    handle = writer.model.model.register_forward_hook(lambda *_: passes.append(1))
    writer(PROMPT, continuation=" good dog", tensor="cf")
    handle.remove()
    assert len(passes) == 1


def test_a_continuation_that_the_model_writes(writer):
    found = writer(PROMPT, continuation=3, tensor="cf")
    ids = writer.model.generate(
        **writer.tokenizer(PROMPT, return_tensors="pt").to("cpu"), do_sample=False, max_new_tokens=3
    )[0, 4:]
    assert [a.label for a in found] == [
        writer.tokenizer.decode([i]) or str(i) for i in ids.tolist()
    ]
    assert all(a.probabilities[a.target] == a.probabilities[:-1].max() for a in found)


def test_several_prompts_and_their_continuations(writer):
    found = writer([PROMPT, "a"], continuation=" good", tensor="cf")
    assert [len(one) for one in found] == [1, 1]
    assert [one[0].text for one in found] == ["the dog is not good", "a good"]


def test_ids_without_a_tokenizer():
    explainer = Explainer(language_model())
    a = explainer(input_ids=[5, 6, 7], position=1)
    assert a.tokens == ("5", "6", "7") and a.scores[2] == 0 and a.label.isdecimal()
    assert [w.text for w in a.words()] == ["5", "6", "7"]
    with pytest.raises(InputError, match="no tokenizer to read texts"):
        explainer(PROMPT)
    with pytest.raises(InputError, match="give the token's id"):
        explainer(input_ids=[5, 6], target="good")


@pytest.mark.parametrize("name", ("LlamaForCausalLM", "GPT2LMHeadModel"))
def test_padding_on_either_side_changes_nothing(reader, name):
    explainer = Explainer(language_model(name), reader)
    ids = torch.tensor([[0, 0, 5, 6, 7], [5, 6, 7, 0, 0]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    left, right = explainer(input_ids=ids, attention_mask=mask)
    np.testing.assert_allclose(left.scores, right.scores, rtol=1e-5)
    with pytest.raises(InputError, match="row 0 of input_ids has padding between"):
        explainer(input_ids=ids, attention_mask=torch.tensor([[1, 0, 1, 1, 1]] * 2))


def test_padding_on_the_left_and_on_the_right_in_one_batch(writer):
    ids = torch.tensor([[0, 0, 5, 6, 7], [8, 9, 0, 0, 0], [4, 5, 6, 7, 8]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [1] * 5])
    together = writer(input_ids=ids, attention_mask=mask, tensor="cf")
    for row, own, a in zip(ids, mask, together, strict=True):
        alone = writer(input_ids=row[own == 1], tensor="cf")
        assert a.tokens == alone.tokens and a.position == len(alone) - 1
        np.testing.assert_allclose(a.scores, alone.scores, rtol=2e-4, atol=1e-7)


def test_a_continuation_has_the_tokens_of_the_whole_text(reader):
    """Some tokenizers put a space before any text, and so would put two before a continuation."""
    own = copy.deepcopy(reader)
    own.backend_tokenizer.normalizer = normalizers.Prepend("dog")
    found = Explainer(language_model(), own)("a ", continuation="bad", tensor="cf")
    assert [a.label for a in found] == ["bad"] and found[0].tokens == ("dog", "##a", "bad")


def test_a_continuation_by_itself_where_it_would_change_the_prompt(writer):
    """One text makes "fil" and "m" another token; but the prompt is what the model has read."""
    prompt = writer("the fil", tensor="cf")
    found = writer("the fil", continuation="m", tensor="cf")
    assert [a.label for a in found] == ["m"] and found[0].tokens == (*prompt.tokens, "m")


def test_no_flow_runs_outside_a_sliding_window(reader):
    explainer = Explainer(language_model("MistralForCausalLM"), reader)  # of three tokens
    t = len(reader(LONG)["input_ids"])
    distance = np.arange(t)[:, None] - np.arange(t)
    outside = (distance < 0) | (distance > 2)
    for tensor in ("af", "gf", "agf", "cf", "bcf"):
        a = explainer(LONG, tensor=tensor, edges=True)
        assert (a.edges[:, outside] == 0).all() and a.edges[:, distance == 2].max() > 0
        assert (a.scores[: t - 5] == 0).all(), "two layers see four tokens back"


def test_tokens_after_the_position_in_a_batch_of_ids(writer):
    ids = torch.tensor([[0, 0, 5, 6, 7], [8, 9, 5, 0, 0], [4, 5, 6, 7, 8]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1] * 5])
    places = [1, -3, 2]
    for tensor in ("af", "agf", "cf", "bcf"):
        together = writer(input_ids=ids, attention_mask=mask, position=places, tensor=tensor)
        for a, place, own, row in zip(together, places, mask, ids, strict=True):
            read = place % len(a)
            assert a.position == read and (a.scores[read + 1 :] == 0).all()
            alone = writer(input_ids=row[own == 1][: read + 1], tensor=tensor)
            scale = alone.certificate.value
            np.testing.assert_allclose(a.scores[: read + 1], alone.scores, atol=2e-4 * scale)


def test_a_batch_and_each_alone(writer, texts):
    together = writer(texts, tensor="cf")
    for text, a in zip(texts, together, strict=True):
        alone = writer(text, tensor="cf")
        np.testing.assert_allclose(a.scores, alone.scores, rtol=2e-4, atol=1e-7)


def test_ids_may_be_as_many_as_the_model_takes(writer):
    assert len(writer(input_ids=[5] * 32, tensor="cf")) == 32
    with pytest.raises(InputError, match="has 33 tokens and the model takes 32"):
        writer(input_ids=[5] * 33)


def test_ids_of_several_lengths(writer):
    both = writer(input_ids=[[5, 6, 7], [5]], tensor="cf")
    assert [len(a) for a in both] == [3, 1]
    np.testing.assert_allclose(
        both[0].scores, writer(input_ids=[5, 6, 7], tensor="cf").scores, rtol=1e-4
    )


@pytest.mark.parametrize("ids", ([], [[]], "5 6", [5.0, 6], [[5], 6]))
def test_bad_ids(writer, ids):
    with pytest.raises(InputError, match="input_ids"):
        writer(input_ids=ids)


def test_files_keep_what_was_asked(writer, tmp_path):
    a = writer(PROMPT, target="good", against="bad")
    save([a], tmp_path / "a.safetensors")
    (b,) = load(tmp_path / "a.safetensors")
    assert (b.task, b.position, b.against, b.label) == (a.task, a.position, a.against, a.label)


@pytest.fixture(scope="session")
def saved_writer(reader, tmp_path_factory):
    folder = tmp_path_factory.mktemp("writer")
    language_model(vocab_size=len(reader)).save_pretrained(folder)
    reader.save_pretrained(folder)
    return str(folder)


def test_a_language_model_from_a_folder(saved_writer):
    explainer = Explainer.from_pretrained(saved_writer)
    assert explainer(PROMPT).task == "text-generation"


def test_the_command_explains_next_tokens(saved_writer, capsys, tmp_path):
    own = ["explain", PROMPT, "--model", saved_writer]
    assert main([*own, "--target", "good", "--against", "bad"]) == 0
    shown = capsys.readouterr().out
    assert "good" in shown and "rather than bad" in shown and "next token after “not”" in shown
    assert main([*own, "--max-new-tokens", "2", "--html", str(tmp_path / "a.html")]) == 0
    assert "2 flows, each at most" in capsys.readouterr().out
    page = (tmp_path / "a.html").read_text("utf-8")
    assert "What each token of the continuation rests on" in page
    assert "What the next token after “not” rests on" in page and page.count("<article") == 2
    assert main([*own, "--continuation", " good dog", "--position", "1"]) == 2
    assert "position and continuation exclude each other" in capsys.readouterr().err
    assert main([*own, "--continuation", " good", "--max-new-tokens", "1"]) == 2
    assert "--continuation or --max-new-tokens" in capsys.readouterr().err


@pytest.fixture(scope="session")
def storyteller():
    folder = os.environ.get("ATTNFLOW_STORIES")
    if folder is None:
        pytest.skip("ATTNFLOW_STORIES names no folder with stories260K.bin and tok512.bin")
    return Explainer(
        stories.model(Path(folder)), stories.tokenizer(Path(folder)), name="stories260K"
    )


def test_a_trained_model_tells_a_story(storyteller):
    start = "Once upon a time, there was a little girl named Lily. She"
    found = storyteller(start, continuation=8)
    assert found[0].text == start + " loved to play outsid"
    for a in found:
        assert a.probabilities[a.target] > 0.3 and a.certificate.is_certified


def test_lily_against_tim(storyteller):
    text = "Lily had a red ball. She loved to play with the ball. One day,"
    a = storyteller(text, target="Lily", against="Tim")
    assert a.top(1)[0][0] == "Lily"


@pytest.mark.parametrize("column", range(3))
def test_a_function_may_read_any_token_in_every_stage(writer, column):
    def value(output):
        return output.logits[:, -1, column]

    a = writer(PROMPT, target=value, stages=(0.95,))
    assert np.isfinite(a.contributions).all() and a.certificate.is_certified


COUNTING = {
    "RobertaForCausalLM": dict(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24
    ),
    "BartForCausalLM": dict(
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=24,
        is_decoder=True,
    ),
}


@pytest.mark.parametrize("name", COUNTING)
def test_decoders_that_count_their_positions_are_explained(name):
    common = dict(vocab_size=40, max_position_embeddings=40, pad_token_id=1, is_decoder=True)
    model = sharp(name, **(common | COUNTING[name]))
    a = Explainer(model)(input_ids=[5, 6, 7, 8, 9])
    assert a.certificate.is_certified and a.scores.sum() > 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(target="good", against="bad"),
        dict(continuation=2),
        dict(continuation=2, span=True),
        dict(tensor="bcf"),
        dict(tensor="agf"),
    ],
)
def test_explained_inside_inference_mode_as_outside(writer, options):
    with torch.inference_mode():
        inside = writer(PROMPT, **options)
    outside = writer(PROMPT, **options)
    pairs = (
        [(inside, outside)] if not isinstance(inside, list) else zip(inside, outside, strict=True)
    )
    for a, b in pairs:
        np.testing.assert_array_equal(a.scores, b.scores)
