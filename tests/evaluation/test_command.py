"""`attnflow evaluate` as it is typed."""

import json

import pytest

from attnflow import models
from attnflow.cli import main

REVIEWS = (
    "the film is not good, but it was never dull.",
    "a smart dog! a dull dog, not bad.",
    "the dullest, dullest films was never good",
)


@pytest.fixture(scope="module")
def folder(save_model, tiny):
    return save_model(tiny())


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.tsv"
    lines = "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(REVIEWS))
    path.write_text("text\tlabel\n" + lines, encoding="utf-8")
    return path


@pytest.fixture
def run(folder, capsys):
    """(exit code, standard output, its error) of `attnflow evaluate` with the tiny model."""

    def evaluate(*arguments):
        capsys.readouterr()
        try:
            code = main(["evaluate", "--model", str(folder), *map(str, arguments)])
        except SystemExit as exit:
            code = exit.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return evaluate


def test_measure_go_on_and_report(run, reviews, tmp_path):
    out, two = tmp_path / "run", ("--methods", "random", "bcf:flow")
    code, shown, _ = run(reviews, "--out", out, *two, "--least", "5", "--extras", "soft")
    assert code == 0 and shown.startswith("3 texts\n")
    assert "| bcf:flow |" in shown and "| random |" in shown and "soft_sufficiency" in shown
    rows = (out / "rows.jsonl").read_text()
    again = run(reviews, "--out", out, *two, "--least", "5", "--extras", "soft")
    assert again[:2] == (0, shown) and (out / "rows.jsonl").read_text() == rows

    code, shown, _ = run("--report", out, "--reference", "bcf:flow", "--format", "csv")
    assert code == 0 and '"bcf:flow better by, aopc mask"' in shown or "better by" in shown
    page, figures = tmp_path / "a.html", tmp_path / "figures"
    code, shown, err = run("--report", out, "--format", "html", "--to", page, "--figures", figures)
    assert (code, shown) == (0, "") and f"wrote {page}" in err
    assert page.read_text().startswith("<table")
    assert sorted(f.name for f in figures.iterdir()) == ["curves.svg", "runtime.svg"]


def test_the_preset_and_what_is_given_beside_it(run, reviews, tmp_path):
    code, shown, _ = run(
        *(reviews, "--out", tmp_path / "run", "--methods", "random", "--least", "5"),
        *("--preset", "attcat", "--operators", "delete", "--metrics", "absolute_aopc"),
    )
    assert code == 0 and "| method | absolute_aopc delete | ties |" in shown
    protocol = json.loads((tmp_path / "run" / "run.json").read_text())["run"]["protocol"]
    assert protocol["operators"] == ["delete"] and protocol["counted"] == "positions"
    assert protocol["target"] == "label" and len(protocol["shares"]) == 9


def test_all_published_methods_by_default(run, reviews, tmp_path):
    code, shown, _ = run(reviews, "--out", tmp_path / "run", "--limit", "1", "--least", "5")
    assert code == 0
    for name in ("integrated-gradients", "decompx", "kernel-shap", "attention-flow", "bcf:flow"):
        assert f"| {name} |" in shown


def test_what_a_model_cannot_do_is_left_out(run, reviews, tmp_path, tiny, save_model):
    other = save_model(tiny("DistilBert", dim=16, n_layers=2, n_heads=2, hidden_dim=24))
    names = ("alti", "bcf:flow")
    code, shown, _ = run(
        *(reviews, "--out", tmp_path / "run", "--model", other, "--least", "5"),
        *("--methods", *names),
    )
    assert code == 2
    code, shown, _ = run("--report", tmp_path / "run")
    assert code == 0 and "bcf:flow" in shown and "alti" not in shown


def test_noise_is_part_of_the_run(run, reviews, tmp_path):
    options = ("--out", tmp_path / "run", "--methods", "random", "--least", "5")
    assert run(reviews, *options, "--noise", "typos")[0] == 0
    code, _, err = run(reviews, *options)
    assert code == 2 and "holds a run with another noise" in err
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["run"]
    assert settings["noise"] == "typos" and str(tmp_path) not in json.dumps(settings)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    (
        ((), "give DATA and --out"),
        (("DATA",), "--out is missing"),
        (("DATA", "--report", "run"), "give DATA and --out"),
        (("DATA", "--out", "run", "--shares", "1.5"), "shares must lie inside (0, 1]"),
        (("DATA", "--out", "run", "--methods", "magic"), "there is no method 'magic'"),
        (("DATA", "--out", "run", "--scores", "mine"), "NAME=FILE"),
        (("none.tsv", "--out", "run"), "cannot read none.tsv"),
        (("no/such-data", "--out", "run"), "pip install datasets"),
        (("DATA", "--out", "run", "--reference", "nobody"), "reference 'nobody'"),
        (("--report", "none"), "holds no run"),
    ),
)
def test_refused_before_the_model_is_loaded(
    run, reviews, monkeypatch, tmp_path, arguments, complaint
):
    def load(*args, **options):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(models, "load", load)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*(reviews if a == "DATA" else a for a in arguments))
    assert (code, out) == (2, "") and complaint in err and "Traceback" not in err
