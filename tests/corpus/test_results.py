"""Results: the columns of a row, and files that pandas, DuckDB and the library datasets read."""

import datetime
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.corpora import SENTENCES, errors, results

from attnflow import InputError, explain_corpus
from attnflow.corpus.schema import COLUMNS, SCHEMA_VERSION

ROWS = [{"text": text, "key": f"k{i}"} for i, text in enumerate(SENTENCES)]


@pytest.fixture(scope="module")
def out(explainer, tmp_path_factory):
    """Results of four texts and one that is empty, in two shards."""
    folder = tmp_path_factory.mktemp("out")
    explain_corpus([*ROWS, {"text": "", "key": "none"}], explainer, out=folder,
                   id_column="key", shard_rows=3)  # fmt: skip
    return folder


def shards_of(out):
    return sorted((out / "shards").glob("*.parquet"))


def test_a_row_tells_what_its_attribution_does(out, explainer):
    for row in ROWS:
        found, a = results(out)[row["key"]], explainer(row["text"])
        assert found["tokens"] == list(a.tokens) and found["text"] == row["text"]
        assert list(zip(found["starts"], found["ends"], strict=True)) == list(a.offsets)
        assert found["special"] == a.special.tolist()
        assert found["scores"] == pytest.approx(a.scores, abs=1e-5)
        assert found["contributions"] == pytest.approx(a.contributions, abs=1e-5)
        assert found["label"] == found["predicted"] == a.label
        assert found["target"] == a.target
        assert found["probability"] == pytest.approx(a.probabilities[a.target])
        assert found["flow"] == pytest.approx(a.certificate.value)
        assert found["certificate"]["status"] == "solved" and found["certificate"]["gap"] < 1e-2
        words = [row["text"][s:e] for s, e in zip(found["word_starts"], found["word_ends"],
                                                  strict=True)]  # fmt: skip
        assert words == [word.text for word in a.words()]
        of_tokens = [None if w is None else words[w] for w in found["words"]]
        assert of_tokens[0] is None and found["tokens"][1] in of_tokens[1]
        assert found["error"] is None and found["warnings"] == []


def test_a_failed_row_has_its_text_and_error_and_null_in_all_else(out):
    found = results(out)["none"]
    assert found["error"] == "the text is empty (column 'text')."
    told = {name for name, value in found.items() if value not in (None, [], "")}
    assert told == {"id", "file", "row", "error", "error_kind", "versions"}
    assert (found["file"], found["row"], found["error_kind"]) == ("list", 4, "InputError")


def test_shards_state_schema_version_and_meaning(out):
    for shard in shards_of(out):
        schema = pq.read_schema(shard)
        assert schema.metadata[b"attnflow.schema_version"] == str(SCHEMA_VERSION).encode()
        assert schema.names == [name for name, _, _ in COLUMNS]
        for name, kind, about in COLUMNS:
            assert schema.field(name).type == kind
            assert schema.field(name).metadata[b"description"] == about.encode()


def test_shards_are_one_row_group_in_zstd_with_dictionaries_for_names(out):
    for shard in shards_of(out):
        group = pq.read_metadata(shard).row_group(0)
        assert pq.read_metadata(shard).num_row_groups == 1
        columns = [group.column(i) for i in range(group.num_columns)]
        assert {column.compression for column in columns} == {"ZSTD"}
        with_dictionary = {c.path_in_schema for c in columns if c.has_dictionary_page}
        assert {"label", "model", "versions", "tensor", "file"} <= with_dictionary
        assert "text" not in with_dictionary and "id" not in with_dictionary


def test_pandas_duckdb_and_datasets_read_the_folder(out, tmp_path):
    pandas, duckdb = pytest.importorskip("pandas"), pytest.importorskip("duckdb")
    datasets = pytest.importorskip("datasets")
    whole = results(out)
    frame = pandas.read_parquet(out / "shards")
    assert sorted(frame["id"]) == sorted(whole) and str(frame["label"].dtype) == "category"
    query = (
        "SELECT id, label, certificate.gap, list_sum(scores) "
        f"FROM '{out}/shards/*.parquet' WHERE error IS NULL ORDER BY id"
    )
    for id, label, gap, flow in duckdb.sql(query).fetchall():
        assert label == whole[id]["label"] and gap == whole[id]["certificate"]["gap"]
        assert flow == pytest.approx(sum(whole[id]["scores"]))
    files = [str(shard) for shard in shards_of(out)]
    data = datasets.load_dataset("parquet", data_files=files, split="train",
                                 cache_dir=str(tmp_path))  # fmt: skip
    assert {row["id"]: row["tokens"] for row in data} == {k: v["tokens"] for k, v in whole.items()}


