"""`attnflow evaluate`: how faithful methods are, on a model and data of the reader's own."""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnflow.cli.console import bar, quiet_transformers, show, wrote
from attnflow.cli.options import count
from attnflow.cli.streams import STANDARD_STREAM, check_output, read_text, write_output
from attnflow.errors import InputError

if TYPE_CHECKING:
    from attnflow.evaluation import Example

EPILOG = """examples:
  attnflow evaluate reviews.tsv --model my-classifier --out runs/reviews
  attnflow evaluate reviews.tsv --out runs/reviews --methods bcf:flow attcat random --limit 100
  attnflow evaluate stories.txt --model my-language-model --position random --out runs/stories
  attnflow evaluate my-images/ --model my-image-classifier --out runs/images
  attnflow evaluate --report runs/reviews --reference bcf:flow --format html --output reviews.html

A killed run goes on where it was when the same command is given again. With other methods it adds
theirs to the same folder. Scores made elsewhere: --scores NAME=FILE, with lines such as
{"example": 0, "scores": [0.1, ...]}, a number for each token of the model's tokenizer (or its class
token and patches).

A language model is asked for the token that comes next. Images are files in a folder, with a table
labels.tsv of columns file and label in it where there are labels.
"""
FORMATS = ("text", "csv", "latex", "html")


