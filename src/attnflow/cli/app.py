"""`attnflow app`: a local page to type texts into, and see what a decision about them rests on."""

import argparse
import webbrowser
from typing import Any

from attnflow.cli.console import say
from attnflow.cli.options import add_loading, loading

EPILOG = """examples:
  attnflow app --open
  attnflow app --model path/or/hub-id --model attnflow/minilm-l6-sst2
  attnflow app --host 0.0.0.0 --port 8000

The app listens on this machine alone. With another --host it asks for a token, which it prints as
a part of its address. docs/app.md says what it does with what is typed.
"""


def add(commands: Any, summary: str) -> None:
    """Add the subcommand, with the line about it in the list of all."""
    app = commands.add_parser(
        "app",
        help=summary,
        description="Serve a local page on which texts are typed, explained, edited and compared.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    app.set_defaults(run=_app)
    option = app.add_argument
    option("--model", metavar="ID", action="append",
        help="Hub id, folder or GGUF file to choose from; may be repeated (default: the embedded "
        "attnflow/minilm-l6-sst2).")  # fmt: skip
    option("--host", metavar="H", default="127.0.0.1",
        help="Address to listen at (default: %(default)s, this machine alone). Others need a "
        "token.")  # fmt: skip
    option("--port", metavar="P", type=_port,
        help="Port, 0 for any free one (default: the first free one from 8321 on).")  # fmt: skip
    option("--token", metavar="T", type=_token,
        help="Secret of at least 16 characters that a browser must give (default: none on this "
        "machine alone, else one is made up and printed).")  # fmt: skip
    option("--open", action="store_true", help="Open the page in a browser.")
    add_loading(app.add_argument_group("model and machine"))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:6]) < 65536):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text:.80}")
    return int(text)


def _token(text: str) -> str:
    if not (len(text) >= 16 and text.isascii() and all(c.isalnum() or c in "-_" for c in text)):
        raise argparse.ArgumentTypeError(
            "expected at least 16 letters, digits, - or _; leave it out to have one made up"
        )
    return text


def _app(args: argparse.Namespace) -> int:
    from attnflow.errors import needs

    with needs("the app needs Starlette and uvicorn", "app"):
        from attnflow.app.server import serve

    def ready(address: str) -> None:
        say(f"attnflow: open {address} (stop with Ctrl-C)")
        if args.open:
            webbrowser.open(address)

    models = tuple(dict.fromkeys(args.model or ["attnflow/minilm-l6-sst2"]))
    serve(models, loading(args), host=args.host, port=args.port, token=args.token, ready=ready)
    return 0
