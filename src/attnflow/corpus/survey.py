"""The survey of a source before anything is explained: its rows counted, its ids compared.

Memory stays flat: ids are hashed into files of a temporary folder, each of which is compared by
itself.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from attnflow.corpus.chunks import id_of
from attnflow.corpus.columns import Columns
from attnflow.corpus.formats import BadRow
from attnflow.corpus.sources import Part
from attnflow.errors import InputError, StorageError, shown

BUCKETS = 64
HASH = 16  # bytes of an id's hash: two of a billion ids are equal once in 10^20 corpora


@dataclass
class Survey:
    """A source as it is before a run.

    Attributes:
        rows: Number of its rows, of the parts that could be read.
        unread: Why a part cannot be read, by its name.
    """

    rows: int = 0
    unread: dict[str, str] = field(default_factory=dict)


def survey(parts: Sequence[Part], columns: Columns) -> Survey:
    """Count the rows of a source, and check its columns and ids.

    Args:
        parts: The parts of the source.
        columns: Which columns are read.

    Raises:
        InputError: A part lacks a column, an id repeats, or there is no row.
        StorageError: No part can be read, or the temporary folder cannot be written.
    """
    found = Survey()
    with tempfile.TemporaryDirectory(prefix="attnflow-ids-") as folder, ExitStack() as stack:
        ids = _Ids(Path(folder), stack) if columns.id is not None else None
        for part in parts:
            try:
                named = part.columns()
                if named is not None:
                    columns.check(named, part.name)
                found.rows += _count(part, columns, ids)
            except StorageError as error:
                found.unread[part.name] = str(error)
        if ids is not None:
            repeated = ids.repeated()
            if repeated:
                raise _repetition(parts, columns, repeated)
    if found.unread and len(found.unread) == len(parts):
        raise StorageError(next(iter(found.unread.values())))
    if found.rows == 0:
        raise InputError("the source has no rows: there is nothing to explain.")
    return found


def _count(part: Part, columns: Columns, ids: "_Ids | None") -> int:
    known = part.count()
    if ids is None and known is not None:
        return known
    name, rows = columns.id, 0
    for raw in part.rows([] if name is None else [name]):
        rows += 1
        if ids is not None and name is not None and not isinstance(raw, BadRow):
            ids.add(id_of(raw, name))
    return rows


class _Ids:
    """The hashes of ids, in files by their first byte."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._paths = [folder / f"{number}" for number in range(BUCKETS)]
        self._files: list[IO[bytes]] = [
            stack.enter_context(open(path, "wb")) for path in self._paths
        ]

    def add(self, id: str | None) -> None:
        if id is not None:
            hashed = hash_of(id)
            self._files[hashed[0] % BUCKETS].write(hashed)

    def repeated(self) -> set[bytes]:
        """Return some hashes that several ids have."""
        for file in self._files:
            file.flush()
        for path in self._paths:
            hashes = np.fromfile(path, dtype=f"S{HASH}")
            values, counts = np.unique(hashes, return_counts=True)
            if (counts > 1).any():
                return {bytes(value).ljust(HASH, b"\0") for value in values[counts > 1]}
        return set()


def hash_of(id: str) -> bytes:
    """Return the hash of an id."""
    return hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=HASH).digest()


def _repetition(parts: Iterable[Part], columns: Columns, repeated: set[bytes]) -> InputError:
    """The error about an id that repeats, with the two places where it stands first."""
    name = str(columns.id)
    seen: dict[str, str] = {}
    for part in parts:
        for number, raw in enumerate(part.rows([name])):
            id = None if isinstance(raw, BadRow) else id_of(raw, name)
            if id is None or hash_of(id) not in repeated:
                continue
            place = f"{part.name}, row {number}"
            if id in seen:
                return InputError(
                    f"id {shown(id)} repeats: {seen[id]} and {place}. Ids must differ; leave the "
                    "id column out (id_column=, --id) to number the rows by file."
                )
            seen[id] = place
    return InputError(f"the ids of column {shown(name)} repeat.")
