"""The command on a disk that fills: every call that writes fails once, one after another."""

import pytest
from support.disks import failing_writes

from attnflow.cli import main

REVIEWS = (
    "the film is not good, but it was never dull.",
    "a smart dog! a dull dog, not bad.",
    "the dullest, dullest films was never good",
)


def without_seconds(table):
    lines = [line.rsplit(",", 1)[0] for line in table.read_text().splitlines()]
    return sorted(lines)


@pytest.mark.attack
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
