"""Known answers: read from files, drawn where the model gives them, judged by their evidence."""

import json

import numpy as np
import pytest
import torch
from support.text_models import CHAT_TEMPLATE, bare, language_model, tiny_model

from attnflow import InputError
from attnflow.evaluation import Protocol, read_examples, sample_instances
from attnflow.evaluation.protocol import MethodOutput, measure_faithfulness
from attnflow.evaluation.statistics import rank_correlation
from attnflow.methods import METHODS, Classifier, LanguageModel, Method

PROMPT = "the dog was"  # after which the tiny model says a token that has a text


@pytest.fixture(scope="module")
def adapter(tokenizer):
    return LanguageModel(language_model(), bare(tokenizer))


@pytest.fixture
def saved(tmp_path, adapter):
    """Writes a file of prompts; the target is what the model says, unless another is given."""

    def save(*rows):
        encoded = adapter.encode(PROMPT)
        (said,) = adapter.predicted([adapter.whole_variant(encoded)])
        target = adapter.tokenizer.decode([said])
        lines = [json.dumps({"text": PROMPT, "target": target} | row) for row in rows]
        path = tmp_path / "prompts.jsonl"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return save


def drawn(path, adapter):
    return sample_instances(read_examples(str(path)), adapter, min_tokens=2)


def judged(instance, scores, **options):
    method = Method("m", lambda instance: scores, "none")
    protocol = Protocol((0.5,), ("delete",), kept=False, **options)
    (row,) = measure_faithfulness(instance, [MethodOutput(method, scores, None)], protocol)
    return row["extras"]


def test_evidence_is_the_tokens_of_its_characters(saved, adapter):
    start = PROMPT.index("dog")
    ((_, instance),) = drawn(saved({"span": [start, start + 3]}), adapter)
    tokens = adapter.tokenizer.tokenize(PROMPT)
    assert instance.evidence.tolist() == [token == "dog" for token in tokens]


def test_an_answer_that_the_model_does_not_give_is_left_out(saved, adapter):
    path = saved({"span": [0, 3]}, {"span": [0, 3], "target": "##zz"}, {"target": ""})
    assert sorted(example.index for example, _ in drawn(path, adapter)) == [0, 2]
    with pytest.raises(InputError, match="predicts the target of no example"):
        drawn(saved({"target": "##zz"}), adapter)


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ([0, 999], "not inside the text"),
        ([3, 3], "not inside the text"),
        ([-1, 2], "not inside the text"),
        ([0], "two characters"),
        (["0", "3"], "two characters"),
        ("0:3", "two characters"),
    ],
)
def test_a_span_outside_its_text_is_refused(saved, adapter, span, message):
    with pytest.raises(InputError, match=message):
        read_examples(str(saved({"span": span})))


def test_a_span_without_a_token_is_refused(saved, adapter):
    space = PROMPT.index(" ")
    with pytest.raises(InputError, match="no token that the model reads overlaps"):
        drawn(saved({"span": [space, space + 1]}), adapter)
    with pytest.raises(InputError, match="spans would lie elsewhere"):
        examples = read_examples(str(saved({"span": [0, 3]})))
        sample_instances(examples, adapter, min_tokens=2, position="random")


def test_known_answers_are_for_language_models(saved, tokenizer):
    with pytest.raises(InputError, match="expected a language model"):
        drawn(saved({"span": [0, 3]}), Classifier(tiny_model(), tokenizer))


def test_rank_and_share_of_the_evidence(saved, adapter):
    start = PROMPT.index("dog")
    ((_, instance),) = drawn(saved({"span": [start, start + 3]}), adapter)
    dog = int(np.argmax(instance.evidence))
    scores = np.zeros(instance.nodes)
    scores[dog] = 3
    scores[dog - 1] = 1
    found = judged(instance, scores, extras=("evidence",))
    assert (found["hit"], found["reciprocal_rank"], found["evidence_share"]) == (1, 1, 0.75)
    assert found["recovery"] == 1
    scores[dog - 1], scores[-1] = 9, 4
    found = judged(instance, scores, extras=("evidence",))
    assert (found["hit"], found["reciprocal_rank"]) == (0, pytest.approx(1 / 3, abs=1e-6))
    assert found["recovery"] == 0
    assert found["first_share"] == pytest.approx(9 / 16 if dog == 1 else 0)


def test_evidence_is_needed_for_its_metric(saved, adapter):
    ((_, instance),) = drawn(saved({}), adapter)
    with pytest.raises(InputError, match="needs examples with a span"):
        judged(instance, np.zeros(instance.nodes), extras=("evidence",))


def test_halves_of_an_additive_model_correlate_with_its_weights(tokenizer):
    """The log-odds of a bag of words are the sum of its words' weights."""

    class Additive(Classifier):
        def __init__(self, weights):
            super().__init__(tiny_model(), tokenizer)
            self.weights = weights

        def _logits_of(self, variants):
            odds = [sum(self.weights.get(int(i), 0.0) for i in v.ids) for v in variants]
            return torch.tensor([[0.0, x, -30.0] for x in odds])

    words = ["good", "bad", "dog", "film", "smart", "dull"]
    ids = tokenizer.convert_tokens_to_ids(words)
    weights = dict(zip(ids, (1.0, -2.0, 0.5, 3.0, -0.25, 0.125), strict=True))
    adapter = Additive(weights)
    ((_, instance),) = sample_instances(read_examples_of(" ".join(words)), adapter, min_tokens=2)
    sign = 1 if instance.target == 1 else -1
    oracle = sign * np.array([weights.get(i, 0.0) for i in instance.content.inputs["input_ids"]])
    assert judged(instance, oracle, extras=("lds",))["lds delete"] == pytest.approx(1, abs=1e-6)
    inverted = judged(instance, -oracle, extras=("lds",))["lds delete"]
    assert inverted == pytest.approx(-1, abs=1e-6)
    assert judged(instance, np.ones(instance.nodes), extras=("lds",))["lds delete"] == 0


