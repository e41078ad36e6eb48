"""Markdown of the tables, numbers of three digits, and the machine that was measured on."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from attnflow.cli.bench.section import Section
from attnflow.models.markdown import table_head, table_row
from attnflow.solver.backend import can_compile
from attnflow.versions import installed_version

LIBRARIES = (
    *("attnflow", "torch", "transformers", "numpy", "numba"),
    *("scipy", "cvxpy", "clarabel", "igraph"),
)


def header(section: Section) -> str:
    """A section's title, note, and the first two lines of its table."""
    return f"\n## {section.title}\n\n{section.note}\n\n{table_head(section.columns)}"


def row(section: Section, cells: Sequence[object]) -> str:
    """A line of the table; cells that are missing at the end are left blank."""
    blank = [""] * (len(section.columns) - len(cells))
    return table_row([*map(number, cells), *blank])


def number(cell: object) -> str:
    """A cell as text: floats with three digits, all else as it is."""
    if not isinstance(cell, float):
        return str(cell)
    # Three digits alone would write 1234 as 1.23e+03.
    return f"{cell:.0f}" if 1000 <= abs(cell) < 1e6 else f"{cell:.3g}"


def ratio(value: float, *, is_bound: bool = False) -> str:
    """Text of a ratio, "3.1x"; with `is_bound` "> 3.1x"."""
    return f"{'> ' if is_bound else ''}{number(value)}x"


def machine() -> str:
    """The machine, the versions, the threads and the kernels, as a list."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    kernels = "compiled" if can_compile(torch.device("cpu")) else "plain"
    libraries = ", ".join(f"{name} {installed_version(name)}" for name in LIBRARIES)
    return (
        f"- machine: {_processor()}, {os.cpu_count()} cores, {platform.system()}; CUDA device: "
        f"{gpu}\n- Python {platform.python_version()}, {libraries}\n"
        f"- threads: {torch.get_num_threads()} for attnflow and the models; Clarabel and igraph as "
        f"they come\n- kernels: {kernels}"
    )


def _processor() -> str:
    """The processor's name where the system states it, or else its architecture."""
    # Asked first, since `platform.processor` gives no name on most Linux systems.
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
