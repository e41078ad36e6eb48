"""Models come in by name, in float32 and with their own head, or an error says why not."""

import json
import logging
import shutil
import time

import numpy as np
import pytest
import torch
from support.attribution_checks import assert_scores_add_up
from transformers import BertConfig, XLNetConfig

from attnflow import EMBEDDED_MODEL, Explainer, InputError, ModelError
from attnflow.models import embedded as packing
from attnflow.models.load_options import LoadOptions, checked_device
from attnflow.models.loading import load, token_limit


def edited(folder, target, **changes):
    """A copy of a model's folder with other entries in its config."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | changes))
    return target


def test_packing_is_exact_to_half_a_step():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(50, 40, generator=generator) * 10.0 ** torch.arange(-20, 30)[:, None]
    rows[3], rows[4] = 0.0, torch.eye(40)[0]
    state = {"matrix": rows, "vector": torch.randn(7, generator=generator)}
    packed = packing.pack(state)
    assert packed["matrix"].dtype == np.int8 and packed["matrix"].max() == 127
    again = packing.unpack(packed)
    assert set(again) == set(state) and all(t.dtype == torch.float32 for t in again.values())
    assert torch.equal(again["vector"], state["vector"])
    step = rows.abs().amax(1, keepdim=True) / 127
    error = (again["matrix"] - rows).abs()
    assert (error <= step * (0.5 + 1e-4) + 1e-14).all()
    assert (error > 0.4 * step).any()  # not more exact than a byte can be


def test_packing_twice_changes_nothing():
    state = {"m": torch.randn(5, 6, generator=torch.Generator().manual_seed(1))}
    once = packing.unpack(packing.pack(state))
    torch.testing.assert_close(packing.unpack(packing.pack(once)), once, rtol=1e-6, atol=0)


def test_embedded_model_is_small():
    size = sum(path.stat().st_size for path in packing.FOLDER.rglob("*"))
    assert 1e6 < size < 25e6


def test_embedded_model_is_an_ordinary_one_in_float32(embedded):
    model = embedded.model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(module.training for module in model.modules())
    assert embedded.labels == ("negative", "positive")
    assert embedded.name == EMBEDDED_MODEL and embedded.limit == 512


@pytest.mark.parametrize(
    ("text", "label"),
    (
        ("a wonderful, moving film.", "positive"),
        ("i loved every minute of it.", "positive"),
        ("a dull and lifeless mess.", "negative"),
        ("the worst film of the year.", "negative"),
        ("not good at all.", "negative"),
    ),
)
def test_embedded_model_tells_good_from_bad(embedded, text, label):
    result = embedded(text)
    assert result.label == label and result.probabilities[result.target] > 0.8


@pytest.mark.parametrize("family", ("Bert", "DistilBert", "Roberta", "Electra"))
def test_a_saved_classifier_comes_back(tiny, save_model, family):
    model = tiny(family)
    folder = save_model(model)
    for name in (folder, str(folder)):
        loaded, tokenizer = load(name)
        assert type(loaded) is type(model) and not loaded.training
        again = loaded.state_dict()
        assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())
    explained = Explainer.from_pretrained(folder)("the film is not good")
    assert explained.labels == ("negative", "neutral", "positive")
    assert explained.model == str(folder)
    assert_scores_add_up(explained)


def test_half_precision_in_a_folder_is_loaded_in_float32(tiny, save_model):
    for dtype in (torch.float16, torch.bfloat16):
        loaded, _ = load(save_model(tiny().to(dtype)))
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_weights_are_of_the_type_that_was_asked_for(tiny, save_model):
    folder = save_model(tiny().to(torch.bfloat16))
    asked = {
        "auto": torch.bfloat16,
        "torch.float16": torch.float16,
        "float16": torch.float16,
        torch.float64: torch.float64,
    }
    for dtype, expected in asked.items():
        explainer = Explainer.from_pretrained(folder, dtype=dtype)
        assert {p.dtype for p in explainer.model.parameters()} == {expected}
        name = str(expected).removeprefix("torch.")
        assert explainer("the film is not good", tensor="cf").precision == name
    embedded = Explainer.from_pretrained(dtype="bfloat16")
    assert embedded("a good film", tensor="cf").precision == "bfloat16"


@pytest.mark.parametrize(
    ("options", "message"),
    (
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16, float64 or auto"),
        ({"dtype": torch.int8}, "dtype must be one of"),
        ({"device": "cpu", "device_map": "auto"}, "give device= or device_map="),
        ({"device_map": "cuda:7"}, "device 'cuda:7' is not there"),
        ({"device_map": {"bert": 7, "classifier": "cpu"}}, "device 'cuda:7' is not there"),
        ({"device_map": 5}, "device_map must be one of auto"),
        ({"device_map": '{"": "cpu"}'}, "device_map must be one of auto"),
        ({"quantization_config": "4bit"}, "quantization_config must be a config .* got '4bit'"),
        ({"device_map": {"": 10**5000}}, "device_map must name devices"),
        ({"device_map": {"": True}}, "device_map must name devices"),
        ({"subfolder": "x" * 5000}, "subfolder must be a string of at most"),
        ({"gguf_file": "a\0b"}, "gguf_file must be a string of at most"),
        ({"token": 5}, "token must be a string or True, got int"),
        ({"revision": 5}, "revision must be a string"),
        ({"gguf_file": "x.gguf"}, "has no file 'x.gguf'"),
        ({"gguf_file": "x", "quantization_config": {}}, "cannot be quantised again"),
        ({"subfolder": "inner"}, "is not a model"),
        ({"trust_remote_code": "no"}, "trust_remote_code must be True or False"),
    ),
)
def test_options_that_cannot_be(folder, options, message):
    with pytest.raises(InputError, match=message):
        Explainer.from_pretrained(folder, **options)


def test_the_embedded_model_has_no_files_of_its_own():
    for options in ({"revision": "main"}, {"attn_implementation": "x"}, {"token": True}):
        with pytest.raises(InputError, match=f"is part of attnflow, and knows no {[*options][0]}"):
            Explainer.from_pretrained(**options)
    with pytest.raises(InputError, match="is not the name of a model"):
        Explainer.from_pretrained("x" * 5000 + ".gguf")


def test_a_secret_is_not_shown(folder):
    with pytest.raises(InputError) as error:
        Explainer.from_pretrained(folder, token=["hf_secret"])
    assert "secret" not in str(error.value)


def test_a_model_in_a_subfolder(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "outer" / "inner")
    explainer = Explainer.from_pretrained(tmp_path / "outer", subfolder="inner")
    assert explainer("a good film", tensor="cf").tokens


def test_a_home_folder_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    model, _ = load(f"~/{folder.name}")
    assert model.config.num_labels == 3


def test_a_base_model_has_no_trained_head(tiny, save_model, tmp_path):
    base = save_model(tiny(head=None))
    assert type(load(base)[0]).__name__ == "BertModel"  # which embeds texts
    nameless = edited(base, tmp_path / "nameless", architectures=None)
    with pytest.raises(
        ModelError, match="not trained for text-classification.*lacks classifier.bias"
    ):
        load(nameless)
    liar = edited(base, tmp_path / "liar", architectures=["BertForSequenceClassification"])
    with pytest.raises(ModelError, match="not trained for text-classification"):
        load(liar)


def test_another_head_is_refused(tiny, save_model):
    with pytest.raises(
        ModelError, match="BertForMultipleChoice: expected a model for text-classification, text-g"
    ):
        load(save_model(tiny(head="MultipleChoice")))


@pytest.mark.parametrize("head", ("MaskedLM", "TokenClassification", "QuestionAnswering"))
def test_a_model_is_loaded_for_its_task(tiny, save_model, head):
    model, _ = load(save_model(tiny(head=head)))
    assert type(model).__name__ == f"Bert{'For' + head}"


def test_a_folder_without_tokenizer_is_refused(tiny, save_model):
    with pytest.raises(ModelError, match="no tokenizer"):
        load(save_model(tiny(), with_tokenizer=False))


def test_paths_that_hold_no_model_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("file", "is not a model: expected a folder with config.json"),
        ("empty", "is not a model: expected a folder with config.json"),
        ("missing", "is not there"),
    ):
        for given in (tmp_path / name, str(tmp_path / name)):
            with pytest.raises(InputError, match=message):
                load(given)
    for name in ("./missing", "~/missing", "~nobody-of-that-name/x", "a" * 5000):
        with pytest.raises(InputError, match="model '"):
            load(name)


@pytest.mark.parametrize(
    "changes",
    (
        {"model_type": "nonsense"},
        {"model_type": "clip", "architectures": None},
        {"hidden_size": 32},
        {"hidden_size": "many"},
        {"num_attention_heads": 5},
    ),
)
def test_a_config_that_does_not_fit_is_an_error_of_the_model(folder, tmp_path, changes):
    with pytest.raises(ModelError, match="cannot load model"):
        load(edited(folder, tmp_path / "edited", **changes))


def test_quantised_weights_need_their_backend(folder, tmp_path):
    config = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(ModelError, match="cannot load model .*optimum.*Install what is missing"):
        load(edited(folder, tmp_path / "edited", quantization_config=config))


def test_weights_quantised_in_an_unknown_way_are_not_read_as_they_are(folder, tmp_path):
    config = {"quant_method": "of tomorrow"}
    with pytest.raises(ModelError, match="quantised by 'of tomorrow', which this transformers"):
        load(edited(folder, tmp_path / "edited", quantization_config=config))


def test_gguf_files_are_named_in_errors(tmp_path):
    with pytest.raises(InputError, match="no GGUF file 'nowhere.gguf' here"):
        load("nowhere.gguf")
    file = tmp_path / "junk.gguf"
    file.write_bytes(b"junk")
    with pytest.raises(ModelError, match="cannot load model '.*junk.gguf'"):
        load(file)


@pytest.mark.parametrize("content", (b"", b"junk" * 100, None))
@pytest.mark.parametrize("weights", ("model.safetensors", "pytorch_model.bin", "config.json"))
def test_broken_files_are_an_error_of_the_model(folder, tmp_path, weights, content):
    broken = edited(folder, tmp_path / "broken")
    if weights != "config.json":
        (broken / "model.safetensors").unlink()
    elif content is None:
        content = b"{}"
    if content is not None:
        (broken / weights).write_bytes(content)
    with pytest.raises(ModelError, match="cannot load model"):
        load(broken)


def test_a_name_on_the_hub_without_network_answers_at_once():
    start = time.perf_counter()
    for name, advice in (
        ("nobody/nothing-here", "Check the name and the network, or give a local folder"),
        ("nothing-here", "Check the name and the network, or give a local folder"),
        # The hub is not asked for it.
        ("not a name/at all", "Check the name, or give a local folder"),
    ):
        with pytest.raises(ModelError, match=f"cannot load model '{name}'.*{advice}"):
            load(name)
    assert time.perf_counter() - start < 5


def test_loading_leaves_the_loggers_as_they_were():
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    before = [logger.level for logger in loggers]
    with pytest.raises(ModelError):
        load("nobody/nothing-here")
    assert [logger.level for logger in loggers] == before


@pytest.mark.parametrize("known", (True, False))
def test_code_next_to_a_model_is_never_run(folder, tmp_path, monkeypatch, known):
    """Refused even when standard input says yes to the question that transformers would ask."""
    marker = tmp_path / "ran"
    names = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}
    changes = {"auto_map": names} | ({} if known else {"model_type": "own"})
    hostile = edited(folder, tmp_path / "hostile", **changes)
    (hostile / "own.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: pass\n")
    asked = []
    monkeypatch.setattr("builtins.input", lambda question="": asked.append(question) or "y")
    if known:
        assert type(load(hostile)[0]).__module__.startswith("transformers.models.bert")
    else:
        with pytest.raises(ModelError, match="cannot load model"):
            load(hostile)
    assert not asked and not marker.exists()


@pytest.mark.parametrize("device", ("nonsense", "", "cuda:-1", "cpu gpu"))
def test_no_name_of_a_device(device):
    with pytest.raises(InputError, match="device must be a name such as"):
        checked_device(device)


@pytest.mark.parametrize("device", ("cuda:99", torch.device("cuda:99"), "meta", "xla"))
def test_a_device_that_is_not_there(device):
    with pytest.raises(InputError, match="is not there: this machine has"):
        checked_device(device)
    with pytest.raises(InputError, match="is not there"):
        Explainer.from_pretrained(device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_where_there_is_none():
    with pytest.raises(InputError, match="has 0 devices of type 'cuda'"):
        checked_device("cuda")


def test_the_device_is_checked_before_the_model(tmp_path):
    with pytest.raises(InputError, match="device"):
        load(tmp_path / "missing", LoadOptions(device="nonsense"))


def test_the_processor_is_the_default():
    assert checked_device(None) == checked_device("cpu") == torch.device("cpu")


def test_positions_that_nothing_bounds():
    assert token_limit(XLNetConfig(), None) is None
    assert token_limit(BertConfig(max_position_embeddings=32), None) == 32
