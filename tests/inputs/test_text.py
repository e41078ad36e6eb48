"""A text is encoded whole or refused: special tokens, truncation, and texts that are none."""

import pytest
import transformers
from support.tokenized_texts import assert_placed, words_of
from tokenizers import Tokenizer

from attnflow import InputError
from attnflow.inputs.text import encode


def test_a_mask_in_the_text_is_ordinary(tokenizers):
    encoded = encode(tokenizers["wordpiece"], "a [MASK] film", limit=None)
    assert encoded.tokens[2] == "[MASK]" and not encoded.special[2]


def test_special_tokens_typed_by_hand_are_special(tokenizers):
    for text in ("good [SEP] film", "[CLS] good film", "good film [PAD][PAD]"):
        encoded = encode(tokenizers["wordpiece"], text, limit=None)
        assert_placed(encoded)
        named = [token.startswith("[") for token in encoded.tokens]
        assert list(encoded.special) == named and sum(named) > 2
        assert words_of(encoded) == ["good", "film"]


def test_truncation_says_how_many(tokenizers):
    text = "the film is not good"
    with pytest.raises(InputError, match=r"has 7 tokens and the model takes 5.*2 tokens"):
        encode(tokenizers["wordpiece"], text, limit=5)
    cut = encode(tokenizers["wordpiece"], text, limit=5, truncate=True)
    assert cut.tokens == ("[CLS]", "the", "film", "is", "[SEP]") and cut.truncated == 2
    assert_placed(cut)
    assert encode(tokenizers["wordpiece"], text, limit=7).truncated == 0


def test_settings_saved_with_a_tokenizer_neither_pad_nor_cut(tokenizer):
    raw = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    raw.enable_padding(length=20)
    raw.enable_truncation(4)
    stored = type(tokenizer)(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", sep_token="[SEP]"
    )
    assert len(encode(stored, "the film is not good", limit=None).tokens) == 7


@pytest.mark.parametrize("text", ("", " ", "\n\t\u3000", "[SEP]", "[CLS] [SEP]", "\u200b", "\x00"))
def test_nothing_to_explain(tokenizers, text):
    with pytest.raises(InputError, match="nothing to explain"):
        encode(tokenizers["wordpiece"], text, limit=None)


@pytest.mark.parametrize("text", (None, 3, b"good", ["good"]))
def test_a_text_is_a_string(tokenizers, text):
    with pytest.raises(InputError, match=f"must be a string, got {type(text).__name__}"):
        encode(tokenizers["wordpiece"], text, limit=None)


def test_half_a_surrogate_pair_is_refused(tokenizers):
    with pytest.raises(InputError, match="not valid Unicode.*character 5"):
        encode(tokenizers["wordpiece"], "good \ud83d film", limit=None)


def test_transformers_is_the_one_the_tests_were_written_for():
    assert int(transformers.__version__.split(".")[0]) >= 5
