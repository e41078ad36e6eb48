"""The command: `attnflow explain`, `show`, `app`, `evaluate`, `models` and `bench`, a module each.

`completion` prints a script by which a shell completes it.

Options, texts and the files to write are checked before the model is loaded. Results go to standard
output, all else to standard error. Exit codes: 0 done, 1 a flow without certificate, 2 bad input or
a model that cannot be explained, 130 interrupted (SIGINT), 143 ended (SIGTERM).
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from attnflow import __version__
from attnflow.cli.completion import SHELLS, PrintCompletion
from attnflow.cli.options import Parser

# A module each, and the line about it in the list of all. Only the module of the one that was typed
# is imported: `attnflow --help` needs none of them.
SUBCOMMANDS = {
    "explain": ("explain", "Score the tokens of texts, or the patches of images."),
    "show": ("show", "Show saved results again, or compare them."),
    "app": ("app", "Open a local page to type texts into and see them explained (extra app)."),
    "corpus": ("corpus", "Explain many texts into Parquet files, and report on them."),
    "evaluate": ("evaluate", "Measure how faithful methods are."),
    "models": ("models", "List the families of models that can be explained, or check a model."),
    "bench": ("bench.command", "Measure what things cost on this machine."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    typed = sys.argv[1:] if arguments is None else arguments
    if not typed:
        _parser(typed).print_help(sys.stderr)
        return 2
    return _run(_parser(typed).parse_args(typed))


def _run(args: argparse.Namespace) -> int:
    import warnings

    from attnflow.cli.console import fail, logged_lines, show_warning
    from attnflow.errors import AttnflowError, UnsolvedError

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


def complete_parser() -> argparse.ArgumentParser:
    """Return the parser of the command with all that its subcommands take."""
    return _parser(list(SUBCOMMANDS))


def _parser(typed: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command, with what those subcommands take whose names were typed."""
    parser = Parser(
        prog="attnflow",
        description="Find the tokens that a Transformer's decision rests on, by a certified "
        "maximum flow.",
        epilog="Begin with: attnflow explain 'although this dog is not cute, it is very smart.'",
    )
    parser.add_argument("--version", action="version", version=f"attnflow {__version__}",
        help="Show the version and exit.")  # fmt: skip
    parser.add_argument("--print-completion", choices=SHELLS, action=PrintCompletion,
        complete=complete_parser,
        help="Print a completion script for this shell and exit (extra completion).")  # fmt: skip
    parser.set_defaults(quiet=False)  # of subcommands without --quiet
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in SUBCOMMANDS.items():
        if name in typed:
            import_module(f"attnflow.cli.{module}").add(commands, summary)
        else:
            commands.add_parser(name, help=summary)
    return parser
