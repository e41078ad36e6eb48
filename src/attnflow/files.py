"""Files that appear whole or not at all."""

import os
import secrets
from pathlib import Path

from attnflow.errors import InputError, StorageError


def as_path(file: object) -> Path:
    """Return the path of a file.

    Raises:
        InputError: It is neither a string nor a path, or no file can have that name.
    """
    if not isinstance(file, str | os.PathLike):
        raise InputError(f"a file must be given as str or Path, got {type(file).__name__}.")
    try:
        path = Path(file)
        is_possible = b"\0" not in os.fsencode(path)
    except (TypeError, UnicodeEncodeError):  # a path of bytes, half a surrogate pair
        is_possible = False
    if not is_possible:
        raise InputError(f"no file can be named {file!r:.80}: give a path of str without NUL.")
    return path


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Refuse a path that cannot be written to, before any work is done for it.

    Raises:
        StorageError: The path exists and `overwrite` is false, is a folder or a device, or its
            folder is missing or closed to this user.
    """
    try:
        exists = path.exists()
    except OSError as error:  # a name that is too long, a folder that this user may not read
        raise StorageError(f"cannot write {path}: {error.strerror}.") from error
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder; name a file.")
    if exists and not path.is_file():
        raise StorageError(f"cannot write {path}: it is a device or a pipe; name a file.")
    if exists and not overwrite:
        raise StorageError(
            f"{path} exists already: choose another name, or say to replace it "
            "(overwrite=True, --overwrite)."
        )
    if not path.parent.is_dir():
        raise StorageError(f"cannot write {path}: there is no folder {path.parent}; make it first.")
    if not os.access(path.parent, os.W_OK):
        raise StorageError(f"cannot write {path}: the folder {path.parent} is not writable.")


def write_whole(path: Path, data: bytes | str, *, overwrite: bool = False) -> Path:
    """Write to a temporary file next to `path`, then rename it. Text is UTF-8. Returns `path`.

    Raises:
        StorageError: As `check_writable`, or the disk refuses.
    """
    check_writable(path, overwrite=overwrite)
    content = data.encode("utf-8") if isinstance(data, str) else data
    try:
        temporary = path.parent / f".attnflow-{secrets.token_hex(8)}"
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}.") from error
    return path
