"""Blocks of Markdown pages, to be run as they stand: what they print is what the page shows."""

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMOLLM2 = os.environ.get("ATTNFLOW_SMOLLM2")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
NUMBER = re.compile(r"[-−]?\d+(?:[.,]\d+)*")
BARS = re.compile("[\u2588-\u258f ]+")  # blocks of the terminal, and spaces
# Setting up is looked at, and not done: it would download packages.
SET_UP = ("git clone", "cd ", "python -m venv", "python -m pip", ".venv/bin/pip", "make ")
TOLERANCE = 0.02
PATIENCE = 300  # seconds


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and what stands in the block of output that follows it."""

    page: str
    number: int
    language: str
    code: str
    output: str | None = None

    @property
    def id(self):
        return f"{Path(self.page).stem}-{self.number}"


@dataclass
class Session:
    """Names that the Python blocks of a page have defined, in their order."""

    names: dict = field(default_factory=dict)
    missing: set = field(default_factory=set)  # names that blocks would have defined

    def run(self, block):
        """Run a block, and return what it prints; None where SmolLM2 is needed and not there."""
        tree = ast.parse(block.code)
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        if names & self.missing or (SMOLLM2 is None and "runs/smollm2" in block.code):
            self.missing |= names - set(self.names)
            return None
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, block.id, "exec"), self.names)
        return printed.getvalue()


def blocks_of(page):
    """Return the blocks of Python and of commands of a page, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    follows = {}
    for one, other in zip(found, found[1:], strict=False):
        between = text[one.end() : other.start()]
        if one[1] == "python" and other[1] == "text" and not between.strip():
            follows[one.start()] = other[2]
    return [
        Block(page, number, match[1], match[2], follows.get(match.start()))
        for number, match in enumerate(found)
        if match[1] in ("python", "console")
    ]


def commands_of(block):
    """Return the commands of a block, each with the output that the page shows of it."""
    parts = re.split(r"^\$ ", block.code, flags=re.M)
    assert not parts[0].strip(), f"{block.page}: a command begins with $"
    return [(head.rstrip(), rest) for head, _, rest in (part.partition("\n") for part in parts[1:])]


def is_set_up(command):
    return command.startswith(SET_UP)


def furnish(folder, random_models):
    """Put into a folder what pages name: examples, and models in runs/."""
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "runs").mkdir()
    (folder / "runs/random").symlink_to(random_models)
    if SMOLLM2 is not None:
        (folder / "runs/smollm2").symlink_to(Path(SMOLLM2).resolve())
    programs = folder / "bin"
    programs.mkdir()
    for name, arguments in (("attnflow", ' -W ignore -m attnflow "$@"'), ("python", ' "$@"')):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments}\n', encoding="utf-8")
        program.chmod(0o755)


def run_command(command, folder):
    """Run a line of a page in a shell, and return its standard output."""
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    command = command.replace(".venv/bin/", "")
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=os.environ | {"PATH": path, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_output(shown, printed):
    """Each line that the page shows was printed, in that order, with nearly the same numbers."""
    lines = iter(printed.splitlines())
    for expected in filter(str.strip, shown.splitlines()):
        assert any(_same(expected, line) for line in lines), f"{expected!r} is not in\n{printed}"


def _same(expected, line):
    words = [BARS.sub(" ", NUMBER.sub("0", one)).strip() for one in (expected, line)]
    numbers = [[_number(n) for n in NUMBER.findall(one)] for one in (expected, line)]
    return words[0] == words[1] and all(
        abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) + 1e-9 for a, b in zip(*numbers, strict=True)
    )


def _number(text):
    return float(text.replace("−", "-").replace(",", ""))
