"""Memory of a solve: the bytes that it needs, and the bytes that are free.

The counts of arrays are stated here alone; other pages refer to them.
"""

import math
from pathlib import Path

import torch

# Arrays of the size of a chain's edges that the primal-dual method keeps at its largest. They are
# the capacities, four of its iterate, the weights, and two of the factor, three where there is one
# layer. A group that drops its solved networks copies the first six arrays. The compiled loop needs
# fewer: weights and factors exist for one network of each thread alone.
ARRAYS, ARRAYS_OF_A_GROUP = 9, 14
# The same for the dual method at its largest, measured on networks of 2 to 24 layers.
DUAL_ARRAYS = 6
BYTES = 8
MEMORY = Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")


def primal_dual_bytes(edges: int) -> int:
    """Bytes of the primal-dual method for one network, besides its input and its result."""
    return ARRAYS * BYTES * edges


def most_edges(budget: float) -> float:
    """Edges, of all networks of a group together, that fit into a budget of bytes."""
    return budget / (ARRAYS_OF_A_GROUP * BYTES)


def free_bytes(device: torch.device) -> float:
    """Bytes that are free on a device; infinite where the system does not say."""
    if device.type == "cuda":
        # torch keeps freed memory for itself, which a solve can use.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    return min(_free_in_machine(), _free_in_container())


def _free_in_machine() -> float:
    if not MEMORY.exists():
        return math.inf
    lines = MEMORY.read_text(encoding="ascii").splitlines()
    free = [1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return free[0] if free else math.inf


def _free_in_container() -> float:
    """Bytes that a control group (version 2) leaves; pages of files count as used there."""
    most, used = CONTROL_GROUP / "memory.max", CONTROL_GROUP / "memory.current"
    if not most.exists() or most.read_text(encoding="ascii").strip() == "max":
        return math.inf
    return max(0.0, float(most.read_text(encoding="ascii")) - float(used.read_text("ascii")))
