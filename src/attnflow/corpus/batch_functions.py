"""Batches of a pipeline that is not ours: the function that its `map` calls.

It gives the columns of a corpus's results, a text that fails as a row with its error, to Ray Data
(`map_batches`), the library datasets (`map`) and Spark (`mapInPandas`).
"""

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from attnflow.corpus.chunks import Chunk, source_row
from attnflow.corpus.columns import Columns, SourceRow
from attnflow.corpus.formats import Head, RawRow
from attnflow.corpus.schema import result_schema
from attnflow.corpus.sources import open_source
from attnflow.corpus.work import Model, Worker, work_of
from attnflow.errors import InputError, needs, shown
from attnflow.explainer.explainer import Explainer
from attnflow.models.embedded import EMBEDDED_MODEL

BATCH = "batch"  # the name of a batch in errors
TOGETHER = 256  # rows that are explained together, however long a batch is

# The models that functions of this process have loaded, by name and options.
_loaded: dict[str, Explainer] = {}
_loading = threading.Lock()


class CorpusFunction:
    """Explains batches of columns, and returns the columns of a corpus's results.

    Called with a dictionary of columns (lists or arrays) it returns one, of lists; with an Arrow
    table or a pandas frame it returns such. The results have the schema of a corpus's, without
    dictionaries, with null in `file` and `row`, which a batch does not know.

    With the name of a model it can be sent to other processes, each of which loads the model once.

    Attributes:
        columns: Which column is what.
    """

    def __init__(
        self,
        explainer: Explainer | str | Path = EMBEDDED_MODEL,
        text_column: str = "text",
        *,
        id_column: str | None = None,
        pair_column: str | None = None,
        target_column: str | None = None,
        continuation_column: str | None = None,
        label_column: str | None = None,
        segments_column: str | None = None,
        keep_columns: Sequence[str] = (),
        loading: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Take a model and what to do with it; nothing is loaded.

        Args:
            explainer: An explainer, or the name of a model.
            text_column: Name of the column of texts, or of chats.
            id_column: Name of the column of ids; None makes them of what a row holds, so that equal
                rows have equal ids.
            pair_column: Name of the column of second texts, for models that read two.
            target_column: Name of the column of what to explain.
            continuation_column: Name of the column of what a language model's prompts go on with.
            label_column: Name of the column of true labels.
            segments_column: Name of the column of a text's parts.
            keep_columns: Names of further columns to copy into the results, as `source_...`.
            loading: With a model's name, keywords of `Explainer.from_pretrained`.
            options: Keywords of `Explainer.__call__`, the same for all texts.

        Raises:
            InputError: An argument is invalid. A call raises it where a batch lacks a column.
        """
        self.columns = Columns(
            text=text_column,
            id=id_column,
            pair=pair_column,
            target=target_column,
            continuation=continuation_column,
            label=label_column,
            segments=segments_column,
            keep=keep_columns,
        )
        self._work = work_of(self.columns, options)
        if isinstance(explainer, Explainer) and loading:
            raise InputError("an Explainer is loaded: leave out loading, or name its model.")
        self._explainer = (
            explainer if isinstance(explainer, Explainer) else Model.named(explainer, loading)
        )

    @property
    def schema(self) -> pa.Schema:
        """The schema of the results, for PyArrow and `datasets.Features.from_arrow_schema`."""
        fields = result_schema(self.columns.keep)
        return pa.schema([pa.field(f.name, _without_dictionary(f.type)) for f in fields])

    @property
    def spark_schema(self) -> str:
        """The schema of the results as Spark's `mapInPandas` takes it."""
        return ", ".join(f"`{_quoted(f.name)}` {_spark_type(f.type)}" for f in self.schema)

    def __call__(self, batch: Any) -> Any:
        """Explain the texts of a batch.

        Raises:
            InputError: The batch is of another kind, or lacks a column.
            ModelError: The model cannot be loaded or explained.
        """
        rows = self._rows(batch)
        found = [
            each
            for start in range(0, len(rows), TOGETHER)
            for each in self._explained(rows[start : start + TOGETHER])
        ]
        table = pa.Table.from_pylist(found, schema=self.schema)
        if isinstance(batch, Mapping):
            return table.to_pydict()
        return table if isinstance(batch, pa.Table) else _frame(table)

    def on_frames(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Explain pandas frames one after the other, as Spark's `mapInPandas` hands them over."""
        yield from map(self, frames)

    def _rows(self, batch: Any) -> list[SourceRow]:
        names, raw = _raw_rows(batch)
        self.columns.check(names, "the batch")
        return [self._row(number, row) for number, row in enumerate(raw)]

    def _row(self, number: int, raw: RawRow) -> SourceRow:
        if isinstance(raw, Mapping):
            raw = {name: _plain(raw.get(name)) for name in self.columns.read}
        row = source_row(BATCH, Head(), self.columns, number, raw)
        if self.columns.id is not None:
            return row
        return replace(row, id=_digest(row.values))

    def _explained(self, rows: Sequence[SourceRow]) -> list[dict[str, Any]]:
        found, _ = self._worker().explained(Chunk(BATCH, 0, tuple(rows), ""), rows)
        return [{**row, "file": None, "row": None} for row in found]

    def _worker(self) -> Worker:
        model = self._explainer
        if isinstance(model, Explainer):
            return Worker(model, self._work)
        key = json.dumps([model.name, model.options], sort_keys=True, default=repr)
        with _loading:
            if key not in _loaded:
                _loaded[key] = model.load()
        return Worker(_loaded[key], self._work)


def _raw_rows(batch: Any) -> tuple[list[str], Iterable[RawRow]]:
    """The names of a batch's columns, and its rows."""
    if isinstance(batch, Mapping):
        names = list(batch)
        return names, [
            dict(zip(names, row, strict=True)) for row in zip(*batch.values(), strict=True)
        ]
    kind = type(batch).__module__.partition(".")[0]
    if isinstance(batch, pa.Table) or (kind == "pandas" and hasattr(batch, "itertuples")):
        (part,) = open_source(batch)
        names = part.head().columns or []
        return names, part.rows(names)
    raise InputError(
        "a batch must be a dictionary of columns, an Arrow table or a pandas frame, got "
        f"{shown(batch)}."
    )


def _plain(value: Any) -> Any:
    """A value as Python has it, of an array or a scalar of numpy."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _digest(values: Mapping[str, Any]) -> str:
    whole = json.dumps(dict(values), sort_keys=True, default=str)
    return hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _frame(table: pa.Table) -> Any:
    """A table as a pandas frame of Python's objects: numbers with nulls would become floats."""
    with needs("frames need pandas", "pandas"):
        import pandas
    return pandas.DataFrame(
        {name: pandas.Series(values, dtype=object) for name, values in table.to_pydict().items()}
    )


def _without_dictionary(kind: pa.DataType) -> pa.DataType:
    # Neither datasets nor Spark has columns of dictionaries.
    return kind.value_type if pa.types.is_dictionary(kind) else kind


SPARK_TYPES = {
    pa.string(): "string",
    pa.bool_(): "boolean",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
}


def _spark_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"array<{_spark_type(kind.value_type)}>"
    if pa.types.is_struct(kind):
        fields = (f"`{_quoted(f.name)}`: {_spark_type(f.type)}" for f in kind)
        return f"struct<{', '.join(fields)}>"
    return SPARK_TYPES[kind]


def _quoted(name: str) -> str:
    return name.replace("`", "``")
