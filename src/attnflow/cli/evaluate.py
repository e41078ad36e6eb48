"""`attnflow evaluate`: measure how faithful methods are, on any model and data."""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnflow.cli.console import say, show, wrote
from attnflow.cli.options import add_loading, common_options, count, loading, seed
from attnflow.cli.streams import (
    STANDARD_STREAM,
    check_output,
    named_files,
    read_text,
    write_output,
)
from attnflow.errors import InputError, shown
from attnflow.files import all_or_none, check_folder, real_path
from attnflow.models.quiet import quiet_transformers
from attnflow.progress import bar

if TYPE_CHECKING:
    from attnflow.evaluation import Example, Protocol

EPILOG = """examples:
  attnflow evaluate reviews.tsv --model my-classifier --out runs/reviews
  attnflow evaluate reviews.tsv --out runs/reviews --methods bcf:flow attcat random --limit 100
  attnflow evaluate stories.txt --model my-language-model --position random --out runs/stories
  attnflow evaluate my-images/ --model my-image-classifier --out runs/images
  attnflow evaluate --report runs/reviews --reference bcf:flow --format html --output reviews.html

The same command resumes a run that was stopped. With other methods it adds their rows to the same
folder. --scores NAME=FILE takes scores computed elsewhere, in lines such as
{"example": 0, "scores": [0.1, ...]}, one number for each token of the model's tokenizer (or for the
class token and the patches).

For a language model the next token is explained. A line {"text": ..., "target": " Paris", "span":
[15, 21]} of a .jsonl file gives the right token and the characters that it rests on, for --extras
evidence. "sentences", a list of such spans of which one holds the span, is for --extras sentences:
does that sentence have the largest share of the scores among them? "messages" instead of "text" is
a chat; its characters are those of the contents, each on a line, and the tokens of the template are
not ranked. Images are files in a folder; labels, if there are any, are in a table labels.tsv there,
with columns file and label.
"""
FORMATS = ("text", "csv", "latex", "html")
# Names of the evaluation's own lists, whose import would need torch.
PRESETS = ("paper", "attcat")
OPERATORS = ("mask", "delete", "pad", "pad-attended", "darkest")
GRANULARITIES = ("token", "word")
EXTRAS = ("steps", "naopc", "soft", "infidelity", "sensitivity", "lds", "evidence", "sentences")


def add(commands: Any, summary: str) -> None:
    """Add the subcommand, with the line about it in the list of all."""
    evaluate = commands.add_parser(
        "evaluate",
        help=summary,
        usage="%(prog)s [OPTIONS] DATA --out DIR\n       %(prog)s [OPTIONS] --report DIR ...",
        description="Remove what each method calls important, and measure how far the model's\n"
        "probability falls.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("data", nargs="?", metavar="DATA",
        help="A .tsv, .csv or .jsonl file with a column text (or sentence) and optionally label, "
        "the index of a class; a .txt file with one text per line; - for such lines on standard "
        "input; a folder of images; or an id of the datasets library.")  # fmt: skip
    _add_common(common_options(evaluate))
    _add_measurement(evaluate.add_argument_group("what to measure"))
    _add_protocol(evaluate.add_argument_group("how to measure"))
    _add_output(evaluate.add_argument_group("output"))
    add_loading(evaluate.add_argument_group("model and machine"))


def _add_common(group: Any) -> None:
    add = group.add_argument
    add("--out", metavar="DIR", type=Path,
        help="Folder of the run: made, or resumed if it holds the same run. The table goes to "
        "--output.")  # fmt: skip
    add("--report", nargs="+", metavar="DIR", type=Path,
        help="Show the run in this folder, and measure nothing; or the runs in several, of one "
        "model and protocol and with the same methods, in one table.")  # fmt: skip
    add("--model", metavar="ID", default="attnflow/minilm-l6-sst2",
        help="Hub id or folder (default: the embedded %(default)s).")  # fmt: skip
    add("--methods", nargs="+", metavar="M",
        help="Names of methods (default: the published ones, and the flows of cf, bcf and "
        "net).")  # fmt: skip
    add("--limit", type=count, metavar="N",
        help="Largest number of texts or images, drawn at random.")  # fmt: skip
    add("--reference", metavar="M", help="Compare every method with this one.")
    add("--overwrite", action="store_true", help="Replace existing files.")


