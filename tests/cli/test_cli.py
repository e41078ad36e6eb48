"""The command: what it shows and writes, and for every bad input one line and exit code 2."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from support.images import photo, processor_of
from support.tiny_models import build
from transformers import (
    BrosConfig,
    BrosForTokenClassification,
    CLIPConfig,
    CLIPModel,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

import attnflow
from attnflow.attribution.views import terminal
from attnflow.cli import main, models
from attnflow.errors import InputError
from attnflow.explainer.explainer import Explainer

TEXT = "the film is not good, but it was never dull."
ESCAPES = "\x1b[2J\x9b31m\x07"


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch):
    for name in ("NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def run(folder, run_command):
    """Runs `attnflow explain` with the tiny model; (exit code, standard output, its error)."""

    def explain(*arguments, model=folder):
        named = [] if model is None else ["--model", model]
        return run_command("explain", *named, *arguments)

    return explain


@pytest.fixture
def refused(run):
    """Runs what has to be refused, and returns the complaint."""

    def explain(*arguments, **options):
        code, out, err = run(*arguments, **options)
        assert (code, out) == (2, "")
        assert "attnflow" in err and "Traceback" not in err
        assert not any(character in err for character in "\x1b\x9b\x07")
        return err

    return explain


@pytest.fixture
def no_model(monkeypatch):
    """Loading a model is a failure of the test."""

    def load(*args, **kwargs):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Explainer, "from_pretrained", load)


@pytest.fixture
def stdin(monkeypatch):
    def feed(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return feed


def command(*arguments, env=None, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "attnflow", *map(str, arguments)],
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=options.pop("stderr", subprocess.PIPE),
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
        # Where the tests run in the background of a shell, it has made everyone deaf to SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


# Good runs


def test_a_similarity_by_another_pooling(run, save_model, tiny, tmp_path):
    model, scores = save_model(tiny(head=None)), []
    for pooling in ("mean", "last"):
        file = tmp_path / f"{pooling}.json"
        options = ("--pair", "a dog", "--tensor", "cf", "--json", file, "--quiet")
        assert run(TEXT, "--pooling", pooling, *options, model=model)[0] == 0
        scores.append(json.loads(file.read_text())[0]["scores"])
    assert scores[0] != scores[1]


def test_a_text_is_shown(run):
    code, out, err = run(TEXT)
    assert code == 0 and err == ""
    assert "certificate: flow" in out and "[CLS]" in out and "\x1b" not in out
    assert any(label in out for label in ("negative", "neutral", "positive"))


def test_several_texts_are_numbered_as_in_errors(run):
    alone, out = run(TEXT)[1], run(TEXT, "a dog")[1]
    first, second = out.split("\n\n[1] ")
    assert first.splitlines()[0] == f"[0] {alone.splitlines()[0]}"
    assert len(first.splitlines()) == len(alone.splitlines()) and "a dog" in second.replace("⁻", "")


class Watched(io.StringIO):
    """A terminal at which somebody sits."""

    def isatty(self):
        return True


def test_log_messages_are_shown_on_a_terminal(run, monkeypatch):
    watched = Watched()

    def load(*args, **kwargs):
        logging.getLogger("attnflow").warning("wait for \x1b[2J %d s", 5)
        raise InputError("no model.")

    monkeypatch.setattr(Explainer, "from_pretrained", load)
    assert run(TEXT)[2] == "attnflow: no model.\n"  # nobody watches
    monkeypatch.setattr(sys, "stderr", watched)
    run(TEXT, "--quiet")
    assert "wait" not in watched.getvalue()
    run(TEXT)
    assert "attnflow: wait for " in watched.getvalue() and "\x1b" not in watched.getvalue()
    assert logging.getLogger("attnflow").handlers == []


def test_quiet_prints_nothing(run, tmp_path):
    assert run(TEXT, "--quiet", "--json", tmp_path / "a.json") == (0, "", "")
    assert run("good " * 40, "--quiet", "--truncate") == (0, "", "")
    assert (tmp_path / "a.json").exists()


def test_json_is_what_the_library_says(run, folder, tmp_path):
    path = tmp_path / "a.json"
    code, _, err = run(TEXT, "a smart dog", "--json", path, "--target", "neutral", "--gap", "1e-3")
    assert code == 0 and err == f"wrote {path}\n"
    expected = Explainer.from_pretrained(folder)([TEXT, "a smart dog"], target=1, gap=1e-3)
    found = json.loads(path.read_text())
    assert found == json.loads(json.dumps([a.to_dict() for a in expected]))
    assert run("bad", "--json", tmp_path / "one.json")[0] == 0
    assert [r["text"] for r in json.loads((tmp_path / "one.json").read_text())] == ["bad"]


def test_save_and_load(run, tmp_path):
    path = tmp_path / "a.safetensors"
    assert run(TEXT, "bad", "--save", path, "--tensor", "agf")[0] == 0
    first, second = attnflow.load(path)
    assert (first.text, second.text, first.tensor) == (TEXT, "bad", "agf")
    assert first.edges.sum(1)[0] == pytest.approx(first.scores)


def test_html_and_everything_at_once(run, tmp_path):
    paths = [tmp_path / name for name in ("a.json", "a.html", "a.st")]
    code, out, err = run(TEXT, "--json", paths[0], "--html", paths[1], "--save", paths[2])
    assert code == 0 and all(f"wrote {path}\n" in err for path in paths)
    page = paths[1].read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>") and "never" in page


def test_several_texts_and_their_order(run):
    code, out, _ = run("a smart dog", "bad")
    assert code == 0 and out.count("certificate:") == 2
    assert out.index("smart") < out.index("bad")


def test_options_reach_the_explainer(run, tmp_path):
    def record(*options):
        path = tmp_path / "a.json"
        assert run(TEXT, "--quiet", "--overwrite", "--json", path, *options)[0] == 0
        return json.loads(path.read_text())[0]

    plain = record()
    assert (plain["tensor"], plain["readout"], plain["truncated"]) == ("net", "input", 0)
    assert record("--readout", "throughput")["readout"] == "throughput"
    assert record("--tensor", "gf")["tensor"] == "gf"
    assert record("--target", "2")["label"] == "positive"
    every = tmp_path / "every.json"
    assert run(TEXT, "good", "--quiet", "--json", every, "--target", "all")[0] == 0
    assert [a["target"] for a in json.loads(every.read_text())] == [0, 1, 2] * 2
    assert record("--stages", "none")["scores"] != plain["scores"]
    assert record("--stages", "0.05,0.15,0.3")["scores"] == plain["scores"]
    assert record("--stages", "0.1,halves")["stages"] == [0.1, "halves"]
    assert record("--pattern", "shared")["scores"] != plain["scores"]
    assert record("--target", "NEUTRAL")["target"] == 1
    assert record("--mu", "1e-2")["certificate"]["mu"] == pytest.approx(1e-2)
    assert record("--gap", "3e-1")["gap"] > plain["gap"]
    assert record("--device", "cpu", "--batch-size", "1")["scores"] == plain["scores"]


def test_words_and_tokens(run):
    assert "##" not in run("dullest dullest", "--granularity", "word")[1]
    rows = [run("the dullest", "--granularity", unit)[1].count("%") for unit in ("word", "token")]
    assert rows[0] < rows[1]


def test_a_file_with_bom_and_windows_line_ends(run, tmp_path):
    path, scores = tmp_path / "texts", tmp_path / "a.json"
    path.write_bytes("\ufeffgood film\r\n\r\n-\r\n  bad\u2028dog\x0cfilm \r\n--quiet".encode())
    assert run("--file", path, "--json", scores)[0] == 0
    read = [record["text"] for record in json.loads(scores.read_text())]
    assert read == ["good film", "-", "  bad\u2028dog\x0cfilm ", "--quiet"]


def test_standard_input(run, stdin, tmp_path):
    scores = tmp_path / "a.json"
    stdin("\ufeffgood\nfilm\r\n".encode())
    assert run("bad", "-", "a dog", "--json", scores)[0] == 0
    read = [record["text"] for record in json.loads(scores.read_text())]
    assert read == ["bad", "good\nfilm", "a dog"]


def test_standard_input_in_the_place_of_a_file(run, stdin, tmp_path):
    scores = tmp_path / "a.json"
    stdin(b"good film\n\nbad dog\n")
    assert run("--file", "-", "--json", scores)[0] == 0
    read = [record["text"] for record in json.loads(scores.read_text())]
    assert read == ["good film", "bad dog"]


def test_json_on_standard_output_is_all_that_stands_there(run, stdin, tmp_path):
    stdin(b"good film")
    # Alternatives are explained in the same batch, which rounds in another order.
    html = ("--html", tmp_path / "a.html", "--alternatives", "0")
    code, out, err = run("-", "--json", "-", *html)
    assert (code, err) == (0, f"wrote {tmp_path / 'a.html'}\n")
    run("good film", "--json", tmp_path / "a.json")
    assert json.loads(out) == json.loads((tmp_path / "a.json").read_text())
    assert run("good film", "--json", "-", "--quiet")[1:] == (out, "")


def test_a_page_on_standard_output_is_the_page_of_a_file(run, tmp_path):
    code, out, err = run("good 日本 film", "--html", "-")
    run("good 日本 film", "--html", tmp_path / "a.html")
    assert (code, err) == (0, "")
    assert out == (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_text_that_begins_with_a_hyphen(run, refused, tmp_path):
    assert run("--", "-good")[0] == 0
    assert run("-5 stars")[0] == 0
    assert run("--quiet", "--json", tmp_path / "a.json", "--", "-good", "--bad")[0] == 0
    read = [record["text"] for record in json.loads((tmp_path / "a.json").read_text())]
    assert read == ["-good", "--bad"]
    assert "-good" in refused("-good")
    assert "-- before texts" in run("--help", model=None)[1].replace("\n", " ")


def test_truncate_warns_in_one_line(run):
    code, out, err = run("good " * 40, "--truncate")
    assert code == 0 and "10 tokens were cut off" in out
    assert err == ("attnflow: warning: text 0 was cut to 32 tokens: 10 more are not explained.\n")


def test_a_home_folder(run, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert run("good", model=f"~/{folder.name}")[0] == 0


def test_overwrite(run, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")
    assert run("good", "--json", path, "--overwrite")[0] == 0
    assert json.loads(path.read_text())


def test_an_error_of_the_options_is_one_line_with_the_subcommand(refused, capsys):
    for arguments in (("good", "--nonsense"), ("good", "--gap", "2"), ("good", "--json")):
        line = refused(*arguments)
        assert line.startswith("attnflow explain: error: ")
        assert line.endswith(" (see attnflow explain --help)\n") and line.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "solver", "--nonsense"])
    line = capsys.readouterr().err
    assert line.startswith("attnflow bench solver: error: unrecognized arguments: --nonsense ")
    assert "attnflow bench solver --help" in line and line.count("\n") == 1


def test_a_model_without_check_gets_a_hint(capsys):
    assert main(["models", "bert"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "attnflow models --check bert" in captured.err
    with pytest.raises(SystemExit):
        main(["models", "--help"])
    assert "usage: attnflow models [-h] [--check ID] [--format" in capsys.readouterr().out


def test_a_subcommand_needs_no_option_quiet(monkeypatch):
    def add(commands, summary):
        commands.add_parser("models", help=summary).set_defaults(run=lambda args: 7)

    monkeypatch.setattr(models, "add", add)
    assert main(["models"]) == 7


def test_version_and_help(run, capsys):
    for arguments in (["--version"], ["--help"], ["explain", "--help"]):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 0
    assert attnflow.__version__ in capsys.readouterr().out


def test_no_color_wins_on_a_terminal(folder, monkeypatch):
    class Tty(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    shown = []
    for value in (None, "1"):
        if value:
            monkeypatch.setenv("NO_COLOR", value)
        monkeypatch.setattr(sys, "stdout", Tty())
        assert main(["explain", "--model", str(folder), "good"]) == 0
        shown.append(sys.stdout.getvalue())
    assert "\x1b[" in shown[0] and "\x1b" not in shown[1]


def test_the_state_of_the_process_is_kept(run):
    import warnings

    from transformers.utils import logging

    before = (warnings.showwarning, list(warnings.filters), logging.get_verbosity())
    run("good " * 40, "--truncate")
    run("")
    assert (warnings.showwarning, list(warnings.filters), logging.get_verbosity()) == before


# Bad input


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    (
        ([], "no text to explain"),
        ([""], "text 0 is empty"),
        (["good", " \n"], "text 1 is empty"),
        (["-", "-"], "can be read only once"),
        (["good", "--file", "x"], "texts or --file, not both"),
        (["--file", "missing"], "cannot read --file missing: No such file"),
        (["--file", ""], "cannot read --file"),
        (["good", "--mu", "0"], "expected a finite number > 0, got 0"),
        (["good", "--mu", "-1"], "expected a finite number > 0, got -1"),
        (["good", "--mu", "nan"], "expected a finite number > 0, got nan"),
        (["good", "--mu", "inf"], "expected a finite number > 0, got inf"),
        (["good", "--mu", "x"], "expected a number, got x"),
        (["good", "--gap", "0"], "expected a number inside (0, 1), got 0"),
        (["good", "--gap", "1"], "expected a number inside (0, 1), got 1"),
        (["good", "--gap", "nan"], "expected a number inside (0, 1), got nan"),
        (["good", "--gap", "much"], "--gap: expected a number, got much"),
        (["good", "--batch-size", "0"], "expected an integer of at least 1, got 0"),
        (["good", "--batch-size", "1.5"], "expected an integer of at least 1, got 1.5"),
        (["good", "--batch-size", "x"], "--batch-size: expected a number, got x"),
        (["good", "--tensor", "xy"], "invalid choice: 'xy'"),
        (["good", "--readout", "xy"], "invalid choice: 'xy'"),
        (["good", "--granularity", "xy"], "invalid choice: 'xy'"),
        (["good", "--max-memory", "much"], "max_memory must be bytes > 0"),
        (["good", "--max-memory", "much"], "(--max-memory 8GB)"),
        (
            ["good", "--tensor", "agf", "--readout", "throughput"],
            "needs tensor 'net', 'bcf' or 'cf'",
        ),
        (["good", "--json", "missing/a.json"], "there is no folder missing"),
        (["good", "--html", ""], "it is a folder"),
        (["good", "--save", "."], "it is a folder"),
        (["good", "--json", "a", "--html", "./a"], "must name different files"),
        (["good", "--json", "a" * 5000], "File name too long"),
        (["good", "--json", "-", "--html", "-"], "(standard output) can be written only once"),
        (["good", "--save", "-"], "--save writes a binary file: name it"),
        (["good", "--write", "2"], "unrecognized arguments: --write"),
        (["good", "--continuation", "x", "--max-new-tokens", "2"], "or --max-new-tokens, not both"),
        (["good", "--nonsense"], "--nonsense"),
        (["good", "--json"], "expected one argument"),
    ),
)
def test_refused_before_the_model_is_loaded(
    refused, no_model, monkeypatch, tmp_path, arguments, complaint
):
    monkeypatch.chdir(tmp_path)
    assert complaint in refused(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    (
        (["[SEP] [CLS]"], "only special tokens"),
        (["good", "\u200b"], "text 1 (of 2)"),
        (["good " * 40], "has 42 tokens and the model takes 32"),
        (["good", "--max-new-tokens", "2"], "continuation=, --continuation or --max-new-tokens"),
        (["good", "--span", "1:2"], "(span=, --span)"),
        (["good", "--position", "1"], "(position=, --position)"),
        (["good", "--attention-sink", "apart"], "leave it out (--attention-sink)"),
        (["good", "--max-memory", "1KB"], "or a larger max_memory (--max-memory)"),
        (["good", "--target", "nice"], "target 'nice' is not a class"),
        (["good", "--target", ""], "target '' is not a class"),
        (["good", "--target", "3"], "an index from 0 to 2"),
        (["good", "--target", "-1"], "target '-1' is not a class"),
        (["good", "--device", "nonsense"], "device must be a name such as"),
        (["good", "--device", "cuda:99"], "device 'cuda:99' is not there"),
        (["good\udcff"], "not valid Unicode"),
    ),
)
def test_refused_by_the_model(refused, tmp_path, arguments, complaint):
    err = refused(*arguments, "--json", tmp_path / "a.json")
    assert complaint in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_where_there_is_none(refused):
    assert "this machine has 0 devices of type 'cuda'" in refused("good", "--device", "cuda")


def test_no_command_and_an_unknown_one(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["explode"])
    assert exit.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("usage: attnflow [-h]")
    assert "Score the tokens of texts" in captured.err and "error" not in captured.err


def whisper():
    sizes = dict(encoder_layers=1, decoder_layers=1, d_model=8, encoder_ffn_dim=8)
    heads = dict(encoder_attention_heads=2, decoder_attention_heads=2, decoder_ffn_dim=8)
    return WhisperForConditionalGeneration(WhisperConfig(**sizes, **heads, vocab_size=60000))


def test_models_that_are_none(refused, tiny, save_model, tmp_path):
    (tmp_path / "empty").mkdir()
    for model, complaint in (
        (tmp_path / "empty", "is not a model"),
        (tmp_path / "missing", "is not there"),
        ("nobody/nothing-here", "Check the name and the network"),
        ("my model", "Check the name, or give a local folder"),
        ("a" * 5000, "is not the name of a model"),
        ("", "is not a model"),
        (save_model(tiny(head=None)), "give a text to compare with"),
        (save_model(tiny(head="MultipleChoice")), "BertForMultipleChoice"),
        (save_model(whisper()), "it reads sound (input_features)"),
        (save_model(tiny(), with_tokenizer=False), "no tokenizer"),
    ):
        err = refused("good", model=model)
        assert complaint in err and err.count("\n") == 1


@pytest.mark.parametrize("tensor", ("af", "gf", "agf", "cf"))
def test_models_without_attention_weights(refused, tiny, save_model, tmp_path, tensor):
    model = save_model(tiny("FNet"))
    err = refused("good", "--tensor", tensor, "--html", tmp_path / "a.html", model=model)
    assert "FNetForSequenceClassification" in err
    assert list(tmp_path.iterdir()) == []


def test_a_broken_model(refused, tiny, save_model):
    model = tiny()
    with torch.no_grad():
        model.classifier.weight.fill_(float("nan"))
    assert "not finite" in refused("good", model=save_model(model))


def test_overflow_in_float16_says_what_to_load(refused, tiny, save_model):
    model = tiny().half()
    with torch.no_grad():
        model.classifier.weight.fill_(float("inf"))
    err = refused("good", "--dtype", "float16", model=save_model(model))
    assert "float16 may have overflowed: load the model with dtype='bfloat16' (--dtype" in err


def test_a_model_that_needs_other_inputs(refused, save_model):
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model = save_model(BrosForTokenClassification(BrosConfig(**sizes)))
    err = refused("good", "--tensor", "agf", "--position", "1", model=model)
    assert "does not run on these inputs: ValueError: You have to specify bbox." in err
    towers = {"text_config": sizes, "vision_config": {**sizes, "image_size": 8, "patch_size": 4}}
    model = save_model(CLIPModel(CLIPConfig(**towers)))
    err = refused("good", "--pair", "bad", model=model)
    assert "CLIPModel does not run on these inputs" in err and err.count("\n") == 1


def test_the_loggers_of_backends_stay_as_they_were(run, monkeypatch):
    backend, levels = logging.getLogger("bitsandbytes"), []
    load = attnflow.Explainer.from_pretrained.__func__

    def watched(cls, *args, **options):
        levels.append(backend.getEffectiveLevel())
        return load(cls, *args, **options)

    monkeypatch.setattr(attnflow.Explainer, "from_pretrained", classmethod(watched))
    before = backend.level
    assert run("good")[0] == 0
    assert levels == [logging.ERROR] and backend.level == before


def test_a_model_in_half_precision_is_explained(run, tiny, save_model):
    assert run("good", model=save_model(tiny().half()))[0] == 0


@pytest.mark.parametrize("option", ("--json", "--html", "--save"))
def test_an_existing_file_is_kept(refused, no_model, tmp_path, option):
    path = tmp_path / "kept"
    path.write_bytes(b"before")
    assert "exists already" in refused("good", option, path)
    assert path.read_bytes() == b"before"
    assert "it is a folder" in refused("good", option, tmp_path, "--overwrite")
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("option", ("--json", "--html", "--save"))
def test_an_unwritable_folder(refused, no_model, monkeypatch, tmp_path, option):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "is not writable" in refused("good", option, tmp_path / "a")


def test_the_input_is_not_overwritten(refused, no_model, tmp_path):
    path = tmp_path / "texts"
    path.write_text("good\n")
    err = refused("--file", path, "--json", path, "--overwrite")
    assert "must name different files" in err and path.read_text() == "good\n"


def test_loops_of_links(refused, no_model, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot" in refused("--file", tmp_path / "loop")
    assert "cannot" in refused("good", "--json", tmp_path / "loop" / "a")


def test_files_that_cannot_be_read(refused, no_model, tmp_path):
    (tmp_path / "empty").write_bytes(b"\n  \r\n\n")
    (tmp_path / "latin").write_bytes("café".encode("latin-1"))
    for name, complaint in (
        ("empty", "has no text"),
        ("latin", "is not UTF-8"),
        (".", "Is a directory"),
    ):
        assert complaint in refused("--file", tmp_path / name)


def test_standard_input_that_cannot_be_read(refused, no_model, stdin, monkeypatch):
    stdin(b"caf\xe9")
    assert "standard input is not UTF-8" in refused("-")
    stdin(b" \n\n")
    assert "text 0 is empty" in refused("-")
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed" in refused("-")


# Hostile input


@pytest.mark.parametrize(
    "arguments",
    (
        ["good", "--target", ESCAPES],
        ["good", "--model", ESCAPES],
        ["good", "--model", f"./{ESCAPES}"],
        ["good", "--device", ESCAPES],
        ["good", "--file", ESCAPES],
        ["--file", ESCAPES],
        ["good", "--json", f"{ESCAPES}/a"],
        ["good", "--gap", ESCAPES],
        ["good", "--mu", ESCAPES],
        ["good", "--batch-size", ESCAPES],
        ["good", "--tensor", ESCAPES],
        ["good", f"--{ESCAPES}"],
        [f"{ESCAPES} " * 40],
    ),
)
def test_no_complaint_drives_the_terminal(refused, arguments):
    refused(*arguments)


def test_a_hostile_text(run, tmp_path):
    text = f"good </script><script>alert(1)</script> {ESCAPES} \u202e<img src=x onerror=alert(1)>"
    page = tmp_path / f"{ESCAPES[:-1]}.html"
    code, out, err = run("x", text, "--html", page, "--truncate")
    assert code == 0 and page.exists()
    for character in "\x1b\x9b\x07\u202e":
        assert character not in out and character not in err
    html = page.read_text(encoding="utf-8")
    assert "<img" not in html and "<script>alert" not in html and "onerror=alert" in html
    assert not any(character in html for character in "\x1b\x9b\x07")


def test_hostile_labels(run, refused, tiny, save_model, tmp_path):
    labels = (f"<script>alert(1)</script>{ESCAPES}", "</title><b>\u202e\n", "\ud800")
    model = save_model(tiny(labels=labels))
    for target in "012":
        page = tmp_path / f"{target}.html"
        scores = tmp_path / f"{target}.json"
        saved = tmp_path / f"{target}.st"
        code, out, err = run(
            *("good film", "--target", target, "--html", page, "--json", scores, "--save", saved),
            model=model,
        )
        assert code == 0
        assert not any(character in out + err for character in "\x1b\x9b\x07\u202e\ud800")
        html = page.read_text(encoding="utf-8")
        assert "<script>alert" not in html and "</title><b>" not in html and "\x1b" not in html
        assert json.loads(scores.read_text())[0]["label"] == labels[int(target)]
        assert attnflow.load(saved)[0].label == labels[int(target)]
    refused("good", "--target", "nice", model=model)


# Interruptions and pipes


def test_control_c_in_a_batch(run, monkeypatch, tmp_path):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Explainer, "__call__", interrupted)
    code, out, err = run("good", "--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
    assert (code, out, err) == (130, "", "attnflow: interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_our_own_bugs_are_not_hidden(run, monkeypatch):
    for bug in (TypeError, KeyError, ValueError, AttributeError):

        def broken(*args, _bug=bug, **kwargs):
            raise _bug("ours")

        monkeypatch.setattr(terminal, "render", broken)
        with pytest.raises(bug, match="ours"):
            run("good")


def test_an_answer_without_certificate(run, monkeypatch, tmp_path):
    def unsolved(*args, **kwargs):
        raise attnflow.UnsolvedError("1 of 1 flows not solved.")

    monkeypatch.setattr(Explainer, "__call__", unsolved)
    code, out, err = run("good", "--json", tmp_path / "a.json")
    assert (code, out) == (1, "") and "not solved" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_sigint_while_explaining_many_texts(folder, tmp_path):
    texts, scores = tmp_path / "texts", tmp_path / "a.json"
    texts.write_text(f"{TEXT}\n" * 20000)
    termios = pytest.importorskip("termios")
    screen, terminal = os.openpty()  # a bar is shown in terminals alone, as wide as they are
    termios.tcsetwinsize(screen, (24, 80))
    process = command(
        *("explain", "--model", folder, "--file", texts, "--json", scores, "--batch-size", "4"),
        stderr=terminal,
    )
    os.close(terminal)
    seen, deadline = b"", time.monotonic() + 60
    while b"text/s" not in seen and b"s/text" not in seen:  # the bar moves: texts are explained
        assert time.monotonic() < deadline and process.poll() is None, seen
        seen += os.read(screen, 4096)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    while b"interrupted" not in seen:
        seen += os.read(screen, 4096)
    os.close(screen)
    assert process.returncode == 130 and out == b""
    assert b"Traceback" not in seen and seen.rstrip().endswith(b"attnflow: interrupted.")
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


def test_a_reader_that_has_gone(run, monkeypatch, tmp_path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        code, _, err = run(TEXT, "--json", tmp_path / "a.json")
        print("what Python flushes at exit", file=stdout, flush=True)
    assert code == 0 and err == f"wrote {tmp_path / 'a.json'}\n"
    assert json.loads((tmp_path / "a.json").read_text())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_standard_output_that_is_full(run, monkeypatch):
    with open("/dev/full", "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        code, _, err = run("good")
    assert code == 2
    assert err == "attnflow: cannot write to standard output: No space left on device.\n"


def test_standard_output_that_is_closed(run, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", None)
    assert run("good", "--json", tmp_path / "a.json")[0] == 0
    assert (tmp_path / "a.json").exists()


def test_json_for_standard_output_that_is_closed(refused, no_model, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert "standard output is closed: name a file" in refused("good", "--json", "-")


def test_json_for_a_reader_that_has_gone(run, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        code, _, err = run(TEXT, "--json", "-")
        print("what Python flushes at exit", file=stdout, flush=True)
    assert (code, err) == (0, "")


def test_a_page_has_its_own_encoding(run, monkeypatch):
    """Whatever standard output has: the page says that it is UTF-8."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert run("good 日本 film", "--html", "-")[0] == 0
    assert "日本" in shown.getvalue().decode("utf-8")


