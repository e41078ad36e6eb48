"""Solves and explanations in forked processes, spawned ones, and several threads at once."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import SECONDS, output_of

pytestmark = pytest.mark.attack

FORKS = """
before, scores = solved(), explained()

def joined(pid):
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)

pid = os.fork()
if pid == 0:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        status = child()
        said = [str(w.message) for w in caught if "forked" in str(w.message)]
    os._exit(status or (0 if len(said) == 1 else 2))
print("fork", joined(pid))

from multiprocessing import get_context
process = get_context("fork").Process(target=lambda: os._exit(child()))
process.start()
process.join()
print("multiprocessing", process.exitcode)

class Explained(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return explained() if child() == 0 else None

loader = torch.utils.data.DataLoader(
    Explained(), num_workers=1, batch_size=None, multiprocessing_context="fork"
)
print("loader", int(not all(torch.allclose(found, scores, rtol=1e-5) for found in loader)))
print("parent", int(not (same(solved(), before) and torch.get_num_threads() == 2)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["compiled", pytest.param("plain", marks=pytest.mark.exhaustive)])
def test_a_forked_process_solves_and_explains(form):
    if form == "compiled":
        pytest.importorskip("numba")
    choice = "primal_dual.kernels_for = plain\n" if form == "plain" else ""

    found = output_of(choice + FORKS)

    assert found.split() == ["fork", "0", "multiprocessing", "0", "loader", "0", "parent", "0"]


SPAWN = """
import multiprocessing, torch
from attnflow import maximum_flow

def solve(t):
    torch.set_num_threads(2)
    return maximum_flow(torch.ones(2, 2, t, t)).value.tolist()

if __name__ == "__main__":
    before = [solve(5), solve(300)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(solve, [5, 300]) == before)
"""


@pytest.mark.slow
def test_a_spawned_process_solves(tmp_path):
    file = Path(tmp_path) / "spawning.py"
    file.write_text(SPAWN, encoding="utf-8")
    command = [sys.executable, str(file)]
    done = subprocess.run(command, timeout=SECONDS, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


THREADS = """
alone, found = solved(), []
together = [threading.Thread(target=lambda: found.append(solved())) for _ in range(4)]
for thread in together:
    thread.start()
for thread in together:
    thread.join()
print(len(found), all(torch.equal(x, y) for other in found for x, y in zip(alone, other)))

import atexit
atexit.register(lambda: print(same(solved(), alone), flush=True))
"""


def test_threads_that_solve_at_once_find_every_bit_and_an_exiting_process_solves():
    assert output_of(THREADS).split() == ["4", "True", "True"]