def read_examples_of(text):
    from attnflow.evaluation.datasets import text_examples

    return text_examples([text])


def test_leave_one_out_is_the_fall_of_the_log_odds(saved, adapter):
    ((_, instance),) = drawn(saved({}), adapter)
    scores = METHODS["leave-one-out"].scores(instance)
    odds = lambda log_p: log_p - np.log(-np.expm1(log_p))  # noqa: E731
    for i in np.flatnonzero(instance.ordinary):
        gone = np.arange(instance.nodes) == i
        variants = [
            instance.adapter.whole_variant(instance.content),
            instance.adapter.deleted_variant(instance.content, gone),
        ]
        whole, without = odds(instance.log_probability(variants))
        assert scores[i] == pytest.approx(whole - without, abs=1e-4)
    assert (scores[~instance.ordinary] == 0).all()


def test_rank_correlation_of_constants_is_nothing():
    assert rank_correlation(np.ones(4), np.arange(4.0)) == 0
    assert rank_correlation(np.arange(4.0), np.arange(4.0) ** 3) == pytest.approx(1)


@pytest.fixture(scope="module")
def chatting(tokenizer):
    own = bare(tokenizer)
    own.chat_template = CHAT_TEMPLATE
    return LanguageModel(language_model(max_position_embeddings=64), own)


CHAT = [{"role": "user", "content": "a smart dog"}, {"role": "user", "content": "the film"}]
CONTENTS = "a smart dog\nthe film"


def saved_chat(folder, **row):
    path = folder / "chats.jsonl"
    path.write_text(json.dumps({"messages": CHAT} | row), encoding="utf-8")
    return path


def test_a_chat_is_read_and_its_template_is_not_ranked(tmp_path, chatting):
    path = saved_chat(tmp_path, span=[2, 7], sentences=[[0, 11], [12, 20]], text="not read")
    ((example, instance),) = drawn(path, chatting)
    assert example.text == instance.content.text == CONTENTS
    names = np.array(instance.content.tokens)
    assert names[~np.array(instance.content.special)].tolist() == CONTENTS.split()
    assert names[instance.evidence].tolist() == ["smart"]
    assert [names[row].tolist() for row in instance.sentences] == [
        ["a", "smart", "dog"],
        ["the", "film"],
    ]


def test_a_file_may_have_chats_alone(tmp_path):
    (example,) = read_examples(str(saved_chat(tmp_path)))
    assert example.content == tuple(CHAT) and example.text == CONTENTS


@pytest.mark.parametrize("messages", ["hello", ["hello"], [{"role": "user"}], None])
def test_malformed_chats_are_refused(tmp_path, messages):
    with pytest.raises(InputError, match="row 0: messages must be a list of objects"):
        read_examples(str(saved_chat(tmp_path, messages=messages)))


def test_a_chat_is_not_cut(tmp_path, chatting):
    examples = read_examples(str(saved_chat(tmp_path)))
    with pytest.raises(InputError, match="a chat is taken as its template renders it"):
        sample_instances(examples, chatting, min_tokens=2, position="random")


def test_a_template_that_changes_messages_moves_spans(tmp_path, tokenizer):
    own = bare(tokenizer)
    own.chat_template = "{% for m in messages %}[CLS]{{ m['content'] | trim }}[SEP]{% endfor %}"
    spaced = [{"role": "user", "content": " the dog "}]
    path = saved_chat(tmp_path, messages=spaced, span=[5, 8])
    with pytest.raises(InputError, match="the chat template changes the messages"):
        drawn(path, LanguageModel(language_model(), own))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sentences": [[0, 3]]}, "one of the sentences must hold the span"),
        ({"sentences": [[0, 3], [3, 6]]}, "one of the sentences must hold the span"),
        ({"sentences": [[0, 99]]}, "a sentence .* is not inside the text"),
        ({"sentences": "0:9"}, "sentences must be a list of spans"),
        ({"sentences": [[0, 7]], "span": None}, "one of the sentences must hold the span"),
    ],
)
def test_sentences_hold_the_span(saved, row, message):
    with pytest.raises(InputError, match=message):
        read_examples(str(saved({"span": [4, 7]} | row)))


def test_rank_and_share_of_the_sentence_that_holds_the_evidence(saved, adapter):
    path = saved({"span": [4, 7], "sentences": [[0, 3], [4, 7]]})
    ((_, instance),) = drawn(path, adapter)
    dog = int(np.argmax(instance.evidence))
    scores = np.zeros(instance.nodes)
    scores[dog], scores[0], scores[-1] = 3, 1, 9  # the question, the last token, does not count
    found = judged(instance, scores, extras=("sentences",))
    assert found == {
        "sentence_hit": 1,
        "sentence_reciprocal_rank": 1,
        "sentence_share": 0.75,
    }
    for other in (3, 4):  # a tie is no hit
        scores[0] = other
        found = judged(instance, scores, extras=("sentences",))
        assert (found["sentence_hit"], found["sentence_reciprocal_rank"]) == (0, 0.5)
    found = judged(instance, -scores, extras=("sentences",))
    assert (found["sentence_hit"], found["sentence_share"]) == (0, 0)


def test_sentences_are_needed_for_their_metric(saved, adapter):
    ((_, instance),) = drawn(saved({"span": [4, 7]}), adapter)
    with pytest.raises(InputError, match="needs examples with sentences"):
        judged(instance, np.zeros(instance.nodes), extras=("sentences",))
