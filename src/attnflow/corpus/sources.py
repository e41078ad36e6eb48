"""Sources: files, folders, globs and addresses of them, data sets by id, and objects in memory.

A source is a list of parts, in an order that stays: files, or one object. Every part can be read
more than once, row by row.
"""

import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import IO, Any, Protocol

import pyarrow as pa

from attnflow.corpus.formats import (
    COMPRESSED,
    FORMATS,
    ROWS_AT_ONCE,
    BadRow,
    Format,
    Head,
    RawRow,
    arrow_head,
    arrow_rows,
    format_of,
)
from attnflow.corpus.remote import file_system, told_in_one_line
from attnflow.errors import InputError, StorageError, needs, shown

MAGIC = "*?["
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
# What the library datasets writes next to its data; its caches are copies of them.
NO_DATA = re.compile(r"(dataset_infos?|dataset_dict|state)\.json|cache-.*\.arrow")
DICTIONARY = "dataset_dict.json"


class Names(tuple[str, ...]):
    """Names of files, where a list of strings could be texts."""


class Part(Protocol):
    """A part of a source that is read from its first row to its last.

    Attributes:
        name: Its name in results: of a file, its path in the folder that was given.
    """

    @property
    def name(self) -> str: ...

    def head(self) -> Head:
        """Return what it tells before its rows are read.

        Raises:
            StorageError: It cannot be read.
        """

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        """Yield its rows, with these columns at least.

        Raises:
            StorageError: It cannot be read, or not to its end.
        """


@dataclass(frozen=True)
class FilePart:
    """A file of a file system that fsspec knows."""

    name: str
    path: str
    system: Any = field(repr=False)
    format: Format = field(repr=False)

    @property
    def address(self) -> str:
        """The path with the name of the file system."""
        return str(self.system.unstrip_protocol(self.path))

    def head(self) -> Head:
        with self._opened() as file:
            return self.format.head(file)

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        with self._opened() as file:
            yield from self.format.rows(file, columns)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        lower = self.path.lower()
        compression = "infer" if lower.endswith(COMPRESSED) else None
        with told_in_one_line("read", self.path):
            try:
                if lower.endswith(".zst"):
                    # fsspec's needs a package of its own, and ends at the first frame of several.
                    with (
                        self.system.open(self.path, "rb") as raw,
                        pa.CompressedInputStream(raw, "zstd") as stream,
                    ):
                        yield io.BufferedReader(stream)
                else:
                    with self.system.open(self.path, "rb", compression=compression) as file:
                        yield file
            except InputError as error:
                raise StorageError(f"cannot read {self.path}: {error}.") from error


@dataclass(frozen=True)
class ObjectPart:
    """Rows in memory, or of a data set, that can be gone through again.

    Attributes:
        name: Its name in results.
        read: Returns the rows; takes the names of the columns to read.
        told: What is known before that.
    """

    name: str
    read: Callable[[Sequence[str]], Iterable[RawRow]] = field(repr=False)
    told: Head = field(default_factory=Head, repr=False)

    def head(self) -> Head:
        return self.told

    def rows(self, columns: Sequence[str]) -> Iterator[RawRow]:
        with told_in_one_line("read", self.name):
            yield from self.read(columns)


def open_source(source: Any, *, split: str | None = None) -> list[Part]:
    """Return the parts of a source, in order.

    Args:
        source: A file, folder, glob or address such as `s3://bucket/*.parquet`, or several; the id
            of a data set on the hub; or an object: of the library datasets, PyArrow or pandas, or a
            list of dictionaries or texts.
        split: Part of a data set given by id, or by a folder that the library datasets reads;
            "train" when None.

    Raises:
        InputError: There is no file, or a file or an object is of no form that can be read.
        MissingExtraError: A package that reads it is not installed.
        StorageError: It cannot be reached.
    """
    if isinstance(source, str | PathLike):
        return _of_names([_name(source)], split)
    if isinstance(source, Names) or _are_names(source):
        return _of_names([_name(name) for name in source], split)
    if split is not None:
        raise InputError("split= (--split) goes with the id of a data set: leave it out.")
    return [_object_part(source)]


def is_name(item: Any) -> bool:
    """Return whether an item of a list names files, and is no text to explain.

    That is a path; and a string that is an address, ends as a file of data does, or is there.
    """
    if not isinstance(item, str):
        return isinstance(item, PathLike)
    if ADDRESS.fullmatch(item) or format_of(item) is not None:
        return True
    return os.path.exists(item) if item and "\0" not in item else False