def add(commands: Any) -> None:
    """Add the subcommand."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure how faithful methods are",
        description="Remove what each method calls important, and watch the prediction fall.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("data", nargs="?", metavar="DATA",
        help=".tsv, .csv or .jsonl file with a column text (or sentence) and perhaps label, the "
        "index of a class; .txt file with a text on each line, "
        "- for such lines on standard input, folder of images, or an id of datasets")  # fmt: skip
    add = evaluate.add_argument_group("what to measure").add_argument
    add("--out", metavar="DIR", type=Path, help="folder of the run, made or gone on with")
    add("--model", metavar="ID", default="attnflow/minilm-l6-sst2",
        help="hub id or folder (default: the embedded %(default)s)")  # fmt: skip
    add(
        "--methods",
        nargs="+",
        metavar="M",
        help="names (default: the published ones, cf:flow, bcf:flow)",
    )
    add("--scores", nargs="+", metavar="N=F", default=[], help="scores made elsewhere, by name")
    add("--split", default="test", help="of a data set by id (%(default)s)")
    add("--limit", type=count, metavar="N", help="most texts or images, drawn at random")
    add("--min-tokens", type=count, default=10, metavar="T", help="fewest tokens (%(default)s)")
    add("--max-tokens", type=count, default=256, metavar="T", help="most tokens (%(default)s)")
    add("--position", choices=("end", "random"), default="end",
        help="of language models: explain what follows the whole text, or a token drawn at "
        "random (%(default)s)")  # fmt: skip
    add("--noise", choices=("typos", "slang"), help="make a part of the words worse at first")
    add("--device", metavar="D", help="cpu, cuda, cuda:1, mps ... (default: cpu)")
    add = evaluate.add_argument_group("how").add_argument
    add("--preset", choices=("paper", "attcat"), default="paper",
        help="the protocol of the paper, or of AttCAT's code (%(default)s); for its numbers add "
        "--metrics absolute_aopc log_odds")  # fmt: skip
    add("--shares", nargs="+", type=float, metavar="S",
        help="of the tokens or patches removed, inside (0, 1] (default: .1 to .5)")  # fmt: skip
    add("--operators", nargs="+", choices=("mask", "delete", "pad", "pad-attended", "darkest"),
        help="how tokens, or patches, are removed (default: mask delete)")  # fmt: skip
    add("--granularity", choices=("token", "word"), help="what is removed (default: token)")
    add("--target", choices=("predicted", "label"), help="class explained (default: predicted)")
    add("--precision", choices=("float32", "bfloat16"),
        help="of the passes that judge (default: float32)")  # fmt: skip
    add("--removed-only", dest="kept", action="store_const", const=False,
        help="judge no sufficiency, for half of the passes")  # fmt: skip
    add("--extras", nargs="+", choices=("steps", "naopc", "soft", "infidelity", "sensitivity"),
        help="metrics that cost more: %(choices)s")  # fmt: skip
    add("--seed", type=int, default=0, help="of the draw of texts, of noise and of ties")
    add = evaluate.add_argument_group("what to show").add_argument
    add("--report", metavar="DIR", type=Path, help="show this run, and measure nothing")
    add("--metrics", nargs="+", metavar="K",
        help="of the table (default: aopc log_odds sufficiency and the extras)")  # fmt: skip
    add("--reference", metavar="M", help="compare every method with this one")
    add("--format", choices=FORMATS, default="text", help="of the table (%(default)s)")
    add("--output", metavar="F", default=STANDARD_STREAM,
        help="write the table to the file F (default: -, standard output)")  # fmt: skip
    add("--figures", metavar="DIR", type=Path, help="draw curves and runtimes into this folder")
    add("--overwrite", action="store_true", help="replace existing files")
    add("--quiet", action="store_true", help="print nothing but errors and the table")


def _evaluate(args: argparse.Namespace) -> int:
    if (args.report is None) == (args.data is None):
        raise InputError("give DATA and --out to measure, or --report DIR to show a run.")
    if args.data is not None and args.out is None:
        raise InputError("--out is missing: name a folder for the run.")
    check_output(args.output, overwrite=args.overwrite)
    with quiet_transformers():
        if args.report is None:
            _measure(args)
        _report(args.report or args.out, args)
    return 0


def _measure(args: argparse.Namespace) -> None:
    from attnflow.evaluation import RunSettings, evaluate, read_scores, sample_instances
    from attnflow.evaluation.noise import noisy
    from attnflow.methods import DEFAULT, load_adapter, method

    methods = [method(name) for name in args.methods or DEFAULT]
    shown = {m.name for m in methods} | {item.partition("=")[0] for item in args.scores}
    if args.reference is not None and args.reference not in shown:
        raise InputError(f"the reference {args.reference!r} is not among the methods measured.")
    protocol = _protocol(args)
    external_scores = dict(read_scores(item) for item in args.scores)
    examples = _examples(args)
    noise = None if args.noise is None else partial(noisy, kind=args.noise, seed=args.seed)
    run = RunSettings(
        args.model, args.data, protocol, args.limit, args.min_tokens, args.max_tokens, args.noise,
        args.position,
    )  # fmt: skip
    adapter = load_adapter(args.model, device=args.device)
    protocol.check(adapter)
    instances = sample_instances(
        examples, adapter, limit=args.limit,
        min_tokens=args.min_tokens, max_tokens=args.max_tokens, seed=args.seed,
        target=protocol.target, position=args.position, change=noise,
    )  # fmt: skip
    total = len(instances) * len(methods) + sum(len(scores) for scores in external_scores.values())
    with bar(total, unit="row", hidden=args.quiet) as advance:
        evaluate(
            run, instances, methods, args.out, external_scores=external_scores, progress=advance
        )


def _examples(args: argparse.Namespace) -> "list[Example]":
    from attnflow.evaluation.datasets import read_examples, text_examples

    if args.data == STANDARD_STREAM:
        return text_examples(read_text(args.data, "DATA").split("\n"))
    return read_examples(args.data, split=args.split)


def _protocol(args: argparse.Namespace) -> Any:
    """The preset, with what is given beside it."""
    from attnflow.evaluation import PRESETS

    given: dict[str, Any] = {"seed": args.seed}
    for name in ("shares", "operators", "granularity", "target", "precision", "kept", "extras"):
        value = getattr(args, name)
        if value is not None:
            given[name] = tuple(value) if isinstance(value, list) else value
    return replace(PRESETS[args.preset], **given)


def _report(folder: Path, args: argparse.Namespace) -> None:
    from attnflow.evaluation import metric_scores, read_rows, read_run, table
    from attnflow.evaluation.figures import draw

    names = (
        None if args.methods is None else [*args.methods, *(s.split("=")[0] for s in args.scores)]
    )
    rows = read_rows(folder)
    found = metric_scores(rows, names)
    metrics = None if args.metrics is None else tuple(args.metrics)
    text = table(found, reference=args.reference, metrics=metrics, form=args.format)
    if args.output == STANDARD_STREAM:
        show(text.rstrip("\n"))
    else:
        write_output(args.output, text, overwrite=args.overwrite, quiet=args.quiet)
    if args.figures is not None:
        shares = read_run(folder)["run"]["protocol"]["shares"]
        for path in draw(rows, found, args.figures, shares=shares, overwrite=args.overwrite):
            wrote(path, quiet=args.quiet)
