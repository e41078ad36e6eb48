"""Prompts with known answers, and the needle: what they hold, and what a table says of them."""

import json
import random
from itertools import islice

import known_answers
import needle as needle_benchmark
import pytest
from known_answers import FAMILIES, SENTENCE_FAMILIES, KnownAnswer, needle, prompts
from support.text_models import bare, language_model

from attnflow import Explainer
from attnflow.evaluation import Example, read_examples, sample_instances
from attnflow.methods import LanguageModel

# Of these the answer itself is the evidence.
QUOTED = (*SENTENCE_FAMILIES, "needle")


def drawn(family, number=60):
    if family == "needle":
        rng = random.Random(0)
        return [needle(rng, rng.randint(40, 200)) for _ in range(number)]
    return list(islice(prompts(family, 3), number))


def within(prompt, span):
    return prompt.text[slice(*span)]


@pytest.mark.parametrize("family", [*FAMILIES, *SENTENCE_FAMILIES, "needle"])
def test_spans_lie_on_their_words(family):
    for prompt in drawn(family):
        answer, evidence = prompt.target.strip(), within(prompt, prompt.span)
        assert evidence and evidence == evidence.strip() and prompt.family == family
        assert prompt.target == f" {answer}" and prompt.foil != prompt.target
        assert prompt.text == prompt.text.rstrip()  # or its last token would be a space
        if family in QUOTED:
            assert evidence == answer
        if family in ("key-value", "residence"):
            assert answer in evidence


@pytest.mark.parametrize("family", [*SENTENCE_FAMILIES, "needle", "key-value", "residence"])
def test_one_sentence_holds_the_answer(family):
    for prompt in drawn(family):
        start, stop = prompt.span
        (holder,) = (s for s in prompt.sentences if s[0] <= start and stop <= s[1])
        told = [within(prompt, sentence) for sentence in prompt.sentences]
        assert told.count(within(prompt, holder)) == 1 and len(told) >= 3
        ends = [end for sentence in prompt.sentences for end in sentence]
        assert ends == sorted(ends)
        # Nothing between sentences has a word, up to the question.
        gaps = zip([0, *ends[1::2]], ends[::2], strict=False)
        assert not any(prompt.text[a:b].strip() for a, b in gaps)
        assert len(prompt.text) > ends[-1]


@pytest.mark.parametrize("family", [*FAMILIES, *SENTENCE_FAMILIES])
def test_prompts_of_a_family_are_distinct_and_drawn_again(family):
    texts = [prompt.text for prompt in drawn(family, 80)]
    assert len(set(texts)) == len(texts) == 80
    assert texts[:9] == [prompt.text for prompt in drawn(family, 9)]


def test_every_family_is_read_as_it_was_written(tmp_path):
    written = [p for family in (*FAMILIES, *SENTENCE_FAMILIES, "needle") for p in drawn(family, 9)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(prompt.row) + "\n" for prompt in written))
    found = read_examples(str(path))
    assert len(found) == len(written)
    for example, prompt in zip(found, written, strict=True):
        assert example.text == prompt.text and example.answer == prompt.target
        assert example.evidence == tuple(prompt.span) and example.family == prompt.family
        assert example.sentences == tuple(map(tuple, prompt.sentences))
        content = list(example.content) if prompt.messages else example.content
        assert content == prompt.content
        assert KnownAnswer(**json.loads(json.dumps(prompt.row))).text == prompt.text


def test_a_chat_has_three_turns_and_ends_within_the_answer():
    for prompt in drawn("chat", 20):
        roles = [message["role"] for message in prompt.messages]
        assert roles == ["user", "assistant"] * 3
        assert within(prompt, prompt.span) in prompt.messages[0]["content"]
        assert prompt.text == "\n".join(message["content"] for message in prompt.messages)


def test_examples_are_five_to_eight():
    for prompt in drawn("examples"):
        assert 5 <= len(prompt.sentences) <= 8


def test_a_needle_is_as_long_as_is_asked_and_at_any_depth():
    rng = random.Random(1)
    sizes, depths = [], []
    for _ in range(40):
        prompt = needle(rng, 2000, len, whole=True)  # of so many characters
        sizes.append(len(prompt.text))
        depths.append(prompt.span[0] / len(prompt.text))
        told = [within(prompt, sentence) for sentence in prompt.sentences]
        assert len(set(told)) == len(told)  # no sentence twice
    assert 1950 < min(sizes) and max(sizes) < 2100
    assert min(depths) < 0.15 and max(depths) > 0.8