def _are_names(source: Any) -> bool:
    """Return whether a source is a list of names.

    Raises:
        InputError: Some of a list with paths are none.
    """
    if not isinstance(source, Sequence) or isinstance(source, bytes) or not source:
        return False
    others = [item for item in source if not is_name(item)]
    if others and any(isinstance(item, PathLike) for item in source):
        raise InputError(
            f"expected the names of files, or texts, got both: {shown(others[0])} is no file."
        )
    return not others


def _name(name: str | PathLike[str]) -> str:
    path = fspath(name)
    if not isinstance(path, str) or not path or "\0" in path:
        raise InputError(f"expected the name of a file, got {shown(path)}.")
    return path


@dataclass(frozen=True)
class _Found:
    """A file that a name stands for.

    Attributes:
        system: Its file system.
        path: Its path there.
        inside: Its path in the folder that was given; of a glob, in the folder before the first
            sign; of a file, its name.
    """

    system: Any
    path: str
    inside: str

    @property
    def address(self) -> str:
        return str(self.system.unstrip_protocol(self.path))


def _of_names(names: Sequence[str], split: str | None) -> list[Part]:
    if split is not None:
        if len(names) > 1 or format_of(names[0]) is not None:
            raise InputError("split= (--split) goes with the id of a data set: leave it out.")
        return [_data_set(names[0], split)]
    files: dict[str, _Found] = {}
    for name in names:
        found = _files(name)
        if found is None and len(names) == 1:
            return [_data_set(name, "train")]
        if not found:
            raise InputError(f"there is no file {shown(name, 300)}: expected {_expected()}.")
        files |= {each.address: each for each in found}
    called = _called(files)
    return [
        FilePart(called[address], each.path, each.system, _known_format(each.path))
        for address, each in files.items()
    ]


def _files(name: str) -> list[_Found] | None:
    """The files that a name stands for, sorted; None where nothing of that name is there."""
    system, path = file_system(name)
    with told_in_one_line("find", name):
        if format_of(path) is not None and system.isfile(path):
            return [_Found(system, path, _inside(path, _parent(path)))]
        if system.isdir(path):
            return _of_folder(system, path, path)
        if system.exists(path):
            _known_format(path)
            raise InputError(
                f"{path} is a device or a pipe: what can be read only once cannot be resumed."
            )
        signs = [path.index(sign) for sign in MAGIC if sign in path]
        if not signs:
            return None
        base = _parent(path[: min(signs)])
        found = []
        for one, info in sorted(system.glob(path, detail=True).items()):
            if _is_hidden(_inside(one, base)):
                continue
            if system.isdir(one):
                found += _of_folder(system, one, base)
            elif format_of(one) is not None and _is_file(system, info):
                found.append(_Found(system, one, _inside(one, base)))
    return found


def _of_folder(system: Any, folder: str, base: str) -> list[_Found]:
    infos = system.find(folder, detail=True)
    inside = {path: _inside(path, folder) for path in sorted(infos)}
    names = {path: name.rpartition("/")[2] for path, name in inside.items()}
    if DICTIONARY in names.values():
        parent = next(_parent(path) for path, name in names.items() if name == DICTIONARY)
        raise InputError(
            f"{parent} is a dictionary of data sets: name the folder of one of them, such as "
            f"{parent}/train."
        )
    found = [
        _Found(system, path, _inside(path, base))
        for path, name in names.items()
        if format_of(path) is not None
        and not _is_hidden(inside[path])
        and not NO_DATA.fullmatch(name)
        and _is_file(system, infos[path])
    ]
    if not found:
        raise InputError(f"{folder} has no file that can be read: expected {_expected()}.")
    return found


def _is_file(system: Any, info: Mapping[str, Any]) -> bool:
    """Return whether this is a file; a link is one too, also where what it leads to is lost."""
    return info["type"] == "file" or bool(info.get("islink")) or system.isfile(info["name"])


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _inside(path: str, folder: str) -> str:
    return path.removeprefix(folder).lstrip("/")


def _is_hidden(inside: str) -> bool:
    return any(part.startswith((".", "_")) for part in inside.split("/"))


def _known_format(path: str) -> Format:
    kind = format_of(path)
    if kind is None:
        raise InputError(f"cannot tell the format of {path}: expected {_expected()}.")
    return kind


def _expected() -> str:
    return f"a file, folder or glob of {', '.join(FORMATS)}, or the id of a data set"


def _called(files: Mapping[str, _Found]) -> dict[str, str]:
    """Names of files in results, by their addresses.

    A name must not change where files are added: it is that inside the folder that was given.
    Where two would have the same, all are named from the folder that they have in common.
    """
    counts = Counter(each.inside for each in files.values())
    if all(count == 1 for count in counts.values()):
        return {address: each.inside for address, each in files.items()}
    parts = [address.split("/") for address in files]
    common = len(os.path.commonprefix([each[:-1] for each in parts]))
    return {address: "/".join(each[common:]) for address, each in zip(files, parts, strict=True)}