def _add_measurement(group: Any) -> None:
    add = group.add_argument
    add("--scores", nargs="+", metavar="N=F", default=[],
        help="Scores computed elsewhere: a name and a .jsonl file.")  # fmt: skip
    add("--split", default="test", help="Split of a data set given by id (default: %(default)s).")
    add("--min-tokens", type=count, default=10, metavar="T",
        help="Leave out texts with fewer tokens (default: %(default)s).")  # fmt: skip
    add("--max-tokens", type=count, default=256, metavar="T",
        help="Leave out texts with more tokens (default: %(default)s).")  # fmt: skip
    add("--position", choices=("end", "random"), default="end",
        help="Language models: explain the token after the whole text, or after a token drawn at "
        "random (default: %(default)s).")  # fmt: skip
    add("--noise", choices=("typos", "slang"),
        help="Misspell part of the words first, or abbreviate them as in chats.")  # fmt: skip


def _add_protocol(group: Any) -> None:
    add = group.add_argument
    add("--preset", choices=PRESETS, default="paper",
        help="Protocol of the paper, or of AttCAT's code (default: %(default)s). For AttCAT's "
        "numbers add --metrics absolute_aopc log_odds.")  # fmt: skip
    add("--shares", nargs="+", type=float, metavar="S",
        help="Shares of the tokens or patches to remove, inside (0, 1] "
        "(default: 0.1 0.2 0.3 0.4 0.5).")  # fmt: skip
    add("--operators", nargs="+", choices=OPERATORS,
        help="Ways to remove tokens or patches (default: mask delete).")  # fmt: skip
    add("--granularity", choices=GRANULARITIES, help="Unit to remove (default: token).")
    add("--target", choices=("predicted", "label"),
        help="Class to explain (default: predicted).")  # fmt: skip
    add("--precision", choices=("float32", "bfloat16"),
        help="Precision of the passes without tokens or patches; methods run in the model's own "
        "(default: float32).")  # fmt: skip
    add("--removed-only", dest="kept", action="store_const", const=False,
        help="Leave out sufficiency and insertion, which saves half of the passes.")  # fmt: skip
    add("--extras", nargs="+", choices=EXTRAS,
        help="Metrics that take longer: %(choices)s.")  # fmt: skip
    add("--seed", type=seed, default=0,
        help="Seed of the draw of texts, of noise and of ties (default: %(default)s).")  # fmt: skip


def _add_output(group: Any) -> None:
    add = group.add_argument
    add("--metrics", nargs="+", metavar="K",
        help="Metrics of the table (default: aopc log_odds sufficiency and the "
        "extras).")  # fmt: skip
    add("--format", choices=FORMATS, default="text",
        help="Format of the table (default: %(default)s).")  # fmt: skip
    add("--output", metavar="F", default=STANDARD_STREAM,
        help="Write the table to the file F (default: -, standard output). The run itself is in "
        "--out.")  # fmt: skip
    add("--figures", metavar="DIR", type=Path,
        help="Draw removal curves and runtimes into this folder.")  # fmt: skip
    add("--wait", action="store_true",
        help="Wait where another evaluation writes into --out, instead of an error.")  # fmt: skip
    add("--quiet", action="store_true", help="Print only errors and the table.")


def _evaluate(args: argparse.Namespace) -> int:
    if (args.report is None) == (args.data is None):
        raise InputError("give DATA and --out to measure, or --report DIR to show a run.")
    if args.data is not None and args.out is None:
        raise InputError("--out is missing: name a folder for the run.")
    _check_table_name(args)
    check_output(args.output, overwrite=args.overwrite)
    if args.figures is not None:
        check_folder(args.figures)
    with quiet_transformers():
        if args.report is None:
            _measure(args)
        _report(args.report or [args.out], args)
    return 0


def _check_table_name(args: argparse.Namespace) -> None:
    """Check that the table does not replace a file that is read."""
    files = [args.data, *(item.partition("=")[2] for item in args.scores)]
    inputs = {real_path(name) for name in files if name and name != STANDARD_STREAM}
    if args.output != STANDARD_STREAM and real_path(args.output) in inputs:
        raise InputError(
            f"--output {args.output} is a file that is read: DATA, --scores and --output must name "
            "different files."
        )


