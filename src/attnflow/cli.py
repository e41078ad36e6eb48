"""The command: one subcommand for each public function.

Everything that can be checked without the model is checked before it is loaded: options, texts, and
the files to write. Results go to standard output, all else to standard error. Exit codes: 0 done, 1 an
answer without certificate or a broken model, 2 bad input, 130 interrupted.
"""

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnflow import __version__
from attnflow.errors import AttnflowError, InputError, StorageError, UnsolvedError
from attnflow.files import check_writable, write_whole

if TYPE_CHECKING:
    from attnflow.attribution import Attribution

EPILOG = """examples:
  attnflow explain "although this dog is not cute, it is very smart."
  attnflow explain --file reviews.txt --tensor agf --target negative --json scores.json
  cat review.txt | attnflow explain - --html review.html
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = _parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    try:
        return int(args.run(args))
    except UnsolvedError as error:
        return _fail(error, 1)
    except AttnflowError as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        return _fail("interrupted; no file was written.", 130)
    except BrokenPipeError:
        # The reader (head, say) has gone: Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _explain(args: argparse.Namespace) -> int:
    texts = _texts(args)
    outputs = [Path(name) for name in (args.json, args.html, args.save) if name]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError("--json, --html and --save must name different files.")
    for path in outputs:
        check_writable(path, overwrite=args.overwrite)
    attributions = _attributions(args, texts)
    if not args.quiet:
        _print(attributions, args)
    return _write(attributions, args)


def _texts(args: argparse.Namespace) -> list[str]:
    """The texts of the arguments: as they are, `-` for standard input, or one a line of a file."""
    given = [*args.texts]
    if args.file:
        if given:
            raise InputError("give texts or --file, not both.")
        given = [line for line in _read(Path(args.file)).splitlines() if line.strip()]
        if not given:
            raise InputError(f"--file {args.file} has no text: expected one text on each line.")
    if not given:
        raise InputError("no text to explain: give TEXT, - for standard input, or --file F.")
    if given.count("-") > 1:
        raise InputError("- (standard input) can be read only once.")
    texts = [_standard_input() if text == "-" else text for text in given]
    for i, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"text {i} is empty: there is nothing to explain.")
    return texts


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8").strip("\n")
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
        from attnflow.explainer import Explainer

        explainer = Explainer.from_pretrained(args.model, device=args.device)
        with _bar(len(texts), hidden=args.quiet) as advance:
            return explainer(
                texts,
                tensor=args.tensor,
                target=args.target,
                readout=args.readout,
                gap=args.gap,
                mu=args.mu,
                edges=bool(args.html or args.save),
                truncate=args.truncate,
                batch_size=args.batch_size,
                progress=advance,
            )


def _print(attributions: "list[Attribution]", args: argparse.Namespace) -> None:
    from attnflow.views.terminal import render

    for i, attribution in enumerate(attributions):
        if i:
            print()
        print(render(attribution, granularity=args.granularity))


def _write(attributions: "list[Attribution]", args: argparse.Namespace) -> int:
    from attnflow.attribution import save
    from attnflow.views.page import write

    if args.json:
        records = [a.to_dict() for a in attributions]
        data = json.dumps(records, indent=1) + "\n"
        _wrote(write_whole(Path(args.json), data, overwrite=args.overwrite), args)
    if args.save:
        _wrote(save(attributions, args.save, overwrite=args.overwrite), args)
    if args.html:
        _wrote(write(attributions, Path(args.html), overwrite=args.overwrite), args)
    return 0


def _wrote(path: Path, args: argparse.Namespace) -> None:
    if not args.quiet:
        _say(f"wrote {path}")


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

    print(for_terminal(str(message)), file=sys.stderr)


def _fail(error: object, code: int) -> int:
    _say(f"attnflow: {error}")
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"attnflow: warning: {message}")


def _inside_unit(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number inside (0, 1), got {text}")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(
            f"expected a finite number > 0, got {text}; for a flow close to a true maximum "
            "use a small --gap"
        )
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnflow",
        description="Which tokens a Transformer's decision rests on, by a certified maximum flow.",
    )
    parser.add_argument("--version", action="version", version=f"attnflow {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_explain(commands)
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
    explain.add_argument("texts", nargs="*", metavar="TEXT", help="a text, or - for standard input")
    add = explain.add_argument_group("what to explain").add_argument
    add("--file", metavar="F", help="read texts from F, one a line (UTF-8)")
    add("--model", metavar="ID", default="attnflow/minilm-l6-sst2",
        help="hub id or folder (default: the embedded %(default)s)")  # fmt: skip
    add("--target", metavar="CLASS", help="label or index (default: the predicted class)")
    add("--truncate", action="store_true", help="cut texts longer than the model takes")
    add("--device", metavar="D", help="cpu, cuda, cuda:1, mps ... (default: cpu)")
    add("--batch-size", metavar="N", type=_count, default=16, help="texts at a time (%(default)s)")
    add = explain.add_argument_group("how").add_argument
    add("--tensor", choices=("af", "gf", "agf", "cf"), default="cf",
        help="information tensor: conservative (cf, default) or one of the paper's")  # fmt: skip
    add("--readout", choices=("input", "throughput"), default="input",
        help="outflow of the input row (default), or mean flow over all rows (cf only)")  # fmt: skip
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
