"""The command `attnflow app` as it is typed: what it refuses, and the extra that it needs."""

import subprocess
import sys

import pytest


@pytest.fixture
def run(run_command):
    """Runs the app's command; (exit code, standard error)."""
    return lambda *arguments: run_command("app", *arguments)[::2]


@pytest.mark.parametrize("package", ["uvicorn", "starlette"])
def test_a_missing_extra_is_named(package):
    code = (
        f"import sys; sys.modules[{package!r}] = None; from attnflow.cli import main; main(['app'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == (
        "attnflow: the app needs Starlette and uvicorn: pip install 'attnflow[app]'.\n"
    )


@pytest.mark.parametrize("port", ["-1", "65536", "eighty", "1" * 5000, "٣"])
def test_a_port_that_is_none_is_refused(run, port):
    code, said = run("--port", port)
    assert code == 2 and "from 0 to 65535" in said and said.count("\n") == 1 and len(said) < 300


@pytest.mark.parametrize("token", ["", "short", "with a space in the middle", "ü" * 20])
def test_a_token_that_can_be_guessed_or_not_typed_is_refused(run, token):
    code, said = run("--token", token)
    assert code == 2 and "at least 16" in said


def test_a_port_in_use_is_said_in_a_line(run):
    server = pytest.importorskip("attnflow.app.server")
    with server.bind("127.0.0.1", 0) as taken:
        code, said = run("--port", str(taken.getsockname()[1]))
    assert code == 2 and "in use" in said and said.count("\n") == 1


def test_an_address_of_another_machine_is_said_in_a_line(run):
    pytest.importorskip("uvicorn")
    code, said = run("--host", "192.0.2.1")
    assert code == 2 and "cannot listen at 192.0.2.1" in said and said.count("\n") == 1


def test_another_host_gets_a_token(monkeypatch):
    server = pytest.importorskip("attnflow.app.server")
    printed = []
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: [s.close() for s in sockets])
    for host in ("127.0.0.1", "0.0.0.0"):
        server.serve(("m",), {}, host=host, port=0, token=None, ready=printed.append)
    assert "token" not in printed[0]
    assert len(printed[1].partition("?token=")[2]) >= 32
