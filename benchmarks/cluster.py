"""Measure what a corpus costs on a cluster: texts, bytes, requests, and what Ray adds to a chunk.

One worker without Ray, the requests to a store, the survey of ids, one worker with Ray, and chunks
that cost nothing, by which Ray's own work is seen. Processors' seconds are those of all processes,
so that another load on the machine matters little. Needs the extras `test` and `s3`.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import texts as sets

from attnflow.corpus.columns import Columns
from attnflow.corpus.engines.in_process import InProcess
from attnflow.corpus.engines.ray_data import RayData
from attnflow.corpus.reader import Reader
from attnflow.corpus.sources import open_source
from attnflow.corpus.store import MANIFEST, SHARDS, Store
from attnflow.corpus.survey import survey
from attnflow.corpus.work import Done, Model, Worker, shard_bytes, work_of
from attnflow.models.embedded import EMBEDDED_MODEL


class Idle(Model):
    """A model whose worker does nothing with a chunk."""

    def load(self, device=None):
        Worker.do = lambda self, chunk, care=None: Done(chunk.shard, len(chunk.rows), 0)
        return super().load(device)


class Counting:
    """A file system that counts what it is asked."""

    def __init__(self, system):
        self._system, self.asked = system, Counter()

    def __getattr__(self, name):
        value = getattr(self._system, name)
        if callable(value) and not name.startswith("_"):
            self.asked[name] += 1
        return value


def seconds_of_processors():
    """Those of this process and of all that it started."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def reader_of(source, url, size):
    store = Store(str(url))
    store.make()
    store.write_json(MANIFEST, {})
    return Reader(open_source(source), Columns(), size, str(url), {})


def measure(engine, reader):
    """Run an engine, and return rows, and seconds of the clock and the processors after the first.

    Before the first chunk is done, Ray starts its processes and the model is loaded.
    """
    done = engine.run(reader)
    next(done)
    clock, processors = time.perf_counter(), seconds_of_processors()
    driver, memory = time.process_time(), psutil.Process().memory_info().rss
    rest = list(done)
    rows, explained = sum(one.rows for one in rest), sum(one.seconds for one in rest)
    return {
        "chunks": len(rest),
        "texts": rows,
        "clock": time.perf_counter() - clock,
        "processors": seconds_of_processors() - processors,
        "driver": time.process_time() - driver,
        "memory": psutil.Process().memory_info().rss - memory,
        "explained": explained,
    }


def line(name, found):
    chunks = found["chunks"]
    print(
        f"{name}: {chunks} chunks, {found['texts']} texts; {found['texts'] / found['clock']:.1f} "
        f"texts/s; a chunk {found['clock'] / chunks:.4f} s of the clock, "
        f"{found['processors'] / chunks:.4f} of processors, {found['explained'] / chunks:.4f} in "
        "the worker",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--rows", type=int, default=64, help="rows of a chunk")
    parser.add_argument("--texts", type=int, default=872)
    parser.add_argument("--idle-rows", type=int, default=256, help="rows of a chunk without work")
    parser.add_argument("--idle-chunks", type=int, default=1000)
    arguments = parser.parse_args()
    texts = sets.read(arguments.data, "sst2")[: arguments.texts]
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        without_ray(texts, Path(folder) / "local", arguments.rows)
        requests_of_s3()
        ids(Path(folder), 500_000)
        with_ray(texts, Path(folder) / "ray", arguments.rows)
        idle(Path(folder) / "idle", arguments.idle_chunks, arguments.idle_rows)


def without_ray(texts, url, size):
    work = work_of(Columns(), {}, url=str(url))
    engine = InProcess(Model(EMBEDDED_MODEL).load(), work)
    reader = reader_of(texts, url, size)
    store = engine._worker.store
    store.system = counting = Counting(store.system)
    found = measure(engine, reader)
    line("without Ray", found)
    print(f"  a core: {found['texts'] / found['processors']:.1f} texts a second of its own")
    shards = sorted((url / "shards").iterdir())
    size_of_all = sum(file.stat().st_size for file in shards)
    rows = sum(pq.ParquetFile(file).metadata.num_rows for file in shards)
    print(f"  {size_of_all / rows:.0f} bytes a row; requests for {len(shards)} shards:")
    print(f"  {dict(counting.asked)}, and a write each")
    again = reader_of(texts, url, size)
    before, counting.asked = time.perf_counter(), Counter()
    list(engine.run(again))
    each = (time.perf_counter() - before) / len(shards)
    print(f"  again, all done: {each:.4f} s a chunk; {dict(counting.asked)}", flush=True)


def with_ray(texts, url, size):
    work = work_of(Columns(), {}, url=str(url))
    begin = time.perf_counter()
    engine = RayData(Model(EMBEDDED_MODEL), work, workers=1, gpus=0)
    try:
        engine.describe()
        line("Ray, one worker", measure(engine, reader_of(texts, url, size)))
    finally:
        engine.close()
    print(
        f"  in all {time.perf_counter() - begin:.0f} s, its beginning and end included", flush=True
    )


def requests_of_s3():
    """Print the requests that each step of a chunk takes, to an S3 server of this process."""
    import aiobotocore.endpoint
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    asked = Counter()
    send = aiobotocore.endpoint.AioEndpoint._send_request

    async def counted(self, request, operation):
        asked[operation.name] += 1
        return await send(self, request, operation)

    aiobotocore.endpoint.AioEndpoint._send_request = counted
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    boto3.client("s3").create_bucket(Bucket="bucket")
    store, name = Store("s3://bucket/out"), "part-00000000-0000000000-0000000000000000.parquet"
    store.make()
    shard = shard_bytes(pa.table({"error": ["none"]}))
    for step, action in (
        ("a shard that is absent", lambda: store.has_shard(name)),
        ("its writing", lambda: store.write(f"{SHARDS}/{name}", shard)),
        ("a shard that is there", lambda: store.has_shard(name)),
        ("its reading", lambda: store.read_shard(name)),
    ):
        asked.clear()
        action()
        print(f"  S3, {step}: {dict(asked)}", flush=True)
    server.stop()


def ids(folder, rows):
    """Print how many rows a second the survey of ids takes, before a run."""
    path = folder / "ids.parquet"
    named = [f"review-{i}" for i in range(rows)]
    pq.write_table(pa.table({"id": named, "text": ["a film"] * rows}), path)
    clock, processor = time.perf_counter(), time.process_time()
    survey(open_source(str(path)), Columns(id="id"))
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    print(
        f"ids: {rows / clock:,.0f} rows/s of the clock, {rows / processor:,.0f} of the processor",
        flush=True,
    )


def idle(url, chunks, size):
    source = [f"text {i} of a corpus, about as long as a sentence of a film" for i in range(size)]
    part = Path(url).with_suffix(".txt")
    with open(part, "w", encoding="utf-8") as file:
        for _ in range(chunks):
            file.writelines(text + "\n" for text in source)
    engine = RayData(Idle(EMBEDDED_MODEL), work_of(Columns(), {}, url=str(url)), workers=2, gpus=0)
    try:
        engine.describe()
        found = measure(engine, reader_of(str(part), url, size))
        line("Ray, chunks that cost nothing", found)
        print(
            f"  of the driver {found['driver'] / chunks:.4f} s of its processor and "
            f"{found['memory'] / chunks:.0f} bytes of memory a chunk"
        )
    finally:
        engine.close()


if __name__ == "__main__":
    sys.exit(main())
