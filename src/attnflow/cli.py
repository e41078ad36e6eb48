"""The command: `attnflow explain`, and `attnflow bench` for what it costs.

Everything that can be checked without the model is checked before it is loaded: options, texts,
and the files to write. Results go to standard output, all else to standard error. Exit codes: 0
done, 1 an answer without certificate, 2 bad input or a model that cannot be explained, 130
interrupted.
"""

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from attnflow import __version__
from attnflow.bench import SECTIONS
from attnflow.errors import AttnflowError, InputError, StorageError, UnsolvedError
from attnflow.files import check_writable, write_whole

if TYPE_CHECKING:
    from attnflow.attribution import Attribution

TENSORS = ("af", "gf", "agf", "cf")  # named here, so that --help need not wait for torch
EPILOG = """examples:
  attnflow explain "although this dog is not cute, it is very smart."
  attnflow explain --file reviews.txt --tensor agf --target negative --json scores.json
  cat review.txt | attnflow explain - --html review.html
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.filterwarnings("ignore" if args.quiet else "default", category=UserWarning)
            return int(args.run(args))
    except UnsolvedError as error:
        return _fail(error, 1)
    except AttnflowError as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        return _fail("interrupted.", 130)


def _explain(args: argparse.Namespace) -> int:
    texts = _texts(args)
    outputs = [name for name in (args.json, args.html, args.save) if name is not None]
    named = outputs if args.file is None else [*outputs, args.file]
    if len({os.path.realpath(name) for name in named}) < len(named):
        raise InputError("--file, --json, --html and --save must name different files.")
    for name in outputs:
        check_writable(Path(name), overwrite=args.overwrite)
    attributions = _attributions(args, texts)
    if not args.quiet and sys.stdout is not None:
        _print(attributions, args)
    return _write(attributions, args)


def _texts(args: argparse.Namespace) -> list[str]:
    """The texts of the arguments: as they are, `-` for standard input, or one a line of a file."""
    if args.file is not None:
        if args.texts:
            raise InputError("give texts or --file, not both.")
        return _lines(args.file)
    if not args.texts:
        raise InputError("no text to explain: give TEXT, - for standard input, or --file F.")
    if args.texts.count("-") > 1:
        raise InputError("- (standard input) can be read only once.")
    texts = [_standard_input() if text == "-" else text for text in args.texts]
    for i, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"text {i} is empty: there is nothing to explain.")
    return texts


def _lines(name: str) -> list[str]:
    # Not splitlines: a form feed or a Unicode line separator belongs to its text.
    texts = [line for line in _read(Path(name)).split("\n") if line.strip()]
    if not texts:
        raise InputError(f"--file {name} has no text: expected one text on each line.")
    return texts


def _standard_input() -> str:
    if sys.stdin is None:
        raise InputError("standard input is closed: there is no text to read from it.")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8: {error}.") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StorageError(f"cannot read --file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--file {path} is not UTF-8: {error}.") from error


def _attributions(args: argparse.Namespace, texts: list[str]) -> "list[Attribution]":
    with _quiet_transformers():
        from attnflow.explainer import Explainer, check_options

        check_options(args.tensor, args.readout, args.batch_size)
        explainer = Explainer.from_pretrained(args.model, device=args.device)
        with _bar(len(texts), hidden=args.quiet) as advance:
            return explainer(
                texts,
                tensor=args.tensor,
                target=args.target,
                readout=args.readout,
                gap=args.gap,
                mu=args.mu,
                edges=args.html is not None or args.save is not None,
                truncate=args.truncate,
                batch_size=args.batch_size,
                progress=advance,
            )


def _print(attributions: "list[Attribution]", args: argparse.Namespace) -> None:
    from attnflow.views.terminal import render

    _show("\n\n".join(render(a, granularity=args.granularity) for a in attributions))


def _show(text: str) -> bool:
    """Print on standard output what its encoding can say, and tell whether anyone still reads."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except OSError as error:
        # The reader (head, say) has gone, or the disk is full. Python would complain once more when
        # it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise StorageError(f"cannot write to standard output: {error.strerror}.") from error
        return False
    return True


def _write(attributions: "list[Attribution]", args: argparse.Namespace) -> int:
    from attnflow.attribution import save
    from attnflow.views.page import write

    if args.json is not None:
        records = [a.to_dict() for a in attributions]
        data = json.dumps(records, indent=1) + "\n"
        _wrote(write_whole(Path(args.json), data, overwrite=args.overwrite), args)
    if args.save is not None:
        _wrote(save(attributions, args.save, overwrite=args.overwrite), args)
    if args.html is not None:
        _wrote(write(attributions, Path(args.html), overwrite=args.overwrite), args)
    return 0


def _wrote(path: Path, args: argparse.Namespace) -> None:
    if not args.quiet:
        _say(f"wrote {path}")


def _bench_solver(args: argparse.Namespace) -> int:
    """Print tables of what the solver costs on this machine, each row once it is measured."""
    with _quiet_transformers():
        from attnflow.bench.section import Settings
        from attnflow.bench.solver import lines

        settings = {field.name: getattr(args, field.name) for field in fields(Settings)}
        for line in lines(Settings(**settings)):
            if not _show(line):
                break
    return 0


