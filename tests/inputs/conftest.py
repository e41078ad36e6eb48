"""Tokenizers of several kinds."""

import pytest
from support.tokenized_texts import byte_level, metaspace
from transformers import CanineTokenizer


@pytest.fixture(scope="module")
def tokenizers(tokenizer, embedded):
    return {
        "wordpiece": tokenizer,
        "byte level": byte_level(),
        "metaspace": metaspace(),
        "embedded": embedded.tokenizer,
    }


@pytest.fixture(scope="module")
def letters():
    """A slow tokenizer: every character is a token."""
    return CanineTokenizer()