def _data_set(name: str, split: str) -> Part:
    """A data set by its id, or a folder as the library datasets reads it."""
    is_folder = os.path.isdir(name)
    is_id = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) and format_of(name) is None
    if not is_folder and not is_id:
        raise InputError(f"there is no file {shown(name, 300)}: expected {_expected()}.")
    with needs(f"{name!r} is no file or folder; an id of a data set needs datasets", "corpus"):
        import datasets
    called = os.path.basename(os.path.abspath(name)) if is_folder else name
    about = "" if is_folder else " (there is no file or folder of that name)"
    with told_in_one_line("read", f"the data set {name}{about}"):
        data = datasets.load_dataset(name, split=split, streaming=True)
    return ObjectPart(f"{called}/{split}", _StreamOf(data), _head_of(data))


def _object_part(source: Any) -> Part:
    module = type(source).__module__.partition(".")[0]
    if module == "datasets" and isinstance(getattr(source, "column_names", None), Mapping):
        splits = ", ".join(map(str, source))
        raise InputError(f"the source is a dictionary of data sets: give one of {splits}.")
    if module == "datasets" and hasattr(source, "select_columns"):
        if isinstance(source, Sized):
            return ObjectPart("dataset", _TablesOf(source), _head_of(source))
        return ObjectPart("dataset", _StreamOf(source), _head_of(source))
    if module == "pyarrow" and hasattr(source, "to_batches"):
        rows = source.count_rows() if hasattr(source, "count_rows") else source.num_rows
        return ObjectPart("table", _BatchesOf(source), arrow_head(source.schema, rows))
    if module == "pandas" and hasattr(source, "itertuples"):
        head = Head([str(name) for name in source.columns], len(source))
        return ObjectPart("frame", _FrameOf(source), head)
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return ObjectPart("list", _ListOf(source))
    raise InputError(
        "the source must be a file, folder, glob or address, the id of a data set, a data set, a "
        f"table, a data frame or a list of dictionaries or texts, got {shown(source)}; what can be "
        "read only once cannot be resumed."
    )


def _head_of(data: Any) -> Head:
    """Return the head of a data set; one that is streamed may not know its columns."""
    features = data.features or {}
    classes = {
        name: list(feature.names)
        for name, feature in features.items()
        if type(feature).__name__ == "ClassLabel"
    }
    names = data.column_names
    return Head(
        None if names is None else list(names),
        len(data) if isinstance(data, Sized) else None,
        classes,
    )


@dataclass(frozen=True)
class _StreamOf:
    """The rows of a data set that is streamed."""

    data: Any

    def __call__(self, columns: Sequence[str]) -> Iterable[RawRow]:
        is_known = self.data.column_names is not None
        return iter(self.data.select_columns(list(columns)) if is_known else self.data)


@dataclass(frozen=True)
class _TablesOf:
    """The rows of a data set of the library datasets, without what its format makes of them."""

    data: Any

    def __call__(self, columns: Sequence[str]) -> Iterator[RawRow]:
        some = self.data.select_columns(list(columns)).with_format("arrow")
        for table in some.iter(ROWS_AT_ONCE):
            yield from arrow_rows(table, columns)


@dataclass(frozen=True)
class _BatchesOf:
    """The rows of an Arrow table or data set."""

    data: Any

    def __call__(self, columns: Sequence[str]) -> Iterator[RawRow]:
        is_table = isinstance(self.data, pa.Table | pa.RecordBatch)
        for batch in self.data.to_batches() if is_table else self.data.to_batches(list(columns)):
            yield from arrow_rows(batch, columns)


@dataclass(frozen=True)
class _FrameOf:
    """The rows of a data frame; a missing value is None, an array a list."""

    data: Any

    def __call__(self, columns: Sequence[str]) -> Iterator[RawRow]:
        some = self.data[[name for name in self.data.columns if str(name) in columns]]
        names = [str(name) for name in some.columns]
        for values in some.itertuples(index=False, name=None):
            yield dict(zip(names, map(_plain, values), strict=True))


def _plain(value: Any) -> Any:
    import pandas

    if hasattr(value, "tolist"):
        return value.tolist()
    return None if pandas.api.types.is_scalar(value) and pandas.isna(value) else value


@dataclass(frozen=True)
class _ListOf:
    """Dictionaries and texts."""

    data: Sequence[Any]

    def __call__(self, columns: Sequence[str]) -> Iterator[RawRow]:
        for row in self.data:
            if isinstance(row, str):
                yield {"text": row}
            elif isinstance(row, Mapping):
                yield row
            else:
                yield BadRow(f"expected a dictionary or a text, got {shown(row)}")
