"""`attnflow corpus`: explain many texts into a folder of Parquet files, and report on them."""

import argparse
from typing import Any

from attnflow.cli.console import say, show, wrote
from attnflow.cli.options import (
    add_computation,
    add_loading,
    common_options,
    computation,
    count,
    loading,
    natural,
    positive,
)
from attnflow.cli.streams import STANDARD_STREAM, check_output
from attnflow.errors import InputError
from attnflow.models.quiet import quiet_transformers

INCOMPLETE = 3  # exit code of a run that ended with failed texts

EPILOG = """examples:
  attnflow corpus reviews.parquet --text body --id review_id --model my-classifier \\
      --out runs/reviews
  attnflow corpus 'logs/*.jsonl.gz' --text prompt --continuation answer --model my-language-model \\
      --out runs/logs
  attnflow corpus 's3://bucket/*.parquet' --out s3://bucket/out --engine ray --workers 8 --gpus 1
  attnflow corpus --report runs/reviews --html report.html
  attnflow corpus --report runs/reviews --by language --words names.txt --tables tables

The same command goes on with a run that was stopped. A text that cannot be explained becomes a row
with its error: exit code 3 says that there are some, and --retry-failed tries them again.
"""
# Options of a run, and those of a report, by the names of their values.
OF_A_RUN = (
    *("out", "text", "id", "model", "pair", "target_column", "continuation", "label", "segments"),
    *("keep", "chats", "split", "target", "against", "max_new_tokens", "bos", "truncate"),
    *("tensor", "stages", "pattern", "readout", "attention_sink", "coarsen", "gap", "mu"),
    *("shard_rows", "batch_size", "max_memory", "engine", "workers", "gpus", "retry_failed"),
    *("wait", "device", "dtype", "device_map", "revision", "gguf"),
)
OF_A_REPORT = ("html", "tables", "words", "regex", "by", "compare", "min_count")


