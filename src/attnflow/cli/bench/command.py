"""`attnflow bench`: the cost of the maximum flow on this machine."""

import argparse
from dataclasses import fields
from typing import Any

from attnflow.cli.bench import SECTIONS
from attnflow.cli.console import show
from attnflow.cli.options import TENSORS, count, seconds
from attnflow.models.quiet import quiet_transformers


def add(commands: Any, summary: str) -> None:
    """Add the subcommand, with the line about it in the list of all."""
    bench = commands.add_parser("bench", help=summary, description=summary)
    subjects = bench.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    solver = subjects.add_parser(
        "solver",
        help="Compare the maximum flow with CVXPY and Clarabel, with igraph and with the model.",
        description="Print Markdown tables of what the maximum flow costs on this machine. Without "
        "options it takes long; begin with --quick. Competitors: pip install 'attnflow[bench]'.",
    )
    solver.set_defaults(run=_bench_solver)
    add = solver.add_argument
    add("--sections", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="S",
        help="Sections to run: %(choices)s (default: all).")  # fmt: skip
    add("--lengths", nargs="+", type=count, metavar="T",
        help="Lengths of the texts in tokens, instead of each section's.")  # fmt: skip
    add("--quick", action="store_true", help="Run small sizes only, in about a minute.")
    add("--repeat", type=count, default=3, metavar="N",
        help="Most runs, of which the fastest counts (default: %(default)s).")  # fmt: skip
    add("--threads", type=count, metavar="N", help="Threads of attnflow (default: torch's).")
    add("--tensor", choices=TENSORS[:-1], default="cf",
        help="Information tensor of the sections with a model (default: %(default)s).")  # fmt: skip
    add("--time-limit", type=seconds, default=120.0, metavar="S",
        help="Seconds for one competitor on one network (default: %(default)g).")  # fmt: skip


def _bench_solver(args: argparse.Namespace) -> int:
    """Print tables of what the solver costs on this machine, each row once it is measured."""
    with quiet_transformers():
        from attnflow.cli.bench.runner import lines
        from attnflow.cli.bench.section import Settings

        settings = {field.name: getattr(args, field.name) for field in fields(Settings)}
        for line in lines(Settings(**settings)):
            if not show(line):
                break
    return 0
