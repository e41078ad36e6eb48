"""Runs whose files were damaged, whose disk is full, or that two processes write."""

import errno
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import pytest
from support.disks import failing_writes

from attnflow import AttnflowError, InputError, StorageError
from attnflow.evaluation import (
    Example,
    Protocol,
    RunSettings,
    evaluate,
    metric_scores,
    read_rows,
    read_run,
    read_runs,
)
from attnflow.evaluation.figures import draw
from attnflow.evaluation.run_folder import ROWS
from attnflow.evaluation.run_folder import RUN as RUN_FILE
from attnflow.methods import METHODS, Method
from attnflow.one_writer import LOCK, WRITER, one_writer

pytestmark = pytest.mark.attack

TEXTS = (
    "the good film a bad fine dull film",
    "good good bad the film a fine a",
    "fine film the dull good a bad the",
)
RUN = RunSettings("model", "data.tsv", Protocol((0.2, 0.5), ("mask", "delete")))
METHODS_RUN = [METHODS["random"], METHODS["occlusion"]]


@pytest.fixture
def asked(instance):
    return [
        (Example(7 * i, text, 1), replace(instance(text), seed=7 * i))
        for i, text in enumerate(TEXTS)
    ]


@pytest.fixture
def whole(asked, tmp_path):
    """The folder of an undisturbed run, of six rows."""
    evaluate(RUN, asked, METHODS_RUN, tmp_path / "whole")
    return tmp_path / "whole"


def table(rows):
    return sorted(json.dumps({**row, "seconds": 0}, sort_keys=True) for row in rows)


def changed(change):
    """A line in which the row has been changed."""

    def line(original):
        row = json.loads(original)
        return json.dumps(change(row) or row).encode()

    return line


def lacking(name):
    return changed(lambda row: row.pop(name) and None)


