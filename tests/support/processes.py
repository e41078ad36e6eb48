"""Programs for tests of processes: solves and explanations in a parent, its children, its threads.

Each runs in a process of its own, since a fork copies whatever the tests have done before.
"""

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
SECONDS = 150  # a child that hangs fails its test

PREPARE = f"""
import os, sys, threading, warnings
sys.path.insert(0, {str(TESTS)!r})
import torch
torch.set_num_threads(2)
from attnflow import Explainer, maximum_flow
from attnflow.solver import backend, primal_dual, edge_passes
from support.text_models import TEXTS, tiny_model, wordpiece
from support.random_networks import random_capacities

backend.EDGES_FOR_A_THREAD, backend.EDGES_FOR_A_LOOP = 2**14, 2**6
SIZES = [(4, 2, 5), (1, 1, 300)]
networks = [random_capacities("attention", batch=b, layers=l, t=t) for b, l, t in SIZES]

def solved():
    return [maximum_flow(network).sink for network in networks]

def same(a, b):
    return all(torch.allclose(x, y, rtol=1e-9, atol=1e-300) for x, y in zip(a, b))

def explained():
    return torch.as_tensor(explainer(TEXTS[0], keep_unsolved=True).scores)

def child():
    "Exit status 0 if the child finds what its parent found."
    good = same(solved(), before) and torch.allclose(explained(), scores, rtol=1e-5)
    return 0 if good and torch.get_num_threads() == 1 else 1

def plain(*_):
    return edge_passes, None

explainer = Explainer(tiny_model(), wordpiece())
"""


def output_of(code: str) -> str:
    """Text that a program prints that begins with `PREPARE`; an error if it fails or hangs."""
    command = [sys.executable, "-W", "ignore", "-c", PREPARE + code]
    done = subprocess.run(command, timeout=SECONDS, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout
