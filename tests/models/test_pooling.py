"""Pooling of models that embed texts, named by the folder or by the caller."""

import json

import pytest
from safetensors.torch import load_file, save_file

from attnflow import Explainer, InputError, ModelError
from attnflow.models.loading import pooling

QUESTION, CONTEXT = "was it dull?", "the film is not good, but it was never dull"


def written(folder, mode, kinds=("Transformer", "Pooling")):
    (folder / "2_Pooling").mkdir(exist_ok=True)
    modes = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False, mode: True}
    (folder / "2_Pooling" / "config.json").write_text(json.dumps(modes))
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{i + 1}_{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_the_pooling_that_a_folder_names(save_model, tiny):
    folder = save_model(tiny(head=None))
    assert pooling(folder) == "mean" and Explainer.from_pretrained(folder).pooling == "mean"
    written(folder, "pooling_mode_cls_token")
    assert Explainer.from_pretrained(folder).pooling == "cls"
    assert Explainer.from_pretrained(folder, pooling="last").pooling == "last"
    with pytest.raises(
        InputError, match="pooling applies only to models that embed texts.* text-classification"
    ):
        Explainer.from_pretrained(pooling="cls")
    with pytest.raises(ModelError, match="pools by pooling_mode_max_tokens"):
        pooling(written(folder, "pooling_mode_max_tokens"))
    with pytest.raises(ModelError, match="Dense"):
        pooling(written(folder, "pooling_mode_cls_token", ("Transformer", "Pooling", "Dense")))
    (folder / "modules.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        pooling(folder)


def test_an_embedder_without_the_pooler_that_is_not_read(save_model, tiny, tokenizer):
    folder = save_model(tiny(head=None))
    weights = load_file(folder / "model.safetensors")
    rest = {name: w for name, w in weights.items() if not name.startswith("pooler.")}
    assert len(rest) < len(weights)
    save_file(rest, folder / "model.safetensors", metadata={"format": "pt"})
    assert Explainer.from_pretrained(folder)(QUESTION, pair=CONTEXT).certificate.is_certified
