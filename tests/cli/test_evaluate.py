"""`attnflow evaluate` as it is typed."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image as pillow
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from attnflow import InputError
from attnflow.cli import complete_parser, main
from attnflow.evaluation import PRESETS, metric_scores, read_examples, read_runs
from attnflow.evaluation.extra_metrics import EXTRAS
from attnflow.evaluation.noise import NOISE
from attnflow.evaluation.operators import OPERATORS
from attnflow.evaluation.protocol import PRECISIONS
from attnflow.evaluation.ranking import GRANULARITIES
from attnflow.evaluation.sampling import POSITIONS, TARGETS
from attnflow.models import loading

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
    code, shown, _ = run(reviews, "--out", out, *two, "--min-tokens", "5", "--extras", "soft")
    assert code == 0 and shown.startswith("3 examples\n")
    assert "| bcf:flow |" in shown and "| random |" in shown and "soft_sufficiency" in shown
    rows = (out / "rows.jsonl").read_text()
    again = run(reviews, "--out", out, *two, "--min-tokens", "5", "--extras", "soft")
    assert again[:2] == (0, shown) and (out / "rows.jsonl").read_text() == rows

    code, shown, _ = run("--report", out, "--reference", "bcf:flow", "--format", "csv")
    assert code == 0 and '"bcf:flow better by, aopc mask"' in shown or "better by" in shown
    page, figures = tmp_path / "a.html", tmp_path / "figures"
    code, shown, err = run(
        "--report", out, "--format", "html", "--output", page, "--figures", figures
    )
    assert (code, shown) == (0, "") and f"wrote {page}" in err
    assert page.read_text().startswith("<table")
    assert sorted(f.name for f in figures.iterdir()) == ["curves.svg", "runtime.svg"]


def test_examples_that_are_left_out_are_said(run, reviews, tmp_path):
    assert run(reviews, "--out", tmp_path / "lengths", "--methods", "random")[0] == 0
    rows = (tmp_path / "lengths" / "rows.jsonl").read_text().splitlines()
    lengths = sorted(json.loads(row)["tokens"] for row in rows)
    assert lengths[0] < lengths[-1]
    options = ("--methods", "random", "--min-tokens")
    code, shown, err = run(reviews, "--out", tmp_path / "some", *options, lengths[-1])
    left = lengths.count(lengths[-1])
    assert code == 0 and shown.startswith(f"{left} examples")
    said = f"{left} of 3 examples are measured: the others have fewer than {lengths[-1]} tokens"
    assert said in err
    code, _, err = run(reviews, "--out", tmp_path / "all", *options, "5")
    assert code == 0 and "are measured" not in err


def test_several_runs_in_one_table(run, reviews, tmp_path):
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    options = ("--methods", "random", "gradient", "--min-tokens", "5")
    assert run(reviews, "--out", first, *options)[0] == 0
    assert run(reviews, "--out", second, *options, "--limit", "2", "--seed", "1")[0] == 0
    assert run(reviews, "--out", other, *options, "--operators", "delete")[0] == 0
    code, shown, _ = run("--report", first, second, "--format", "csv", "--metrics", "logit_drop")
    assert code == 0
    table = {line.split(",")[0]: line for line in shown.splitlines()}
    pooled = read_runs([first, second])
    assert len({row["example"] for row in pooled}) == 5 and len(pooled) == 10
    mean = metric_scores(pooled).values["logit_drop", "mask"].mean(1)
    assert f"{mean[metric_scores(pooled).methods.index('gradient')]:.3f}" in table["gradient"]
    code, shown, err = run("--report", first, other)
    assert (code, shown) == (2, "") and "other holds a run with another operators than" in err
    code, shown, err = run("--report", first, first.parent / "second" / ".." / "first")
    assert (code, shown) == (2, "") and "is named twice" in err
    # A run of another version may have one setting more.
    record = json.loads((second / "run.json").read_text())
    record["run"]["protocol"]["newer"] = 1
    (second / "run.json").write_text(json.dumps(record))
    for folders in ((first, second), (second, first)):
        code, shown, err = run("--report", *folders)
        assert (code, shown) == (2, "") and "holds a run with another newer than" in err


def test_named_metrics_are_all_compared(run, reviews, tmp_path):
    out, compared = tmp_path / "run", "random better by, {} mask"
    options = ("--methods", "random", "gradient", "--min-tokens", "5", "--reference", "random")
    code, shown, _ = run(reviews, "--out", out, *options, "--format", "csv")
    assert code == 0 and compared.format("sufficiency") not in shown
    assert compared.format("aopc") in shown
    names = ("--metrics", "area_between")
    code, shown, _ = run("--report", out, "--reference", "random", *names, "--format", "csv")
    assert code == 0 and compared.format("area_between") in shown
    assert compared.format("aopc") not in shown


def test_standard_input_and_standard_output(run, reviews, tmp_path, monkeypatch):
    lines = "\n".join(REVIEWS).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    options = ("--methods", "random", "--min-tokens", "5", "--format", "csv")
    code, shown, err = run("-", "--out", tmp_path / "piped", *options, "--output", "-")
    assert (code, err) == (0, "") and shown.startswith("method,")
    lines = (tmp_path / "piped" / "rows.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["example"] for line in lines) == [0, 1, 2]
    assert {json.loads(line)["label"] for line in lines} == {None}
    table = tmp_path / "table.csv"
    assert run("--report", tmp_path / "piped", "--format", "csv", "--output", table)[:2] == (0, "")
    assert table.read_text().strip() == shown.strip()


def test_texts_of_a_length(run, reviews, tmp_path):
    lengths = ("--min-tokens", "9", "--max-tokens", "14")
    assert run(reviews, "--out", tmp_path / "run", "--methods", "random", *lengths)[0] == 0
    rows = (tmp_path / "run" / "rows.jsonl").read_text().splitlines()
    assert rows and all(9 <= json.loads(row)["tokens"] <= 14 for row in rows)


@pytest.mark.parametrize("position", ("end", "random"))
def test_bounds_that_no_length_lies_between(run, reviews, language_folder, tmp_path, position):
    lengths = ("--min-tokens", "300", "--position", position, "--methods", "random")
    code, shown, err = run(reviews, "--out", tmp_path / "run", "--model", language_folder, *lengths)
    assert (code, shown) == (2, "") and err.count("\n") == 1
    assert "min_tokens 300 is more than max_tokens 256" in err


def test_a_run_of_before_the_options_were_renamed_is_resumed(run, language_folder, tmp_path):
    file, out = tmp_path / "stories.txt", tmp_path / "run"
    file.write_text("\n".join(REVIEWS), encoding="utf-8")
    options = ("--model", language_folder, "--methods", "random", "--min-tokens", "4")
    options = (file, "--out", out, *options, "--position", "random")
    assert run(*options)[0] == 0
    rows = (out / "rows.jsonl").read_text()
    settings = (out / "run.json").read_text()
    for name, before in (("min_tokens", "least"), ("max_tokens", "most"), ("random", "drawn")):
        settings = settings.replace(f'"{name}"', f'"{before}"')
    (out / "run.json").write_text(settings)
    assert run(*options)[0] == 0
    assert (out / "rows.jsonl").read_text() == rows
    (out / "run.json").write_text(settings)
    assert "another min_tokens (4, not 5)" in run(*options, "--min-tokens", "5")[2]


def test_a_preset_and_options_that_replace_parts_of_it(run, reviews, tmp_path):
    code, shown, _ = run(
        *(reviews, "--out", tmp_path / "run", "--methods", "random", "--min-tokens", "5"),
        *("--preset", "attcat", "--operators", "delete", "--metrics", "absolute_aopc"),
    )
    assert code == 0 and "| method | absolute_aopc delete | ties |" in shown
    protocol = json.loads((tmp_path / "run" / "run.json").read_text())["run"]["protocol"]
    assert protocol["operators"] == ["delete"] and protocol["counted"] == "positions"
    assert protocol["target"] == "label" and len(protocol["shares"]) == 9


def test_all_published_methods_by_default(run, reviews, tmp_path):
    code, shown, _ = run(reviews, "--out", tmp_path / "run", "--limit", "1", "--min-tokens", "5")
    assert code == 0
    for name in ("integrated-gradients", "decompx", "kernel-shap", "attention-flow", "bcf:flow"):
        assert f"| {name} |" in shown


def test_methods_that_a_model_cannot_run_are_left_out(run, reviews, tmp_path, tiny, save_model):
    other = save_model(tiny("DistilBert", dim=16, n_layers=2, n_heads=2, hidden_dim=24))
    names = ("alti", "bcf:flow")
    code, shown, _ = run(
        *(reviews, "--out", tmp_path / "run", "--model", other, "--min-tokens", "5"),
        *("--methods", *names),
    )
    assert code == 2
    code, shown, _ = run("--report", tmp_path / "run")
    assert code == 0 and "bcf:flow" in shown and "alti" not in shown


def test_noise_is_part_of_the_run(run, reviews, tmp_path):
    options = ("--out", tmp_path / "run", "--methods", "random", "--min-tokens", "5")
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
        (("none.tsv", "--out", "run"), "cannot read none.tsv: No such file or directory.\n"),
        (("DATA", "--out", "run", "--to", "F"), "unrecognized arguments: --to F"),
        (("DATA", "--out", "run", "--least", "5"), "unrecognized arguments: --least 5"),
        (("DATA", "--out", "run", "--most", "5"), "unrecognized arguments: --most 5"),
        (("DATA", "--out", "run", "--position", "drawn"), "invalid choice: 'drawn'"),
        (("DATA", "--out", "run", "--output", "no/folder"), "there is no folder no"),
        (("no/such-data", "--out", "run"), "pip install datasets"),
        (("DATA", "--out", "run", "--reference", "nobody"), "reference 'nobody'"),
        (("--report", "none"), "none holds no run: there is no such folder."),
        (("--report", "."), "holds no run: there is no rows.jsonl in it"),
    ),
)
def test_refused_before_the_model_is_loaded(
    run, reviews, monkeypatch, tmp_path, arguments, complaint
):
    def load(*args, **options):
        raise AssertionError("the model was loaded")

    if "datasets" in complaint:
        monkeypatch.setitem(sys.modules, "datasets", None)  # as where it is not installed
    monkeypatch.setattr(loading, "load", load)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*(reviews if a == "DATA" else a for a in arguments))
    assert (code, out) == (2, "") and complaint in err and "Traceback" not in err


def test_one_text_has_no_interval(run, reviews, tmp_path):
    options = ("--methods", "random", "occlusion", "--min-tokens", "5", "--limit", "1")
    code, shown, _ = run(reviews, "--out", tmp_path / "run", *options, "--reference", "random")
    assert code == 0 and shown.startswith("1 examples\n")
    assert "nan" not in shown and " – |" in shown and " – p 1, won " in shown


def test_the_table_replaces_no_file_that_is_read(run, reviews, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text, scores = reviews.read_text(), tmp_path / "mine.jsonl"
    scores.write_text('{"example": 0, "scores": [0.1]}\n')
    for output in (reviews, f"./{reviews.name}", scores):
        code, shown, err = run(
            *(reviews, "--out", "run", "--methods", "random", "--scores", f"mine={scores}"),
            *("--output", output, "--overwrite"),
        )
        assert (code, shown) == (2, "") and "must name different files" in err
    assert reviews.read_text() == text and not (tmp_path / "run").exists()


@pytest.fixture
def language_folder(save_model, tiny):
    """A tiny Llama, saved."""
    return save_model(tiny("Llama", head="CausalLM", num_key_value_heads=1, bos_token_id=2))


@pytest.fixture
def image_folder(save_model, tiny):
    """A tiny ViT that reads grey images of 8 x 8 pixels, saved with its image processor."""
    size = {"height": 8, "width": 8}
    model = tiny("ViT", head="ImageClassification", image_size=8, patch_size=4, num_channels=1)
    place = save_model(model, with_tokenizer=False)
    ViTImageProcessorPil(size=size, image_mean=[0.5], image_std=[0.5]).save_pretrained(place)
    return place


@pytest.fixture
def pictures(tmp_path):
    """A folder of four images, one of them within another folder, with labels of three."""
    place, rng = tmp_path / "pictures", np.random.default_rng(0)
    (place / "more").mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png", "more/d.png"):
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        pillow.fromarray(pixels).save(place / name)
    (place / "labels.tsv").write_text("file\tlabel\na.png\t1\nmore/d.png\t0\nb.png\t2\n")
    (place / "notes.md").write_text("not an image")
    return place


def test_next_tokens_of_a_text_file(run, language_folder, tmp_path):
    file = tmp_path / "stories.txt"
    file.write_text("\n".join(REVIEWS) + "\n\n", encoding="utf-8")
    methods = ("--methods", "random", "bcf:flow", "alti")
    options = ("--model", language_folder, *methods, "--min-tokens", "4")
    out = tmp_path / "run"
    code, shown, err = run(
        file, "--out", out, *options, "--position", "random", "--max-tokens", "30"
    )
    assert (code, shown) == (2, "") and "no rows of alti" in err and "BERT's layers" in err
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert {row["method"] for row in rows if "failed" in row} == {"alti"}
    assert len(rows) == 9
    code, shown, _ = run("--report", out)
    assert code == 0 and "| bcf:flow |" in shown and "log_odds delete" in shown
    before = (out / "rows.jsonl").read_text()
    run(file, "--out", out, *options, "--position", "random", "--max-tokens", "30")
    assert (out / "rows.jsonl").read_text() == before
    code, _, err = run(file, "--out", out, *options, "--max-tokens", "30")
    assert code == 2 and "another position ('random', not 'end')" in err


def test_a_folder_of_images(run, image_folder, pictures, tmp_path):
    operators = ("--operators", "mask", "darkest", "delete")
    options = ("--model", image_folder, "--methods", "occlusion", "bcf:flow", *operators)
    code, shown, _ = run(pictures, "--out", tmp_path / "run", *options)
    assert code == 0 and shown.startswith("4 examples\n")
    assert "aopc darkest" in shown and "| occlusion |" in shown
    rows = [json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()]
    assert {row["example"]: row["label"] for row in rows} == {0: 1, 1: 2, 2: None, 3: 0}
    assert all((row["tokens"], row["units"]) == (5, 4) for row in rows)


def test_options_for_another_kind_of_model(run, image_folder, language_folder, pictures, reviews,
                                           tmp_path):  # fmt: skip
    out = ("--out", tmp_path / "run", "--methods", "random", "--min-tokens", "4")
    for arguments, complaint in (
        ((pictures, *out), "the model is a classifier of texts, but the data are images"),
        ((reviews, *out, "--model", image_folder), "give a folder of images"),
        ((pictures, *out, "--model", image_folder, "--operators", "pad"), "'pad' is not for"),
        ((pictures, *out, "--model", image_folder, "--granularity", "word"), "'word' is not for"),
        ((pictures, *out, "--model", image_folder, "--extras", "soft"), "'soft' is not for"),
        ((reviews, *out, "--model", language_folder, "--noise", "typos"), "noise is for"),
        ((reviews, *out, "--model", language_folder, "--target", "label"), "has no labels"),
        ((reviews, *out, "--position", "random"), "is for language models"),
    ):
        code, shown, err = run(*arguments)
        assert (code, shown) == (2, "") and complaint in err, complaint
    assert not (tmp_path / "run").exists()


def test_folders_that_hold_no_images_or_label_others(pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no image in it: expected files .png"):
        read_examples(str(tmp_path / "empty"))
    found = read_examples(str(pictures))
    assert [(e.content.name, e.label) for e in found] == [
        ("a.png", 1), ("b.png", 2), ("c.png", None), ("d.png", 0)
    ]  # fmt: skip
    (pictures / "labels.tsv").write_text("file\tlabel\nz.png\t1\n")
    with pytest.raises(InputError, match=r"labels 'z.png', and there is no such image"):
        read_examples(str(pictures))
    (pictures / "labels.tsv").write_text("file\tlabel\na.png\tone\n")
    with pytest.raises(InputError, match="a.png: label must be an integer, got 'one'"):
        read_examples(str(pictures))


def test_the_command_offers_what_the_evaluation_has():
    """The command lists the names itself, since --help must not wait for torch."""
    (commands,) = (a for a in complete_parser()._actions if a.dest == "command")
    parser = commands.choices["evaluate"]
    choices = {action.dest: action.choices for action in parser._actions}
    for option, names in (
        ("extras", EXTRAS),
        ("operators", OPERATORS),
        ("preset", PRESETS),
        ("granularity", GRANULARITIES),
        ("target", TARGETS),
        ("precision", PRECISIONS),
        ("position", POSITIONS),
        ("noise", NOISE),
    ):
        assert sorted(choices[option]) == sorted(names), option