def add(commands: Any, summary: str) -> None:
    """Add the subcommand, with the line about it in the list of all."""
    corpus = commands.add_parser(
        "corpus",
        help=summary,
        usage="%(prog)s [OPTIONS] SOURCE ... --out DIR\n       %(prog)s [OPTIONS] --report DIR",
        description="Explain every text of a source into a folder of Parquet files, a row each;\n"
        "or report on such a folder.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    corpus.set_defaults(run=_corpus)
    corpus.add_argument("sources", nargs="*", metavar="SOURCE",
        help="Files, folders, globs or addresses (s3://...) of .parquet, .arrow, .jsonl, .csv, "
        ".tsv or .txt, also compressed; or the id of a data set.")  # fmt: skip
    _add_common(common_options(corpus))
    _add_columns(corpus.add_argument_group("columns of the source"))
    _add_decision(corpus.add_argument_group("what to explain"))
    add_computation(corpus.add_argument_group("how to compute"))
    _add_running(corpus.add_argument_group("how to run"))
    _add_report(corpus.add_argument_group("report"))
    add_loading(corpus.add_argument_group("model and machine"))


def _add_common(group: Any) -> None:
    add = group.add_argument
    add("--out", metavar="DIR",
        help="Folder of the results, or its address: made, or gone on with if it holds the same "
        "run.")  # fmt: skip
    add("--text", metavar="COL", default="text",
        help="Column of the texts, or of lists of messages (default: %(default)s).")  # fmt: skip
    add("--id", metavar="COL", help="Column of ids, which must differ (default: file and row).")
    add("--model", metavar="ID", default="attnflow/minilm-l6-sst2",
        help="Hub id, folder or GGUF file (default: the embedded %(default)s).")  # fmt: skip
    add("--report", metavar="DIR", help="Report on the results in this folder; explain nothing.")
    add("--html", metavar="F", help="Write the report as one self-contained page.")
    add("--overwrite", action="store_true", help="Replace existing files of a report.")
    add("--quiet", action="store_true", help="Print only errors.")


def _add_columns(group: Any) -> None:
    add = group.add_argument
    add("--pair", metavar="COL", help="Column of second texts, for models that read two.")
    add("--target-column", metavar="COL", help="Column of what to explain, instead of --target.")
    add("--continuation", metavar="COL",
        help="Column of what a language model's prompts go on with; each is explained as a "
        "whole.")  # fmt: skip
    add("--label", metavar="COL", help="Column of true labels, for the report.")
    add("--segments", metavar="COL",
        help="Column of parts of the texts, such as retrieved passages: a list of strings in their "
        "order, or of objects with name and text, or name, start and end.")  # fmt: skip
    add("--chats", action="store_true",
        help="The texts are chats, as JSON lists of messages.")  # fmt: skip
    add("--keep", metavar="COL", nargs="+", default=[],
        help="Further columns to copy into the results, to compare in the report.")  # fmt: skip
    add("--split", metavar="S", help="Split of a data set given by id (default: train).")


def _add_decision(group: Any) -> None:
    add = group.add_argument
    add("--target", metavar="CLASS",
        help="Class or token to explain, by label, text or index, for all texts (default: the "
        "predicted one).")  # fmt: skip
    add("--against", metavar="CLASS",
        help="Contrast: explain why the target and not this class or token.")  # fmt: skip
    add("--max-new-tokens", metavar="N", type=count,
        help="Language models: generate up to N tokens for each text and explain them "
        "together.")  # fmt: skip
    add("--bos", action="store_true",
        help="Language models whose tokenizer puts no beginning-of-text token in front: put it "
        "there.")  # fmt: skip
    add("--truncate", action="store_true", help="Cut texts longer than the model takes.")


def _add_running(group: Any) -> None:
    add = group.add_argument
    add("--shard-rows", metavar="N", type=count, default=256,
        help="Rows of a shard: what an interruption costs at most for each worker (default: "
        "%(default)s).")  # fmt: skip
    add("--batch-size", metavar="N", type=count, default=16,
        help="Texts in one batch (default: %(default)s).")  # fmt: skip
    add("--max-memory", metavar="SIZE",
        help="Memory that a worker may take besides the model, such as 8GB.")  # fmt: skip
    add("--engine", choices=("local", "ray"), default="local",
        help="Worker processes on this machine, or a Ray cluster (default: "
        "%(default)s).")  # fmt: skip
    add("--workers", metavar="N", type=natural,
        help="Worker processes; 0 works in this one (default: one for each device, or for each CPU "
        "as far as memory goes).")  # fmt: skip
    add("--gpus", metavar="G", type=positive, help="With Ray: GPUs of each worker.")
    add("--retry-failed", action="store_true", help="Explain the texts that failed again.")
    add("--wait", action="store_true",
        help="Wait where another run writes into --out, instead of an error.")  # fmt: skip


def _add_report(group: Any) -> None:
    add = group.add_argument
    add("--tables", metavar="DIR", help="Write the report's tables into this folder, as Parquet.")
    add("--words", metavar="F",
        help="File of words, one on each line, that the model should not rest on.")  # fmt: skip
    add("--regex", metavar="RE", help="The same as a regular expression (RE2).")
    add("--by", metavar="COL", help="Kept column of the source whose values are compared.")
    add("--compare", metavar="DIR", help="Another folder of results, to tell what has changed.")
    add("--min-count", metavar="N", type=count,
        help="Leave out words that occur fewer times.")  # fmt: skip


def _corpus(args: argparse.Namespace) -> int:
    if args.report is not None:
        return _report(args)
    given = [name for name in OF_A_REPORT if getattr(args, name) is not None]
    if given:
        raise InputError(f"--{given[0].replace('_', '-')} goes with --report DIR.")
    if not args.sources:
        raise InputError("no source: give files, folders, globs or the id of a data set.")
    if args.out is None:
        raise InputError("no folder for the results: give --out DIR.")
    with quiet_transformers():
        from attnflow.corpus.run import explain_corpus
        from attnflow.corpus.sources import Names

        run = explain_corpus(
            args.sources[0] if len(args.sources) == 1 else Names(args.sources),
            args.model,
            out=args.out,
            text_column=args.text,
            id_column=args.id,
            pair_column=args.pair,
            target_column=args.target_column,
            continuation_column=args.continuation,
            label_column=args.label,
            segments_column=args.segments,
            keep_columns=args.keep,
            chats=args.chats,
            split=args.split,
            shard_rows=args.shard_rows,
            engine=args.engine,
            workers=args.workers,
            gpus=args.gpus or 0,
            loading=loading(args),
            retry_failed=args.retry_failed,
            wait=args.wait,
            progress=False if args.quiet else None,
            **_options(args),
        )
    if not args.quiet:
        show(f"{run}")
        if run.failed:
            say(f"attnflow: {run.example} (--report {args.out} counts errors; --retry-failed "
                "tries again)")  # fmt: skip
    for name, reason in run.unread.items():
        say(f"attnflow: {name}: {reason}")
    return 0 if run.is_complete else INCOMPLETE


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of `Explainer.__call__` that the command was given."""
    options = {
        **computation(args),
        "target": args.target,
        "against": args.against,
        "continuation": args.max_new_tokens,
        "truncate": args.truncate,
        "bos": args.bos,
        "batch_size": args.batch_size,
        "max_memory": args.max_memory,
    }
    return {name: value for name, value in options.items() if value is not None}


def _report(args: argparse.Namespace) -> int:
    default = args.parser.get_default
    given = [name for name in OF_A_RUN if getattr(args, name) != default(name)]
    if args.sources or given:
        named = "SOURCE" if args.sources else f"--{given[0].replace('_', '-')}"
        raise InputError(f"--report explains nothing: leave out {named}.")
    from attnflow.corpus.report import corpus_report, read_words

    if args.html == STANDARD_STREAM:
        raise InputError("--html - is not for reports, which are large: name a file.")
    if args.html is not None:
        check_output(args.html, overwrite=args.overwrite)
    options = {
        "words": None if args.words is None else read_words(args.words),
        "pattern": args.regex,
        "by": args.by,
        "compare": args.compare,
        "min_count": args.min_count,
    }
    found = corpus_report(args.report, **{k: v for k, v in options.items() if v is not None})
    if not args.quiet:
        show(str(found))
    if args.html is not None:
        wrote(found.to_html(args.html, overwrite=args.overwrite), quiet=args.quiet)
    if args.tables is not None:
        for table in found.to_parquet(args.tables, overwrite=args.overwrite):
            wrote(table, quiet=args.quiet)
    return 0
