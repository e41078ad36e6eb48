"""A disk that fills: one of the calls that write fails, and the others are counted."""

import builtins
import errno
import io
import os
from contextlib import contextmanager
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
NAMELESS = getattr(os, "O_TMPFILE", 0)


class Disk:
    """Calls that write into a folder.

    Attributes:
        calls: Names of the calls so far.
        failed: True once one has failed.
    """

    def __init__(self, folder, fail, torn):
        self.folder, self.fail, self.torn = str(folder), fail, torn
        self.calls, self.handles, self.failed = [], set(), False

    def holds(self, path):
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)

    def count(self, name):
        """Note a call, and return whether it is the one that fails."""
        self.calls.append(name)
        self.failed |= len(self.calls) - 1 == self.fail
        return len(self.calls) - 1 == self.fail


def full():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def failing_writes(monkeypatch, folder, *, fail=None, torn=False):
    """Let call number `fail` of those that write into a folder fail as a full disk does.

    Args:
        monkeypatch: Of pytest.
        folder: The folder that counts, with all inside it.
        fail: Number of the call, from 0; None: none fails.
        torn: A write that fails has written half of its bytes.

    Yields:
        The `Disk`.
    """
    disk = Disk(folder, fail, torn)
    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "close")}

    def opened(path, flags, *args, **kwargs):
        # A nameless file is how a lock asks what the file system can do.
        is_nameless = NAMELESS and flags & NAMELESS == NAMELESS
        counts = disk.holds(path) and flags & WRITING and not is_nameless
        if counts and disk.count("open"):
            raise full()
        handle = real["open"](path, flags, *args, **kwargs)
        if counts:
            disk.handles.add(handle)
        return handle

    def written(handle, data):
        if handle in disk.handles and disk.count("write"):
            if disk.torn:
                real["write"](handle, bytes(data)[: len(data) // 2])
            raise full()
        return real["write"](handle, data)

    def synced(handle):
        if handle in disk.handles and disk.count("fsync"):
            raise full()
        return real["fsync"](handle)

    def closed(handle):
        disk.handles.discard(handle)
        return real["close"](handle)

    def refusing(name):
        call = getattr(os, name)

        def called(path, *args, **kwargs):
            # A folder that is there needs no place.
            is_new = name != "mkdir" or not os.path.isdir(path)
            if disk.holds(path) and is_new and disk.count(name):
                raise full()
            return call(path, *args, **kwargs)

        return called

    def past(call):
        def opened(path, mode="r", *args, **kwargs):
            reads = isinstance(mode, str) and not set(mode) & set("wax+")
            assert reads or not disk.holds(path), f"{path} is written past attnflow.files"
            return call(path, mode, *args, **kwargs)

        return opened

    with monkeypatch.context() as patch:
        for name, call in (
            ("open", opened), ("write", written), ("fsync", synced), ("close", closed)
        ):  # fmt: skip
            patch.setattr(os, name, call)
        for name in ("replace", "rename", "mkdir"):
            patch.setattr(os, name, refusing(name))
        for module in (builtins, io):
            patch.setattr(module, "open", past(module.open))
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        yield disk
