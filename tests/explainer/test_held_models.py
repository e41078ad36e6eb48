"""Models as people hold them: pipelines, encodings, compiled and checkpointed models."""

import warnings

import numpy as np
import pytest
import torch
import transformers
from support.text_models import PROMPT, language_model
from transformers import AudioClassificationPipeline, pipeline

from attnflow import Explainer, InputError, ModelError

TEXT = "the film is not good"


def alike(found, wanted):
    assert (found.tokens, found.label) == (wanted.tokens, wanted.label)
    np.testing.assert_array_equal(found.scores, wanted.scores)


def test_a_pipeline_brings_its_tokenizer(explainer, writer):
    model, tokenizer = explainer.model, explainer.tokenizer
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
    alike(Explainer(classify)(TEXT), explainer(TEXT))
    generate = pipeline("text-generation", model=writer.model, tokenizer=writer.tokenizer)
    alike(Explainer(generate)(PROMPT), writer(PROMPT))


def test_a_pipeline_of_images(tiny):
    model = tiny("ViT", head="ImageClassification", image_size=8, patch_size=4, num_channels=3)
    processor = transformers.ViTImageProcessorPil(size={"height": 8, "width": 8})
    explain = Explainer(pipeline("image-classification", model=model, image_processor=processor))
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    alike(explain(images=image), Explainer(model, processor)(images=image))


@pytest.mark.parametrize("tensors", ("pt", "np", None))
def test_an_encoding_is_explained_as_its_text(explainer, tensors):
    encoding = explainer.tokenizer(TEXT, return_tensors=tensors)
    found = explainer(**encoding)
    alike(found[0] if tensors else found, explainer(TEXT))


def test_an_encoding_of_pairs_and_padding(embedded):
    explainer = embedded
    texts, pairs = [TEXT, "bad"], ["a smart dog", "very dull, but cute"]
    encoding = explainer.tokenizer(texts, pairs, padding=True, return_tensors="pt")
    assert encoding["token_type_ids"].any()
    found = explainer(**encoding)
    for one, wanted in zip(found, explainer(texts, pair=pairs), strict=True):
        np.testing.assert_allclose(one.scores, wanted.scores, rtol=1e-4, atol=1e-7)
    del encoding["token_type_ids"]
    other = explainer(**encoding)
    assert not np.allclose(other[0].scores, found[0].scores, rtol=1e-3)


def test_encodings_that_cannot_be(explainer):
    encoding = explainer.tokenizer(TEXT)
    with pytest.raises(InputError, match=r"got a BatchEncoding; .* explainer\(\*\*encoding\)"):
        explainer(encoding)
    with pytest.raises(InputError, match="token_type_ids must have the shape of input_ids"):
        explainer(input_ids=[2, 5, 3], token_type_ids=[0, 0])
    with pytest.raises(InputError, match="token_type_ids must be integers"):
        explainer(input_ids=[2, 5, 3], token_type_ids=["a"])
    with pytest.raises(InputError, match="token_type_ids goes with input_ids"):
        explainer(TEXT, token_type_ids=[0, 0])


def test_a_model_with_gradient_checkpointing(explainer, tiny, tokenizer):
    model = tiny()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its new name
        model.gradient_checkpointing_enable()
        assert model.is_gradient_checkpointing
    found = Explainer(model, tokenizer, name="tiny")(TEXT)
    alike(found, explainer(TEXT))


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model(writer):
    model = torch.compile(language_model())
    alike(Explainer(model, writer.tokenizer)(PROMPT), writer(PROMPT))


def test_a_pipeline_that_asks_about_each_label_says_how(explainer):
    pipe = pipeline(
        "zero-shot-classification", model=explainer.model, tokenizer=explainer.tokenizer
    )
    with pytest.raises(InputError, match=r"zero-shot.*Explainer\(pipe.model.*pair="):
        Explainer(pipe)


def test_a_pipeline_of_a_task_that_cannot_be_explained():
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    sizes |= dict(conv_dim=(16,), conv_kernel=(4,), conv_stride=(4,), num_feat_extract_layers=1)
    config = transformers.Wav2Vec2Config(**sizes)
    model = transformers.Wav2Vec2ForSequenceClassification(config).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor()
    listen = AudioClassificationPipeline(model, feature_extractor=extractor)
    with pytest.raises(ModelError, match="Wav2Vec2"):
        Explainer(listen)(input_ids=[1, 2])
