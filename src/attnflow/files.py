"""Files that appear whole or not at all, and reading that fails in one line.

All that the package writes passes through here: whole files (`write_whole`), groups of them
(`all_or_none`), and files that grow by whole pieces (`Growing`). A full disk, a kill or an
interruption leaves what was there before, and the same command can be given again.
"""

import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attnflow.errors import InputError, StorageError, shown

LONGEST_PATH = 2**15  # bytes; no system takes more
UNFINISHED = ".attnflow-"  # how the names of files begin that are not whole yet
SHOWN = 200  # characters of a name or of another's message that an error quotes
_BINARY = getattr(os, "O_BINARY", 0)  # of Windows, which would change line ends
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY
_AT_THE_END = os.O_CREAT | os.O_APPEND | os.O_WRONLY | _BINARY
_unfinished: set[Path] = set()  # files that must not stay if the process ends now


def discard_unfinished() -> None:
    """Remove the files that are being written, for a process that ends at once."""
    for path in list(_unfinished):
        with suppress(OSError):  # what led here matters more
            path.unlink(missing_ok=True)


@contextmanager
def all_or_none(paths: Iterable[Path]) -> Iterator[None]:
    """Remove those of these files that are new, if what is done inside fails.

    So that the same command can be given again, where the first of its files could be written and
    the second could not. A file that was there before, and was replaced, stays as it is now.
    """
    group = _Group({_followed(path) for path in paths if not os.path.lexists(_followed(path))})
    around = _groups.get()
    token = _groups.set((*around, group))
    try:
        yield
    except BaseException:
        for path in group.made:
            with suppress(OSError):  # what led here matters more
                path.unlink(missing_ok=True)
        raise
    finally:
        _groups.reset(token)
        # What a group around this one counts among its files can still be taken back.
        _unfinished.difference_update(group.made.difference(*(other.made for other in around)))


@dataclass
class _Group:
    """Files that are written together.

    Attributes:
        new: Those that were not there before.
        made: Those of them that were written; others may be another process's by now.
    """

    new: set[Path]
    made: set[Path] = field(default_factory=set)


# Those that are being written now, one inside the other.
_groups: ContextVar[tuple[_Group, ...]] = ContextVar("attnflow_groups", default=())


