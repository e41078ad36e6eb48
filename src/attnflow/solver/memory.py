"""How much memory a solve needs, and how much there is."""

import math
from pathlib import Path

import torch

# Arrays of the size of a chain's edges that the primal-dual method keeps at its largest: the
# capacities, four of its iterate, the weights, and two of the factor.
PRIMAL_DUAL_ARRAYS = 8
BYTES = 8


def primal_dual_bytes(edges: int) -> int:
    """What the primal-dual method needs for so many edges, beside its input and its result."""
    return PRIMAL_DUAL_ARRAYS * BYTES * edges


def free_bytes(device: torch.device) -> float:
    """Memory that is free on a device; infinite where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return math.inf
    kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return 1024.0 * int(kilobytes)
