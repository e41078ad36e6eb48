"""The beginning-of-text token that a decoder's tokenizer leaves out."""

import warnings

import numpy as np
import pytest
from support.text_models import PROMPT, bare, language_model, tiny_model

from attnflow import Explainer, InputError


@pytest.fixture(scope="module")
def writer(tokenizer):
    return Explainer(language_model(), bare(tokenizer))


def test_the_token_stands_in_front_and_is_not_ranked(writer):
    plain, begun = writer(PROMPT), writer(PROMPT, bos=True)
    assert begun.tokens[1:] == plain.tokens and begun.offsets[1:] == plain.offsets
    assert begun.special[0] and not plain.special[0]
    assert begun.word_ids[0] is None and begun.shares[0] == 0
    assert begun.position == plain.position + 1 and begun.text == plain.text


def test_it_is_the_answer_of_ids_that_begin_with_it(writer):
    begun = writer(PROMPT, bos=True)
    ids = writer.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    by_ids = writer(input_ids=[writer.model.config.bos_token_id, *ids])
    assert by_ids.label == begun.label
    np.testing.assert_allclose(by_ids.logits, begun.logits, atol=1e-5)


def test_a_continuation_begins_with_it_too(writer):
    for a in writer(PROMPT, continuation=2, bos=True):
        assert a.special[0] and not a.special[1:].any()


def test_a_word_about_it_where_it_is_left_out(writer):
    with pytest.warns(UserWarning, match=r"no beginning-of-text token.*bos=True") as caught:
        writer(PROMPT)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        writer(PROMPT, bos=True)


def test_bos_is_refused_where_it_cannot_stand(writer, tokenizer):
    with pytest.raises(InputError, match="bos goes with texts"):
        writer(input_ids=[5, 6], bos=True)
    with pytest.raises(InputError, match="bos is for decoders"):
        Explainer(tiny_model(), tokenizer)("good", bos=True)
    with pytest.raises(InputError, match="begins with .* leave bos out"):
        Explainer(language_model(), tokenizer)(PROMPT, bos=True)


def test_a_text_that_leaves_no_place_for_it(writer):
    longest = " ".join(["good"] * writer.limit)
    assert len(writer(longest)) == writer.limit
    with pytest.raises(InputError, match="there is no place for the beginning-of-text token"):
        writer(longest, bos=True)


def test_a_text_that_is_cut_leaves_a_place_for_it(writer):
    longest = " ".join(["good"] * (writer.limit + 3))
    with pytest.warns(UserWarning, match="was cut to"):
        a = writer(longest, bos=True, truncate=True)
    assert len(a) == writer.limit and a.special[0] and a.truncated == 4


def test_a_continuation_has_the_tokens_that_it_has_without(writer):
    plain = writer(PROMPT, continuation=" good dog")
    begun = writer(PROMPT, continuation=" good dog", bos=True)
    assert [a.label for a in begun] == [a.label for a in plain]
    assert begun[0].tokens[1:] == plain[0].tokens
