"""The sections that measure the solver by itself: batching, growth, memory, and a GPU."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from attnflow.cli.bench.capacities import Models
from attnflow.cli.bench.comparisons import status_of
from attnflow.cli.bench.markdown import at_least, at_most, number
from attnflow.cli.bench.memory import solve_bytes
from attnflow.cli.bench.section import Case, Section, Settings, Skipped
from attnflow.cli.bench.synthetic import attention_capacities
from attnflow.cli.bench.timing import exponent, timed
from attnflow.solver import Flow, maximum_flow

LAYERS = 6
TEXTS = 64
TURN = 512  # tokens up to which growth has its first goal, and beyond which its second
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
        cases=[
            Case((t,), partial(_batch, settings, models, t)) for t in settings.choose((64,), (64,))
        ],
    )


def _batch(settings: Settings, models: Models, t: int) -> Sequence[object]:
    lengths = np.linspace(min(5, t), t, TEXTS).round().astype(int).tolist()
    capacities = models.capacities(LAYERS, lengths, settings.tensor)
    own = [capacities[i : i + 1, :, :n, :n] for i, n in enumerate(lengths)]
    _, alone = timed(lambda: [maximum_flow(text) for text in own], settings.repeat)
    flow, together = timed(lambda: maximum_flow(capacities), settings.repeat)
    return (TEXTS / alone, TEXTS / together, at_least(alone / together, 5), status_of(flow))


def growth(settings: Settings, _: Models) -> Section:
    """Seconds by length, and the exponents of their growth."""
    measured: dict[int, float] = {}
    lengths = settings.choose((32, 64, 128, 256, 512, 1024), (32, 64, 128, 256))
    return Section(
        title="Growth with the length",
        note=f"Random attention-like capacities, one live row at the top, L = {LAYERS}, batch 1.",
        columns=("t", "seconds", "factorisations", "our status"),
        cases=[Case((t,), partial(_growth, settings, measured, t)) for t in lengths],
        closing=lambda: exponents(measured),
    )


def _growth(settings: Settings, measured: dict[int, float], t: int) -> Sequence[object]:
    capacities = attention_capacities((1, LAYERS, t, t))
    flow, measured[t] = timed(lambda: maximum_flow(capacities), settings.repeat)
    return (measured[t], flow.iterations.item(), status_of(flow))


def exponents(measured: dict[int, float]) -> str:
    """The fitted exponents of seconds by length, up to `TURN` tokens and beyond, with goals."""
    ranges = (
        (f"up to {TURN}", [t for t in measured if t <= TURN], 2.5),
        (f"beyond {TURN}", [t for t in measured if t >= TURN], 3),
    )
    said = [
        f"{name} {at_most(exponent(sizes, [measured[t] for t in sizes]), goal, '')}"
        if len(sizes) > 1
        else f"{name} not measured (needs two lengths)"
        for name, sizes, goal in ranges
    ]
    return f"Fitted exponent of t: {'; '.join(said)}."


def memory(settings: Settings, _: Models) -> Section:
    """Memory that a solve takes at its peak."""
    return Section(
        title="Peak memory of one solve",
        note=(
            "Random attention-like capacities, batch 1, a fresh process; beyond the capacities "
            "given. An array: as many float64 as there are capacities."
        ),
        columns=("t", "L", "rows live at the top", "MB", "arrays"),
        cases=[
            Case((t, LAYERS, "one" if one else "all"), partial(_memory, t, one))
            for t in settings.choose((256, 512), (256,))
            for one in (True, False)
        ],
    )


def _memory(t: int, one_live_row: bool) -> Sequence[object]:
    threads = torch.get_num_threads()
    taken = solve_bytes(t, LAYERS, one_live_row=one_live_row, threads=threads)
    return (taken / 1e6, at_most(taken / (DOUBLE * LAYERS * t * t), 12, ""))


def gpu(settings: Settings, _: Models) -> Section:
    """Large networks on a CUDA device."""
    if not torch.cuda.is_available():
        raise Skipped("no CUDA device")
    # layers, t, batch, causal
    sizes = [(12, 512, 16, False), (32, 2048, 1, False), (32, 4096, 1, True)]
    chosen = settings.choose([t for _, t, *_ in sizes], [512])
    return Section(
        title="On a CUDA device",
        note=(
            "Random attention-like capacities in float32, one live row at the top; seconds of the "
            "whole batch. Memory by torch, beyond the capacities; an array: as many float64 as "
            "there are capacities."
        ),
        columns=("L", "t", "batch", "causal", "seconds", "GB", "arrays", "our status"),
        cases=[
            Case((*size, "yes" if causal else "no"), partial(_gpu, settings, size, causal))
            for *size, causal in sizes
            if size[1] in chosen
        ],
    )


def _gpu(settings: Settings, size: Sequence[int], causal: bool) -> Sequence[object]:
    layers, t, texts = size
    try:
        torch.cuda.empty_cache()
        capacities = attention_capacities((texts, layers, t, t), causal=causal, device="cuda")
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        flow, seconds = timed(lambda: _finished(capacities), settings.repeat)
    except torch.OutOfMemoryError:
        there = torch.cuda.get_device_properties("cuda").total_memory / GIGABYTE
        raise Skipped(f"more memory needed than the device's {number(there)} GB") from None
    taken = torch.cuda.max_memory_allocated() - before
    return (seconds, taken / GIGABYTE, taken / (DOUBLE * capacities.numel()), status_of(flow))


def _finished(capacities: Tensor) -> Flow[Tensor]:
    flow = maximum_flow(capacities)
    torch.cuda.synchronize()
    return flow
