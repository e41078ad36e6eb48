"""The command: `attnflow explain`, `show`, `app`, `evaluate`, `models` and `bench`, a module each.

`completion` prints a script by which a shell completes it.

Options, texts and the files to write are checked before the model is loaded. Results go to standard
output, all else to standard error. Exit codes: 0 done, 1 a flow without certificate, 2 bad input or
a model that cannot be explained, 130 interrupted (SIGINT), 143 ended (SIGTERM).
"""

import argparse
import sys
import warnings
from collections.abc import Sequence

from attnflow import __version__
from attnflow.cli import app, evaluate, explain, models, show
from attnflow.cli.bench import command as bench_command
from attnflow.cli.completion import SHELLS, PrintCompletion
from attnflow.cli.console import fail, logged_lines, show_warning
from attnflow.cli.options import Parser
from attnflow.errors import AttnflowError, UnsolvedError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    typed = sys.argv[1:] if arguments is None else arguments
    if not typed:
        parser.print_help(sys.stderr)
        return 2
    args = parser.parse_args(typed)
    try:
        with warnings.catch_warnings(), logged_lines(hidden=args.quiet):
            warnings.showwarning = show_warning
            warnings.filterwarnings("ignore" if args.quiet else "default", category=UserWarning)
            return int(args.run(args))
    except UnsolvedError as error:
        return fail(error, 1)
    except AttnflowError as error:
        return fail(error, 2)
    except KeyboardInterrupt:
        return fail("interrupted.", 130)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="attnflow",
        description="Find the tokens that a Transformer's decision rests on, by a certified "
        "maximum flow.",
    )
    parser.add_argument("--version", action="version", version=f"attnflow {__version__}",
        help="Show the version and exit.")  # fmt: skip
    parser.add_argument("--print-completion", choices=SHELLS, action=PrintCompletion,
        help="Print a completion script for this shell and exit (extra completion).")  # fmt: skip
    parser.set_defaults(quiet=False)  # of subcommands without --quiet
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for subcommand in (explain, show, app, evaluate, models, bench_command):
        subcommand.add(commands)
    return parser
