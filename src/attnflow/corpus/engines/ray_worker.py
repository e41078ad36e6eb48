"""The part of the engine of Ray that runs on the cluster: readers and workers.

Messages travel as bytes that Python's pickle makes, as all that Ray itself sends; none is a file.
"""

import pickle
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from attnflow.corpus.chunks import Chunk
from attnflow.corpus.reader import Reader
from attnflow.corpus.store import MANIFEST, Store
from attnflow.corpus.work import Care, Done, Model, Work, Worker
from attnflow.errors import AttnflowError, ModelError, StorageError

COLUMN = "message"  # of the data set
TOGETHER = 2  # attempts at all rows of a chunk at once; then each row is explained by itself
IDLE = 3  # careful attempts that may end before their first row


@dataclass(frozen=True)
class Read:
    """The last message of a reader.

    Attributes:
        unread: Why parts could not be read, by name.
    """

    unread: Mapping[str, str]


@dataclass(frozen=True)
class Failed:
    """An error that ends the run.

    Attributes:
        error: The error.
    """

    error: Exception


Message = Chunk | Read | Failed | Done


def table_of(message: Message) -> pa.Table:
    """Return a message as a block of the data set."""
    return pa.table({COLUMN: pa.array([pickle.dumps(message)], pa.large_binary())})


def message_in(block: Any) -> Message:
    """Return the message of a block."""
    return pickle.loads(block[COLUMN][0].as_py())


def failed(error: Exception) -> Failed:
    """Return an error as a message; ours as they are, of others what Python prints."""
    if isinstance(error, AttnflowError):
        return Failed(error)
    return Failed(RuntimeError(traceback.format_exc()))


def read(reader: Reader) -> Iterator[pa.Table]:
    """Yield a block for each chunk, and at last one about the reader."""
    try:
        yield from map(table_of, reader)
    except Exception as error:
        yield table_of(failed(error))
    yield table_of(Read(reader.unread))


class Actor:
    """A worker in a process of its own.

    What goes wrong is a message: Ray would try an error again, as if a process were lost.
    """

    def __init__(self, model: Model, work: Work, device: str | None, ledger: Any = None) -> None:
        """Load the model.

        Args:
            model: The model.
            work: What is done with each chunk.
            device: The device; None leaves it to the model's options.
            ledger: The actor of a `Ledger`; None for a worker that only describes.
        """
        torch.set_num_threads(1)  # each has one CPU
        self._ledger, self._is_shared = ledger, False
        self._worker: Worker | Failed
        try:
            self._worker = Worker(model.load(device), work)
        except Exception as error:
            self._worker = failed(error)

    def describe(self) -> dict[str, Any] | Failed:
        """Return what `Worker.describe` does."""
        if isinstance(self._worker, Failed):
            return self._worker
        try:
            return self._worker.describe()
        except Exception as error:
            return failed(error)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Explain the chunk of a block; other messages are passed on."""
        message = message_in(block)
        if not isinstance(message, Chunk):
            return block
        if isinstance(self._worker, Failed):
            return table_of(self._worker)
        try:
            return table_of(self._done(self._worker, message))
        except Exception as error:
            return table_of(failed(error))

    def _done(self, worker: Worker, chunk: Chunk) -> Done:
        import ray

        if not self._is_shared:
            _check_shared(worker.store)
            self._is_shared = True
        attempt: Attempt = ray.get(self._ledger.begin.remote(chunk.shard))
        if attempt.is_hopeless:
            raise ModelError(
                f"the workers that explain {chunk.file} (rows from {chunk.start}) die before they "
                "begin: give them nodes with more memory."
            )
        care = None
        if attempt.is_careful:
            note = self._ledger.note.remote
            care = Care(attempt.lost, lambda row: ray.get(note(chunk.shard, row)))
        done = worker.do(chunk, care)
        ray.get(self._ledger.end.remote(chunk.shard))
        return done


def _check_shared(store: Store) -> None:
    if store.read_json(MANIFEST) is None:
        raise StorageError(
            f"a node of the cluster does not see {store.url}/{MANIFEST}: the results must go to a "
            "folder that all nodes share, or to an address such as s3://bucket/folder (out=, "
            "--out)."
        )


@dataclass
class Attempt:
    """An attempt at a chunk.

    Attributes:
        number: Its number, from 1: each but the first follows a lost worker.
        lost: Rows that ended a worker.
        row: The row that is being explained; None before the first, or where all are at once.
        idle: Number of careful attempts that ended before their first row.
    """

    number: int = 0
    lost: frozenset[int] = frozenset()
    row: int | None = None
    idle: int = 0

    @property
    def is_careful(self) -> bool:
        """True where the rows are explained one by one."""
        return self.number > TOGETHER

    @property
    def is_hopeless(self) -> bool:
        """True where workers die, and no row is the reason."""
        return self.idle >= IDLE


class Ledger:
    """The chunks that are being explained: it outlives the workers, and counts how often they die.

    Ray does a call of a lost worker again without end, and knows nothing of rows.
    """

    def __init__(self) -> None:
        self._attempts: dict[str, Attempt] = {}

    def begin(self, shard: str) -> Attempt:
        """Return the next attempt at a chunk."""
        last = self._attempts.get(shard, Attempt())
        idle = last.idle + (last.is_careful and last.row is None)
        lost = last.lost if last.row is None else last.lost | {last.row}
        self._attempts[shard] = Attempt(last.number + 1, lost, None, idle)
        return self._attempts[shard]

    def note(self, shard: str, row: int) -> None:
        """Keep the index of the row that is explained next."""
        if shard in self._attempts:  # another attempt may have ended by now
            self._attempts[shard].row = row

    def end(self, shard: str) -> None:
        """Forget a chunk, which is done."""
        self._attempts.pop(shard, None)