def as_path(file: object) -> Path:
    """Return the path of a file.

    Raises:
        InputError: It is neither a string nor a path, or no file can have that name.
    """
    if not isinstance(file, str | os.PathLike):
        raise InputError(f"a file must be given as str or Path, got {type(file).__name__}.")
    try:
        path = Path(file)
        name = os.fsencode(path)
        is_possible = b"\0" not in name and len(name) <= LONGEST_PATH
    except (TypeError, UnicodeEncodeError):  # a path of bytes, half a surrogate pair
        is_possible = False
    if not is_possible:
        raise InputError(
            f"no file can be named {shown(file)}: give a path of str without NUL, of at most "
            f"{LONGEST_PATH} bytes."
        )
    return path


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Refuse a path that cannot be written to, before any work is done for it.

    Raises:
        StorageError: The path exists and `overwrite` is false, is a folder or a device, or its
            folder is missing or closed to this user.
    """
    with _in_one_line("write", path):
        mode = _mode(path)
        target = _followed(path)
    exists = mode is not None
    if mode is not None and stat.S_ISDIR(mode):
        raise StorageError(f"cannot write {path}: it is a folder; name a file.")
    if mode is not None and not stat.S_ISREG(mode):
        raise StorageError(f"cannot write {path}: it is a device or a pipe; name a file.")
    if exists and not overwrite:
        raise StorageError(
            f"{path} exists already: choose another name, or say to replace it "
            "(overwrite=True, --overwrite)."
        )
    if not target.parent.is_dir():
        raise StorageError(
            f"cannot write {path}: there is no folder {target.parent}; make it first."
        )
    if not os.access(target.parent, os.W_OK):
        raise StorageError(f"cannot write {path}: the folder {target.parent} is not writable.")


def write_whole(path: Path, data: bytes | str, *, overwrite: bool = False) -> Path:
    """Write to a temporary file next to `path`, then rename it. Text is UTF-8. Returns `path`.

    A file that is replaced keeps its permissions. Through a symbolic link its target is written,
    and the link stays.

    Raises:
        StorageError: As `check_writable`, or the disk refuses.
    """
    check_writable(path, overwrite=overwrite)
    content = data.encode("utf-8") if isinstance(data, str) else data
    with _in_one_line("write", path):
        target, mode = _followed(path), _mode(path)
        temporary = target.parent / f"{UNFINISHED}{secrets.token_hex(8)}"
        _unfinished.add(temporary)
        try:
            # A private file is never open to others, not even while it is written.
            handle = os.open(temporary, _NEW, 0o666 if mode is None else 0o600)
            try:
                if mode is not None:
                    os.chmod(temporary, stat.S_IMODE(mode))
                _write(handle, content)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, target)
            for group in _groups.get():
                if target in group.new:
                    group.made.add(target)
                    _unfinished.add(target)
        finally:
            temporary.unlink(missing_ok=True)
            _unfinished.discard(temporary)
    return path


class Growing:
    """A file that grows by whole pieces: one that the disk does not take leaves no part of it.

    Attributes:
        path: The file, made if there is none.

    Raises:
        StorageError: It cannot be opened, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_writable(path, overwrite=True)  # a pipe would let this process wait for ever
        with _in_one_line("write", path):
            self._handle = os.open(path, _AT_THE_END, 0o666)

    def append(self, piece: bytes) -> None:
        """Write a piece at the end, or nothing.

        Raises:
            StorageError: The disk refuses.
        """
        with _in_one_line("write", self.path):
            before = os.fstat(self._handle).st_size
            try:
                _write(self._handle, piece)
            except OSError:
                os.ftruncate(self._handle, before)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, with all of it on the disk.

        Raises:
            StorageError: The disk refuses.
        """
        with _in_one_line("write", self.path):
            try:
                os.fsync(self._handle)
            finally:
                os.close(self._handle)


def real_path(name: str) -> str:
    """Return the one name that all names of a file have in common.

    Raises:
        StorageError: No file can have this name.
    """
    with _in_one_line("find", Path(name)):
        return os.path.realpath(name)


def check_folder(path: Path) -> None:
    """Refuse a folder that cannot be made, before any work is done for it.

    Raises:
        StorageError: The name, or one above it, is a file's, or no file can have it.
    """
    with _in_one_line("make the folder", path):
        for folder in (path, *path.parents):
            mode = _mode(folder)
            if mode is not None and not stat.S_ISDIR(mode):
                raise StorageError(f"cannot make the folder {path}: {folder} is a file.")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        StorageError: The disk refuses, or a file has that name.
    """
    with _in_one_line("make the folder", path):
        path.mkdir(parents=True, exist_ok=True)


def is_there(path: Path) -> bool:
    """Return whether there is a file or a folder, or a link that leads to one.

    Raises:
        StorageError: The system does not tell.
    """
    with _in_one_line("read", path):
        return _mode(path) is not None


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        StorageError: It cannot be read, or is a device or a pipe, which might never end.
    """
    with _in_one_line("read", path):
        if not stat.S_ISREG(os.stat(path).st_mode) and not path.is_dir():
            raise StorageError(f"cannot read {path}: it is a device or a pipe.")
        return path.read_bytes()


def parse_json(text: str) -> Any:
    """Return what JSON says.

    Raises:
        InputError: It is not JSON, or so deep or so large that it cannot be read; the message goes
            on after "is not JSON".
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError("too many lists or objects inside each other") from None
    except json.JSONDecodeError as error:
        raise InputError(str(error)) from error
    except ValueError:  # by Python's bound on what it turns into an integer
        raise InputError("a number has too many digits") from None


def _write(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def _mode(path: Path) -> int | None:
    """Kind and permissions of a file, or of what a link leads to; None where there is none."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _followed(path: Path) -> Path:
    """The file that a path leads to through symbolic links."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


@contextmanager
def _in_one_line(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot {action} {_quoted(path)}: {error.strerror or error}."
        ) from error
    except ValueError as error:  # a name with NUL, or with half of a surrogate pair
        raise StorageError(
            f"cannot {action} {_quoted(path)}: no file can have this name ({error})."
        ) from error


def _quoted(path: Path) -> str:
    name = str(path)
    name = name if name.isprintable() else repr(name)
    return name if len(name) <= SHOWN else f"{name[:SHOWN]}…"
