"""`attnflow models`: which families can be explained, and whether a model can."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from attnflow.cli.console import quiet_transformers, show
from attnflow.errors import InputError
from attnflow.models.tested_families import FORMATS, table

EPILOG = """examples:
  attnflow models
  attnflow models --format markdown
  attnflow models --check path/or/hub-id

What each column says: docs/families.md. --check loads the config alone, and exits with 2 where the
model cannot be explained.
"""


def add(commands: Any) -> None:
    """Add the subcommand."""
    models = commands.add_parser(
        "models",
        help="list the families of models that can be explained, or check a model",
        description="List the families of models that can be explained, as the tests measured "
        "them; or tell by its config whether and how a model can be.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models.set_defaults(run=_models, quiet=False)
    models.add_argument("--check", metavar="ID", help="hub id or folder of a model")
    models.add_argument("--format", choices=FORMATS, help="of the table (default: text)")


def _models(args: argparse.Namespace) -> int:
    if args.check is None:
        show(table(args.format or "text"))
        return 0
    if args.format == "markdown":
        raise InputError("--check has no table: give --format text or json.")
    with quiet_transformers():
        from attnflow.models.support import support_of

        found = support_of(args.check)
    show(json.dumps(asdict(found), indent=1) if args.format == "json" else str(found))
    return 0 if found.tensors else 2