DAMAGE = {
    "is not UTF-8": lambda line: line[:9] + b"\xff" + line[9:],
    "is not JSON: Expecting property": lambda line: line[:15],
    "is not JSON: Expecting value": lambda line: b"\x00" * len(line),
    "is not JSON: Extra data": lambda line: line + line,
    "is not JSON: too many lists": lambda line: b"[" * 100_000,
    "is not JSON: a number has too many digits": lambda line: b'{"example": ' + b"9" * 5000 + b"}",
    "is not a JSON object": lambda line: b"5",
    "has no index of an example": lambda line: b"{}",
    "has no name of a method": changed(lambda row: {**row, "method": [1]}),
    "has no numbers removed of mask, delete": lacking("removed"),
    "has no numbers kept of mask, delete": changed(lambda row: {**row, "kept": {}}),
    "has 1 numbers removed of mask, not 2": changed(
        lambda row: row["removed"]["mask"].pop() and None
    ),
    "has no finite numbers removed of delete": changed(
        lambda row: row["removed"].update(delete=[0.0, float("nan")])
    ),
    "has no finite number log_p": changed(lambda row: {**row, "log_p": "-1"}),
    "has no finite number ties": changed(lambda row: {**row, "ties": True}),
    "has no finite number 'x'": changed(lambda row: {**row, "extras": {"x": float("inf")}}),
    "has no finite number seconds": changed(lambda row: {**row, "seconds": 10**400}),
    "has no reason of the failure": changed(lambda row: {**row, "failed": 1}),
    "is of another run: its tokens is 99": changed(lambda row: {**row, "tokens": 99}),
    "is of another run: its target is 0": changed(lambda row: {**row, "target": 0}),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_a_damaged_row_is_named_set_aside_and_measured_anew(asked, whole, reason):
    undisturbed = table(read_rows(whole))
    lines = (whole / ROWS).read_bytes().splitlines()
    damaged = DAMAGE[reason](lines[2])
    content = b"\n".join([*lines[:2], damaged, *lines[3:]]) + b"\n"
    (whole / ROWS).write_bytes(content)

    if "another run" not in reason:  # which only the run's own texts tell
        with pytest.warns(UserWarning, match="are left out") as said:
            assert len(read_rows(whole)) == 5
        assert f"line 3 {reason}" in str(said[0].message) and len(str(said[0].message)) < 500
        assert (whole / ROWS).read_bytes() == content, "a report writes nothing"

    with pytest.warns(UserWarning, match="measured anew") as said:
        rows = evaluate(RUN, asked, METHODS_RUN, whole)
    assert len(said) == 1 and f"line 3 {reason}" in str(said[0].message)
    assert table(rows) == table(read_rows(whole)) == undisturbed
    assert (whole / "rows.damaged.jsonl").read_bytes() == damaged + b"\n"


def test_rows_that_two_writers_wrote_twice_count_once(asked, whole):
    undisturbed, content = table(read_rows(whole)), (whole / ROWS).read_bytes()
    (whole / ROWS).write_bytes(content * 2)
    with pytest.warns(UserWarning, match="line 7 repeats the row of .*; and 3 more"):
        assert table(evaluate(RUN, asked, METHODS_RUN, whole)) == undisturbed
    assert (whole / ROWS).read_bytes() == content


def test_a_byte_order_mark_and_blank_lines_are_no_damage(asked, whole):
    undisturbed, content = table(read_rows(whole)), (whole / ROWS).read_bytes()
    (whole / ROWS).write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n\n"))
    assert table(read_rows(whole)) == undisturbed
    assert table(evaluate(RUN, asked, METHODS_RUN, whole)) == undisturbed


def test_a_metric_without_a_finite_number_is_a_failure_with_its_reason(asked, tmp_path, oracle):
    huge = Method("huge", lambda q: 1e200 * oracle(q), "")
    run = replace(RUN, protocol=Protocol(extras=("infidelity",)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the overflow
        rows = evaluate(run, asked, [huge, METHODS["random"]], tmp_path)
    failed = [row["failed"] for row in rows if "failed" in row]
    assert failed == ["huge gave a row that has no finite number 'infidelity'."] * 3
    assert len(evaluate(run, asked, [huge, METHODS["random"]], tmp_path)) == len(rows)


def settings(change):
    def content(before):
        record = json.loads(before)
        return json.dumps(change(record) or record).encode()

    return content


BROKEN_SETTINGS = {
    "is empty": lambda before: b"",
    "is not JSON: Expecting value: line 3": lambda before: before[:26],
    "is not JSON: Expecting": lambda before: b"\x00" * 40,
    "is not JSON: too many": lambda before: b"[" * 100_000,
    "is not JSON: a number": lambda before: b'{"run": ' + b"9" * 5000 + b"}",
    "is not UTF-8": lambda before: b"\xff" + before,
    "is not a JSON object": lambda before: b"[]",
    "has no settings of a run": settings(lambda record: {**record, "run": None}),
    "has no name of the model": settings(lambda record: record["run"].pop("model") and None),
    "has no fingerprints": settings(lambda record: record["run"].update(texts=[1])),
    "has no protocol": settings(lambda record: record["run"].update(protocol="p")),
    "has no shares": settings(lambda record: record["run"]["protocol"].update(shares=0.5)),
    "has no operators": settings(lambda record: record["run"]["protocol"].update(operators=[])),
    "has no list of versions": settings(lambda record: {**record, "versions": 3}),
}


@pytest.mark.parametrize("fault", BROKEN_SETTINGS)
def test_broken_settings_are_one_error_that_says_what_to_do(asked, whole, fault):
    content = BROKEN_SETTINGS[fault]((whole / RUN_FILE).read_bytes())
    (whole / RUN_FILE).write_bytes(content)
    rows = (whole / ROWS).read_bytes()
    attempts = (
        lambda: evaluate(RUN, asked, METHODS_RUN, whole),
        lambda: read_rows(whole),
        lambda: read_run(whole),
        lambda: read_runs([whole]),
    )
    for attempt in attempts:
        with pytest.raises(InputError, match=f"run.json {fault}.*: without settings.*Put a copy"):
            attempt()
    assert (whole / RUN_FILE).read_bytes() == content and (whole / ROWS).read_bytes() == rows


def test_settings_that_can_still_be_used(asked, whole):
    undisturbed, before = table(read_rows(whole)), (whole / RUN_FILE).read_bytes()
    for content in (
        b"\xef\xbb\xbf" + before,
        settings(lambda record: {**record, "versions": []})(before),
        settings(lambda record: record.pop("versions") and None)(before),
    ):
        (whole / RUN_FILE).write_bytes(content)
        assert table(evaluate(RUN, asked, METHODS_RUN, whole)) == undisturbed
        assert read_run(whole)["versions"]


def test_rows_without_settings_are_refused_and_none_at_all_begin_a_run(asked, whole):
    (whole / RUN_FILE).unlink()
    for attempt in (lambda: evaluate(RUN, asked, METHODS_RUN, whole), lambda: read_rows(whole)):
        with pytest.raises(InputError, match="no run.json"):
            attempt()
    (whole / ROWS).write_bytes(b"")
    assert len(evaluate(RUN, asked, METHODS_RUN, whole)) == 6


@pytest.mark.parametrize("name", (ROWS, RUN_FILE, LOCK))
@pytest.mark.parametrize("kind", ("folder", "link to nothing", "circle of links", "pipe"))
def test_no_traceback_where_something_else_has_a_files_name(asked, whole, name, kind):
    undisturbed = table(read_rows(whole))
    (whole / name).unlink()
    if kind == "folder":
        (whole / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(whole / name)
    else:
        target = whole / ("none/such" if kind == "link to nothing" else name)
        (whole / name).symlink_to(target)
    if name != LOCK:
        with pytest.raises(AttnflowError):
            read_rows(whole)
    try:
        rows = evaluate(RUN, asked, METHODS_RUN, whole)
    except AttnflowError as error:
        assert name in str(error) and "\n" not in str(error)
    else:
        assert table(rows) == undisturbed


def test_a_file_in_place_of_the_folder_and_a_name_that_none_can_have(asked, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "a\0b"):
        with pytest.raises(StorageError, match="cannot make the folder"):
            evaluate(RUN, asked, METHODS_RUN, folder)
    with pytest.raises(AttnflowError):
        read_rows(tmp_path / ("a" * 5000))


# Two writers


def test_a_second_writer_is_refused_by_the_name_of_the_first(asked, tmp_path):
    with one_writer(tmp_path):
        with pytest.raises(StorageError) as refused:
            evaluate(RUN, asked, METHODS_RUN, tmp_path)
        who = f"process {os.getpid()} on {socket.gethostname()}"
        assert f"written by another process ({who})" in str(refused.value)
        assert "--wait" in str(refused.value) and not (tmp_path / ROWS).exists()
        (tmp_path / WRITER).write_bytes(b"\xff")
        with pytest.raises(StorageError, match="by another process: let it finish"):
            evaluate(RUN, asked, METHODS_RUN, tmp_path)
    assert len(evaluate(RUN, asked, METHODS_RUN, tmp_path)) == 6
    assert not (tmp_path / WRITER).exists()


HOLD = """
import sys, time
from pathlib import Path
from attnflow.one_writer import one_writer
with one_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(folder, seconds):
    arguments = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_lock_dies_with_its_process_and_reports_need_none(asked, whole):
    with holder(whole, 60) as process:
        with pytest.raises(StorageError, match=f"process {process.pid} on "):
            evaluate(RUN, asked, METHODS_RUN, whole)
        assert len(read_rows(whole)) == 6
        process.kill()
    assert len(evaluate(RUN, asked, METHODS_RUN, whole)) == 6


def test_a_file_system_without_locks_is_refused(asked, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(StorageError, match="not implemented. Name a folder whose file system"):
        evaluate(RUN, asked, METHODS_RUN, tmp_path)


def test_a_thread_does_not_wait_for_itself(asked, tmp_path):
    with one_writer(tmp_path), pytest.raises(StorageError, match="by this thread"):
        evaluate(RUN, asked, METHODS_RUN, tmp_path, wait=True)


def test_a_second_writer_waits_where_it_is_told_to(asked, whole, caplog):
    started = time.monotonic()
    with holder(whole, 0.5):
        rows = evaluate(RUN, asked, METHODS_RUN, whole, wait=True)
    assert len(rows) == 6 and time.monotonic() - started > 0.4
    assert "waiting until it is done" in caplog.text


# Full disks


def measured_and_drawn(asked, folder):
    rows = evaluate(RUN, asked, METHODS_RUN, folder / "run")
    draw(rows, metric_scores(rows), folder / "figures", shares=RUN.protocol.shares)
    return rows


@pytest.mark.parametrize("torn", (False, True))
def test_every_write_that_fails_once_leaves_a_run_that_goes_on(
    asked, whole, tmp_path, monkeypatch, torn
):
    undisturbed = table(read_rows(whole))
    with failing_writes(monkeypatch, tmp_path / "count") as count:
        measured_and_drawn(asked, tmp_path / "count")
    assert len(count.calls) >= 25, count.calls
    assert {"open", "write", "fsync", "replace", "mkdir"} <= set(count.calls)
    for number in range(len(count.calls)):
        folder = tmp_path / f"{number}"
        with failing_writes(monkeypatch, folder, fail=number, torn=torn) as disk:
            with pytest.raises(StorageError, match="No space left on device") as refused:
                measured_and_drawn(asked, folder)
                pytest.fail(f"{number} of {count.calls} was passed over")
        assert disk.failed and "\n" not in str(refused.value)
        check_whole_files(folder)
        assert table(measured_and_drawn(asked, folder)) == undisturbed, count.calls[number]
        check_whole_files(folder)
        assert not (folder / "run" / "rows.damaged.jsonl").exists()


def check_whole_files(folder):
    for path in folder.rglob("*"):
        assert not path.name.startswith(".attnflow"), "a temporary file"
        if path.name in (ROWS, "rows.damaged.jsonl"):
            assert path.read_bytes()[-1:] in (b"", b"\n")
            for line in path.read_bytes().splitlines():
                json.loads(line)
        elif path.name in (RUN_FILE, WRITER):
            json.loads(path.read_bytes())
        elif path.suffix == ".svg":
            assert path.read_bytes().rstrip().endswith(b"</svg>")
        else:
            assert path.is_dir() or path.name == LOCK, path


def test_a_write_without_the_one_way_would_be_seen(monkeypatch, tmp_path):
    """The test of full disks would miss what is written by other means."""
    with failing_writes(monkeypatch, tmp_path), pytest.raises(AssertionError, match="past"):
        (tmp_path / "file").write_text("x")


def test_a_file_that_cannot_be_synced_is_said(asked, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=os.strerror(errno.EDQUOT)):
        evaluate(RUN, asked, METHODS_RUN, tmp_path)
