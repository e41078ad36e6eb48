"""The folder of results, here and in a bucket: what is damaged is said, or made anew."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest
from support.corpora import SENTENCES, errors, results
from support.disks import failing_writes

from attnflow import InputError, StorageError, explain_corpus
from attnflow.corpus.store import Store

ROWS = [{"text": text, "id": f"k{i}"} for i, text in enumerate(SENTENCES * 2)]


def shards_of(out):
    return sorted((out / "shards").glob("*.parquet"))


@pytest.fixture
def explain(explainer, tmp_path):
    """Explains texts into a folder, four to a shard."""

    def run(source=ROWS, out=tmp_path / "out", **options):
        return explain_corpus(source, explainer, out=out, **({"shard_rows": 4} | options))

    return run


@pytest.mark.parametrize(
    "damage",
    (
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4],
        lambda data: data[:300] + bytes(40) + data[340:],
        lambda data: b"not a file of Parquet",
    ),
)
def test_a_damaged_shard_is_explained_anew(damage, explain, tmp_path, caplog):
    explain()
    before = results(tmp_path / "out")
    first, second = shards_of(tmp_path / "out")
    first.write_bytes(damage(first.read_bytes()))
    run = explain()
    assert (run.rows, run.explained) == (8, 4)
    assert results(tmp_path / "out") == before
    assert [record.getMessage() for record in caplog.records] == [
        f"{first} is damaged: explained anew."
    ]
    assert explain().explained == 0


def test_a_changed_byte_of_a_shard_s_values_is_noticed(explain, tmp_path):
    explain(ROWS[:4])
    store, (shard,) = Store(str(tmp_path / "out")), shards_of(tmp_path / "out")
    whole, table = shard.read_bytes(), store.read_shard(shard.name)
    found = []
    for place in range(4, len(whole) - pq.read_metadata(shard).serialized_size - 8, 41):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found.append(store.read_shard(shard.name))
    assert all(one is None or one.equals(table) for one in found)
    assert sum(one is None for one in found) > len(found) / 3


def test_a_shard_that_is_another_s_under_this_name_is_explained_anew(explain, tmp_path):
    explain()
    before = results(tmp_path / "out")
    first, second = shards_of(tmp_path / "out")
    first.write_bytes(second.read_bytes())
    assert explain().explained == 4
    assert results(tmp_path / "out") == before


def test_a_shard_that_cannot_be_read_is_not_replaced(explain, tmp_path, monkeypatch):
    explain()
    kept = [shard.read_bytes() for shard in shards_of(tmp_path / "out")]

    def refuse(self, path, *_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(type(Store(str(tmp_path)).system), "cat_file", refuse)
        with pytest.raises(StorageError, match=r"^cannot read [^\n]*: PermissionError: [^\n]*$"):
            explain()
    assert [shard.read_bytes() for shard in shards_of(tmp_path / "out")] == kept


@pytest.mark.parametrize("content", (b"", b"{", b"\xff", b"[" * 100_000))
def test_a_damaged_manifest_is_said_in_one_line(content, explain, tmp_path):
    explain()
    (tmp_path / "out" / "manifest.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"manifest\.json is damaged: [^\n]*another folder\.$"):
        explain()
    assert len(shards_of(tmp_path / "out")) == 2


@pytest.mark.parametrize("content", ([], {}, {"fingerprint": 7}, 7))
def test_a_manifest_that_says_something_else_is_refused(content, explain, tmp_path):
    explain()
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(content))
    with pytest.raises((InputError, StorageError), match=r"^[^\n]*out[^\n]*$"):
        explain()


def test_shards_without_a_manifest_are_refused(explain, tmp_path):
    explain()
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"has shards and no manifest.json[^\n]*another folder\.$"):
        explain()


@pytest.mark.parametrize(
    "changed, said",
    (
        ({"truncate": True}, "options truncate was False and is True"),
        ({"target": "positive"}, "options target was None and is 'positive'"),
        ({"gap": 0.02}, "options gap was 0.01 and is 0.02"),
        ({"id_column": "id"}, "columns id was None and is 'id'"),
        ({"shard_rows": 3}, "shard_rows was 4 and is 3"),
        ({"batch_size": 2}, "options batch_size was 16 and is 2"),
        ({"chats": True}, "columns chats was False and is True"),
    ),
)
def test_another_run_s_folder_is_refused_with_what_differs(changed, said, explain, tmp_path):
    explain()
    with pytest.raises(InputError) as error:
        explain(**changed)
    assert f"holds results of another run: {said}. Name another folder" in str(error.value)


def test_another_model_s_folder_is_refused(explain, tiny, tokenizer, tmp_path):
    from attnflow import Explainer

    explain()
    other = Explainer(tiny(seed=6), tokenizer, name="tiny")
    with pytest.raises(InputError, match="another run: model weights was '[0-9a-f]+' and is '"):
        explain_corpus(ROWS, other, out=tmp_path / "out", shard_rows=4)


def test_memory_that_a_call_may_take_changes_no_results(explain, tmp_path):
    explain(max_memory="1GB")
    assert explain(max_memory="2GB").explained == 0


def test_results_in_memory_are_those_of_a_folder(explain, tmp_path):
    import fsspec

    explain()
    memory = fsspec.filesystem("memory")
    try:
        run = explain(out="memory://runs/one")
        assert (run.rows, run.explained) == (8, 8)
        assert explain(out="memory://runs/one").explained == 0
        memory.get("/runs/one", str(tmp_path / "copy"), recursive=True)
    finally:
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]
    assert results(tmp_path / "copy") == results(tmp_path / "out")


def test_results_inside_the_source_s_folder_are_no_source(explain, tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    assert explain(tmp_path).rows == 8
    run = explain(tmp_path)
    assert (run.rows, run.explained) == (8, 0)
    with pytest.raises(InputError, match="the source has nothing but the results in "):
        explain(tmp_path / "out")


def test_a_folder_in_memory_is_refused_for_worker_processes(folder):
    with pytest.raises(InputError, match="^memory://x is in the memory of this process, where"):
        explain_corpus(ROWS, folder, out="memory://x")


def test_an_out_that_is_a_file_is_refused(explain, tmp_path):
    (tmp_path / "out").write_text("here")
    with pytest.raises(StorageError, match="out is a file"):
        explain()
    assert (tmp_path / "out").read_text() == "here"


def test_ids_and_names_of_files_never_leave_the_folder(explain, tmp_path):
    source = tmp_path / "source"
    names = ["%2e%2e%2f", "a\nb", "ü🙂\u202e", "x" * 200, "-rf", "$(id)", "CON", "a" * 80 + "1",
             "a" * 80 + "2"]  # fmt: skip
    ids = ["../../x", "/etc/passwd", "a\nb", "\0", "x" * 10_000, "ü\u202e", "..", "'; --", " "]
    source.mkdir()
    for name, id in zip(names, ids, strict=True):
        (source / f"{name}.jsonl").write_text(json.dumps({"text": "a dog", "id": id}))
    explain(source, id_column="id")
    made = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")}
    shards = {name.removeprefix("shards/") for name in made if name.startswith("shards/")}
    assert made - {f"shards/{name}" for name in shards} <= {"manifest.json", "shards", "run.lock"}
    assert len(shards) == len(names)
    for shard in shards:
        assert (
            shard.isascii()
            and len(shard) < 128
            and set(shard)
            <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.")
        )
    assert set(results(tmp_path / "out")) == set(ids)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "source"}


@pytest.mark.attack
@pytest.mark.parametrize("step", (7, pytest.param(1, marks=pytest.mark.exhaustive)))
def test_the_same_call_goes_on_after_each_write_that_failed(explain, tmp_path, monkeypatch, step):
    some = [{"text": "a dog"}, {"text": "bad"}]
    with failing_writes(monkeypatch, tmp_path / "count") as count:
        explain(some, tmp_path / "count", shard_rows=1)
    expected = results(tmp_path / "count")
    assert len(count.calls) > 10
    for number in range(0, len(count.calls), step):
        out = tmp_path / f"{number}"
        with failing_writes(monkeypatch, out, fail=number, torn=True) as disk:
            with pytest.raises(StorageError, match="No space left on device"):
                explain(some, out, shard_rows=1)
        assert disk.failed and not list(out.rglob(".attnflow*"))
        explain(some, out, shard_rows=1)
        assert results(out) == expected


def test_a_full_temporary_folder_is_said(explain, monkeypatch):
    import numpy as np

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "fromfile", full)
    with pytest.raises(StorageError, match=r"^cannot compare the ids in .*: No space left on"):
        explain(id_column="id")


def test_a_clock_that_jumps_changes_nothing(explain, tmp_path, monkeypatch):
    explain(out=tmp_path / "steady")
    jumps = iter([1e9 * (-1) ** i for i in range(10_000)])
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: next(jumps))
        explain()
        for path in (tmp_path / "out").rglob("*"):
            os.utime(path, (0, 4e9))
        assert explain().explained == 0
    assert results(tmp_path / "out") == results(tmp_path / "steady")
    assert errors(tmp_path / "out") == dict.fromkeys(errors(tmp_path / "steady"))


SERVER = """
import contextlib, sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
with contextlib.redirect_stdout(sys.stderr):
    server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
