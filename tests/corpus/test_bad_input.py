"""Bad input to a run: each text that cannot be explained is a row, and no other changes."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.corpora import SENTENCES, errors, results

from attnflow import Explainer, InputError, StorageError, explain_corpus


@pytest.fixture
def explain(explainer, tmp_path):
    """Explains texts into a folder, four to a shard."""

    def run(source, out=tmp_path / "out", model=explainer, **options):
        return explain_corpus(source, model, out=out, **({"shard_rows": 4} | options))

    return run


def write_lines(file, rows):
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.mark.parametrize(
    "options, named",
    (
        ({"text_column": "body"}, "'body'"),
        ({"id_column": "key"}, "'key'"),
        ({"label_column": "class"}, "'class'"),
        ({"keep_columns": ["text", "lang"]}, "'lang'"),
    ),
)
@pytest.mark.parametrize("kind", ("list", "jsonl", "csv", "parquet", "stream"))
def test_a_column_that_is_not_there_is_named_with_those_that_are(
    kind, options, named, explain, tmp_path
):
    rows = [{"text": text, "n": i} for i, text in enumerate(SENTENCES)]
    source = tmp_path / f"a.{kind}"
    if kind == "list":
        source = rows
    elif kind == "jsonl":
        write_lines(source, rows)
    elif kind == "csv":
        source.write_text("text,n\na,1\n")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), source)
    else:
        datasets = pytest.importorskip("datasets")
        source = datasets.IterableDataset.from_generator(lambda: iter(rows))
    with pytest.raises(InputError) as error:
        explain(source, **options)
    assert f"has no column {named}: expected one of ['text', 'n'] (" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_column_that_is_there_twice_is_refused(explain, tmp_path):
    (tmp_path / "a.csv").write_text("text,text\na,b\n")
    with pytest.raises(InputError, match="a.csv has 2 columns 'text'."):
        explain(tmp_path / "a.csv")


def test_a_row_without_the_column_is_a_row_that_failed(explain, tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"text": "a dog"}, {"body": "x"}, {}])
    assert explain(tmp_path / "a.jsonl").failed == 2
    assert errors(tmp_path / "out") == {
        "a.jsonl:0": None,
        "a.jsonl:1": "the row has no column 'text': it has ['body']",
        "a.jsonl:2": "the row has no column 'text': it has []",
    }


@pytest.mark.parametrize("ids", ((1, 2, 1), ("a", "b", "a"), (1, 2, "1"), (None, "x", "b.jsonl:0")))
def test_ids_that_repeat_are_refused_with_both_places(ids, explain, tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"text": "a", "id": ids[1]}])
    write_lines(tmp_path / "b.jsonl", [{"text": "b", "id": id} for id in (ids[0], ids[2])])
    with pytest.raises(InputError) as error:
        explain(tmp_path / "*.jsonl", id_column="id")
    assert "repeats: b.jsonl, row 0 and b.jsonl, row 1. Ids must differ" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_ids_that_repeat_in_two_files_are_refused(explain, tmp_path):
    for name in ("a", "b"):
        write_lines(tmp_path / f"{name}.jsonl", [{"text": "a", "id": 7}])
    with pytest.raises(InputError, match="id '7' repeats: a.jsonl, row 0 and b.jsonl, row 0."):
        explain(tmp_path / "*.jsonl", id_column="id")


def test_rows_without_an_id_fail_under_one_of_their_place(explain, tmp_path):
    ids = [None, "", "x", 0]
    run = explain([{"text": "a", "id": id} for id in ids], id_column="id")
    assert errors(tmp_path / "out") == {
        "list:0": "the id is missing (column 'id')",
        "list:1": "the id is missing (column 'id')",
        "x": None,
        "0": None,
    }
    assert run.failed == 2


LONG = "the film was good " * 20


def test_texts_that_cannot_be_explained_fail_alone(explain, tmp_path):
    bad = [None, "", " \n\t", 7, 1.5, True, {"a": 1}, ["a"], LONG, "half \ud800"]
    run = explain([{"text": value} for pair in zip(bad, SENTENCES * 3, strict=False)
                   for value in pair], shard_rows=20)  # fmt: skip
    explain(SENTENCES, out=tmp_path / "good")
    good = {row["text"]: row for row in results(tmp_path / "good").values()}
    found = list(results(tmp_path / "out").values())
    found.sort(key=lambda row: row["row"])
    for row in found[1::2]:
        assert row["scores"] == pytest.approx(good[row["text"]]["scores"], abs=1e-5)
    said = [row["error"] for row in found[::2]]
    assert run.failed == len(bad) and all(said) and not any("\n" in error for error in said)
    assert said[0] == "there is no text: column 'text' is null."
    assert said[1] == said[2] == "the text is empty (column 'text')."
    assert all("must hold a text or a chat" in error for error in said[3:8])
    assert "tokens" in said[8] and "truncate" in said[8] and "not valid Unicode" in said[9]
    assert [row["text"] for row in found[6:16:2]] == ["7", "1.5", "true", '{"a": 1}', '["a"]']


def test_long_texts_are_cut_where_that_is_asked_for(explain, tmp_path):
    run = explain([{"text": LONG}, {"text": "a dog"}], truncate=True)
    one, two = results(tmp_path / "out").values()
    assert run.failed == 0 and one["truncated"] > 40 and two["truncated"] == 0
    assert len(one["tokens"]) == 32 and two["warnings"] == []


def test_pairs_and_lists_that_are_no_texts_fail_alone(explain, tmp_path):
    rows = [{"text": "a dog", "other": value} for value in ("the film", None, "", 7)]
    explain(rows, pair_column="other")
    found = errors(tmp_path / "out")
    assert [error is None for error in found.values()] == [True, False, False, False]
    assert found["list:1"] == "column 'other' must hold a text, got None."


def corrupt_footer(file):
    file.write_bytes(file.read_bytes()[:-6])


def corrupt_page(file):
    data = file.read_bytes()
    file.write_bytes(data[:200] + b"\xff" * (len(data) // 3) + data[200 + len(data) // 3 :])


@pytest.fixture
def three(tmp_path):
    """Three files of Parquet, of eight texts in two row groups each."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in "abc":
        values = [f"{text} {name} {i}" for i, text in enumerate(SENTENCES * 2)]
        table = pa.table({"text": values, "id": [f"{name}{i}" for i in range(8)]})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=4, compression="none")
    return folder


