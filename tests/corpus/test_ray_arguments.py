"""Arguments of the engine of Ray and how it counts lost workers, without starting Ray."""

import re
import socket
import sys
from pathlib import Path

import pytest
import yaml

from attnflow import InputError, MissingExtraError
from attnflow.corpus.columns import Columns
from attnflow.corpus.engines.ray_connection import connect
from attnflow.corpus.engines.ray_data import RayData
from attnflow.corpus.engines.ray_worker import IDLE, TOGETHER, Ledger
from attnflow.corpus.reader import Reader
from attnflow.corpus.run import explain_corpus
from attnflow.corpus.sources import open_source
from attnflow.corpus.work import Model


@pytest.mark.parametrize("gpus", (-1, 1.5, float("nan"), float("inf"), "1", True, None))
def test_gpus_are_whole_or_a_part_of_one(gpus):
    with pytest.raises(InputError, match=r"gpus \(--gpus\) must be a number of whole GPUs"):
        RayData(Model("any"), None, workers=1, gpus=gpus)


def test_no_workers(tmp_path):
    with pytest.raises(InputError, match=r"workers \(--workers\) must be at least 1"):
        explain_corpus(["a"], out=tmp_path, engine="ray", workers=0)


def test_ray_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(MissingExtraError, match=r"needs Ray: pip install 'attnflow\[ray\]'"):
        RayData(Model("any"), None, workers=1, gpus=0)


@pytest.mark.parametrize("origin", ("RAY_ADDRESS", "of the last `ray start` here"))
def test_no_cluster_at_the_address(monkeypatch, origin):
    import ray._private.utils

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        if origin == "RAY_ADDRESS":
            monkeypatch.setenv("RAY_ADDRESS", address)
        else:
            monkeypatch.delenv("RAY_ADDRESS", raising=False)
            monkeypatch.setattr(ray._private.utils, "read_ray_address", lambda: address)
        with pytest.raises(InputError, match=f"cannot be reached at {address}") as told:
            connect()
    assert origin in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("address", ("http://127.0.0.1:8265", "ray://head:10001", "head", ":6379"))
def test_addresses_of_no_head(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match="RAY_ADDRESS must be the head's host:port"):
        connect()


def test_a_chunk_is_explained_row_by_row_after_two_deaths():
    ledger = Ledger()
    attempts = [ledger.begin("shard") for _ in range(TOGETHER + 1)]
    assert [a.is_careful for a in attempts] == [False] * TOGETHER + [True]
    assert attempts[-1].lost == frozenset()


def test_the_row_that_ends_a_worker_is_lost():
    ledger = Ledger()
    for _ in range(TOGETHER + 1):
        ledger.begin("shard")
    ledger.note("shard", 7)
    ledger.note("shard", 8)
    assert ledger.begin("shard").lost == {8}
    ledger.note("shard", 11)
    assert ledger.begin("shard").lost == {8, 11}
    ledger.end("shard")
    assert ledger.begin("shard").lost == frozenset()


def test_deaths_before_any_row_end_a_run():
    ledger = Ledger()
    attempts = [ledger.begin("shard") for _ in range(TOGETHER + 1 + IDLE)]
    assert [a.is_hopeless for a in attempts] == [False] * (TOGETHER + IDLE) + [True]


@pytest.mark.parametrize("most", (1, 3, 64))
def test_readers_share_all_parts(tmp_path, most):
    for i in range(5):
        (tmp_path / f"{i}.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n')
    parts = open_source(str(tmp_path / "*.jsonl"))
    whole = Reader(parts, Columns(), 2, str(tmp_path / "out"), {}, {"3.jsonl": "damaged"})
    readers = whole.shared(most)
    assert len(readers) == min(most, 4) and whole.is_here
    names = [chunk.shard for reader in readers for chunk in reader]
    assert names == [chunk.shard for chunk in whole] and len(names) == 8


def test_the_cluster_of_the_docs_is_one_that_ray_up_takes():
    from ray.autoscaler._private.util import prepare_config, validate_config

    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    config = yaml.safe_load(block)
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="nothing"):
        validate_config(prepare_config({**config, "nothing": 1}))
