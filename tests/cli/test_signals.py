"""A real process of the command, ended at many moments."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.attack

TEXT = "although this dog is not cute, it is very smart."
PLATFORM = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


def started(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "attnflow", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=hear,
    )


def hear():
    """Listen as in a terminal: a shell's background and nohup make everyone deaf to a signal."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_until_it_listens(process):
    """Wait until the process catches SIGTERM, which is when its own code begins."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.split("SigCgt:")[1].split()[0], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)
    pytest.fail("the command never listened")


def check_ended(folder, number, delay, *arguments):
    process = started(folder, *arguments)
    wait_until_it_listens(process)
    time.sleep(delay)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 128 + number), (delay, err)
    assert b"Traceback" not in err and b"Exception" not in err, (delay, err)
    if process.returncode:
        assert err.endswith(b"attnflow: interrupted.\n")
    for path in folder.iterdir():
        assert not path.name.startswith(".attnflow"), (delay, path)
        if path.suffix == ".html":
            assert path.read_bytes().rstrip().endswith(b"</html>")
            path.unlink()
    return process.returncode


@PLATFORM
@pytest.mark.parametrize(("number", "delay"), ((signal.SIGINT, 0.0), (signal.SIGTERM, 0.3)))
def test_ended_while_it_imports(tmp_path, number, delay):
    arguments = ("explain", TEXT, "--html", "page.html", "--overwrite")
    assert check_ended(tmp_path, number, delay, *arguments) == 128 + number


@PLATFORM
@pytest.mark.exhaustive
@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
def test_ended_at_any_moment(tmp_path, number):
    draw = random.Random(int(number))
    arguments = ("explain", TEXT, "--html", "page.html", "--overwrite")
    codes = [check_ended(tmp_path, number, draw.uniform(0, 6), *arguments) for _ in range(20)]
    assert 128 + number in codes


@PLATFORM
def test_a_signal_that_a_parent_has_silenced_stays_silent(tmp_path):
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    code += "import attnflow.__main__ as m, attnflow.cli as c\n"
    code += "c.main = lambda: int(signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)\n"
    code += "raise SystemExit(m.command())"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@PLATFORM
def test_a_forked_process_leaves_what_its_parent_is_writing(tmp_path):
    code = (
        "import os, signal, time\nfrom pathlib import Path\n"
        "import attnflow.__main__ as m, attnflow.cli as c, attnflow.files as f\n"
        "write = os.write\n"
        "def slow(handle, data):\n"
        "    os.write = write\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143\n"
        "    return write(handle, data)\n"
        "def main():\n"
        "    os.write = slow\n"
        "    f.write_whole(Path('a'), 'whole')\n"
        "    return 0\n"
        "c.main = main\n"
        "raise SystemExit(m.command())"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=60)
    assert (tmp_path / "a").read_text() == "whole"


def test_half_written_files_go_where_the_process_ends_at_once(tmp_path):
    """A signal in the middle of a write, and one between the first and the second file."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "import attnflow.__main__ as m, attnflow.cli as c, attnflow.files as f\n"
        "write = os.write\n"
        "def slow(handle, data):\n"
        "    write(handle, data[:2])\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "def main():\n"
        "    with f.all_or_none([Path('a'), Path('b')]):\n"
        "        f.write_whole(Path('a'), 'whole')\n"
        "        assert Path('a').exists()\n"
        "        os.write = slow\n"
        "        f.write_whole(Path('b'), 'half')\n"
        "c.main = main\n"
        "raise SystemExit(m.command())"
    )
    (tmp_path / "other").write_text("stays")
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False
    )
    assert process.returncode == 143, process.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
@pytest.mark.parametrize(("end", "expected"), (("return 0", 0), ("raise SystemExit(2)", 2)))
def test_a_signal_after_all_is_done_hastens_the_end_and_changes_no_exit_code(number, end, expected):
    code = (
        "import atexit, time, attnflow.__main__ as m, attnflow.cli as c\n"
        "def main():\n"
        "    atexit.register(lambda: (print('ending', flush=True), time.sleep(60)))\n"
        f"    {end}\n"
        "c.main = main\n"
        "raise SystemExit(m.command())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == b"ending\n"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == expected
