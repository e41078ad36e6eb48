"""`attnflow explain`: score the tokens of texts, or the patches of images."""

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from attnflow.cli.console import bar, quiet_transformers, show, wrote
from attnflow.cli.options import TENSORS, count, inside_unit, positive, span, unit
from attnflow.cli.streams import (
    STANDARD_STREAM,
    check_output,
    read_standard_input,
    read_text,
    write_output,
)
from attnflow.errors import InputError

if TYPE_CHECKING:
    from attnflow.attribution.attribution import Attribution, Attributions
    from attnflow.inputs.image_file import SourceImage

    Shown = Attribution | Attributions

EPILOG = """examples:
  attnflow explain "although this dog is not cute, it is very smart."
  attnflow explain --file reviews.txt --tensor agf --target negative --json scores.json
  cat review.txt | attnflow explain - --html review.html
  cat reviews.txt | attnflow explain --file - --json - | python -m json.tool
  attnflow explain "Once upon a time" --model my-language-model --max-new-tokens 5 --html story.html
  attnflow explain --chat messages.json --model my-language-model --max-new-tokens 20
  attnflow explain --image cat.jpg --model my-vision-transformer --html cat.html
"""


def add(commands: Any) -> None:
    """Add the subcommand."""
    explain = commands.add_parser(
        "explain",
        help="score the tokens of texts, or the patches of images",
        description="Score the tokens of texts, or the patches of images, for the class or next "
        "token that a model predicts.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.set_defaults(run=_explain)
    explain.add_argument("texts", nargs="*", metavar="TEXT",
        help="a text, or - for standard input (-- before texts that begin with -)")  # fmt: skip
    add = explain.add_argument_group("what to explain").add_argument
    add("--file", metavar="F", help="read texts from F, one a line (UTF-8); - for standard input")
    add(
        "--chat",
        metavar="F",
        help="read one chat from F, a JSON list of messages; - for standard input",
    )
    add("--image", metavar="F", nargs="+", help="image files, for a model of images (--model)")
    add("--model", metavar="ID", default="attnflow/minilm-l6-sst2",
        help="hub id or folder (default: the embedded %(default)s)")  # fmt: skip
    add("--target", metavar="CLASS",
        help="class or token, by label, text or index (default: the predicted one)")  # fmt: skip
    add("--pair", metavar="TEXT", help="a second text, for models that read two")
    add("--pooling", choices=("mean", "cls", "last"),
        help="of a model of embeddings: how a text becomes one (default: as its files "
        "say)")  # fmt: skip
    add("--against", metavar="CLASS", help="contrast with this one: why the target and not it")
    add("--position", metavar="P", type=int,
        help="of models that decide at every token: index of the one that is read")  # fmt: skip
    add("--continuation", metavar="TEXT", help="of a language model: explain each token of TEXT")
    add("--max-new-tokens", metavar="N", type=count,
        help="of a language model: let it generate up to N tokens, and explain each")  # fmt: skip
    add("--span", metavar="A:B", type=span,
        help="of a language model: explain tokens A to B (B excluded) at once; all: the whole "
        "continuation")  # fmt: skip
    add("--attention-sink", choices=("keep", "exclude", "apart"), default="keep",
        help="of a language model: keep its first token (default), let no flow end there, or do "
        "not rank it")  # fmt: skip
    add("--truncate", action="store_true", help="cut texts longer than the model takes")
    add("--device", metavar="D", help="cpu, cuda, cuda:1, mps ... (default: cpu)")
    add("--batch-size", metavar="N", type=count, default=16,
        help="texts or images at a time (%(default)s)")  # fmt: skip
    add("--max-memory", metavar="SIZE", help="refuse what needs more beside the model, as in 8GB")
    add = explain.add_argument_group("how").add_argument
    add("--coarsen", metavar="N|word|sentence", type=unit,
        help="merge N tokens, or those of a word or sentence, into one (long texts)")  # fmt: skip
    add("--tensor", choices=TENSORS, default="bcf",
        help="information tensor: balanced conservative (bcf, default), its one-pass form (cf), or "
        "one of the paper's")  # fmt: skip
    add("--readout", choices=("input", "throughput"), default="input",
        help="outflow of the input row (default) or mean flow over all rows (bcf, cf)")  # fmt: skip
    add = explain.add_mutually_exclusive_group().add_argument
    add("--gap", metavar="G", type=inside_unit, default=1e-2,
        help="relative accuracy of the flow, inside (0, 1) (default: %(default)s)")  # fmt: skip
    add("--mu", metavar="M", type=positive, help="absolute barrier weight > 0, instead of --gap")
    add = explain.add_argument_group("what to show and write").add_argument
    add("--granularity", choices=("token", "word"), default="token", help="unit of the display")
    add("--json", metavar="F", help="write scores and diagnostics as JSON; - for standard output")
    add("--html", metavar="F", help="write one self-contained page; - for standard output")
    add("--save", metavar="F", help="write everything for attnflow.load (safetensors)")
    add("--overwrite", action="store_true", help="replace existing files")
    add("--quiet", action="store_true", help="print nothing but errors")


def _explain(args: argparse.Namespace) -> int:
    examples: list[Any] = _texts(args) if args.image is None else _images(args)
    if args.max_new_tokens is not None and args.continuation is not None:
        raise InputError("give --continuation or --max-new-tokens, not both.")
    outputs = _outputs(args)
    for name in outputs:
        check_output(name, overwrite=args.overwrite)
    attributions = _attributions(args, examples)
    # Standard output that carries a file carries nothing else, so that a program can read it.
    if not args.quiet and sys.stdout is not None and STANDARD_STREAM not in outputs:
        _print(attributions, args)
    return _write(attributions, args)


def _outputs(args: argparse.Namespace) -> list[str]:
    """Names of the files to write, all different from each other and from those that are read."""
    outputs = [name for name in (args.json, args.html, args.save) if name is not None]
    if args.save == STANDARD_STREAM:
        raise InputError("--save writes a binary file: name it, - is for --json and --html.")
    if outputs.count(STANDARD_STREAM) > 1:
        raise InputError("- (standard output) can be written only once: name a file.")
    inputs = [args.file, args.chat, *{os.path.realpath(file) for file in args.image or ()}]
    files = [name for name in (*outputs, *inputs) if name not in (None, STANDARD_STREAM)]
    if len({os.path.realpath(name) for name in files}) < len(files):
        raise InputError(
            "--file, --chat, --image, --json, --html and --save must name different files."
        )
    return outputs


def _texts(args: argparse.Namespace) -> list[Any]:
    """The texts of the arguments: as they are, `-` for standard input, lines of a file, a chat."""
    if args.chat is not None:
        if args.texts or args.file is not None:
            raise InputError("give --chat alone, without texts or --file.")
        return [_chat(args.chat)]
    if args.file is not None:
        if args.texts:
            raise InputError("give texts or --file, not both.")
        return _lines(args.file)
    if not args.texts:
        raise InputError("no text to explain: give TEXT, - for standard input, or --file F.")
    if args.texts.count(STANDARD_STREAM) > 1:
        raise InputError("- (standard input) can be read only once.")
    texts = [read_standard_input() if text == STANDARD_STREAM else text for text in args.texts]
    for i, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"text {i} is empty: there is nothing to explain.")
    return texts


