"""Segments: the turns of chats and the passages of prompts, with their sums."""

import copy
import json
from itertools import count

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.corpora import results
from support.text_models import CHAT_TEMPLATE, language_model

from attnflow import Explainer, explain_corpus

CHAT = [
    {"role": "system", "content": "a dog is smart"},
    {"role": "user", "content": "is the film good?"},
    {"role": "assistant", "content": "it was dull"},
    {"role": "user", "content": "was it bad?"},
]
TURNS = ["system", "user 1", "assistant", "user 2"]


@pytest.fixture(scope="module")
def chatting(reader):
    own = copy.deepcopy(reader)
    own.chat_template = CHAT_TEMPLATE
    return Explainer(language_model(max_position_embeddings=96), own, name="chatting")


@pytest.fixture
def explain(chatting, tmp_path):
    """Explains a source into a folder of its own; returns its row, or its rows in order."""
    numbers = count()

    def run(source, model=chatting, **options):
        out = tmp_path / f"out{next(numbers)}"
        explain_corpus(source, model, out=out, **options)
        found = sorted(results(out).values(), key=lambda row: row["row"])
        return found if len(found) > 1 else found[0]

    return run


def said(row):
    """The characters of each segment."""
    return {part["name"]: row["text"][part["start"] : part["end"]] for part in row["segments"]}


def check_sums(row):
    """Shares add up to one, and contributions to those of the ordinary tokens."""
    assert sum(part["share"] for part in row["segments"]) == pytest.approx(1)
    ordinary = [c for c, s in zip(row["contributions"], row["special"], strict=True) if not s]
    told = [part["contribution"] for part in row["segments"]]
    assert sum(told) == pytest.approx(sum(ordinary), abs=1e-5)


def test_turns_of_a_chat_are_its_segments(explain):
    row = explain([{"text": CHAT}])
    assert said(row) == {name: m["content"] for name, m in zip(TURNS, CHAT, strict=True)}
    check_sums(row)


