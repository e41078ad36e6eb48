"""`attnflow explain`: score the tokens of texts, or the patches of images."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from attnflow.cli.options import (
    add_computation,
    add_loading,
    common_options,
    computation,
    count,
    loading,
    natural,
    span,
)
from attnflow.cli.results import Found, add_files, check_files, print_results, write_results
from attnflow.cli.streams import STANDARD_STREAM, read_standard_input, read_text
from attnflow.errors import InputError
from attnflow.files import parse_json
from attnflow.models.literals import Granularity
from attnflow.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from attnflow.cli.results import Explained
    from attnflow.inputs.image_file import SourceImage

ALTERNATIVES = 2  # that a page of one text or image explains besides what the model predicts

EPILOG = """examples:
  attnflow explain "although this dog is not cute, it is very smart."
  attnflow explain --file reviews.txt --tensor agf --target negative --json scores.json
  cat review.txt | attnflow explain - --html review.html
  cat reviews.txt | attnflow explain --file - --json - | python -m json.tool
  attnflow explain --file reviews.txt --csv tokens.csv
  attnflow explain "Once upon a time" --model my-language-model --max-new-tokens 5 --html story.html
  attnflow explain --chat messages.json --model my-language-model --max-new-tokens 20
  attnflow explain --image cat.jpg --model my-vision-transformer --html cat.html
  attnflow explain --image cat.jpg --model my-vision-language-model "What is this?"
