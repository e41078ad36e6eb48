"""File systems by fsspec: local folders, s3://, gs://, hf://, memory:// and all else that it knows.

Whatever a file system raises becomes one line about the file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attnflow.errors import AttnflowError, MissingExtraError, StorageError, shown

# What installs the file system of a scheme, where it is not part of fsspec.
PACKAGES = {
    "s3": "attnflow[s3]",
    "s3a": "attnflow[s3]",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
}

BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}


def file_system(url: str, **options: Any) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Args:
        url: The address or path.
        options: Options of the file system.

    Raises:
        MissingExtraError: The package of that file system is not installed.
        StorageError: fsspec does not know it, or it cannot be reached.
    """
    import fsspec

    scheme = url.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        package = PACKAGES.get(scheme, "the package that fsspec names")
        raise MissingExtraError(f"{shown(url)} needs {package}: {error}.") from error
    except Exception as error:  # of any file system
        raise StorageError(f"cannot reach {shown(url)}: {one_line(error)}.") from error
    return system, str(path)


def is_local(system: Any) -> bool:
    """Return whether a file system is this machine's."""
    return "file" in protocols(system)


def has_folders(system: Any) -> bool:
    """Return whether a file system has folders, which must be made; buckets have names alone."""
    return not set(protocols(system)) & BUCKETS


def protocols(system: Any) -> tuple[str, ...]:
    """Return the names of a file system, which begin its addresses."""
    protocol = system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


@contextmanager
def told_in_one_line(action: str, name: str) -> Iterator[None]:
    """Turn what a file system or a format raises into a `StorageError` about the file.

    Args:
        action: What is done, such as "read".
        name: The file.
    """
    try:
        yield
    except AttnflowError:
        raise
    except Exception as error:  # fsspec has no common base of its file systems' errors
        name = name if name.isprintable() else shown(name, 300)
        raise StorageError(f"cannot {action} {name}: {one_line(error)}.") from error


def one_line(error: BaseException) -> str:
    """Return an error's type and message, without the lines that follow its first."""
    message = " ".join(str(getattr(error, "strerror", None) or error).split())
    name = type(error).__name__
    return f"{name}: {message[:300]}".rstrip(". ") if message else name