def test_columns_of_the_source_are_kept_as_strings(explainer, tmp_path):
    table = pa.table(
        {
            "text": ["the film", "a dog", "it was"],
            "made": pa.array([2, None, 3]),
            "when": [datetime.datetime(2024, 1, 2), None, datetime.datetime(2025, 1, 2)],
            "tags": [["a", "ü"], [], None],
            "of": [{"a": 1}, None, {"a": 2}],
            "good": [True, False, None],
        }
    )
    keep = ["made", "when", "tags", "of", "good", "text"]
    explain_corpus(table, explainer, out=tmp_path, keep_columns=keep)
    found = [[row[f"source_{name}"] for name in keep] for row in results(tmp_path).values()]
    assert found == [
        ["2", "2024-01-02 00:00:00", '["a", "ü"]', '{"a": 1}', "true", "the film"],
        [None, None, "[]", None, "false", "a dog"],
        ["3", "2025-01-02 00:00:00", None, '{"a": 2}', None, "it was"],
    ]


def test_true_labels_are_names_of_classes(explainer, tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["negative", "positive"])
    )
    given = {"text": SENTENCES, "label": [1, 0, -1, 1]}
    data = datasets.Dataset.from_dict(given, features)
    data.to_parquet(tmp_path / "a.parquet")
    for number, source in enumerate((data, tmp_path / "a.parquet", data.to_iterable_dataset())):
        out = tmp_path / f"{number}"
        explain_corpus(source, explainer, out=out, label_column="label", target_column="label")
        rows = results(out).values()
        assert [row["true_label"] for row in rows] == ["positive", "negative", None, "positive"]
        # As a target the number is the model's own.
        assert [row["target"] for row in rows if row["error"] is None] == [1, 0, 1]


def test_true_labels_of_other_sources_are_as_they_stand(explainer, tmp_path):
    rows = [
        {"text": "a", "label": value} for value in ("good", 2, np.int64(3), True, None, ["x"], 1.5)
    ]
    explain_corpus(rows, explainer, out=tmp_path, label_column="label")
    found = [row["true_label"] for row in results(tmp_path).values()]
    assert found == ["good", "2", "3", "true", None, '["x"]', "1.5"]


def test_targets_of_a_column_are_explained(explainer, tmp_path):
    rows = [
        {"text": "the film", "class": wanted}
        for wanted in ("positive", 0, np.int64(2), None, "nothing", 7)
    ]
    run = explain_corpus(rows, explainer, out=tmp_path, target_column="class")
    found = list(results(tmp_path).values())
    assert [row["label"] for row in found[:3]] == ["positive", "negative", "positive"]
    assert found[3]["label"] == found[3]["predicted"]
    assert "nothing" in found[4]["error"] and "7" in found[5]["error"] and run.failed == 2


def test_options_that_have_a_column_too_are_refused(explainer, tmp_path):
    with pytest.raises(InputError, match="target is the column 'class': leave out target=."):
        explain_corpus(ROWS, explainer, out=tmp_path, target_column="class", target="positive")


def test_half_surrogates_are_replaced_and_ids_stay_different(explainer, tmp_path):
    lines = [
        {"text": "a film", "key": "a\ud800", "kept": "\udfff"},
        {"text": "a dog", "key": "b", "kept": "x"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = {"id_column": "key", "keep_columns": ["kept"]}
    explain_corpus(tmp_path / "a.jsonl", explainer, out=tmp_path / "out", **options)
    assert errors(tmp_path / "out") == {"a\ufffd": None, "b": None}
    assert results(tmp_path / "out")["a\ufffd"]["source_kept"] == "\ufffd"
    lines[1]["key"] = "a\udfff"
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError, match="id 'a\ufffd' repeats: b.jsonl, row 0 and b.jsonl, row 1"):
        explain_corpus(tmp_path / "b.jsonl", explainer, out=tmp_path / "b", **options)
