"""Words are those of the text, whatever the tokenizer."""

import pytest
from support.tokenized_texts import (
    KINDS,
    WORDS,
    Falsified,
    assert_placed,
    assert_summed,
    scored,
    words_of,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from attnflow.inputs.text import encode


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("kind", KINDS)
def test_words_are_those_of_the_text_for_every_tokenizer(tokenizers, kind, text):
    encoded = encode(tokenizers[kind], text, limit=None)
    assert_placed(encoded)
    assert_summed(scored(encoded))
    assert words_of(encoded) == WORDS[text]


def test_a_token_that_spans_words_joins_them():
    raw = Tokenizer(models.WordLevel({"[UNK]": 0, "new york": 1, "is": 2}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Split("new york", "isolated")
    joined = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]")
    encoded = encode(joined, "new york", limit=None)
    assert words_of(encoded) == ["new york"]


def test_a_piece_across_a_word_boundary_joins_both_words(tokenizers):
    def across(spans):
        return [
            (start, end + 2) if (start, end) == (0, 4) else (start, end) for start, end in spans
        ]

    encoded = encode(Falsified(tokenizers["wordpiece"], across), "good a film", limit=None)
    assert words_of(encoded) == ["good a", "film"]


def test_a_token_without_place_keeps_the_name_of_its_word(letters):
    """Such a token is summed with its left neighbour, and does not move where the word begins."""
    encoded = encode(letters, "good", limit=None)
    fields = vars(encoded) | {"offsets": (*encoded.offsets[:-2], (0, 0), (0, 0))}
    attribution = scored(type(encoded)(**fields))
    (word,) = attribution.words()
    assert (word.text, word.start, word.tokens) == ("goo", 0, (1, 2, 3, 4))
    shifted = encode(letters, "a good", limit=None)
    fields = vars(shifted) | {"offsets": (*shifted.offsets[:-2], (0, 0), (0, 0))}
    assert [word.text for word in scored(type(shifted)(**fields)).words()] == ["a", "goo"]
