"""Errors in IPython and notebooks: the caller's lines, and one readable line last."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("IPython")

SHELL = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor")
shell.run_cell("import attnflow\\ndef mine():\\n    return attnflow.load('/nowhere')")
shell.run_cell("x = 1\\nmine()")
print("-- own --")
shell.run_cell("raise attnflow.InputError('of the user')")
print("-- verbose --")
shell.run_cell("attnflow.load('/nowhere')")
shell.run_cell("%xmode Verbose")
shell.run_cell("%tb")
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    home = str(tmp_path_factory.mktemp("ipython"))
    done = subprocess.run(
        [sys.executable, "-c", SHELL],
        env={**os.environ, "IPYTHONDIR": home, "HOME": home},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_last_line_is_the_message_and_no_line_is_ours(printed):
    first = printed.split("-- own --")[0].rstrip()
    last = first.splitlines()[-1]
    assert last == "StorageError: cannot read /nowhere: No such file or directory: /nowhere."
    assert "----> 2 mine()" in first and "----> 3     return attnflow.load" in first
    assert "storage.py" not in first and "direct cause" not in first and "%xmode Verbose" in first


def test_an_error_of_the_users_own_is_shown_whole(printed):
    own = printed.split("-- own --")[1].split("-- verbose --")[0]
    assert "InputError: of the user" in own and "%xmode" not in own


def test_verbose_shows_all_lines_and_the_cause(printed):
    verbose = printed.split("-- verbose --")[1]
    whole = verbose.split("Exception reporting mode: Verbose")[1]
    assert "storage.py" in whole and "direct cause" in whole and "FileNotFoundError" in whole
