"""The survey of a source before anything is explained: its rows counted, its ids compared.

Memory stays flat: ids are hashed into files of a temporary folder, each of which is compared by
itself.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
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
        rows: Number of rows of each part that could be read, by its name.
        unread: Why a part cannot be read, by its name.
    """

    rows: dict[str, int] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The number of rows of all parts."""
        return sum(self.rows.values())


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
    try:
        with ExitStack() as stack:
            ids = None if columns.id is None else _Ids(stack)
            for part in parts:
                try:
                    found.rows[part.name] = _count(part, columns, ids)
                except StorageError as error:
                    found.unread[part.name] = str(error)
            repeated = set() if ids is None else ids.repeated()
    except OSError as error:  # of the temporary folder; a part's is a StorageError
        raise StorageError(
            f"cannot compare the ids in {tempfile.gettempdir()}: {error.strerror or error}. Name "
            "another folder in TMPDIR."
        ) from error
    if repeated:
        raise _repetition(parts, columns, repeated)
    if found.unread and not found.rows:
        raise StorageError(next(iter(found.unread.values())))
    if found.total == 0:
        raise InputError("the source has no rows: there is nothing to explain.")
    return found


def _count(part: Part, columns: Columns, ids: "_Ids | None") -> int:
    """The number of rows of a part, whose columns are checked and whose ids are noted."""
    head = part.head()
    if head.columns is not None:
        columns.check(head.columns, part.name)
        if ids is None and head.rows is not None:
            return head.rows
    name, count = columns.id, 0
    missing, first = set(columns.read), None
    for raw in part.rows([columns.text] if name is None else [name]):
        if ids is not None:
            told = raw.values if isinstance(raw, BadRow) else raw
            ids.add(id_of(part.name, count, told, name))
        if head.columns is None and not isinstance(raw, BadRow):
            missing.difference_update(raw)
            first = raw if first is None else first
        count += 1
    if head.columns is None and first is not None and missing:
        columns.check(list(first), part.name)
    return count


class _Ids:
    """The hashes of ids, in files of a temporary folder by their first byte."""

    def __init__(self, stack: ExitStack) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attnflow-ids-")))
        self._paths = [folder / f"{number}" for number in range(BUCKETS)]
        self._files: list[IO[bytes]] = [
            stack.enter_context(open(path, "wb")) for path in self._paths
        ]

    def add(self, id: str) -> None:
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
    return hashlib.blake2b(id.encode("utf-8"), digest_size=HASH).digest()


def _repetition(parts: Iterable[Part], columns: Columns, repeated: set[bytes]) -> InputError:
    """The error about an id that repeats, with the two places where it stands first."""
    name = str(columns.id)
    seen: dict[str, str] = {}
    for part in parts:
        with suppress(StorageError):  # the survey has noted it
            for number, raw in enumerate(part.rows([name])):
                told = raw.values if isinstance(raw, BadRow) else raw
                id = id_of(part.name, number, told, name)
                if hash_of(id) not in repeated:
                    continue
                place = f"{part.name}, row {number}"
                if id in seen:
                    return InputError(
                        f"id {shown(id)} repeats: {seen[id]} and {place}. Ids must differ; leave "
                        "the id column out (id_column=, --id) to number the rows by file."
                    )
                seen[id] = place
    return InputError(f"the ids of column {shown(name)} repeat.")
