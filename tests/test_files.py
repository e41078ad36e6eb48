"""A file appears whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from attnflow import StorageError, files
from attnflow.files import all_or_none, check_writable, write_whole

pytestmark = pytest.mark.attack


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir())


def test_bytes_and_text(tmp_path):
    for data, expected in ((b"\x00\r\n", b"\x00\r\n"), ("é\n", b"\xc3\xa9\n"), ("", b"")):
        path = tmp_path / "file"
        assert write_whole(path, data, overwrite=True) == path
        assert path.read_bytes() == expected
    assert left_behind(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ("os.open", "os.write", "os.fsync", "os.replace"))
@pytest.mark.parametrize("there", (False, True))
def test_a_write_that_fails_leaves_nothing_new(tmp_path, monkeypatch, step, there):
    path = tmp_path / "file"
    if there:
        path.write_bytes(b"before")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(step, fail)
    with pytest.raises(StorageError, match="cannot write .*file: No space left on device"):
        write_whole(path, b"after", overwrite=True)
    assert left_behind(tmp_path) == (["file"] if there else [])
    assert not there or path.read_bytes() == b"before"


@pytest.mark.parametrize("interruption", (KeyboardInterrupt, MemoryError))
def test_an_interruption_midway_passes_and_leaves_nothing(tmp_path, monkeypatch, interruption):
    write = os.write

    def broken(handle, data):
        write(handle, data[:2])
        raise interruption

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(interruption):
        write_whole(tmp_path / "file", b"content")
    assert left_behind(tmp_path) == []


def test_existing_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    for attempt in (check_writable, lambda p, overwrite: write_whole(p, b"", overwrite=overwrite)):
        with pytest.raises(StorageError, match=r"exists already.*overwrite=True, --overwrite"):
            attempt(path, overwrite=False)
    assert path.read_bytes() == b"before"
    write_whole(path, b"after", overwrite=True)
    assert path.read_bytes() == b"after"


def test_folder_missing_folder_and_file_as_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path, message in (
        (tmp_path, "it is a folder"),
        (Path(""), "it is a folder"),
        (tmp_path / "missing" / "file", "there is no folder"),
        (tmp_path / "file" / "inside", "there is no folder"),
    ):
        with pytest.raises(StorageError, match=message):
            check_writable(path, overwrite=True)
    assert left_behind(tmp_path) == ["file"]


def test_devices_and_pipes_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(StorageError, match="device or a pipe"):
            write_whole(path, b"x", overwrite=True)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(StorageError, match="File name too long"):
        check_writable(tmp_path / ("a" * 5000), overwrite=False)


def test_the_longest_name_that_the_system_takes(tmp_path):
    path = tmp_path / ("a" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    assert write_whole(path, b"x").read_bytes() == b"x"


def test_unwritable_folder(tmp_path, monkeypatch):
    # Root may write anywhere, so the answer of the system is put in its mouth.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(StorageError, match="is not writable"):
        check_writable(tmp_path / "file", overwrite=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_unwritable_folder_in_earnest(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="is not writable"):
            write_whole(tmp_path / "file", b"x")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("umask", (0o022, 0o077, 0o002))
def test_permissions_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        path = write_whole(tmp_path / "file", b"x")
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
        assert os.umask(umask) == umask  # not left at another value
    finally:
        os.umask(before)


def test_a_file_that_another_process_made_meanwhile_stays(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with pytest.raises(StorageError, match="exists already"), all_or_none([ours, theirs]):
        write_whole(ours, "ours")
        theirs.write_text("theirs")
        write_whole(theirs, "ours")
    assert theirs.read_text() == "theirs" and not ours.exists()


def test_files_of_a_group_inside_another_go_with_it(tmp_path):
    """Figures are a group of their own, and one with the table that comes after them."""
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    with pytest.raises(RuntimeError), all_or_none([inner, outer]):
        with all_or_none([inner]):
            write_whole(inner, "whole")
        assert inner.exists() and inner in files._unfinished
        raise RuntimeError
    assert not inner.exists() and inner not in files._unfinished
