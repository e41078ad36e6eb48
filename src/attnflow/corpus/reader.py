"""The chunks of a source that a run goes through: all of its parts in turn, or shared out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from attnflow.corpus.chunks import (
    Chunk,
    chunks_of,
    is_longer,
    label_and_start,
    label_of,
    place_of,
)
from attnflow.corpus.columns import Columns
from attnflow.corpus.remote import is_local
from attnflow.corpus.sources import FilePart, Part
from attnflow.corpus.store import Store
from attnflow.corpus.survey import Survey
from attnflow.errors import InputError, StorageError, shown


@dataclass(frozen=True)
class Reader:
    """Reads parts into chunks, from the first part again each time; it can be sent to others.

    Attributes:
        parts: The parts.
        columns: Which columns are read.
        size: Rows of a chunk.
        url: The folder of the results.
        before: Names of the shards that were there when the run began, by the label of their part
            and by their place.
        unread: Why parts could not be read, or not to their end, by name; those of a part that
            breaks off are added.
    """

    parts: Sequence[Part]
    columns: Columns
    size: int
    url: str
    before: Mapping[str, Mapping[str, str]]
    unread: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks; a part that breaks off is noted, and the next one read.

        Raises:
            InputError: Rows have changed since a run before explained them.
            StorageError: The folder of the results cannot be read or written.
        """
        store = Store(self.url)
        for part in self.parts:
            if part.name in self.unread:
                continue
            known = self.before.get(label_of(part.name), {})
            for chunk in self._chunks(part):
                _check_unchanged(chunk, known.get(chunk.place), store)
                yield chunk

    def _chunks(self, part: Part) -> Iterator[Chunk]:
        # Around the part alone: what the folder of the results raises ends the run.
        try:
            yield from chunks_of(part, self.columns, self.size)
        except StorageError as error:
            self.unread[part.name] = str(error)

    @property
    def is_here(self) -> bool:
        """True where a part is a local file or an object, which other machines may not have."""
        return any(not isinstance(part, FilePart) or is_local(part.system) for part in self.parts)

    def shared(self, most: int) -> list["Reader"]:
        """Return readers of consecutive parts, so many at most, which have all chunks together."""
        parts = [part for part in self.parts if part.name not in self.unread]
        count = max(1, min(most, len(parts)))
        bounds = [len(parts) * i // count for i in range(count + 1)]
        return [self._of(parts[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]

    def _of(self, parts: Sequence[Part]) -> "Reader":
        labels = (label_of(part.name) for part in parts)
        known = {label: self.before[label] for label in labels if label in self.before}
        return Reader(parts, self.columns, self.size, self.url, known)


def by_place(shards: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return names of shards by the label of their part and by their place."""
    found: dict[str, dict[str, str]] = {}
    for name in shards:
        found.setdefault(label_and_start(name)[0], {})[place_of(name)] = name
    return found


def check_parts(shards: Sequence[str], found: Survey, store: Store) -> None:
    """Check that a source still has all rows that a run before explained.

    Args:
        shards: The shards of that run.
        found: The source as it is now.
        store: The folder of the results.

    Raises:
        InputError: It lacks a part, or has fewer rows of one.
    """
    names = {label_of(name): name for name in (*found.rows, *found.unread)}
    for shard in shards:
        label, start = label_and_start(shard)
        name = names.get(label)
        if name is None:
            table = store.read_shard(shard)
            file = shard if table is None else str(table.column("file")[0])
            raise InputError(
                f"{store.url} has results of {shown(file, 300)}, which the source no longer has: "
                "bring it back under that name, or name another folder."
            )
        if start >= found.rows.get(name, start + 1):
            raise _changed(name, start, store)


def _changed(part: str, start: int, store: Store) -> InputError:
    return InputError(
        f"{part} has changed since {store.url} was begun (rows from {start}): name another folder."
    )


def _check_unchanged(chunk: Chunk, known: str | None, store: Store) -> None:
    if known is None or known == chunk.shard:
        return
    if not store.has_shard(known):  # removed by a reader of these rows that was lost afterwards
        return
    # The last chunk of a file that has grown is explained anew.
    if is_longer(chunk, known, store.rows_of(known)):
        store.remove_shard(known)
        return
    raise _changed(chunk.file, chunk.start, store)
