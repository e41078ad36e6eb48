"""Explained encoder-decoders: source and written prefix in one flow."""

import numpy as np
import pytest
import torch
import transformers
from support.attribution_checks import assert_scores_add_up
from support.text_models import BART, ENCODER_DECODERS, SOURCE, encoder_decoder

from attnflow import Explainer, InputError, ModelError


@pytest.mark.parametrize("tensor", ("af", "gf", "agf", "cf", "bcf"))
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_the_first_token_written(tokenizer, name, tensor):
    explainer = encoder_decoder(tokenizer, name)
    a = explainer(SOURCE, tensor=tensor, keep_unsolved=True, edges=True)
    ids = tokenizer(SOURCE, return_tensors="pt")
    ids.pop("token_type_ids", None)
    with torch.no_grad():
        logits = explainer.model(**ids, decoder_input_ids=torch.tensor([[2]])).logits[0, 0]
    assert a.label == tokenizer.decode([int(logits.argmax())]) or not a.label.strip()
    assert a.task == "text2text-generation" and a.text == SOURCE
    assert a.tokens == (*tokenizer.convert_ids_to_tokens(ids["input_ids"][0]), "[CLS]")
    assert a.position == len(a) - 1 and a.edges.shape == (8, len(a), len(a))
    assert a.certificate.is_certified
    assert_scores_add_up(a)


@pytest.mark.parametrize("tensor", ("cf", "bcf"))
def test_a_given_translation_token_by_token(tokenizer, tensor):
    explainer = encoder_decoder(tokenizer)
    found = explainer(SOURCE, continuation="a bad film", tensor=tensor)
    assert [a.label for a in found] == ["a", "bad", "film"]
    start = len(tokenizer(SOURCE)["input_ids"])
    for i, a in enumerate(found):
        assert a.text == f"{SOURCE}\na bad film" and a.position == start + i
        assert (a.scores[a.position + 1 :] == 0).all()
        assert [w.text for w in a.words()][-3:] == ["a", "bad", "film"]


def test_a_continuation_that_the_model_writes(tokenizer):
    explainer = encoder_decoder(tokenizer, "BartForConditionalGeneration")
    ids = tokenizer(SOURCE, return_tensors="pt")
    ids.pop("token_type_ids", None)
    wanted = explainer.model.generate(**ids, do_sample=False, num_beams=1, max_new_tokens=3)[0, 1:]
    found = explainer(SOURCE, continuation=3, tensor="cf")
    assert len(found) == len(wanted)
    for a, token in zip(found, wanted.tolist(), strict=True):
        assert a.tokens[a.position] and a.label in (
            tokenizer.decode([token]),
            *tokenizer.convert_ids_to_tokens([token]),
        )


def test_a_token_that_every_text_is_forced_to_begin_with(tokenizer):
    """The language of a translation, say."""
    explainer = encoder_decoder(tokenizer, "BartForConditionalGeneration")
    forced = tokenizer.convert_tokens_to_ids("very")
    explainer.model.generation_config.forced_bos_token_id = forced
    ids = tokenizer(SOURCE, return_tensors="pt")
    ids.pop("token_type_ids", None)
    wanted = explainer.model.generate(**ids, do_sample=False, num_beams=1, max_new_tokens=3)[0]
    assert wanted[:2].tolist() == [2, forced]
    found = explainer(SOURCE, continuation=2, tensor="cf")
    tokens = tokenizer.convert_ids_to_tokens(wanted)
    assert list(found[-1].tokens[-len(tokens) :]) == tokens
    assert found[0].tokens[found[0].position] == "very"


@pytest.mark.parametrize("name", ENCODER_DECODERS)
@pytest.mark.parametrize("tensor", ("agf", "cf", "bcf"))
def test_sources_of_other_lengths_in_a_batch(tokenizer, name, tensor):
    explainer = encoder_decoder(tokenizer, name)
    together = explainer([SOURCE, "bad"], tensor=tensor, target="good", edges=True)
    for text, a in zip([SOURCE, "bad"], together, strict=True):
        alone = explainer(text, tensor=tensor, target="good", edges=True)
        assert a.tokens == alone.tokens
        scale = max(alone.certificate.value, 1e-9)
        np.testing.assert_allclose(a.scores, alone.scores, rtol=0, atol=2e-4 * scale)
        np.testing.assert_allclose(a.edges, alone.edges, rtol=0, atol=2e-4 * scale)


def test_a_position_in_what_is_written(tokenizer):
    explainer = encoder_decoder(tokenizer)
    with pytest.raises(InputError, match="position 2 is in the source: .* begins at position 7"):
        explainer(SOURCE, position=2)
    assert explainer(SOURCE, position=7, tensor="cf").position == 7


def test_models_that_cannot_begin_or_read_twice(tokenizer):
    explainer = encoder_decoder(tokenizer)
    explainer.model.config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="no decoder_start_token_id"):
        explainer(SOURCE)
    config = transformers.BartConfig(vocab_size=100, **BART)
    model = transformers.BartForSequenceClassification(config).eval()
    with pytest.raises(ModelError, match="BartForSequenceClassification.*reads its text twice"):
        Explainer(model, tokenizer)(SOURCE)
