"""`attnflow show`: print saved results again, or write them as a page, a table or JSON."""

import argparse
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any, get_args

from attnflow.cli.results import Results, add_files, check_files, print_results, write_results
from attnflow.errors import InputError
from attnflow.models.literals import Granularity

if TYPE_CHECKING:
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
    write_results(Results(results, results, compare=args.compare), args)
    return 0


def _saved(name: str) -> "list[Explained]":
    """Return the results in a file, those of a continuation as one."""
    from attnflow.attribution.attribution import Attributions, load

    found = load(name)
    follow = [a.position is not None and b.position == a.position + 1 for a, b in pairwise(found)]
    is_continuation = len({a.tokens for a in found}) == 1 and len(found) > 1 and all(follow)
    return [Attributions(found)] if is_continuation else list(found)
