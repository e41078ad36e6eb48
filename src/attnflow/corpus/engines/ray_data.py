"""The engine of a cluster: Ray Data, with a pool of actors that load the model once each.

Ray Data cannot stream what a driver yields, and a pool of actors lives as long as one of its data
sets. So a whole run is one data set. Its read tasks share the parts of the source, and each is a
stream that stops while what it has read waits for a worker; the driver sees nothing of the source,
only what was done. A row of the data set is a chunk, and each block has one row, so that a chunk is
one call of a worker, as in every other engine. What is lost with a machine is done again: a reader
begins anew, and a shard is there whole or not at all.

Ray starts a worker that dies again, and does its chunks anew. A chunk whose workers died twice is
explained row by row, and a row that ends the worker then has failed (`ray_worker`).
"""

import math
from collections.abc import Iterator
from typing import Any

from attnflow.corpus.engines.ray_connection import connect, disconnect, quiet
from attnflow.corpus.engines.ray_worker import Actor, Failed, Ledger, Read, message_in, read
from attnflow.corpus.reader import Reader
from attnflow.corpus.remote import one_line
from attnflow.corpus.work import Done, Model, Work, bytes_of_process
from attnflow.errors import InputError, ModelError, StorageError, needs, shown, warn

READERS = 4  # that read at the same time, each for hundreds of workers
READ_TASKS = 64  # at most; one that is lost begins anew
AHEAD = 2  # chunks that a worker has at once, so that it does not wait for the next
PATIENCE = 60.0  # seconds until it is said that the cluster has no place for a worker


class RayData:
    """Actors of a Ray cluster, or of one that is started on this machine."""

    def __init__(self, model: Model, work: Work, *, workers: int | None, gpus: float) -> None:
        """Connect to Ray, or start it.

        Args:
            model: The model.
            work: What is done with each chunk.
            workers: Number of actors at most; None takes as many as the cluster has place for.
            gpus: GPUs of each actor, also a part of one.

        Raises:
            InputError: An argument is invalid, or Ray cannot be reached.
            MissingExtraError: Ray is not installed.
        """
        if workers == 0:
            raise InputError("workers (--workers) must be at least 1 with engine='ray', got 0.")
        _check_gpus(gpus)
        with needs("engine='ray' (--engine ray) needs Ray", "ray"):
            import ray.data  # noqa: F401
        self._model, self._work, self._workers = model, work, workers
        self._device = "cuda" if gpus else None
        self._resources: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpus or None}
        self._blocks: Any = None
        with quiet():
            self._is_ours = connect()

    def describe(self) -> dict[str, Any]:
        """Return what `Worker.describe` does, and ask for its memory from now on.

        Raises:
            AttnflowError: The model cannot be loaded or explained.
        """
        import ray

        with quiet():
            kind = ray.remote(Actor).options(**self._resources)
            actor = kind.remote(self._model, self._work, self._device)
            try:
                _wait(answer := actor.describe.remote(), self._resources)
                found = ray.get(answer)
            except ray.exceptions.RayActorError as error:
                raise ModelError(
                    "the worker that loads the model died, most likely for want of memory."
                ) from error
            finally:
                ray.kill(actor)
        if isinstance(found, Failed):
            raise found.error
        self._resources["memory"] = bytes_of_process(found["bytes"])
        return dict(found)

    def run(self, chunks: Reader) -> Iterator[Done]:
        """Yield each chunk when it is done.

        Raises:
            AttnflowError: Something fails that is no text's own fault.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        ledger = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote()
        try:
            with quiet():
                data = self._data_set(chunks, ledger)
                self._blocks = iter(
                    data.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0)
                )
                for message in map(message_in, self._blocks):
                    if isinstance(message, Failed):
                        raise message.error
                    if isinstance(message, Read):
                        chunks.unread.update(message.unread)
                    elif isinstance(message, Done):
                        yield message
        except ray.exceptions.RayError as error:
            raise StorageError(
                f"Ray has given up: {one_line(error)}. The same call goes on where it stopped."
            ) from error

    def _data_set(self, chunks: Reader, ledger: Any) -> Any:
        import ray.data

        readers = chunks.shared(READ_TASKS)
        context = ray.data.DataContext.get_current().copy()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.target_max_block_size = 1  # byte: every row becomes a block once it is read
        with ray.data.DataContext.current(context):
            source = ray.data.read_datasource(
                _source(readers, chunks.is_here),
                num_cpus=0,  # another number than the workers', or Ray makes them one task
                concurrency=min(READERS, len(readers)),
                override_num_blocks=len(readers),
            )
            return source.map_batches(
                Actor,
                batch_size=1,
                batch_format="pyarrow",
                fn_constructor_args=(self._model, self._work, self._device, ledger),
                compute=ray.data.ActorPoolStrategy(
                    min_size=1, max_size=self._workers, max_tasks_in_flight_per_actor=AHEAD
                ),
                **self._resources,
            )

    def close(self) -> None:
        """End the workers, and a cluster that was started here."""
        if self._blocks is not None:  # or its thread would connect to Ray again
            with quiet():
                self._blocks.close()
        if self._is_ours:
            disconnect()


def _source(readers: list[Reader], is_here: bool) -> Any:
    """The source of the data set: a read task for each reader."""
    import ray
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
    tasks = []
    for reader in readers:
        # A reader may hold a whole list of texts, which a task refers to and does not hold.
        held = ray.put(reader)
        tasks.append(ReadTask(lambda held=held: read(ray.get(held)), unknown))

    class Source(Datasource):  # type: ignore[misc]
        def get_name(self) -> str:
            return "Corpus"

        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
            return tasks

        @property
        def supports_distributed_reads(self) -> bool:
            return not is_here

    return Source()


def _wait(answer: Any, resources: dict[str, Any]) -> None:
    """Wait for the first worker; where that takes long, say what it waits for."""
    import ray

    if not ray.wait([answer], timeout=PATIENCE)[0]:
        asked = f"{resources['num_cpus']} CPU, {resources['num_gpus'] or 0} GPU"
        warn(
            f"after {PATIENCE:.0f} seconds no worker has loaded the model: the cluster may have no "
            f"free node for it ({asked}; it has {_shown_resources()}). Waiting."
        )


def _shown_resources() -> str:
    import ray

    found = ray.cluster_resources()
    return f"{found.get('CPU', 0):g} CPU, {found.get('GPU', 0):g} GPU"


def _check_gpus(gpus: Any) -> None:
    is_number = isinstance(gpus, int | float) and not isinstance(gpus, bool)
    if not is_number or not (math.isfinite(gpus) and gpus >= 0 and (gpus < 1 or gpus % 1 == 0)):
        raise InputError(
            "gpus (--gpus) must be a number of whole GPUs, or a part of one such as 0.5, got "
            f"{shown(gpus)}."
        )
