"""Adapters, quantised weights, offloaded layers and sentence-transformers, by their packages."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from support.text_models import PROMPT, language_model, tiny_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from attnflow import Explainer, ModelError
from attnflow.models.support import support_of

pytestmark = pytest.mark.filterwarnings("ignore")

TEXT, TARGET = "the film is not good", 7


def snapshot(model):
    state = [(name, p.data_ptr(), p.requires_grad, p.grad) for name, p in model.named_parameters()]
    return state, [len(module._forward_hooks) for module in model.modules()]


def with_lora(peft, model, task, *modules):
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=2, task_type=task, target_modules=list(modules))
    )
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return adapted.eval()


def test_an_adapter_is_explained_as_merged(reader):
    peft = pytest.importorskip("peft")
    adapted = with_lora(peft, language_model(), "CAUSAL_LM", "q_proj", "v_proj", "down_proj")
    before = snapshot(adapted)
    found = Explainer(adapted, reader)(PROMPT)

    assert snapshot(adapted) == before and any(state[2] for state in before[0])
    merged = Explainer(copy.deepcopy(adapted).merge_and_unload(), reader)
    wanted = merged(PROMPT, target=found.label)
    np.testing.assert_allclose(found.contributions, wanted.contributions, atol=1e-4)
    plain = Explainer(language_model(), reader)(PROMPT, target=found.label)
    assert not np.allclose(found.contributions, plain.contributions, atol=1e-2)
    assert found.model.endswith("with adapter default")


def test_adapters_in_folders(reader, save_model, tmp_path):
    """A decoder's, and a classifier's, which brings the head."""
    peft = pytest.importorskip("peft")
    folder = tmp_path / "decoder"
    language_model().save_pretrained(folder)
    reader.save_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(folder)
    adapted = with_lora(peft, base, "CAUSAL_LM", "q_proj", "v_proj")
    adapted.save_pretrained(tmp_path / "adapter")
    found = Explainer.from_pretrained(tmp_path / "adapter")(PROMPT)
    np.testing.assert_array_equal(found.scores, Explainer(adapted, reader)(PROMPT).scores)

    folder = save_model(tiny_model().bert)
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=5)
    adapted = with_lora(peft, base, "SEQ_CLS", "query", "value")
    adapted.save_pretrained(tmp_path / "classes")
    support = support_of(tmp_path / "classes")
    assert support.task == "text-classification" and "net" in support.tensors
    explainer = Explainer.from_pretrained(tmp_path / "classes")
    found = explainer(TEXT)
    assert len(found.labels) == 5
    own = adapted(**explainer.tokenizer(TEXT, return_tensors="pt")).logits[0]
    np.testing.assert_allclose(found.logits, own.detach().numpy(), rtol=1e-4)


def test_an_adapter_of_the_embedded_model(tmp_path):
    """Its folder names the model by its name, which holds on every machine."""
    peft = pytest.importorskip("peft")
    explainer = Explainer.from_pretrained()
    adapted = with_lora(peft, copy.deepcopy(explainer.model), "SEQ_CLS", "query", "value")
    adapted.save_pretrained(tmp_path)
    assert support_of(tmp_path).task == "text-classification"
    loaded = Explainer.from_pretrained(tmp_path)
    wanted = Explainer(adapted, explainer.tokenizer)(TEXT)
    np.testing.assert_array_equal(loaded(TEXT).scores, wanted.scores)
    assert not np.allclose(explainer(TEXT).logits, wanted.logits)


def edited(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def test_adapters_that_cannot_be_loaded(reader, save_model, tmp_path):
    peft = pytest.importorskip("peft")
    model = language_model()
    folder = tmp_path / "decoder"
    model.save_pretrained(folder)
    reader.save_pretrained(folder)
    adapted = with_lora(peft, AutoModelForCausalLM.from_pretrained(folder), "CAUSAL_LM", "q_proj")
    adapted.save_pretrained(tmp_path / "adapter")

    other = tmp_path / "other"
    language_model("GPT2LMHeadModel").save_pretrained(other)
    reader.save_pretrained(other)
    for changes, message in (
        ({"base_model_name_or_path": None}, "names no base model"),
        ({"base_model_name_or_path": str(other)}, "does not fit .*, the base that it names"),
        ({"base_model_name_or_path": str(tmp_path / "gone")}, "the base of adapter .*gone' is not"),
    ):
        copied = shutil.copytree(tmp_path / "adapter", tmp_path / "copy", dirs_exist_ok=True)
        with pytest.raises(ModelError, match=message):
            Explainer.from_pretrained(edited(copied, **changes))
    (copied / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no adapter_model.safetensors"):
        Explainer.from_pretrained(copied)
    (copied / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match="adapter_config.json of .* cannot be read"):
        Explainer.from_pretrained(copied)


def test_virtual_tokens_are_refused(reader):
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(ModelError, match="puts virtual tokens in front of each text"):
        Explainer(peft.get_peft_model(language_model(), config).eval(), reader)


@pytest.mark.parametrize("where", ("cpu", "disk"))
def test_layers_that_lie_elsewhere(reader, tmp_path, where):
    pytest.importorskip("accelerate")
    folder = tmp_path / "model"
    language_model().save_pretrained(folder)
    reader.save_pretrained(folder)
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu"}
    places |= {"lm_head": "cpu", "model.layers.0": "cpu", "model.layers.1": where}
    options = {"offload_folder": str(tmp_path / "off")} if where == "disk" else {}
    model = AutoModelForCausalLM.from_pretrained(folder, device_map=places, **options)
    assert {p.device.type for p in model.parameters()} == {"cpu"} | ({"meta"} if options else set())
    for tensor in ("net", "agf"):
        found = Explainer(model, reader)(PROMPT, tensor=tensor)
        wanted = Explainer(language_model(), reader)(PROMPT, tensor=tensor)
        np.testing.assert_array_equal(found.scores, wanted.scores)
    assert {p.device.type for p in model.parameters()} == {"cpu"} | ({"meta"} if options else set())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_layers_on_two_gpus(reader, tmp_path):
    language_model().save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    places = {"model.embed_tokens": 0, "model.norm": 1, "model.rotary_emb": 0, "lm_head": 1}
    places |= {"model.layers.0": 0, "model.layers.1": 1}
    found = Explainer.from_pretrained(tmp_path, device_map=places)(PROMPT)
    wanted = Explainer(language_model(), reader)(PROMPT)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("bits", (4, 8))
def test_weights_quantised_by_bitsandbytes(reader, tmp_path, bits):
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    language_model().save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    config = BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
    explainer = Explainer.from_pretrained(tmp_path, quantization_config=config, dtype="float32")
    found = explainer(PROMPT, target=TARGET, stages=())
    assert found.precision == f"bitsandbytes, {bits} bits"
    exact = Explainer(explainer.model.dequantize().float().eval(), reader)
    wanted = exact(PROMPT, target=TARGET, stages=())
    # Inputs of layers are quantised too with 8 bits.
    assert found.explained == pytest.approx(wanted.explained, abs=0.1)
    np.testing.assert_allclose(found.contributions, wanted.contributions, atol=0.1)


def test_a_sentence_transformer_brings_its_pooling(tokenizer, tmp_path):
    package = pytest.importorskip("sentence_transformers")
    from sentence_transformers import models

    folder = tmp_path / "encoder"
    tiny_model().bert.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    word = models.Transformer(str(folder))
    for mode, pooling in (("mean", "mean"), ("cls", "cls"), ("lasttoken", "last")):
        pool = models.Pooling(16, pooling_mode=mode)
        encoder = package.SentenceTransformer(modules=[word, pool], device="cpu").eval()
        explainer = Explainer(encoder)
        found = explainer(TEXT, pair="a smart dog")
        a, b = encoder.encode([TEXT, "a smart dog"], normalize_embeddings=True)
        assert explainer.pooling == pooling
        assert found.explained == pytest.approx(float(a @ b), abs=1e-4)


def test_a_sentence_transformer_of_other_modules(tokenizer, tmp_path):
    package = pytest.importorskip("sentence_transformers")
    from sentence_transformers import models

    tiny_model().bert.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    modules = [models.Transformer(str(tmp_path)), models.Pooling(16), models.Dense(16, 8)]
    encoder = package.SentenceTransformer(modules=modules, device="cpu")
    with pytest.raises(Exception, match="Transformer, Pooling, Dense cannot be explained"):
        Explainer(encoder)
