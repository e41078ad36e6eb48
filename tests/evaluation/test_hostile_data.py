"""Data files and scores that no check expected: one readable error, or the right reading."""

import json

import pytest

from attnflow import InputError
from attnflow.evaluation import Protocol, read_examples, read_scores

pytestmark = pytest.mark.attack

DEEP, DIGITS = "[" * 100_000, "9" * 5000


@pytest.mark.parametrize(
    ("name", "content", "said"),
    (
        ("a.jsonl", DEEP, "line 1: it is not JSON: too many lists"),
        ("a.jsonl", f'{{"text": {DIGITS}}}', "a number has too many digits"),
        ("a.jsonl", '{"text": "x"}\n5\n', "line 2: expected a JSON object, got 5"),
        ("a.jsonl", '{"text": "x"}\n{"other": "y"}\n', "row 1: text must be a text, got None"),
        ("a.jsonl", '{"text": null}\n', "row 0: text must be a text, got None"),
        ("a.tsv", "label\ttext\n1\n", "row 0: text must be a text, got None"),
        ("a.tsv", f"text\tlabel\nx\t{DIGITS}\n", "label must be an integer"),
    ),
)
def test_data(tmp_path, name, content, said):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_examples(str(tmp_path / name))
    assert said in str(error.value) and len(str(error.value)) < 500


def test_a_name_that_no_file_can_have():
    for name in ("a\0b.tsv", "a\ud800b.jsonl"):
        with pytest.raises(InputError, match="cannot read"):
            read_examples(name)


@pytest.mark.parametrize("end", ("csv", "tsv", "jsonl", "txt"))
def test_a_long_text_and_a_byte_order_mark(tmp_path, end):
    text = "dog " * 50_000
    content = {"jsonl": json.dumps({"text": text}), "txt": text}.get(end, f"text\n{text}\n")
    (tmp_path / f"a.{end}").write_text(content, encoding="utf-8-sig")
    assert [example.content for example in read_examples(str(tmp_path / f"a.{end}"))] == [text]


@pytest.mark.parametrize(
    "line",
    (
        DEEP,
        f'{{"example": {DIGITS}, "scores": [1]}}',
        f'{{"example": {10**400}, "scores": [1]}}',
        f'{{"example": 0, "scores": [{10**400}]}}',
        '{"example": -1, "scores": [1]}',
        '{"example": 0, "scores": {"a": 1}}',
        '{"scores": [1]}',
        "5",
    ),
)
def test_scores(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_scores(f"mine={tmp_path / 'a.jsonl'}")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("seed", (-1, 0.5, True, "1"))
def test_a_seed_is_a_number_from_0_on(seed):
    with pytest.raises(InputError, match="seed must be an integer of at least 0"):
        Protocol(seed=seed)
