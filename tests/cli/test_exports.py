"""`attnflow explain --csv` and `--jsonl`: the numbers of --json, in files and in a pipe."""

import csv
import io
import json
from functools import partial

import pytest

from attnflow.attribution.table import RESULT_COLUMNS, TOKEN_COLUMNS
from attnflow.explainer.explainer import Explainer

TEXTS = ("the film is not good, but it was never dull.", '=HYPERLINK("a"), <b>bold</b>')


@pytest.fixture
def run(folder, run_command):
    """Runs `attnflow explain` with the tiny model; (exit code, standard output, its error)."""
    return partial(run_command, "explain", "--model", folder)


def test_three_files_have_the_same_numbers(run, tmp_path):
    names = {kind: tmp_path / f"a.{kind}" for kind in ("json", "jsonl", "csv")}
    options = [part for kind, path in names.items() for part in (f"--{kind}", path)]
    code, out, err = run(*TEXTS, *options)
    assert code == 0 and "certificate" in out
    assert [line for line in err.splitlines() if line.startswith("wrote ")] == [
        f"wrote {path}" for path in names.values()
    ]
    records = json.loads(names["json"].read_text())
    assert records == [json.loads(line) for line in names["jsonl"].read_text().splitlines()]
    with open(names["csv"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == RESULT_COLUMNS + TOKEN_COLUMNS
    for number, record in enumerate(records):
        own = [row for row in rows if row["result"] == str(number)]
        assert [row["token"] for row in own] == record["tokens"]
        assert [float(row["score"]) for row in own] == record["scores"]
        assert [float(row["contribution"]) for row in own] == record["contributions"]
        assert {row["label"] for row in own} == {record["label"]}


@pytest.mark.parametrize("option", ("--csv", "--json", "--jsonl"))
def test_standard_output_has_nothing_else(run, option):
    code, out, err = run(*TEXTS, option, "-")
    assert (code, err) == (0, "")
    if option == "--csv":
        tokens = [row["token"] for row in csv.DictReader(io.StringIO(out))]
    else:
        records = [*map(json.loads, out.splitlines())] if option == "--jsonl" else json.loads(out)
        tokens = [token for record in records for token in record["tokens"]]
    assert tokens.count("[CLS]") == len(TEXTS) and "film" in tokens


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    (
        (("--csv", "."), "it is a folder; name a file"),
        (("--jsonl", "."), "it is a folder; name a file"),
        (("--csv", "missing/a.csv"), "there is no folder missing"),
        (("--csv", "there"), "there exists already"),
        (("--csv", "a", "--jsonl", "./a"), "must name different files"),
        (("--csv", "-", "--json", "-"), "can be written only once"),
        (("--csv", "-", "--jsonl", "-"), "can be written only once"),
    ),
)
def test_refused_before_the_model_is_loaded(run, arguments, complaint, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(Explainer, "from_pretrained")
    (tmp_path / "there").write_text("before")
    code, out, err = run("good", *arguments)
    assert (code, out) == (2, "") and complaint in err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
