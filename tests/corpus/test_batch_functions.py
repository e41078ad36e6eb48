"""The function of pipelines that are not ours: datasets, Ray Data and Spark's frames."""

import logging
import pickle
import re
import sys

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from attnflow import InputError
from attnflow.corpus import batch_functions
from attnflow.corpus.batch_functions import CorpusFunction
from attnflow.corpus.schema import COLUMNS

BATCH = {
    "key": ["a", "b", "c", "d"],
    "text": ["the film is good", "", "a smart dog!", None],
    "gold": ["positive", "negative", "neutral", "neutral"],
    "lang": ["en", "en", None, "de"],
}
NAMES = dict(id_column="key", label_column="gold", keep_columns=["lang"])


@pytest.fixture
def function(explainer):
    return CorpusFunction(explainer, **NAMES)


def without_seconds(columns):
    rows = pa.table(columns).to_pylist() if isinstance(columns, dict) else columns
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_columns_of_results_with_errors_as_rows(function, explainer):
    found = function(BATCH)
    assert list(found) == [name for name, _, _ in COLUMNS] + ["source_lang"]
    assert found["id"] == BATCH["key"] and found["true_label"] == BATCH["gold"]
    assert [error is None for error in found["error"]] == [True, False, True, False]
    assert found["file"] == found["row"] == [None] * 4
    assert found["source_lang"] == BATCH["lang"]
    for i in (0, 2):
        alone = explainer(BATCH["text"][i])
        assert found["tokens"][i] == list(alone.tokens)
        assert found["contributions"][i] == pytest.approx(alone.contributions, abs=1e-5)


@pytest.mark.parametrize("form", ("arrays", "table", "frame"))
def test_all_forms_of_a_batch_have_the_same_results(function, form):
    expected = without_seconds(function(BATCH))
    arrays = {name: np.array(values, dtype=object) for name, values in BATCH.items()}
    batch = {"arrays": arrays, "table": pa.table(BATCH), "frame": pd.DataFrame(BATCH)}[form]
    found = function(batch)
    if form == "table":
        assert found.schema == function.schema
        found = found.to_pylist()
    elif form == "frame":
        found = pa.Table.from_pandas(found, schema=function.schema).to_pylist()
    assert without_seconds(found) == expected


def test_ids_are_made_of_what_a_row_holds(explainer):
    function = CorpusFunction(explainer)
    one = function({"text": ["bad", "good", "bad"]})["id"]
    assert one[0] == one[2] != one[1] and function({"text": ["good"]})["id"] == one[1:2]


def test_long_batches_are_explained_in_parts(function, monkeypatch):
    expected = without_seconds(function(BATCH))
    monkeypatch.setattr(batch_functions, "TOGETHER", 3)
    found = without_seconds(function(BATCH))
    assert [row["id"] for row in found] == BATCH["key"]
    assert found[0]["tokens"] == expected[0]["tokens"] and found[3] == expected[3]


def test_a_name_is_loaded_once_in_a_process(folder, monkeypatch):
    monkeypatch.setattr(batch_functions, "_loaded", {})
    function = pickle.loads(pickle.dumps(CorpusFunction(folder, **NAMES)))
    again = pickle.loads(pickle.dumps(CorpusFunction(folder, **NAMES)))
    assert function(BATCH)["tokens"] == again(BATCH)["tokens"]
    assert len(batch_functions._loaded) == 1
    assert len(pickle.dumps(function)) < 5_000


def test_datasets_map(function):
    data = datasets.Dataset.from_dict(BATCH)
    mapped = data.map(
        function,
        batched=True,
        batch_size=2,
        remove_columns=data.column_names,
        features=datasets.Features.from_arrow_schema(function.schema),
    )
    assert without_seconds(mapped.to_list())[0]["tokens"] == function(BATCH)["tokens"][0]
    assert mapped["id"][:] == BATCH["key"] and mapped["error"][0] is None


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")  # Ray's
def test_ray_data_map_batches(folder):
    import ray

    function = CorpusFunction(folder, **NAMES)
    expected = without_seconds(function(BATCH))
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        data = ray.data.from_arrow(pa.table(BATCH))
        by_task = data.map_batches(function, batch_format="pyarrow").take_all()
        by_actor = data.map_batches(
            CorpusFunction,
            fn_constructor_args=(str(folder),),
            fn_constructor_kwargs=NAMES,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=1),
        ).take_all()
        by_arrays = data.map_batches(function, batch_format="numpy").take_all()
    finally:
        ray.shutdown()
    for found in (by_task, by_actor):
        assert without_seconds(found) == expected
    assert [row["label"] for row in by_arrays] == [row["label"] for row in expected]
    assert [list(row["tokens"] or ()) for row in by_arrays] == [
        row["tokens"] or [] for row in expected
    ]


def test_spark_frames_one_after_the_other(function):
    """The frames come as Spark makes them, and what is yielded is turned into its schema."""
    frames = iter([pd.DataFrame(BATCH)[:3], pd.DataFrame(BATCH)[3:], pd.DataFrame(BATCH)[:0]])
    running = function.on_frames(frames)
    first = next(running)
    assert len(first) == 3 and next(frames)["key"].tolist() == ["d"], "one at a time"
    (last,) = running
    assert len(last) == 0 and list(last.columns) == function.schema.names
    table = pa.Table.from_pandas(first, schema=function.schema, preserve_index=False)
    assert without_seconds(table.to_pylist()) == without_seconds(function(BATCH))[:3]


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")  # Spark's
def test_spark_map_in_pandas(folder, monkeypatch):
    """Runs where Java and PySpark are installed; no extra brings them."""
    sql = pytest.importorskip("pyspark.sql")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    function = CorpusFunction(folder, **NAMES)
    builder = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    spark = builder.getOrCreate()
    try:
        rows = list(zip(*BATCH.values(), strict=True))
        data = spark.createDataFrame(rows, "key string, text string, gold string, lang string")
        found = data.mapInPandas(function.on_frames, schema=function.spark_schema).collect()
    finally:
        spark.stop()
    found = [row.asDict(recursive=True) for row in found]
    expected = without_seconds(function(BATCH))
    assert [row["error"] for row in found] == [row["error"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row["tokens"] == other["tokens"] and row["label"] == other["label"]
        assert (row["certificate"] or {}).keys() == (other["certificate"] or {}).keys()


def test_the_schema_for_spark_names_every_column(function):
    found = re.findall(r"(?:^|, )`(\w+)` ", function.spark_schema)
    assert found == function.schema.names
    assert "`tokens` array<string>" in function.spark_schema
    assert "`segments` array<struct<`name`: string, `start`: int" in function.spark_schema


@pytest.mark.parametrize(
    "arguments, message",
    (
        (dict(explainer=3), "expected an Explainer or the name of a model, got 3"),
        (dict(keep_columns="lang"), "keep_columns must be a list"),
        (dict(text_column=None), "there is no column of texts"),
        (dict(nothing=1), "no option nothing"),
        (dict(target_column="gold", target="positive"), "target is the column 'gold'"),
        (dict(target=["a", "b"]), "one for all texts"),
    ),
)
def test_arguments_that_are_refused(explainer, arguments, message):
    with pytest.raises(InputError, match=message):
        CorpusFunction(**{"explainer": explainer, **arguments})


def test_batches_that_are_refused(function):
    with pytest.raises(InputError, match="the batch has no column 'key'"):
        function({"text": ["a"]})
    with pytest.raises(InputError, match="a batch must be a dictionary"):
        function(["a"])
    with pytest.raises(InputError, match="leave out loading"):
        CorpusFunction(function._explainer, loading={"device": "cpu"})
