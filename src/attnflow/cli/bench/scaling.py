"""The sections that measure the solver by itself: batching, growth, memory, and a GPU."""

from collections.abc import Sequence
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor

from attnflow.cli.bench.capacities import Models
from attnflow.cli.bench.comparisons import status_of
from attnflow.cli.bench.markdown import number, ratio
from attnflow.cli.bench.memory import solve_bytes
from attnflow.cli.bench.section import Section, Settings, Skipped
from attnflow.cli.bench.synthetic import attention_capacities
from attnflow.cli.bench.timing import exponent, timed
from attnflow.solver import Flow, maximum_flow

LAYERS = 6
TEXTS = 64
TURN = 512  # tokens up to which the first exponent of growth is fitted, and beyond which the second
DOUBLE = 8  # bytes of a float64
GIGABYTE = 1e9


def batch(settings: Settings, models: Models) -> Section:
    """Texts of mixed length one by one, and together."""
    return Section(
        title=f"{TEXTS} texts of mixed length, one by one and together",
        note=(
            f"Tensor {settings.tensor} of the embedded model; lengths evenly spread up to t. Texts "
            "a second."
        ),
        columns=("t up to", "one by one", "together", "gain", "our status"),
        sizes=[(t,) for t in settings.choose((64,), (64,))],
        measure=partial(_batch, settings, models),
    )


def _batch(settings: Settings, models: Models, t: int) -> Sequence[object]:
    lengths = np.linspace(min(5, t), t, TEXTS).round().astype(int).tolist()
    capacities = models.capacities(LAYERS, lengths, settings.tensor)
    # One by one nobody would pay for padding.
    unpadded = [capacities[i : i + 1, :, :n, :n] for i, n in enumerate(lengths)]
    _, alone = timed(lambda: [maximum_flow(text) for text in unpadded], settings.repeat)
    flow, together = timed(lambda: maximum_flow(capacities), settings.repeat)
    return (TEXTS / alone, TEXTS / together, ratio(alone / together), status_of(flow))


def growth(settings: Settings, _: Models) -> Section:
    """Seconds by length, and the exponents of their growth."""
    measured: dict[int, float] = {}
    lengths = settings.choose((32, 64, 128, 256, 512, 1024), (32, 64, 128, 256))
    return Section(
        title="Growth with the length",
        note=f"Random attention-like capacities, one live row at the top, L = {LAYERS}, batch 1.",
        columns=("t", "seconds", "factorisations", "our status"),
        sizes=[(t,) for t in lengths],
        measure=partial(_growth, settings, measured),
        closing=lambda: exponents(measured),
    )


def _growth(settings: Settings, measured: dict[int, float], t: int) -> Sequence[object]:
    capacities = attention_capacities((1, LAYERS, t, t))
    flow, measured[t] = timed(lambda: maximum_flow(capacities), settings.repeat)
    return (measured[t], flow.iterations.item(), status_of(flow))


def exponents(measured: dict[int, float]) -> str:
    """The fitted exponents of seconds by length, up to `TURN` tokens and beyond."""
    # `TURN` is in both: without it the second would have a single length, and no fit.
    ranges = (
        (f"up to {TURN}", [t for t in measured if t <= TURN]),
        (f"beyond {TURN}", [t for t in measured if t >= TURN]),
    )
    fits = [
        f"{name} {number(exponent(sizes, [measured[t] for t in sizes]))}"
        if len(sizes) > 1
        else f"{name} not measured (needs two lengths)"
        for name, sizes in ranges
    ]
    return f"Fitted exponent of t: {'; '.join(fits)}."


def memory(settings: Settings, _: Models) -> Section:
    """Memory that a solve takes at its peak."""
    return Section(
        title="Peak memory of one solve",
        note=(
            "Random attention-like capacities, batch 1, a fresh process; beyond the capacities "
            "given. An array: as many float64 as there are capacities."
        ),
        columns=("t", "L", "rows live at the top", "MB", "arrays"),
        sizes=list(product(settings.choose((256, 512), (256,)), (LAYERS,), ("one", "all"))),
        measure=_memory,
    )


def _memory(t: int, layers: int, live_rows: str) -> Sequence[object]:
    threads = torch.get_num_threads()
    peak = solve_bytes(t, layers, one_live_row=live_rows == "one", threads=threads)
    return (peak / 1e6, peak / (DOUBLE * layers * t * t))


def gpu(settings: Settings, _: Models) -> Section:
    """Large networks on a CUDA device."""
    if not torch.cuda.is_available():
        raise Skipped("no CUDA device")
    # layers, t, batch, causal
    sizes = [(12, 512, 16, "no"), (32, 2048, 1, "no"), (32, 4096, 1, "yes")]
    lengths = settings.choose([t for _, t, *_ in sizes], [512])
    return Section(
        title="On a CUDA device",
        note=(
            "Random attention-like capacities in float32, one live row at the top; seconds of the "
            "whole batch. Memory by torch, beyond the capacities; an array: as many float64 as "
            "there are capacities."
        ),
        columns=("L", "t", "batch", "causal", "seconds", "GB", "arrays", "our status"),
        sizes=[size for size in sizes if size[1] in lengths],
        measure=partial(_gpu, settings),
    )


def _gpu(settings: Settings, layers: int, t: int, batch: int, causal: str) -> Sequence[object]:
    try:
        # Blocks that torch still holds from the last row could make this one run out of memory.
        torch.cuda.empty_cache()
        shape = (batch, layers, t, t)
        capacities = attention_capacities(shape, causal=causal == "yes", device="cuda")
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        flow, seconds = timed(lambda: _synchronised_flow(capacities), settings.repeat)
    except torch.OutOfMemoryError:
        total = torch.cuda.get_device_properties("cuda").total_memory / GIGABYTE
        raise Skipped(f"more memory needed than the device's {number(total)} GB") from None
    peak = torch.cuda.max_memory_allocated() - before
    return (seconds, peak / GIGABYTE, peak / (DOUBLE * capacities.numel()), status_of(flow))


def _synchronised_flow(capacities: Tensor) -> Flow[Tensor]:
    flow = maximum_flow(capacities)
    # Calls return before the device is done.
    torch.cuda.synchronize()
    return flow