def test_json_in_a_pipe(folder):
    """Standard input to standard output, between two other programs."""
    process = command("explain", "-", "--json", "-", "--model", folder, stdin=subprocess.PIPE)
    out, err = process.communicate(b"good film\n", timeout=120)
    assert (process.returncode, err) == (0, b"")
    assert [record["text"] for record in json.loads(out)] == ["good film"]


def test_a_narrow_encoding(run, monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert run("good 日本 film")[0] == 0
    assert b"certificate: flow" in shown.getvalue() and shown.getvalue().isascii()


@pytest.mark.parametrize(
    ("arguments", "code"),
    ((["--version"], 0), (["explain"], 2), (["explain", "x", "--gap", "2"], 2), (["explode"], 2)),
)
def test_the_command_as_a_process(arguments, code):
    process = command(*arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code and b"Traceback" not in err
    assert bool(out) == (code == 0) and bool(err) == (code != 0)


def test_gap_and_mu_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["explain", "fine", "--gap", "0.1", "--mu", "0.1"])

    assert exit.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.fixture(scope="module")
def sight(tmp_path_factory):
    """A saved tiny ViT, and a picture."""
    folder = tmp_path_factory.mktemp("sight")
    model = build("vit")
    model.save_pretrained(folder / "model")
    processor_of(model).save_pretrained(folder / "model")
    Image.fromarray(photo()).save(folder / "photo.png")
    return folder / "model", folder / "photo.png"


def test_images(run, sight, tmp_path):
    model, file = sight
    written = [tmp_path / name for name in ("a.json", "a.html", "a.safetensors")]
    options = zip(("--json", "--html", "--save"), written, strict=True)
    code, out, err = run("--image", file, file, *sum(options, ()), model=model)
    assert code == 0 and out.count("3 x 4 patches") == 2, err
    records = json.loads(written[0].read_text())
    assert [record["text"] for record in records] == ["photo.png", "photo.png"]
    assert records[0]["grid"] == [3, 4] and records[0]["tokens"][1] == "r0c0"
    assert "2 images explained" in written[1].read_text("utf-8")
    assert attnflow.load(written[2])[1].edges is not None


def test_images_that_are_refused(refused, sight, tmp_path, folder):
    model, file = sight
    (tmp_path / "text.png").write_text("no image")
    assert "No such file" in refused("--image", tmp_path / "none.png", model=model)
    assert "is not an image that Pillow" in refused("--image", tmp_path / "text.png", model=model)
    assert "reads texts: give" in refused("--image", file, model=folder)
    assert "reads images: give" in refused("a text", model=model)
    assert "must name different files" in refused("--image", file, "--html", file, "--overwrite")
    for more in (
        ("--pair", "x"),
        ("--max-new-tokens", "2"),
        ("--truncate",),
        ("--granularity", "word"),
    ):
        assert f"{more[0]}" in refused("--image", file, *more, model=model)
    assert "and no texts" in refused("a text", "--image", file, model=model)
    several = refused("a text", "another", "--image", file, model=model)
    assert "--image goes with one TEXT or --chat" in several
