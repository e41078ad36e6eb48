"""Every token has its place, and words do not depend on the tokenizer."""

import numpy as np
import pytest
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import CanineTokenizer, PreTrainedTokenizerFast

from attnflow import Attribution, Certificate, InputError
from attnflow.inputs.text import encode

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CORPUS = [
    "the film is not good, but it was never dull. don't stop: a state-of-the-art dog!",
    "café naïve ÀÉ cafés 日本語 テキスト 👍 🙂 שלום עולם हिन्दी 1,000.50 smart 水 火 木 水 火 木",
]
# Text, and its words.
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


KINDS = ("wordpiece", "byte level", "metaspace", "embedded")


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
    """What holds for every text and tokenizer."""
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


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("kind", KINDS)
def test_words_are_those_of_the_text_for_every_tokenizer(tokenizers, kind, text):
    encoded = encode(tokenizers[kind], text, limit=None)
    assert_placed(encoded)
    assert_summed(scored(encoded))
    assert words_of(encoded) == WORDS[text]


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


def test_case_and_accents_do_not_hide_a_token(tokenizers):
    encoded = encode(Slow(tokenizers["wordpiece"]), "GÔOD Fi\u0301lm DÓGS ÇA", limit=None)
    assert_placed(encoded)
    assert words_of(encoded) == ["GÔOD", "Fi\u0301lm", "DÓGS", "ÇA"]


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


def test_transformers_is_the_one_the_tests_were_written_for():
    assert int(transformers.__version__.split(".")[0]) >= 5
