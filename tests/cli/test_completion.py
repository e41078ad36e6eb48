"""Completion scripts for shells, and what the command suggests for what it does not know."""

import shutil
import subprocess
import sys

import pytest

from attnflow.cli.completion import SHELLS


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_subcommands_and_options(shell, run_command):
    pytest.importorskip("shtab")
    code, out, err = run_command("--print-completion", shell)
    assert (code, err) == (0, "")
    for name in ("explain", "evaluate", "models", "bench", "jsonl", "throughput"):
        assert name in out
    if shell != "tcsh" and shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=out, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("typed", "expected"),
    (
        (("attnflow", "ex"), {"explain"}),
        (("attnflow", "explain", "--js"), {"--json", "--jsonl"}),
        (("attnflow", "explain", "--readout", ""), {"input", "throughput"}),
        (("attnflow", "explain", "--json", "scores"), {"scores.json"}),
    ),
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(typed, expected, run_command, tmp_path):
    pytest.importorskip("shtab")
    (tmp_path / "scores.json").write_text("")
    script = run_command("--print-completion", "bash")[1]
    words = " ".join(f"'{word}'" for word in typed)
    script += f"""
COMP_WORDS=({words})
COMP_CWORD={len(typed) - 1}
$(complete -p attnflow | sed 's/.*-F \\([^ ]*\\).*/\\1/') attnflow '{typed[-1]}' '{typed[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc"], input=script, text=True, capture_output=True, cwd=tmp_path, check=False
    )
    assert set(done.stdout.split()) == expected, done.stderr


def test_a_script_without_shtab_names_the_extra(run_command, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, out, err = run_command("--print-completion", "bash")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "needs shtab: pip install 'attnflow[completion]'" in err


def test_a_script_for_an_unknown_shell(run_command):
    code, out, err = run_command("--print-completion", "bsh")
    assert (code, out) == (2, "") and "invalid choice: 'bsh': did you mean bash?" in err


@pytest.mark.parametrize(
    ("typed", "meant"),
    (
        (("explian", "good"), "explain"),
        (("evalute",), "evaluate"),
        (("explain", "good", "--tensor", "bfc"), "bcf"),
        (("bench", "slover"), "solver"),
    ),
)
def test_a_slip_of_the_pen_gets_a_suggestion(run_command, typed, meant):
    code, out, err = run_command(*typed)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert f": did you mean {meant}? (see attnflow" in err


def test_a_word_like_nothing_gets_the_list(run_command):
    code, out, err = run_command("\x1b[2Jnonsense")
    assert (code, out) == (2, "") and "choose from" in err and "did you mean" not in err
    assert "\x1b" not in err


def test_help_does_not_wait_for_what_only_completion_needs():
    code = (
        "from attnflow.cli import main\nimport sys\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "raise SystemExit(bool({'shtab', 'difflib', 'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--print-completion" in done.stdout, done.stderr
