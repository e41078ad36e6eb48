"""`attnflow models`: the table of families, and whether a model can be explained."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from attnflow import Explainer
from attnflow.capture import FAMILIES, TENSORS, Objective, capture, learn_family
from attnflow.capture.objectives import logits_at
from attnflow.cli import main
from attnflow.errors import InputError, ModelError
from attnflow.models import support
from attnflow.models.support import support_of
from attnflow.models.tested_families import other_families, supported_families, table

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def saved(tmp_path):
    """Writes a config alone into a folder, as of a model of that class."""

    def save(kind, architecture, **options):
        config = getattr(transformers, f"{kind}Config")(**options)
        config.architectures = None if architecture is None else [architecture]
        config.save_pretrained(tmp_path)
        return tmp_path

    return save


@pytest.fixture
def run(capsys):
    """Runs `attnflow models`; (exit code, standard output, its error)."""

    def models(*arguments):
        capsys.readouterr()
        code = main(["models", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return models


def test_the_docs_say_of_every_family_what_the_table_says():
    lines = (DOCS / "families.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    rows = [row for row in cells if len(row) == 15 and row[0] not in ("family", "---")]
    assert [row[0] for row in rows] == [row.name for row in supported_families()]
    assert f"[{len(rows)} families]" in (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for row, (_, tensors, back_ends, padding, *errors_and_costs) in zip(
        supported_families(), rows, strict=True
    ):
        every = row.tensors == (*TENSORS, "bcf", "net")
        assert tensors == ("all" if every else " ".join(row.tensors))
        assert (back_ends, padding) == (" ".join(row.back_ends), " ".join(row.padding) or "none")
        errors, costs = errors_and_costs[:3], errors_and_costs[3:]
        assert [float(e) for e in errors] == [row.error, row.bfloat16, row.float16]
        assert len(costs) == 8


def test_the_table_starts_without_torch():
    code = (
        "import sys; from attnflow.cli import main; main(['models'])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "ModernBERT" in done.stdout


def test_a_model_that_merges_tokens_cannot_be_explained(saved):
    found = support_of(saved("Swin", "SwinForImageClassification", depths=[1, 1], num_heads=[2, 2]))
    assert found.tensors == () and "merges tokens from stage to stage (depths = [1, 1])" in str(
        found
    )


def test_one_row_for_each_family_in_every_format(run):
    code, text, error = run()
    assert (code, error) == (0, "")
    rows = text.split("\n\n")[0].splitlines()[1:]
    assert len(rows) == len(FAMILIES) and text.count("measured in") == 1
    assert "padding: the sides on which" in text and "error: largest difference" in text
    markdown = run("--format", "markdown")[1].splitlines()
    assert len(markdown) == len(FAMILIES) + 2
    assert len({line.count("|") for line in markdown}) == 1
    data = json.loads(run("--format", "json")[1])
    assert [row["name"] for row in data["families"]] == [row.name for row in supported_families()]
    for row, line, cells in zip(supported_families(), rows, markdown[2:], strict=True):
        for word in (row.name, row.model_type, row.kind, *row.tasks, *row.padding):
            assert word in line and word in cells
        assert " ".join(row.tensors) in cells


def test_values_shared_by_all_families_are_printed_once():
    assert table("text").count("af gf agf cf bcf net") == 1, "for as long as all families have all"


@pytest.mark.parametrize(
    ("kind", "architecture", "options", "task"),
    [
        ("Bert", "BertForSequenceClassification", {}, "text-classification"),
        ("Bert", None, {}, "text-classification"),
        ("Llama", "LlamaForCausalLM", {}, "text-generation"),
        ("T5", "T5ForConditionalGeneration", {}, "text2text-generation"),
        ("Gemma3", "Gemma3ForConditionalGeneration", {}, "image-text-to-text"),
        ("ViT", "ViTForImageClassification", {}, "image-classification"),
        ("CLIPVision", "CLIPVisionModelWithProjection", {}, "image-feature-extraction"),
    ],
)
def test_known_families(saved, run, kind, architecture, options, task):
    found = support_of(saved(kind, architecture, **options))
    assert found.tensors == ("af", "gf", "agf", "cf", "bcf", "net") and found.task == task
    code, out, _ = run("--check", found.model)
    assert code == 0 and f"can be explained for {task} by af gf agf cf bcf net" in out
    assert json.loads(run("--check", found.model, "--format", "json")[1])["task"] == task


@pytest.mark.parametrize(
    ("kind", "architecture", "options", "reason"),
    [
        ("Gemma3nText", "Gemma3nForCausalLM", {}, "four streams for each token"),
        ("Doge", "DogeForCausalLM", {}, "residual stream was not found in a tiny random model"),
        (
            "DebertaV2",
            "DebertaV2ForSequenceClassification",
            dict(conv_kernel_size=3),
            "conv_kernel_size = 3",
        ),
    ],
)
def test_tensors_that_need_no_residual_stream(saved, kind, architecture, options, reason):
    found = support_of(saved(kind, architecture, **options))
    assert found.tensors == ("af", "gf", "agf") and reason in found.reason


@pytest.mark.parametrize("kind", ["Helium", "Bloom", "MBart"])
def test_a_family_without_an_entry_that_was_found(saved, kind):
    head = "ForConditionalGeneration" if kind == "MBart" else "ForCausalLM"
    found = support_of(saved(kind, kind + head))
    assert found.tensors == ("af", "gf", "agf", "cf", "bcf", "net")
    assert "has no entry" in found.reason and "by running it once" in found.reason


def test_a_family_that_nobody_has_tried(saved, monkeypatch):
    monkeypatch.setattr(support, "other_families", dict)
    found = support_of(saved("Helium", "HeliumForCausalLM"))
    assert found.tensors == ("af", "gf", "agf") and "The first call looks for one" in found.reason


def test_outcomes_are_of_families_without_an_entry():
    assert not set(other_families()) & set(FAMILIES)
    assert other_families()["bloom"].is_found and not other_families()["mamba"].is_found


QUANTISED = dict(quantization_config={"quant_method": "a_new_one"})


@pytest.mark.parametrize(
    ("kind", "architecture", "options", "reason"),
    [
        ("Mamba", "MambaForCausalLM", {}, "without attention weights (linear_attention)"),
        ("Rwkv", "RwkvForCausalLM", {}, "without attention weights (state space)"),
        ("Jamba", "JambaForCausalLM", {}, "without attention weights"),
        ("FalconH1", "FalconH1ForCausalLM", {}, "without attention weights (hybrid)"),
        ("Qwen3_5Text", "Qwen3_5ForCausalLM", {}, "without attention weights (linear_attention)"),
        ("T5Gemma2", "T5Gemma2ForConditionalGeneration", {}, "in one softmax"),
        ("Whisper", "WhisperForConditionalGeneration", {}, "it reads sound (input_features)"),
        ("FNet", "FNetForSequenceClassification", {}, "computes attention by itself"),
        ("XLNet", "XLNetLMHeadModel", {}, "computes attention by itself"),
        ("Llama", "LlamaForCausalLM", QUANTISED, "quantised by 'a_new_one'"),
        ("Bart", "BartForSequenceClassification", {}, "reads its text twice"),
        ("Bert", "BertForNextSentencePrediction", {}, "it is for none of text-classification"),
    ],
)
def test_models_that_cannot_be_explained(saved, run, kind, architecture, options, reason):
    folder = saved(kind, architecture, **options)
    code, out, error = run("--check", folder)
    assert (code, error) == (2, "")
    assert "cannot be explained: " in out and reason in out
    found = json.loads(run("--check", folder, "--format", "json")[1])
    assert found["task"] is None and found["tensors"] == []


def test_the_embedded_model():
    found = support_of("attnflow/minilm-l6-sst2")
    assert found.model_type == "bert" and "bcf" in found.tensors


def test_configs_that_cannot_be_read(tmp_path, run):
    with pytest.raises(InputError, match="is not there"):
        support_of(tmp_path / "missing")
    with pytest.raises(InputError, match="is not a model"):
        support_of(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(ModelError, match="cannot load model"):
        support_of(tmp_path)
    assert run("--check", tmp_path)[0] == 2


def test_code_next_to_a_model_is_not_run(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot load model"):
        support_of(tmp_path)
    assert not marker.exists()


def test_a_checked_model_has_no_table(run, folder):
    code, out, error = run("--check", folder, "--format", "markdown")
    assert (code, out) == (2, "") and "--check has no table" in error


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("Mixtral", dict(num_key_value_heads=2, num_local_experts=2)),
        ("Olmo", dict(num_key_value_heads=2)),
        ("Bloom", dict(n_head=2)),
        ("Falcon", {}),
        ("FNet", {}),
    ],
)
def test_the_support_of_an_unknown_family_is_what_capture_does(saved, kind, own):
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=40)
    head = "ForMaskedLM" if kind == "FNet" else "ForCausalLM"
    options = sizes | dict(intermediate_size=24) | own
    found = support_of(saved(kind, kind + head, **options))
    config = getattr(transformers, f"{kind}Config")(**options)
    torch.manual_seed(0)
    model = getattr(transformers, kind + head)(config).eval()
    learn_family(model)
    at, ids = torch.tensor([3]), torch.tensor([[5, 6, 7, 8]])
    for tensor in TENSORS:
        if tensor in found.tensors:
            got = capture(
                model, {"input_ids": ids}, Objective(read=logits_at(at), position=at), tensor=tensor
            )
            assert got.capacities.max() > 0
        else:
            with pytest.raises(ModelError):
                capture(
                    model,
                    {"input_ids": ids},
                    Objective(read=logits_at(at), position=at),
                    tensor=tensor,
                )


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("Mamba", "cannot be explained: it has layers without.*linear_attention"),
        ("Rwkv", "ran attention.*0 times.*state space"),
    ],
)
def test_a_model_without_attention_is_refused_by_name(kind, reason):
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, attention_hidden_size=16
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with pytest.raises(ModelError, match=f"{kind}ForCausalLM {reason}"):
        Explainer(model)(input_ids=[5, 6, 7], tensor="agf")
