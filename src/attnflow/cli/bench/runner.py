"""`attnflow bench solver`: tables of the cost of a maximum flow, and of its alternatives.

All ratios are of one run, on the same tensors and the same machine. Read next: `comparisons` and
`scaling`, the sections.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from tqdm import tqdm

from attnflow.cli.bench import comparisons, markdown, scaling
from attnflow.cli.bench.capacities import Models
from attnflow.cli.bench.section import Section, Settings, Skipped
from attnflow.cli.bench.synthetic import attention_capacities
from attnflow.cli.bench.timing import PATIENCE
from attnflow.solver import maximum_flow

BUILDERS: dict[str, Callable[[Settings, Models], Section]] = {
    "clarabel": comparisons.clarabel,
    "igraph": comparisons.igraph,
    "model": comparisons.model,
    "batch": scaling.batch,
    "growth": scaling.growth,
    "memory": scaling.memory,
    "gpu": scaling.gpu,
}


def lines(settings: Settings) -> Iterator[str]:
    """The tables in Markdown, each part as soon as it is measured; progress on standard error."""
    _warm_up(settings.threads)
    yield "# attnflow bench solver\n"
    yield markdown.machine()
    yield (
        f"- seconds: fastest of at most {settings.repeat} runs after one to warm up, as many as "
        f"fit into {PATIENCE:.0f} s; a first run longer than that counts itself"
    )
    models = Models()
    sections: dict[str, Section | Skipped] = {}
    # All are built before the first is measured, so that the bar knows the number of rows.
    for name in settings.sections:
        sections[name] = _built(name, settings, models)
    total = sum(len(s.sizes) for s in sections.values() if isinstance(s, Section))
    with tqdm(total=total, unit="row") as bar:
        for name, section in sections.items():
            bar.set_description(name)
            for line in _table(name, section, bar):
                # Both may go to one terminal: the line must not be written into the bar.
                bar.clear()
                yield line
                bar.refresh()


def _warm_up(threads: int | None) -> None:
    """Compile the passes, so that no row pays for it, and set torch's threads.

    In this order: OpenMP is shared, and numba sets torch's threads when it starts its own.
    """
    maximum_flow(attention_capacities((2, 3, 8, 8)))
    if threads is not None:
        torch.set_num_threads(threads)


def _built(name: str, settings: Settings, models: Models) -> Section | Skipped:
    try:
        return BUILDERS[name](settings, models)
    except Skipped as reason:
        return reason


def _table(name: str, section: Section | Skipped, bar: "tqdm[None]") -> Iterator[str]:
    if isinstance(section, Skipped):
        yield f"\n## {name}\n\nskipped: {section}"
        return
    yield markdown.header(section)
    for size in section.sizes:
        bar.set_postfix_str(" ".join(map(str, size)))
        yield markdown.row(section, [*size, *_measured(section, size)])
        bar.update()
    if closing := section.closing():
        yield f"\n{closing}"


def _measured(section: Section, size: tuple[object, ...]) -> Sequence[object]:
    try:
        return section.measure(*size)
    except Skipped as reason:
        return (f"skipped: {reason}",)
