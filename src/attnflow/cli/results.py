"""Print results and write them as files, as options name them."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnflow.cli.console import show, wrote
from attnflow.cli.streams import named_files, write_output
from attnflow.files import all_or_none

if TYPE_CHECKING:
    from attnflow.attribution.attribution import Attribution, Attributions

    Explained = Attribution | Attributions


@dataclass(frozen=True)
class Results:
    """What was found, and what of it a page shows.

    Attributes:
        results: Attributions and continuations, in order.
        on_page: These, or with others between which the page switches.
        compare: True for a page that shows them side by side.
    """

    results: "Sequence[Explained]"
    on_page: "Sequence[Explained]"
    compare: bool = False


def print_results(results: "Sequence[Explained]", granularity: str) -> None:
    """Show results in the terminal, numbered where there are several."""
    from attnflow.attribution.views.terminal import render, render_continuation

    blocks = [
        render_continuation(a) if isinstance(a, list) else render(a, granularity=granularity)
        for a in results
    ]
    if len(blocks) > 1:
        # From 0, as errors and warnings number the texts.
        blocks = [f"[{i}] {block}" for i, block in enumerate(blocks)]
    show("\n\n".join(blocks))


def write_results(found: Results, args: argparse.Namespace) -> None:
    """Write the files that `--json`, `--jsonl`, `--csv`, `--html` and `--save` name, all or none.

    Raises:
        InputError: The results cannot be compared.
        StorageError: A file cannot be written.
    """
    from attnflow.attribution.attribution import save
    from attnflow.attribution.table import csv_of, table_of_results
    from attnflow.attribution.views.page import render

    flat = [a for item in found.results for a in (item if isinstance(item, list) else [item])]
    written: list[tuple[str | None, Callable[[], str]]] = [
        (args.json, lambda: json.dumps([a.to_dict() for a in flat], indent=1) + "\n"),
        (args.jsonl, lambda: "".join(json.dumps(a.to_dict()) + "\n" for a in flat)),
        (args.csv, lambda: csv_of(table_of_results(flat))),
        (args.html, lambda: render(found.on_page, compare=found.compare)),
    ]
    with all_or_none(named_files([args.save, *(name for name, _ in written)])):
        for name, content in written:
            if name is not None:
                write_output(name, content(), overwrite=args.overwrite, quiet=args.quiet)
        if args.save is not None:
            wrote(save(flat, args.save, overwrite=args.overwrite), quiet=args.quiet)
