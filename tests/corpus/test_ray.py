"""Corpora on a cluster of Ray of this machine, workers that are killed, and rows that kill."""

import logging
import os
import signal
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from attnflow import InputError, ModelError, StorageError
from attnflow.corpus.columns import Columns
from attnflow.corpus.engines import ray_data
from attnflow.corpus.engines.ray_data import RayData
from attnflow.corpus.reader import Reader, by_place
from attnflow.corpus.run import explain_corpus
from attnflow.corpus.sources import open_source
from attnflow.corpus.store import MANIFEST, Store
from attnflow.corpus.work import LOST, Model, Work
from attnflow.explainer.options import CallOptions
from attnflow.explainer.targets.decision import TargetOptions
from attnflow.progress import heard_by

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    # Ray's own: files and sockets of its processes, and names that it will rename.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]
WORDS = "the film is not good bad very dull smart dog cute it was never but".split()
CORPUS = [
    {"id": f"{i:02}", "text": " ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 4 + i % 7))}
    for i in range(60)
]
COLUMNS = Columns(id="id")
DIES = "dull dull dull"


@pytest.fixture(scope="module")
def cluster():
    """A head and a second node, each with a CPU and a process of its own that schedules."""
    import ray
    from ray.cluster_utils import Cluster

    # The workers' standard error is in Ray's files, and only there.
    logging.getLogger("ray").setLevel(logging.ERROR)
    nodes = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 10**8},
    )
    nodes.add_node(num_cpus=1, object_store_memory=10**8)
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = nodes.address
    yield nodes
    os.environ.pop("RAY_ADDRESS")
    if before is not None:
        os.environ["RAY_ADDRESS"] = before
    ray.shutdown()
    nodes.shutdown()


def processes_of(cluster, title):
    """Ids of the processes of this cluster's tasks or actors with such a title."""
    found = []
    for node in cluster.list_all_nodes():
        for raylet in node.all_processes["raylet"]:
            pid = raylet.process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            found += [int(c) for c in children if title in title_of(c)]
    return found


def title_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""


