"""Parse the values of options. Nothing here imports torch, so that --help appears at once."""

import argparse
import math
from typing import Any, Literal, NoReturn, get_args

from attnflow.errors import shown
from attnflow.models.literals import InformationTensor, Pattern, Readout, SinkPolicy

TENSORS = get_args(InformationTensor)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and cannot drive the terminal with what was typed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, add_help=False)
        self.add_argument("-h", "--help", action="help", help="Show this help and exit.")
        # A subcommand's defaults replace those above it: the innermost parser reports errors.
        self.set_defaults(parser=self)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; an unknown option is an error of the subcommand that it was given to."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parsed.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # argparse suggests nothing before Python 3.14, where `suggest_on_error` does.
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            from difflib import get_close_matches

            close = get_close_matches(str(value), [str(choice) for choice in action.choices or ()])
            if not close:
                raise
            raise argparse.ArgumentError(
                action, f"invalid choice: {value!r}: did you mean {close[0]}?"
            ) from error

    def error(self, message: str) -> NoReturn:
        from attnflow.attribution.views.sanitize import for_terminal

        # Without the usage, which takes a dozen lines.
        self.exit(2, for_terminal(f"{self.prog}: error: {message} (see {self.prog} --help)") + "\n")


def common_options(parser: argparse.ArgumentParser) -> Any:
    """Return the group of --help, which is shown first, as that of what most calls need."""
    group = parser._optionals  # argparse gives no other way to name it
    group.title = "common options"
    return group


def add_loading(group: Any) -> None:
    """Add the options of loading a model to a group of options."""
    add = group.add_argument
    add("--device", metavar="D", help="cpu, cuda, cuda:1, mps ... (default: cpu).")
    add("--dtype", metavar="T",
        help="Type of the weights: float32, bfloat16, float16, or auto for the checkpoint's "
        "(default: float32, and auto for quantised weights).")  # fmt: skip
    add(
        "--device-map",
        metavar="M",
        help="auto, balanced, sequential: place the layers on several devices (needs accelerate).",
    )
    add("--revision", metavar="R", help="Branch, tag or commit of a model on the hub.")
    add("--gguf", metavar="F", help="GGUF file in the folder or repository that --model names.")


def loading(args: Any) -> dict[str, Any]:
    """Return the keywords of `Explainer.from_pretrained` that the command was given."""
    given = {
        "device": args.device,
        "dtype": args.dtype,
        "device_map": args.device_map,
        "revision": args.revision,
        "gguf_file": args.gguf,
    }
    return {name: value for name, value in given.items() if value is not None}


def add_computation(group: Any) -> None:
    """Add the options of how explanations are computed to a group of options."""
    add = group.add_argument
    add("--tensor", choices=TENSORS, default="net",
        help="Information tensor: effects net at every token (net, default), the older balanced "
        "conservative one (bcf), its one-pass form (cf), or one of the paper's.")  # fmt: skip
    add("--stages", metavar="S", type=stages,
        help="Tokens that net removes in its stages after the first: a share is of those worth "
        "the most, halves are every other one in turn (default: 0.1,halves for models that write; "
        "0.05,0.15,0.3 for others), or none for one stage.")  # fmt: skip
    add("--pattern", choices=get_args(Pattern),
        help="Attention's weights in net: a factor with a share (shared, default for models that "
        "write, where it is possible), or constants (frozen, default for others).")  # fmt: skip
    add("--readout", choices=get_args(Readout), default="input",
        help="Scores are the flow into the input tokens (input, default) or the mean flow through "
        "a token over all layers (throughput, for net, bcf and cf).")  # fmt: skip
    add("--attention-sink", choices=get_args(SinkPolicy), default="keep",
        help="Language models: treat the first token like any other (keep, default), let no flow "
        "end there (exclude), or score it without ranking it (apart).")  # fmt: skip
    add("--coarsen", metavar="N|word|sentence", type=unit,
        help="Merge N tokens, or those of a word or sentence, into one (for long "
        "texts).")  # fmt: skip
    accuracy = group.add_mutually_exclusive_group().add_argument
    accuracy("--gap", metavar="G", type=inside_unit, default=1e-2,
        help="Relative accuracy of the flow, inside (0, 1) (default: %(default)s).")  # fmt: skip
    accuracy("--mu", metavar="M", type=positive,
        help="Absolute barrier weight > 0, instead of --gap.")  # fmt: skip


def computation(args: Any) -> dict[str, Any]:
    """Return the keywords of `Explainer.__call__` that options of the computation give."""
    names = ("tensor", "stages", "pattern", "readout", "attention_sink", "coarsen", "gap", "mu")
    return {name: getattr(args, name) for name in names}


def number(text: str) -> float:
    """Parse a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text}") from None


def inside_unit(text: str) -> float:
    """Parse a number inside (0, 1)."""
    value = number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number inside (0, 1), got {text}")
    return value


def stages(text: str) -> tuple[float | Literal["halves"], ...]:
    """Parse numbers inside (0, 1) and `halves`, with commas between them; `none` is none."""
    parts = [] if text == "none" else text.split(",")
    try:
        return tuple("halves" if part == "halves" else inside_unit(part) for part in parts)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected shares inside (0, 1) and halves, such as 0.1,halves, or none, got "
            f"{shown(text)}"
        ) from None


def positive(text: str) -> float:
    """Parse a barrier's weight, a finite number > 0."""
    value = number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(
            f"expected a finite number > 0, got {text}; for a flow close to a true maximum "
            "use a small --gap"
        )
    return value


def seconds(text: str) -> float:
    """Parse finite seconds > 0."""
    value = number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected seconds > 0, got {text}")
    return value


def span(text: str) -> tuple[int, int] | bool:
    """Parse `A:B` as two token indices, and `all` as True."""
    if text == "all":
        return True
    start, colon, stop = text.partition(":")
    if not (colon and start.isdecimal() and stop.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected A:B, two indices of tokens, or all; got {text}")
    return int(start), int(stop)


def unit(text: str) -> int | str:
    """Parse the unit of coarsening: "word", "sentence" or a number of tokens."""
    if text in ("word", "sentence"):
        return text
    try:
        return count(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected how many tokens, an integer of at least 1, or word or sentence; got {text}"
        ) from None


def seed(text: str) -> int:
    """Parse an integer of at least 0, of at most 18 digits."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, got {text:.80}")
    return int(text)


def natural(text: str) -> int:
    """Parse an integer of at least 0."""
    value = number(text)
    if not (value.is_integer() and value >= 0):
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, got {text}")
    return int(value)


def count(text: str) -> int:
    """Parse an integer of at least 1."""
    value = number(text)
    if not (value.is_integer() and value >= 1):
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text}")
    return int(value)