@contextmanager
def _bar(total: int, *, hidden: bool) -> Iterator[Any]:
    """A progress bar on standard error once there is more than a batch to wait for."""
    from tqdm import tqdm

    disabled = hidden or total <= 16
    with tqdm(total=total, unit="text", disable=disabled, leave=False) as bar:
        yield bar.update


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without the loading bars and advice of transformers: our errors say what matters."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _say(message: object) -> None:
    """A line on standard error that no text or file name can use to drive the terminal."""
    from attnflow.views.characters import for_terminal

    try:
        print(for_terminal(str(message)), file=sys.stderr, flush=True)
    except OSError:
        # Nobody reads standard error any more; the files that are still to be written matter more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _fail(error: object, code: int) -> int:
    _say(f"attnflow: {error}")
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"attnflow: warning: {message}")


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints cannot drive the terminal with what was typed."""

    def error(self, message: str) -> NoReturn:
        from attnflow.views.characters import for_terminal

        super().error(for_terminal(message))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text}") from None


def _inside_unit(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number inside (0, 1), got {text}")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(
            f"expected a finite number > 0, got {text}; for a flow close to a true maximum "
            "use a small --gap"
        )
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected seconds > 0, got {text}")
    return value


def _count(text: str) -> int:
    value = _number(text)
    if not (value.is_integer() and value >= 1):
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text}")
    return int(value)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="attnflow",
        description="Which tokens a Transformer's decision rests on, by a certified maximum flow.",
    )
    parser.add_argument("--version", action="version", version=f"attnflow {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_explain(commands)
    _add_bench(commands)
    return parser


def _add_explain(commands: Any) -> None:
    explain = commands.add_parser(
        "explain",
        help="score the tokens of texts",
        description="Score the tokens of texts for the class that a model predicts.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.set_defaults(run=_explain)
    explain.add_argument("texts", nargs="*", metavar="TEXT",
        help="a text, or - for standard input (-- before texts that begin with -)")  # fmt: skip
    add = explain.add_argument_group("what to explain").add_argument
    add("--file", metavar="F", help="read texts from F, one a line (UTF-8)")
    add("--model", metavar="ID", default="attnflow/minilm-l6-sst2",
        help="hub id or folder (default: the embedded %(default)s)")  # fmt: skip
    add("--target", metavar="CLASS", help="label or index (default: the predicted class)")
    add("--truncate", action="store_true", help="cut texts longer than the model takes")
    add("--device", metavar="D", help="cpu, cuda, cuda:1, mps ... (default: cpu)")
    add("--batch-size", metavar="N", type=_count, default=16, help="texts at a time (%(default)s)")
    add = explain.add_argument_group("how").add_argument
    add("--tensor", choices=TENSORS, default="cf",
        help="information tensor: conservative (cf, default) or one of the paper's")  # fmt: skip
    add("--readout", choices=("input", "throughput"), default="input",
        help="outflow of the input row (default) or mean flow over all rows (cf)")  # fmt: skip
    add = explain.add_mutually_exclusive_group().add_argument
    add("--gap", metavar="G", type=_inside_unit, default=1e-2,
        help="relative accuracy of the flow, inside (0, 1) (default: %(default)s)")  # fmt: skip
    add("--mu", metavar="M", type=_positive, help="absolute barrier weight > 0, instead of --gap")
    add = explain.add_argument_group("what to show and write").add_argument
    add("--granularity", choices=("token", "word"), default="token", help="unit of the display")
    add("--json", metavar="F", help="write scores and diagnostics as JSON")
    add("--html", metavar="F", help="write one self-contained page")
    add("--save", metavar="F", help="write everything for attnflow.load (safetensors)")
    add("--overwrite", action="store_true", help="replace existing files")
    add("--quiet", action="store_true", help="print nothing but errors")


def _add_bench(commands: Any) -> None:
    about = "measure on this machine what things cost"
    bench = commands.add_parser("bench", help=about, description=about)
    subjects = bench.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    solver = subjects.add_parser(
        "solver",
        help="the maximum flow, beside CVXPY with Clarabel, igraph, and the model itself",
        description="Print Markdown tables of what the maximum flow costs on this machine. Without "
        "options it takes long; begin with --quick. Competitors: pip install 'attnflow[bench]'.",
    )
    solver.set_defaults(run=_bench_solver, quiet=False)
    add = solver.add_argument
    add("--sections", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="S",
        help="which of %(choices)s (default: all)")  # fmt: skip
    add("--lengths", nargs="+", type=_count, metavar="T",
        help="tokens of a text, instead of each section's own")  # fmt: skip
    add("--quick", action="store_true", help="small sizes only, in about a minute")
    add("--repeat", type=_count, default=3, metavar="N",
        help="most runs, of which the fastest counts (default: %(default)s)")  # fmt: skip
    add("--threads", type=_count, metavar="N", help="threads of attnflow (default: torch's)")
    add("--tensor", choices=TENSORS, default="cf",
        help="information tensor of the sections with a model (default: %(default)s)")  # fmt: skip
    add("--time-limit", type=_seconds, default=120.0, metavar="S",
        help="seconds for a competitor and a network (default: %(default)g)")  # fmt: skip
