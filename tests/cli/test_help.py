"""The help: grouped, the common options first, and without a wait."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import attnflow
from attnflow.cli import SUBCOMMANDS, complete_parser, main

GROUPS = {
    "explain": ["input", "what to explain", "how to compute", "output", "model and machine"],
    "evaluate": ["what to measure", "how to measure", "output", "model and machine"],
}
COMMON = {
    "explain": "--help --file --model --target --html --json --jsonl --csv --overwrite",
    "evaluate": "--help --out --report --model --methods --limit --reference --overwrite",
}


@pytest.fixture
def help_of(capsys, monkeypatch):
    """Returns the help of a subcommand as 80 columns have it."""
    monkeypatch.setenv("COLUMNS", "80")

    def show(*arguments):
        with pytest.raises(SystemExit, match="0"):
            main([*arguments, "--help"])
        return capsys.readouterr().out

    return show


def sections(text):
    """Options of each section of a help before its examples, in order."""
    options = text.partition("\nexamples:")[0]
    parts = re.split(r"^(\S.*):$", options, flags=re.M)[1:]
    named = dict(zip(parts[::2], parts[1::2], strict=True))
    return {
        title: re.findall(r"^  (?:-\w, )?(--[\w-]+)", body, re.M) for title, body in named.items()
    }


@pytest.mark.parametrize("name", GROUPS)
def test_common_options_come_first(name, help_of):
    found = sections(help_of(name))
    assert list(found) == ["positional arguments", "common options", *GROUPS[name]]
    assert found["common options"] == COMMON[name].split()
    assert all(found[title] for title in GROUPS[name])


@pytest.mark.parametrize("name", GROUPS)
def test_the_usage_is_short(name, help_of):
    usage = help_of(name).partition("\n\n")[0]
    assert usage.startswith(f"usage: attnflow {name} [OPTIONS] ") and usage.count("\n") <= 1


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_lines_fit_a_terminal(name, help_of):
    described = help_of(name).partition("examples:")[0].splitlines()
    # Lists of choices are not broken.
    assert described and all(len(line) <= 80 for line in described if "{" not in line)


def test_the_list_names_every_subcommand_with_its_line(help_of):
    listed = " ".join(help_of().split())
    for name, (_, summary) in SUBCOMMANDS.items():
        assert f"{name} {summary}" in listed
    assert "--version" in listed and "Begin with: attnflow explain" in listed


def test_subcommands_of_the_complete_parser_take_their_options():
    (commands,) = (a for a in complete_parser()._actions if a.dest == "command")
    assert commands.choices.keys() == SUBCOMMANDS.keys()
    assert all(len(parser._actions) > 1 for parser in commands.choices.values())


@pytest.mark.parametrize("arguments", (["--help"], ["--version"]), ids=" ".join)
def test_help_imports_no_subcommand_and_little_else(arguments):
    """Half of the time went into what only a subcommand needs."""
    needless = {"attnflow.files", "attnflow.cli.console", "dataclasses", "inspect", "logging"}
    needless |= {f"attnflow.cli.{module}" for module, _ in SUBCOMMANDS.values()} | {"pathlib"}
    code = "import sys\nfrom attnflow.__main__ import command\ncommand()\nprint(*sys.modules)"
    # Without site, whose files of other packages import what they like.
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(attnflow.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not needless & set(done.stdout.splitlines()[-1].split())


def test_a_text_may_have_the_name_of_a_subcommand(help_of):
    assert "common options" in help_of("explain", "models")