def test_chats_of_every_source_are_the_same(explain, tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pa.table({"text": [CHAT]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": CHAT}) + "\n")
    frame = pandas.read_parquet(tmp_path / "a.parquet")
    expected = explain([{"text": CHAT}])["segments"]
    for source in (table, tmp_path / "a.parquet", tmp_path / "a.jsonl", frame):
        assert explain(source)["segments"] == expected
    assert explain([{"text": json.dumps(CHAT)}], chats=True)["segments"] == expected


def test_json_of_a_chat_is_a_text_unless_chats_are_asked_for(explain):
    row = explain([{"text": json.dumps(CHAT[:1])}])
    assert row["text"] == json.dumps(CHAT[:1]) and row["segments"] is None


def test_texts_that_are_no_chats_fail_where_chats_are_asked_for(explain):
    texts = ["a dog", "[{", "[]", "7", '"a"', '[{"level": "info"}]', "[" * 100_000]
    rows = explain([{"text": text} for text in texts], chats=True)
    assert all(row["error"] for row in rows)
    assert "must hold chats, lists of messages or JSON of them, got 'a dog'." in rows[0]["error"]
    assert not any("\n" in row["error"] for row in rows)


def test_a_chat_for_a_model_without_a_template_fails(explain, explainer):
    row = explain([{"text": CHAT}], model=explainer)
    assert "no chat template" in row["error"]


PASSAGES = ["a smart dog", "the film was dull", "it is cute"]
PROMPT = f"{PASSAGES[0]}. {PASSAGES[1]}. {PASSAGES[2]}. is it good"


@pytest.mark.parametrize(
    "parts, named",
    (
        (PASSAGES, ["segment 1", "segment 2", "segment 3"]),
        ([{"name": f"p{i}", "text": text} for i, text in enumerate(PASSAGES)], ["p0", "p1", "p2"]),
        ([{"name": f"p{i}", "start": PROMPT.index(text), "end": PROMPT.index(text) + len(text)}
          for i, text in enumerate(PASSAGES)], ["p0", "p1", "p2"]),
    ),
)  # fmt: skip
@pytest.mark.parametrize("as_json", (False, True))
def test_passages_are_named_by_strings_or_objects_or_json(parts, named, as_json, explain):
    given = json.dumps(parts) if as_json else parts
    row = explain([{"text": PROMPT, "parts": given}], segments_column="parts")
    expected = dict(zip(named, PASSAGES, strict=True))
    assert said(row) == expected | {"(rest)": ""}
    check_sums(row)


def test_a_passage_of_parquet_has_null_where_it_has_no_text(explain, tmp_path):
    parts = [{"name": "a", "text": "a smart dog"}, {"name": "b", "start": 13, "end": 30}]
    pq.write_table(pa.table({"text": [PROMPT], "parts": [parts]}), tmp_path / "a.parquet")
    row = explain(tmp_path / "a.parquet", segments_column="parts")
    assert said(row) == {"a": "a smart dog", "b": PROMPT[13:30], "(rest)": ""}


def test_the_same_passage_twice_is_found_in_order(explain):
    text = "a dog. a dog. a dog"
    row = explain([{"text": text, "parts": ["a dog", "a dog"]}], segments_column="parts")
    assert [(part["start"], part["end"]) for part in row["segments"][:2]] == [(0, 5), (7, 12)]


@pytest.mark.parametrize(
    "parts, reason",
    (
        ("no json", "segments must be a list of strings, or of objects"),
        (7, "segments must be a list"),
        ({"name": "a", "text": "a"}, "segments must be a list"),
        ([7], "segment 1 must be a string or an object, got 7."),
        (["not there"], "segment 'segment 1' is not in the text after the one before it"),
        (["it is cute", "a smart dog"], "segment 'segment 2' is not in the text after the one"),
        ([""], "segment 'segment 1' is not in the text"),
        ([{"name": "a"}], "segment 'a' must have a text, or start and end inside 0 to"),
        ([{"name": "a", "start": 0, "end": 999}], "must have a text, or start and end"),
        ([{"name": "a", "start": 5, "end": 2}], "must have a text, or start and end"),
        ([{"name": "a", "start": True, "end": 2}], "must have a text, or start and end"),
        ([{"name": "a", "start": 0, "end": 5}, {"name": "b", "start": 3, "end": 7}],
         "segment 'b' overlaps the one before it."),
    ),
)  # fmt: skip
def test_segments_that_are_none_fail_their_row_alone(parts, reason, explain):
    rows = [{"text": PROMPT, "parts": parts}, {"text": PROMPT, "parts": PASSAGES}]
    bad, good = explain(rows, segments_column="parts")
    assert reason in bad["error"] and "\n" not in bad["error"] and bad["scores"] is None
    assert good["error"] is None and len(good["segments"]) == 4


def test_no_segments_are_no_error(explain):
    none, empty = explain(
        [{"text": PROMPT, "parts": None}, {"text": PROMPT, "parts": []}], segments_column="parts"
    )
    assert none["segments"] is None and none["error"] is None
    assert [part["name"] for part in empty["segments"]] == ["(rest)"]


def test_hostile_names_of_segments_are_kept(explain):
    names = ["<b>", "half \ud800", "", None, 7, "\n"]
    text = "a dog " * 6
    parts = [{"name": name, "text": "a dog"} for name in names]
    row = explain([{"text": text, "parts": parts}], segments_column="parts")
    told = [part["name"] for part in row["segments"]][:6]
    assert told == ["<b>", "half \ufffd", "segment 3", "segment 4", "7", "\n"]


def test_continuations_are_explained_as_a_whole(explain):
    rows = [
        {"text": "the dog is", "then": " smart and good"},
        {"text": "the film", "then": " bad"},
        {"text": "the film", "then": None},
        {"text": "the film", "then": ""},
    ]
    one, two, three, four = explain(rows, continuation_column="then")
    assert one["error"] is None and one["target"] is None and one["predicted"] is None
    assert "smart" in one["label"] and "bad" in two["label"] and 0 <= one["probability"] <= 1
    assert "column 'then' must hold a text" in three["error"] and four["error"]


def test_a_prompt_with_passages_and_a_continuation_adds_up(explain):
    rows = [{"text": PROMPT, "then": " bad dog", "parts": PASSAGES}]
    row = explain(rows, continuation_column="then", segments_column="parts")
    assert list(said(row).values())[:3] == PASSAGES
    assert sum(part["share"] for part in row["segments"]) == pytest.approx(1)
