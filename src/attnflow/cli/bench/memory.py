"""Peak memory of one solve, measured in a process of its own.

    python -m attnflow.cli.bench.memory T LAYERS ONE_LIVE_ROW THREADS

Linux resets its high-water mark when asked; elsewhere the mark before the solve is that of making
the capacities, which is less than that of the solve. A child's `ru_maxrss` on Linux begins at that
of its parent, so it cannot be used there.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from attnflow.cli.bench.section import Skipped

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def solve_bytes(t: int, layers: int, *, one_live_row: bool, threads: int) -> int:
    """Bytes that a solve takes at its peak beyond the capacities given to it.

    Raises:
        Skipped: The system does not report peak memory, or the measuring process failed.
    """
    if not STATUS.exists() and find_spec("resource") is None:
        raise Skipped("this system does not report the peak memory of a process")
    sizes = [str(int(number)) for number in (t, layers, one_live_row, threads)]
    # Freed arrays go back to the system at once, so that none is used again unseen (glibc only).
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    process = subprocess.run(
        [sys.executable, "-m", "attnflow.cli.bench.memory", *sizes],
        capture_output=True, text=True, env=env,
    )  # fmt: skip
    if process.returncode:
        reason = process.stderr.strip().splitlines()[-1:] or ["no message"]
        raise Skipped(f"the measuring process ended with {process.returncode}: {reason[0]}")
    return int(process.stdout)


def _measure(t: int, layers: int, one_live_row: bool, threads: int) -> int:
    import torch

    from attnflow.cli.bench.synthetic import attention_capacities
    from attnflow.solver import maximum_flow

    # What is loaded and compiled on the first call is no memory of the solve.
    maximum_flow(attention_capacities((1, layers, 8, 8)))
    torch.set_num_threads(threads)
    capacities = attention_capacities((1, layers, t, t), one_live_row=one_live_row)
    before = peak(reset=True)
    maximum_flow(capacities)
    return peak() - before


def peak(*, reset: bool = False) -> int:
    """The largest resident bytes so far; first forgotten, where the system can."""
    if STATUS.exists():
        if reset:
            # By proc(5) this sets the mark to the present size, and clears nothing else.
            RESET.write_text("5")
        line = next(x for x in STATUS.read_text().splitlines() if x.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    import resource

    # In bytes on macOS, in kilobytes elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    t, layers, one_live_row, threads = map(int, sys.argv[1:])
    print(_measure(t, layers, bool(one_live_row), threads))
