"""Runs that are killed, interrupted or cut short go on: nothing is lost, and nothing done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnflow import InputError, StorageError, explain_corpus
from attnflow.corpus.engines.processes import Processes
from attnflow.corpus.work import Worker

TEXTS = [f"the {a} film was {b}" for a in ("long", "short", "new") for b in ("good", "bad", "fine")]


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"{text}\n" for text in TEXTS * 4), encoding="utf-8")
    return file


def rows_of(out):
    """All rows of a run, sorted by id, without the seconds that they took."""
    table = pq.ParquetDataset(Path(out) / "shards").read().sort_by("id")
    return table.drop_columns("seconds").to_pylist()


def shards_of(out):
    return sorted(Path(out, "shards").glob("*.parquet"))


@pytest.fixture
def whole(source, explainer, tmp_path):
    """The rows of an unbroken run."""
    explain_corpus(source, explainer, out=tmp_path / "whole", shard_rows=4)
    return rows_of(tmp_path / "whole")


def test_run_has_every_text_once_in_order(source, whole):
    assert [row["id"] for row in whole] == sorted(f"texts.txt:{i}" for i in range(36))
    assert {row["error"] for row in whole} == {None}
    assert all(row["certificate"]["status"] == "solved" for row in whole)


def test_interrupted_run_goes_on_with_what_is_missing(source, explainer, tmp_path, whole):
    out = tmp_path / "broken"

    def interrupt(worker, chunk, care=None, done=Worker.do):
        if chunk.start >= 16:
            raise KeyboardInterrupt
        return done(worker, chunk, care)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "do", interrupt)
        with pytest.raises(KeyboardInterrupt):
            explain_corpus(source, explainer, out=out, shard_rows=4)
    before = {shard: shard.stat().st_mtime_ns for shard in shards_of(out)}
    assert len(before) == 4
    run = explain_corpus(source, explainer, out=out, shard_rows=4)
    assert (run.rows, run.explained, run.failed) == (36, 20, 0)
    assert all(shard.stat().st_mtime_ns == when for shard, when in before.items())
    assert rows_of(out) == whole


def test_finished_run_explains_nothing_again(source, explainer, tmp_path, monkeypatch):
    out = tmp_path / "out"
    explain_corpus(source, explainer, out=out, shard_rows=4)
    monkeypatch.setattr(Worker, "explained", None)
    run = explain_corpus(source, explainer, out=out, shard_rows=4)
    assert (run.rows, run.explained) == (36, 0) and run.is_complete


SCRIPT = """
import sys
from attnflow import explain_corpus
if __name__ == "__main__":
    source, model, out, workers = sys.argv[1:]
    explain_corpus(source, model, out=out, shard_rows=4, workers=int(workers))
"""


def started(source, model, out, workers, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen([sys.executable, script, source, model, out, str(workers)])


def wait_for_shards(out, count, running):
    while len(shards_of(out)) < count:
        assert running.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.attack
def test_killed_processes_leave_whole_shards_and_the_run_goes_on(source, folder, tmp_path, whole):
    out = tmp_path / "killed"
    for count in (1, 4):
        running = started(source, folder, out, 0, tmp_path)
        wait_for_shards(out, count, running)
        running.send_signal(signal.SIGKILL)
        running.wait()
        for shard in shards_of(out):
            assert pq.read_table(shard).num_rows == 4
    run = explain_corpus(source, folder, out=out, shard_rows=4, workers=0)
    assert run.rows == 36 and 0 < run.explained < 36
    assert same_but_for_the_model(rows_of(out), whole)


def same_but_for_the_model(rows, others):
    """Return whether rows are equal but for the model's name, which is its folder in one."""
    return [{**row, "model": ""} for row in rows] == [{**row, "model": ""} for row in others]


@pytest.mark.slow
@pytest.mark.attack
def test_lost_worker_is_replaced_and_the_rows_are_the_same(source, folder, tmp_path, whole):
    out = tmp_path / "lost"
    killed = []
    chunks = Processes.run

    def killing(engine, some):
        for done in chunks(engine, some):
            if not killed:
                process = next(iter(engine._pool._processes.values()))
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
            yield done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "run", killing)
        run = explain_corpus(source, folder, out=out, shard_rows=4, workers=2)
    assert killed and run.rows == 36 and run.is_complete
    assert same_but_for_the_model(rows_of(out), whole)


@pytest.mark.exhaustive
@pytest.mark.attack
def test_text_that_ends_its_process_fails_alone(folder, tmp_path, monkeypatch):
    """A text for which a worker dies each time is a row with its error; all others have results."""
    source = tmp_path / "texts.txt"
    source.write_text("the good film\nthe bad film\nthe deadly film\nthe fine film\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading, time, os\n"
        "def watch():\n"
        "    while True:\n"
        "        module = sys.modules.get('attnflow.corpus.work')\n"
        "        if module is not None and hasattr(module, 'Worker'):\n"
        "            break\n"
        "        time.sleep(.001)\n"
        "    real = module.explain_each\n"
        "    def deadly(explainer, questions, options):\n"
        "        if any('deadly' in question.given.texts for question in questions):\n"
        "            os._exit(9)\n"
        "        return real(explainer, questions, options)\n"
        "    module.explain_each = deadly\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
    )
    run = explain_corpus(source, folder, out=tmp_path / "out", shard_rows=4, workers=1)
    rows = rows_of(tmp_path / "out")
    assert (run.rows, run.failed) == (4, 1)
    assert [row["error"] is None for row in rows] == [True, True, False, True]
    assert rows[2]["error_kind"] == "MemoryError" and "died" in rows[2]["error"]


def test_second_run_into_a_folder_is_refused_while_the_first_writes(source, explainer, tmp_path):
    out = tmp_path / "out"
    refused = []

    def second(worker, chunk, care=None, done=Worker.do):
        if not refused:
            with pytest.raises(StorageError, match="is written by another process") as error:
                explain_corpus(source, explainer, out=out, shard_rows=4)
            refused.append(error)
        return done(worker, chunk, care)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "do", second)
        explain_corpus(source, explainer, out=out, shard_rows=4)
    assert refused


def test_other_options_in_the_same_folder_are_refused_by_name(source, explainer, tmp_path):
    out = tmp_path / "out"
    explain_corpus(source, explainer, out=out, shard_rows=4)
    expected = "options tensor was 'net' and is 'cf'; shard_rows was 4 and is 5. Name another"
    with pytest.raises(InputError, match=expected):
        explain_corpus(source, explainer, out=out, shard_rows=5, tensor="cf")


def test_changed_rows_are_refused_and_a_longer_file_goes_on(source, explainer, tmp_path):
    out = tmp_path / "out"
    explain_corpus(source, explainer, out=out, shard_rows=5)
    with open(source, "a", encoding="utf-8") as file:
        file.write("one more film\n")
    run = explain_corpus(source, explainer, out=out, shard_rows=5)
    assert (run.rows, run.explained) == (37, 2)
    assert len(rows_of(out)) == 37
    source.write_text(source.read_text().replace("new film was bad", "old film was bad"))
    with pytest.raises(InputError, match="texts.txt has changed since"):
        explain_corpus(source, explainer, out=out, shard_rows=5)


def test_failed_rows_are_explained_again_when_asked(source, explainer, tmp_path, monkeypatch):
    out = tmp_path / "out"
    import attnflow.corpus.work as work

    real = work.explain_each

    def forgetful(explainer, questions, options):
        found = real(explainer, questions, options)
        found[1].fail(MemoryError("out of memory"))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "explain_each", forgetful)
        run = explain_corpus(source, explainer, out=out, shard_rows=12)
    assert (run.failed, run.is_complete) == (3, False)
    assert explain_corpus(source, explainer, out=out, shard_rows=12).failed == 3
    run = explain_corpus(source, explainer, out=out, shard_rows=12, retry_failed=True)
    assert (run.rows, run.failed, run.explained) == (36, 0, 3)
    assert {row["error"] for row in rows_of(out)} == {None}


def test_manifest_states_what_changes_results(source, explainer, tmp_path):
    explain_corpus(source, explainer, out=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "manifest.json").read_text())["fingerprint"]
    assert {"schema", "model", "options", "columns", "shard_rows", "versions"} == set(found)
    assert len(found["model"]["weights"]) == 32


def test_worker_that_dies_while_the_source_is_read_is_replaced(source, folder, tmp_path):
    """The pool is broken before a chunk is submitted, so that no future tells of it."""
    chunks = Processes.run

    def breaking(engine, reader):
        def slowly():
            for number, chunk in enumerate(reader):
                if number == 3:
                    for process in list(engine._pool._processes.values()):
                        process.kill()
                    while not engine._pool._broken:
                        time.sleep(0.01)
                yield chunk

        return chunks(engine, slowly())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "run", breaking)
        run = explain_corpus(source, folder, out=tmp_path / "out", shard_rows=4, workers=1)
    assert run.rows == 36 and run.is_complete


def test_defaults_that_are_given_are_the_same_run(source, explainer, tmp_path):
    """The command gives every option, and Python only those that were written."""
    out = tmp_path / "out"
    explain_corpus(source, explainer, out=out, truncate=False, bos=False, batch_size=16)
    assert explain_corpus(source, explainer, out=out).explained == 0


@pytest.mark.parametrize("name", ("texts/../texts/out", "link/out"))
def test_results_in_the_source_are_no_source_by_any_address(source, explainer, tmp_path, name):
    (tmp_path / "texts").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "texts")
    source.rename(tmp_path / "texts" / source.name)
    for _ in range(2):
        run = explain_corpus(tmp_path / "texts", explainer, out=f"{tmp_path}/{name}")
        assert run.rows == 36


def test_unread_parts_are_forgotten_once_they_are_read(explainer, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.txt").write_text("a good film\n")
    (tmp_path / "source" / "b.parquet").write_bytes(b"no parquet")
    run = explain_corpus(tmp_path / "source", explainer, out=tmp_path / "out")
    assert run.unread and (tmp_path / "out" / "unread.json").exists()
    pq.write_table(pa.table({"text": ["a bad film"]}), tmp_path / "source" / "b.parquet")
    assert explain_corpus(tmp_path / "source", explainer, out=tmp_path / "out").is_complete
    assert not (tmp_path / "out" / "unread.json").exists()