"""


def add(commands: Any, summary: str) -> None:
    """Add the subcommand, with the line about it in the list of all."""
    explain = commands.add_parser(
        "explain",
        help=summary,
        usage="%(prog)s [OPTIONS] [TEXT ...]",
        description="Score the tokens of texts, or the patches of images, for the class or next\n"
        "token that a model predicts.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.set_defaults(run=_explain)
    explain.add_argument("texts", nargs="*", metavar="TEXT",
        help="A text, or - for standard input (-- before texts that begin with -).")  # fmt: skip
    _add_common(common_options(explain))
    _add_input(explain.add_argument_group("input"))
    _add_decision(explain.add_argument_group("what to explain"))
    add_computation(explain.add_argument_group("how to compute"))
    _add_output(explain.add_argument_group("output"))
    _add_machine(explain.add_argument_group("model and machine"))


def _add_common(group: Any) -> None:
    add = group.add_argument
    add("--file", metavar="F",
        help="Read one text per line from this UTF-8 file; - for standard input.")  # fmt: skip
    add("--model", metavar="ID", default="attnflow/minilm-l6-sst2",
        help="Hub id, folder or GGUF file (default: the embedded %(default)s).")  # fmt: skip
    add("--target", metavar="CLASS",
        help="Class or token to explain, by label, text or index (default: the predicted one); "
        "all for every class, top3 for the three most probable.")  # fmt: skip
    add_files(group)


def _add_input(group: Any) -> None:
    add = group.add_argument
    add("--chat", metavar="F",
        help="Read a chat from this file, a JSON list of messages; - for standard "
        "input.")  # fmt: skip
    add("--image", metavar="F", nargs="+",
        help="Image files, for an image model (--model); or of one TEXT or --chat, in their order, "
        "for a vision-language model.")  # fmt: skip
    add("--pair", metavar="TEXT", help="Second text, for models that read two.")
    add("--bos", action="store_true",
        help="Language models whose tokenizer puts no beginning-of-text token in front: put it "
        "there.")  # fmt: skip
    add("--truncate", action="store_true", help="Cut texts longer than the model takes.")


def _add_decision(group: Any) -> None:
    add = group.add_argument
    add("--against", metavar="CLASS",
        help="Contrast: explain why the target and not this class or token.")  # fmt: skip
    add("--position", metavar="P", type=int,
        help="Models that decide at every token: index of the token to read.")  # fmt: skip
    add("--continuation", metavar="TEXT", help="Language models: explain each token of TEXT.")
    add("--max-new-tokens", metavar="N", type=count,
        help="Language models: generate up to N tokens and explain each.")  # fmt: skip
    add("--span", metavar="A:B", type=span,
        help="Language models: explain tokens A to B (B excluded) together; all for the whole "
        "continuation.")  # fmt: skip
    add("--pooling", choices=("mean", "cls", "last"),
        help="Embedding models: how a text's states become one vector (default: as the model's "
        "files state).")  # fmt: skip


def _add_output(group: Any) -> None:
    add = group.add_argument
    add("--granularity", choices=get_args(Granularity),
        help="Unit of the display (default: word; of an image its patches).")  # fmt: skip
    add("--alternatives", metavar="N", type=natural,
        help="Explain the N next most probable classes, tokens or answers for the page too, which "
        "switches between them (default: 2 for one text or image without --target, else "
        "0).")  # fmt: skip
    add("--compare", action="store_true",
        help="Let the page show 2 to 4 texts, or targets of one text, side by side.")  # fmt: skip
    add("--save", metavar="F", help="Write everything for attnflow.load (safetensors).")
    add("--quiet", action="store_true", help="Print only errors.")


def _add_machine(group: Any) -> None:
    add_loading(group)
    add = group.add_argument
    add("--batch-size", metavar="N", type=count, default=16,
        help="Texts or images in one batch (default: %(default)s).")  # fmt: skip
    add("--max-memory", metavar="SIZE",
        help="Refuse calls that need more memory than this besides the model, such as "
        "8GB.")  # fmt: skip


def _explain(args: argparse.Namespace) -> int:
    if args.image is not None and not args.texts:
        args.image, args.texts = _split(args.image)
    images = None if args.image is None else _images(args)
    examples = _texts(args) if images is None or _has_text(args) else None
    if args.max_new_tokens is not None and args.continuation is not None:
        raise InputError("give --continuation or --max-new-tokens, not both.")
    read = [name for name in (args.file, args.chat, *(args.image or ())) if name is not None]
    uses_standard_output = check_files(args, read)
    if args.compare:
        _check_compared(args, len(examples if examples is not None else images or ()))
    if args.alternatives and (args.html is None or not _has_alternatives(args)):
        raise InputError(
            "--alternatives is for a page (--html) of what the model itself predicts: leave it "
            "out with --target, --against, --continuation, --max-new-tokens, --span and --compare."
        )
    found = _results(args, examples, images)
    # Standard output that carries a file carries nothing else, so that a program can read it.
    if not args.quiet and sys.stdout is not None and not uses_standard_output:
        print_results(found.results, args.granularity)
    write_results(found, args)
    return 0


def _check_compared(args: argparse.Namespace, count: int) -> None:
    """Refuse, before anything is computed, what `--compare` cannot show.

    With a target a text may have several results, which are counted when they are there.
    """
    # Here, since only a comparison needs it: `--help` must not wait for numpy.
    from attnflow.attribution.views.page_groups import MOST_COMPARED

    if args.html is None:
        raise InputError("--compare is about the page: name it by --html.")
    if args.target is None and args.pair is None and not 2 <= count <= MOST_COMPARED:
        raise InputError(
            f"--compare shows 2 to {MOST_COMPARED} texts side by side, or targets of one text "
            f"(--target all), got {count}."
        )


def _alternatives(args: argparse.Namespace) -> int:
    """Return how many targets are explained for the page besides the predicted one."""
    if args.html is None or not _has_alternatives(args):
        return 0
    if args.alternatives is not None:
        return int(args.alternatives)
    is_one = args.file is None and max(len(args.texts), len(args.image or ())) <= 1
    return ALTERNATIVES if is_one else 0


def _has_alternatives(args: argparse.Namespace) -> bool:
    """Return whether what is explained is what the model predicts, which has alternatives."""
    other = (args.target, args.against, args.continuation, args.max_new_tokens, args.span)
    return all(option is None for option in other) and not args.compare


def _texts(args: argparse.Namespace) -> list[Any]:
    """Return the texts: arguments (`-`: standard input), the lines of a file, or a chat."""
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
    text = read_text(name, "--chat")
    try:
        messages = parse_json(text)
    except InputError as error:
        raise InputError(f"--chat {name} is not JSON ({error}): expected {expected}.") from error
    if not (isinstance(messages, list) and any(isinstance(m, dict) for m in messages)):
        raise InputError(f"--chat {name} is not a chat: expected {expected}.")
    return messages


def _split(values: list[str]) -> tuple[list[str], list[str]]:
    """Return the image files, and the text that may stand after them: --image cat.jpg "A text".

    A last value that is the name of no file, and looks like none, is a text.
    """
    *files, last = values
    looks_like_a_file = Path(last).suffix != "" and not any(map(str.isspace, last))
    if not files or looks_like_a_file or os.path.exists(last):
        return values, []
    return files, [last]


def _has_text(args: argparse.Namespace) -> bool:
    """Return whether a text is given besides images, for a vision-language model.

    Raises:
        InputError: Several texts are: to which of them an image belongs is not said.
    """
    if len(args.texts) > 1 or args.file is not None:
        raise InputError("--image goes with one TEXT or --chat: explain texts one by one.")
    return bool(args.texts) or args.chat is not None


def _images(args: argparse.Namespace) -> "list[SourceImage]":
    """Open the images, unless an option is given that only texts have."""
    from attnflow.inputs.image_file import open_image

    of_texts = ("pair", "position", "continuation", "max_new_tokens", "span", "truncate", "bos")
    given = [
        f"--{name.replace('_', '-')}"
        for name in of_texts
        if getattr(args, name) not in (None, False)
    ]
    if args.granularity == "word":
        given.append("--granularity word")
    if given and not _has_text(args):
        raise InputError(f"{given[0]} is for texts, not images: leave it out, or --image.")
    return [open_image(file) for file in args.image]


def _lines(name: str) -> list[str]:
    # Not splitlines: a form feed or a Unicode line separator belongs to its text.
    texts = [line for line in read_text(name, "--file").split("\n") if line.strip()]
    if not texts:
        raise InputError(f"--file {name} has no text: expected one text on each line.")
    return texts


def _results(
    args: argparse.Namespace, examples: list[Any] | None, images: "list[SourceImage] | None"
) -> Found:
    with quiet_transformers():
        from attnflow.explainer.explainer import Explainer
        from attnflow.explainer.options import CallOptions
        from attnflow.models.tasks import explained_task

        # Refuse what can be refused before the model is loaded.
        checked = {k: v for k, v in computation(args).items() if k != "attention_sink"}
        CallOptions(**checked, batch_size=args.batch_size, max_memory=args.max_memory)
        explainer = Explainer.from_pretrained(args.model, pooling=args.pooling, **loading(args))
        options = _call_options(args)
        # In a list for the one text, whose images they all are.
        listed = images if examples is None or images is None else [images]
        items = explainer(texts=examples, images=listed, pair=args.pair, **options)
        embeds = explained_task(explainer.model).embeds_texts
        if args.html is not None and args.pair is not None and embeds:
            other = [explainer(args.pair, pair=text, **options) for text in examples or ()]
            both = [item for pair in zip(_flat(items), _flat(other), strict=True) for item in pair]
            # Each side is explained by its similarity to the other.
            return Found(_flat(items), both, compare=args.compare or len(both) == 2)
        firsts = [item[0] for item in items] if _alternatives(args) else _flat(items)
        return Found(firsts, _flat(items), compare=args.compare)


def _call_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of `Explainer.__call__` besides its examples."""
    from attnflow.explainer.targets.decision import Top

    alternatives = _alternatives(args)
    return {
        **computation(args),
        "continuation": args.max_new_tokens if args.continuation is None else args.continuation,
        # Not "top3": a class may have that name.
        "target": Top(1 + alternatives) if alternatives else args.target,
        "against": args.against,
        "position": args.position,
        "span": args.span,
        "edges": args.html is not None or args.save is not None,
        "truncate": args.truncate,
        "bos": args.bos,
        "batch_size": args.batch_size,
        "max_memory": args.max_memory,
        "progress": False if args.quiet else None,
    }


def _flat(attributions: list[Any]) -> "list[Explained]":
    """The results one after the other: with several targets a text has a list of them."""
    from attnflow.attribution.attribution import Results

    # Not `list`: a continuation is a list too, which is shown as a whole.
    return [a for item in attributions for a in (item if isinstance(item, Results) else [item])]
