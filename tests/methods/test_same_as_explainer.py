"""The flows that are evaluated are those that `Explainer` returns, for every kind of model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from support.images import photo, processor_of
from support.text_models import (
    ENCODER_DECODERS,
    PROMPT,
    SOURCE,
    bare,
    encoder_decoder,
    language_model,
    tiny_model,
)
from support.tiny_models import build

from attnflow import Explainer, InputError, ModelError
from attnflow.evaluation import Example, Protocol, RunSettings, evaluate, sample_instances
from attnflow.evaluation.operators import OPERATORS
from attnflow.methods import DEFAULT, METHODS, EncoderDecoder, Instance, adapter_for

TENSORS = ("af", "gf", "agf", "cf", "bcf", "net")
KINDS = ("classifier", "decoder", *ENCODER_DECODERS, "image", "unnormalised image")
READ_EMBEDDINGS = (
    *("raw-attention", "rollout", "attention-flow", "attention-gradients", "grad-sam"),
    *("cat", "attcat", "chefer", "gradient", "gradient-x-input", "integrated-gradients"),
    *("smoothgrad", "deeplift", "cf4:flow", "agf-sum:flow", "staged-attcat"),
    *("temperature-scope", "information-flow-routes", "deltatrace"),
)


def unnormalised(model):
    """An image processor that rescales pixels to 0..1 and leaves them there."""
    size = processor_of(model).size
    return transformers.ViTImageProcessorPil(size=size, do_normalize=False)


@pytest.fixture(scope="module")
def explained(tokenizer):
    """An explainer of each kind of model, and what it explains."""

    def build_kind(kind):
        if kind == "classifier":
            return Explainer(tiny_model(), tokenizer), "a smart dog is not dull"
        if kind == "decoder":
            return Explainer(language_model(), bare(tokenizer)), PROMPT
        if kind in ENCODER_DECODERS:
            return encoder_decoder(tokenizer, kind), SOURCE
        model = build("vit")
        processor = processor_of(model) if kind == "image" else unnormalised(model)
        return Explainer(model, processor), photo()

    return build_kind


def instance_of(explainer, content):
    """The instance about the class that the model predicts."""
    adapter = adapter_for(explainer.model, explainer.tokenizer or explainer.image_processor)
    encoded = adapter.encode(content)
    (target,) = adapter.predicted([adapter.whole_variant(encoded)])
    return Instance(adapter, encoded, target)


def explain(explainer, content, **options):
    name = "texts" if isinstance(content, str) else "images"
    return explainer(**{name: content}, **options)


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("kind", KINDS)
def test_flows_are_those_of_the_explainer(explained, kind, tensor):
    explainer, content = explained(kind)
    # `bcf` and `net` explain the log-odds; the others the logit alone, as in the paper.
    number = "contrast" if tensor in ("bcf", "net") else "logit"
    instance = replace(instance_of(explainer, content), explained=number)
    readouts = {"flow": "input"}
    if tensor in ("cf", "bcf"):
        readouts["throughput"] = "throughput"
    for name, readout in readouts.items():
        expected = explain(explainer, content, tensor=tensor, readout=readout)
        scores = METHODS[f"{tensor}:{name}"].scores(instance)
        probability = instance.probability(np.ones((1, instance.nodes), bool))[0]
        assert expected.probabilities[expected.target] == pytest.approx(probability, rel=1e-4)
        largest = np.abs(expected.scores).max()
        np.testing.assert_allclose(scores, expected.scores, rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("name", ["net", "net1", "net-frozen", "net-shared"])
@pytest.mark.parametrize("kind", KINDS)
def test_signed_readings_are_those_of_the_explainer(explained, kind, name):
    explainer, content = explained(kind)
    options = {
        "net": {},
        "net1": dict(stages=()),
        "net-frozen": dict(pattern="frozen"),
        "net-shared": dict(pattern="shared"),
    }[name]
    expected = explain(explainer, content, **options)
    instance = instance_of(explainer, content)
    for reading, wanted in (
        ("contributions", expected.contributions), ("signed", expected.signed_scores)
    ):  # fmt: skip
        scores = METHODS[f"{name}:{reading}"].scores(instance)
        np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_tokens_are_special_and_read(explained, kind):
    explainer, content = explained(kind)
    instance, expected = instance_of(explainer, content), explain(explainer, content)
    ranked = ~expected.special
    if expected.position is not None:
        assert instance.position == instance.readout_node == expected.position
        ranked[expected.position] = False
    assert instance.ordinary.tolist() == ranked.tolist()
    assert instance.content.tokens == expected.tokens


@pytest.mark.parametrize("kind, grey", [("image", 0.0), ("unnormalised image", 0.5)])
def test_removed_patches_have_the_grey_of_the_explainer(explained, kind, grey):
    instance = instance_of(*explained(kind))
    seen = []
    hook = instance.adapter.model.register_forward_pre_hook(
        lambda _, args, given: seen.append(given["pixel_values"]), with_kwargs=True
    )
    try:
        instance.log_probability([OPERATORS["mask"](instance, instance.ordinary)])
        instance.probability(~instance.ordinary[None])
    finally:
        hook.remove()
    masked = instance.mask(instance.ordinary).content.pixels
    for pixels in (*seen, instance.neutral, masked, instance.baseline):
        torch.testing.assert_close(pixels, torch.full_like(pixels, grey))
    assert len(seen) == 2


# Encoder-decoders


@pytest.fixture(scope="module")
def writing(explained):
    return instance_of(*explained("T5ForConditionalGeneration"))


def test_nodes_of_an_encoder_decoder_are_those_of_both_stacks(writing):
    adapter, content = writing.adapter, writing.content
    assert isinstance(adapter, EncoderDecoder)
    source, prefix = content.sides
    assert source + prefix == writing.nodes and writing.position == writing.nodes - 1
    assert not writing.ordinary[source:].any() and writing.ordinary[:source].any()
    removed = writing.ordinary & (np.arange(writing.nodes) % 2 == 0)
    deleted = OPERATORS["delete"](writing, removed)
    assert len(deleted.inputs["input_ids"]) == source - removed.sum()
    assert deleted.inputs["decoder_input_ids"] == content.inputs["decoder_input_ids"]
    masked = writing.mask(removed).content.inputs
    neutral = adapter.inputs.neutral_token
    assert (np.array(masked["input_ids"]) == neutral).tolist() == removed[:source].tolist()
    assert masked["decoder_input_ids"] == content.inputs["decoder_input_ids"]


def test_probabilities_of_an_encoder_decoder_do_not_depend_on_batch_mates(writing):
    removed = [writing.ordinary & (np.arange(writing.nodes) < n) for n in (0, 2, 3)]
    variants = [OPERATORS[name](writing, nodes)
                for name in ("mask", "delete", "pad") for nodes in removed]  # fmt: skip
    together = writing.log_probability(variants)
    single = [float(writing.log_probability([variant])[0]) for variant in variants]
    np.testing.assert_allclose(together, single, rtol=1e-4, atol=1e-6)
    inputs = writing.adapter.collate(writing.content)
    with torch.no_grad():
        logits = writing.adapter.model(**inputs).logits[0, -1]
    assert together[0] == pytest.approx(logits.log_softmax(-1)[writing.target].item(), rel=1e-4)


def test_occlusion_of_an_encoder_decoder_is_the_drop_of_its_probability(writing):
    scores = METHODS["occlusion"].scores(writing)
    node = int(np.flatnonzero(writing.ordinary)[1])
    present = np.ones((2, writing.nodes), bool)
    present[1, node] = False
    whole, without = writing.probability(present)
    assert scores[node] == pytest.approx(whole - without)
    assert not scores[~writing.ordinary].any() and np.ptp(scores) > 0


@pytest.mark.parametrize("name", READ_EMBEDDINGS)
def test_methods_for_one_stack_refuse_two_in_words(writing, name):
    with pytest.raises(ModelError, match="reads two texts, one in each stack"):
        METHODS[name].scores(writing)


@pytest.mark.parametrize("name", sorted({*DEFAULT, "bcf:rollout", "bcf:chefer", "bcf:path"}))
def test_default_methods_score_an_encoder_decoder_or_say_why_not(writing, name):
    try:
        scores = METHODS[name].scores(writing)
    except ModelError as error:
        assert "two texts" in str(error) or "BERT's layers" in str(error)
        return
    assert scores.shape == (writing.nodes,) and np.isfinite(scores).all()


def test_a_run_evaluates_an_encoder_decoder(writing, tmp_path):
    adapter = writing.adapter
    examples = [Example(i, text, None) for i, text in enumerate((SOURCE, "a very dull film"))]
    instances = sample_instances(examples, adapter, min_tokens=3)
    assert [instance.target for _, instance in instances if instance.nodes == writing.nodes]
    wanted = [METHODS[name] for name in ("random", "bcf:flow", "occlusion", "rollout")]
    protocol = Protocol(operators=("mask", "delete"), extras=("steps",))
    rows = evaluate(RunSettings("model", "data", protocol), instances, wanted, tmp_path)
    failed = [row["method"] for row in rows if "failed" in row]
    assert failed == ["rollout"] * 2 and len(rows) == 8
    for row in rows:
        if "failed" not in row:
            assert set(row["removed"]) == {"mask", "delete"}
            assert np.isfinite(row["removed"]["mask"]).all()


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"target": "label"}, "it has no labels"),
        ({"position": "middle"}, "position must be one of"),
    ],
)
def test_options_that_an_encoder_decoder_lacks_are_refused(writing, options, complaint):
    with pytest.raises(InputError, match=complaint):
        sample_instances([Example(0, SOURCE, 0)], writing.adapter, min_tokens=1, **options)


def test_metrics_that_move_embeddings_are_not_for_two_stacks(writing):
    for name in ("soft", "sensitivity"):
        with pytest.raises(InputError, match=f"'{name}' is not for an encoder-decoder"):
            Protocol(extras=(name,)).check(writing.adapter)