@pytest.mark.parametrize("options", ({}, {"id_column": "id"}))
@pytest.mark.parametrize("corrupt", (corrupt_footer, corrupt_page))
def test_a_corrupt_file_is_told_and_done_once_it_is_mended(
    corrupt, options, three, explain, tmp_path
):
    whole = (three / "b.parquet").read_bytes()
    corrupt(three / "b.parquet")
    run = explain(three, **options)
    assert list(run.unread) == ["b.parquet"] and not run.is_complete
    assert run.unread["b.parquet"].startswith(f"cannot read {three}/b.parquet: ")
    assert "\n" not in run.unread["b.parquet"]
    assert json.loads((tmp_path / "out" / "unread.json").read_text()) == run.unread
    before = results(tmp_path / "out")
    assert {row["file"] for row in before.values()} >= {"a.parquet", "c.parquet"}
    again = explain(three, **options)
    assert again.unread == run.unread and again.explained == 0
    (three / "b.parquet").write_bytes(whole)
    last = explain(three, **options)
    assert last.is_complete and last.rows == 24 and last.explained == 24 - len(before)
    assert not (tmp_path / "out" / "unread.json").exists()
    explain(three, out=tmp_path / "unbroken", **options)
    assert results(tmp_path / "out") == results(tmp_path / "unbroken")


def test_a_corrupt_file_alone_is_an_error(three, explain, tmp_path):
    corrupt_footer(three / "a.parquet")
    with pytest.raises(StorageError, match=r"^cannot read [^\n]*a\.parquet: [^\n]*$"):
        explain(three / "a.parquet")
    assert not (tmp_path / "out").exists()


