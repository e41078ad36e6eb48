"""Classes, tokens, answers in a second text, and the cosine of two embeddings: named and found."""

import numpy as np
import pytest
import torch
from support.attribution_checks import assert_sound
from support.text_models import PROMPT
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from attnflow import Explainer, InputError
from attnflow.capture import Objective, capture
from attnflow.capture.objectives import LONGEST_ANSWER, NEVER, answers, similarity
from attnflow.explainer.targets.output_space import Vocabulary
from attnflow.models.pooling import pooled

QUESTION, CONTEXT = "was it dull?", "the film is not good, but it was never dull"


@pytest.fixture(scope="module")
def asked(tiny, tokenizer):
    return Explainer(tiny(head="QuestionAnswering", labels=("start", "end")).double(), tokenizer)


def side_logits(explainer, question, context):
    inputs = explainer.tokenizer(question, context, return_tensors="pt")
    with torch.no_grad():
        output = explainer.model(**inputs)
    second = [i for i, part in enumerate(inputs.sequence_ids(0)) if part == 1]
    return output.start_logits[0].numpy(), output.end_logits[0].numpy(), second


def test_the_answer_predicted_is_the_best_run_of_the_context(asked):
    a = asked(QUESTION, pair=CONTEXT)
    starts, ends, second = side_logits(asked, QUESTION, CONTEXT)
    best = max((starts[i] + ends[j], i, j) for i in second for j in second if j >= i)
    assert a.logits[a.target] == pytest.approx(best[0], rel=1e-12) and a.target == 0
    span = a.text[a.offsets[best[1]][0] : a.offsets[best[2]][1]]
    assert a.label == span and span in CONTEXT
    assert a.task == "question-answering" and a.certificate.is_certified
    whole = sum(np.exp(starts[i] + ends[j]) for i in second for j in second if j >= i)
    assert a.probabilities[0] == pytest.approx(np.exp(best[0]) / whole, rel=1e-9)


def test_an_answer_given_as_text(asked):
    starts, ends, second = side_logits(asked, QUESTION, CONTEXT)
    a = asked(QUESTION, pair=CONTEXT, target="never dull", against="good", tensor="cf")
    first = second[CONTEXT.replace(",", " ,").split().index("never")]
    assert a.labels[a.target] == "never dull" and a.labels[a.against] == "good"
    assert a.logits[a.target] == pytest.approx(starts[first] + ends[first + 1], rel=1e-12)


def test_answers_alone_and_in_a_batch(asked):
    pairs = [CONTEXT, "a dog"]
    together = asked([QUESTION, "bad"], pair=pairs)
    for got, question, context in zip(together, [QUESTION, "bad"], pairs, strict=True):
        alone = asked(question, pair=context)
        assert got.label == alone.label
        np.testing.assert_allclose(got.scores, alone.scores, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(), "answered from a second text"),
        (dict(pair=CONTEXT, target="cat"), "is not an answer"),
        (dict(pair=CONTEXT, target="goo"), "is not an answer"),
        (dict(pair="good " + "[SEP] " * 20 + "dog " * 2, target="was"), "is not an answer"),
        (dict(pair=CONTEXT, target=3), "must be an answer"),
        (dict(pair=CONTEXT, target="good", against="good"), "no contrast with itself"),
        (dict(pair=CONTEXT, position=2), "leave position out"),
    ],
)
def test_questions_that_cannot_be_answered(asked, options, message):
    with pytest.raises(InputError, match=message):
        asked(QUESTION, **options)


def test_every_answer_has_its_logit():
    generator = torch.Generator().manual_seed(0)
    starts, ends = torch.randn(2, 1, 5, generator=generator)
    allowed = torch.tensor([[False, True, True, False, True]])
    output = type("Output", (), dict(start_logits=starts, end_logits=ends))
    logits = answers(allowed)(output)[0]
    for i in range(5):
        for k in range(LONGEST_ANSWER):
            own = logits[i * LONGEST_ANSWER + k]
            if i + k < 5 and allowed[0, i] and allowed[0, i + k]:
                assert own == starts[0, i] + ends[0, i + k]
            else:
                assert own == NEVER