def rows_in(folder):
    """All rows of a folder by id, without what differs by run."""
    tables = [pq.read_table(file) for file in sorted((Path(folder) / "shards").iterdir())]
    rows = [row for table in tables for row in table.to_pylist()]
    assert all(row.pop("seconds") is not None for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def explain(source, model, out, **options):
    return explain_corpus(source, str(model), out=out, id_column="id", shard_rows=4, **options)


@pytest.fixture(scope="module")
def expected(folder, tmp_path_factory):
    """The rows that the corpus has without Ray."""
    out = tmp_path_factory.mktemp("local")
    explain(CORPUS, folder, out, workers=0)
    return rows_in(out)


def test_a_killed_worker_changes_no_row(cluster, folder, tmp_path, expected):
    killed, seen = [], []

    def kill(done, total, unit):
        seen.append(done)
        if not killed and done >= 8:
            killed.extend(processes_of(cluster, "MapWorker")[:1])
            os.kill(killed[0], signal.SIGKILL)

    with heard_by(kill):
        run = explain(CORPUS, folder, tmp_path / "out", engine="ray", workers=2)
    assert killed and seen[-1] == 60 > seen[2]
    assert run.rows == 60 and run.is_complete
    assert rows_in(tmp_path / "out") == expected
    again = explain(CORPUS, folder, tmp_path / "out", engine="ray", workers=2)
    assert again.rows == 60 and again.explained == 0


def test_files_are_read_by_several_readers(cluster, folder, tmp_path, expected):
    import pyarrow as pa

    for i in range(3):
        pq.write_table(
            pa.Table.from_pylist(CORPUS[i * 20 : i * 20 + 20]), tmp_path / f"{i}.parquet"
        )
    (tmp_path / "3.parquet").write_bytes(b"PAR1 and then nothing")
    run = explain(tmp_path / "*.parquet", folder, tmp_path / "out", engine="ray", workers=2)
    assert run.rows == 60 and list(run.unread) == ["3.parquet"]
    told = ("file", "row")
    found = rows_in(tmp_path / "out")
    assert found.keys() == expected.keys()
    for id, row in found.items():
        assert {k: v for k, v in row.items() if k not in told} == {
            k: v for k, v in expected[id].items() if k not in told
        }


class Fragile(Model):
    """A model whose process dies at a text."""

    def load(self, device=None):
        import os
        import signal

        from attnflow.corpus import work

        explain_each = work.explain_each

        def fatal(explainer, questions, options):
            if any(question.given.texts == DIES for question in questions):
                os.kill(os.getpid(), signal.SIGKILL)
            return explain_each(explainer, questions, options)

        work.explain_each = fatal
        return super().load(device)


def work_in(folder):
    return Work(str(folder), COLUMNS, CallOptions(), {}, TargetOptions())


def reader_of(rows, url, size=4):
    return Reader(open_source(rows), COLUMNS, size, str(url), by_place(Store(str(url)).shards()))


def test_a_row_that_kills_its_worker_fails_alone(cluster, folder, tmp_path, expected):
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    rows = [*CORPUS[:9], {"id": "fatal", "text": DIES}, *CORPUS[9:12]]
    store = Store(str(tmp_path))
    store.make()
    store.write_json(MANIFEST, {})
    engine = RayData(Fragile(str(folder)), work_in(tmp_path), workers=2, gpus=0)
    try:
        assert engine.describe()["bytes"] > 0
        done = list(engine.run(reader_of(rows, tmp_path)))
    finally:
        engine.close()
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert sum(one.rows for one in done) == 13 and sum(one.failed for one in done) == 1
    found = rows_in(tmp_path)
    assert found["fatal"]["error"] == LOST
    assert all(row["error"] is None for id, row in found.items() if id != "fatal")
    for id in ("00", "07", "11"):
        assert found[id]["contributions"] == pytest.approx(expected[id]["contributions"], rel=1e-5)


def test_an_error_of_a_worker_is_the_error_of_the_run(cluster, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_data, "PATIENCE", 0.01)
    work = work_in(tmp_path)
    engine = RayData(Model(str(tmp_path / "nothing")), work, workers=1, gpus=0)
    try:
        waits = pytest.warns(UserWarning, match="no worker has loaded the model: .* it has 2 CPU")
        with waits, pytest.raises(InputError, match="nothing"):
            engine.describe()
    finally:
        engine.close()
    engine = RayData(Model(str(folder)), work, workers=1, gpus=0)
    try:
        # the folder has no manifest, as one that another node has for itself
        with pytest.raises(StorageError, match="all nodes share"):
            list(engine.run(reader_of(CORPUS, tmp_path)))
    finally:
        engine.close()


def test_rows_that_changed_are_refused(cluster, folder, tmp_path):
    explain(CORPUS[:8], folder, tmp_path, engine="ray", workers=1)
    changed = [{**CORPUS[0], "text": "good"}, *CORPUS[1:8]]
    with pytest.raises(InputError, match="has changed since"):
        explain(changed, folder, tmp_path, engine="ray", workers=1)


def test_a_source_is_not_read_ahead_of_the_workers(cluster, folder, tmp_path):
    """The whole source is far longer than what is read when the first chunks are done."""
    path = tmp_path / "read"
    store = Store(str(tmp_path))
    store.make()
    store.write_json(MANIFEST, {})
    part = Counted(str(path))
    reader = Reader([part], COLUMNS, 4, str(tmp_path), {})
    engine = RayData(Model(str(folder)), work_in(tmp_path), workers=1, gpus=0)
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        running = engine.run(reader)
        for _ in range(5):
            next(running)
        read = 4 * path.stat().st_size
        running.close()
    finally:
        engine.close()
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert 20 <= read < Counted.rows_in_all / 10


class Counted:
    """A part that writes a character for every four rows that are read."""

    name = "counted"
    rows_in_all = 40_000

    def __init__(self, path):
        self.path = path

    def rows(self, columns):
        for i in range(self.rows_in_all):
            if i % 4 == 0:
                with open(self.path, "a") as file:
                    file.write(".")
            yield {"id": str(i), "text": "a smart dog " + "not good " * (i % 3)}


def test_a_killed_reader_begins_anew(cluster, folder, tmp_path):
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    store = Store(str(tmp_path))
    store.make()
    store.write_json(MANIFEST, {})
    begun = tmp_path / "begun"
    reader = Reader([Slow(str(begun))], COLUMNS, 4, str(tmp_path), {})
    engine = RayData(Model(str(folder)), work_in(tmp_path), workers=None, gpus=0)
    try:
        running = engine.run(reader)
        done = [next(running)]
        (pid,) = processes_of(cluster, "ReadCorpus")
        os.kill(pid, signal.SIGKILL)
        done += running
    finally:
        engine.close()
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert begun.stat().st_size == 2, "it was read twice"
    assert len({one.shard for one in done}) == len(done) == 15
    assert rows_in(tmp_path).keys() == {row["id"] for row in CORPUS}


class Slow:
    """A part that takes half a second for every row, and writes down how often it is read."""

    name = "slow"

    def __init__(self, path):
        self.path = path

    def rows(self, columns):
        import time

        with open(self.path, "a") as file:
            file.write(".")
        for row in CORPUS:
            time.sleep(0.5)
            yield row


def test_a_connection_that_was_there_stays(cluster, folder, tmp_path):
    import ray

    ray.init(log_to_driver=False, logging_level=logging.ERROR)
    engine = RayData(Model(str(folder)), work_in(tmp_path), workers=1, gpus=0)
    engine.close()
    assert ray.is_initialized()
    ray.shutdown()


def test_a_model_that_dies_while_it_loads(cluster, folder, tmp_path):
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    engine = RayData(Dead(str(folder)), work_in(tmp_path), workers=1, gpus=0)
    try:
        with pytest.raises(ModelError, match="want of memory"):
            engine.describe()
    finally:
        engine.close()
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


class Dead(Model):
    def load(self, device=None):
        import os

        os._exit(1)
