"""Chats as tokens: which message each token is in, or none."""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from attnflow.inputs.chat import encode_chat


def test_white_space_belongs_to_the_message_that_it_is_inside_of():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own = PreTrainedTokenizerFast(tokenizer_object=raw)
    own.chat_template = "{% for m in messages %}>\n{{ m['content'] }}\n{% endfor %}"
    chat = [{"role": "user", "content": content} for content in ("a\n\nb", "c")]
    a = encode_chat(own, chat, limit=None, generates=False)
    assert list(zip(a.tokens, a.message_ids, strict=True)) == [
        *((">", None), ("Ċ", None), ("a", 0), ("Ċ", 0), ("Ċ", 0), ("b", 0), ("Ċ", None)),
        *((">", None), ("Ċ", None), ("c", 1), ("Ċ", None)),
    ]
    assert a.text == "a\n\nb\nc" and a.special == tuple(m is None for m in a.message_ids)


def test_a_token_around_a_message_of_white_space_is_the_templates():
    pieces = [("?", -9.0), ("> <", -1.0), (">", -2.0), ("a", -1.0), ("<", -2.0)]
    own = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram(pieces, unk_id=0)))
    own.chat_template = "{% for m in messages %}>{{ m['content'] }}<{% endfor %}"
    chat = [{"role": "user", "content": content} for content in (" ", "a")]
    a = encode_chat(own, chat, limit=None, generates=False)
    found = list(zip(a.tokens, a.message_ids, strict=True))
    assert found == [("> <", None), (">", None), ("a", 1), ("<", None)]
