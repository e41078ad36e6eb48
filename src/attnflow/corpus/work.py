"""The work of a run on one chunk: explain its rows, write its shard.

Every engine does this and nothing else with a chunk, so that results do not depend on the engine.
"""

import io
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from attnflow.corpus.chunks import Chunk
from attnflow.corpus.columns import Columns, SourceRow, question
from attnflow.corpus.fingerprint import LIBRARIES, describe_model
from attnflow.corpus.result_rows import result_row
from attnflow.corpus.schema import result_schema
from attnflow.corpus.store import SHARDS, Store
from attnflow.errors import AttnflowError, InputError, shown
from attnflow.explainer.each import Outcome, Question, explain_each
from attnflow.explainer.explainer import Explainer
from attnflow.explainer.options import CallOptions
from attnflow.explainer.targets.decision import TargetOptions
from attnflow.inputs.given import Given
from attnflow.models.load_options import LoadOptions
from attnflow.models.tasks import explained_task
from attnflow.solver import maximum_flow
from attnflow.versions import installed_version

LOG = logging.getLogger(__name__)
READING = ("pair", "continuation", "truncate", "bos")
DECISION = ("target", "against", "position")
SPARE = 1 << 30  # bytes that a process of its own takes besides its model
LOST = "the process that explained this text died, most likely for want of memory"


