"""The subcommand `corpus`: exit codes, messages, and what goes with what."""

import pyarrow.parquet as pq
import pytest

TEXTS = ("a good film", "a bad film", "", "the fine story")


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "texts.tsv"
    lines = [f"{i}\t{text}\t{i % 2}" for i, text in enumerate(TEXTS)]
    file.write_text("\n".join(["key\tbody\tstars", *lines]) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def run(run_command, folder, source, tmp_path):
    """Runs `attnflow corpus` on that source; (exit code, standard output, standard error)."""

    def corpus(*options, out=tmp_path / "out"):
        where = ("--out", out, "--model", folder, "--workers", 0)
        return run_command("corpus", source, "--text", "body", *where, *options)

    return corpus


def test_failed_text_is_exit_code_3_and_a_row(run, tmp_path):
    code, out, err = run("--id", "key", "--label", "stars", "--keep", "stars")
    assert code == 3 and err.count("\n") == 1
    assert "attnflow: 2: the text is empty (column 'body')." in err and "--retry-failed" in err
    assert out == f"4 texts in {tmp_path / 'out'}, 1 of them failed\n"
    (shard,) = (tmp_path / "out" / "shards").iterdir()
    rows = pq.read_table(shard).to_pylist()
    assert [row["id"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["error"] for row in rows] == [
        None,
        None,
        "the text is empty (column 'body').",
        None,
    ]
    assert [row["source_stars"] for row in rows] == ["0", "1", "0", "1"]


def test_same_command_goes_on_and_others_are_refused(run):
    assert run()[0] == 3
    assert run("--retry-failed")[0] == 3
    code, out, err = run("--tensor", "cf")
    assert (code, out) == (2, "")
    assert "holds results of another run: options tensor was 'net' and is 'cf'" in err


def test_quiet_run_prints_nothing(run):
    assert run("--quiet") == (3, "", "")


@pytest.mark.parametrize(
    ("options", "expected"),
    (
        (("--out", "x"), "no source: give files"),
        (("texts.tsv",), "no folder for the results: give --out DIR"),
        (("texts.tsv", "--out", "x", "--html", "y"), "--html goes with --report DIR"),
        (("texts.tsv", "--report", "x"), "--report explains nothing: leave out SOURCE"),
        (("--report", "x", "--id", "key"), "--report explains nothing: leave out --id"),
        (("--report", "x", "--workers", "0"), "leave out --workers"),
        (("texts.tsv", "--out", "x", "--text", "body", "--label", "no"), "label_column=, --label"),
        (("no.tsv", "--out", "x"), "there is no file"),
        (("texts.tsv", "--out", "x", "--gpus", "1"), "gpus= (--gpus) goes with engine='ray'"),
        (("texts.tsv", "--out", "x", "--text", "no"), "has no column 'no'"),
        (("texts.tsv", "--out", "x", "--split", "test"), "goes with the id of a data set"),
    ),
)
def test_bad_options_are_refused_in_one_line(run_command, source, monkeypatch, options, expected):
    monkeypatch.chdir(source.parent)
    code, out, err = run_command("corpus", *options)
    assert (code, out) == (2, "")
    assert expected in err and err.count("\n") == 1


def test_report_prints_and_writes_a_page_and_tables(run, run_command, tmp_path):
    run("--label", "stars")
    words = tmp_path / "words.txt"
    words.write_text("film\n")
    page, tables = tmp_path / "report.html", tmp_path / "tables"
    options = ("--html", page, "--tables", tables, "--words", words, "--min-count", 2)
    code, out, err = run_command("corpus", "--report", tmp_path / "out", *options)
    assert code == 0, err
    assert "film" in page.read_text(encoding="utf-8") and "1 failed" in out
    assert page.stat().st_size > 1000 and list(tables.glob("*.parquet"))
    assert run_command("corpus", "--report", tmp_path / "out", "--html", page)[0] == 2


def test_report_on_no_run_is_refused(run_command, tmp_path):
    code, _, err = run_command("corpus", "--report", tmp_path)
    assert code == 2 and err.count("\n") == 1