@pytest.fixture(scope="module", params=["mean", "cls", "last"])
def embedder(request, tiny, tokenizer):
    return Explainer(tiny(head=None).double(), tokenizer, pooling=request.param)


def embedding(explainer, text):
    with torch.no_grad():
        states = explainer.model(**explainer.tokenizer(text, return_tensors="pt"))[0][0]
    found = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[explainer.pooling]
    return found / found.norm()


@pytest.mark.parametrize("tensor", ["agf", "cf", "bcf"])
def test_the_cosine_of_two_texts(embedder, tensor):
    a = embedder(QUESTION, pair=CONTEXT, tensor=tensor)
    wanted = embedding(embedder, QUESTION) @ embedding(embedder, CONTEXT)
    assert a.logits[0] == pytest.approx(wanted.item(), rel=1e-9)
    assert a.label == f"similarity to “{CONTEXT}”" and a.text == QUESTION
    assert a.task == "sentence-similarity" and a.certificate.is_certified


def test_contributions_to_a_cosine_add_up_to_it(tiny, tokenizer):
    """The embedding's length is held constant: otherwise they would not."""
    model = tiny(head=None).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    explainer = Explainer(model, tokenizer)
    inputs = tokenizer(QUESTION, return_tensors="pt")
    other = embedding(explainer, CONTEXT)[None]
    read = similarity(other, pooled("mean", inputs), frozen=True)
    found = capture(model, inputs, Objective(read=read))
    signed, residual = found.effects
    total = signed.sum((2, 3)) + residual.sum(2)
    wanted = embedding(explainer, QUESTION) @ other[0]
    torch.testing.assert_close(total[0], wanted.expand(2), rtol=1e-9, atol=1e-12)


def test_similarities_alone_and_in_a_batch(embedder, texts):
    others = [CONTEXT, "bad", "a dog", "the film"]
    together = embedder(texts, pair=others)
    for text, other, got in zip(texts, others, together, strict=True):
        alone = embedder(text, pair=other)
        assert got.logits == pytest.approx(alone.logits, rel=1e-9)
        np.testing.assert_allclose(got.scores, alone.scores, atol=1e-9)


def test_similarities_in_inference_mode(embedder):
    with torch.inference_mode():
        inside = embedder(QUESTION, pair=CONTEXT, tensor="cf")
    np.testing.assert_array_equal(
        inside.scores, embedder(QUESTION, pair=CONTEXT, tensor="cf").scores
    )


def test_a_compared_text_that_is_cut_is_told(embedder):
    with pytest.warns(UserWarning, match="the pair of text 0 was cut to 32 tokens"):
        embedder(QUESTION, pair="bad dog " * 20, tensor="cf", truncate=True)


def test_an_embedding_alone_decides_nothing(embedder):
    with pytest.raises(InputError, match="give a text to compare with"):
        embedder(QUESTION)
    with pytest.raises(InputError, match="pooling must be one of mean, cls, last"):
        Explainer(embedder.model, embedder.tokenizer, pooling="max")


def test_an_answer_is_whole_tokens(asked):
    a = asked(QUESTION, pair="the film, he was good", target="he")
    assert a.label == "he" or a.labels[a.target] == "he"


# Classes
def test_target_by_index_label_and_case(explainer, texts):
    for index, names in enumerate((("negative", "NEGATIVE"), ("neutral",), ("Positive", "2"))):
        by_index = explainer(texts[0], target=index)
        assert (by_index.target, by_index.label) == (index, explainer.labels[index])
        for name in (*names, np.int64(index)):
            assert np.array_equal(explainer(texts[0], target=name).scores, by_index.scores)


def test_labels_that_look_like_indices_are_labels(tiny, tokenizer, texts):
    explainer = Explainer(tiny(labels=("1", "0", "POS", "pos")), tokenizer)
    assert explainer(texts[0], target="1").target == 0
    assert explainer(texts[0], target=1).target == 1
    assert explainer(texts[0], target="2").target == 2
    assert explainer(texts[0], target="pos").target == 3
    with pytest.raises(InputError, match="not a class of this model"):
        explainer(texts[0], target="Pos")