def test_a_file_that_may_not_be_read_is_told(three, explain, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    opened = LocalFileSystem.open

    def refusing(self, path, *args, **kwargs):
        if path.endswith("b.parquet"):
            raise PermissionError(13, "Permission denied")
        return opened(self, path, *args, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "open", refusing)
    run = explain(three)
    assert run.unread == {
        "b.parquet": f"cannot read {three}/b.parquet: PermissionError: Permission denied."
    }
    assert run.rows == 16


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_a_folder_that_may_not_be_written_is_said(explain, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        explain(SENTENCES)


def test_lines_that_cannot_be_read_are_rows(explain, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a dog", "id": "x"}\n{no\n'
                                       b'{"text": "tw\xff", "id": "y"}\n')  # fmt: skip
    (tmp_path / "b.csv").write_bytes(b"id,text\n1,a dog\n2,two,more\n3,tw\xff\n4,bad\n")
    run = explain([tmp_path / "a.jsonl", tmp_path / "b.csv"], id_column="id")
    found = errors(tmp_path / "out")
    assert found == {
        "x": None,
        "a.jsonl:1": found["a.jsonl:1"],
        "y": "the line is not UTF-8",
        "1": None,
        "b.csv:1": "the line has 3 fields, the header 2",
        "3": "the line is not UTF-8",
        "4": None,
    }
    assert found["a.jsonl:1"].startswith("the line is not JSON: ") and run.failed == 4
    assert explain([tmp_path / "a.jsonl", tmp_path / "b.csv"], id_column="id").explained == 0


@pytest.mark.parametrize(
    "name, content", (("a.jsonl", ""), ("a.csv", "text\n"), ("a.csv", ""), ("a.txt", "\n\n"))
)
def test_a_source_without_rows_is_said_so(name, content, explain, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match="^the source has no rows: there is nothing to explain.$"):
        explain(tmp_path / name)


def test_empty_objects_are_said_to_be_so(explain):
    for source in ([], pa.table({"text": pa.array([], pa.string())})):
        with pytest.raises(InputError, match="^the source has no rows"):
            explain(source)


def test_an_empty_file_among_others_is_none_of_them(explain, tmp_path):
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "b.csv").write_text("text\na dog\n")
    assert explain(tmp_path / "*.csv").rows == 1


def test_rows_that_changed_are_refused(explain, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("\n".join(SENTENCES * 2))
    explain(file)
    before = results(tmp_path / "out")
    for changed in (["other", *SENTENCES[1:], *SENTENCES], SENTENCES + SENTENCES[::-1]):
        file.write_text("\n".join(changed))
        with pytest.raises(InputError, match=r"^a\.txt has changed since .* was begun \(rows from"):
            explain(file)
    for fewer in (SENTENCES, SENTENCES[:3], [*SENTENCES, *SENTENCES[:2]]):
        file.write_text("\n".join(fewer))
        with pytest.raises(InputError, match=r"^a\.txt has changed since"):
            explain(file)
    assert results(tmp_path / "out") == before


def test_a_file_that_has_grown_is_explained_to_its_new_end(explain, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("\n".join(SENTENCES + SENTENCES[:2]))
    assert explain(file).explained == 6
    file.write_text("\n".join(SENTENCES * 3))
    run = explain(file)
    assert (run.rows, run.explained) == (12, 8)
    explain(file, out=tmp_path / "new")
    assert results(tmp_path / "out") == results(tmp_path / "new")


def test_a_fault_of_the_results_is_none_of_the_source_s(explain, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("\n".join(SENTENCES[:2]))
    explain(file)
    (shard,) = (tmp_path / "out" / "shards").glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:50])
    file.write_text("\n".join(SENTENCES))  # so that the shard is asked how long it is
    with pytest.raises(StorageError, match=f"^cannot read {shard}: "):
        explain(file)


def test_files_that_are_added_are_explained_and_others_not_again(explain, tmp_path):
    folder = tmp_path / "source"
    (folder / "2024").mkdir(parents=True)
    (folder / "2024" / "b.txt").write_text("\n".join(SENTENCES))
    explain(folder)
    (folder / "a.txt").write_text("\n".join(SENTENCES))
    run = explain(folder)
    assert (run.rows, run.explained) == (8, 4)
    assert set(results(tmp_path / "out")) == {
        f"{name}:{i}" for name in ("2024/b.txt", "a.txt") for i in range(4)
    }


def test_files_that_are_renamed_or_gone_are_refused(explain, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.txt").write_text("\n".join(SENTENCES))
    explain(folder)
    before = results(tmp_path / "out")
    (folder / "b.txt").rename(folder / "c.txt")
    for _ in range(2):
        with pytest.raises(InputError, match="has results of 'b.txt', which the source no longer"):
            explain(folder)
        (folder / "c.txt").unlink(missing_ok=True)
    assert results(tmp_path / "out") == before


@pytest.mark.parametrize("rows", (1, 2, 9))
def test_a_target_that_no_text_has_ends_the_run_and_leaves_nothing(rows, explain, tmp_path):
    texts = (SENTENCES * 3)[:rows]
    if rows == 1:  # one text says nothing about others
        assert explain(texts, target="nothing").failed == 1
        return
    with pytest.raises(InputError, match="^every text of the first shard failed: .*'nothing'"):
        explain(texts, target="nothing")
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert set(left) <= {"run.lock"}
    assert explain(texts, target="positive").failed == 0


def test_texts_that_all_fail_by_themselves_do_not_end_the_run(explain, tmp_path):
    assert explain([{"text": ""}] * 9).failed == 9


@pytest.mark.parametrize(
    "error", (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB"),
              RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7"))
)  # fmt: skip
def test_a_text_for_which_memory_runs_out_fails_alone(
    error, explain, explainer, tmp_path, monkeypatch
):
    texts = [*SENTENCES, "the film " * 9, *SENTENCES[::-1]]
    explain(texts, out=tmp_path / "unbroken", shard_rows=16)
    sizes, forward = [], explainer.model.forward

    def running_out(*args, **kwargs):
        given = kwargs.get("input_ids", kwargs.get("inputs_embeds"))
        sizes.append(tuple(given.shape[:2]))
        if given.shape[1] >= 20:
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(explainer.model, "forward", running_out)
    run = explain(texts, shard_rows=16)
    found, whole = results(tmp_path / "out"), results(tmp_path / "unbroken")
    assert run.failed == 1 and found["list:4"]["error_kind"] == type(error).__name__
    for id, row in found.items():
        if id != "list:4":
            assert row["scores"] == pytest.approx(whole[id]["scores"], abs=1e-5)
            assert row["error"] is None
    monkeypatch.undo()
    run = explain(texts, shard_rows=16, retry_failed=True)
    assert (run.failed, run.explained) == (0, 1)
    assert results(tmp_path / "out")["list:4"]["scores"] == pytest.approx(
        whole["list:4"]["scores"], abs=1e-5
    )


def test_a_log_of_json_is_text_and_chats_are_asked_for(explain, tmp_path):
    """JSON of messages is a text like any other, unless the column is said to hold chats."""
    chat = json.dumps([{"role": "user", "content": "the film is good"}])
    texts = [chat, '[{"level": "info"}]', "[{ no json", "a dog"]
    assert explain([{"text": text} for text in texts], truncate=True).failed == 0
    assert [row["text"] for row in results(tmp_path / "out").values()] == texts


@pytest.mark.parametrize(
    "options",
    (
        {"text_column": None},
        {"text_column": ""},
        {"text_column": 7},
        {"id_column": ["a"]},
        {"keep_columns": "text"},
        {"keep_columns": ["text", "text"]},
        {"keep_columns": [None]},
        {"chats": "yes"},
        {"shard_rows": 0},
        {"workers": -1},
        {"engine": "spark"},
        {"gpus": 1},
        {"loading": {"device": "cpu"}},
        {"split": "train"},
        {"edges": True},
        {"nothing": 1},
        {"truncate": "yes"},
        {"pair": ["a", "b"]},
        {"target": ["a", "b"]},
        {"target": len},
        {"retry_failed": 1},
        {"wait": None},
    ),
)
def test_an_invalid_option_is_refused_before_anything_is_made(options, explain, tmp_path):
    with pytest.raises(InputError) as error:
        explain(SENTENCES, **options)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.exhaustive
def test_two_million_ids_are_compared_in_flat_memory():
    program = """
import resource
from attnflow.corpus.columns import Columns
from attnflow.corpus.formats import Head
from attnflow.corpus.sources import ObjectPart
from attnflow.corpus.survey import survey
def part(count):
    return ObjectPart("p", lambda columns: ({"id": i, "text": "a"} for i in range(count)),
                      Head(["id", "text"], count))
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
survey([part(50_000)], Columns(id="id"))
before = most()
assert survey([part(2_000_000)], Columns(id="id")).total == 2_000_000
assert most() - before < 20_000, most() - before  # kilobytes; the hashes alone are 32 MB
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_a_model_of_another_kind_than_its_options_is_refused(explain, tiny, tokenizer):
    other = Explainer(tiny(head=None), tokenizer, name="embedder")
    with pytest.raises(InputError):
        explain(SENTENCES, model=other, target="positive")