FORBIDDEN = """
import http.server, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def refuse(self):
        body = b"<Error><Code>InvalidAccessKeyId</Code><Message>No such key.</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
    do_GET = do_HEAD = do_PUT = do_POST = refuse
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
"""


@contextmanager
def serving(program):
    """A server in a process of its own, which file systems of s3:// ask."""
    s3fs = pytest.importorskip("s3fs")
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server, pytest.MonkeyPatch.context() as patch:  # fmt: skip
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{int(server.stdout.readline())}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        yield s3fs.S3FileSystem()
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def s3():
    """The file system of an S3 server, with a bucket `data`."""
    pytest.importorskip("moto.server")
    with serving(SERVER) as system:
        system.mkdir("data")
        yield system


def test_a_bucket_is_read_and_written_as_a_folder_is(s3, explain, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("\n".join(SENTENCES))
        s3.put(str(folder / name), f"data/texts/{name}")
    explain(folder)
    run = explain("s3://data/texts/*.txt", out="s3://data/runs/one")
    assert (run.rows, run.explained, run.failed) == (8, 8, 0)
    # A shard that is lost is made again, and no other.
    shards = s3.ls("data/runs/one/shards", detail=False)
    s3.rm(shards[0])
    assert explain("s3://data/texts/", out="s3://data/runs/one/").explained == 4
    s3.get("data/runs/one", str(tmp_path / "copy"), recursive=True)
    assert results(tmp_path / "copy") == results(tmp_path / "out")
    s3.pipe(shards[0], s3.cat(shards[0])[:-9])
    assert explain("s3://data/texts", out="s3://data/runs/one").explained == 4


def test_a_bucket_that_is_not_there_is_said_and_not_made(s3, explain):
    with pytest.raises(StorageError, match=r"^cannot [^\n]*nowhere[^\n]*$"):
        explain(out="s3://nowhere/out")
    assert not s3.exists("nowhere")
    with pytest.raises((InputError, StorageError), match=r"^[^\n]*nowhere[^\n]*$"):
        explain("s3://nowhere/a.txt")
    with pytest.raises(InputError, match=r"there is no file 's3://data/nothing.txt'"):
        explain("s3://data/nothing.txt")


def test_refused_credentials_are_said_in_one_line(explain):
    with serving(FORBIDDEN):
        for options in (
            {"source": "s3://data/a.txt"},
            {"source": "s3://data/*.parquet"},
            {"out": "s3://data/out"},
        ):
            with pytest.raises(StorageError, match=r"^cannot [^\n]*: PermissionError: [^\n]*$"):
                explain(**options)