@pytest.mark.parametrize(
    "target",
    ("nice", "", " positive", "-1", "3", "1.0", "²", -1, 3, True, False, 1.0, {1})
    + (torch.tensor(1), object()),
)
def test_an_unknown_class_is_refused(explainer, texts, target):
    with pytest.raises(InputError, match="not a class of this model.*'negative'.*0 to 2"):
        explainer(texts[0], target=target)
    with pytest.raises(InputError, match="not a class of this model"):
        explainer(texts[:2], target=[0, target])


def test_a_regression_has_one_class(tiny, tokenizer, texts):
    explainer = Explainer(tiny(labels=("score",)), tokenizer)
    for a in explainer(texts):
        assert_sound(a)
        assert a.target == 0 and a.label == "score" and a.probabilities.tolist() == [1.0]
    with pytest.raises(InputError, match="index from 0 to 0"):
        explainer(texts[0], target=1)


def test_a_given_token_by_text_and_by_id(writer, reader):
    (wanted,) = reader("good", add_special_tokens=False)["input_ids"]
    by_text, by_id = (writer(PROMPT, target=t) for t in ("good", wanted))
    assert by_text.label == by_id.label == "good"
    np.testing.assert_array_equal(by_text.scores, by_id.scores)


@pytest.fixture
def spaced():
    """A vocabulary in which a word in a text has its space in front of it."""
    words = {"Paris": 0, "ĠParis": 1, "ĠRome": 2, "R": 3, "<unk>": 4}
    raw = Tokenizer(models.WordLevel(words, "<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>"), 5)


def test_a_target_without_its_space_is_met_with_a_hint(spaced):
    assert spaced.index(" Paris") == 1 and spaced.index("<unk>") == 4
    with pytest.warns(UserWarning, match="' Paris' is another token"):
        assert spaced.index("Paris") == 0
    with pytest.raises(InputError, match="Did you mean ' Rome', with a space"):
        spaced.index("Rome")
    with pytest.raises(InputError) as refused:
        spaced.index("Oslo")
    assert "Did you mean" not in str(refused.value)


@pytest.fixture(scope="module")
def byte_level():
    """A vocabulary of all bytes, with é and two words as tokens; a byte's name is a character."""
    names = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ã", "©"), ("d", "o"), ("do", "g"), ("Ġ", "dog")]
    vocabulary = [*names, *("".join(pair) for pair in merges)]
    raw = Tokenizer(models.BPE({name: i for i, name in enumerate(vocabulary)}, merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_object=raw), len(vocabulary))


def test_a_character_is_its_token_and_not_the_byte_of_that_name(byte_level):
    names = byte_level.tokenizer.get_vocab()
    assert byte_level.index("é") == names["Ã©"] != names["é"]
    assert byte_level.name(byte_level.index("é")) == "é"


def test_a_name_that_is_no_token_s_text_is_found(byte_level):
    names = byte_level.tokenizer.get_vocab()
    assert byte_level.index("Ġdog") == byte_level.index(" dog") == names["Ġdog"]
    assert byte_level.index("Ã©") == names["Ã©"] and byte_level.index("Ġ") == names["Ġ"]
    with pytest.warns(UserWarning, match="' dog' is another token"):
        assert byte_level.index("dog") == names["dog"]


@pytest.mark.parametrize(
    ("target", "meant"),
    (("positve", "positive"), ("Neutrall", "neutral"), ("nice", None), ("x" * 10**6, None)),
)
def test_a_label_that_is_nearly_one_is_suggested(explainer, target, meant):
    with pytest.raises(InputError, match="is not a class of this model: expected one of") as error:
        explainer("a good dog", target=target)
    asked = str(error.value).partition("Did you mean ")[2]
    assert asked == (f"{meant!r}?" if meant else "")
