"""The server's end of the worker, with a program that answers in its place."""

import asyncio
import sys

import pytest

from attnflow.app.worker_process import WorkerEnded, WorkerProcess

PROGRAM = """
import json, os, sys, time
for line in sys.stdin:
    order = json.loads(line)
    print(json.dumps({"is": "progress", "process": os.getpid()}), flush=True)
    if order["do"] == "die":
        os._exit(9)
    said = {"break off": '{"is": "do', "babble": "no JSON\\n", "count": "3\\n"}.get(order["do"])
    if said:
        print(said, end="", flush=True)
    if order["do"] == "break off":
        os._exit(9)
    if order["do"] == "hang":
        time.sleep(60)
    print(json.dumps({"is": "done", "process": os.getpid()}), flush=True)
"""


def run(work):
    """Run a coroutine with a worker, which has ended after it."""

    async def whole():
        worker = WorkerProcess((sys.executable, "-c", PROGRAM))
        try:
            return await work(worker)
        finally:
            await worker.kill()

    return asyncio.run(whole())


async def outcome(worker, do):
    return [answer async for answer in worker.answers({"do": do})][-1]


def test_one_process_does_one_job_after_the_other():
    async def work(worker):
        return [await outcome(worker, "work") for _ in range(2)]

    first, second = run(work)
    assert first == second and first["is"] == "done"


@pytest.mark.parametrize("times", [1, 5])
def test_a_worker_that_died_is_replaced(times):
    async def work(worker):
        for _ in range(times):
            with pytest.raises(WorkerEnded):
                await outcome(worker, "die")
        return await outcome(worker, "work")

    assert run(work)["is"] == "done"


@pytest.mark.parametrize("how", ["break off", "babble", "count"])
def test_a_line_that_is_no_answer_ends_the_worker(how):
    async def work(worker):
        before = await outcome(worker, "work")
        with pytest.raises(WorkerEnded):
            await outcome(worker, how)
        return before, await outcome(worker, "work")

    before, after = run(work)
    assert after["is"] == "done" and after["process"] != before["process"]


def test_a_worker_that_was_killed_is_replaced_at_once():
    async def work(worker):
        hanging = worker.answers({"do": "hang"})
        first = await anext(hanging)
        killing = asyncio.create_task(worker.kill())
        with pytest.raises(WorkerEnded):
            await anext(hanging)
        found = await outcome(worker, "work")
        await killing
        return first, found

    first, found = run(work)
    assert found["is"] == "done" and found["process"] != first["process"]
