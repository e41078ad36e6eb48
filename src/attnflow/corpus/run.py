"""Explanations of a corpus: from a source to a folder of shards, once each, whatever happens.

1. **Source** - files, data sets or objects become parts (`sources`), which are surveyed: columns,
   ids, number of rows (`survey`).
2. **Engine** - this process, worker processes or a cluster; one of its workers describes the model
   (`engines`).
3. **Fingerprint** - all that changes results is compared with the folder's manifest
   (`fingerprint`, `store`).
4. **Chunks** - the rows of each part, so many at a time; those whose shard is there are done
   (`reader`, `chunks`).
5. **Work** - a worker explains the rows of a chunk and writes its shard, whole or not at all
   (`work`). A text that fails is a row with its error.

Nothing but the folder tells what is done: the same call goes on after any interruption.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnflow.checks import check_count, check_name, check_switch
from attnflow.corpus.columns import Columns
from attnflow.corpus.engines import Engine
from attnflow.corpus.engines.in_process import InProcess
from attnflow.corpus.engines.processes import Processes
from attnflow.corpus.fingerprint import check_same, fingerprint_of
from attnflow.corpus.reader import Reader, by_place, check_parts
from attnflow.corpus.sources import FilePart, Part, open_source
from attnflow.corpus.store import MANIFEST, UNREAD, Store
from attnflow.corpus.survey import survey
from attnflow.corpus.work import DECISION, Done, Model, Work, work_of
from attnflow.errors import InputError, ModelWarning, StorageError, shown, warn
from attnflow.explainer.explainer import Explainer
from attnflow.explainer.options import check_progress
from attnflow.explainer.targets.decision import TargetOptions
from attnflow.models.embedded import EMBEDDED_MODEL
from attnflow.progress import bar

SHARD_ROWS = 256
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class CorpusRun:
    """The state of a run when it ends.

    Attributes:
        folder: The folder of the results.
        rows: Rows of results in it, of this run and those before.
        failed: Those of them without a result.
        explained: Rows that this run explained.
        seconds: Seconds that its workers took for them, added up.
        unread: Why parts of the source could not be read, or not to their end, by name.
        example: The id and the error of a row that failed; None where none did.
    """

    folder: str
    rows: int
    failed: int
    explained: int
    seconds: float
    unread: Mapping[str, str] = field(default_factory=dict)
    example: str | None = None

    @property
    def is_complete(self) -> bool:
        """True where every row of the source has a result."""
        return not self.failed and not self.unread

    def __str__(self) -> str:
        parts = [f"{self.rows} texts in {self.folder}"]
        if self.failed:
            parts.append(f"{self.failed} of them failed")
        if self.unread:
            parts.append(f"{len(self.unread)} parts of the source could not be read")
        return ", ".join(parts)


def explain_corpus(
    source: Any,
    explainer: Explainer | str | Path = EMBEDDED_MODEL,
    *,
    out: str | Path,
    text_column: str = "text",
    id_column: str | None = None,
    pair_column: str | None = None,
    target_column: str | None = None,
    continuation_column: str | None = None,
    label_column: str | None = None,
    segments_column: str | None = None,
    keep_columns: Sequence[str] = (),
    chats: bool = False,
    split: str | None = None,
    shard_rows: int = SHARD_ROWS,
    engine: str = "local",
    workers: int | None = None,
    gpus: float = 0,
    loading: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    wait: bool = False,
    progress: bool | None = None,
    **options: Any,
) -> CorpusRun:
    """Explain every text of a source, and write a row for each into a folder of Parquet files.

    The call goes on where an interrupted one stopped: nothing is lost, and nothing explained twice.
    A text that cannot be explained becomes a row with its error.

    Args:
        source: A file, folder, glob or address such as `s3://bucket/*.parquet`, or several; the id
            of a data set on the hub; or an object: of the library datasets, PyArrow or pandas, or a
            list of dictionaries or texts.
        explainer: An explainer, which works in this process; or the name of a model, which worker
            processes load.
        out: The folder of the results, or its address. Another run's is refused.
        text_column: Name of the column of texts, or of chats.
        id_column: Name of the column of ids; None numbers the rows by file.
        pair_column: Name of the column of second texts, for models that read two.
        target_column: Name of the column of what to explain.
        continuation_column: Name of the column of what a language model's prompts go on with. Each
            continuation is explained as a whole.
        label_column: Name of the column of true labels, for the report.
        segments_column: Name of the column of a text's parts: a list of strings in their order, or
            of objects with `name` and `text`, or `name`, `start` and `end`.
        keep_columns: Names of further columns to copy into the results.
        chats: True where the texts are chats, as lists of messages or as JSON of them. Lists are
            chats without it too; JSON is a text like any other.
        split: Part of a data set given by id; "train" when None.
        shard_rows: Rows of a shard: what an interruption costs at most for each worker.
        engine: "local", or "ray" for a cluster (extra `ray`).
        workers: Number of worker processes; None takes one for each device, or for each CPU as far
            as memory goes, and 0 works in this process. With Ray the most workers.
        gpus: With Ray, GPUs of each worker.
        loading: With a model's name, keywords of `Explainer.from_pretrained`.
        retry_failed: Explain the rows that failed again.
        wait: Wait until another run into the same folder is done, instead of an error.
        progress: True shows a bar after two seconds, False never; None shows it in terminals and
            notebooks.
        options: Keywords of `Explainer.__call__`, the same for all texts: `tensor`, `target`,
            `truncate`, `batch_size` ... A `continuation` is explained as a whole.

    Returns:
        How many rows there are, and how many failed.

    Raises:
        InputError: An argument is invalid, a column is missing, ids repeat, or the folder holds
            results of another run.
        StorageError: The source cannot be read, or the folder cannot be written.
        ModelError: The model cannot be loaded or explained.
        MissingExtraError: A package is not installed (extras `corpus`, `ray`, `s3`).
    """
    columns = Columns(
        text=text_column,
        id=id_column,
        pair=pair_column,
        target=target_column,
        continuation=continuation_column,
        label=label_column,
        segments=segments_column,
        keep=keep_columns,
        chats=chats,
    )
    check_count("shard_rows", shard_rows)
    check_switch("retry_failed", retry_failed)
    check_switch("wait", wait)
    check_progress(progress)
    work = work_of(columns, options, url=str(out), retry_failed=retry_failed)
    _check_engine(engine, explainer, workers, gpus, loading)
    store = Store(str(out))
    if store.is_of_one_process and not isinstance(explainer, Explainer) and workers != 0:
        raise InputError(
            f"{store.url} is in the memory of this process, where workers cannot write: give "
            "workers=0 (--workers 0), or another folder."
        )
    parts = _besides(store, open_source(source, split=split))
    found = survey(parts, columns)
    store.make()
    with store.writing(wait=wait):
        store.remove_unfinished()
        with closing(_engine(engine, explainer, work, workers, gpus, loading)) as running:
            described = running.describe()
            reading = {**work.given, **_decision(work.explained)}
            now = fingerprint_of(described["model"], columns, work.options, reading, shard_rows)
            is_new = _begin(store, now, described["labels"])
            before, unread = store.shards(), dict(found.unread)
            check_parts(before, found, store)
            chunks = Reader(parts, columns, shard_rows, store.url, by_place(before), unread)
            run = _Run(store, unread, is_new)
            with bar(found.total, unit="text", show=progress) as advance:
                for done in running.run(chunks):
                    advance(done.rows)
                    if not run.take(done):
                        break
        return run.ended()


def _besides(store: Store, parts: Sequence[Part]) -> list[Part]:
    """The parts that are no results of this very run, whose folder may be in that of the source."""
    kept = [
        part for part in parts if not isinstance(part, FilePart) or not store.holds(part.address)
    ]
    if not kept:
        raise InputError(f"the source has nothing but the results in {store.url}.")
    return kept


def _decision(explained: TargetOptions) -> dict[str, Any]:
    return {name: getattr(explained, name) for name in DECISION}


def _check_engine(
    engine: Any, explainer: Any, workers: Any, gpus: Any, loading: Mapping[str, Any] | None
) -> None:
    """Check the arguments of the engine, before the source is read."""
    check_name("engine", engine, ENGINES)
    is_count = isinstance(workers, int) and not isinstance(workers, bool) and workers >= 0
    if workers is not None and not is_count:
        raise InputError(f"workers must be an integer of at least 0, got {shown(workers)}.")
    if gpus and engine != "ray":
        raise InputError("gpus= (--gpus) goes with engine='ray'; locally say device='cuda'.")
    if isinstance(explainer, Explainer):
        if engine != "local" or workers or loading:
            raise InputError(
                "an Explainer works in this process: leave out engine, workers and loading, or "
                "give the name of its model for other processes."
            )
    else:
        Model.named(explainer, loading)


def _engine(
    engine: str,
    explainer: Explainer | str | Path,
    work: Work,
    workers: int | None,
    gpus: float,
    loading: Mapping[str, Any] | None,
) -> Engine:
    if isinstance(explainer, Explainer):
        return InProcess(explainer, work)
    model = Model.named(explainer, loading)
    if engine == "ray":
        from attnflow.corpus.engines.ray_data import RayData

        return RayData(model, work, workers=workers, gpus=gpus)
    if workers == 0:
        return InProcess(model.load(), work)
    return Processes(model, work, workers=workers)


def _begin(store: Store, now: Mapping[str, Any], labels: Sequence[str]) -> bool:
    """Write the manifest of a new run, or check that of an old one; return whether it is new."""
    manifest = store.read_json(MANIFEST)
    if manifest is None:
        if store.shards():
            raise InputError(
                f"{store.url} has shards and no {MANIFEST}, so that it cannot be told which run "
                "they are of: name another folder."
            )
        store.write_json(MANIFEST, {"fingerprint": dict(now), "labels": list(labels)})
        return True
    if not isinstance(manifest, dict):
        raise StorageError(f"{store.url}/{MANIFEST} is damaged: expected an object.")
    check_same(manifest.get("fingerprint"), now, store.url)
    return False


class _Run:
    """A run while it goes on: what was done with its chunks, added up."""

    def __init__(self, store: Store, unread: Mapping[str, str], is_new: bool) -> None:
        self._store, self._unread, self._is_new = store, unread, is_new
        self._refusal: str | None = None
        self._rows = self._failed = self._explained = 0
        self._seconds = 0.0
        self._warned: set[str] = set()
        self._example: str | None = None

    def take(self, done: Done) -> bool:
        """Count what was done; return whether to go on.

        A new run does not, whose first chunk failed as a whole by one error of all texts.
        """
        self._rows += done.rows
        self._failed += done.failed
        self._explained += done.explained
        self._seconds += done.seconds
        self._example = self._example or done.example
        for said in done.warnings:
            if said not in self._warned:
                self._warned.add(said)
                warn(said, ModelWarning)
        if self._is_new and done.refusal is not None and self._failed == self._rows:
            self._refusal = done.refusal
        return self._refusal is None

    def ended(self) -> CorpusRun:
        """Return what there is now, with the parts that could not be read also in a file.

        Raises:
            InputError: The run did not go on; the folder is as empty as before.
        """
        if self._refusal is not None:
            for name in self._store.shards():
                self._store.remove_shard(name)
            self._store.remove(MANIFEST)
            raise InputError(f"every text of the first shard failed: {self._refusal}")
        if self._unread:
            self._store.write_json(UNREAD, dict(self._unread))
        elif self._store.read_json(UNREAD) is not None:
            self._store.remove(UNREAD)  # of a run before: what it names has been read now
        return CorpusRun(
            self._store.url,
            self._rows,
            self._failed,
            self._explained,
            self._seconds,
            dict(self._unread),
            self._example,
        )