def _chat(name: str) -> list[Any]:
    expected = 'a JSON list of messages: [{"role": "user", "content": "..."}]'
    try:
        messages = json.loads(read_text(name, "--chat"))
    except json.JSONDecodeError as error:
        raise InputError(f"--chat {name} is no JSON ({error}): expected {expected}.") from error
    if not (isinstance(messages, list) and any(isinstance(m, dict) for m in messages)):
        raise InputError(f"--chat {name} is no chat: expected {expected}.")
    return messages


def _images(args: argparse.Namespace) -> "list[SourceImage]":
    """The images of the arguments, with nothing beside them that goes with texts alone."""
    from attnflow.inputs.image_file import open_image

    of_texts = (
        "file", "chat", "pair", "position", "continuation", "max_new_tokens",
        "span", "truncate",
    )  # fmt: skip
    given = [
        f"--{name.replace('_', '-')}"
        for name in of_texts
        if getattr(args, name) not in (None, False)
    ]
    given += ["TEXT"] * bool(args.texts) + ["--granularity word"] * (args.granularity == "word")
    if given:
        raise InputError(f"{given[0]} goes with texts: leave it out, or --image.")
    return [open_image(file) for file in args.image]


def _lines(name: str) -> list[str]:
    # Not splitlines: a form feed or a Unicode line separator belongs to its text.
    texts = [line for line in read_text(name, "--file").split("\n") if line.strip()]
    if not texts:
        raise InputError(f"--file {name} has no text: expected one text on each line.")
    return texts


def _attributions(args: argparse.Namespace, examples: list[Any]) -> "list[Shown]":
    with quiet_transformers():
        from attnflow.explainer.explainer import Explainer
        from attnflow.explainer.options import CallOptions

        CallOptions(  # what can be refused before the model is loaded
            tensor=args.tensor,
            readout=args.readout,
            batch_size=args.batch_size,
            coarsen=args.coarsen,
        )
        explainer = Explainer.from_pretrained(args.model, device=args.device, pooling=args.pooling)
        continuation = args.max_new_tokens if args.continuation is None else args.continuation
        unit = "text" if args.image is None else "image"
        with bar(len(examples), unit=unit, hidden=args.quiet) as advance:
            found: list[Shown] = explainer(
                texts=examples if args.image is None else None,
                images=None if args.image is None else examples,
                continuation=continuation,
                pair=args.pair,
                tensor=args.tensor,
                target=args.target,
                against=args.against,
                position=args.position,
                span=args.span,
                attention_sink=args.attention_sink,
                readout=args.readout,
                gap=args.gap,
                mu=args.mu,
                edges=args.html is not None or args.save is not None,
                truncate=args.truncate,
                batch_size=args.batch_size,
                coarsen=args.coarsen,
                max_memory=args.max_memory,
                progress=advance,
            )
            return found


def _print(attributions: "list[Shown]", args: argparse.Namespace) -> None:
    from attnflow.attribution.views.terminal import render, render_continuation

    show(
        "\n\n".join(
            render_continuation(a)
            if isinstance(a, list)
            else render(a, granularity=args.granularity)
            for a in attributions
        )
    )


def _write(attributions: "list[Shown]", args: argparse.Namespace) -> int:
    from attnflow.attribution.attribution import save
    from attnflow.attribution.views.page import render

    each = [a for one in attributions for a in (one if isinstance(one, list) else [one])]
    if args.json is not None:
        data = json.dumps([a.to_dict() for a in each], indent=1) + "\n"
        write_output(args.json, data, overwrite=args.overwrite, quiet=args.quiet)
    if args.save is not None:
        wrote(save(each, args.save, overwrite=args.overwrite), quiet=args.quiet)
    if args.html is not None:
        write_output(args.html, render(attributions), overwrite=args.overwrite, quiet=args.quiet)
    return 0
