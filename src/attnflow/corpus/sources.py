"""Sources: files, folders, globs and addresses of them, data sets by id, and objects in memory.

A source is a list of parts, in an order that stays: files, or one object. Every part can be read
more than once, row by row.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import PurePosixPath
from typing import Any, Protocol

from attnflow.corpus.formats import (
    COMPRESSED,
    FORMATS,
    ROWS_AT_ONCE,
    BadRow,
    Format,
    RawRow,
    format_of,
)
from attnflow.corpus.remote import file_system, told_in_one_line
from attnflow.errors import InputError, MissingExtraError, StorageError, needs, shown

MAGIC = "*?["


class Part(Protocol):
    """A part of a source that is read from its first row to its last.

    Attributes:
        name: Its name in results: of a file, its path from the folder that all have in common.
    """

    @property
    def name(self) -> str: ...

    def columns(self) -> list[str] | None:
        """Return the names of its columns; None where rows may differ.

        Raises:
            StorageError: It cannot be read.
        """

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        """Yield its rows, with these columns at least.

        Raises:
            StorageError: It cannot be read, or not to its end.
        """

    def count(self) -> int | None:
        """Return the number of its rows, where that is known without reading them.

        Raises:
            StorageError: It cannot be read.
        """


@dataclass(frozen=True)
class FilePart:
    """A file of a file system that fsspec knows."""

    name: str
    path: str
    system: Any = field(repr=False)
    format: Format = field(repr=False)

    def columns(self) -> list[str] | None:
        with told_in_one_line("read", self.path), self._open() as file:
            return self.format.columns(file)

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        with told_in_one_line("read", self.path), self._open() as file:
            yield from self.format.rows(file, columns)

    def count(self) -> int | None:
        if self.format.count is None:
            return None
        with told_in_one_line("read", self.path), self._open() as file:
            return self.format.count(file)

    def _open(self) -> Any:
        compression = "infer" if self.path.lower().endswith(COMPRESSED) else None
        return self.system.open(self.path, "rb", compression=compression)


@dataclass(frozen=True)
class ObjectPart:
    """Rows in memory, or of a data set: an iterable of dictionaries that can be gone through again.

    Attributes:
        name: Its name in results.
        data: The rows.
        named: The names of its columns; None where rows may differ.
    """

    name: str
    data: Iterable[Any] = field(repr=False)
    named: list[str] | None = None

    def columns(self) -> list[str] | None:
        return self.named

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        with told_in_one_line("read", self.name):
            for row in self.data:
                yield row if isinstance(row, Mapping) else _of_text(row)

    def count(self) -> int | None:
        return len(self.data) if isinstance(self.data, Sized) else None


def _of_text(row: Any) -> RawRow:
    if isinstance(row, str):
        return {"text": row}
    return BadRow(f"expected a dictionary or a text, got {shown(row)}")


def open_source(source: Any, *, split: str | None = None) -> list[Part]:
    """Return the parts of a source, in order.

    Args:
        source: A file, folder, glob or address such as `s3://bucket/*.parquet`, or several; the id
            of a data set on the hub; or an object: of the library datasets, PyArrow or pandas, or a
            list of dictionaries or texts.
        split: Part of a data set given by id; "train" when None.

    Raises:
        InputError: There is no file, or a file or an object is of no form that can be read.
        MissingExtraError: A package that reads it is not installed.
        StorageError: It cannot be reached.
    """
    if isinstance(source, str | PathLike):
        return _opened([fspath(source)], split)
    is_names = isinstance(source, Sequence) and bool(source) and all(map(_is_name, source))
    if is_names:
        return _opened([fspath(name) for name in source], split)
    if split is not None:
        raise InputError("split= (--split) goes with the id of a data set: leave it out.")
    return [_object_part(source)]


def _is_name(item: Any) -> bool:
    """Return whether an item of a list names a file, and is no text to explain."""
    if isinstance(item, PathLike):
        return True
    return isinstance(item, str) and (format_of(item) is not None or "://" in item)


def _opened(names: Sequence[str], split: str | None) -> list[Part]:
    files: dict[str, tuple[Any, Format]] = {}
    for name in names:
        found = _files(name)
        if found is None and len(names) == 1:
            return [_from_hub(name, split)]
        if not found:
            raise InputError(f"there is no file {shown(name)}: expected {_expected()}.")
        files |= found
    if split is not None:
        raise InputError("split= (--split) goes with the id of a data set: leave it out.")
    names_in = _short_names(list(files))
    return [FilePart(names_in[path], path, system, kind) for path, (system, kind) in files.items()]


def _files(name: str) -> dict[str, tuple[Any, Format]] | None:
    """The files that a name stands for, sorted; None where nothing of that name is there."""
    system, path = file_system(name)
    with told_in_one_line("find", name):
        if any(sign in path for sign in MAGIC):
            found = [one for one in system.glob(path) if format_of(one) is not None]
        elif system.isdir(path):
            found = [one for one in system.find(path) if _is_data(one, path)]
            if not found:
                raise InputError(f"{name} has no file that can be read: expected {_expected()}.")
        elif system.exists(path):
            found = [path]
        else:
            return None
    return {one: (system, _known_format(one)) for one in sorted(found)}


def _is_data(path: str, folder: str) -> bool:
    """Return whether a file of a folder is one of its data, and none that is hidden."""
    inside = path.removeprefix(folder).split("/")
    return format_of(path) is not None and not any(part.startswith((".", "_")) for part in inside)


def _known_format(path: str) -> Format:
    kind = format_of(path)
    if kind is None:
        raise InputError(f"cannot tell the format of {path}: expected {_expected()}.")
    return kind


def _expected() -> str:
    return f"a file, folder or glob of {', '.join(FORMATS)}, or the id of a data set"


def _short_names(paths: Sequence[str]) -> dict[str, str]:
    """Names of files from the folder that all have in common."""
    parts = [PurePosixPath(path).parts for path in paths]
    common = 0
    while all(len(each) > common + 1 and each[common] == parts[0][common] for each in parts):
        common += 1
    return {path: "/".join(each[common:]) or path for path, each in zip(paths, parts, strict=True)}


def _from_hub(name: str, split: str | None) -> Part:
    if "://" in name or name.startswith((".", "/", "~")) or format_of(name) is not None:
        raise StorageError(f"there is no file or folder {name}: expected {_expected()}.")
    with needs(f"{name!r} is no file or folder; an id of a data set needs datasets", "corpus"):
        import datasets
    try:
        data = datasets.load_dataset(name, split=split or "train", streaming=True)
    except MissingExtraError:
        raise
    except Exception as error:  # of the hub, of a reader, of a network
        with told_in_one_line("read", f"the data set {name}"):
            raise error
    return ObjectPart(name, data, data.column_names)


def _object_part(source: Any) -> Part:
    module = type(source).__module__.partition(".")[0]
    if module == "datasets" and isinstance(getattr(source, "column_names", None), list):
        return ObjectPart("dataset", source, list(source.column_names))
    if module == "pyarrow" and hasattr(source, "to_batches"):
        return ObjectPart("table", _Batches(source), list(source.schema.names))
    if module == "pandas" and hasattr(source, "itertuples"):
        return ObjectPart("frame", _Frame(source), [str(name) for name in source.columns])
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return ObjectPart("list", source)
    raise InputError(
        "the source must be a file, folder, glob or address, the id of a data set, a data set, a "
        f"table, a data frame or a list of dictionaries or texts, got {shown(source)}; what can be "
        "read only once cannot be resumed."
    )


@dataclass(frozen=True)
class _Batches:
    """The rows of an Arrow table or data set."""

    data: Any

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for batch in self.data.to_batches():
            for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                yield from batch.slice(start, ROWS_AT_ONCE).to_pylist()

    def __len__(self) -> int:
        return int(self.data.count_rows() if hasattr(self.data, "count_rows") else len(self.data))


@dataclass(frozen=True)
class _Frame:
    """The rows of a data frame; a missing value is None."""

    data: Any

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        import pandas

        names = [str(name) for name in self.data.columns]
        for values in self.data.itertuples(index=False, name=None):
            yield {
                name: None if pandas.api.types.is_scalar(value) and pandas.isna(value) else value
                for name, value in zip(names, values, strict=True)
            }

    def __len__(self) -> int:
        return len(self.data)