@dataclass(frozen=True)
class Model:
    """A model by name, for processes that load it themselves.

    Attributes:
        name: Folder, GGUF file or hub id.
        options: Keywords of `Explainer.from_pretrained`.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def named(cls, name: Any, options: Mapping[str, Any] | None) -> "Model":
        """Return a model by its name, with its options checked.

        Args:
            name: Folder, GGUF file or hub id.
            options: Keywords of `Explainer.from_pretrained`; None for none.

        Raises:
            InputError: It is no name, or an option is invalid.
        """
        if not isinstance(name, str | Path):
            raise InputError(f"expected an Explainer or the name of a model, got {shown(name)}.")
        model = cls(str(name), dict(options or {}))
        model.check()
        return model

    def load(self, device: str | None = None) -> Explainer:
        """Load it, on another device than its options say where one is given.

        Raises:
            InputError, ModelError, MissingExtraError: As `Explainer.from_pretrained`.
        """
        options = dict(self.options) | ({} if device is None else {"device": device})
        return Explainer.from_pretrained(self.name, **options)

    def check(self) -> None:
        """Check the options, before anything is loaded.

        Raises:
            InputError: An option is invalid.
        """
        known = {*LoadOptions.__dataclass_fields__, "pooling"}
        unknown = [name for name in self.options if name not in known]
        if unknown:
            raise InputError(
                f"loading has no option {shown(unknown[0])}: expected some of {sorted(known)}."
            )
        LoadOptions(**{k: v for k, v in self.options.items() if k != "pooling"})


def bytes_of_process(weights: int) -> int:
    """Return the bytes that a worker process takes at least, for a model of so many bytes."""
    return 2 * weights + SPARE


@dataclass(frozen=True)
class Work:
    """The options of all chunks; they can be sent to other processes.

    Attributes:
        url: The folder of the results.
        columns: Which column of the source is what.
        options: The options of the explanations.
        given: Those that concern reading: `pair`, `continuation`, `truncate`, `bos`.
        explained: What is explained of every row.
        retry_failed: Explain failed rows of shards that are there again.
    """

    url: str
    columns: Columns
    options: CallOptions
    given: Mapping[str, Any]
    explained: TargetOptions
    retry_failed: bool = False


def work_of(
    columns: Columns, options: Mapping[str, Any], *, url: str = "", retry_failed: bool = False
) -> Work:
    """Return the work that keywords of `Explainer.__call__` ask for.

    Args:
        columns: Which column of the source is what.
        options: The keywords, the same for all texts.
        url: The folder of the results, where they go to one.
        retry_failed: Explain failed rows again.

    Raises:
        InputError: There is no such option for a corpus, or a value cannot be used.
    """
    given = {name: options[name] for name in READING if name in options}
    decision = {name: options[name] for name in DECISION if name in options}
    rest = {k: v for k, v in options.items() if k not in (*READING, *DECISION)}
    for name in ("pair", "target", "continuation"):
        if getattr(columns, name) is not None and options.get(name) is not None:
            raise InputError(
                f"{name} is the column {shown(getattr(columns, name))}: leave out {name}=."
            )
    if callable(decision.get("target")):
        raise InputError("a target that is a function cannot be explained over a corpus.")
    for name, value in {**given, **decision}.items():
        if isinstance(value, list | tuple):
            raise InputError(f"{name} is one for all texts, got {shown(value)}; use a column.")
    unknown = [name for name in rest if name not in CallOptions.__dataclass_fields__]
    if unknown or "edges" in rest:
        named = unknown[0] if unknown else "edges"
        raise InputError(f"a corpus has no option {named}: see explain_corpus.")
    checked = Given(**given)
    # Defaults as well, so that a run is the same whether they were given or not.
    given = {name: getattr(checked, name) for name in READING}
    return Work(url, columns, CallOptions(**rest), given, TargetOptions(**decision), retry_failed)


@dataclass(frozen=True)
class Done:
    """A chunk that is done.

    Attributes:
        shard: The name of its shard.
        rows: Number of its rows.
        failed: Those of them without a result.
        explained: Those that were explained now, not by a run before.
        seconds: What that took.
        refusal: The error of all rows, where every one failed in the same way by its explanation.
        warnings: What was to be said about the model.
        example: A row that failed, with its error; None where none did.
    """

    shard: str
    rows: int
    failed: int
    explained: int = 0
    seconds: float = 0.0
    refusal: str | None = None
    warnings: tuple[str, ...] = ()
    example: str | None = None


@dataclass(frozen=True)
class Care:
    """The way a chunk is explained that ended its process before: row by row.

    Attributes:
        lost: Indices of the rows that ended a process.
        begin: Called with the index of each row before it is explained.
    """

    lost: frozenset[int]
    begin: Callable[[int], object]


class Worker:
    """Explains chunks with a loaded model."""

    def __init__(self, explainer: Explainer, work: Work) -> None:
        self.explainer, self.work = explainer, work
        self.schema = result_schema(work.columns.keep)
        self._versions = ", ".join(f"{name} {installed_version(name)}" for name in LIBRARIES)

    @cached_property
    def store(self) -> Store:
        """The folder of the results."""
        return Store(self.work.url)

    def describe(self) -> dict[str, Any]:
        """Return what identifies the model, the bytes of its weights, and names of classes.

        Raises:
            ModelError: The model cannot be explained, or told from others.
            InputError: An option does not suit it.
        """
        self.explainer.begin_call(self.work.options, self.work.explained.target)
        # A first solve compiles the solver where that was not done before: here, by one process,
        # while the others have not begun.
        maximum_flow(torch.ones(1, 2, 3, 3, dtype=torch.float64))
        weights = self.explainer.model.state_dict().values()
        size = sum(getattr(value, "nbytes", 0) for value in weights)
        labels = self.explainer.labels if _decides_on_classes(self.explainer) else ()
        return {"model": describe_model(self.explainer), "bytes": size, "labels": labels}

    def do(self, chunk: Chunk, care: Care | None = None) -> Done:
        """Explain the rows of a chunk and write its shard, unless it is there.

        Raises:
            StorageError: The shard cannot be written.
            ModelError: The model cannot be explained.
        """
        before = self._before(chunk)
        if before is not None:
            return self._done_before(chunk, before, care)
        rows, found = self.explained(chunk, chunk.rows, care)
        self._write(chunk, rows)
        return found

    def _before(self, chunk: Chunk) -> pa.Table | None:
        """The shard of a chunk; None where there is none, or one that is not whole.

        Such a shard is written anew, since all that makes it is there: its rows and the model.
        """
        if not self.store.has_shard(chunk.shard):
            return None
        table = self.store.read_shard(chunk.shard)
        is_whole = (
            table is not None
            and table.schema.names == self.schema.names
            and table.column("id").to_pylist() == [row.id for row in chunk.rows]
        )
        if not is_whole:
            LOG.warning("%s is damaged: explained anew.", self.store.shard_path(chunk.shard))
        return table if is_whole else None

    def _done_before(self, chunk: Chunk, table: pa.Table, care: Care | None) -> Done:
        errors = table.column("error").to_pylist()
        failed = [i for i, error in enumerate(errors) if error is not None]
        if not self.work.retry_failed or not failed:
            example = _example(table.select(["id", "error"]).to_pylist())
            return Done(chunk.shard, len(errors), len(failed), example=example)
        some, found = self.explained(chunk, [chunk.rows[i] for i in failed], care)
        rows = table.to_pylist()
        for i, row in zip(failed, some, strict=True):
            rows[i] = row
        self._write(chunk, rows)
        return replace(found, rows=len(rows))

    def explained(
        self, chunk: Chunk, rows: Sequence[SourceRow], care: Care | None = None
    ) -> tuple[list[dict[str, Any]], Done]:
        """Return the rows of results, and what is to be said of them.

        Args:
            chunk: The chunk.
            rows: Those of its rows that are explained.
            care: The way they are, where they ended a process before.

        Raises:
            ModelError: The model cannot be explained.
        """
        begin = time.perf_counter()
        outcomes, asked = self._outcomes(rows, care)
        seconds = time.perf_counter() - begin
        found = []
        weights = [_weight(outcome) for outcome in outcomes]
        for row, outcome, weight in zip(rows, outcomes, weights, strict=True):
            part = seconds * weight / sum(weights)
            found.append(self._row(chunk, row, outcome, part))
        failed = [row["error"] for row in found if row["error"] is not None]
        refused = len(failed) == asked == len(rows) > 1 and len(set(failed)) == 1
        refusal = failed[0] if refused else None
        warned = dict.fromkeys(said for outcome in outcomes for said in outcome.model_warnings)
        counts = (len(rows), len(failed), len(rows), seconds)
        return found, Done(chunk.shard, *counts, refusal, tuple(warned), _example(found))

    def _row(
        self, chunk: Chunk, row: SourceRow, outcome: Outcome, seconds: float
    ) -> dict[str, Any]:
        told: dict[str, Any] = {"file": chunk.file, "versions": self._versions, "seconds": seconds}
        try:
            return result_row(row, outcome, columns=self.work.columns, **told)
        except AttnflowError as error:  # the column of segments is read with the result
            outcome.fail(error)
            return result_row(row, outcome, columns=self.work.columns, **told)

    def _outcomes(self, rows: Sequence[SourceRow], care: Care | None) -> tuple[list[Outcome], int]:
        """Return the outcome of each row, and how many of them could be asked."""
        outcomes = [Outcome() for _ in rows]
        questions: dict[int, Question] = {}
        for i, (row, outcome) in enumerate(zip(rows, outcomes, strict=True)):
            try:
                questions[i] = question(
                    row, self.work.columns, self.work.given, self.work.explained
                )
            except AttnflowError as error:
                outcome.fail(error)
        groups = [list(questions)] if care is None else [[i] for i in questions]
        for group in filter(None, groups):
            if care is not None and rows[group[0]].row in care.lost:
                outcomes[group[0]].fail(MemoryError(LOST))
                continue
            if care is not None:
                care.begin(rows[group[0]].row)
            asked = [questions[i] for i in group]
            found = explain_each(self.explainer, asked, self.work.options)
            for i, outcome in zip(group, found, strict=True):
                outcomes[i] = outcome
        return outcomes, len(questions)

    def _write(self, chunk: Chunk, rows: Sequence[Mapping[str, Any]]) -> None:
        table = pa.Table.from_pylist(list(rows), schema=self.schema)
        self.store.write(f"{SHARDS}/{chunk.shard}", shard_bytes(table))


def _example(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The id and the error of the first row that failed."""
    failed = (f"{row['id']}: {row['error']}" for row in rows if row["error"] is not None)
    return next(failed, None)


def _decides_on_classes(explainer: Explainer) -> bool:
    return explained_task(explainer.model).output_kind == "class"


def shard_bytes(table: pa.Table) -> bytes:
    """Return a table as a Parquet file: one row group, zstd, dictionaries for names."""
    content = io.BytesIO()
    dictionaries = [f.name for f in table.schema if pa.types.is_dictionary(f.type)]
    pq.write_table(
        table,
        content,
        compression="zstd",
        use_dictionary=dictionaries,
        write_page_checksum=True,
        row_group_size=max(1, table.num_rows),
    )
    return content.getvalue()


def _weight(outcome: Outcome) -> int:
    """A text's part of the work, by the number of its tokens."""
    return 1 if outcome.attribution is None else len(outcome.attribution)