def _measure(args: argparse.Namespace) -> None:
    from attnflow.evaluation import RunSettings, evaluate, read_scores, sample_instances
    from attnflow.evaluation.noise import noisy
    from attnflow.methods import DEFAULT, load_adapter, method
    from attnflow.models.load_options import LoadOptions

    methods = [method(name) for name in args.methods or DEFAULT]
    names = {m.name for m in methods} | set(_external_names(args))
    if args.reference is not None and args.reference not in names:
        raise InputError(
            f"the reference {shown(args.reference)} is not among the methods measured."
        )
    protocol = _protocol(args)
    external_scores = dict(read_scores(item) for item in args.scores)
    examples = _examples(args)
    noise = None if args.noise is None else partial(noisy, kind=args.noise, seed=args.seed)
    settings = RunSettings(
        model=_model_name(args), data=args.data, protocol=protocol, limit=args.limit,
        min_tokens=args.min_tokens, max_tokens=args.max_tokens, noise=args.noise,
        position=args.position,
    )  # fmt: skip
    adapter = load_adapter(args.model, LoadOptions(**loading(args)))
    protocol.check(adapter)
    instances = sample_instances(
        examples, adapter, limit=args.limit,
        min_tokens=args.min_tokens, max_tokens=args.max_tokens, seed=args.seed,
        target=protocol.target, position=args.position, change=noise,
    )  # fmt: skip
    asked = min(len(examples), args.limit or len(examples))
    if len(instances) < asked and not args.quiet:
        say(
            f"{len(instances)} of {asked} examples are measured: the others have fewer than "
            f"{args.min_tokens} tokens (--min-tokens) or more than {args.max_tokens} "
            "(--max-tokens), or a target that is not what the model predicts."
        )
    rows = len(instances) * len(methods) + sum(map(len, external_scores.values()))
    with bar(rows, unit="row", show=False if args.quiet else None) as advance:
        evaluate(
            settings, instances, methods, args.out,
            external_scores=external_scores, progress=advance, wait=args.wait,
        )  # fmt: skip


def _model_name(args: argparse.Namespace) -> str:
    """The model with the options that change what it answers: another run has others."""
    same = {"device": args.device, "device_map": args.device_map, "dtype": "float32"}
    given = {k: value for k, value in loading(args).items() if same.get(k, object()) != value}
    options = ", ".join(f"{name}={value}" for name, value in given.items())
    return f"{args.model} ({options})" if options else str(args.model)


def _external_names(args: argparse.Namespace) -> list[str]:
    """Names of the scores computed elsewhere, as in `NAME=FILE`."""
    return [item.partition("=")[0] for item in args.scores]


def _examples(args: argparse.Namespace) -> "list[Example]":
    from attnflow.evaluation.datasets import read_examples, text_examples

    if args.data == STANDARD_STREAM:
        return text_examples(read_text(args.data, "DATA").split("\n"))
    return read_examples(args.data, split=args.split)


def _protocol(args: argparse.Namespace) -> "Protocol":
    """The preset, with the options given besides it."""
    from attnflow.evaluation import PRESETS

    preset = PRESETS[args.preset]
    return replace(
        preset,
        shares=tuple(_given_or(preset.shares, args.shares)),
        operators=tuple(_given_or(preset.operators, args.operators)),
        granularity=_given_or(preset.granularity, args.granularity),
        target=_given_or(preset.target, args.target),
        precision=_given_or(preset.precision, args.precision),
        kept=_given_or(preset.kept, args.kept),
        seed=args.seed,
        extras=tuple(_given_or(preset.extras, args.extras)),
    )


def _given_or(default: Any, value: Any) -> Any:
    return default if value is None else value


def _report(folders: list[Path], args: argparse.Namespace) -> None:
    from attnflow.evaluation import metric_scores, read_run, read_runs, table
    from attnflow.evaluation.figures import draw, figure_files

    names = None if args.methods is None else [*args.methods, *_external_names(args)]
    rows = read_runs(folders)
    scores = metric_scores(rows, names)
    metrics = None if args.metrics is None else tuple(args.metrics)
    text = table(scores, reference=args.reference, metrics=metrics, form=args.format)
    figures = [] if args.figures is None else figure_files(args.figures)
    with all_or_none([*figures, *named_files([args.output])]):
        if args.figures is not None:
            shares = read_run(folders[0])["run"]["protocol"]["shares"]
            draw(rows, scores, args.figures, shares=shares, overwrite=args.overwrite)
        if args.output == STANDARD_STREAM:
            show(text.rstrip("\n"))
        else:
            write_output(args.output, text, overwrite=args.overwrite, quiet=args.quiet)
    for path in figures:
        wrote(path, quiet=args.quiet)
