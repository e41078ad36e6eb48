"""Print a script by which a shell completes the command: `attnflow --print-completion bash`."""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from attnflow.errors import MissingExtraError, needs

SHELLS = ("bash", "zsh", "fish", "tcsh")
_FILES = ("F", "ID", "DATA", "DIR")  # names of values that are files or folders


class PrintCompletion(argparse.Action):
    """An option that prints the script and ends the command.

    `complete` returns the parser that the script is about, which is made when it is asked for.
    """

    def __init__(self, *, complete: Callable[[], argparse.ArgumentParser], **options: Any) -> None:
        super().__init__(**options)
        self._complete = complete

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: Any = None
    ) -> None:
        from attnflow.cli.console import fail, show  # as late as here: --help needs none of it

        try:
            show(_script(self._complete(), values))
        except MissingExtraError as error:
            raise SystemExit(fail(error, 2)) from error
        parser.exit()


def _script(parser: argparse.ArgumentParser, shell: str) -> str:
    with needs("a completion script needs shtab", "completion"):
        import shtab
    for action in _actions(parser):
        if action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    return str(shtab.complete(parser, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All options of a parser and of its subcommands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for subcommand in action.choices.values():
                yield from _actions(subcommand)
