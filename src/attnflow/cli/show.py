"""`attnflow show`: print saved results again, or write them as a page, a table or JSON."""

import argparse
import sys
from typing import TYPE_CHECKING, Any, get_args

from attnflow.cli.results import Found, add_files, check_files, print_results, write_results
from attnflow.errors import InputError
from attnflow.models.literals import Granularity

if TYPE_CHECKING:
    from attnflow.attribution.attribution import Attribution
    from attnflow.cli.results import Explained

EPILOG = """examples:
  attnflow explain "a good film" --save good.safetensors
  attnflow show good.safetensors
  attnflow show good.safetensors --html good.html
  attnflow show one-model.safetensors another.safetensors --html models.html --compare
"""


def add(commands: Any, summary: str) -> None:
    """Add the subcommand, with the line about it in the list of all."""
    command = commands.add_parser(
        "show",
        help=summary,
        description="Show results that --save or attnflow.save kept: in the terminal, as a page,\n"
        "side by side, or as a table.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=_show, save=None)
    command.add_argument("files", nargs="+", metavar="FILE", help="Files of saved results.")
    command.add_argument("--granularity", choices=get_args(Granularity), default="word",
        help="Unit of the display in the terminal (default: %(default)s).")  # fmt: skip
    add_files(command)
    command.add_argument("--compare", action="store_true",
        help="Let the page show 2 to 4 results side by side.")  # fmt: skip
    command.add_argument("--quiet", action="store_true", help="Print only errors.")


def _show(args: argparse.Namespace) -> int:
    if args.compare and args.html is None:
        raise InputError("--compare is about the page: name it by --html.")
    to_standard_output = check_files(args, args.files)
    results = [item for name in args.files for item in _saved(name)]
    if not args.quiet and sys.stdout is not None and not to_standard_output:
        print_results(results, args.granularity)
    write_results(Found(results, results, compare=args.compare), args)
    return 0


def _saved(name: str) -> "list[Explained]":
    """Return the results in a file, those of each continuation as one."""
    from attnflow.attribution.attribution import Attributions, load

    runs: list[list[Attribution]] = []
    for attribution in load(name):
        if runs and _follows(attribution, runs[-1][-1]):
            runs[-1].append(attribution)
        else:
            runs.append([attribution])
    return [Attributions(run) if len(run) > 1 else run[0] for run in runs]


def _follows(attribution: "Attribution", other: "Attribution") -> bool:
    """Return whether both are about written tokens of a continuation, one after the other."""
    here, before = attribution.position, other.position
    if here is None or before is None or attribution.tokens != other.tokens:
        return False
    return here == before + 1 and _is_written(attribution, here) and _is_written(other, before)


def _is_written(attribution: "Attribution", position: int) -> bool:
    """Return whether the next token after a position is explained, as it stands in the text."""
    from attnflow.attribution.views.verdict import WRITING

    following = position + 1
    if attribution.task not in WRITING or attribution.span is not None:
        return False
    is_last = following == len(attribution)
    return not is_last and attribution.label.strip() == attribution.surface(following).strip()
