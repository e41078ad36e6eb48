"""Every token has its place, whatever offsets the tokenizer gives."""

import numpy as np
import pytest
from support.tokenized_texts import (
    BREAKAGES,
    KINDS,
    LETTERS,
    WORDS,
    Falsified,
    Slow,
    assert_placed,
    assert_summed,
    scored,
    words_of,
)

from attnflow import InputError
from attnflow.inputs.text import encode


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("kind", KINDS)
def test_visible_characters_are_covered(tokenizers, kind, text):
    encoded = encode(tokenizers[kind], text, limit=None)
    covered = {i for start, end in encoded.offsets for i in range(start, end)}
    assert covered >= {i for i, c in enumerate(text) if c.isalnum()}


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("breakage", BREAKAGES)
@pytest.mark.parametrize("kind", ("wordpiece", "byte level", "metaspace"))
def test_broken_offsets_are_found_again(tokenizers, kind, breakage, text):
    right = encode(tokenizers[kind], text, limit=None)
    encoded = encode(Falsified(tokenizers[kind], BREAKAGES[breakage]), text, limit=None)
    assert encoded.tokens == right.tokens
    assert_placed(encoded)
    assert_summed(scored(encoded))
    if text in LETTERS:
        assert encoded.offsets == right.offsets
        assert encoded.word_ids == right.word_ids


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_without_offsets_agrees_with_its_fast_twin(tokenizers, kind, text):
    right = encode(tokenizers[kind], text, limit=None)
    encoded = encode(Slow(tokenizers[kind]), text, limit=None)
    assert_placed(encoded)
    assert_summed(scored(encoded))
    if text in LETTERS:
        assert words_of(encoded) == words_of(right)
    assert "".join(words_of(encoded)).split() == "".join(words_of(right)).split() or (
        len(words_of(encoded)) < len(words_of(right))  # neighbours that it does not know
    )


def test_a_slow_tokenizer_of_transformers(letters):
    assert not letters.is_fast
    encoded = encode(letters, "don't é 日", limit=None)
    assert_placed(encoded)
    assert [encoded.text[s:e] for s, e in encoded.offsets[1:-1]] == [*"don't", "", "é", "", "日"]
    assert words_of(encoded) == ["don't", "é", "日"]


def test_unknown_words_have_places_and_are_ordinary(tokenizers):
    encoded = encode(tokenizers["wordpiece"], "good 日 ☃☃ film", limit=None)
    assert encoded.tokens == ("[CLS]", "good", "[UNK]", "[UNK]", "film", "[SEP]")
    assert encoded.special == (True, *[False] * 4, True)
    assert words_of(encoded) == ["good", "日", "☃☃", "film"]
    slow = encode(Slow(tokenizers["wordpiece"]), "good 日 ☃ film", limit=None)
    assert words_of(slow) == ["good", "日 ☃", "film"]  # what stands between the known ones


def test_case_and_accents_do_not_hide_a_token(tokenizers):
    encoded = encode(Slow(tokenizers["wordpiece"]), "GÔOD Fi\u0301lm DÓGS ÇA", limit=None)
    assert_placed(encoded)
    assert words_of(encoded) == ["GÔOD", "Fi\u0301lm", "DÓGS", "ÇA"]


def test_random_texts_keep_the_rules(tokenizers):
    rng = np.random.default_rng(0)
    alphabet = np.array(
        [*"aàt'’-. \n#_Ġ▁日한ש🙂👍\u0301\u200d\ufe0f\u00a0\u202e𠀀ß", "<s>", "[SEP]"]
    )
    tried = 0
    for _ in range(150):
        text = "".join(rng.choice(alphabet, rng.integers(1, 25)))
        for kind in KINDS:
            for tokenizer in (tokenizers[kind], Slow(tokenizers[kind])):
                try:
                    encoded = encode(tokenizer, text, limit=None)
                except InputError:
                    continue
                assert_placed(encoded)
                assert_summed(scored(encoded))
                tried += 1
    assert tried > 500