@pytest.fixture(scope="module")
def adapter(tokenizer):
    return LanguageModel(language_model(max_position_embeddings=1024), bare(tokenizer))


@pytest.fixture(scope="module")
def said(adapter):
    """A needle whose answer is what the tiny model says, where that is the beginning of a word."""
    rng = random.Random(2)
    while True:
        prompt = needle(rng, 12)
        encoded = adapter.encode(prompt.text)
        (token,) = adapter.predicted([adapter.whole_variant(encoded)])
        word = adapter.tokenizer.decode([token])
        if adapter.first_token_of(word) == token:
            return KnownAnswer(**prompt.row | {"target": word})


def test_answered_prompts_are_kept(adapter, said):
    others = [KnownAnswer(**said.row | {"target": " ##zz", "family": f}) for f in ("a", "a", "b")]
    kept = known_answers.answered([said, *others], adapter)
    assert kept == [True, False, False, False]
    lines = known_answers.shares([said, *others], kept).splitlines()
    assert lines[2:] == [
        "| needle | 1 | 1 | 1.00 |",
        "| a | 2 | 0 | 0.00 |",
        "| b | 1 | 0 | 0.00 |",
        "| all | 4 | 1 | 0.25 |",
    ]


def test_the_command_writes_the_families_that_are_asked_for(tmp_path, monkeypatch):
    path = tmp_path / "prompts.jsonl"
    command = ["known_answers.py", "--out", str(path), "--each", "2", "--families", "chat", "fact"]
    monkeypatch.setattr("sys.argv", command)
    known_answers.main()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["family"] for row in rows] == ["chat", "chat", "fact", "fact"]
    assert "messages" in rows[0] and "messages" not in rows[2] and "sentences" not in rows[2]


def test_a_needle_is_measured(adapter, said):
    example = needle_benchmark.example_of(said, 4)
    assert isinstance(example, Example) and example.index == 4
    ((_, instance),) = sample_instances([example], adapter, max_tokens=1024)
    explainer = Explainer(adapter.model, adapter.tokenizer)
    found = needle_benchmark.measure(instance, explainer, removals=3, max_memory="2GB")
    assert set(found) == set(needle_benchmark.SHOWN)
    for name, row in found.items():
        if name == "leave-one-out":
            assert row.keys() == {"estimated"} and row["estimated"] > 0
        else:
            assert {*needle_benchmark.COLUMNS, "seconds"} <= row.keys() and row["seconds"] > 0


def test_leave_one_out_is_estimated_for_all_tokens(adapter, said, monkeypatch):
    ((_, instance),) = sample_instances(
        [needle_benchmark.example_of(said, 0)], adapter, max_tokens=1024
    )
    removed = []
    monkeypatch.setattr(
        needle_benchmark, "timed", lambda run: (removed.append(len(run())), 6.0)
    )  # six seconds
    estimate = needle_benchmark.removal_seconds(instance, 3)
    assert removed == [3] and estimate == pytest.approx(2 * (instance.nodes - 1))


def test_the_table_of_a_length():
    row = {"hit": 1.0, "recovery": 1.0, "sentence_hit": 0.0, "seconds": 2.0}
    methods = dict.fromkeys(needle_benchmark.SHOWN, row)
    methods["leave-one-out"] = {"estimated": 90.0}
    failing = methods | {"net": {"failed": "too large"}}
    records = [
        {"answered": True, "tokens": 500, "methods": methods},
        {"answered": True, "tokens": 520, "methods": failing},
        {"answered": False, "methods": {}},
    ]
    lines = needle_benchmark.table(512, records).splitlines()
    assert lines[0] == "512 tokens: 3 prompts, 2 answered, of 510 tokens on average."
    assert "| net (1 failed) | 1.00 | 1.00 | 0.00 | 2.0 |" in lines
    assert "| leave-one-out | - | - | - | 90.0 (estimated) |" in lines
    assert needle_benchmark.table(512, records[2:]) == "512 tokens: 1 prompts, 0 answered"
