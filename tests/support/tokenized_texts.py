"""Texts and their words, tokenizers of several kinds, and what holds of every encoding."""

import numpy as np
import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from attnflow import Attribution, Certificate

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CORPUS = [
    "the film is not good, but it was never dull. don't stop: a state-of-the-art dog!",
    "café naïve ÀÉ cafés 日本語 テキスト 👍 🙂 שלום עולם हिन्दी 1,000.50 smart 水 火 木 水 火 木",
]

# Each text with its words.
WORDS = {
    "the film is not good.": ["the", "film", "is", "not", "good", "."],
    "Don't stop!": ["Don't", "stop", "!"],
    "a state-of-the-art dog": ["a", "state-of-the-art", "dog"],
    "the dogs’ film, isn’t": ["the", "dogs", "’", "film", ",", "isn’t"],
    "  spaced \n\n out\ttext  ": ["spaced", "out", "text"],
    "Café naïve ÀÉ": ["Café", "naïve", "ÀÉ"],
    "cafe\u0301s e\u0301": ["cafe\u0301s", "e\u0301"],
    "水火木 film": ["水", "火", "木", "film"],
    "good 👍🏽 ok ❤️!": ["good", "👍🏽", "ok", "❤️", "!"],
    "a 👨‍👩‍👧 film": ["a", "👨‍👩‍👧", "film"],
    "שלום עולם": ["שלום", "עולם"],
    "हिन्दी भाषा": ["हिन्दी", "भाषा"],
    "1,000 zzqqy ∂ x": ["1", ",", "000", "zzqqy", "∂", "x"],
    "--": ["-", "-"],
}
LETTERS = [text for text in WORDS if text.isascii()]  # where even a slow tokenizer leaves no doubt
KINDS = ("wordpiece", "byte level", "metaspace", "embedded")


def wrapped(raw):
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def byte_level():
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS, trainer)
    raw.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return wrapped(raw)


def metaspace():
    raw = Tokenizer(models.Unigram())
    raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    raw.train_from_iterator(CORPUS, trainer)
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    return wrapped(raw)


class Falsified:
    """A fast tokenizer whose offsets went through `change`."""

    def __init__(self, tokenizer, change):
        self._tokenizer, self._change = tokenizer, change

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, *args, **options):
        encoding = self._tokenizer(*args, **options)
        encoding["offset_mapping"] = self._change(encoding["offset_mapping"])
        return encoding


class Slow(Falsified):
    """The same tokens without offsets."""

    is_fast = False

    def __init__(self, tokenizer):
        super().__init__(tokenizer, None)

    def __call__(self, *args, **options):
        assert not options["return_offsets_mapping"]
        return self._tokenizer(*args, **options)


BREAKAGES = {
    "zero width": lambda spans: [(0, 0)] * len(spans),
    "zero width in place": lambda spans: [(start, start) for start, _ in spans],
    "beyond the end": lambda spans: [(start + 1000, end + 1000) for start, end in spans],
    "negative": lambda spans: [(start - 3, end - 3) for start, end in spans],
    "backwards": lambda spans: [(end, start) for start, end in spans],
    "out of order": lambda spans: [spans[0], *spans[-2:0:-1], spans[-1]],
}


def scored(encoded, seed=0):
    scores = np.random.default_rng(seed).random(len(encoded.tokens))
    return Attribution(
        text=encoded.text,
        tokens=encoded.tokens,
        offsets=encoded.offsets,
        special=np.array(encoded.special),
        word_ids=encoded.word_ids,
        scores=scores,
        tensor="cf",
        readout="input",
        target=0,
        labels=("only",),
        logits=np.zeros(1),
        certificate=Certificate(1.0, 1.0, 1e-3, 0.0, 0.0, 1, "solved"),
        model="none",
    )


def words_of(encoded):
    return [word.text for word in scored(encoded).words()]


def assert_placed(encoded):
    """Check the rules that hold for every text and tokenizer."""
    text, count = encoded.text, len(encoded.tokens)
    assert count == len(encoded.offsets) == len(encoded.special) == len(encoded.word_ids)
    assert all(len(column) == count for column in encoded.inputs.values())
    previous, word = 0, 0
    rows = zip(encoded.offsets, encoded.special, encoded.word_ids, strict=True)
    for (start, end), special, word_id in rows:
        assert (start, end) == (0, 0) or 0 <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        if special:
            assert (start, end, word_id) == (0, 0, None)
            continue
        assert word_id in (word, word + 1)  # numbered from 0, from the left, without a hole
        word = word_id
        if end:
            assert start >= previous
            previous = start


def assert_summed(attribution):
    """Words share out the ordinary tokens, in order."""
    words = attribution.words()
    ordinary = [i for i in range(len(attribution)) if not attribution.special[i]]
    assert [i for word in words for i in word.tokens] == ordinary
    for word in words:
        assert word.score == pytest.approx(sum(attribution.scores[list(word.tokens)]))
        assert word.end == 0 or word.text == attribution.text[word.start : word.end]
        assert word.text == word.text.strip() != ""
    assert sum(word.score for word in words) == pytest.approx(attribution.scores[ordinary].sum())
