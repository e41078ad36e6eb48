"""The command on a disk that fills: every call that writes fails once, one after another."""

import shutil
import subprocess

import pytest
from support.disks import failing_writes

from attnflow.cli import main
from attnflow.evaluation import read_rows

pytestmark = pytest.mark.attack

REVIEWS = (
    "the film is not good, but it was never dull.",
    "a smart dog! a dull dog, not bad.",
    "the dullest, dullest films was never good",
)


def without_seconds(table):
    lines = [line.rsplit(",", 1)[0] for line in table.read_text().splitlines()]
    return sorted(lines)


@pytest.mark.exhaustive
@pytest.mark.parametrize("torn", (False, True))
def test_the_same_command_gives_the_same_table_after_each_failure(
    folder, tmp_path, monkeypatch, capsys, torn
):
    data = tmp_path / "reviews.txt"
    data.write_text("\n".join(REVIEWS))

    def command(place):
        return [
            *("evaluate", str(data), "--model", str(folder), "--quiet", "--out", f"{place}/run"),
            *("--methods", "random", "gradient", "--min-tokens", "5", "--format", "csv"),
            *("--output", f"{place}/table.csv", "--figures", f"{place}/figures"),
        ]

    place = tmp_path / "count"
    place.mkdir()
    with failing_writes(monkeypatch, place) as count:
        assert main(command(place)) == 0
    expected = without_seconds(place / "table.csv")
    assert len(count.calls) >= 28
    for number in range(len(count.calls)):
        place = tmp_path / f"{number}"
        place.mkdir()
        capsys.readouterr()
        with failing_writes(monkeypatch, place, fail=number, torn=torn):
            assert main(command(place)) == 2, count.calls[number]
        err = capsys.readouterr().err
        assert "No space left on device" in err and err.count("\n") == 1
        assert not (place / "table.csv").exists()
        assert not list(place.rglob("*.svg")) and not list(place.rglob(".attnflow*"))
        assert main(command(place)) == 0, capsys.readouterr().err
        assert without_seconds(place / "table.csv") == expected


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of so many kilobytes in the place of the last one."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size):
        subprocess.run(["umount", place], check=False, capture_output=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", place]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("only root can mount a file system")
        return place

    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    yield mount
    subprocess.run(["umount", place], check=False, capture_output=True)


@pytest.mark.parametrize("form", ("--html", "--save", "--json", "--jsonl", "--csv"))
def test_a_file_is_whole_or_absent_on_a_disk_that_is_full(folder, small_disk, capsys, form):
    codes, texts = [], REVIEWS if form in ("--jsonl", "--csv") else REVIEWS[:1]
    for size in (4, 8, 16, 40, 80, 160):
        file = small_disk(size) / "result"
        codes.append(main(["explain", *texts, "--model", str(folder), form, str(file)]))
        error = capsys.readouterr().err
        if codes[-1]:
            assert codes[-1] == 2 and f"cannot write {file}: No space left on device." in error
            assert list(file.parent.iterdir()) == []
    assert codes == sorted(codes, reverse=True) and set(codes) == {0, 2}


@pytest.mark.exhaustive
def test_a_run_goes_on_where_a_full_disk_broke_it_off(folder, tmp_path, small_disk):
    data = tmp_path / "reviews.txt"
    data.write_text("\n".join(REVIEWS))

    def command(place):
        return [
            *("evaluate", str(data), "--model", str(folder), "--quiet", "--out", f"{place}/run"),
            *("--methods", "random", "gradient", "--min-tokens", "5", "--figures", f"{place}/fig"),
        ]

    for size in (4, 8, 12, 16, 24, 40):
        place = small_disk(size)
        assert main(command(place)) == 2
        files = [path.name for path in place.rglob("*") if path.is_file()]
        assert set(files) <= {"rows.jsonl", "run.json", "run.lock"}
        subprocess.run(["mount", "-o", "remount,size=1m", place], check=True)
        assert main(command(place)) == 0
        assert len(read_rows(place / "run")) == 6
