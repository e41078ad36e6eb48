"""Print results and write them as files, as options name them."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnflow.cli.console import show, wrote
from attnflow.cli.streams import STANDARD_STREAM, check_output, named_files, write_output
from attnflow.errors import InputError
from attnflow.files import all_or_none, real_path

if TYPE_CHECKING:
    from attnflow.attribution.attribution import Attribution, Attributions

    Explained = Attribution | Attributions


@dataclass(frozen=True)
class Found:
    """The results of a command, and those of them that a page shows.

    Attributes:
        results: Attributions and continuations, in order.
        on_page: These, or with others between which the page switches.
        compare: True for a page that shows them side by side.
    """

    results: "Sequence[Explained]"
    on_page: "Sequence[Explained]"
    compare: bool = False


def add_files(group: Any) -> None:
    """Add the options that name files to write, and what is done where they exist."""
    add = group.add_argument
    add("--html", metavar="F", help="Write one self-contained page; - for standard output.")
    add("--json", metavar="F",
        help="Write scores and diagnostics as JSON; - for standard output.")  # fmt: skip
    add("--jsonl", metavar="F",
        help="Write the same, one result a line; - for standard output.")  # fmt: skip
    add("--csv", metavar="F",
        help="Write a table with a row for each token; - for standard output.")  # fmt: skip
    add("--overwrite", action="store_true", help="Replace existing files.")


def check_files(args: argparse.Namespace, read: Sequence[str]) -> bool:
    """Check the files to write; return whether one of them is standard output.

    Args:
        args: The options that `write_results` reads.
        read: Names of the files that are read, from which those must differ.

    Raises:
        InputError: Two names are of one file, or a binary file would go to standard output.
        StorageError: A file exists without `--overwrite`, or cannot be written.
    """
    named = (args.json, args.jsonl, args.csv, args.html, args.save)
    outputs = [name for name in named if name is not None]
    if args.save == STANDARD_STREAM:
        raise InputError(
            "--save writes a binary file: name it, - is for --json, --jsonl, --csv and --html."
        )
    if outputs.count(STANDARD_STREAM) > 1:
        raise InputError("- (standard output) can be written only once: name a file.")
    written = [real_path(name) for name in outputs if name != STANDARD_STREAM]
    inputs = {real_path(name) for name in read if name != STANDARD_STREAM}
    if len(set(written)) < len(written) or inputs & set(written):
        raise InputError(
            "--json, --jsonl, --csv, --html and --save must name different files, and none that "
            "is read."
        )
    for name in outputs:
        check_output(name, overwrite=args.overwrite)
    return STANDARD_STREAM in outputs


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


def write_results(found: Found, args: argparse.Namespace) -> None:
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
