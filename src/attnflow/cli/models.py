"""`attnflow models`: list the families that can be explained, or check a model."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from attnflow.cli.console import show
from attnflow.errors import InputError
from attnflow.models.quiet import quiet_transformers
from attnflow.models.tested_families import FORMATS, table

EPILOG = """examples:
  attnflow models
  attnflow models --format markdown
  attnflow models --check path/or/hub-id

docs/families.md explains the columns. --check loads only the config of the model, and exits with 2
if the model cannot be explained.
"""


def add(commands: Any, summary: str) -> None:
    """Add the subcommand, with the line about it in the list of all."""
    models = commands.add_parser(
        "models",
        help=summary,
        description="List the families of models that can be explained, with what the tests\n"
        "measured; or check by its config whether and how a model can be explained.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models.set_defaults(run=_models)
    # Hidden: only so that a model without --check gets a hint.
    models.add_argument("model", nargs="?", help=argparse.SUPPRESS)
    models.add_argument("--check", metavar="ID", help="Check this model: a hub id or folder.")
    models.add_argument("--format", choices=FORMATS, help="Format of the output (default: text).")


def _models(args: argparse.Namespace) -> int:
    if args.model is not None:
        raise InputError(f"to check a model, write attnflow models --check {args.model}.")
    if args.check is None:
        show(table(args.format or "text"))
        return 0
    if args.format == "markdown":
        raise InputError("--check has no table: give --format text or json.")
    with quiet_transformers():
        from attnflow.models.support import support_of

        support = support_of(args.check)
    show(json.dumps(asdict(support), indent=1) if args.format == "json" else str(support))
    return 0 if support.tensors else 2
