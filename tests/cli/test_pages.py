"""The command's pages: alternatives of a prediction, comparisons, and saved results shown again."""

import json
from dataclasses import replace
from functools import partial

import pytest
from support.example_attributions import continuation_of
from support.pages import PageReader

import attnflow

TEXT = "the film is not good"


@pytest.fixture
def explain(run_command, folder):
    return partial(run_command, "explain", "--model", folder)


def page_of(path):
    return PageReader(path.read_text(encoding="utf-8"))


def articles(path):
    return len(page_of(path).of("article"))


def sides(path):
    return [attrs for attrs in page_of(path).of("section") if "data-side" in attrs]


def test_a_page_has_the_next_most_probable_classes_too(explain, tmp_path):
    page, result = tmp_path / "a.html", tmp_path / "a.json"
    code, out, _ = explain(TEXT, "--html", page, "--json", result)
    records = json.loads(result.read_text())
    assert code == 0 and len(records) == 1 and out.count("certificate:") == 1
    assert articles(page) == min(3, len(records[0]["labels"]))
    likeliest = max(zip(records[0]["probabilities"], records[0]["labels"], strict=True))[1]
    assert records[0]["label"] == likeliest


def test_alternatives_are_left_out_where_they_are_not_asked_for(explain, tmp_path):
    page = tmp_path / "a.html"
    for more in (["--alternatives", "0"], ["--target", "0"]):
        assert explain(TEXT, "--html", page, "--overwrite", *more)[0] == 0
        assert articles(page) == 1
    assert explain(TEXT, TEXT + " bad", "--html", page, "--overwrite")[0] == 0
    assert articles(page) == 2  # one of each text
    explain(TEXT, TEXT + " bad", "--html", page, "--overwrite", "--alternatives", "1")
    assert articles(page) == 4


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--alternatives", "1"], "--alternatives is for a page"),
        (["--alternatives", "1", "--html", "a", "--target", "0"], "leave it out with --target"),
        (["--alternatives", "-1", "--html", "a"], "expected an integer of at least 0"),
        (["--compare"], "--compare is about the page"),
        (["--compare", "--html", "a"], "--compare shows 2 to 4 texts side by side"),
    ],
)
def test_pages_that_cannot_be(explain, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    code, _, err = explain(TEXT, "--quiet", *arguments)
    assert code == 2 and complaint in err and "Traceback" not in err
    assert not (tmp_path / "a").exists()


def test_texts_and_targets_side_by_side(explain, tmp_path):
    page = tmp_path / "a.html"
    for more in ([TEXT + " bad"], ["--target", "all"]):
        assert explain(TEXT, *more, "--html", page, "--compare", "--overwrite")[0] == 0
        count = 2 if len(more) == 1 else 3  # texts, or classes
        assert len(sides(page)) == articles(page) == count


def test_a_pair_of_embeddings_is_explained_on_both_sides(run_command, save_model, tiny, tmp_path):
    embedder = save_model(tiny(head=None))
    page, result = tmp_path / "a.html", tmp_path / "a.json"
    code, out, _ = run_command(
        *("explain", TEXT, "--pair", "a good film", "--model", embedder),
        *("--html", page, "--json", result),
    )
    assert code == 0 and len(json.loads(result.read_text())) == 1
    assert len(sides(page)) == 2 and out.count("certificate:") == 1
    titles = page.read_text(encoding="utf-8")
    assert "similarity to “a good film”" in titles and f"similarity to “{TEXT}”" in titles


def test_saved_results_are_shown_as_they_were(run_command, explain, tmp_path):
    saved = tmp_path / "a.safetensors"
    _, first, _ = explain(TEXT, "--save", saved)
    code, again, err = run_command("show", saved)
    assert (code, err) == (0, "") and again == first
    page = tmp_path / "a.html"
    code, out, err = run_command("show", saved, saved, "--html", page, "--compare", "--quiet")
    assert (code, out, err) == (0, "", "") and len(sides(page)) == 2
    record = json.loads(run_command("show", saved, "--json", "-")[1])
    assert record == json.loads(json.dumps([attnflow.load(saved)[0].to_dict()]))


def test_saved_continuations_are_told_from_other_results(run_command, tmp_path):
    saved = tmp_path / "a.safetensors"
    two = [*continuation_of(), *continuation_of("the film is not good")]
    attnflow.save(two, saved)
    out = run_command("show", saved)[1]
    assert "[1]" in out and "[2]" not in out and out.count("certificate") <= 2
    labels = [replace(a, task="token-classification") for a in continuation_of()]
    attnflow.save(labels, saved, overwrite=True)
    assert f"[{len(labels) - 1}]" in run_command("show", saved)[1]


def test_a_class_may_be_named_like_alternatives(run_command, save_model, tiny, tmp_path):
    model = save_model(tiny(labels=("none", "top3", "some")))
    page = tmp_path / "a.html"
    assert run_command("explain", TEXT, "--model", model, "--html", page)[0] == 0
    assert articles(page) == 3
    many = ("--alternatives", "150", "--overwrite")
    assert run_command("explain", TEXT, "--model", model, "--html", page, *many)[0] == 0


def test_files_that_cannot_be_shown(run_command, explain, tmp_path):
    saved = tmp_path / "a.safetensors"
    explain(TEXT, "--save", saved)
    text = tmp_path / "a.txt"
    text.write_text("text")
    for arguments, complaint in (
        ([tmp_path / "none"], "No such file"),
        ([text], "is not a file of attributions"),
        ([saved, "--html", saved, "--overwrite"], "must name different files"),
        ([saved, "--compare"], "--compare is about the page"),
        ([], "the following arguments are required: FILE"),
    ):
        code, out, err = run_command("show", *arguments)
        assert (code, out) == (2, "") and complaint in err, arguments
    assert len(attnflow.load(saved)) == 1
