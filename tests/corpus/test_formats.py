"""Files of every format become the same rows; what cannot be read is one row, not the file."""

import bz2
import csv
import gzip
import json
import lzma
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather
from support.corpora import SENTENCES, read, texts

from attnflow import StorageError
from attnflow.corpus.sources import open_source

TABLE = pa.table({"text": SENTENCES, "n": range(4)})


def write_stream(table, file):
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def write_lines(table, file):
    file.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


def write_csv(table, file, delimiter=","):
    with open(file, "w", newline="") as opened:
        writer = csv.writer(opened, delimiter=delimiter)
        writer.writerow(table.column_names)
        writer.writerows(row.values() for row in table.to_pylist())


WRITERS = {
    "a.parquet": lambda table, file: pq.write_table(table, file, row_group_size=3),
    "a.arrow": write_stream,
    "a.feather": lambda table, file: feather.write_feather(table, file, chunksize=3),
    "a.jsonl": write_lines,
    "a.ndjson": write_lines,
    "a.json": write_lines,
    "a.csv": write_csv,
    "a.tsv": lambda table, file: write_csv(table, file, "\t"),
    "a.txt": lambda table, file: file.write_text("\n".join(table["text"].to_pylist())),
    "A.TXT": lambda table, file: file.write_text("\r\n".join(table["text"].to_pylist())),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_format_gives_its_rows_in_order_twice(name, tmp_path):
    WRITERS[name](TABLE, tmp_path / name)
    (part,) = open_source(tmp_path / name)
    assert part.name == name
    for _ in range(2):
        assert [row["text"] for row in part.rows(["text"])] == SENTENCES
    head = part.head()
    assert head.columns is None or "text" in head.columns
    assert head.rows in (None, 4)


def zstd(data):
    # Two frames, as tools that compress in parallel write them.
    half = data.index(b"\n") + 1
    codec = pa.Codec("zstd")
    return codec.compress(data[:half], asbytes=True) + codec.compress(data[half:], asbytes=True)


@pytest.mark.parametrize(
    "ending, compress",
    ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstd)),
)
def test_a_compressed_file_is_read_to_its_end(ending, compress, tmp_path):
    whole = tmp_path / f"a.txt{ending}"
    data = compress("\n".join(SENTENCES * 500).encode())
    whole.write_bytes(data)
    assert texts(whole) == SENTENCES * 500
    (tmp_path / f"cut.txt{ending}").write_bytes(data[: len(data) // 2])
    with pytest.raises(StorageError, match=f"^cannot read .*cut.txt{ending}: [^\n]*$"):
        texts(tmp_path / f"cut.txt{ending}")


def test_a_csv_field_may_have_lines_quotes_and_separators(tmp_path):
    field = 'one,\n"two"\r\nthree;\tfour\n\nfive'
    write_csv(pa.table({"text": [field, "b"]}), tmp_path / "a.csv")
    assert texts(tmp_path / "a.csv") == [field, "b"]


def test_a_tsv_field_keeps_its_quotes(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tn\n"so" he said\t1\n5" pipe\t2\n')
    assert texts(tmp_path / "a.tsv") == ['"so" he said', '5" pipe']


@pytest.mark.parametrize("name", ("a.csv", "a.jsonl", "a.txt"))
def test_a_byte_order_mark_is_no_part_of_the_first_line(name, tmp_path):
    WRITERS[name](TABLE, tmp_path / name)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
    assert texts(tmp_path / name) == SENTENCES


def test_empty_lines_are_no_rows(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n  \ntwo\n\n")
    (tmp_path / "a.jsonl").write_text('\n{"text": "one"}\n\n{"text": "two"}\n\n')
    (tmp_path / "a.csv").write_text("text,n\none,1\n\ntwo,2\n\n")
    for name in ("a.txt", "a.jsonl", "a.csv"):
        assert texts(tmp_path / name) == ["one", "two"]


def test_a_line_that_is_no_json_object_is_one_row(tmp_path):
    lines = ['{"text": "one"}', "{broken", "[1]", "7", '{"text": "two"}', "[" * 100_000]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = texts(tmp_path / "a.jsonl")
    assert [found[0], found[4]] == ["one", "two"]
    assert found[1].startswith("the line is not JSON: ")
    assert found[2:4] == ["expected a JSON object, got [1]", "expected a JSON object, got 7"]
    assert found[5] == "the line is not JSON: too many lists or objects inside each other"


@pytest.mark.parametrize("content", ('[{"text": "one"},\n{"text": "two"}]', '{\n"text": "one"\n}'))
def test_a_json_file_without_an_object_on_each_line_is_said_so(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(StorageError, match=r"^cannot read .*a\.json: .*JSON lines.*\.$"):
        open_source(tmp_path / "a.json")[0].head()


def test_lines_that_are_not_utf8_are_rows_that_keep_their_ids(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntw\xff\nthree")
    (tmp_path / "a.jsonl").write_bytes(b'{"id": 1, "text": "tw\xff"}\n{"id": \xff\n')
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,one\n2,tw\xff\n\xfe3,three\n")
    assert texts(tmp_path / "a.txt") == ["one", "the line is not UTF-8", "three"]
    (part,) = open_source(tmp_path / "a.jsonl")
    rows = list(part.rows(["id"]))
    assert [row.reason for row in rows] == ["the line is not UTF-8"] * 2
    assert [row.values for row in rows] == [{"id": 1}, {}]
    (part,) = open_source(tmp_path / "a.csv")
    assert [row.values for row in list(part.rows(["id"]))[1:]] == [{"id": "2"}, {"text": "three"}]


@pytest.mark.parametrize("name", ("a.parquet", "a.arrow", "a.feather"))
def test_a_string_of_arrow_that_is_not_utf8_is_one_row_that_keeps_its_id(name, tmp_path):
    broken = pa.array([b"one", b"tw\xff", b"three"], pa.binary()).view(pa.string())
    WRITERS[name](pa.table({"id": [1, 2, 3], "text": broken}), tmp_path / name)
    (part,) = open_source(tmp_path / name)
    one, two, three = part.rows(["text", "id"])
    assert [one["text"], three["text"]] == ["one", "three"]
    assert (two.reason, two.values) == ("column 'text' is not UTF-8", {"id": 2})


def test_a_csv_line_with_other_fields_or_quotes_is_one_row(tmp_path):
    lines = ("n,text", "1,one", "2,two,more", "3", '4,"a"b', "5,li\rne", "6,six")
    (tmp_path / "a.csv").write_bytes("\n".join(lines).encode())
    found = texts(tmp_path / "a.csv")
    assert [found[0], found[-1]] == ["one", "six"]
    assert found[1] == "the line has 3 fields, the header 2"
    assert found[2] == "the line has 1 fields, the header 2"
    assert found[3] == "the line is not CSV: ',' expected after '\"' (line 5)"
    assert found[4].startswith("the line is not CSV: new-line character")


def test_a_quote_that_is_never_closed_does_not_take_the_file_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("attnflow.corpus.formats.LONGEST_FIELD", 100)
    before = csv.field_size_limit()
    rows = "".join(f"{i},text {i}\n" for i in range(100))
    (tmp_path / "a.csv").write_text('n,text\n-1,"open\n' + rows)
    found = texts(tmp_path / "a.csv")
    assert found[0].startswith("the line is not CSV: field larger than field limit (100) (line ")
    assert found[1:] == [f"text {i}" for i in range(101 - len(found), 100)]
    assert csv.field_size_limit() == before
    (tmp_path / "b.csv").write_text('n,text\n1,one\n2,"open\n')
    assert texts(tmp_path / "b.csv") == [
        "one",
        "the line is not CSV: unexpected end of data (line 3)",
    ]


def test_classes_are_named_as_the_library_datasets_notes_them(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"])
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features)
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(tmp_path / "saved")
    sources = (tmp_path / "a.parquet", tmp_path / "saved", data, data.to_iterable_dataset())
    for source in sources:
        (part,) = open_source(source)
        assert part.head().classes == {"label": ["bad", "good"]}
        assert [row["label"] for row in part.rows(["text", "label"])] == [1, 0]


def test_a_foreign_note_in_a_schema_names_no_classes(tmp_path):
    for note in (b"\xff", b"[]", b'{"info": {"features": [1]}}', b'{"info": null}'):
        table = TABLE.replace_schema_metadata({b"huggingface": note})
        pq.write_table(table, tmp_path / "a.parquet")
        assert open_source(tmp_path / "a.parquet")[0].head().classes == {}


def most_memory(file, rows):
    """Bytes that reading a file takes at once, of a file with one row group."""
    values = pa.array([f"{i} " + "word " * 2000 for i in range(rows)])
    pq.write_table(pa.table({"text": values}), file, row_group_size=rows, compression="none")
    del values
    (part,) = open_source(file)
    before, most = pa.total_allocated_bytes(), 0
    tracemalloc.start()
    for number, row in enumerate(part.rows(["text"])):
        most = max(most, pa.total_allocated_bytes() - before)
        assert row["text"].startswith(f"{number} ")
    most += tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert number == rows - 1
    return most


def test_a_large_row_group_is_read_in_flat_memory(tmp_path):
    small, large = (most_memory(tmp_path / f"{n}.parquet", n) for n in (2000, 8000))  # 20, 80 MB
    assert large < 1.2 * small and large < 40e6


def test_rows_of_several_files_are_read_only_as_they_are_asked_for(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("one\ntwo\n")
    assert read(tmp_path, "text") == {
        name: [{"text": "one"}, {"text": "two"}] for name in ("a.txt", "b.txt")
    }
    parts = open_source(tmp_path)
    (tmp_path / "b.txt").unlink()
    rows = parts[0].rows(["text"])
    assert next(rows) == {"text": "one"}
    with pytest.raises(StorageError, match=r"^cannot read .*b\.txt: FileNotFoundError: "):
        parts[1].head()
