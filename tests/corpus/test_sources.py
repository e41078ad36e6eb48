"""Sources: names of files, data sets and objects, each a list of parts that can be read again."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from support.corpora import SENTENCES, read, texts

from attnflow import InputError, MissingExtraError, StorageError
from attnflow.corpus.sources import Names, is_name, open_source

ROWS = [{"text": text, "n": i} for i, text in enumerate(SENTENCES)]


def names(source, **options):
    return [part.name for part in open_source(source, **options)]


@pytest.fixture
def files(tmp_path):
    """A folder with files of data in two folders, and with others."""
    folder = tmp_path / "data"
    for name in ("b.txt", "a.jsonl", "2024/a.jsonl", "2024/deep/c.csv", "_SUCCESS", ".x.txt",
                 "_logs/a.txt", "README.md", "2024/.tmp/a.txt"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text({"l": '{"text": "a"}\n', "v": "text\na\n"}.get(name[-1], "a\n"))
    return folder


IN_FOLDER = ["2024/a.jsonl", "2024/deep/c.csv", "a.jsonl", "b.txt"]


def test_a_folder_gives_its_data_sorted_and_none_that_is_hidden(files):
    for source in (files, str(files), f"{files}/", f"file://{files}"):
        assert names(source) == IN_FOLDER
        assert all(rows == [{"text": "a"}] for rows in read(source, "text").values())


def test_a_glob_gives_what_it_fits_named_after_its_folder(files):
    assert names(f"{files}/*.jsonl") == ["a.jsonl"]
    assert names(f"{files}/**/*.jsonl") == ["2024/a.jsonl", "a.jsonl"]
    assert names(f"{files}/202?/*") == ["2024/a.jsonl", "2024/deep/c.csv"]
    assert names(f"{files}/[ab].*") == ["a.jsonl", "b.txt"]
    assert names(files / "*") == IN_FOLDER


def test_a_file_whose_name_has_signs_of_a_glob_is_that_file(tmp_path):
    (tmp_path / "a[1]?*.txt").write_text("one\n")
    (tmp_path / "a1.txt").write_text("other\n")
    assert texts(tmp_path / "a[1]?*.txt") == ["one"]


def test_a_folder_that_is_named_as_a_file_gives_its_files(tmp_path):
    folder = tmp_path / "data" / "reviews.parquet"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"text": ["a"]}), folder / "part-0.parquet")
    assert names(folder) == ["part-0.parquet"]
    assert names(f"{folder.parent}/*.parquet") == ["reviews.parquet/part-0.parquet"]


def test_several_names_give_each_file_once(files):
    both = [files / "a.jsonl", f"{files}/*.jsonl", str(files / "b.txt")]
    assert names(both) == ["a.jsonl", "b.txt"]
    assert names([str(files / "2024"), str(files / "b.txt")]) == ["a.jsonl", "deep/c.csv", "b.txt"]


def test_names_of_files_stay_where_others_are_added(files):
    """A name that changed would have its texts explained twice."""
    before = names([f"{files}/2024/*.jsonl"])
    (files / "2024" / "b.jsonl").write_text('{"text": "b"}\n')
    assert names([f"{files}/2024/*.jsonl"]) == [*before, "b.jsonl"]
    assert names(str(files)) == ["2024/a.jsonl", "2024/b.jsonl", *IN_FOLDER[1:]]


def test_files_of_equal_names_are_told_apart_by_their_folders(files, memory):
    both = [files / "a.jsonl", files / "2024" / "a.jsonl"]
    assert names(both) == ["a.jsonl", "2024/a.jsonl"]
    memory.pipe("/a.jsonl", b'{"text": "m"}')
    found = names([files / "a.jsonl", "memory://a.jsonl"])
    assert len(set(found)) == 2


@pytest.fixture
def memory():
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_a_file_system_in_memory_is_read_as_a_folder_is(memory):
    memory.pipe({"/data/a.txt": b"one\n", "/data/b/c.csv": b"text\ntwo\n", "/data/.d.txt": b"x"})
    assert names("memory://data") == ["a.txt", "b/c.csv"]
    assert names("memory://data/*.txt") == ["a.txt"]
    assert texts("memory://data/b/c.csv") == ["two"]
    with pytest.raises(InputError, match="^there is no file 'memory://nothing.txt': expected "):
        open_source("memory://nothing.txt")


def test_hostile_names_of_files_are_read_and_quoted(tmp_path):
    for name in ("new\nline.txt", "ü\u202e🙂.txt", "x" * 200 + ".txt", "'; drop.txt", "%2e%2e.txt"):
        (tmp_path / name).write_text("one\n")
        assert texts(tmp_path / name) == ["one"] and names(tmp_path / name) == [name]
    raw = os.fsencode(tmp_path) + b"/\xff.txt"
    with open(raw, "w") as file:
        file.write("one\n")
    assert texts(tmp_path / os.fsdecode(b"\xff.txt")) == ["one"]
    (tmp_path / "new\nline.txt").unlink()
    (tmp_path / "new\nline.parquet").write_text("no")
    with pytest.raises(StorageError) as error:
        open_source(tmp_path / "new\nline.parquet")[0].head()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "source, said",
    (
        ("nothing.txt", "there is no file 'nothing.txt': expected a file, folder or glob of "),
        ("./nothing", "there is no file './nothing': "),
        ("*.nothing", "there is no file '*.nothing': "),
        (["nothing.txt", "no.csv"], "there is no file 'nothing.txt': "),
        ([Path("nothing.txt"), "a text"], "expected the names of files, or texts, got both: "),
        ("", "expected the name of a file, got ''"),
        ("a\0b.txt", "expected the name of a file, got 'a\\x00b.txt'"),
        (iter(ROWS), "what can be read only once cannot be resumed."),
        ((row for row in ROWS), "what can be read only once cannot be resumed."),
        ({"text": SENTENCES}, "the source must be a file"),
        (b"bytes", "the source must be a file"),
        (7, "the source must be a file"),
        (None, "the source must be a file"),
        (pa.table({"a": [1]}).to_reader(), "what can be read only once cannot be resumed."),
    ),
)  # fmt: skip
def test_a_source_that_is_none_is_refused_with_the_reason(source, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        open_source(source)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_pipes_are_no_files_and_links_are(tmp_path):
    """A pipe would be waited for for ever; a link that leads nowhere is told when it is read."""
    (tmp_path / "a.txt").write_text("one\n")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / "lost.txt").symlink_to(tmp_path / "nothing.txt")
    (tmp_path / "loop").symlink_to(tmp_path)
    for source in (tmp_path, tmp_path / "*.txt"):
        assert names(source) == ["a.txt", "link.txt", "lost.txt"]
    with pytest.raises(StorageError, match="^cannot read .*lost.txt: FileNotFoundError"):
        open_source(tmp_path)[-1].head()
    with pytest.raises(InputError, match="pipe.txt is a device or a pipe: what can be read only"):
        open_source(tmp_path / "pipe.txt")


def test_a_folder_or_file_without_data_is_refused(tmp_path):
    (tmp_path / "a.pdf").write_text("no")
    with pytest.raises(InputError, match="a.pdf: expected a file, folder or glob"):
        open_source(tmp_path / "a.pdf")
    with pytest.raises(InputError, match="has no file that can be read: expected"):
        open_source(tmp_path)


def test_an_unknown_address_is_refused_in_one_line():
    with pytest.raises(StorageError, match=r"^cannot reach 'zz://a/b.csv': ValueError: [^\n]*$"):
        open_source("zz://a/b.csv")


def test_a_file_system_without_its_package_names_what_to_install(monkeypatch):
    import fsspec

    def missing(url, **options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingExtraError, match=r"^'s3://a/b.csv' needs attnflow\[s3\]: Install"):
        open_source("s3://a/b.csv")


def test_a_list_of_texts_is_no_list_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("")
    listed = ["see http://a.b/c for more", "a", "notes are in x.txt; read them"]
    assert texts(listed) == listed
    assert [is_name(item) for item in (*listed, Path("x"), "s3://b/*", "x.txt", 7)] == [
        *(False, True, False),
        *(True, True, True, False),
    ]


def test_names_of_a_command_are_never_texts(files):
    assert names(Names([f"{files}/*", str(files / "b.txt")])) == IN_FOLDER
    with pytest.raises(InputError, match="^there is no file 'nothing': expected"):
        open_source(Names([str(files), "nothing"]))


def test_objects_give_the_rows_of_files(tmp_path):
    table = pa.table({"text": SENTENCES, "n": range(4)})
    pq.write_table(table, tmp_path / "a.parquet")
    objects = [
        ROWS,
        tuple(ROWS),
        table,
        pyarrow.dataset.dataset(tmp_path / "a.parquet"),
        pyarrow.dataset.dataset(table),
    ]
    for source in objects:
        (part,) = open_source(source)
        for _ in range(2):
            assert [dict(row) for row in part.rows(["text", "n"])] == ROWS
        assert part.head().columns in (None, ["text", "n"]) and part.head().rows in (None, 4)


def test_a_data_frame_gives_its_rows_with_none_where_a_value_is_missing(tmp_path):
    pandas = pytest.importorskip("pandas")
    import numpy as np

    frame = pandas.DataFrame(
        {
            "text": ["a", None, "c"],
            "n": [1, 2, 3],
            "m": [1.5, float("nan"), 2.0],
            "parts": [np.array(["x", "y"]), ["z"], None],
            7: [pandas.NaT, pandas.Timestamp("2024-01-02"), pandas.NA],
        },
        index=[5, 5, 6],
    )
    found = read(frame, "text", "n", "m", "parts", "7")["frame"]
    assert [row["text"] for row in found] == ["a", None, "c"]
    assert [row["m"] for row in found] == [1.5, None, 2.0]
    assert [row["parts"] for row in found] == [["x", "y"], ["z"], None]
    assert [row["7"] for row in found] == [None, pandas.Timestamp("2024-01-02"), None]
    assert all(type(row["n"]) is int for row in found)


def test_rows_of_a_list_that_are_none_are_rows_with_the_reason():
    assert texts([{"text": "a"}, 7, None]) == [
        "a",
        "expected a dictionary or a text, got 7",
        "expected a dictionary or a text, got None",
    ]


@pytest.fixture
def data():
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_list(ROWS)


def test_data_sets_give_their_rows_whatever_their_format(data):
    changed = data.map(lambda row: {"text": row["text"]})
    sources = [
        data,
        data.with_format("torch"),
        data.to_iterable_dataset(num_shards=2),
        data.to_iterable_dataset().map(lambda row: row),
        changed.select([3, 1]).select([1, 0]),
    ]
    for source in sources:
        for _ in range(2):
            assert texts(source) == (SENTENCES if source is not sources[-1] else SENTENCES[1::2])


def test_a_streamed_data_set_that_does_not_know_its_columns_is_read():
    datasets = pytest.importorskip("datasets")
    streamed = datasets.IterableDataset.from_generator(lambda: iter(ROWS))
    assert streamed.column_names is None
    assert open_source(streamed)[0].head().columns is None
    assert texts(streamed) == SENTENCES == texts(streamed)


def test_a_dictionary_of_data_sets_is_refused_with_its_names(data, tmp_path):
    datasets = pytest.importorskip("datasets")
    both = datasets.DatasetDict(train=data, test=data)
    with pytest.raises(InputError, match="a dictionary of data sets: give one of train, test."):
        open_source(both)
    both.save_to_disk(tmp_path / "both")
    with pytest.raises(InputError, match="name the folder of one of them, such as .*both/train."):
        open_source(tmp_path / "both")
    assert texts(tmp_path / "both" / "test") == SENTENCES


def test_a_saved_data_set_is_read_without_its_notes_and_caches(data, tmp_path):
    data.save_to_disk(tmp_path / "saved", num_shards=2)
    (tmp_path / "saved" / "cache-0a1b.arrow").write_bytes(b"a copy")
    assert names(tmp_path / "saved") == [f"data-0000{i}-of-00002.arrow" for i in range(2)]
    assert sum(read(tmp_path / "saved", "text").values(), []) == [{"text": t} for t in SENTENCES]


def test_a_folder_with_a_split_is_read_by_the_library_datasets(data, tmp_path):
    folder = tmp_path / "reviews"
    folder.mkdir()
    data.select([0, 1]).to_parquet(folder / "train-0.parquet")
    data.select([2, 3]).to_parquet(folder / "test-0.parquet")
    for split, expected in (("train", SENTENCES[:2]), ("test", SENTENCES[2:])):
        assert texts(folder, split=split) == expected
        assert names(folder, split=split) == [f"reviews/{split}"]
    with pytest.raises(StorageError, match=r"^cannot read the data set .*: [^\n]*$"):
        open_source(folder, split="nothing")


def test_a_split_without_a_data_set_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    for source in (tmp_path / "a.txt", [tmp_path / "a.txt", tmp_path / "a.txt"], ROWS):
        with pytest.raises(InputError):
            open_source(source, split="train")


def test_an_id_of_no_data_set_is_said_in_one_line():
    pytest.importorskip("datasets")
    with pytest.raises(
        StorageError, match=r"^cannot read the data set nobody/nothing \(there[^\n]*$"
    ):
        open_source("nobody/nothing")


def test_a_file_that_may_not_be_read_is_said_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a")
    (part,) = open_source(tmp_path / "a.txt")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(part.system), "open", refuse)
    with pytest.raises(StorageError, match=r"^cannot read .*a\.txt: PermissionError: Permission"):
        list(part.rows(["text"]))
